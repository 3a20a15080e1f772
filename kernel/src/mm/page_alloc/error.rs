//! Why pages are not given, and why they are not taken back.

use core::fmt;

/// There is no block of the order that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of memory")
    }
}

/// Why a page was not taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreeError {
    /// The frame is no RAM that the allocator has ever owned.
    Reserved,
    /// The frame is free already.
    DoubleFree,
    /// The frame is not the first of an allocated block.
    NotAllocated,
    /// The block was allocated with this order.
    WrongOrder(u8),
    /// The frame number is not a multiple of the block's size.
    Misaligned,
}

impl fmt::Display for FreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserved => f.write_str("the page is reserved"),
            Self::DoubleFree => f.write_str("the page is free already"),
            Self::NotAllocated => f.write_str("the page is not the start of an allocated block"),
            Self::WrongOrder(order) => write!(f, "the block was allocated with order {order}"),
            Self::Misaligned => f.write_str("the page is not aligned to the block's order"),
        }
    }
}
