//! The boot code, its constants, the two calls that end its tables' life, and the way in for
//! other CPUs.

use crate::{
    Handover, IMAGE_OFFSET, IMAGE_PA, MAX_CPUS, SecondaryStart, WINDOW_BLOCK, WINDOW_OFFSET,
    WINDOW_PA,
};
use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use vmsa::{Attributes, MAIR_EL1, PAGE_SIZE, PhysAddr, VirtAddr};

/// Where QEMU puts the device tree for an ELF image (x0 is then 0 at entry).
const QEMU_ELF_DTB: PhysAddr = PhysAddr::literal(0x4000_0000);

// Descriptor bits [1:0]: a table or a page, and a block (DDI 0487, D8.3).
const TABLE_OR_PAGE: u64 = 0b11;
const BLOCK: u64 = 0b01;

/// `HCR_EL2.RW`: EL1 is AArch64. All else 0: no stage 2, no trap, no VHE.
const HCR_EL2: u64 = 1 << 31;
/// `CPTR_EL2` with E2H = 0: its RES1 bits (13:12, 9:0 but for TZ, bit 8) and nothing trapped.
const CPTR_EL2: u64 = 0x32ff;
/// `CNTHCTL_EL2` with E2H = 0: EL1PCEN (bit 1), EL1PCTEN (bit 0).
const CNTHCTL_EL2: u64 = 0b11;
/// `SPSR_EL2`: to EL1 with SP_EL1 (M = 0b0101), D, A, I and F masked.
const SPSR_EL1H_MASKED: u64 = 0b1111 << 6 | 0b0101;

/// `SCTLR_EL1` bits that are RES1 where the feature that gives them a meaning is absent, and
/// whose value 1 is the old behaviour where it is present: LSMAOE (29), nTLSMD (28), SPAN (23:
/// exceptions leave PSTATE.PAN alone), EIS (22) and EOS (11: exception entry and return
/// synchronise the context), TSCXT (20), SED (8), ITD (7).
const SCTLR_RES1: u64 = 1 << 29 | 1 << 28 | 1 << 23 | 1 << 22 | 1 << 20 | 1 << 11 | 1 << 8 | 1 << 7;
/// `SCTLR_EL1` while the tables are built: M, C and I clear, little-endian.
const SCTLR_OFF: u64 = SCTLR_RES1;
/// `SCTLR_EL1` of the kernel: I (12), SA0 (4), SA (3: a misaligned SP faults), C (2), M (0).
/// WXN (19) stays 0: W^X is the tables' own doing, and is proved by a walk, not hidden by it.
const SCTLR_ON: u64 = SCTLR_RES1 | 1 << 12 | 1 << 4 | 1 << 3 | 1 << 2 | 1;

/// `TCR_EL1`: 48-bit addresses (TnSZ = 16), 4 KiB granule (TG0 = 0b00, TG1 = 0b10), walks
/// inner shareable (SHn = 0b11), write-back write-allocate (IRGNn, ORGNn = 0b01).
/// IPS and AS are read from the CPU.
const TCR: u64 = 16
    | 0b01 << 8
    | 0b01 << 10
    | 0b11 << 12
    | 16 << 16
    | 0b01 << 24
    | 0b01 << 26
    | 0b11 << 28
    | 0b10 << 30;
/// `TCR_EL1.EPD0`: a TLB miss in the lower half faults without a walk.
const TCR_EPD0: u64 = 1 << 7;
/// `TCR_EL1.IPS` for 48 bits, and `ID_AA64MMFR0_EL1.PARange` in the same code.
const IPS_48_BITS: u64 = 0b101;

/// Bytes that one entry maps at level 0, 1 and 2.
const L0_BYTES: u64 = 1 << 39;
const L1_BYTES: u64 = 1 << 30;
const L2_BYTES: u64 = 1 << 21;

/// The index of an address in the table whose entries map `entry_bytes` each.
const fn index(address: u64, entry_bytes: u64) -> u64 {
    (address / entry_bytes) % 512
}

/// Level 3 tables for the image: 2 MiB each. `linker.ld` asserts that the image fits.
const IMAGE_L3_TABLES: u64 = 4;

const _: () = {
    // One level 2 table each for image and window, and the image's does not wrap.
    assert!(index(IMAGE_PA, L2_BYTES) + IMAGE_L3_TABLES <= 512);
    assert!(
        index(WINDOW_PA.start, L2_BYTES) == 0,
        "boot.s fills the window from entry 0"
    );
    assert!(WINDOW_PA.end - WINDOW_PA.start <= L1_BYTES);
    assert!(
        IMAGE_PA < L0_BYTES,
        "the identity map uses entry 0 of its root"
    );
    assert!(WINDOW_BLOCK == L2_BYTES);
    // A CPU's number is in the offset bits of its context.
    assert!(MAX_CPUS <= PAGE_SIZE as usize);
};

