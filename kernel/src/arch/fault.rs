//! A fault: an abort, what can be asked of it, and who is told of those that EL1 took itself.

use super::cpu;
use super::frame::ExceptionFrame;
use super::lock::Mutex;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use vmsa::esr::{ExceptionClass, FaultStatus};
use vmsa::{Esr, VirtAddr};

/// A synchronous abort, taken from EL1 or EL0.
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

    /// Of an exception from EL0, if it is an abort.
    #[must_use]
    pub fn of_el0(frame: &ExceptionFrame) -> Option<Self> {
        let is_abort = matches!(
            frame.esr().ec(),
            ExceptionClass::DataAbortLower | ExceptionClass::InstructionAbortLower
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
    set(&BEFORE, hook)
}

/// Sets or takes away what is called with each fault that is survived through a fixup; gives back
/// what was there. It may print. Faults of its own call no hook.
pub fn set_survived(hook: Option<Hook>) -> Option<Hook> {
    set(&SURVIVED, hook)
}

/// Interrupts are masked: a handler that faults asks for the hooks, too.
fn set(slot: &Mutex<Option<Hook>>, hook: Option<Hook>) -> Option<Hook> {
    let _masked = cpu::mask_interrupts();
    core::mem::replace(&mut *slot.lock(), hook)
}

/// How many translation faults turned out to be spurious since reset.
#[must_use]
pub fn spurious_count() -> u64 {
    SPURIOUS.load(Relaxed)
}

/// Counts a spurious fault; gives back how many there have been with it.
pub(super) fn count_spurious() -> u64 {
    SPURIOUS.fetch_add(1, Relaxed) + 1
}

/// Tells of a fault of which nothing has been decided.
pub(super) fn tell_before(fault: &Fault) {
    call(&BEFORE, fault);
}

/// Tells of a fault that a fixup survived.
pub(super) fn tell_survived(fault: &Fault) {
    call(&SURVIVED, fault);
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
