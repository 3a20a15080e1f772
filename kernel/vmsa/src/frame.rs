//! The number of a 4 KiB frame of physical memory.

use crate::addr::{ADDRESS_MASK, PAGE_SHIFT, PhysAddr};
use core::fmt;

/// The highest number: the frame of [`PhysAddr::MAX`].
const LAST: u64 = ADDRESS_MASK >> PAGE_SHIFT;

/// The number of a 4 KiB frame: a physical address without its lowest 12 bits.
#[repr(transparent)]
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frame(u64);

impl Frame {
    /// The frame that holds the byte at `address`.
    #[must_use]
    pub const fn containing(address: PhysAddr) -> Self {
        Self(address.as_u64() >> PAGE_SHIFT)
    }

    /// The frame of this number; `None` if no 48-bit physical address is in it.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        if number <= LAST {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number: physical address / 4096.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The address of the frame's first byte.
    #[must_use]
    pub const fn start(self) -> PhysAddr {
        // The mask changes no number that a frame can have. It tells the compiler so, which would check
        // otherwise.
        PhysAddr::literal((self.0 & LAST) << PAGE_SHIFT)
    }

    /// The frame `frames` further up; `None` past the last.
    #[must_use]
    pub const fn checked_add(self, frames: u64) -> Option<Self> {
        match self.0.checked_add(frames) {
            Some(sum) => Self::from_number(sum),
            None => None,
        }
    }

    /// The frame `frames` further down; `None` below frame 0.
    #[must_use]
    pub const fn checked_sub(self, frames: u64) -> Option<Self> {
        match self.0.checked_sub(frames) {
            Some(difference) => Some(Self(difference)),
            None => None,
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({:#x})", self.0)
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
