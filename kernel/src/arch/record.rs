//! Gives each event its CPU, task and time, and hands it to `trace`; with the feature `oracle` also
//! to the oracle, which hears of more.

#[cfg(feature = "oracle")]
mod tell;

#[cfg(feature = "oracle")]
pub use tell::tell;

use crate::trace::{self, Event, Kind};

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
pub(super) fn emit(kind: Kind) {
    super::counters::count(&kind);
    #[cfg(feature = "oracle")]
    tell::pass_on(&kind);
    note(kind);
}

/// Records an event that is not counted: a lazy MMU call, or a function of a call tree.
#[inline(always)]
pub fn note(kind: Kind) {
    if trace::recording() {
        stamp_and_push(kind);
    }
}

/// Out of line: the paths that emit pay for a load and a branch, no more.
#[cold]
#[inline(never)]
fn stamp_and_push(kind: Kind) {
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
    note(Kind::Enter(name));
    Span(name)
}

impl Drop for Span {
    #[inline]
    fn drop(&mut self) {
        note(Kind::Leave(self.0));
    }
}
