//! The decisions, one by one, and a machine of several CPUs that makes them at random.

use super::{testing::tasks, *};
use proptest::prelude::*;

const SLICE: u64 = 10;

/// A machine with `cpus` CPUs that idle, and `count` tasks that have not started.
fn machine(cpus: usize, count: u32) -> (Scheduler, Vec<&'static Task>, Vec<&'static Task>) {
    let mut scheduler = Scheduler::new(0, 100);
    scheduler.set_slice(SLICE);
    let idle = tasks(cpus as u32);
    for (cpu, task) in idle.iter().enumerate() {
        task.cpu.set(cpu as u32);
        task.on_cpu.set(true);
        scheduler.set_idle(cpu, task);
        scheduler.begin_idle(cpu);
    }
    (scheduler, idle, tasks(count))
}

fn told(cpus: Cpus) -> Vec<usize> {
    cpus.iter().collect()
}

#[test]
fn tasks_run_in_turn() {
    let (mut s, idle, tasks) = machine(1, 3);
    assert_eq!(told(s.start(tasks[0], 0)), [0]);
    assert_eq!(told(s.start(tasks[1], 0)), []);
    assert_eq!(told(s.start(tasks[2], 0)), []);
    let mut running = idle[0];
    let mut order = Vec::new();
    for _ in 0..7 {
        running = s.next(running, 0, 0).next;
        order.push(running.id);
    }
    assert_eq!(order, [0, 1, 2, 0, 1, 2, 0]);
    assert_eq!(tasks[1].switches.get(), 2);
}

#[test]
fn a_task_that_is_alone_goes_on() {
    let (mut s, idle, tasks) = machine(1, 1);
    s.start(tasks[0], 0);
    let running = s.next(idle[0], 0, 0).next;
    assert!(core::ptr::eq(s.next(running, 0, 0).next, running));
    assert_eq!(running.switches.get(), 1);
    s.end(running, 7, 0);
    assert!(core::ptr::eq(s.next(running, 0, 0).next, idle[0]));
    assert_eq!(
        (running.exit_value.get(), running.state.get()),
        (7, State::Exited)
    );
}

#[test]
fn a_task_in_the_background_ends_no_slice_of_others() {
    let (mut s, idle, tasks) = machine(1, 2);
    s.start(tasks[0], 0);
    s.start(tasks[1], 0);
    let running = s.next(idle[0], 0, 100).next;
    assert_eq!(s.deadline(running), Some(100 + SLICE));
    let other = if running.id == 0 { tasks[1] } else { tasks[0] };
    for _ in 0..2 {
        // The second time changes nothing.
        s.put_in_background(other);
        assert_eq!(s.deadline(running), None, "it counts as alone");
    }
}

#[test]
fn cpus_and_tasks_have_numbers() {
    let (mut s, ..) = machine(2, 0);
    assert_eq!((s.new_id(), s.new_id()), (100, 101));
    let online: Vec<_> = (0..MAX_CPUS + 1).filter(|cpu| s.is_online(*cpu)).collect();
    assert_eq!(online, [0, 1]);
}

#[test]
fn each_cpu_that_idles_is_told_once() {
    let (mut s, idle, tasks) = machine(3, 5);
    // This one first, then the others.
    assert_eq!(told(s.start(tasks[0], 1)), [1]);
    assert_eq!(told(s.start(tasks[1], 1)), [0]);
    tasks[2].pinned.set(Some(0));
    assert_eq!(told(s.start(tasks[2], 1)), []);
    assert_eq!(told(s.start(tasks[3], 1)), [2]);
    assert_eq!(told(s.start(tasks[4], 1)), []);
    // Told, it found somebody; later it idles again.
    let running = s.next(idle[2], 2, 0).next;
    assert_eq!(running.id, 0);
    s.sleep(running, 50);
    for expected in [1, 3, 4] {
        let other = s.next(idle[2], 2, 0).next;
        assert_eq!(other.id, expected);
        s.end(other, 0, 2);
    }
    assert!(core::ptr::eq(s.next(running, 2, 0).next, idle[2]));
    assert_eq!(told(s.wake_sleepers(50, 1)), [2]);
}

