//! The TLB invalidation sequence: DSB ISHST; TLBI, once or more; DSB ISH; ISB.
//!
//! No part can be left out (`4-V2I-*`, `5-REUSE-*` and `7-BATCH2-*` of the litmus tests show each
//! with a part missing). A [`Sequence`] is one under way, as a value: it can't be forgotten
//! half-way, and many ranges share its barriers.

use crate::arch::{barrier, cpu, tlbi};
use vmsa::{
    Level, PageRange,
    tlbi::{MAX_TLBI_RANGE_PAGES, Operation, cover},
};

/// Above so many pages one TLBI of everything is cheaper than a TLBI for each, without
/// FEAT_TLBIRANGE: Linux's MAX_DVM_OPS, which is there "to avoid soft lock-ups" rather than
/// measured.
const MAX_SINGLE_OPERATIONS: u64 = 512;

/// What the entries of a flushed range were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// Pages: cached table entries may stay (TLBI VAALE1IS, with the hint that the entries were at
    /// level 3).
    Leaves,
    /// Leaves among which are blocks: as `Leaves`, without a hint. The hint would be wrong, and a
    /// wrong one may invalidate nothing.
    Blocks,
    /// Tables as well: cached table entries must go (TLBI VAAE1IS).
    Tables,
}

/// A sequence under way: its DSB ISHST has been issued, so every store that it is to cover was made
/// before.
#[derive(Debug)]
#[must_use = "a sequence is complete only after `finish`"]
pub struct Sequence {
    /// Ranges need no TLBI of their own any more.
    everything: bool,
}

impl Sequence {
    /// Starts a sequence for about `pages` pages in all, which decides between single operations and
    /// VMALLE1IS.
    pub fn begin(pages: u64) -> Self {
        // DDI 0487, D8.16 "TLB maintenance": the TLBI affects translations that use the old entry
        // only if the store that changed it is complete, for all observers of the domain, before
        // the TLBI is issued: DSB ISHST. A DMB would not do (`4-V2I-DMB.ST+VAALE1IS+DSB.ISH+ISB`:
        // Allowed).
        barrier::dsb_ishst();
        let limit = if cpu::features().tlbi_range {
            MAX_TLBI_RANGE_PAGES + 1
        } else {
            MAX_SINGLE_OPERATIONS
        };
        let everything = pages >= limit;
        if everything {
            tlbi::issue(Operation::Vmalle1is);
        }
        Self { everything }
    }

    /// Adds a range whose entries changed before [`begin`](Self::begin).
    pub fn add(&mut self, range: PageRange, removed: Removed) {
        if self.everything {
            return;
        }
        let leaves_alone = removed != Removed::Tables;
        let hint = (removed == Removed::Leaves && cpu::features().ttl).then_some(Level::L3);
        for operation in cover(range, leaves_alone, hint, cpu::features().tlbi_range) {
            tlbi::issue(operation);
        }
    }

    /// Ends the sequence: nobody uses what was cached any more, on any CPU.
    pub fn finish(self) {
        // DDI 0487, D8.16.1: a TLBI is complete, and every access that used what it invalidated is,
        // when a DSB ISH that the same CPU executes after it is.
        barrier::dsb_ish();
        // The CPU itself may have translated ahead (`4-V2I-DSB.ISHST+VAALE1IS+DSB.ISH`, without
        // ISB: Allowed without FEAT_ETS2; instruction fetch needs it with FEAT_ETS2 too).
        barrier::isb();
    }
}
