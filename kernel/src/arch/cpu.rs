//! This CPU: what it can do, its own block of data, its interrupt masks, the current task; and the
//! blocks of the others.

use super::{image, lock};
use crate::trace::{self, Counters};
use aarch64_cpu::registers::{
    CONTEXTIDR_EL1, DAIF, ID_AA64ISAR0_EL1, ID_AA64MMFR0_EL1, ID_AA64MMFR1_EL1, ID_AA64MMFR2_EL1,
    ID_AA64PFR0_EL1, MPIDR_EL1, ReadWriteable, Readable, SCTLR_EL1, SP_EL0, TPIDR_EL1, Writeable,
};
pub use boot::MAX_CPUS;
use core::arch::asm;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use vmsa::{PageRange, VirtAddr};

/// The size of every kernel stack in bytes; a stack is aligned to twice that, with an unmapped
/// page below it. `vectors.s` depends on the first, `linker.ld` makes the boot stack so.
pub const STACK_SIZE: u64 = 32 << 10;
/// The size and alignment of an emergency stack in bytes; `linker.ld` makes one for each CPU.
pub const EMERGENCY_STACK_SIZE: u64 = 16 << 10;

/// What the CPU's identification registers promise, as far as Lull asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// FEAT_TLBIRANGE: TLBI by range (`ID_AA64ISAR0_EL1.TLB` = 2).
    pub tlbi_range: bool,
    /// FEAT_LSE: atomic instructions (`ID_AA64ISAR0_EL1.Atomic` >= 2).
    pub lse: bool,
    /// FEAT_TTL: TLBI takes a level hint (`ID_AA64MMFR2_EL1.TTL` >= 1).
    pub ttl: bool,
    /// FEAT_BBM: the level, 0 to 2 (`ID_AA64MMFR2_EL1.BBM`).
    pub bbm: u8,
    /// FEAT_PAN (`ID_AA64MMFR1_EL1.PAN` >= 1).
    pub pan: bool,
    /// `ID_AA64MMFR1_EL1.ETS`; FEAT_ETS2 means 2 or more. 1 promises nothing (it was the
    /// withdrawn FEAT_ETS).
    pub ets: u8,
    /// Bits of an ASID: 8 or 16 (`ID_AA64MMFR0_EL1.ASIDBits`).
    pub asid_bits: u8,
    /// `ID_AA64MMFR0_EL1.PARange`, encoded as in `TCR_EL1.IPS`.
    pub pa_range: u8,
    /// The GIC CPU interface has system registers (`ID_AA64PFR0_EL1.GIC` >= 1): GICv3 or later.
    pub gic_system_registers: bool,
}

impl Features {
    /// Before anything was read.
    const NONE: Self = Self {
        tlbi_range: false,
        lse: false,
        ttl: false,
        bbm: 0,
        pan: false,
        ets: 0,
        asid_bits: 8,
        pa_range: 0,
        gic_system_registers: false,
    };

    /// Physical address bits by [`pa_range`](Self::pa_range); codes of the future count as 52.
    #[must_use]
    pub fn pa_bits(&self) -> u8 {
        *[32, 36, 40, 42, 44, 48, 52]
            .get(usize::from(self.pa_range))
            .unwrap_or(&52)
    }

    /// FEAT_ETS2: the translations of a CPU's own data accesses see the entries that it stored before
    /// them, without a barrier (`1-I2V-STRx-none`: Forbidden with it). It says nothing of
    /// instruction fetch.
    #[must_use]
    pub fn ets2(&self) -> bool {
        self.ets >= 2
    }

    /// Reads the registers.
    fn read() -> Self {
        // Identification fields are four bits wide.
        let field = |register: u64, shift: u32| (register >> shift & 0xf) as u8;
        let isar0 = ID_AA64ISAR0_EL1.get();
        let mmfr0 = ID_AA64MMFR0_EL1.get();
        let mmfr1 = ID_AA64MMFR1_EL1.get();
        let mmfr2 = ID_AA64MMFR2_EL1.get();
        Self {
            tlbi_range: field(isar0, 56) >= 2,
            lse: field(isar0, 20) >= 2,
            ttl: field(mmfr2, 48) >= 1,
            bbm: field(mmfr2, 52),
            pan: field(mmfr1, 20) >= 1,
            ets: field(mmfr1, 36),
            asid_bits: if field(mmfr0, 4) == 2 { 16 } else { 8 },
            pa_range: field(mmfr0, 0),
            gic_system_registers: field(ID_AA64PFR0_EL1.get(), 24) >= 1,
        }
    }
}

