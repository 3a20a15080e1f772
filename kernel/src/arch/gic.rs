//! The interrupt controller, version 2 or 3, by the crate `arm-gic`: which interrupts a CPU takes,
//! taking and ending one, sending one to another CPU.
//!
//! A GICv3 has its CPU interface in system registers; that of a GICv2 is memory, as the distributor
//! is, and the crate's driver for it is one value: CPUs take turns with it.

use super::cpu::{self, MAX_CPUS};
use super::lock::Mutex;
use arm_gic::gicv2::{self, GicV2};
use arm_gic::gicv3::{self, GicCpuInterface, GicV3, SgiTarget, SgiTargetGroup};
use arm_gic::{IntId, InterruptGroup, UniqueMmioPointer};
use core::arch::asm;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use spin::Once;
use vmsa::VirtAddr;

/// Where the controller is, as the device tree says, and mapped as Device memory.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// 2 or 3.
    pub version: u8,
    /// The distributor.
    pub distributor: VirtAddr,
    /// The CPU interface (version 2), or the first CPU's redistributor (version 3).
    pub per_cpu: VirtAddr,
    /// How many CPUs the machine has, and so redistributors.
    pub cpus: usize,
}

/// Why the controller is of no use. Shown, it is the end of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Version 3 without system registers.
    NoSystemRegisters,
    /// The redistributors are not what the driver knows.
    Redistributors(gicv3::GicError),
    /// There is no redistributor for this CPU.
    NoRedistributor(u64),
    /// The CPU can't be the target of an interrupt: the driver names 16 CPUs of a cluster.
    Affinity(u64),
    /// An interrupt can't be turned on.
    CannotEnable(u32),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSystemRegisters => f.write_str("a GICv3 without system registers"),
            Self::Redistributors(error) => write!(f, "the redistributors of the GICv3: {error}"),
            Self::NoRedistributor(cpu) => write!(f, "no redistributor for the CPU {cpu:#x}"),
            Self::Affinity(cpu) => write!(f, "no interrupt can be sent to the CPU {cpu:#x}"),
            Self::CannotEnable(id) => write!(f, "interrupt {id} can't be turned on"),
        }
    }
}

