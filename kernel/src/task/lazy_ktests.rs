//! Kernel tests of lazy sections that are preempted, and that move with their task.

use super::{
    Handle, current,
    ktests::{Pinned, Untimed, barriers, other_cpu, soon},
    list, migrate_to,
    points::{self, Action},
    yield_now,
};
use crate::{
    arch::{cpu, fixup::probe_read_u8},
    check, check_eq, kernel_test,
    ktest::Failure,
    mm::{
        lazy::{self, Backend, LazyMmuState, Model, PageTableLock},
        stack::spawn_on,
        testing::{Chosen, Scratch, must, recorded, trouble},
    },
    trace::Barrier,
};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

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

/// A task beside the test, on CPU 0. It ends with the test, whatever comes of that.
pub(super) struct Neighbour(Option<Handle>);

impl Neighbour {
    pub(super) fn start() -> Result<Self, Failure> {
        ENOUGH.store(false, Relaxed);
        Ok(Self(Some(must!(spawn_on(0, "neighbour", neighbour, 0)))))
    }

    /// Ends it; how often it saw what it must not see.
    pub(super) fn end(mut self) -> usize {
        self.stop()
    }

    fn stop(&mut self) -> usize {
        ENOUGH.store(true, Relaxed);
        self.0.take().map_or(0, Handle::join)
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.stop();
    }
}

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
    let all = |backend| PageTableLock::ALL.map(|lock| (backend, lock));
    for (backend, lock) in Backend::ALL.into_iter().flat_map(all) {
        // Then a section is a place where nobody is preempted, and nothing moves.
        let stays = lock != PageTableLock::None || backend == Backend::StoresPerCpu;
        for away in [false, true] {
            let _chosen = Chosen::with_lock(Model::TwoCounters, backend, lock)?;
            let _here = Untimed::on(0)?;
            // It yields in its sections, which is forbidden then.
            let other = if stays { None } else { Some(Neighbour::start()?) };
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
                check!(!stays || !done);
                if (stays && n == passed) || (!stays && !done) {
                    check_eq!(n, passed);
                    break;
                }
                n += 1;
            }
            let bad = other.map_or(0, Neighbour::end);
            check_eq!(bad, 0);
            // Each leaf is mapped and cleared, and has a point for each; ones in a task's queue have
            // two.
            check!(n >= 2 * Scratch::LEAVES);
        }
    }
    Ok(())
} }

kernel_test! { "task", preempted_by_the_clock_inside_a_section, {
    let _chosen = Chosen::new(Model::TwoCounters, Backend::Barriers)?;
    let scratch = Scratch::new()?;
    let _here = Pinned::to(0)?;
    let other = Neighbour::start()?;
    let section = lazy::section();
    scratch.map(0);
    let switches = current().switches.get();
    // It yields nothing: only the timer can take the CPU from it.
    let preempted = soon(|| current().switches.get() >= switches + 3);
    let owed = current().deferred.barriers.get();
    drop(section);
    let bad = other.end();
    check!(preempted && owed && probe_read_u8(scratch.address(0)).is_ok());
    check_eq!(bad, 0);
    Ok(())
} }
