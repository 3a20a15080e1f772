//! Widening an area that is taken over what is free around it.

use vmsa::{PAGE_SHIFT, PageRange};

use super::super::tree::Surroundings;
use super::super::{Link, OwnedArea, VmapArea, address, page_numbers};
use super::{FreeAreas, TakeError};

impl FreeAreas {
    /// Extends `area` at either end to cover `range`, by pages that must be free. Never
    /// allocates: the neighbours shrink or go.
    ///
    /// # Errors
    /// [`TakeError::NoSpace`] if a page is not free, or `range` does not contain the area.
    pub fn widen(&mut self, area: &mut OwnedArea, range: PageRange) -> Result<(), TakeError> {
        let record = area.0;
        let (first, end) = page_numbers(range);
        let Surroundings { below, above, .. } = self.tree.locate(record.first.get());
        let at_start = record
            .first
            .get()
            .checked_sub(first)
            .ok_or(TakeError::NoSpace)?;
        let at_end = end.checked_sub(record.end()).ok_or(TakeError::NoSpace)?;
        // A neighbour that gives pages must reach the area, and have as many.
        let donor = |area: Link, pages: u64, touches: fn(&VmapArea, &VmapArea) -> bool| {
            if pages == 0 {
                return Ok(None);
            }
            let fits = |area: &&VmapArea| touches(area, record) && area.pages.get() >= pages;
            area.filter(fits).map(Some).ok_or(TakeError::NoSpace)
        };
        let below = donor(below, at_start, |below, area| {
            below.end() == area.first.get()
        })?;
        let above = donor(above, at_end, |above, area| above.first.get() == area.end())?;
        if let Some(below) = below {
            self.shrink(below, below.first.get(), below.pages.get() - at_start);
        }
        if let Some(above) = above {
            self.shrink(above, end, above.pages.get() - at_end);
        }
        self.pages -= at_start + at_end;
        record.first.set(first);
        record.pages.set(end - first);
        Ok(())
    }

    /// Widens `area` over what is free around it, as far as the multiples of `span` bytes next to
    /// its ends.
    pub fn claim_around(&mut self, area: &mut OwnedArea, span: u64) {
        area.take_lead();
        let pages = span >> PAGE_SHIFT;
        let (first, end) = (area.0.first.get(), area.0.end());
        let [below, above] = self.neighbours(area.range());
        let lowest = first - first % pages;
        let from = below.map_or(first, |below| below.first.get().max(lowest));
        let highest = end.next_multiple_of(pages);
        let to = above.map_or(end, |above| above.end().min(highest));
        let wide = PageRange::new(address(from), to - from);
        let widened = wide.map(|wide| self.widen(area, wide));
        debug_assert_eq!(widened, Some(Ok(())), "what is free can be had");
    }

    /// The free ranges that end where `range` starts, and that start where it ends.
    pub fn neighbours(&self, range: PageRange) -> [Option<&VmapArea>; 2] {
        let (first, end) = page_numbers(range);
        let below = first
            .checked_sub(1)
            .and_then(|page| self.tree.find_last_from(page));
        [
            below.filter(|area| area.end() == first),
            self.tree.find(end),
        ]
    }

    /// Like [`cut`](Self::cut); a range of which nothing is left goes.
    fn shrink(&mut self, area: &'static VmapArea, first: u64, pages: u64) {
        if pages == 0 {
            self.unlink(area);
            self.pool.release(area);
        } else {
            self.cut(area, first, pages);
        }
    }
}
