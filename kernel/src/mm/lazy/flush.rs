//! TLB flushes that wait: the backend `tlbi`.

use super::{
    active::is_active,
    config::{Backend, backend},
    owed::settle,
};
use crate::{
    bug::{Bug, planted},
    mm::sequence::{Removed, Sequence},
    task::{self, deferred::PendingFlush},
};
use vmsa::{Descriptor, PageRange, VirtAddr};

/// Puts a flush off, if the backend and the state of the task allow that.
pub fn defer_flush(range: PageRange, removed: Removed) -> bool {
    // Where blocks were removed the flush is made at once: it is rare, and the list needs to know of
    // pages and tables alone.
    if backend() != Backend::Tlbi || !is_active() || removed == Removed::Blocks {
        return false;
    }
    let pending = PendingFlush {
        range,
        tables: removed == Removed::Tables,
    };
    let deferred = &task::current().deferred;
    deferred.more.set(true);
    let flushes = &deferred.flushes;
    if flushes.push(pending).is_err() {
        // A full list is flushed, and no range is dropped. What was cleared for this one was
        // cleared before the DSB ISHST of that flush or not: a sequence of its own will tell.
        flush_pending();
        let _ = flushes.push(pending);
    }
    true
}

/// One sequence for every flush that the current task has put off. All of their clears come before
/// its DSB ISHST: a clear that comes later is in a later call of [`defer_flush`], and so in a later
/// sequence (`7-BATCH2-interleaved-y`, a clear behind the DSB ISHST of its TLBI: Allowed).
pub(super) fn flush_pending() {
    let deferred = &task::current().deferred;
    let pages = deferred
        .flushes
        .iter()
        .map(|pending| pending.range.pages())
        .sum();
    let mut sequence = Sequence::begin(pages);
    for PendingFlush { range, tables } in deferred.flushes.iter() {
        sequence.add(
            range,
            if tables {
                Removed::Tables
            } else {
                Removed::Leaves
            },
        );
    }
    sequence.finish();
    // Not before the DSB ISH: a handler that makes an address valid in between has to find that the
    // address is not flushed yet. It adds nothing to the list that could be lost here.
    deferred.flushes.clear();
    settle();
}

/// An address whose flush is pending may not become valid again before that flush: the old
/// translation and the new one would be there side by side, which break-before-make is about
/// (DDI 0487, D8.16.1; `7d-CLEAR-REMAP-noTLBI`: Allowed).
#[inline]
pub(super) fn flush_before_reuse(va: VirtAddr, new: Descriptor) {
    let task = task::current();
    if !new.is_valid() || planted(Bug::OaChange) {
        return;
    }
    let mut over = task
        .deferred
        .flushes
        .iter()
        .filter(|pending| pending.range.contains(va))
        .peekable();
    if over.peek().is_none() {
        return;
    }
    if task.in_interrupt() {
        // The list is the task's, which may be about to add to it: the handler flushes what it is
        // about to use, and leaves the list alone.
        let Some(page) = PageRange::new(va.align_down(vmsa::PAGE_SIZE), 1) else {
            return;
        };
        // Where a table is among what was removed, a walk by way of the old one would not even see
        // the new leaf.
        let removed = if over.any(|pending| pending.tables) {
            Removed::Tables
        } else {
            Removed::Leaves
        };
        let mut sequence = Sequence::begin(1);
        sequence.add(page, removed);
        sequence.finish();
    } else {
        flush_pending();
    }
}
