//! Stacks of tasks, and so the way to start one: `task/` is given its memory, and this is who gives
//! it.
//!
//! A stack is an area of vmalloc. The page behind it is its guard page; the page below, which a
//! stack that overflows runs into, is the guard page of the area before it, or free.

use super::vmalloc;
use crate::{
    arch::{
        cpu::STACK_SIZE,
        smp::{self, StartError},
    },
    task::{
        idle,
        life::{self, Entry, Handle},
        schedule::{self, Offline},
    },
};
use core::fmt;
use spin::Once;
use vmsa::VirtAddr;

/// Why there is no new task, or no new CPU. Shown, it is the end of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no memory for its stack.
    Stack(vmalloc::Error),
    /// It is to run on a CPU that takes no tasks.
    Offline(usize),
    /// The CPU of this number could not be started.
    Start(usize, StartError),
}

impl From<vmalloc::Error> for Error {
    fn from(error: vmalloc::Error) -> Self {
        Self::Stack(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stack(error) => write!(f, "no stack: {error}"),
            Self::Offline(cpu) => write!(f, "{}", Offline(*cpu)),
            Self::Start(cpu, error) => write!(f, "CPU {cpu} could not be started: {error}"),
        }
    }
}

/// A new stack, by its lowest address.
fn allocate() -> Result<VirtAddr, vmalloc::Error> {
    vmalloc::vmalloc_aligned(STACK_SIZE, 2 * STACK_SIZE)
}

/// Takes back a stack that [`allocate`] made.
fn free(bottom: VirtAddr) {
    // The areas are this file's own; what is not one has been reported.
    let _ = vmalloc::vfree(bottom);
}

/// Starts a task that runs `entry(argument)`, on whichever CPU there is.
///
/// # Errors
/// [`Error::Stack`].
pub fn spawn(name: &'static str, entry: Entry, argument: usize) -> Result<Handle, Error> {
    start(name, entry, argument, None)
}

/// As [`spawn`], on one CPU alone.
///
/// # Errors
/// [`Error::Stack`], [`Error::Offline`].
pub fn spawn_on(
    cpu: usize,
    name: &'static str,
    entry: Entry,
    argument: usize,
) -> Result<Handle, Error> {
    start(name, entry, argument, Some(cpu))
}

fn start(
    name: &'static str,
    entry: Entry,
    argument: usize,
    pinned: Option<usize>,
) -> Result<Handle, Error> {
    boot_cpu_can_idle()?;
    let bottom = allocate()?;
    // SAFETY: the area is new and nobody else's; its pages are mapped, and the page below it is not:
    // every area ends in a guard page.
    unsafe { life::spawn(bottom, name, entry, argument, pinned) }.map_err(|Offline(cpu)| {
        free(bottom);
        Error::Offline(cpu)
    })
}

/// Gives the boot CPU something to run when there is nothing to run, and so lets it take tasks.
fn boot_cpu_can_idle() -> Result<(), vmalloc::Error> {
    static DONE: Once<()> = Once::new();
    let begin = || {
        life::set_reaper(free);
        let bottom = allocate()?;
        // SAFETY: as in `start`; the area is never freed, and this is done once.
        unsafe { idle::begin(bottom) };
        Ok(())
    };
    DONE.try_call_once(begin).copied()
}

/// Starts the task that frees what is freed in interrupt context. It sleeps until there is something.
///
/// # Errors
/// [`Error::Stack`].
pub fn start_workers() -> Result<(), Error> {
    // It never ends, so nobody waits for it.
    spawn("vfree", vmalloc::free_deferred, 0)?.put_in_background();
    Ok(())
}

/// Has the boot CPU take tasks, and starts the others, which do so from then on.
///
/// # Errors
/// [`Error`]; the CPUs of lower numbers run.
pub fn start_cpus() -> Result<(), Error> {
    boot_cpu_can_idle()?;
    for cpu in 1..smp::present() {
        let bottom = allocate()?;
        // SAFETY: as in `start`; the area is never freed, and this is done once for each CPU.
        unsafe { idle::prepare(cpu, bottom) };
        // SAFETY: as above, and the tables are the kernel's own.
        unsafe { smp::start(cpu, idle::enter, bottom) }
            .map_err(|error| Error::Start(cpu, error))?;
        // It is set up; a few instructions on it takes tasks.
        while !schedule::is_online(cpu) {
            core::hint::spin_loop();
        }
    }
    Ok(())
}
