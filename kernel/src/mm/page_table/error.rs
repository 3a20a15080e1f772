//! Why a walk stopped.

use crate::mm::page_alloc::OutOfMemory;
use core::fmt;
use vmsa::VirtAddr;

/// Why a walk stopped. What it had done until then stays done, and is guaranteed visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No page for a table.
    OutOfMemory,
    /// Something is mapped at this address already (-EBUSY in Linux).
    Occupied(VirtAddr),
    /// Nothing is mapped at this address.
    NotMapped(VirtAddr),
    /// A block or a set of contiguous entries covers this address; changing a part of it would need
    /// it split.
    Block(VirtAddr),
    /// This address, or the frame for it, is not aligned to the size of the mapping.
    Misaligned(VirtAddr),
}

impl From<OutOfMemory> for Error {
    fn from(OutOfMemory: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory => OutOfMemory.fmt(f),
            Self::Occupied(va) => write!(f, "{va} is mapped already"),
            Self::NotMapped(va) => write!(f, "nothing is mapped at {va}"),
            Self::Block(va) => write!(f, "{va} is mapped by a block or a contiguous set"),
            Self::Misaligned(va) => write!(f, "{va} or its frame is not aligned to the mapping"),
        }
    }
}
