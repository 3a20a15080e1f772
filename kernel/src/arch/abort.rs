//! Aborts of the kernel's own: told apart, survived where that is right.
//!
//! In this order: a translation fault that a second look does not confirm is spurious, and the
//! access is tried again. A fault at an instruction that has a fixup goes on there. All else is
//! fatal.

use super::fault::{self, Fault};
use super::frame::ExceptionFrame;
use super::{barrier, fixup};
use core::arch::asm;
use vmsa::esr::FaultStatus;

/// Deals with a synchronous exception from EL1, if it can be dealt with.
pub(super) fn handle(frame: &mut ExceptionFrame) -> bool {
    let Some(fault) = Fault::of(frame) else {
        return false;
    };
    fault::tell_before(&fault);
    if is_spurious(&fault) {
        #[cfg(feature = "oracle")]
        if let Some(address) = fault.address() {
            crate::event!(SpuriousFault(address));
        }
        warn_of_spurious(&fault);
        // The entry may have been stored by this CPU with its barriers still owed. The exception
        // return is the ISB; without the DSB before it the same access may fault again
        // (`9-SPURIOUS-retry-ISB+ERET`: Allowed without FEAT_ETS2).
        barrier::dsb_ishst();
        return true;
    }
    if !fixup::apply(frame) {
        return false;
    }
    fault::tell_survived(&fault);
    true
}

/// Whether a data abort says that there is no translation, and a walk of the tables now says
/// otherwise.
///
/// That is legal where an entry was made valid and the barriers are still owed: the CPU may have
/// used the translation before it saw the store (Linux commit 42f91093b043; DDI 0487 D8.2.6).
fn is_spurious(fault: &Fault) -> bool {
    if fault.esr.data_abort().is_none() || !fault.is_translation_fault() {
        return false;
    }
    let par: u64;
    // SAFETY: AT S1E1R walks for the address, as a read by EL1 would, and reports in PAR_EL1; it
    // accesses no memory but the tables. The ISB makes the result readable. Interrupts are
    // masked, so no one else uses PAR_EL1 in between. Not counted: it is no one's maintenance.
    unsafe {
        asm!(
            "at s1e1r, {far}",
            "isb",
            "mrs {par}, par_el1",
            far = in(reg) fault.address_bits(),
            par = out(reg) par,
            options(nostack, preserves_flags),
        );
    }
    if par & PAR_F == 0 {
        return true;
    }
    // Another kind of fault now: the retry will take that one, and it will be the one to report.
    let status = FaultStatus::new((par >> PAR_FST_SHIFT & 0x3f) as u8);
    !status.is_translation_fault()
}

/// `PAR_EL1.F`: the translation failed.
const PAR_F: u64 = 1;
/// `PAR_EL1.FST`, bits `[6:1]`: why, encoded as DFSC.
const PAR_FST_SHIFT: u32 = 1;

/// Warns, in Linux's words, of the first few, then ever more rarely.
fn warn_of_spurious(fault: &Fault) {
    const WARN_OF_ALL: u64 = 10;
    let count = fault::count_spurious();
    if count <= WARN_OF_ALL || count.is_power_of_two() {
        let far = fault.address_bits();
        crate::warning!("Ignoring spurious kernel translation fault at virtual address {far:016x}");
    }
}
