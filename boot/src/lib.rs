//! Reset to `kernel_main` with the MMU on.
//!
//! `boot.s` does the work: it enters at EL1 or EL2, builds tables in `.bss`, turns the MMU,
//! the caches and a set of early vectors on, and calls the first Rust function with a stack in
//! the upper half. What it leaves behind:
//!
//! | address | what | how |
//! |---|---|---|
//! | PA of `.boot.text` (TTBR0) | the boot code itself | 4 KiB pages, read and execute |
//! | [`IMAGE_OFFSET`] + PA (TTBR1) | the image | 4 KiB pages, each region with its permissions |
//! | [`WINDOW_OFFSET`] + PA (TTBR1) | the first 64 MiB of RAM, without the blocks that hold the image | 2 MiB blocks, read and write |
//!
//! No frame is writable at one of these addresses and executable at another. The kernel builds
//! its own tables through the window, then calls [`replace_ttbr1`] and [`drop_identity_map`].
//!
//! Reset starts one CPU. The others enter at a second symbol beside `_start`, where PSCI sends them
//! ([`prepare_secondary`]): they share the way from EL2 on, skip what is done once (`.bss`, the
//! tables), and use the identity map to turn their MMU on with the kernel's own tables.
#![no_std]

#[cfg(target_os = "none")]
mod entry;
#[cfg(target_os = "none")]
pub use entry::{drop_identity_map, prepare_secondary, replace_ttbr1};

use core::ops::Range;
use vmsa::{PhysAddr, VirtAddr};

/// The image's virtual address minus its physical address. `linker.ld` asserts that it agrees.
pub const IMAGE_OFFSET: u64 = 0xffff_8000_0000_0000;
/// The physical address of the image's first byte. `linker.ld` asserts that it agrees.
pub const IMAGE_PA: u64 = 0x4020_0000;
/// The window's virtual address minus the physical address seen through it.
pub const WINDOW_OFFSET: u64 = 0xffff_fc00_0000_0000;
/// The physical addresses that the window reaches: RAM of the `virt` board starts at 1 GiB, and
/// 64 MiB is the least that Lull runs in.
pub const WINDOW_PA: Range<u64> = 0x4000_0000..0x4400_0000;
/// What one entry of the window maps, and so what is left out around the image.
pub const WINDOW_BLOCK: u64 = 2 << 20;

/// The most CPUs that can be started, the boot CPU included: as many as a GICv2 can have.
pub const MAX_CPUS: usize = 8;

/// How another CPU is to be turned on: the arguments of PSCI CPU_ON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecondaryStart {
    /// Where it enters, with the MMU off.
    pub entry: PhysAddr,
    /// What it finds in x0 there.
    pub context: u64,
}

/// What the boot code tells the kernel.
#[derive(Debug, Clone)]
pub struct Handover {
    /// The exception level at entry: 1 or 2. The kernel runs at EL1 either way.
    pub entered_el: u8,
    /// The device tree: from x0 at entry, or where QEMU puts it for an ELF image. Nobody has
    /// looked at it yet.
    pub dtb: PhysAddr,
    /// Physical addresses of the whole image, stacks included; page-aligned.
    pub image: Range<PhysAddr>,
    /// Physical addresses that can be reached through the window, lowest first. They may
    /// exceed the machine's RAM.
    pub window: [Range<PhysAddr>; 2],
}

impl Handover {
    /// The virtual address of `len` bytes at `pa` in the early window, if all of them lie in one
    /// of its two parts. Valid until [`replace_ttbr1`].
    #[must_use]
    pub fn window_address(&self, pa: PhysAddr, len: u64) -> Option<VirtAddr> {
        let start = pa.as_u64();
        let end = start.checked_add(len)?;
        self.window
            .iter()
            .find(|part| part.start.as_u64() <= start && end <= part.end.as_u64())
            .and_then(|_| VirtAddr::new(WINDOW_OFFSET + start))
    }
}
