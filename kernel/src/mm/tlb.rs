//! `flush_tlb_kernel_range`, at once and put off.
//!
//! [`Flush`] is synchronous, whatever the backend: who is about to publish that something is
//! unmapped or read-only uses it. [`flush_kernel_range`] is what the backend `tlbi` may put off to
//! the end of the lazy section.

pub use super::sequence::Removed;
use super::{lazy, sequence::Sequence, unflushed::Unflushed};
use vmsa::PageRange;

/// A TLB flush under way; it is complete when [`finish`](Self::finish) returns.
#[derive(Debug)]
#[must_use = "a flush is complete only after `finish`"]
pub struct Flush(Sequence);

impl Flush {
    /// Starts a flush of about `pages` pages in all, whose entries have been changed.
    pub fn begin(pages: u64) -> Self {
        // A store that is still in the queue is one that the sequence would not cover.
        lazy::drain();
        Self(Sequence::begin(pages))
    }

    /// Adds a range whose entries changed before [`begin`](Self::begin).
    #[inline(always)]
    pub fn add(&mut self, range: PageRange, removed: Removed) {
        self.0.add(range, removed);
    }

    /// Adds addresses whose flush somebody has handed on, and thereby sees to it. Their leaves were
    /// cleared before [`begin`](Self::begin), too.
    pub fn add_unflushed(&mut self, unflushed: Unflushed) {
        self.add(unflushed.into_range(), Removed::Leaves);
    }

    /// Ends the flush: nobody uses what was cached any more, on any CPU.
    pub fn finish(self) {
        self.0.finish();
        // "A later TLBI sequence stands in for owed barriers" holds because it ends in an ISB
        // (facts on litmus: earlier deferred new mapping + later TLBI sequence).
        lazy::settle();
    }
}

/// Flushes addresses that are handed to no other flush, at once.
pub fn flush_unflushed(unflushed: Unflushed) {
    let mut flush = Flush::begin(unflushed.pages());
    flush.add_unflushed(unflushed);
    flush.finish();
}

/// Flushes one range: `flush_tlb_kernel_range`. In a lazy section under the backend `tlbi` it is put
/// off, and complete when the section ends or is paused.
pub fn flush_kernel_range(range: PageRange, removed: Removed) {
    if !lazy::defer_flush(range, removed) {
        let mut flush = Flush::begin(range.pages());
        flush.add(range, removed);
        flush.finish();
    }
}

#[cfg(test)]
mod tests;
