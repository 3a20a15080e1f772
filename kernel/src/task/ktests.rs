//! Kernel tests of tasks: what the host can't show, the switch itself and what interrupts do.

use super::{
    Handle, WaitQueue, atomic, current, list,
    lock::SpinLock,
    migrate_to,
    points::{self, Action},
    preempt, schedule, sleep_until, unpin, yield_now,
};
use crate::{
    arch::{
        cpu::{self, STACK_SIZE},
        fixup::probe_read_u8,
        time, timer,
    },
    check, check_eq, kernel_test,
    ktest::{Failure, TestResult},
    mm::{
        lazy::{self, Backend, LazyMmuState, Model},
        page_alloc,
        stack::{Error, spawn, spawn_on},
        testing::{Chosen, Scratch, logged, must, recorded, trouble},
        vmalloc,
    },
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
fn twice(n: usize) -> usize {
    n * 2
}

/// Yields as often as it is told.
fn yields(times: usize) -> usize {
    (0..times).for_each(|_| yield_now());
    times
}

/// A tick of the clock that tests go by: a thousandth of a second.
fn milliseconds(n: u64) -> u64 {
    time::frequency() * n / 1000
}

/// Whether `condition` comes to hold within a few seconds. It does not give the CPU away.
fn soon(mut condition: impl FnMut() -> bool) -> bool {
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
fn other_cpu() -> usize {
    let me = cpu::id() as usize;
    (0..cpu::MAX_CPUS)
        .find(|cpu| *cpu != me && schedule::is_online(*cpu))
        .unwrap_or(me)
}

/// Starts what idles on this CPU: what it needs is not to be counted by a test.
fn warm_up() -> TestResult {
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
        // The boot task and those that idle.
        while tasks != cpu::count() + 1 {
            yield_now();
            super::life::reap();
            tasks = 0;
            list::for_each(|_| tasks += 1);
        }
        vmalloc::vm_unmap_aliases();
        (page_alloc::stats().free, vmalloc::stats().areas, tasks)
    }
    // Tables, shadow and records stay from the first time.
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
struct Untimed {
    _pinned: Pinned,
    _slices: schedule::NoSlices,
}

impl Untimed {
    fn on(cpu: usize) -> Result<Self, Failure> {
        Ok(Self {
            _pinned: Pinned::to(cpu)?,
            _slices: schedule::no_slices(),
        })
    }
}

/// Pins the test to a CPU until it is dropped.
struct Pinned;

impl Pinned {
    fn to(cpu: usize) -> Result<Self, Failure> {
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
fn barriers(events: &[Event], task: u32) -> Vec<(u32, Barrier)> {
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

fn lazy_state() -> LazyMmuState {
    current().lazy_mmu_state.get()
}

/// What [`opener`] found, by bits.
static FOUND: AtomicUsize = AtomicUsize::new(0);

/// Finds a state of its own, opens a section, lets others run, and closes it.
fn opener(_: usize) -> usize {
    let clean = lazy_state() == LazyMmuState::new() && current().deferred.is_empty();
    let section = lazy::section();
    let one = lazy_state().enable_count() == 1;
    yield_now();
    let still = lazy_state().enable_count() == 1 && current().deferred.is_empty();
    drop(section);
    let closed = lazy_state() == LazyMmuState::new();
    FOUND.store(
        usize::from(clean)
            | usize::from(one) << 1
            | usize::from(still) << 2
            | usize::from(closed) << 3,
        Relaxed,
    );
    0
}

kernel_test! { "task", lazy_state_is_the_tasks_own, {
    let _chosen = Chosen::new(Model::TwoCounters, Backend::Barriers)?;
    let scratch = Scratch::new()?;
    let _here = Untimed::on(0)?;
    let other = must!(spawn_on(0, "opener", opener, 0));
    let outer = lazy::section();
    let inner = lazy::section();
    scratch.map(0);
    check!(current().deferred.barriers.get());
    yield_now();
    // The other task is in a section, this one in two; what this one owes, it owes still.
    check_eq!(lazy_state().enable_count(), 2);
    check!(current().deferred.barriers.get());
    let seen = {
        let mut seen = (0, 0);
        list::for_each(|task| match task.name {
            "boot" => seen.0 = task.lazy.enable_count(),
            "opener" => seen.1 = task.lazy.enable_count(),
            _ => {}
        });
        seen
    };
    drop(inner);
    check!(!current().deferred.barriers.get());
    yield_now();
    drop(outer);
    other.join();
    check_eq!(seen, (2, 1));
    check_eq!(FOUND.load(Relaxed), 0b1111);
    Ok(())
} }

kernel_test! { "task", what_is_owed_follows_the_task, {
    let _chosen = Chosen::new(Model::TwoCounters, Backend::Barriers)?;
    let scratch = Scratch::new()?;
    let _here = Untimed::on(0)?;
    let there = other_cpu();
    let me = current().id;
    let (events, moved) = recorded(|| {
        let section = lazy::section();
        scratch.map(0);
        let moved = migrate_to(there);
        drop(section);
        moved
    })?;
    must!(moved);
    must!(migrate_to(0));
    check!(probe_read_u8(scratch.address(0)).is_ok());
    scratch.clear();
    let there = there as u32;
    let paid = [(there, Barrier::DsbIshst), (there, Barrier::Isb)];
    let switch = [(0, Barrier::DsbIsh), (0, Barrier::Isb)];
    let mine = barriers(&events, me);
    if there == 0 {
        check_eq!(mine, paid);
    } else {
        check_eq!(mine, [switch, paid].concat());
    }
    Ok(())
} }

/// Says what its neighbour must not see: a section of its own, opened and closed at every turn.
fn neighbour(_: usize) -> usize {
    let mut bad = 0;
    while !ENOUGH.load(Relaxed) {
        bad += usize::from(lazy_state() != LazyMmuState::new());
        let section = lazy::section();
        yield_now();
        bad += usize::from(lazy_state().enable_count() != 1 || !current().deferred.is_empty());
        drop(section);
    }
    bad
}

/// Ends [`neighbour`].
static ENOUGH: AtomicBool = AtomicBool::new(false);

/// Maps and unmaps all of the scratch addresses in two sections, one in the other, and is preempted
/// at its `n`-th store. Whether it came to that, and what it owed at the end.
fn preempted_at(n: usize, action: Action) -> Result<(bool, usize), Failure> {
    let scratch = Scratch::new()?;
    let plan = points::plan(n, action).ok_or(trouble("another plan exists"))?;
    let outer = lazy::section();
    for i in 0..Scratch::LEAVES {
        let inner = lazy::section();
        scratch.map(i);
        check_eq!(lazy_state().enable_count(), 2);
        drop(inner);
        // Whatever happened in between, the nested disable has paid.
        check!(current().deferred.is_empty());
        check!(probe_read_u8(scratch.address(i)).is_ok());
    }
    scratch.clear();
    drop(outer);
    check!(current().deferred.is_empty() && lazy_state() == LazyMmuState::new());
    for i in 0..Scratch::LEAVES {
        check!(probe_read_u8(scratch.address(i)).is_err());
    }
    Ok((plan.is_done(), plan.passed()))
}

kernel_test! { "task", preempted_at_every_store, {
    for backend in [Backend::Eager, Backend::Barriers, Backend::Tlbi, Backend::Stores] {
        for away in [false, true] {
            let _chosen = Chosen::new(Model::TwoCounters, backend)?;
            let _here = Untimed::on(0)?;
            ENOUGH.store(false, Relaxed);
            let other = must!(spawn_on(0, "neighbour", neighbour, 0));
            let there = other_cpu();
            let mut n = 0;
            loop {
                let action = if away { Action::Migrate(there) } else { Action::Preempt };
                let switches = current().switches.get();
                let (done, passed) = preempted_at(n, action)?;
                // It was: the neighbour had the CPU.
                check!(!done || away || current().switches.get() > switches);
                check!(!done || !away || cpu::id() as usize == there);
                must!(migrate_to(0));
                if !done {
                    check_eq!(n, passed);
                    break;
                }
                n += 1;
            }
            ENOUGH.store(true, Relaxed);
            let bad = other.join();
            check_eq!(bad, 0);
            // Each leaf is mapped and cleared, and has a point for each; queued ones have two.
            check!(n >= 2 * Scratch::LEAVES);
        }
    }
    Ok(())
} }

kernel_test! { "task", preempted_by_the_clock_inside_a_section, {
    let _chosen = Chosen::new(Model::TwoCounters, Backend::Barriers)?;
    let scratch = Scratch::new()?;
    let _here = Pinned::to(0)?;
    ENOUGH.store(false, Relaxed);
    let other = must!(spawn_on(0, "neighbour", neighbour, 0));
    let section = lazy::section();
    scratch.map(0);
    let switches = current().switches.get();
    // It yields nothing: only the timer can take the CPU from it.
    let preempted = soon(|| current().switches.get() >= switches + 3);
    let owed = current().deferred.barriers.get();
    drop(section);
    ENOUGH.store(true, Relaxed);
    let bad = other.join();
    check!(preempted && owed && probe_read_u8(scratch.address(0)).is_ok());
    check_eq!(bad, 0);
    Ok(())
} }

kernel_test! { "task", nobody_is_preempted_in_a_section_that_forbids_it, {
    let _here = Pinned::to(0)?;
    ENOUGH.store(false, Relaxed);
    let other = must!(spawn_on(0, "neighbour", neighbour, 0));
    let switches = current().switches.get();
    let due = || current().need_resched.load(Relaxed);
    let guard = preempt::disable();
    // The slice ends, and nothing comes of it.
    check!(soon(due));
    check_eq!(current().switches.get(), switches);
    // But at the end of the section, at once.
    drop(guard);
    check!(current().switches.get() > switches && !due());
    let switches = current().switches.get();
    let masked = preempt::mask_interrupts();
    let waited = time::now() + milliseconds(30);
    while time::now() < waited {}
    check!(timer::deadline().is_some() && current().switches.get() == switches);
    drop(masked);
    ENOUGH.store(true, Relaxed);
    other.join();
    Ok(())
} }

/// What a report of `action` has to say.
fn reported(what: &str, action: impl FnOnce()) -> TestResult {
    let before = warning::count();
    let (report, ()) = logged(action);
    let wrong = |what| {
        log::error!("{report}");
        Err(trouble(what))
    };
    if warning::count() != before + 1 {
        return wrong("it was reported more than once, or not at all");
    }
    if !report.contains(&alloc::format!(
        "BUG: {what} in an atomic section: task boot (0)"
    )) {
        return wrong("the report has the wrong head");
    }
    // Two traces, both of this file, and with callers.
    let parts: Vec<_> = report.split("The section began at ").collect();
    let traced =
        |part: &&&str| part.contains("ktests.rs:") && part.matches("[<ffff8000").count() > 3;
    if parts.len() != 2 || parts.iter().filter(traced).count() != 2 {
        return wrong("the report lacks a trace");
    }
    Ok(())
}

kernel_test! { "task", sleeping_in_an_atomic_section_is_reported, {
    static LOCK: SpinLock<u32> = SpinLock::new(0);
    static QUEUE: WaitQueue = WaitQueue::new();
    warm_up()?;
    reported("sleep", || {
        let _guard = preempt::disable();
        sleep_until(time::now() + milliseconds(1));
    })?;
    reported("yield", || {
        let _held = LOCK.lock();
        yield_now();
    })?;
    reported("wait", || {
        let _masked = preempt::mask_interrupts();
        QUEUE.wait_until(|| true);
    })?;
    let task = must!(spawn("twice", twice, 4));
    let mut value = 0;
    reported("join", || {
        let _guard = preempt::disable();
        value = task.join();
    })?;
    // It went on all the same.
    check_eq!((value, preempt::is_enabled()), (8, true));
    // Nothing is said where nothing is wrong.
    let before = warning::count();
    drop(LOCK.lock());
    sleep_until(time::now() + milliseconds(1));
    check!(atomic::may_sleep("nothing"));
    check_eq!(warning::count(), before);
    Ok(())
} }

kernel_test! { "task", where_a_section_began_is_told_if_its_function_returned, {
    #[inline(never)]
    fn begin() -> preempt::Disabled {
        preempt::disable()
    }
    let (report, ()) = logged(|| {
        let _guard = black_box(begin());
        yield_now();
    });
    check!(report.contains("in a function that has returned"));
    let (report, ()) = logged(|| {
        let _masked = cpu::mask_interrupts();
        yield_now();
    });
    check!(report.contains("interrupts masked") && report.contains("was not noted"));
    Ok(())
} }

kernel_test! { "task", sleep_in_a_handler, panics "sleep in an interrupt handler", {
    let _handler = super::enter_interrupt();
    sleep_until(time::now() + 1);
    Ok(())
} }

kernel_test! { "task", a_section_that_is_left_open_is_told, {
    fn leaves(_: usize) -> usize {
        core::mem::forget(lazy::section());
        0
    }
    let before = warning::count();
    must!(spawn("leaves", leaves, 0)).join();
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