/// A register that holds an address, as one.
const fn address(register: u64) -> usize {
    register as usize
}

/// What a CPU can do, read from the registers of the first.
struct Read(UnsafeCell<Features>);

// SAFETY: it is written in `init_boot_cpu` alone, when nobody else is there.
unsafe impl Sync for Read {}

static FEATURES: Read = Read(UnsafeCell::new(Features::NONE));

/// What this CPU can do; nothing before [`init_boot_cpu`]. All CPUs of a `virt` board are alike.
#[inline(always)]
pub fn features() -> &'static Features {
    // SAFETY: nobody writes it any more. Every TLB flush asks: that it is there is not asked again.
    unsafe { &*FEATURES.0.get() }
}

/// What belongs to one CPU. `vectors.s` reads it by offset, before it has a stack.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct PerCpu {
    /// The lowest address of the stack that SP is to be in: a multiple of [`STACK_SIZE`]. A switch
    /// of stacks stores it, with interrupts masked, right before it changes SP.
    pub(super) stack_bottom: AtomicU64,
    /// The lowest address of this CPU's emergency stack.
    pub(super) emergency_bottom: AtomicU64,
    /// Three registers, while exception entry has no stack to save them on.
    pub(super) entry_scratch: [AtomicU64; 3],
    /// A function that was called because of a fault has not come back: a fault of its own
    /// calls no other.
    pub(super) in_fault_hook: AtomicBool,
    /// It takes interrupts, and tasks if there is a scheduler.
    online: AtomicBool,
    /// It has been told to stop for good, and has stopped.
    pub(super) stopped: AtomicBool,
    /// The CPU's number.
    id: AtomicU32,
    /// Where the page allocator keeps this CPU's pages: whatever that is to the floor above.
    page_list: AtomicPtr<()>,
    /// What this CPU has counted, on a line of its own: others read it.
    pub(super) counters: Counters,
}

/// The blocks of all CPUs, by number: the boot CPU is 0, the others follow in the order of the
/// device tree.
static CPUS: [PerCpu; MAX_CPUS] = [const {
    PerCpu {
        stack_bottom: AtomicU64::new(0),
        emergency_bottom: AtomicU64::new(0),
        entry_scratch: [const { AtomicU64::new(0) }; 3],
        in_fault_hook: AtomicBool::new(false),
        online: AtomicBool::new(false),
        stopped: AtomicBool::new(false),
        id: AtomicU32::new(0),
        page_list: AtomicPtr::new(core::ptr::null_mut()),
        counters: Counters::new(),
    }
}; MAX_CPUS];

/// How many CPUs are online.
static ONLINE: AtomicUsize = AtomicUsize::new(0);

/// Installs the boot CPU's block; before it, [`this_cpu`] must not be called and no exception
/// taken with the kernel's vectors.
pub fn init_boot_cpu() {
    // SAFETY: the first thing that the kernel does, on the only CPU.
    unsafe { *FEATURES.0.get() = Features::read() };
    init(0, image::boot_stack().start());
    set_online();
}

/// Installs the block of this CPU, whose number is `cpu` and which is on the stack whose lowest
/// address is `stack_bottom`.
pub(super) fn init(cpu: usize, stack_bottom: VirtAddr) {
    let block = &CPUS[cpu];
    let emergency = image::emergency_stacks().start() + cpu as u64 * EMERGENCY_STACK_SIZE;
    block.id.store(cpu as u32, Relaxed);
    block.stack_bottom.store(stack_bottom.as_u64(), Relaxed);
    block.emergency_bottom.store(emergency.as_u64(), Relaxed);
    trace::register(cpu, &block.counters);
    TPIDR_EL1.set(core::ptr::from_ref(block).expose_provenance() as u64);
}

