//! What the record of a block says of its pages.

/// Pages of a block, and blocks are multiples of that: 4 MiB (VMAP_BBMAP_BITS in Linux).
pub const BLOCK_PAGES: u16 = 1024;

/// Which pages of a block are given out, and which are dirty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slots {
    /// Pages below this one have been given out.
    pub(super) used: u16,
    /// How many of them are dirty.
    pub(super) dirty: u16,
    /// Those that have to be flushed lie from this one on, and below `end`.
    pub(super) first: u16,
    pub(super) end: u16,
    /// In the list of dirty blocks, or under the hand of the purge.
    pub(super) listed: bool,
}

impl Slots {
    pub(super) const NONE: Self = Self {
        used: 0,
        dirty: 0,
        first: BLOCK_PAGES,
        end: 0,
        listed: false,
    };

    /// Whether no page of the block is mapped, and none will be.
    pub(super) fn is_through(self) -> bool {
        self.dirty == BLOCK_PAGES
    }
}
