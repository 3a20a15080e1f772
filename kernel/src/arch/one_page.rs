//! A page appears, or goes: the store of its leaf and what has to follow it, in one piece.
//!
//! With DEBUG_PAGEALLOC every page that is allocated and every page that is freed takes one of them. So
//! nothing stands between their instructions, and one addition counts all of them. What each is for is
//! argued where they are called. Only where nobody records, who would want to hear of each.

use super::{counters, entry::Entry};
use aarch64_cpu::asm::barrier::{ISH, ISHST, SY, dsb, isb};
use core::arch::asm;
use vmsa::{Descriptor, tlbi::Operand};

/// Stores a leaf; `DSB ISHST; ISB`.
#[inline(always)]
pub fn appear(leaf: Entry, new: Descriptor) {
    leaf.store_uncounted(new);
    dsb(ISHST);
    isb(SY);
    counters::count_appearance();
}

/// Stores a leaf; `DSB ISHST; TLBI VAALE1IS; DSB ISH; ISB`.
#[inline(always)]
pub fn go(leaf: Entry, new: Descriptor, operand: Operand) {
    leaf.store_uncounted(new);
    dsb(ISHST);
    // SAFETY: as in `arch::tlbi`: the walk that follows reads the tables.
    unsafe { asm!("tlbi vaale1is, {}", in(reg) operand.bits(), options(nostack, preserves_flags)) };
    dsb(ISH);
    isb(SY);
    counters::count_departure();
}
