//! Stores that wait: the backend `stores`.

use super::{
    config::{backend, ets2},
    full::count_full,
    owed::needs_barriers,
    percpu,
};
use crate::{
    arch::entry::Entry,
    task::{self, Task, deferred::QueuedStore, points::preempt_point},
};
use vmsa::Level;

/// Puts a store in the queue; a full queue is drained first, and that is counted.
pub(super) fn queue(store: QueuedStore) {
    if backend().is_per_cpu() {
        return percpu::queue(store);
    }
    let deferred = &task::current().deferred;
    deferred.more.set(true);
    let queue = &deferred.stores;
    if queue.push(store).is_err() {
        count_full();
        drain();
        // The queue is empty: there is room.
        let _ = queue.push(store);
    }
    preempt_point();
}

/// Makes the stores that the current task has queued, in their order. Whoever changes an entry that
/// is not a live leaf, or needs memory to tell the truth, drains first.
#[inline]
pub fn drain() {
    drain_of(task::current());
}

/// As [`drain`], for who knows which task that is.
#[inline]
pub(super) fn drain_of(task: &Task) {
    // Set with either of the two that are meant: a store that waits, here or on the CPU.
    if task.deferred.more.get() {
        drain_what_waits(task);
    }
}

/// Out of line: by default no store waits, ever.
#[cold]
#[inline(never)]
fn drain_what_waits(task: &Task) {
    if task.section_lock.on_cpu.get() {
        percpu::drain();
    }
    // A handler has no business with the queue of the task that it interrupted, which may be half
    // through this loop. So it may not change an entry that the task has queued: handlers map and
    // unmap addresses of their own.
    if task.deferred.stores.is_empty() || task.in_interrupt() {
        return;
    }
    for QueuedStore {
        entry,
        va,
        old,
        new,
    } in task.deferred.stores.iter()
    {
        entry.store(va, Level::L3, old, new);
        preempt_point();
        if needs_barriers(new, ets2()) {
            task.deferred.barriers.set(true);
        }
    }
    task.deferred.stores.clear();
}

/// Whether a store to this entry waits.
pub(super) fn is_queued(entry: Entry) -> bool {
    let task = task::current();
    if task.section_lock.on_cpu.get() {
        return percpu::is_queued(entry);
    }
    let mut queued = task.deferred.stores.iter();
    queued.any(|store| store.entry == entry)
}