#[test]
fn who_makes_room_for_a_pinned_task_may_go_elsewhere() {
    let (mut s, idle, tasks) = machine(2, 2);
    s.start(tasks[0], 0);
    assert!(core::ptr::eq(s.next(idle[0], 0, 0).next, tasks[0]));
    tasks[1].pinned.set(Some(0));
    assert_eq!(told(s.start(tasks[1], 0)), []);
    let Decision { next, tell } = s.next(tasks[0], 0, 0);
    assert_eq!((next.id, told(tell)), (1, vec![1]));
    assert!(core::ptr::eq(s.next(idle[1], 1, 0).next, tasks[0]));
}

#[test]
fn a_task_that_moves_is_announced_where_it_goes() {
    let (mut s, idle, tasks) = machine(2, 1);
    s.start(tasks[0], 0);
    s.next(idle[0], 0, 0);
    tasks[0].pinned.set(Some(1));
    let Decision { next, tell } = s.next(tasks[0], 0, 0);
    assert!(core::ptr::eq(next, idle[0]));
    assert_eq!(told(tell), [1]);
    assert!(!s.has_for(0) && s.has_for(1));
}

#[test]
fn woken_before_it_was_switched_from_it_is_queued_once() {
    let (mut s, idle, tasks) = machine(1, 1);
    s.start(tasks[0], 0);
    let running = s.next(idle[0], 0, 0).next;
    running.state.set(State::Waiting);
    assert_eq!(s.wake(running, 0), Cpus::NONE);
    assert!(!s.has_for(0));
    assert!(core::ptr::eq(s.next(running, 0, 0).next, running));
}

#[test]
fn a_slice_ends_where_somebody_else_wants_to_run() {
    let (mut s, idle, tasks) = machine(1, 2);
    s.start(tasks[0], 0);
    let running = s.next(idle[0], 0, 100).next;
    assert_eq!(s.deadline(running), None, "it is alone");
    assert_eq!(s.deadline(idle[0]), None);
    s.start(tasks[1], 0);
    assert_eq!(s.deadline(running), Some(100 + SLICE));
    assert!(!s.is_due(running, 109));
    assert!(s.is_due(running, 110));
    // Somebody who sleeps wakes before that, and for that the idle task looks too.
    s.next(running, 0, 110);
    s.sleep(tasks[1], 113);
    assert_eq!(s.deadline(running), Some(113));
    assert_eq!(s.deadline(idle[0]), Some(113));
    // Nobody to make room for: a new slice.
    assert!(!s.is_due(running, 112));
}

#[test]
fn time_that_was_without_limit_is_given_one() {
    let (mut s, _, tasks) = machine(1, 1);
    s.begin_slice(tasks[0], 500);
    assert_eq!(tasks[0].slice_end.get(), 500 + SLICE);
    s.begin_slice(tasks[0], 505);
    assert_eq!(tasks[0].slice_end.get(), 500 + SLICE);
    s.renew_slice(tasks[0], 505);
    assert_eq!(tasks[0].slice_end.get(), 505 + SLICE);
}

#[test]
fn a_slice_may_never_end() {
    let (mut s, idle, tasks) = machine(1, 2);
    assert_eq!(s.set_slice(u64::MAX), SLICE);
    s.start(tasks[0], 0);
    s.start(tasks[1], 0);
    let running = s.next(idle[0], 0, 100).next;
    assert_eq!(s.deadline(running), None);
    assert!(!s.is_due(running, u64::MAX - 1));
}

#[test]
fn who_joins_is_woken_and_who_is_not_joined_is_dead() {
    let (mut s, idle, tasks) = machine(1, 3);
    for task in &tasks {
        s.start(task, 0);
    }
    let first = s.next(idle[0], 0, 0).next;
    first.state.set(State::Waiting);
    tasks[1].joiner.set(Some(first));
    let second = s.next(first, 0, 0).next;
    assert_eq!(second.id, 1);
    s.end(second, 3, 0);
    assert_eq!(first.state.get(), State::Runnable);
    assert!(s.take_dead().is_none(), "it is joined");
    s.forget(second);
    let third = s.next(second, 0, 0).next;
    s.detach(third);
    assert!(s.take_dead().is_none());
    s.end(third, 0, 0);
    assert_eq!(s.take_dead().map(|task| task.id), Some(2));
    // Detached after its end.
    let first = s.next(third, 0, 0).next;
    s.end(first, 0, 0);
    assert!(s.take_dead().is_none());
    s.detach(first);
    assert_eq!(s.take_dead().map(|task| task.id), Some(0));
    assert_eq!(s.all().count(), 1, "the idle task is left");
}

