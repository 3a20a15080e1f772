//! A page appears, or goes: the store of its leaf and what has to follow it, in one piece.
//!
//! With DEBUG_PAGEALLOC every page that is allocated and every page that is freed takes one of
//! them. So nothing stands between their instructions, and one addition counts all of them. What
//! each is for is argued where they are called. Only where nobody records, who would want to hear
//! of each; the oracle is told.

use super::{counters, entry::Entry, record::tell_uncounted};
use crate::trace::{Barrier, Kind};
use aarch64_cpu::asm::barrier::{ISH, ISHST, SY, dsb, isb};
use core::arch::asm;
use vmsa::{
    Descriptor, VirtAddr,
    tlbi::{Operand, Operation},
};

/// Stores `new` in the leaf of `va`, which held `old`; `DSB ISHST; ISB`.
#[inline(always)]
pub fn appear(leaf: Entry, va: VirtAddr, old: Descriptor, new: Descriptor) {
    leaf.store_uncounted(va, old, new);
    dsb(ISHST);
    tell_uncounted(|| Kind::Barrier(Barrier::DsbIshst));
    isb(SY);
    tell_uncounted(|| Kind::Barrier(Barrier::Isb));
    counters::count_appearance();
}

/// Stores `new` in the leaf of `va`, which held `old`; `DSB ISHST; TLBI VAALE1IS; DSB ISH; ISB`.
#[inline(always)]
pub fn go(leaf: Entry, va: VirtAddr, old: Descriptor, new: Descriptor, operand: Operand) {
    leaf.store_uncounted(va, old, new);
    dsb(ISHST);
    tell_uncounted(|| Kind::Barrier(Barrier::DsbIshst));
    // SAFETY: as in `arch::tlbi`: the walk that follows reads the tables.
    unsafe { asm!("tlbi vaale1is, {}", in(reg) operand.bits(), options(nostack, preserves_flags)) };
    tell_uncounted(|| Kind::Tlbi(Operation::Vaale1is(operand)));
    dsb(ISH);
    tell_uncounted(|| Kind::Barrier(Barrier::DsbIsh));
    isb(SY);
    tell_uncounted(|| Kind::Barrier(Barrier::Isb));
    counters::count_departure();
}
