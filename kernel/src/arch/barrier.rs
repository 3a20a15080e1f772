//! The barriers. Every DSB and ISB of the kernel after bring-up is issued here, so that each is
//! counted, but for those that are about no table (of device registers, and before a CPU waits), and
//! those of `one_page`, which counts them itself.
//!
//! What each is for is argued where it is called; what it does is in DDI 0487, B2.3.11 (DSB) and
//! B2.3.12 (ISB).

use super::record::emit;
use crate::trace::{self, Barrier, Kind};

#[cfg(target_os = "none")]
use aarch64_cpu::asm::barrier as instruction;

/// `DSB ISHST`: returns when the stores before it are complete for every observer in the
/// inner-shareable domain, table walks included (DDI 0487, D8.2.6: a walk is an observer of that
/// domain).
#[inline]
pub fn dsb_ishst() {
    #[cfg(target_os = "none")]
    instruction::dsb(instruction::ISHST);
    emit(|| Kind::Barrier(Barrier::DsbIshst));
}

/// `DSB ISHST; ISB`, one right behind the other: what makes new leaves usable. Whether somebody records
/// is asked once for both.
#[inline(always)]
pub fn dsb_ishst_and_isb() {
    if trace::recording() {
        return both_told();
    }
    dsb_ishst_and_isb_unrecorded();
}

/// As [`dsb_ishst_and_isb`], for who knows that nobody records.
#[inline(always)]
pub fn dsb_ishst_and_isb_unrecorded() {
    if cfg!(any(feature = "oracle", not(target_os = "none"))) {
        return both_told();
    }
    #[cfg(target_os = "none")]
    instruction::dsb(instruction::ISHST);
    super::counters::count(&Kind::Barrier(Barrier::DsbIshst));
    #[cfg(target_os = "none")]
    instruction::isb(instruction::SY);
    super::counters::count(&Kind::Barrier(Barrier::Isb));
}

#[cold]
#[inline(never)]
fn both_told() {
    dsb_ishst();
    isb();
}

/// `DSB ISH`: returns when the accesses and the TLBIs that this CPU issued before it are complete
/// in the inner-shareable domain.
#[inline]
pub fn dsb_ish() {
    #[cfg(target_os = "none")]
    instruction::dsb(instruction::ISH);
    emit(|| Kind::Barrier(Barrier::DsbIsh));
}

/// `DSB NSH`: as [`dsb_ish`], for what concerns this CPU alone.
#[inline]
pub fn dsb_nsh() {
    #[cfg(target_os = "none")]
    instruction::dsb(instruction::NSH);
    emit(|| Kind::Barrier(Barrier::DsbNsh));
}

/// `ISB`: what follows is fetched, decoded and translated after everything that precedes it.
#[inline]
pub fn isb() {
    #[cfg(target_os = "none")]
    instruction::isb(instruction::SY);
    emit(|| Kind::Barrier(Barrier::Isb));
}