/// The driver.
enum Driver {
    V2(GicV2<'static>),
    V3(GicV3<'static>),
}

static DRIVER: Mutex<Option<Driver>> = Mutex::new(None);
static PLACE: Once<Place> = Once::new();

/// How each CPU is named as a target: a bit of the distributor's target mask (version 2), or the
/// affinity (version 3).
static TARGETS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// Which redistributor is each CPU's (version 3): they are in no order that anyone promises.
static REDISTRIBUTORS: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];

/// Everything is of one group, the only one that EL1 is to have: group 1 of version 3, and group 0
/// of version 2, which has no other without the Security Extensions. (With them the non-secure view
/// of the same registers is that of group 1.)
const GROUP_V2: InterruptGroup = InterruptGroup::Group0;
const GROUP_V3: InterruptGroup = InterruptGroup::Group1;

/// Sets the distributor up. Each CPU then calls [`init_cpu`].
///
/// # Errors
/// [`Error`].
///
/// # Safety
/// The registers are where `place` says, mapped for good, and nobody else uses them.
pub unsafe fn init(place: Place) -> Result<(), Error> {
    let driver = if place.version == 2 {
        // SAFETY: the caller's promise.
        let mut gic =
            unsafe { GicV2::new(place.distributor.as_mut_ptr(), place.per_cpu.as_mut_ptr()) };
        gic.enable_all_interrupts(false);
        Driver::V2(gic)
    } else {
        if !cpu::features().gic_system_registers {
            return Err(Error::NoSystemRegisters);
        }
        let pointer = "device mappings are in the upper half";
        let distributor = NonNull::new(place.distributor.as_mut_ptr()).expect(pointer);
        let redistributors = NonNull::new(place.per_cpu.as_mut_ptr()).expect(pointer);
        // SAFETY: the caller's promise.
        let gic = unsafe {
            GicV3::new(
                UniqueMmioPointer::new(distributor),
                redistributors,
                place.cpus,
            )
        };
        let mut gic = gic.map_err(Error::Redistributors)?;
        gic.distributor().configure_default_settings();
        Driver::V3(gic)
    };
    PLACE.call_once(|| place);
    let _masked = cpu::mask_interrupts();
    *DRIVER.lock() = Some(driver);
    Ok(())
}

/// Has this CPU take the interrupts `ids`, SGIs and PPIs, and no other.
///
/// # Errors
/// [`Error`].
///
/// # Panics
/// Before [`init`].
pub fn init_cpu(ids: &[u32]) -> Result<(), Error> {
    let _masked = cpu::mask_interrupts();
    let mut driver = DRIVER.lock();
    let target = match driver.as_mut().expect("the distributor is set up") {
        Driver::V2(gic) => init_cpu_v2(gic, ids)?,
        Driver::V3(gic) => init_cpu_v3(gic, ids)?,
    };
    TARGETS[cpu::id() as usize].store(target, Relaxed);
    // SAFETY: a barrier: what was written to system registers holds from here on.
    unsafe { asm!("isb", options(nostack, preserves_flags)) };
    Ok(())
}

/// Has this CPU take the SGI or PPI `id`, or take it no more.
///
/// # Errors
/// [`Error::CannotEnable`].
///
/// # Panics
/// Before [`init_cpu`].
pub fn enable(id: u32, on: bool) -> Result<(), Error> {
    let _masked = cpu::mask_interrupts();
    match DRIVER.lock().as_mut().expect("the distributor is set up") {
        Driver::V2(gic) => enable_v2(gic, id, on),
        Driver::V3(gic) => enable_v3(gic, id, on),
    }
}

fn enable_v2(gic: &mut GicV2<'_>, id: u32, on: bool) -> Result<(), Error> {
    gic.enable_interrupt(int_id(id), on)
        .map_err(|_| Error::CannotEnable(id))
}

fn enable_v3(gic: &mut GicV3<'_>, id: u32, on: bool) -> Result<(), Error> {
    let mine = REDISTRIBUTORS[cpu::id() as usize].load(Relaxed);
    gic.enable_interrupt(int_id(id), Some(mine), on)
        .and_then(|()| gic.gicr_barrier(mine))
        .map_err(|_| Error::CannotEnable(id))
}

fn init_cpu_v2(gic: &mut GicV2<'_>, ids: &[u32]) -> Result<u64, Error> {
    // Of the registers that this writes, those of the CPU interface and of the first 32 interrupts
    // are each CPU's own; the others are written with what they hold.
    gic.setup();
    for id in ids {
        enable_v2(gic, *id, true)?;
    }
    // This CPU's bit, by reading the target of an interrupt of its own; 0 where there is one CPU.
    let place = PLACE.get().expect("the distributor is set up");
    let distributor = place.distributor.as_mut_ptr::<gicv2::registers::Gicd>();
    // SAFETY: `init`'s caller promised that the registers are there. This one is read-only, and the
    // driver, which is locked here, has no word for it.
    let own = unsafe { (&raw const (*distributor).itargetsr[0]).read_volatile() };
    Ok(u64::from(own & 0xff).max(1))
}

fn init_cpu_v3(gic: &mut GicV3<'_>, ids: &[u32]) -> Result<u64, Error> {
    /// Aff0 of a target is a bit of a list of 16 (ICC_SGI1R_EL1, without its range selector).
    const MOST_AFF0: u64 = 15;
    let me = cpu::affinity();
    if me & 0xff > MOST_AFF0 {
        return Err(Error::Affinity(me));
    }
    let cpus = PLACE.get().map_or(0, |place| place.cpus);
    let index = (0..cpus)
        .find(|index| gic.gicr_typer(*index).is_ok_and(|it| it.core_mpidr() == me))
        .ok_or(Error::NoRedistributor(me))?;
    gic.init_cpu(index);
    gic.redistributor(index)
        .map_err(Error::Redistributors)?
        .configure_default_settings();
    REDISTRIBUTORS[cpu::id() as usize].store(index, Relaxed);
    for id in ids {
        enable_v3(gic, *id, true)?;
    }
    // Lower than every priority in use, which is one: no interrupt preempts another.
    GicCpuInterface::set_priority_mask(0xff);
    GicCpuInterface::enable_group1(true);
    Ok(me)
}

/// The number of an interrupt, as the driver has it.
fn int_id(id: u32) -> IntId {
    IntId::try_from(id).expect("the number of an SGI or a PPI")
}

/// An interrupt that this CPU has taken and not ended.
#[derive(Debug)]
#[must_use = "an interrupt that is not ended keeps all others away"]
pub struct Taken(IntId);

impl Taken {
    /// Its number: SGIs from 0, PPIs from 16, SPIs from 32.
    #[must_use]
    pub fn id(&self) -> u32 {
        /// `GICC_IAR` has the sender of an SGI above the number; ending it needs both.
        const NUMBER: u32 = 0x3ff;
        if is_v2() {
            self.0.raw_value() & NUMBER
        } else {
            self.0.raw_value()
        }
    }
}

fn is_v2() -> bool {
    PLACE.get().is_some_and(|place| place.version == 2)
}

/// Uses the driver of a GICv2. Interrupts are masked meanwhile: no handler waits for its own CPU.
fn with_v2<R>(action: impl FnOnce(&mut GicV2<'static>) -> R) -> Option<R> {
    let _masked = cpu::mask_interrupts();
    match DRIVER.lock().as_mut() {
        Some(Driver::V2(gic)) => Some(action(gic)),
        _ => None,
    }
}

/// Takes the pending interrupt of this CPU; `None` if there is none (any more).
pub fn acknowledge() -> Option<Taken> {
    let taken = if is_v2() {
        with_v2(|gic| gic.get_and_acknowledge_interrupt(GROUP_V2)).flatten()
    } else {
        GicCpuInterface::get_and_acknowledge_interrupt(GROUP_V3)
    };
    // SAFETY: a barrier. The controller has taken its signal to this CPU back before interrupts
    // could be unmasked: otherwise the CPU might take the same one again, and find nothing
    // (IHI 0069, 12.1.6). It is about no table, and not counted.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
    taken.map(Taken)
}

/// Ends an interrupt: others may come.
pub fn end(taken: Taken) {
    if is_v2() {
        with_v2(|gic| gic.end_interrupt(taken.0, GROUP_V2));
    } else {
        GicCpuInterface::end_interrupt(taken.0, GROUP_V3);
        // SAFETY: a barrier: the priority drops before what follows. Not counted.
        unsafe { asm!("isb", options(nostack, preserves_flags)) };
    }
}

/// Sends SGI `sgi` to CPU `cpu`, which may be this one. What was stored before is visible to that CPU
/// when it takes the interrupt.
///
/// A CPU that has never called [`init_cpu`] is sent nothing.
pub fn send(cpu: usize, sgi: u32) {
    let Some(target) = target(cpu) else { return };
    // SAFETY: a barrier. A store to Normal memory and one to the controller (or to its system
    // register) are not ordered by themselves. Not counted: it is about no table.
    unsafe { asm!("dsb ishst", options(nostack, preserves_flags)) };
    if is_v2() {
        with_v2(|gic| gic.send_sgi(IntId::sgi(sgi), target_v2(target)));
    } else {
        send_v3(target, sgi);
    }
}

/// As [`send`], for the end of the machine: takes no lock, which the CPU that ends it may hold.
pub fn send_at_the_end(cpu: usize, sgi: u32) {
    let Some(target) = target(cpu) else { return };
    let place = PLACE.get().filter(|place| place.version == 2);
    match place {
        Some(place) => {
            // SAFETY: the registers are there. The other driver exists, against the crate's rule, but
            // sending is one store to a register that can't be read.
            let mut gic =
                unsafe { GicV2::new(place.distributor.as_mut_ptr(), place.per_cpu.as_mut_ptr()) };
            gic.send_sgi(IntId::sgi(sgi), target_v2(target));
        }
        None => send_v3(target, sgi),
    }
}

fn target(cpu: usize) -> Option<u64> {
    let online = cpu::per_cpu(cpu)?.is_online() && PLACE.is_completed();
    online.then(|| TARGETS[cpu].load(Relaxed))
}

fn target_v2(mask: u64) -> gicv2::SgiTarget {
    gicv2::SgiTarget::List {
        target_list_filter: gicv2::SgiTargetListFilter::CPUTargetList,
        target_list: mask as u16,
    }
}

fn send_v3(affinity: u64, sgi: u32) {
    let field = |n: u32| (affinity >> (8 * n)) as u8;
    let target = SgiTarget::List {
        affinity3: field(4),
        affinity2: field(2),
        affinity1: field(1),
        target_list: 1 << field(0),
    };
    let sent = GicCpuInterface::send_sgi(IntId::sgi(sgi), target, SgiTargetGroup::CurrentGroup1);
    sent.expect("the number is that of an SGI");
    // SAFETY: a barrier: the interrupt is on its way before what follows. Not counted.
    unsafe { asm!("isb", options(nostack, preserves_flags)) };
}
