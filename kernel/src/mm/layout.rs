//! The kernel's address space: 48-bit addresses, 4 KiB pages, at the places where Linux with
//! generic KASAN has them.
//!
//! ```text
//! 0xffff_0000_0000_0000  linear map: all of RAM, address = 0xffff_0000_0000_0000 + PA
//! 0xffff_6000_0000_0000  shadow: one byte for 8 bytes of any address above 0xffff_0000_0000_0000
//! 0xffff_8000_0000_0000  image: address = 0xffff_8000_0000_0000 + PA
//! 0xffff_8000_8000_0000  vmalloc
//! 0xffff_d000_0000_0000  heap
//! 0xffff_d800_0000_0000  scratch, for scenes and tests
//! 0xffff_fe00_0000_0000  devices
//! ```

use vmsa::{Level, PAGE_SIZE, PTRS_PER_TABLE, PageRange, VirtAddr};

/// A part of the address space.
const fn part(start: u64, end: u64) -> PageRange {
    match PageRange::new(VirtAddr::literal(start), (end - start) / PAGE_SIZE) {
        Some(range) => range,
        None => panic!("a part of the address space is a range of it"),
    }
}

/// Where an address space can map something, in the half that TTBR0_EL1 translates: all of it but
/// the lowest 64 KiB, so that a null pointer and what is near it faults, as with Linux's
/// `mmap_min_addr`.
pub const USER: PageRange = part(0x0000_0000_0001_0000, 0x0001_0000_0000_0000);
/// The linear map.
pub const LINEAR: PageRange = part(0xffff_0000_0000_0000, 0xffff_6000_0000_0000);
/// The shadow of LINEAR to DEVICES.
pub const SHADOW: PageRange = part(0xffff_6000_0000_0000, 0xffff_8000_0000_0000);
/// Where the image can be. Ends where VMALLOC starts.
pub const IMAGE: PageRange = part(0xffff_8000_0000_0000, 0xffff_8000_8000_0000);
/// Addresses that vmalloc and vmap hand out: 64 TiB less 2 GiB.
pub const VMALLOC: PageRange = part(0xffff_8000_8000_0000, 0xffff_c000_0000_0000);
/// The kernel heap can grow to 64 MiB.
pub const HEAP: PageRange = part(0xffff_d000_0000_0000, 0xffff_d000_0400_0000);
/// Where scenes and tests map pages by hand: 2 MiB, one table of leaves.
pub const SCRATCH: PageRange = part(0xffff_d800_0000_0000, 0xffff_d800_0020_0000);
/// Device registers.
pub const DEVICES: PageRange = part(0xffff_fe00_0000_0000, 0xffff_fe00_0040_0000);

/// The half of the address space that TTBR1_EL1 translates, in which all of it lies.
pub const UPPER_HALF: PageRange = match PageRange::new(
    LINEAR.start(),
    PTRS_PER_TABLE as u64 * Level::L0.bytes() / PAGE_SIZE,
) {
    Some(range) => range,
    None => panic!("the upper half is a range"),
};

/// Every part, with its name, for people.
pub const PARTS: [(&str, PageRange); 7] = [
    ("linear map", LINEAR),
    ("shadow", SHADOW),
    ("image", IMAGE),
    ("vmalloc", VMALLOC),
    ("heap", HEAP),
    ("scratch", SCRATCH),
    ("devices", DEVICES),
];

/// shadow = (address >> 3) + this (KASAN_SHADOW_OFFSET of Linux on arm64, 48-bit addresses).
pub const SHADOW_OFFSET: u64 = 0xdfff_8000_0000_0000;

const _: () = {
    // The shadow of the linear map starts where the shadow does, and that of the highest address
    // ends where it does.
    assert!((LINEAR.start().as_u64() >> 3) + SHADOW_OFFSET == SHADOW.start().as_u64());
    assert!((u64::MAX >> 3) + SHADOW_OFFSET == SHADOW.last_byte().as_u64());
};
