//! Why addresses were not taken, and why they were not added.

use super::super::pool::NoMemory;

/// Why addresses were not taken. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeError {
    /// No free range fits; for [`take_exact`](super::FreeAreas::take_exact) and
    /// [`widen`](super::FreeAreas::widen): not free.
    NoSpace,
    /// No memory for the record of the area.
    NoMemory,
    /// No pages were asked for, or the alignment is not a power of two.
    Invalid,
}

impl From<NoMemory> for TakeError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

/// Why a range was not added. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// Part of it is free already.
    Overlap,
    /// No memory for its record.
    NoMemory,
}

impl From<NoMemory> for InsertError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}
