//! What a block is, to those outside.

use super::{map::State, memory};
use vmsa::Frame;

/// What a block is, to those outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockState {
    /// Nobody's, and to be had.
    Free,
    /// Allocated, or on its way from a list to its owner or back.
    InUse,
}

/// Whether a frame is free. It takes no lock: the report of a crash asks.
pub fn is_free(frame: Frame) -> bool {
    block_of(frame) == Some(BlockState::Free)
}

/// What the block is that a frame lies in; `None` for one that the allocator was never given.
pub fn block_of(frame: Frame) -> Option<BlockState> {
    Some(match memory::map().state_of(frame)? {
        State::Free | State::Listed => BlockState::Free,
        State::Allocated | State::Retired | State::Body => BlockState::InUse,
    })
}