/// Says that this CPU is set up. Whoever sees it online sees what it did before, too.
pub(super) fn set_online() {
    let online = &this_cpu().online;
    lock::releases(online);
    online.store(true, Release);
    ONLINE.fetch_add(1, Release);
}

/// How many CPUs are online; those are the numbers below it where all were started in order.
#[must_use]
pub fn count() -> usize {
    ONLINE.load(Acquire)
}

/// The caller has waited until CPU `cpu` was online.
pub(super) fn acquired_online(cpu: usize) {
    lock::acquired(&CPUS[cpu].online);
}

/// The block of the CPU with the number `cpu`, online or not; `None` from [`MAX_CPUS`] on.
#[must_use]
pub fn per_cpu(cpu: usize) -> Option<&'static PerCpu> {
    CPUS.get(cpu)
}

/// The numbers of the CPUs that are online, but for this one.
pub fn others() -> impl Iterator<Item = usize> {
    let me = id() as usize;
    (0..MAX_CPUS).filter(move |cpu| *cpu != me && CPUS[*cpu].is_online())
}

/// This CPU's affinity, as the device tree and PSCI name a CPU (`MPIDR_EL1` without its flags).
#[must_use]
pub fn affinity() -> u64 {
    /// Aff3, Aff2, Aff1, Aff0 (DDI 0487, D24.2.120).
    const FIELDS: u64 = 0xff_00ff_ffff;
    MPIDR_EL1.get() & FIELDS
}

/// The block of the CPU that this runs on. A task that can be preempted may find itself on
/// another CPU by the time it looks at it.
#[must_use]
pub fn this_cpu() -> &'static PerCpu {
    // SAFETY: TPIDR_EL1 is written once for each CPU, with the address of a static `PerCpu`,
    // before anything that gets here. All of its fields are atomic.
    unsafe { &*core::ptr::with_exposed_provenance(address(TPIDR_EL1.get())) }
}

impl PerCpu {
    /// The CPU's number, from 0.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id.load(Relaxed)
    }

    /// Whether the CPU takes interrupts.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.online.load(Acquire)
    }

    /// Whether the CPU has stopped for good.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.stopped.load(Acquire)
    }

    /// The stack that SP is to be in: what exception entry compares it with.
    #[must_use]
    pub fn stack(&self) -> PageRange {
        page_range(self.stack_bottom.load(Relaxed), STACK_SIZE)
    }

    /// This CPU's emergency stack.
    #[must_use]
    pub fn emergency_stack(&self) -> PageRange {
        page_range(self.emergency_bottom.load(Relaxed), EMERGENCY_STACK_SIZE)
    }
}

/// `len` bytes from `start`, both known to be good.
fn page_range(start: u64, len: u64) -> PageRange {
    VirtAddr::new(start)
        .and_then(|start| PageRange::covering(start, len))
        .expect("set to the bottom of a mapped stack")
}

/// The number of this CPU, from 0.
#[must_use]
pub fn id() -> u32 {
    this_cpu().id()
}

/// What was last given to [`set_page_list`] for the CPU that this runs on; null before. It is here so
/// that finding it is one load.
#[inline(always)]
#[must_use]
pub fn page_list() -> *const () {
    this_cpu().page_list.load(Relaxed)
}

/// Says where the page allocator keeps the pages of the CPU with the number `cpu`, online or not.
pub fn set_page_list(cpu: usize, list: *const ()) {
    if let Some(block) = per_cpu(cpu) {
        block.page_list.store(list.cast_mut(), Relaxed);
    }
}

/// The current task's address, whatever a task is: null before [`set_current_task`].
///
/// It is kept in SP_EL0, which EL1 has no other use for, because one instruction reads it: there
/// is no moment in which a task could be moved between finding its CPU and finding itself.
#[inline]
#[must_use]
pub fn current_task_ptr() -> *const () {
    core::ptr::with_exposed_provenance(address(SP_EL0.get()))
}

/// The current task's number, kept in CONTEXTIDR_EL1 for the same reason. Debuggers and trace
/// hardware know the register as the context's name (DDI 0487 D24.2.27).
#[inline]
#[must_use]
pub fn current_task_id() -> u32 {
    CONTEXTIDR_EL1.get() as u32
}

