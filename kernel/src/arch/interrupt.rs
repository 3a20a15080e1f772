//! Interrupts: which there are, and who is called for each.
//!
//! What a handler does is the business of floors above; they install functions. Nothing nests: all
//! interrupts have one priority, and IRQ stays masked from entry to return.

use super::device_tree::DeviceTree;
use super::{gic, stop, timer};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use vmsa::VirtAddr;

/// The SGI that has a CPU look whether it should run another task.
pub(super) const SGI_RESCHEDULE: u32 = 0;
/// The SGI that has a CPU look whether it was asked to call a function.
pub(super) const SGI_CALL: u32 = 1;
/// PPIs are numbered from 0 in the device tree, and from 16 by the controller.
const FIRST_PPI: u32 = 16;

/// What is called for an interrupt, on the CPU that took it, with IRQ masked.
#[derive(Debug)]
pub struct Handlers {
    /// Calls what it is given in interrupt context. All of the following but `exit` are called
    /// inside.
    pub context: fn(&mut dyn FnMut()),
    /// The deadline of this CPU has passed; the timer is off again.
    pub timer: fn(),
    /// Another CPU sent a reschedule IPI.
    pub reschedule: fn(),
    /// Another CPU sent a call IPI.
    pub call: fn(),
    /// The last one: interrupt context is left, IRQ still masked, and what follows is the return to
    /// what was interrupted. It may switch to another task, and return when that switches back.
    pub exit: fn(),
}

static HANDLERS: AtomicPtr<Handlers> = AtomicPtr::new(core::ptr::null_mut());

/// Installs the handlers of all CPUs; gives back those before. Tests put theirs in front for a while.
pub fn set_handlers(handlers: &'static Handlers) -> Option<&'static Handlers> {
    let new = core::ptr::from_ref(handlers).cast_mut();
    let old = HANDLERS.swap(new, Ordering::AcqRel);
    // SAFETY: null, or what this function stored: a reference that is good for ever. It is never
    // written through.
    unsafe { old.as_ref() }
}

fn handlers() -> Option<&'static Handlers> {
    // SAFETY: as in `set_handlers`.
    unsafe { HANDLERS.load(Ordering::Acquire).as_ref() }
}

/// The number of the timer's interrupt; 0 before [`init`].
static TIMER: AtomicU32 = AtomicU32::new(0);

/// Sets the controller up, whose registers are mapped at the two addresses. Each CPU then calls
/// [`init_cpu`].
///
/// # Errors
/// Why it is of no use.
///
/// # Safety
/// The registers that `tree` names are mapped there for good, as Device memory, and nobody else uses
/// them.
pub unsafe fn init(
    tree: &DeviceTree,
    distributor: VirtAddr,
    per_cpu: VirtAddr,
) -> Result<(), gic::Error> {
    TIMER.store(FIRST_PPI + tree.timer, Ordering::Relaxed);
    let place = gic::Place {
        version: tree.gic.version,
        distributor,
        per_cpu,
        cpus: tree.cpus().len(),
    };
    // SAFETY: the caller's promise.
    unsafe { gic::init(place) }
}

/// Has this CPU take its interrupts, once IRQ is unmasked.
///
/// # Errors
/// Why it can't.
pub fn init_cpu() -> Result<(), gic::Error> {
    timer::init_cpu();
    let timer = TIMER.load(Ordering::Relaxed);
    gic::init_cpu(&[SGI_RESCHEDULE, SGI_CALL, stop::SGI, timer])
}

/// Interrupts that nobody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stray {
    /// The controller had nothing for the CPU when it came to ask: taken back in between.
    pub spurious: u64,
    /// There is no handler for its number.
    pub unknown: u64,
}

static SPURIOUS: AtomicU64 = AtomicU64::new(0);
static UNKNOWN: AtomicU64 = AtomicU64::new(0);

/// How many there were since reset, on all CPUs. The unknown are warned of; neither is fatal.
#[must_use]
pub fn stray() -> Stray {
    Stray {
        spurious: SPURIOUS.load(Ordering::Relaxed),
        unknown: UNKNOWN.load(Ordering::Relaxed),
    }
}

/// Deals with the interrupts of this CPU. Called on exception entry.
pub(super) fn dispatch() {
    let Some(first) = gic::acknowledge() else {
        SPURIOUS.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let Some(handlers) = handlers() else {
        one(first, None);
        return;
    };
    let mut first = Some(first);
    (handlers.context)(&mut || {
        // All that are pending: an exception for each would save and restore every register again.
        while let Some(taken) = first.take().or_else(gic::acknowledge) {
            one(taken, Some(handlers));
        }
    });
    (handlers.exit)();
}

/// Calls the handler of one interrupt, and ends it.
fn one(taken: gic::Taken, handlers: Option<&Handlers>) {
    let id = taken.id();
    match (id, handlers) {
        (stop::SGI, _) => {
            gic::end(taken);
            stop::this_cpu();
        }
        (SGI_RESCHEDULE, Some(handlers)) => (handlers.reschedule)(),
        (SGI_CALL, Some(handlers)) => (handlers.call)(),
        (id, Some(handlers)) if id == TIMER.load(Ordering::Relaxed) => {
            timer::cancel();
            (handlers.timer)();
        }
        _ => {
            UNKNOWN.fetch_add(1, Ordering::Relaxed);
            crate::warning!("interrupt {id} has no handler");
        }
    }
    gic::end(taken);
}
