//! The four levels of a walk with 4 KiB pages and 48-bit addresses.

use crate::addr::{PAGE_SHIFT, VirtAddr};
use core::fmt;

/// Entries in one table: a table is one page of 8-byte descriptors.
pub const PTRS_PER_TABLE: usize = 512;

/// Index bits that one level resolves: log2 of [`PTRS_PER_TABLE`].
const INDEX_BITS: u32 = 9;

/// A level of the translation table walk (DDI 0487, chapter D8, "Translation using the 4KB
/// granule").
///
/// ```
/// use vmsa::{Level, VirtAddr};
///
/// assert_eq!(Level::L2.bytes(), 2 << 20);
/// assert_eq!(Level::L0.index(VirtAddr::literal(0xffff_8000_0000_0000)), 256);
/// assert_eq!(Level::L3.next(), None);
/// ```
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Level {
    /// The root: entries of 512 GiB, tables only (a block here needs FEAT_LPA2).
    L0 = 0,
    /// Entries of 1 GiB: tables or blocks.
    L1 = 1,
    /// Entries of 2 MiB: tables or blocks.
    L2 = 2,
    /// Entries of 4 KiB: pages.
    L3 = 3,
}

impl Level {
    /// From the root down.
    pub const ALL: [Self; 4] = [Self::L0, Self::L1, Self::L2, Self::L3];

    /// The number in the architecture's name of the level.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// log2 of the bytes that one entry maps: 39, 30, 21 or 12.
    #[must_use]
    pub const fn shift(self) -> u32 {
        PAGE_SHIFT + INDEX_BITS * (3 - self as u32)
    }

    /// The bytes of address space that one entry maps.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        1 << self.shift()
    }

    /// Which of a table's entries translates `address` at this level; below [`PTRS_PER_TABLE`].
    #[must_use]
    pub const fn index(self, address: VirtAddr) -> usize {
        ((address.as_u64() >> self.shift()) & (PTRS_PER_TABLE as u64 - 1)) as usize
    }

    /// The level that a table at this one leads to; `None` below the last.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self {
            Self::L0 => Some(Self::L1),
            Self::L1 => Some(Self::L2),
            Self::L2 => Some(Self::L3),
            Self::L3 => None,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "level {}", self.as_u8())
    }
}
