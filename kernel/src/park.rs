//! CPUs that have nothing to do: each waits for an interrupt, and calls what it was asked to call.
//!
//! It is what an idle CPU is before there is a scheduler.

use crate::{
    arch::{
        cpu::{self, MAX_CPUS, STACK_SIZE},
        interrupt::Handlers,
        smp::{self, StartError},
        time,
    },
    mm::vmalloc,
    task::{self, Task},
};
use core::{
    fmt,
    sync::atomic::{AtomicPtr, Ordering},
};

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

/// What each CPU runs while it waits; that of the boot CPU is [`task::BOOT_TASK`].
static TASKS: [Task; MAX_CPUS - 1] = [
    Task::new(1, "parked 1"),
    Task::new(2, "parked 2"),
    Task::new(3, "parked 3"),
    Task::new(4, "parked 4"),
    Task::new(5, "parked 5"),
    Task::new(6, "parked 6"),
    Task::new(7, "parked 7"),
];

/// Why there are fewer CPUs than the machine has. Shown, it is the end of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// There is no memory for the stack of a CPU.
    Stack(usize, vmalloc::Error),
    /// A CPU could not be started.
    Start(usize, StartError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stack(cpu, error) => write!(f, "no stack for CPU {cpu}: {error}"),
            Self::Start(cpu, error) => write!(f, "CPU {cpu} could not be started: {error}"),
        }
    }
}

/// Starts every CPU of the machine, and parks it.
///
/// # Errors
/// [`Error`]; the CPUs of lower numbers run.
pub fn start_all() -> Result<(), Error> {
    for cpu in 1..smp::present() {
        // Twice its size apart: so the guard page of the area before it is not next to it alone.
        let stack = vmalloc::vmalloc_aligned(STACK_SIZE, 2 * STACK_SIZE)
            .map_err(|error| Error::Stack(cpu, error))?;
        // SAFETY: the area is new and is never freed. It is mapped: vmalloc's barriers have been
        // issued, no section being open. The page below is the guard of another area, or free.
        unsafe { smp::start(cpu, parked, stack) }.map_err(|error| Error::Start(cpu, error))?;
    }
    Ok(())
}

/// What each CPU is to call, a `fn(usize)`; null for nothing. The CPU takes it back to null when the
/// function has returned.
static CALLS: [AtomicPtr<()>; MAX_CPUS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];

/// The loop of a CPU other than the boot CPU.
extern "C" fn parked(cpu: usize) -> ! {
    let task = &TASKS[cpu - 1];
    cpu::set_current_task(core::ptr::from_ref(task).cast(), task.id);
    cpu::unmask_interrupts();
    loop {
        let masked = cpu::mask_interrupts();
        let call = CALLS[cpu].load(Ordering::Acquire);
        if call.is_null() {
            // Masked, so a call that comes after the look is still pending, and ends the wait.
            cpu::wait_for_interrupt();
        }
        drop(masked);
        if !call.is_null() {
            // SAFETY: `call` below stored a function of this type.
            let call = unsafe { core::mem::transmute::<*mut (), fn(usize)>(call) };
            call(cpu);
            CALLS[cpu].store(core::ptr::null_mut(), Ordering::Release);
        }
    }
}

/// A function that a parked CPU was asked to call.
#[derive(Debug)]
#[must_use = "the function may still run"]
pub struct Call(usize);

/// The CPU has not come back from a function within a few seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hung(pub usize);

/// Has CPU `cpu` call `function` with its number, with interrupts unmasked and not in interrupt
/// context. What was stored before is visible to it, and what it stored to whoever has waited.
///
/// # Errors
/// [`Hung`] if the CPU has not come back from an earlier call, or does not run.
pub fn call(cpu: usize, function: fn(usize)) -> Result<Call, Hung> {
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
    /// [`Hung`] after five seconds.
    pub fn wait(self) -> Result<(), Hung> {
        let limit = time::now() + 5 * time::frequency();
        while !CALLS[self.0].load(Ordering::Acquire).is_null() {
            if time::now() > limit {
                return Err(Hung(self.0));
            }
            core::hint::spin_loop();
        }
        Ok(())
    }
}
