//! How table pages are had and reached.

use crate::{
    arch::entry::{Entries, Entry},
    mm::page_alloc::OutOfMemory,
};
use vmsa::{Frame, VirtAddr};

/// How table pages are had and reached.
pub trait TableMemory {
    /// Fills `frames` with pages for tables, or takes none.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    fn allocate(&mut self, frames: &mut [Frame]) -> Result<(), OutOfMemory>;

    /// The entry `index` of `table`.
    fn entry(&self, table: Frame, index: usize) -> Entry;

    /// The `count` entries of `table` from `first` on.
    ///
    /// # Panics
    /// If a table has fewer.
    fn entries(&self, table: Frame, first: usize, count: usize) -> Entries;

    /// Zeroes a page that is no table yet.
    fn zero(&mut self, page: Frame);

    /// The table of the leaf for `va`, if it is remembered. Whoever asks owns `va`, so that it is the
    /// right one: see [`forget`](Self::forget).
    #[inline(always)]
    fn remembered(&self, _va: VirtAddr) -> Option<Frame> {
        None
    }

    /// May remember that a walk has found `table` to have the leaf for `va`, which the caller owns.
    fn remember(&self, _va: VirtAddr, _table: Frame) {}

    /// Remembers the table of the leaf for `va` no more: it has been taken out, by the owner of all of
    /// its addresses. So whoever remembered it owned one of them before, and whoever asks will own
    /// one after; what handed the addresses on puts the two in order.
    fn forget(&self, _va: VirtAddr) {}

    /// Takes tables back that nothing ever linked to. A memory that has no use for them keeps them.
    fn free(&mut self, _tables: &[Frame]) {}

    /// Takes tables back that nothing links to any more and no TLB knows. A walk of
    /// [`walks`](super::walks) may still be in one.
    fn retire(&mut self, tables: &[Frame]) {
        self.free(tables);
    }
}
