//! The TLB invalidations. Every TLBI of the kernel after bring-up is issued here, so that each is
//! counted, but for the one of `one_page`, which counts it itself.
//!
//! The operand comes from `vmsa::tlbi`; the barriers around a TLBI are the business of `mm::tlb`.

use super::record::emit;
use crate::trace::Kind;
use vmsa::tlbi::Operation;

/// Issues one TLBI. It is complete only after a DSB on this CPU (DDI 0487, D8.16.1 "Completion").
#[inline]
pub fn issue(operation: Operation) {
    #[cfg(target_os = "none")]
    execute(operation);
    emit(move || Kind::Tlbi(operation));
}

/// As [`issue`], for who knows that nobody records.
#[inline(always)]
pub fn issue_unrecorded(operation: Operation) {
    if cfg!(any(feature = "oracle", not(target_os = "none"))) {
        return issue(operation);
    }
    #[cfg(target_os = "none")]
    execute(operation);
    super::counters::count(&Kind::Tlbi(operation));
}

/// `TLBI <name>` with or without an operand.
#[cfg(target_os = "none")]
macro_rules! tlbi {
    ($name:literal) => {
        // SAFETY: invalidating cached translations can't break memory safety: the walk that follows
        // reads the tables.
        unsafe { core::arch::asm!(concat!("tlbi ", $name), options(nostack, preserves_flags)) }
    };
    ($name:literal, $operand:expr) => {
        // SAFETY: as above; the operand chooses only how much is invalidated.
        unsafe {
            core::arch::asm!(concat!("tlbi ", $name, ", {}"), in(reg) $operand, options(nostack, preserves_flags));
        }
    };
}

/// `SYS <op1>, <CRn>, <CRm>, <op2>, <Xt>`.
#[cfg(target_os = "none")]
macro_rules! sys {
    ($encoding:literal, $operand:expr) => {
        // SAFETY: as `tlbi!`.
        unsafe {
            core::arch::asm!(concat!("sys ", $encoding, ", {}"), in(reg) $operand, options(nostack, preserves_flags));
        }
    };
}

/// The instruction itself. The range forms are written as SYS (DDI 0487, C5.5), since the assembler
/// knows their names only for targets with FEAT_TLBIRANGE; they are issued only where the CPU has
/// it.
#[cfg(target_os = "none")]
#[inline]
fn execute(operation: Operation) {
    match operation {
        Operation::Vaale1is(operand) => tlbi!("vaale1is", operand.bits()),
        Operation::Vaae1is(operand) => tlbi!("vaae1is", operand.bits()),
        Operation::Vale1is(operand) => tlbi!("vale1is", operand.bits()),
        Operation::Vae1is(operand) => tlbi!("vae1is", operand.bits()),
        Operation::Aside1is(operand) => tlbi!("aside1is", operand.bits()),
        Operation::Vmalle1is => tlbi!("vmalle1is"),
        Operation::Vmalle1 => tlbi!("vmalle1"),
        Operation::Rvaale1is(operand) => sys!("#0, c8, c2, #7", operand.bits()),
        Operation::Rvale1is(operand) => sys!("#0, c8, c2, #5", operand.bits()),
        Operation::Rvae1is(operand) => sys!("#0, c8, c2, #1", operand.bits()),
        Operation::Rvaae1is(operand) => sys!("#0, c8, c2, #3", operand.bits()),
    }
}
