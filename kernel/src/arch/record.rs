//! Gives each event its CPU, task and time, and hands it to `trace`; with the feature `oracle` also
//! to the oracle, which hears of more.

#[cfg(feature = "oracle")]
mod tell;

#[cfg(feature = "oracle")]
pub use tell::tell;

use crate::trace::{self, Event, Kind};
use vmsa::{Descriptor, Level, PhysAddr, VirtAddr};

/// Tells the oracle what happened, or is about to: an expression of type `mmu_oracle::Kind`, whose
/// variants can be named in it, as `mmu_oracle::event` can. Without the feature `oracle` it is
/// nothing, and the expression is not evaluated.
#[macro_export]
macro_rules! event {
    ($kind:expr) => {
        #[cfg(feature = "oracle")]
        {
            #[allow(unused_imports, reason = "some events need none of it")]
            use mmu_oracle::event::{self, Kind::*};
            $crate::arch::record::tell($kind);
        }
    };
}

/// Counts an event, and records it where a recording is under way.
#[inline(always)]
pub(super) fn emit(kind: impl Fn() -> Kind) {
    super::counters::count(&kind());
    #[cfg(feature = "oracle")]
    tell::pass_on(&kind());
    note(kind);
}

/// Tells the oracle, where there is one, of what somebody else counts and nobody records.
#[cfg(target_os = "none")]
#[inline(always)]
pub(super) fn tell_uncounted(_kind: impl FnOnce() -> Kind) {
    #[cfg(feature = "oracle")]
    tell::pass_on(&_kind());
}

/// Counts the store of an entry, and records it where a recording is under way. As [`emit`], but that
/// what is recorded stays in registers, there being so much of it.
#[inline(always)]
pub(super) fn emit_store(
    entry: PhysAddr,
    space: u16,
    va: VirtAddr,
    level: Level,
    old: Descriptor,
    new: Descriptor,
) {
    super::counters::count_stores(1);
    #[cfg(feature = "oracle")]
    tell::pass_on(&Kind::Store {
        entry,
        va,
        level,
        space,
        old,
        new,
    });
    if trace::recording() {
        push_store(entry, space, va, level, old, new);
    }
}

#[cold]
#[inline(never)]
fn push_store(
    entry: PhysAddr,
    space: u16,
    va: VirtAddr,
    level: Level,
    old: Descriptor,
    new: Descriptor,
) {
    stamp_and_push(|| Kind::Store {
        entry,
        va,
        level,
        space,
        old,
        new,
    });
}

/// Records an event that is not counted: a lazy MMU call, or a function of a call tree.
///
/// It is a closure that says which, so that the event is put together where it is recorded, and not
/// on the stack of everybody who might have one.
#[inline(always)]
pub fn note(kind: impl FnOnce() -> Kind) {
    if trace::recording() {
        stamp_and_push(kind);
    }
}

/// Out of line: the paths that emit pay for a load and a branch, no more.
#[cold]
#[inline(never)]
fn stamp_and_push(kind: impl FnOnce() -> Kind) {
    let kind = kind();
    // CPU, task and time belong together, and whoever ends the recording waits for this.
    let _masked = super::cpu::mask_interrupts();
    trace::push(Event {
        time: super::time::now(),
        cpu: super::cpu::id(),
        task: super::cpu::current_task_id(),
        kind,
    });
}

/// Records that the function `name` runs, until the value is dropped.
#[derive(Debug)]
#[must_use = "the function would leave at once"]
pub struct Span(&'static str);

/// Enters `name` in the call tree of a recording.
#[inline]
pub fn span(name: &'static str) -> Span {
    note(move || Kind::Enter(name));
    Span(name)
}

impl Drop for Span {
    #[inline]
    fn drop(&mut self) {
        let name = self.0;
        note(move || Kind::Leave(name));
    }
}
