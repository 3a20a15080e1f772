//! A run of whole pages of virtual addresses, which may end at the very top of
//! the address space, where an exclusive end is no 64-bit number any more.

use crate::addr::{ADDRESS_BITS, PAGE_SHIFT, PAGE_SIZE, VirtAddr};
use core::fmt;

/// One or more pages of virtual addresses, all in one half of the address space.
///
/// It is never empty, so that it always has a last byte; code that may have
/// nothing to do holds an `Option<PageRange>`.
///
/// ```
/// use vmsa::{PageRange, VirtAddr};
///
/// let last_two = PageRange::new(VirtAddr::literal(0xffff_ffff_ffff_e000), 2).unwrap();
/// assert_eq!(last_two.end(), None); // 2^64 is not an address
/// assert_eq!(last_two.last_byte(), VirtAddr::MAX);
///
/// let around = PageRange::covering(VirtAddr::literal(0x1fff), 2).unwrap();
/// assert_eq!((around.start().as_u64(), around.pages()), (0x1000, 2));
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Hash)]
pub struct PageRange {
    /// First byte; a multiple of the page size.
    start: VirtAddr,
    /// Length in pages; at least one, and the last page is in the same half.
    pages: u64,
}

impl PageRange {
    /// The range of `pages` pages from `start`.
    ///
    /// `None` if `start` is not page-aligned, `pages` is zero, or the range
    /// leaves the half of the address space it starts in.
    #[must_use]
    pub const fn new(start: VirtAddr, pages: u64) -> Option<Self> {
        // Checked first, so that the byte count below cannot overflow.
        if !start.is_page_aligned() || pages == 0 || pages > 1 << (ADDRESS_BITS - PAGE_SHIFT) {
            return None;
        }
        match start.checked_add((pages << PAGE_SHIFT) - 1) {
            Some(_) => Some(Self { start, pages }),
            None => None,
        }
    }

    /// The pages that hold any of the `length` bytes from `start`.
    ///
    /// `None` if `length` is zero or the bytes leave the half they start in.
    #[must_use]
    pub const fn covering(start: VirtAddr, length: u64) -> Option<Self> {
        if length == 0 {
            return None;
        }
        match start.checked_add(length - 1) {
            Some(last) => {
                let first = start.align_down(PAGE_SIZE);
                Self::new(first, ((last.as_u64() - first.as_u64()) >> PAGE_SHIFT) + 1)
            }
            None => None,
        }
    }

    /// The first byte.
    #[must_use]
    pub const fn start(self) -> VirtAddr {
        self.start
    }

    /// The length in pages, at least one.
    #[must_use]
    pub const fn pages(self) -> u64 {
        self.pages
    }

    /// The length in bytes, at most 2^48.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.pages << PAGE_SHIFT
    }

    /// The last byte.
    #[must_use]
    pub const fn last_byte(self) -> VirtAddr {
        // Checked when the range was made.
        self.start.within_half(self.bytes() - 1)
    }

    /// The first byte after the range; `None` at the top of either half, where
    /// that is not an address that can be translated.
    #[must_use]
    pub const fn end(self) -> Option<VirtAddr> {
        self.last_byte().checked_add(1)
    }

    /// Whether the byte at `address` is in the range.
    #[must_use]
    pub const fn contains(self, address: VirtAddr) -> bool {
        address.as_u64() >= self.start.as_u64() && address.as_u64() <= self.last_byte().as_u64()
    }

    /// Whether any byte is in both ranges.
    #[must_use]
    pub const fn overlaps(self, other: &Self) -> bool {
        self.start.as_u64() <= other.last_byte().as_u64()
            && other.start.as_u64() <= self.last_byte().as_u64()
    }

    /// The first byte of page number `n` of the range.
    ///
    /// # Panics
    ///
    /// If the range has no more than `n` pages.
    #[must_use]
    pub const fn page(self, n: u64) -> VirtAddr {
        assert!(n < self.pages, "the range has fewer pages");
        // Checked when the range was made.
        self.start.within_half(n << PAGE_SHIFT)
    }

    /// The first byte of each page, in ascending order.
    pub fn pages_iter(self) -> impl DoubleEndedIterator<Item = VirtAddr> {
        (0..self.pages).map(move |n| self.page(n))
    }
}

impl fmt::Display for PageRange {
    /// First and last byte: the end is not always an address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={}", self.start, self.last_byte())
    }
}

impl fmt::Debug for PageRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({} pages)", self.pages)
    }
}
