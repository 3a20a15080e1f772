//! Aborts of the kernel's own: told apart, survived where that is right.
//!
//! In this order: a translation fault that a second look does not confirm is spurious, and the
//! access is tried again. A fault at an instruction that has a fixup goes on there. All else is
//! fatal.

use super::exception::ExceptionFrame;
use super::{barrier, cpu, fixup};
use core::arch::asm;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use spin::Mutex;
use vmsa::esr::{ExceptionClass, FaultStatus};
use vmsa::{Esr, VirtAddr};

/// A synchronous abort taken from EL1.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// ESR_EL1.
    pub esr: Esr,
    /// FAR_EL1: an access can be to an address that is not canonical.
    far: u64,
}

impl Fault {
    /// From the registers of an exception.
    pub(super) const fn new(esr: Esr, far: u64) -> Self {
        Self { esr, far }
    }

    /// Of an exception, if it is an abort that EL1 took itself.
    #[must_use]
    pub fn of(frame: &ExceptionFrame) -> Option<Self> {
        let is_abort = matches!(
            frame.esr().ec(),
            ExceptionClass::DataAbortCurrent | ExceptionClass::InstructionAbortCurrent
        );
        is_abort.then(|| Self::new(frame.esr(), frame.far_bits()))
    }

    /// The address that could not be accessed; `None` if it is not canonical.
    #[must_use]
    pub const fn address(&self) -> Option<VirtAddr> {
        VirtAddr::new(self.far)
    }

    /// The address as the CPU gave it, for showing it.
    #[must_use]
    pub const fn address_bits(&self) -> u64 {
        self.far
    }

    /// A write was refused (cache maintenance counts as one).
    #[must_use]
    pub fn is_write(&self) -> bool {
        self.esr.data_abort().is_some_and(vmsa::esr::DataAbort::wnr)
    }

    /// An instruction could not be fetched.
    #[must_use]
    pub fn is_fetch(&self) -> bool {
        self.esr.instruction_abort().is_some()
    }

    /// No entry maps the address.
    #[must_use]
    pub fn is_translation_fault(&self) -> bool {
        self.esr
            .fault_status()
            .is_some_and(FaultStatus::is_translation_fault)
    }

    /// An entry maps the address and forbids the access.
    #[must_use]
    pub fn is_permission_fault(&self) -> bool {
        self.esr
            .fault_status()
            .is_some_and(FaultStatus::is_permission_fault)
    }
}

impl fmt::Display for Fault {
    /// One line: `level 3 translation fault, read of ffff800080001000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(status) = self.esr.fault_status() {
            write!(f, "{status}, ")?;
        }
        let access = match (self.is_fetch(), self.is_write()) {
            (true, _) => "instruction fetch from",
            (_, true) => "write to",
            _ => "read of",
        };
        write!(f, "{access} {:016x}", self.far)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fault({self})")
    }
}

/// Something to be told of faults.
pub type Hook = fn(&Fault);

/// Called with each fault before anything is decided: a test can repair an entry here, and so
/// make a fault spurious. Tests set it, and the scene that shows such a fault.
static BEFORE: Mutex<Option<Hook>> = Mutex::new(None);
/// Called with each fault that a fixup survived, before the instruction at the fixup executes.
static SURVIVED: Mutex<Option<Hook>> = Mutex::new(None);
/// Spurious faults since reset.
static SPURIOUS: AtomicU64 = AtomicU64::new(0);

/// Sets or takes away what is called with each fault before it is classified; gives back what was
/// there. For tests.
pub fn set_before(hook: Option<Hook>) -> Option<Hook> {
    core::mem::replace(&mut *BEFORE.lock(), hook)
}

/// Sets or takes away what is called with each fault that is survived through a fixup; gives back
/// what was there. It may print. Faults of its own call no hook.
pub fn set_survived(hook: Option<Hook>) -> Option<Hook> {
    core::mem::replace(&mut *SURVIVED.lock(), hook)
}

/// How many translation faults turned out to be spurious since reset.
#[must_use]
pub fn spurious_count() -> u64 {
    SPURIOUS.load(Relaxed)
}

/// Deals with a synchronous exception from EL1, if it can be dealt with.
pub(super) fn handle(frame: &mut ExceptionFrame) -> bool {
    let Some(fault) = Fault::of(frame) else {
        return false;
    };
    call(&BEFORE, &fault);
    if is_spurious(&fault) {
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
    call(&SURVIVED, &fault);
    true
}

/// Calls a hook, if there is one and none is running on this CPU: a hook may itself use accesses
/// that fault.
fn call(hook: &Mutex<Option<Hook>>, fault: &Fault) {
    // Copied out, so that the lock is free by the time the hook faults.
    let Some(hook) = *hook.lock() else { return };
    let running = &cpu::this_cpu().in_fault_hook;
    if !running.swap(true, Relaxed) {
        hook(fault);
        running.store(false, Relaxed);
    }
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
            far = in(reg) fault.far,
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
    let count = SPURIOUS.fetch_add(1, Relaxed) + 1;
    if count <= WARN_OF_ALL || count.is_power_of_two() {
        let far = fault.far;
        crate::warning!("Ignoring spurious kernel translation fault at virtual address {far:016x}");
    }
}
