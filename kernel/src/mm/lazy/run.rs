//! Runs: adjacent leaves of one table, changed together.
//!
//! What is the same for all of them is asked once, not once a leaf (as Linux does in
//! `__set_ptes_anysz`): whether the backend has stores or flushes wait, whether barriers may, whether
//! somebody wants to hear of each store, or to come in between. Mostly the answer is that nothing
//! stands in the way; then a leaf costs a load, a check and a store, and the barriers of all are owed
//! by one note when the last is stored. Otherwise each goes through [`store_leaf`].
//!
//! From the first store to that note the task does nothing else. What the leaves become is a value
//! ([`Edit`], [`KnownFrames`]) and not a call, which could pause the mode, flush, or use what has just been
//! mapped, and would find no debt. [`clear_run`] calls back, and has no debt to note.
//! - A preemption in between does no harm. Nobody pays for the stores of a task but the task itself,
//!   at the end of its section, and it makes the note before it gets there, on whichever CPU.
//! - Nor does an interrupt: a handler pays for its own stores at once, and leaves the task's note as it
//!   is ([`settle`](super::settle)).

use super::{
    active::{is_active, is_active_by_default},
    config::{Backend, backend, ets2},
    owed::needs_barriers,
    store::{load_leaf, store_leaf, take_leaf},
};
use crate::{
    arch::entry::Entries,
    bug::{Bug, planted},
    task::{self, Task, points},
    trace, unusual,
};
use core::{iter::Copied, slice};
use vmsa::{Attributes, Descriptor, Frame, Level, PAGE_SIZE, VirtAddr};

/// Frames to be mapped, which are known beforehand: coming to the next one is to read memory, no more.
/// Whoever implements it vouches for that.
pub trait KnownFrames: Iterator<Item = Frame> + Clone {
    /// Has the leaves of a run, the first of which is that of `va`, map the next frames, until one is not
    /// empty or there are no more frames; how many do. Frames that were passed without that are lost
    /// where it is an error to come to such a leaf.
    fn store(&mut self, entries: Entries, va: VirtAddr, attributes: Attributes) -> usize;
}

impl KnownFrames for Copied<slice::Iter<'_, Frame>> {
    #[inline]
    fn store(&mut self, entries: Entries, va: VirtAddr, attributes: Attributes) -> usize {
        let leaves = self
            .clone()
            .map(|frame| Descriptor::page(frame, attributes));
        let stored = entries.store_leaves(va, Level::L3, leaves);
        if let Some(others) = stored.checked_sub(1) {
            self.nth(others);
        }
        stored
    }
}

/// What is to become of leaves: bits to clear, and then bits to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edit {
    clear: u64,
    set: u64,
}

impl Edit {
    /// Loses the attributes `clear` and has those of `set`.
    #[inline]
    pub fn attributes(set: Attributes, clear: Attributes) -> Self {
        let named = |attributes: Attributes| attributes.intersection(Attributes::all()).bits();
        Self {
            clear: named(clear),
            set: named(set),
        }
    }

    /// Is valid or not, and otherwise as it was.
    #[inline]
    pub fn valid(valid: bool) -> Self {
        let bit = Descriptor::INVALID.with_valid(true).bits();
        Self {
            clear: bit,
            set: if valid { bit } else { 0 },
        }
    }

    /// What becomes of `leaf`.
    #[inline]
    pub fn apply(self, leaf: Descriptor) -> Descriptor {
        Descriptor::from_bits(leaf.bits() & !self.clear | self.set)
    }
}

/// Has the leaves of a run, the first of which is that of `va`, map `frames`. Returns how many do: it
/// ends at a leaf that is not empty, and where there are no more frames.
#[inline]
pub fn map_run(
    entries: Entries,
    va: VirtAddr,
    frames: &mut impl KnownFrames,
    attributes: Attributes,
) -> usize {
    let task = task::current();
    if !may_store_together(task) {
        return store_singly(entries, va, |old| next_page(old, frames, attributes));
    }
    let mapped = frames.store(entries, va, attributes);
    // It is the attributes that decide, and all have the same.
    if mapped > 0 {
        let leaf = Descriptor::INVALID
            .with_valid(true)
            .with_attributes(attributes);
        owe_for(task, leaf);
    }
    mapped
}

/// As [`map_run`], with frames that lie side by side in memory.
#[inline(always)]
pub fn map_frames_run(
    entries: Entries,
    va: VirtAddr,
    frames: &[Frame],
    attributes: Attributes,
) -> usize {
    let task = task::current();
    if !may_store_together(task) {
        return map_frames_singly(entries, va, frames, attributes);
    }
    let mapped = entries.store_frames(va, frames, attributes);
    let leaf = Descriptor::INVALID
        .with_valid(true)
        .with_attributes(attributes);
    owe_for(task, leaf);
    mapped
}

#[cold]
#[inline(never)]
fn map_frames_singly(
    entries: Entries,
    va: VirtAddr,
    frames: &[Frame],
    attributes: Attributes,
) -> usize {
    let mut frames = frames.iter().copied();
    store_singly(entries, va, |old| next_page(old, &mut frames, attributes))
}

/// As [`map_run`], with adjacent frames from `first` on.
#[inline(always)]
pub fn map_adjacent_run(
    entries: Entries,
    va: VirtAddr,
    first: Frame,
    attributes: Attributes,
) -> usize {
    let task = task::current();
    let leaf = Descriptor::page(first, attributes);
    if !may_store_together(task) {
        return map_adjacent_singly(entries, va, leaf);
    }
    let mapped = entries.store_run(va, Level::L3, leaf, entries.count());
    owe_for(task, leaf);
    mapped
}