/// What a CPU does next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Yield,
    Tick,
    Sleep(u64),
    Wait,
    WakeOne,
    Pin(Option<u32>),
    End,
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let step = prop_oneof![
        3 => Just(Step::Yield),
        4 => Just(Step::Tick),
        2 => (0..30u64).prop_map(Step::Sleep),
        2 => Just(Step::Wait),
        2 => Just(Step::WakeOne),
        1 => prop::option::of(0..3u32).prop_map(Step::Pin),
        1 => Just(Step::End),
    ];
    prop::collection::vec((0..3usize, step), 0..if cfg!(miri) { 30 } else { 200 })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 3 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever the CPUs do: a task is in one place, a pinned one runs nowhere else, nobody who wants
    /// to run is left while a CPU that could run it idles and was not told, and there is a timer for
    /// everyone who sleeps.
    #[test]
    fn nobody_is_lost(steps in steps()) {
        let (mut s, idle, tasks) = machine(3, 6);
        let mut running = idle.clone();
        let mut pending = [false; 3];
        let mut deadlines = [None; 3];
        let mut waiting = Vec::new();
        let mut now = 0;
        for task in &tasks {
            s.start(task, 0).iter().for_each(|cpu| pending[cpu] = true);
        }
        for (cpu, step) in steps {
            now += 1;
            let me = running[cpu];
            let idles = core::ptr::eq(me, idle[cpu]);
            let mut tell = Cpus::NONE;
            let mut switch = pending[cpu];
            match step {
                Step::Tick => {
                    tell = s.wake_sleepers(now, cpu);
                    switch |= s.is_due(me, now);
                    deadlines[cpu] = s.deadline(me);
                }
                Step::WakeOne => if let Some(task) = waiting.pop() {
                    tell = s.wake(task, cpu);
                },
                _ if idles => {}
                Step::Yield => switch = true,
                Step::Sleep(ticks) => { s.sleep(me, now + ticks); switch = true; }
                Step::Wait => { me.state.set(State::Waiting); waiting.push(me); switch = true; }
                Step::Pin(to) => { me.pinned.set(to); switch = true; }
                Step::End => { tell = s.end(me, 0, cpu); switch = true; }
            }
            tell.iter().for_each(|cpu| pending[cpu] = true);
            if switch || pending[cpu] {
                pending[cpu] = false;
                let decision = s.next(me, cpu, now);
                running[cpu] = decision.next;
                decision.tell.iter().for_each(|cpu| pending[cpu] = true);
                deadlines[cpu] = s.deadline(decision.next);
            }

            for task in &tasks {
                let on: Vec<_> = (0..3).filter(|c| core::ptr::eq(running[*c], *task)).collect();
                prop_assert_eq!(on.len(), usize::from(task.on_cpu.get()));
                if let ([cpu], Some(pinned)) = (&on[..], task.pinned.get()) {
                    prop_assert_eq!(*cpu as u32, pinned);
                }
                if task.state.get() == State::Runnable && on.is_empty() {
                    let could = |c: &usize| task.pinned.get().is_none_or(|p| p as usize == *c);
                    let left_alone = (0..3).filter(could)
                        .all(|c| core::ptr::eq(running[c], idle[c]) && !pending[c]);
                    prop_assert!(!left_alone, "task {} waits for a CPU that idles", task.id);
                }
                if task.state.get() == State::Sleeping {
                    let timer = deadlines.iter().flatten().any(|d| *d <= task.wake_at.get());
                    prop_assert!(timer, "no timer for task {}", task.id);
                }
            }
        }
    }
}