global_asm!(
    include_str!("boot.s"),
    include_str!("early_vectors.s"),
    IMAGE_PA = const IMAGE_PA,
    IMAGE_OFFSET = const IMAGE_OFFSET,
    HCR_EL2 = const HCR_EL2,
    CPTR_EL2 = const CPTR_EL2,
    CNTHCTL_EL2 = const CNTHCTL_EL2,
    SPSR_EL1H_MASKED = const SPSR_EL1H_MASKED,
    SCTLR_OFF = const SCTLR_OFF,
    SCTLR_ON = const SCTLR_ON,
    MAIR = const MAIR_EL1,
    TCR = const TCR,
    IPS_48_BITS = const IPS_48_BITS,
    TABLE = const TABLE_OR_PAGE,
    PAGE_TEXT = const Attributes::KERNEL_TEXT.bits() | TABLE_OR_PAGE,
    PAGE_RODATA = const Attributes::KERNEL_RODATA.bits() | TABLE_OR_PAGE,
    PAGE_DATA = const Attributes::KERNEL_DATA.bits() | TABLE_OR_PAGE,
    BLOCK_DATA = const Attributes::KERNEL_DATA.bits() | BLOCK,
    WINDOW_START = const WINDOW_PA.start,
    WINDOW_END = const WINDOW_PA.end,
    L0_INDEX_IMAGE = const index(IMAGE_OFFSET + IMAGE_PA, L0_BYTES),
    L1_INDEX_IMAGE = const index(IMAGE_PA, L1_BYTES),
    L2_INDEX_IMAGE = const index(IMAGE_PA, L2_BYTES),
    L0_INDEX_WINDOW = const index(WINDOW_OFFSET + WINDOW_PA.start, L0_BYTES),
    L1_INDEX_WINDOW = const index(WINDOW_PA.start, L1_BYTES),
    IMAGE_L3_TABLES = const IMAGE_L3_TABLES,
    // Pages of `boot_tables`: the root of TTBR1 is page 0.
    IMAGE_L1 = const 1,
    IMAGE_L2 = const 2,
    IMAGE_L3 = const 3,
    WINDOW_L1 = const 3 + IMAGE_L3_TABLES,
    WINDOW_L2 = const 4 + IMAGE_L3_TABLES,
    IDENTITY_L0 = const 5 + IMAGE_L3_TABLES,
    IDENTITY_L1 = const 6 + IMAGE_L3_TABLES,
    IDENTITY_L2 = const 7 + IMAGE_L3_TABLES,
    IDENTITY_L3 = const 8 + IMAGE_L3_TABLES,
    RESERVED = const 9 + IMAGE_L3_TABLES,
    TABLES = const 10 + IMAGE_L3_TABLES,
);

#[allow(
    improper_ctypes,
    reason = "only a pointer crosses, and both sides are Rust"
)]
unsafe extern "C" {
    /// The kernel. It is defined by the binary, as an unmangled symbol.
    safe fn kernel_main(handover: &Handover) -> !;
    /// In boot.s: through the identity map, with an empty root in between.
    fn boot_replace_ttbr1(root: u64);
    /// From linker.ld: the end of the image, as a virtual address.
    static __image_end: u8;
    /// In boot.s: the physical address at which other CPUs enter.
    safe static boot_secondary_pa: u64;
}

/// The first Rust function. MMU, caches and early vectors are on, the stack is the boot stack.
#[unsafe(no_mangle)]
extern "C" fn boot_first_rust(entered_el: u64, x0_at_entry: u64) -> ! {
    let image_end = (&raw const __image_end).addr() as u64 - IMAGE_OFFSET;
    let blocks_end = image_end.next_multiple_of(WINDOW_BLOCK);
    let handover = Handover {
        entered_el: if entered_el == 2 { 2 } else { 1 },
        dtb: match x0_at_entry {
            0 => QEMU_ELF_DTB,
            // More than 48 bits can't be the address of anything: the kernel will say that
            // there is no device tree there.
            other => PhysAddr::new(other).unwrap_or(PhysAddr::MAX),
        },
        image: PhysAddr::literal(IMAGE_PA)..PhysAddr::literal(image_end),
        window: [
            PhysAddr::literal(WINDOW_PA.start)..PhysAddr::literal(IMAGE_PA),
            PhysAddr::literal(blocks_end)..PhysAddr::literal(WINDOW_PA.end),
        ],
    };
    kernel_main(&handover)
}