#[cold]
#[inline(never)]
fn map_adjacent_singly(entries: Entries, va: VirtAddr, leaf: Descriptor) -> usize {
    let mut next = leaf.bits();
    store_singly(entries, va, |old| {
        let new = Descriptor::from_bits(next);
        next += PAGE_SIZE;
        old.is_none().then_some(new)
    })
}

/// Notes that the barriers of `leaf`, and of others like it, are owed.
#[inline]
fn owe_for(task: &Task, leaf: Descriptor) {
    if needs_barriers(leaf, ets2()) {
        task.deferred.barriers.set(true);
    }
}

/// What becomes of an empty leaf.
#[inline]
fn next_page(
    old: Descriptor,
    frames: &mut impl KnownFrames,
    attributes: Attributes,
) -> Option<Descriptor> {
    if !old.is_none() {
        return None;
    }
    frames
        .next()
        .map(|frame| Descriptor::page(frame, attributes))
}

/// Has `edit` become of each leaf of a run, and tells `each` what they held, after that. What `each`
/// does with it is to remember it, no more: as with [`KnownFrames`].
#[inline]
pub fn edit_run(entries: Entries, va: VirtAddr, edit: Edit, mut each: impl FnMut(Descriptor)) {
    let task = task::current();
    // With FEAT_ETS2 it is to be asked of each leaf whether it owes barriers.
    if !may_store_together(task) || ets2() {
        let change = |old| {
            each(old);
            Some(edit.apply(old))
        };
        store_singly(entries, va, change);
        return;
    }
    // Without it each valid leaf does.
    let mut seen = 0;
    let change = |old| {
        let new = edit.apply(old);
        seen |= new.bits();
        Some(new)
    };
    entries.store_each(va, Level::L3, change, each);
    owe_for(task, Descriptor::from_bits(seen));
}

/// Clears the leaves of a run, and tells `each` what they held.
#[inline]
pub fn clear_run(entries: Entries, va: VirtAddr, mut each: impl FnMut(Descriptor)) {
    // A leaf that becomes invalid owes nothing, and is no reuse of an address: but for the backends
    // that queue it, its store is all that there is to it.
    if unusual::anything() && (backend().defers_stores() || one_by_one()) {
        return (0..entries.count())
            .map(|index| take_leaf(entries.entry(index), page(va, index)))
            .for_each(each);
    }
    let clear = |_| Some(Descriptor::INVALID);
    entries.store_each(va, Level::L3, clear, &mut each);
}

/// As [`clear_run`], and nobody wants to know what they held.
#[inline(always)]
pub fn clear_run_unseen(entries: Entries, va: VirtAddr) {
    if unusual::anything() {
        return clear_run(entries, va, |_| ());
    }
    entries.clear_all(va, Level::L3);
}

/// As [`clear_run`]; what the leaves held goes through `fold`.
#[inline(always)]
pub fn clear_run_folded<A>(
    entries: Entries,
    va: VirtAddr,
    from: A,
    fold: impl Fn(A, Descriptor) -> A,
) -> A {
    if unusual::anything() {
        return clear_run_folded_even_so(entries, va, from, fold);
    }
    entries.clear_each(va, Level::L3, from, fold)
}

#[cold]
#[inline(never)]
fn clear_run_folded_even_so<A>(
    entries: Entries,
    va: VirtAddr,
    from: A,
    fold: impl Fn(A, Descriptor) -> A,
) -> A {
    let mut value = Some(from);
    clear_run(entries, va, |old| {
        value = value.take().map(|value| fold(value, old));
    });
    value.expect("each turn puts it back")
}

/// Whether leaves may become valid, or change, one right after the other, and their barriers be owed
/// after the last.
#[inline(always)]
fn may_store_together(task: &Task) -> bool {
    if unusual::anything() {
        return may_store_together_even_so(task);
    }
    is_active_by_default(task)
}

/// As [`may_store_together`], where something is unusual.
#[cold]
#[inline(never)]
fn may_store_together_even_so(task: &Task) -> bool {
    let backend = match backend() {
        Backend::Barriers => true,
        // Otherwise it is to be asked of each address whether it waits for a flush.
        Backend::Tlbi => task.deferred.flushes.is_empty(),
        // Each store has its barriers, or goes into the queue.
        _ => false,
    };
    backend && is_active() && !one_by_one()
}

/// Whether somebody wants to hear of each store of this task, or to come in between. A recording that
/// another CPU starts in the middle of a run has the next run.
#[inline]
fn one_by_one() -> bool {
    trace::recording()
        || points::is_planned()
        || planted(Bug::BarrierBeforeStore)
        || planted(Bug::StaleReadback)
}

/// Stores what `new` makes of each leaf, until that is nothing, by whatever way is each leaf's own; how
/// many that were.
#[cold]
#[inline(never)]
fn store_singly(
    entries: Entries,
    va: VirtAddr,
    mut new: impl FnMut(Descriptor) -> Option<Descriptor>,
) -> usize {
    for index in 0..entries.count() {
        let (entry, va) = (entries.entry(index), page(va, index));
        let old = load_leaf(entry, va);
        let Some(new) = new(old) else {
            return index;
        };
        store_leaf(entry, va, old, new);
    }
    entries.count()
}

/// Page number `index` from `va` on.
fn page(va: VirtAddr, index: usize) -> VirtAddr {
    va + index as u64 * PAGE_SIZE
}
