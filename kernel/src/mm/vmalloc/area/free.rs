//! Free ranges: what they are kept in. Taking them (lowest fit) is in `take`, giving them back
//! (coalescing) in `insert`, joining them to an area that is taken in `widen`.

mod error;
mod insert;
mod take;
mod widen;

use core::fmt;

use super::augment::Largest;
use super::low::Lows;
use super::pool::{Grow, NoMemory, Pool, Pooled};
use super::tree::Tree;
use super::{Link, VmapArea};

pub use error::{InsertError, TakeError};

impl Pooled for VmapArea {
    const UNUSED: Self = Self::empty();

    fn next_unused(&self) -> &core::cell::Cell<Link> {
        &self.child[1]
    }
}

/// The free ranges of an address space, and the records for all its areas.
///
/// No two of them touch: what adjoins is merged. Every record knows the length of the longest
/// free range in its subtree, which leads a search to the lowest range that is long enough in
/// one descent.
pub struct FreeAreas {
    /// The free ranges.
    tree: Tree<Largest>,
    /// Unused records.
    pool: Pool<VmapArea>,
    /// How many ranges are free.
    count: usize,
    /// Their total length in pages.
    pages: u64,
    /// Where a search may begin.
    low: Lows,
    /// Where the next range may belong.
    gap: Option<Gap>,
}

/// Two ranges between which there is none: below the one that came last. What has been freed from one
/// end to the other a purge gives back from the highest to the lowest, so that each next range belongs
/// there, and need not be looked for.
#[derive(Clone, Copy)]
struct Gap {
    /// The lower one; none if the upper one is the lowest of all.
    below: Link,
    /// The upper one.
    above: &'static VmapArea,
}

// SAFETY: the unused records are reached through the pool only (an `OwnedArea` gives its reference
// up when its record comes back), so that they move with it. The rest is `Send` by itself.
unsafe impl Send for FreeAreas {}

impl FreeAreas {
    /// An address space without free ranges, whose records lie in the pages that `grow` gives.
    ///
    /// # Safety
    ///
    /// As for [`Pool::new`]: the pages are this structure's own for ever.
    pub const unsafe fn new(grow: Grow) -> Self {
        Self {
            tree: Tree::new(),
            // SAFETY: the caller's promise.
            pool: unsafe { Pool::new(grow) },
            count: 0,
            pages: 0,
            low: Lows::new(),
            gap: None,
        }
    }

    /// Sees to it that the next `takes` calls of [`take`](Self::take) need no memory.
    pub fn reserve(&mut self, takes: usize) -> Result<(), NoMemory> {
        // One record for the area, one for what is left above it.
        self.pool.reserve(2 * takes)
    }

    /// The free ranges, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = &VmapArea> {
        self.tree.iter()
    }

    /// How many free ranges there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many pages are free.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Length in pages of the longest free range.
    pub fn largest(&self) -> u64 {
        self.tree.root().map_or(0, |root| root.largest.get())
    }

    /// How many pages hold the records of all areas, in use or not. They never go back.
    pub fn record_pages(&self) -> usize {
        self.pool.pages()
    }

    /// A record for a range.
    #[inline]
    fn record(&mut self, first: u64, pages: u64) -> Result<&'static VmapArea, NoMemory> {
        let record = match self.pool.allocate() {
            Some(record) => record,
            None => self.pool.grow_and_allocate()?,
        };
        record.first.set(first);
        record.pages.set(pages);
        Ok(record)
    }

    /// Leaves the `pages` pages from `first` of a free range.
    #[inline]
    fn cut(&mut self, area: &'static VmapArea, first: u64, pages: u64) {
        area.first.set(first);
        let before = area.pages.replace(pages);
        if area.largest.get() == before {
            self.tree.refresh_upwards(area);
        }
    }

    /// Takes a whole free range out of the tree.
    fn unlink(&mut self, area: &'static VmapArea) {
        self.low.goes(area);
        self.gap = None;
        self.tree.remove(area);
        self.count -= 1;
    }
}

impl fmt::Debug for FreeAreas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(VmapArea::range))
            .finish()
    }
}

#[cfg(test)]
impl FreeAreas {
    /// Two ranges between which there is said to be none: page numbers.
    pub(super) fn gap(&self) -> Option<(Option<u64>, u64)> {
        let Gap { below, above } = self.gap?;
        Some((below.map(|below| below.first.get()), above.first.get()))
    }

    /// The tree, for the tests that check its balance and summaries.
    pub(super) fn tree(&self) -> &Tree<Largest> {
        &self.tree
    }

    /// Where a search for so many pages begins: page number, pages.
    pub(super) fn low(&self) -> impl Iterator<Item = (u64, u64)> {
        self.low.all()
    }

    /// The unused records.
    pub(super) fn pool(&self) -> &Pool<VmapArea> {
        &self.pool
    }

    /// The unused records, for the tests that leave none.
    pub(super) fn pool_mut(&mut self) -> &mut Pool<VmapArea> {
        &mut self.pool
    }
}
