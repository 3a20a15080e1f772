//! Where the parts of the image lie: the symbols of `linker.ld` as ranges.

use boot::{IMAGE_OFFSET, IMAGE_PA};
use core::ops::Range;
use vmsa::{Attributes, PAGE_SIZE, PageRange, PhysAddr, VirtAddr};

unsafe extern "C" {
    static __boot_text_end_in_upper_half: u8;
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_start: u8;
    static __rodata_end: u8;
    static __data_start: u8;
    static __bss_end: u8;
    static __boot_stack_guard: u8;
    static __boot_stack_bottom: u8;
    static __boot_stack_top: u8;
    static __emergency_stack_bottom: u8;
    static __emergency_stack_top: u8;
    static __image_end: u8;
}

/// The range between two symbols that `linker.ld` has aligned to pages.
macro_rules! between {
    ($start:ident, $end:ident) => {{
        let (start, end) = (
            VirtAddr::from_ptr(&raw const $start),
            VirtAddr::from_ptr(&raw const $end),
        );
        PageRange::new(start, (end - start) / PAGE_SIZE)
            .expect("linker.ld aligns every region to pages")
    }};
}

/// A part of the image and how it is to be mapped.
#[derive(Debug, Clone, Copy)]
pub struct Region {
    /// Where it is mapped.
    pub range: PageRange,
    /// How: writable or executable, never both.
    pub attributes: Attributes,
}

/// Every part of the image that is mapped in the upper half, lowest first. Between the last two
/// lies the guard page of the boot stack, which is not.
#[must_use]
pub fn regions() -> [Region; 4] {
    [
        Region {
            range: text(),
            attributes: Attributes::KERNEL_TEXT,
        },
        Region {
            range: rodata(),
            attributes: Attributes::KERNEL_RODATA,
        },
        Region {
            range: data(),
            attributes: Attributes::KERNEL_DATA,
        },
        Region {
            range: stacks(),
            attributes: Attributes::KERNEL_DATA,
        },
    ]
}

/// The kernel's code.
#[must_use]
pub fn text() -> PageRange {
    between!(__text_start, __text_end)
}

/// The kernel's constants.
#[must_use]
pub fn rodata() -> PageRange {
    between!(__rodata_start, __rodata_end)
}

/// The kernel's variables.
#[must_use]
pub fn data() -> PageRange {
    between!(__data_start, __bss_end)
}

/// The boot stack and every CPU's emergency stack.
#[must_use]
pub fn stacks() -> PageRange {
    between!(__boot_stack_bottom, __image_end)
}

/// The boot stack alone.
#[must_use]
pub fn boot_stack() -> PageRange {
    between!(__boot_stack_bottom, __boot_stack_top)
}

/// The page below the boot stack, which is never mapped. Its frame belongs to the image.
#[must_use]
pub fn boot_stack_guard() -> PageRange {
    between!(__boot_stack_guard, __boot_stack_bottom)
}

/// The emergency stacks of all CPUs, one above the other.
#[must_use]
pub fn emergency_stacks() -> PageRange {
    between!(__emergency_stack_bottom, __emergency_stack_top)
}

/// The boot code, which runs only at its physical address: mapped nowhere in the upper half
/// but in the linear map, where it is read-only.
#[must_use]
pub fn boot_text() -> Range<PhysAddr> {
    let end = VirtAddr::from_ptr(&raw const __boot_text_end_in_upper_half);
    PhysAddr::literal(IMAGE_PA)..physical_address(end).expect("linker.ld makes it an image address")
}

/// All of the image, boot code, guard page and stacks included.
#[must_use]
pub fn physical() -> Range<PhysAddr> {
    let end = VirtAddr::from_ptr(&raw const __image_end);
    PhysAddr::literal(IMAGE_PA)..physical_address(end).expect("the end is an image address")
}

/// The physical address behind an address of the image; `None` for any other address.
#[must_use]
pub fn physical_address(va: VirtAddr) -> Option<PhysAddr> {
    let end = (&raw const __image_end).addr() as u64;
    if va.as_u64() < IMAGE_OFFSET + IMAGE_PA || va.as_u64() > end {
        return None;
    }
    PhysAddr::new(va.as_u64() - IMAGE_OFFSET)
}

/// Whether `va` is in the kernel's code.
#[must_use]
pub fn is_text(va: VirtAddr) -> bool {
    text().contains(va)
}
