//! Calls on CPUs that have nothing to do: each waits for an interrupt, and calls what it was asked to
//! call, without a task being made for it. Tests of interrupts and CPUs use it, which want to be alone
//! with theirs.

use crate::{
    arch::{
        barrier,
        cpu::{self, MAX_CPUS},
        interrupt::Handlers,
        lock, smp, time,
    },
    task::{self, idle},
};
use core::sync::atomic::{AtomicPtr, Ordering};

/// The handlers of a machine without a scheduler: an interrupt ends the wait, and that is all.
pub static HANDLERS: Handlers = Handlers {
    context: in_interrupt_context,
    timer: || {},
    reschedule: || {},
    call: || {},
    exit: || {},
};

/// Calls `handle` in interrupt context.
pub fn in_interrupt_context(handle: &mut dyn FnMut()) {
    let _context = task::enter_interrupt();
    handle();
}

/// What each CPU is to call, a `fn(usize)`; null for nothing. The CPU takes it back to null when the
/// function has returned.
static CALLS: [AtomicPtr<()>; MAX_CPUS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];

/// What the idle task of a CPU is to do: [`run`], if it was asked to call something.
fn work(cpu: usize) -> Option<fn(usize)> {
    let call = CALLS[cpu].load(Ordering::Acquire);
    (!call.is_null()).then_some(run)
}

/// Calls what the CPU was asked to call.
fn run(cpu: usize) {
    let call = CALLS[cpu].load(Ordering::Acquire);
    lock::acquired(&CALLS[cpu]);
    // What the function is about to use may have been mapped by the CPU that asked, and looked up
    // by this one before: there need not have been an interrupt since.
    barrier::isb();
    // SAFETY: `work` has seen that it is not null, so `call` below stored a function of this type.
    let call = unsafe { core::mem::transmute::<*mut (), fn(usize)>(call) };
    call(cpu);
    lock::releases(&CALLS[cpu]);
    CALLS[cpu].store(core::ptr::null_mut(), Ordering::Release);
}

/// A function that an idle CPU was asked to call.
#[derive(Debug)]
#[must_use = "the function may still run"]
pub struct Call(usize);

/// The CPU has not come back from a function, or does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hung(pub usize);

/// Has CPU `cpu` call `function` with its number, with interrupts unmasked and not in interrupt
/// context. What was stored before is visible to it, and what it stored to whoever has waited.
///
/// # Errors
/// [`Hung`] if the CPU has not come back from an earlier call, or does not run.
pub fn call(cpu: usize, function: fn(usize)) -> Result<Call, Hung> {
    idle::set_work(work);
    lock::releases(&CALLS[cpu]);
    let free = CALLS[cpu].compare_exchange(
        core::ptr::null_mut(),
        function as *mut (),
        Ordering::AcqRel,
        Ordering::Relaxed,
    );
    if free.is_err() || !cpu::others().any(|other| other == cpu) {
        return Err(Hung(cpu));
    }
    smp::send_call(cpu);
    Ok(Call(cpu))
}

impl Call {
    /// Waits until the function has returned.
    ///
    /// # Errors
    /// [`Hung`] after 20 seconds.
    pub fn wait(self) -> Result<(), Hung> {
        let limit = time::now() + 20 * time::frequency();
        while !CALLS[self.0].load(Ordering::Acquire).is_null() {
            if time::now() > limit {
                return Err(Hung(self.0));
            }
            core::hint::spin_loop();
        }
        lock::acquired(&CALLS[self.0]);
        // The other way round: what it mapped.
        barrier::isb();
        Ok(())
    }
}