/// Makes `root` the table of the upper half, on this CPU.
///
/// It goes through the identity map, by way of an empty root and a TLB invalidation, because
/// old and new tables may map one address with different sizes or types (break-before-make,
/// DDI 0487 D8.16). Interrupts are masked meanwhile. Stores to the new tables that come before
/// the call are visible to the walker after it.
///
/// # Safety
///
/// - `root` is a level 0 table that maps the image at [`IMAGE_OFFSET`] with at least the
///   permissions that the running code needs, the current stack, and whatever else is used later;
/// - the identity map is still there ([`drop_identity_map`] has not been called);
/// - no other CPU is running.
pub unsafe fn replace_ttbr1(root: PhysAddr) {
    // SAFETY: the caller vouches for the tables; the assembly keeps to the procedure call
    // standard, and touches no memory while the upper half is unmapped.
    unsafe { boot_replace_ttbr1(root.as_u64()) }
}

/// Ends the lower half: every access to it faults from here on, on this CPU.
///
/// # Safety
///
/// Nothing in the lower half is in use: no code runs there and [`replace_ttbr1`] is not called
/// again. Other CPUs may still enter: their EPD0 is their own, and the tables stay.
pub unsafe fn drop_identity_map() {
    // SAFETY: the caller vouches that no one needs the lower half. EPD0 stops walks (the ISB
    // makes it effective before the TLBI), the TLBI removes what was walked before and whatever
    // copy of TCR the TLB may hold, DSB NSH waits for it on this CPU, which is the only one
    // concerned, and the ISB discards what was fetched by the old rules.
    unsafe {
        asm!(
            "mrs {t}, tcr_el1",
            "orr {t}, {t}, {epd0}",
            "msr tcr_el1, {t}",
            "isb",
            "tlbi vmalle1",
            "dsb nsh",
            "isb",
            t = out(reg) _,
            epd0 = const TCR_EPD0,
            options(nostack),
        );
    }
}

/// The top of the stack on which each CPU enters Rust; `boot.s` reads it, with the MMU on.
#[unsafe(no_mangle)]
static boot_secondary_stacks: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// What each CPU goes on with: an `extern "C" fn(usize) -> !`.
static SECONDARY_ENTRIES: [AtomicPtr<()>; MAX_CPUS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];

/// Gets the start of CPU `cpu` ready: what PSCI CPU_ON is to be told. The CPU will turn its MMU on
/// with `root` as the table of the upper half, drop the lower half, and call `entry` with its number
/// on the stack that ends at `stack_top`; interrupts are masked, and the vectors are still boot's.
///
/// What is stored before the call is visible to the CPU once it runs.
///
/// # Panics
///
/// If `cpu` is not below [`MAX_CPUS`].
///
/// # Safety
///
/// - `root` is the level 0 table of the kernel, as for [`replace_ttbr1`], and stays it;
/// - `stack_top` is the end of a stack that is mapped there, 16-byte aligned, and that CPU's alone;
/// - the CPU is off, and is turned on at most once.
pub unsafe fn prepare_secondary(
    cpu: usize,
    root: PhysAddr,
    stack_top: VirtAddr,
    entry: extern "C" fn(usize) -> !,
) -> SecondaryStart {
    boot_secondary_stacks[cpu].store(stack_top.as_u64(), Ordering::Relaxed);
    SECONDARY_ENTRIES[cpu].store(entry as *mut (), Ordering::Relaxed);
    // SAFETY: a barrier. The stores above, and whatever the caller stored (the tables that map the
    // stack among it), are complete for all observers of the domain before the call that starts
    // the other CPU, which only then becomes one: its walks and loads come later.
    unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
    SecondaryStart {
        entry: PhysAddr::literal(boot_secondary_pa),
        context: root.as_u64() | cpu as u64,
    }
}

/// The first Rust function of the other CPUs.
#[unsafe(no_mangle)]
extern "C" fn boot_secondary_rust(cpu: usize) -> ! {
    // SAFETY: this CPU runs in the upper half, and never again in the lower. The tables of the
    // identity map stay for the CPUs that are yet to come.
    unsafe { drop_identity_map() };
    let entry = SECONDARY_ENTRIES[cpu].load(Ordering::Relaxed);
    // SAFETY: `prepare_secondary` stored a function of this type before CPU_ON was called.
    let entry = unsafe { core::mem::transmute::<*mut (), extern "C" fn(usize) -> !>(entry) };
    entry(cpu)
}
