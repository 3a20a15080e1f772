//! Giving back: a range goes to its place, and is merged with what it touches.

use vmsa::PageRange;

use super::super::chain::Spare;
use super::super::tree::{self, Surroundings};
use super::super::{OwnedArea, VmapArea, page_numbers};
use super::{FreeAreas, Gap, InsertError};

impl FreeAreas {
    /// Adds addresses that nobody holds, as bring-up does with the whole of the vmalloc space.
    pub fn add(&mut self, range: PageRange) -> Result<(), InsertError> {
        let (first, end) = page_numbers(range);
        let Surroundings { below, above, .. } = self.tree.locate(first);
        if below.is_some_and(|area| area.end() > first)
            || above.is_some_and(|area| area.first.get() < end)
        {
            return Err(InsertError::Overlap);
        }
        let record = self.record(first, range.pages())?;
        self.insert(OwnedArea(record));
        Ok(())
    }

    /// Gives an area back, merging it with free neighbours. Never allocates, cannot fail. Returns
    /// the free range that it is now (part of).
    pub fn insert(&mut self, area: OwnedArea) -> &VmapArea {
        let area = area.with_lead().0;
        let (first, pages, end) = (area.first.get(), area.pages.get(), area.end());
        let Surroundings {
            below,
            above,
            place,
        } = self.around(first, end);
        debug_assert!(
            below.is_none_or(|below| below.end() <= first),
            "free already"
        );
        debug_assert!(
            above.is_none_or(|above| above.first.get() >= end),
            "free already"
        );
        self.pages += pages;
        let touches_below = below.filter(|below| below.end() == first);
        let touches_above = above.filter(|above| above.first.get() == end);
        let range = match (touches_below, touches_above) {
            (None, None) => {
                self.tree.insert(area, place);
                self.count += 1;
                self.gap = Some(Gap { below, above: area });
                area
            }
            (Some(below), None) => {
                self.grow(below, below.first.get(), pages);
                self.pool.release(area);
                below
            }
            (None, Some(above)) => {
                self.grow(above, first, pages);
                self.pool.release(area);
                above
            }
            (Some(below), Some(above)) => self.join(below, area, above),
        };
        self.low.came(range);
        range
    }

    /// What is free around the pages from `first` to before `end`, which are not.
    #[inline]
    fn around(&self, first: u64, end: u64) -> Surroundings {
        match self.gap {
            Some(Gap { below, above })
                if end <= above.first.get() && below.is_none_or(|below| below.end() <= first) =>
            {
                Surroundings {
                    below,
                    above: Some(above),
                    place: tree::place_between(below, above),
                }
            }
            _ => self.tree.locate(first),
        }
    }

    /// Takes back the records that
    /// [`join_neighbours`](super::super::Chain::join_neighbours) has left.
    pub fn take_back(&mut self, spare: Spare) {
        if let Some((first, last, count)) = spare.into_linked() {
            self.pool.release_linked(first, last, count);
        }
    }

    /// Makes one free range of three that touch. Not inlined: the more frequent cases of `insert`
    /// need no stack frame.
    #[inline(never)]
    fn join(
        &mut self,
        below: &'static VmapArea,
        area: &'static VmapArea,
        above: &'static VmapArea,
    ) -> &'static VmapArea {
        // In this order: those that are above both mostly hear of it once.
        self.grow(
            below,
            below.first.get(),
            area.pages.get() + above.pages.get(),
        );
        self.unlink(above);
        self.pool.release(above);
        self.pool.release(area);
        below
    }

    /// Extends a free range by `more` pages, which touch it. Its order among the others stays, so
    /// the tree does.
    fn grow(&mut self, area: &'static VmapArea, first: u64, more: u64) {
        let pages = area.pages.get() + more;
        area.first.set(first);
        area.pages.set(pages);
        if area.largest.get() < pages {
            area.largest.set(pages);
            self.tree.absorb_upwards(area);
        }
    }
}
