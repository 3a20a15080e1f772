//! Kernel tests of tasks: what the host can't show, the switch itself and what interrupts do.

use super::{
    Handle, WaitQueue, current, list, lock::SpinLock, migrate_to, schedule, sleep_until, unpin,
    yield_now,
};
use crate::{
    arch::{
        cpu::{self, STACK_SIZE},
        fixup::probe_read_u8,
        time,
    },
    check, check_eq, kernel_test,
    ktest::{Failure, TestResult},
    mm::{
        lazy, page_alloc,
        stack::{Error, spawn, spawn_on},
        testing::{must, recorded},
        vmalloc,
    },
    oracle::{self, Rule},
    trace::{Barrier, Event, Kind},
    warning,
};
use alloc::{string::String, vec::Vec};
use core::{
    hint::black_box,
    sync::atomic::{
        AtomicBool, AtomicU64, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
};

/// Twice its argument.
pub(super) fn twice(n: usize) -> usize {
    n * 2
}

/// Yields as often as it is told.
fn yields(times: usize) -> usize {
    (0..times).for_each(|_| yield_now());
    times
}

/// A tick of the clock that tests go by: a thousandth of a second.
pub(super) fn milliseconds(n: u64) -> u64 {
    time::frequency() * n / 1000
}

/// Whether `condition` comes to hold within a few seconds. It does not give the CPU away.
pub(super) fn soon(mut condition: impl FnMut() -> bool) -> bool {
    let limit = time::now() + milliseconds(10_000);
    while !condition() {
        if time::now() > limit {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// A CPU other than this one that takes tasks; this one where there is no other.
pub(super) fn other_cpu() -> usize {
    let me = cpu::id() as usize;
    (0..cpu::MAX_CPUS)
        .find(|cpu| *cpu != me && schedule::is_online(*cpu))
        .unwrap_or(me)
}

/// Starts what idles on this CPU: what it needs is not to be counted by a test.
pub(super) fn warm_up() -> TestResult {
    must!(spawn("warm-up", twice, 0)).join();
    Ok(())
}

kernel_test! { "task", join_returns_what_the_task_did, {
    let tasks: Vec<_> = (0..20).map(|n| spawn("twice", twice, n)).collect();
    for (n, task) in tasks.into_iter().enumerate() {
        check_eq!(must!(task).join(), 2 * n);
    }
    // One that has ended long before.
    let task = must!(spawn("twice", twice, 21));
    while !task.is_finished() {
        yield_now();
    }
    check_eq!(task.join(), 42);
    Ok(())
} }

kernel_test! { "task", a_task_can_end_anywhere, {
    #[inline(never)]
    fn deep(n: usize) -> usize {
        if n == 0 {
            super::exit(99);
        }
        black_box(deep(n - 1) + 1)
    }
    check_eq!(must!(spawn("deep", deep, 20)).join(), 99);
    Ok(())
} }

kernel_test! { "task", stacks_are_given_back, {
    fn run(joined: bool) -> TestResult {
        let tasks: Vec<_> = (0..8).map(|n| spawn("yields", yields, n)).collect();
        for task in tasks {
            let task = must!(task);
            if joined {
                task.join();
            } else {
                drop(task);
            }
        }
        Ok(())
    }
    /// Pages, areas, and tasks, once everything is over.
    fn usage() -> (u64, usize, usize) {
        let mut tasks = 0;
        // The boot task, the one that frees areas, and those that idle are left.
        soon(|| {
            yield_now();
            super::life::reap();
            tasks = 0;
            list::for_each(|_| tasks += 1);
            tasks == cpu::count() + 2
        });
        vmalloc::vm_unmap_aliases();
        (page_alloc::stats().free, vmalloc::stats().areas, tasks)
    }
    // Tables, shadow and records stay from the first time, for each CPU that makes areas.
    let _here = Pinned::to(0)?;
    run(true)?;
    let before = usage();
    for joined in [true, false, true, false] {
        run(joined)?;
        check_eq!(usage(), before);
    }
    Ok(())
} }

kernel_test! { "task", a_stack_is_its_own_and_guarded, {
    fn look(_: usize) -> usize {
        let local = 0u8;
        let stack = cpu::this_cpu().stack();
        let below = stack.start().checked_sub(1).unwrap_or(stack.start());
        let inside = stack.start().as_u64() <= (&raw const local).addr() as u64
            && (&raw const local).addr() as u64 <= stack.last_byte().as_u64();
        let task = core::ptr::from_ref(current()).addr() as u64;
        usize::from(
            inside
                && stack.start().as_u64().is_multiple_of(STACK_SIZE)
                && stack.start().as_u64() < task
                && task < stack.last_byte().as_u64()
                && probe_read_u8(below).is_err()
                && probe_read_u8(stack.start()).is_ok(),
        )
    }
    // Alone, and with a neighbour on both sides.
    let tasks: Vec<_> = (0..3).map(|n| spawn("look", look, n)).collect();
    for task in tasks {
        check_eq!(must!(task).join(), 1);
    }
    Ok(())
} }

/// What tasks did, in order.
static ORDER: SpinLock<([u8; 64], usize)> = SpinLock::new(([0; 64], 0));

/// Notes a letter.
fn letter(letter: u8) {
    let mut order = ORDER.lock();
    let (letters, length) = &mut *order;
    if let Some(slot) = letters.get_mut(*length) {
        *slot = letter;
        *length += 1;
    }
}

/// What was noted since the last time.
fn letters() -> String {
    let mut order = ORDER.lock();
    let text = String::from_utf8_lossy(&order.0[..order.1]).into_owned();
    order.1 = 0;
    text
}

/// Pins the test to a CPU until it is dropped, where nobody is preempted by the clock.
pub(super) struct Untimed {
    _pinned: Pinned,
    _slices: schedule::NoSlices,
}

impl Untimed {
    pub(super) fn on(cpu: usize) -> Result<Self, Failure> {
        Ok(Self {
            _pinned: Pinned::to(cpu)?,
            _slices: schedule::no_slices(),
        })
    }
}

/// Pins the test to a CPU until it is dropped.
pub(super) struct Pinned;

impl Pinned {
    pub(super) fn to(cpu: usize) -> Result<Self, Failure> {
        warm_up()?;
        must!(migrate_to(cpu));
        Ok(Self)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        unpin();
    }
}

kernel_test! { "task", yield_is_round_robin, {
    fn three(name: usize) -> usize {
        for _ in 0..3 {
            letter(b'a' + name as u8);
            yield_now();
        }
        0
    }
    let _here = Untimed::on(0)?;
    let tasks: Vec<_> = (0..4).map(|n| spawn_on(0, "three", three, n)).collect();
    for task in tasks {
        must!(task).join();
    }
    let order = letters();
    check_eq!(order.as_str(), "abcdabcdabcd");
    Ok(())
} }

kernel_test! { "task", nobody_can_keep_the_cpu, {
    static STOP: AtomicBool = AtomicBool::new(false);
    static TURNS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
    fn hog(n: usize) -> usize {
        while !STOP.load(Relaxed) {
            TURNS[n].fetch_add(1, Relaxed);
        }
        n
    }
    let _here = Pinned::to(0)?;
    let tasks: Vec<_> = (0..2).map(|n| spawn_on(0, "hog", hog, n)).collect();
    // Neither of them yields, nor does this one.
    let both = soon(|| TURNS.iter().all(|turns| turns.load(Relaxed) > 1000));
    let switches = {
        let mut switches = Vec::with_capacity(64);
        list::for_each(|task| if task.name == "hog" && switches.len() < 64 {
            switches.push(task.switches);
        });
        switches
    };
    STOP.store(true, Relaxed);
    for task in tasks {
        must!(task).join();
    }
    check!(both);
    check!(switches.len() == 2 && switches.iter().all(|n| *n >= 1));
    Ok(())
} }

kernel_test! { "task", sleep_wakes_at_its_time, {
    fn sleeps(until: usize) -> usize {
        sleep_until(until as u64);
        let woken = time::now();
        letter(b'a' + (until % 4) as u8);
        usize::from(woken >= until as u64)
    }
    {
        let _here = Untimed::on(0)?;
        // Started in another order than they are to wake in, all by the same clock: on a host that
        // stands still for a while they wake together, and in their order all the same.
        let base = time::now() + milliseconds(30);
        let at = |n: u64| (base + milliseconds(30 * n)).next_multiple_of(4) + n;
        let tasks: Vec<_> = [3, 1, 2]
            .map(|n| spawn_on(0, "sleeps", sleeps, at(n) as usize))
            .into_iter()
            .collect();
        for task in tasks {
            check_eq!(must!(task).join(), 1);
        }
        let order = letters();
        check_eq!(order.as_str(), "bcd");
    }
    // A time that is over is no time.
    sleep_until(0);
    // While another task has the CPU and does not let go.
    static STOP: AtomicBool = AtomicBool::new(false);
    fn hog(_: usize) -> usize {
        while !STOP.load(Relaxed) {
            core::hint::spin_loop();
        }
        0
    }
    let _here = Pinned::to(0)?;
    let hog = must!(spawn_on(0, "hog", hog, 0));
    let until = time::now() + milliseconds(20);
    sleep_until(until);
    let late = time::now().saturating_sub(until);
    STOP.store(true, Relaxed);
    hog.join();
    // At the end of the hog's slice at the latest; a host that is busy may add to that.
    check!(late < milliseconds(5_000));
    Ok(())
} }

kernel_test! { "task", no_wakeup_is_lost, {
    const ROUNDS: usize = 2_000;
    static QUEUES: [WaitQueue; 2] = [const { WaitQueue::new() }; 2];
    static TURN: AtomicUsize = AtomicUsize::new(0);
    /// Passes the turn to the other, and waits for it to come back.
    fn player(me: usize) -> usize {
        for round in 0..ROUNDS {
            QUEUES[me].wait_until(|| TURN.load(SeqCst) % 2 == me);
            TURN.fetch_add(1, SeqCst);
            QUEUES[1 - me].wake_one();
            if round % 7 == me {
                yield_now();
            }
        }
        0
    }
    TURN.store(0, SeqCst);
    let (a, b) = (must!(spawn("ping", player, 0)), must!(spawn("pong", player, 1)));
    a.join();
    b.join();
    check_eq!(TURN.load(SeqCst), 2 * ROUNDS);
    check!(!QUEUES[0].wake_one() && QUEUES[1].wake_all() == 0);
    Ok(())
} }

kernel_test! { "task", waiters_are_woken_in_order, {
    static QUEUE: WaitQueue = WaitQueue::new();
    static OPEN: AtomicUsize = AtomicUsize::new(0);
    fn waiter(name: usize) -> usize {
        QUEUE.wait_until(|| {
            OPEN.try_update(SeqCst, SeqCst, |open| open.checked_sub(1)).is_ok()
        });
        letter(b'a' + name as u8);
        0
    }
    OPEN.store(0, SeqCst);
    let _here = Untimed::on(0)?;
    let tasks: Vec<_> = (0..5).map(|n| spawn_on(0, "waiter", waiter, n)).collect();
    yield_now();
    OPEN.store(1, SeqCst);
    check!(QUEUE.wake_one());
    yield_now();
    let first = letters();
    // One that is woken for nothing waits on, behind the others.
    check!(QUEUE.wake_one());
    yield_now();
    OPEN.store(4, SeqCst);
    let woken = QUEUE.wake_all();
    for task in tasks {
        must!(task).join();
    }
    let rest = letters();
    check_eq!((first.as_str(), rest.as_str(), woken), ("a", "cdeb", 4));
    Ok(())
} }

kernel_test! { "task", a_task_moves_to_every_cpu, {
    warm_up()?;
    for cpu in (0..cpu::count()).chain([0]) {
        must!(migrate_to(cpu));
        check_eq!(cpu::id() as usize, cpu);
        yield_now();
        check_eq!(cpu::id() as usize, cpu);
    }
    unpin();
    check_eq!(migrate_to(cpu::MAX_CPUS), Err(schedule::Offline(cpu::MAX_CPUS)));
    if cpu::count() < cpu::MAX_CPUS {
        let offline = cpu::MAX_CPUS - 1;
        check_eq!(migrate_to(offline), Err(schedule::Offline(offline)));
        vmalloc::vm_unmap_aliases();
        let before = page_alloc::stats().free;
        let refused = spawn_on(offline, "nowhere", twice, 0).map(|task| task.id());
        check_eq!(refused, Err(Error::Offline(offline)));
        vmalloc::vm_unmap_aliases();
        check_eq!(page_alloc::stats().free, before);
    }
    Ok(())
} }

kernel_test! { "task", the_hook_sees_every_switch, {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    fn hook(from: &'static super::Task, to: &'static super::Task) {
        if from.name == "yields" || to.name == "yields" {
            SEEN.fetch_add(1, Relaxed);
        }
    }
    schedule::set_switch_hook(hook);
    let _here = Untimed::on(0)?;
    let before = SEEN.load(Relaxed);
    must!(spawn_on(0, "yields", yields, 3)).join();
    let seen = SEEN.load(Relaxed) - before;
    // To it and from it; the others wait, so that its yields lead to nobody.
    check_eq!(seen, 2);
    Ok(())
} }

/// The barriers of a recording that a CPU issued for a task.
pub(super) fn barriers(events: &[Event], task: u32) -> Vec<(u32, Barrier)> {
    let of_task = events.iter().filter(|event| event.task == task);
    of_task
        .filter_map(|event| match event.kind {
            Kind::Barrier(barrier) => Some((event.cpu, barrier)),
            _ => None,
        })
        .collect()
}

kernel_test! { "task", a_switch_has_its_barriers, {
    let _here = Untimed::on(0)?;
    let task = must!(spawn_on(0, "yields", yields, 0));
    let me = current().id;
    let (events, ()) = recorded(yield_now)?;
    task.join();
    check_eq!(
        barriers(&events, me),
        [(0, Barrier::DsbIsh), (0, Barrier::Isb)]
    );
    Ok(())
} }

kernel_test! { "task", a_section_that_is_left_open_is_told, {
    fn leaves(_: usize) -> usize {
        core::mem::forget(lazy::section());
        0
    }
    let before = warning::count();
    oracle::expect(&[Rule::SectionLeftOpen], || -> TestResult {
        must!(spawn("leaves", leaves, 0)).join();
        Ok(())
    })?;
    check_eq!(warning::count(), before + 1);
    Ok(())
} }

/// Never comes back.
#[inline(never)]
fn recurse(depth: usize) -> usize {
    let frame = black_box([depth; 32]);
    if depth == usize::MAX {
        return frame[0];
    }
    recurse(depth + 1) + frame[1]
}

// The stack of the second task: vmalloc space begins with the one of the idle task.
kernel_test! { "task", a_stack_that_overflows, panics "Kernel stack overflow: SP ffff8000800", {
    let task: Handle = must!(spawn("recurse", recurse, 0));
    task.join();
    Ok(())
} }

kernel_test! { "task", an_overflow_names_the_task, panics "Lazy MMU mode of task recurse:", {
    must!(spawn("recurse", recurse, 0)).join();
    Ok(())
} }

kernel_test! { "task", the_boot_task_cannot_end, panics "task boot can't end", { super::exit(0) } }
