//! Loads and stores of live kernel entries: each store goes where the backend sends it.

use super::{
    active::is_active,
    config::{Backend, backend, ets2},
    flush::flush_before_reuse,
    owed::{needs_barriers, owe_barriers},
    queue::{drain, is_queued, queue},
};
use crate::{
    arch::entry::Entry,
    bug::{Bug, planted},
    event,
    task::{deferred::QueuedStore, points::preempt_point},
};
use vmsa::{Descriptor, Level, PageRange, VirtAddr};

/// Stores a leaf of a live kernel table, and sees to the barriers that make it usable.
#[inline]
pub fn store_leaf(entry: Entry, va: VirtAddr, old: Descriptor, new: Descriptor) {
    match backend() {
        Backend::Eager | Backend::Barriers => {}
        Backend::Tlbi => flush_before_reuse(va, new),
        Backend::Stores | Backend::StoresPerCpu | Backend::StoresPerCpuHooks if is_active() => {
            return queue(QueuedStore {
                entry,
                va,
                old,
                new,
            });
        }
        Backend::Stores | Backend::StoresPerCpu | Backend::StoresPerCpuHooks => {}
    }
    if planted(Bug::BarrierBeforeStore) && new.is_valid() {
        owe_barriers();
        return entry.store(va, Level::L3, old, new);
    }
    entry.store(va, Level::L3, old, new);
    preempt_point();
    if needs_barriers(new, ets2()) {
        owe_barriers();
    }
    // An entry made invalid owes nothing: the barriers of its TLBI sequence are the ones it needs,
    // and an invalid entry is never cached that a barrier could have kept away (DDI 0487, D8.16.1).
}

/// Stores a block of level 2, or clears one, in a live kernel table. As links are, it is never
/// queued, and comes after whatever is.
pub fn store_block(entry: Entry, va: VirtAddr, old: Descriptor, new: Descriptor) {
    drain();
    if backend() == Backend::Tlbi
        && let Some(pages) = PageRange::new(va, Level::L2.bytes() / vmsa::PAGE_SIZE)
    {
        pages
            .pages_iter()
            .for_each(|page| flush_before_reuse(page, new));
    }
    entry.store(va, Level::L2, old, new);
    if needs_barriers(new, ets2()) {
        owe_barriers();
    }
}

/// Reads a leaf of a live kernel table. Memory tells the truth but under the backend `stores`: there
/// an entry that was changed in the open section still reads as it was.
#[inline]
pub fn load_leaf(entry: Entry, _va: VirtAddr) -> Descriptor {
    let value = entry.load();
    event!(EntryRead(entry.told(_va, Level::L3, value)));
    value
}

/// Clears a leaf and returns what it held: its last value, queued or not.
#[inline]
pub fn take_leaf(entry: Entry, va: VirtAddr) -> Descriptor {
    if planted(Bug::StaleReadback) {
        let stale = entry.load();
        drain();
        store_leaf(entry, va, entry.load(), Descriptor::INVALID);
        return stale;
    }
    if backend().defers_stores() && is_queued(entry) {
        drain();
    }
    let old = entry.load();
    store_leaf(entry, va, old, Descriptor::INVALID);
    old
}
