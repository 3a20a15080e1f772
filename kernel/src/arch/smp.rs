//! The other CPUs: turning them on, and interrupting them.

use super::device_tree::{Conduit, DeviceTree};
use super::psci::{self, Error as PsciError};
use super::{cpu, exception, gic, interrupt, lock, time};
use crate::event;
use aarch64_cpu::registers::{Readable, TTBR1_EL1};
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use cpu::{MAX_CPUS, STACK_SIZE};
use spin::Once;
use vmsa::{PhysAddr, VirtAddr};

pub use super::stop::stop_others;

/// What the device tree says of the CPUs.
struct Machine {
    /// Affinities by number: the boot CPU's first.
    cpus: [u64; MAX_CPUS],
    count: usize,
    psci: Option<Conduit>,
}

static MACHINE: Once<Machine> = Once::new();

/// Numbers the CPUs of the device tree: the boot CPU, which calls this, is 0; the others follow in the
/// order of the tree.
///
/// # Errors
/// [`StartError::Unlisted`].
pub fn init(tree: &DeviceTree) -> Result<(), StartError> {
    let me = cpu::affinity();
    if !tree.cpus().contains(&me) {
        return Err(StartError::Unlisted(me));
    }
    let mut cpus = [me; MAX_CPUS];
    let others = tree.cpus().iter().filter(|cpu| **cpu != me);
    cpus[1..]
        .iter_mut()
        .zip(others)
        .for_each(|(slot, cpu)| *slot = *cpu);
    MACHINE.call_once(|| Machine {
        cpus,
        count: tree.cpus().len(),
        psci: tree.psci,
    });
    Ok(())
}

/// How many CPUs the machine has, started or not; 1 before [`init`].
#[must_use]
pub fn present() -> usize {
    MACHINE.get().map_or(1, |machine| machine.count)
}

/// Seconds for a CPU to come up. An emulated one is a thread of a host that may have more to do.
pub const PATIENCE: u64 = 20;

/// Why a CPU was not started. Shown, it is the end of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartError {
    /// The device tree does not list the CPU that boots.
    Unlisted(u64),
    /// There is no CPU of that number: how many there are.
    NoSuchCpu(usize),
    /// It has been started before, or is the boot CPU.
    Started,
    /// The device tree names no PSCI, by which it could be turned on.
    NoPsci,
    /// PSCI refused.
    Psci(PsciError),
    /// PSCI turned it on, but nothing was heard of it for [`PATIENCE`] seconds.
    Silent,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlisted(me) => write!(f, "the device tree does not list the boot CPU, {me:#x}"),
            Self::NoSuchCpu(count) => write!(f, "no such CPU; known: 0 to {}", count - 1),
            Self::Started => f.write_str("it has been started already"),
            Self::NoPsci => f.write_str("the device tree names no PSCI"),
            Self::Psci(error) => write!(f, "PSCI CPU_ON: {error}"),
            Self::Silent => write!(f, "turned on, but not heard of for {PATIENCE} seconds"),
        }
    }
}

/// Where each CPU goes when it is set up, an `extern "C" fn(usize) -> !`.
static ENTRIES: [AtomicPtr<()>; MAX_CPUS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];
/// The lowest address of the stack that each CPU starts on.
static STACKS: [AtomicPtr<u8>; MAX_CPUS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];
/// Whether somebody is starting, or has started, the CPU.
static STARTED: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];

/// Turns CPU `cpu` on, and waits until it is online. There it calls `entry` with its number, on the
/// stack of [`STACK_SIZE`] bytes from `stack` on, with the kernel's tables and vectors, IRQ masked and
/// no current task: until `entry` has set one, nothing may ask for it.
///
/// # Errors
/// [`StartError`].
///
/// # Safety
/// - `stack` is a multiple of twice [`STACK_SIZE`], the pages are mapped in the kernel's tables, and
///   the CPU's alone for good; the page below is not mapped;
/// - the tables of the upper half that this CPU uses stay where they are.
pub unsafe fn start(
    cpu: usize,
    entry: extern "C" fn(usize) -> !,
    stack: VirtAddr,
) -> Result<(), StartError> {
    /// `TTBR1_EL1.BADDR`, without ASID and CnP.
    const BADDR: u64 = 0x0000_ffff_ffff_f000;
    let known = present();
    let machine = MACHINE.get().filter(|_| cpu < known);
    let machine = machine.ok_or(StartError::NoSuchCpu(known))?;
    let conduit = machine.psci.ok_or(StartError::NoPsci)?;
    if cpu == 0 || STARTED[cpu].swap(true, Ordering::Relaxed) {
        return Err(StartError::Started);
    }
    ENTRIES[cpu].store(entry as *mut (), Ordering::Relaxed);
    STACKS[cpu].store(stack.as_mut_ptr(), Ordering::Relaxed);
    let root = PhysAddr::literal(TTBR1_EL1.get() & BADDR);
    // SAFETY: the root is the one in use, and the caller vouches for the stack. PSCI refuses to turn
    // on what is on.
    let start = unsafe { boot::prepare_secondary(cpu, root, stack + STACK_SIZE, secondary) };
    // The one that `boot` has just issued.
    event!(Barrier(event::Barrier::Dsb(
        event::Domain::InnerShareable,
        event::Orders::All,
    )));
    lock::releases(&ENTRIES[cpu]);
    psci::cpu_on(
        conduit,
        machine.cpus[cpu],
        start.entry.as_u64(),
        start.context,
    )
    .map_err(|error| {
        STARTED[cpu].store(false, Ordering::Relaxed);
        StartError::Psci(error)
    })?;
    let limit = time::now() + PATIENCE * time::frequency();
    while !cpu::per_cpu(cpu).is_some_and(cpu::PerCpu::is_online) {
        if time::now() > limit {
            return Err(StartError::Silent);
        }
        core::hint::spin_loop();
    }
    cpu::acquired_online(cpu);
    Ok(())
}

/// Where boot hands another CPU over: it is on its stack, and all else is still boot's.
extern "C" fn secondary(cpu: usize) -> ! {
    // First what makes anything that goes wrong from here on show itself.
    cpu::init(cpu, VirtAddr::from_ptr(STACKS[cpu].load(Ordering::Relaxed)));
    cpu::set_current_task(core::ptr::null(), 0);
    event!(Online);
    lock::acquired(&ENTRIES[cpu]);
    exception::init();
    // The one that this issues. What went before it used the stack alone, which the CPU could not
    // look up before it was turned on.
    event!(Barrier(event::Barrier::Isb));
    cpu::unmask_serror();
    if let Err(error) = interrupt::init_cpu() {
        panic!("CPU {cpu}: {error}");
    }
    cpu::set_online();
    let entry = ENTRIES[cpu].load(Ordering::Relaxed);
    // SAFETY: `start` stored a function of this type before it had this CPU turned on.
    let entry = unsafe { core::mem::transmute::<*mut (), extern "C" fn(usize) -> !>(entry) };
    entry(cpu)
}

/// Has CPU `cpu` look whether it should run another task: its handler `reschedule` is called. What was
/// stored before is visible to it then. Nothing happens if the CPU is not online.
pub fn send_reschedule(cpu: usize) {
    gic::send(cpu, interrupt::SGI_RESCHEDULE);
}

/// As [`send_reschedule`], for the handler `call`.
pub fn send_call(cpu: usize) {
    gic::send(cpu, interrupt::SGI_CALL);
}
