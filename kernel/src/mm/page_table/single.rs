//! One leaf, a page's or a block's, in no section: where nothing is [unusual](crate::unusual), and what
//! it takes is there already ([`lazy::map_single`] says why that will do).

use super::{PageTable, TableMemory};
use crate::{arch::entry::Entry, mm::lazy};
use vmsa::{Attributes, Descriptor, Frame, Kind, Level, VirtAddr};

impl<M: TableMemory> PageTable<M> {
    /// Maps one page, with its barriers. False, and nothing is done, where there is no table for it or
    /// it is mapped.
    #[inline(always)]
    pub fn map_single(&self, va: VirtAddr, frame: Frame, attributes: Attributes) -> bool {
        let leaf = Descriptor::page(frame, attributes);
        self.leaves_of_one_table(va, 1)
            .is_some_and(|entries| lazy::map_single(entries.entry(0), va, Level::L3, leaf))
    }

    /// Clears the leaf of one page that is mapped by no block and no contiguous set. False where
    /// nothing was mapped. The flush is left to the caller.
    #[inline(always)]
    pub fn clear_single(&self, va: VirtAddr) -> bool {
        self.leaves_of_one_table(va, 1)
            .is_some_and(|entries| lazy::clear_single(entries.entry(0), va, Level::L3))
    }

    /// Maps one block, whose first frame is `frame`, with its barriers. False, and nothing is done,
    /// where there is no table for it, something is linked or mapped there, or it is not aligned.
    #[inline(always)]
    pub fn map_single_block(&self, va: VirtAddr, frame: Frame, attributes: Attributes) -> bool {
        let leaf = Descriptor::leaf(Level::L2, frame.start(), attributes);
        let (Some(entry), Some(leaf)) = (self.linked_block_entry(va), leaf) else {
            return false;
        };
        lazy::map_single(entry, va, Level::L2, leaf)
    }

    /// Clears the entry of a block; its first frame. `None`, and nothing is done, where none is
    /// mapped. The flush is left to the caller.
    #[inline(always)]
    pub fn clear_single_block(&self, va: VirtAddr) -> Option<Frame> {
        let entry = self.linked_block_entry(va)?;
        let Kind::Block(first) = entry.load().kind(Level::L2) else {
            return None;
        };
        lazy::clear_single(entry, va, Level::L2).then(|| Frame::containing(first))
    }

    /// The entry of level 2 for `va`, where there are links all the way.
    #[inline(always)]
    fn linked_block_entry(&self, va: VirtAddr) -> Option<Entry> {
        let mut table = self.root;
        for level in [Level::L0, Level::L1] {
            table = self.next_table(table, level, va).ok().flatten()?;
        }
        Some(self.memory.entry(table, Level::L2.index(va)))
    }
}
