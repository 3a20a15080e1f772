//! The TLB invalidation sequence: DSB ISHST; TLBI, once or more; DSB ISH; ISB.
//!
//! No part can be left out (`4-V2I-*`, `5-REUSE-*` and `7-BATCH2-*` of the litmus tests show each
//! with a part missing). A [`Sequence`] is one under way, as a value: it can't be forgotten
//! half-way, and many ranges share its barriers.

use crate::{
    arch::{barrier, cpu, tlbi},
    bug::{Bug, planted},
    trace,
};
use vmsa::{
    Level, PageRange,
    tlbi::{MAX_TLBI_RANGE_PAGES, Operand, Operation, RangeOperand, cover, cover_pages},
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
        if !planted(Bug::NoDsbBeforeTlbi) {
            barrier::dsb_ishst();
        }
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
    #[inline(always)]
    pub fn add(&mut self, range: PageRange, removed: Removed) {
        if self.everything {
            return;
        }
        if cfg!(feature = "bugs") || trace::recording() {
            return add_recorded(range, removed);
        }
        let features = cpu::features();
        let leaves_alone = removed != Removed::Tables;
        let hint = removed == Removed::Leaves && features.ttl;
        let issue = tlbi::issue_unrecorded;
        cover_pages(range, leaves_alone, hint, features.tlbi_range, issue);
    }

    /// Ends the sequence: nobody uses what was cached any more, on any CPU.
    pub fn finish(self) {
        // DDI 0487, D8.16.1: a TLBI is complete, and every access that used what it invalidated is,
        // when a DSB ISH that the same CPU executes after it is.
        if !planted(Bug::NoDsbAfterTlbi) {
            barrier::dsb_ish();
        }
        // The CPU itself may have translated ahead (`4-V2I-DSB.ISHST+VAALE1IS+DSB.ISH`, without
        // ISB: Allowed without FEAT_ETS2; instruction fetch needs it with FEAT_ETS2 too).
        barrier::isb();
    }
}

/// What [`Sequence::add`] does where somebody records it, and where bugs may be planted.
#[cold]
#[inline(never)]
fn add_recorded(range: PageRange, removed: Removed) {
    let range = match range.pages() {
        2.. if planted(Bug::TlbiShort) => without_last(range),
        _ => range,
    };
    let leaves_alone = removed != Removed::Tables || planted(Bug::TlbiLeafOnly);
    let hint = (removed == Removed::Leaves && cpu::features().ttl).then_some(Level::L3);
    for operation in cover(range, leaves_alone, hint, cpu::features().tlbi_range) {
        if planted(Bug::TlbiRangeOdd) && range.pages() > 1 && is_of_a_page(operation) {
            continue;
        }
        let operand = || operation.operand_bits().unwrap_or(0);
        let operation = match hint {
            _ if planted(Bug::TlbiUnshifted) => with_operand(operation, unshifted(operand())),
            // VA[63:56] above VA[55:12].
            _ if planted(Bug::TlbiUnmasked) => {
                with_operand(operation, operand() | range.start().as_u64() >> 12)
            }
            // Level 3 is 0b11, level 2 is 0b10.
            Some(_) if planted(Bug::TlbiWrongLevel) => {
                with_operand(operation, operand() ^ 1 << level_hint_shift(operation))
            }
            _ if planted(Bug::TlbiLocal) => Operation::Vmalle1,
            _ => operation,
        };
        tlbi::issue(operation);
    }
}

/// What the TLBI names of one page whose leaf has changed: for who makes the whole sequence in one
/// piece.
#[cfg(target_os = "none")]
#[inline(always)]
pub(super) fn of_one_leaf(page: vmsa::VirtAddr) -> Operand {
    let hint = cpu::features().ttl.then_some(Level::L3);
    Operand::new(page, 0, hint)
}

/// All pages of `range`, which has two or more, but the last: for a planted bug.
fn without_last(range: PageRange) -> PageRange {
    PageRange::new(range.start(), range.pages() - 1).unwrap_or(range)
}

/// Whether an operation names a single page.
fn is_of_a_page(operation: Operation) -> bool {
    matches!(operation, Operation::Vaae1is(_) | Operation::Vaale1is(_))
}

/// An operation whose operand a planted bug has computed.
fn with_operand(operation: Operation, bits: u64) -> Operation {
    use Operation::{Rvaae1is, Rvaale1is, Vaae1is, Vaale1is};
    match operation {
        Vaae1is(_) => Vaae1is(Operand::from_bits(bits)),
        Vaale1is(_) => Vaale1is(Operand::from_bits(bits)),
        Rvaae1is(_) => Rvaae1is(RangeOperand::from_bits(bits)),
        Rvaale1is(_) => Rvaale1is(RangeOperand::from_bits(bits)),
        other => other,
    }
}

/// An operand for a page with `VA[43:0]` where `VA[55:12]` belongs.
fn unshifted(operand: u64) -> u64 {
    let field = (1 << 44) - 1;
    operand & !field | operand << 12 & field
}

/// TTL of an operand: bits `[47:44]` with the granule in them, or `[38:37]` of one for a range.
fn level_hint_shift(operation: Operation) -> u32 {
    if is_of_a_page(operation) { 44 } else { 37 }
}