/// Makes the task at `task`, whose number is `id`, the current one of this CPU. Whoever reads the
/// address back has to know that the task is still alive; that is between those who call the two.
pub fn set_current_task(task: *const (), id: u32) {
    SP_EL0.set(task.expose_provenance() as u64);
    CONTEXTIDR_EL1.set(u64::from(id));
}

/// Interrupts are masked while this lives; then PSTATE.{I, F} are as they were.
///
/// Not `Send`: it gives back the mask of the CPU that it was taken on. Guards are to be dropped
/// in the reverse order.
#[derive(Debug)]
#[must_use = "interrupts are unmasked when the guard is dropped"]
pub struct InterruptsMasked {
    saved: u64,
    not_send: PhantomData<*const ()>,
}

/// Masks IRQ and FIQ on this CPU.
#[inline(always)]
pub fn mask_interrupts() -> InterruptsMasked {
    let saved = DAIF.get();
    // SAFETY: masking can't break anything; no `nomem`, so that accesses stay inside.
    unsafe { asm!("msr daifset, #0b0011", options(nostack, preserves_flags)) };
    InterruptsMasked {
        saved,
        not_send: PhantomData,
    }
}

impl Drop for InterruptsMasked {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the value was read from DAIF on this CPU; no `nomem`, as above.
        unsafe { asm!("msr daif, {}", in(reg) self.saved, options(nostack, preserves_flags)) };
    }
}

/// Lets IRQ be taken on this CPU. FIQ stays masked: nothing is routed there, and one would be fatal.
pub fn unmask_interrupts() {
    // SAFETY: the vectors are installed, and what may be interrupted is the caller's to know. No
    // `nomem`: accesses before it stay before it.
    unsafe { asm!("msr daifclr, #0b0010", options(nostack, preserves_flags)) };
}

/// Whether IRQ is masked on this CPU.
#[must_use]
pub fn interrupts_masked() -> bool {
    DAIF.is_set(DAIF::I)
}

/// Waits until an interrupt is pending on this CPU, masked or not (DDI 0487, D1.7.3: WFI wakes for a
/// physical IRQ whatever PSTATE.I is). So an idle loop masks, looks whether there is something to
/// do, waits, and only then unmasks: an interrupt that comes after the look still ends the wait.
pub fn wait_for_interrupt() {
    // SAFETY: neither instruction changes anything. The DSB has what this CPU stored reach the
    // others before it may lose its clock for a while: nothing else would be in a hurry. It is not
    // counted, since it is about no table.
    unsafe { asm!("dsb ish", "wfi", options(nostack, preserves_flags)) };
}

/// Says on which stack this CPU is from now on, by its lowest address: what exception entry compares
/// SP with. A switch of stacks calls it with interrupts masked, right before it changes SP; an
/// exception in between is taken as an overflow of the stack.
///
/// `bottom` is a multiple of [`STACK_SIZE`], with that many mapped bytes above it.
#[inline]
pub fn set_stack_bottom(bottom: VirtAddr) {
    debug_assert!(bottom.as_u64().is_multiple_of(STACK_SIZE));
    this_cpu().stack_bottom.store(bottom.as_u64(), Relaxed);
}

/// Lets SErrors be taken: they are masked at reset, and one would be held back unseen.
pub fn unmask_serror() {
    // SAFETY: the vectors are installed, and an SError ends in a report.
    unsafe { asm!("msr daifclr, #0b0100", options(nostack, preserves_flags)) };
}

/// Has every unaligned access fault on this CPU, to Normal memory as well (`SCTLR_EL1.A`).
pub fn check_alignment() {
    SCTLR_EL1.modify(SCTLR_EL1::A::Enable);
    // SAFETY: the ISB makes the next instruction see it. Not counted: it is about no table.
    unsafe { asm!("isb", options(nostack, preserves_flags)) };
}

/// Loads a word from wherever `address` is, by one instruction.
///
/// # Safety
///
/// The bytes may be read, or the load faults and that is meant.
pub unsafe fn load_unaligned(address: *const u32) -> u32 {
    let value: u32;
    // SAFETY: the caller's promise. Rust has no such load: a pointer's is aligned.
    unsafe {
        asm!("ldr {:w}, [{}]", out(reg) value, in(reg) address, options(nostack, preserves_flags));
    };
    value
}
