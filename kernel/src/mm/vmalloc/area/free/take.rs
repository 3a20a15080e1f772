//! Taking: the lowest free range that fits, and what is left of it.

use vmsa::{PAGE_SHIFT, PageRange};

use super::super::low::Length;
use super::super::{Link, OwnedArea, VmapArea, page_numbers, tree};
use super::{FreeAreas, TakeError};

impl FreeAreas {
    /// Takes `pages` pages at the lowest address that is a multiple of `align` bytes.
    ///
    /// `align` is a power of two; less than a page means a page. The area's `info` is left over
    /// from an earlier use of the record: the caller sets it.
    ///
    /// For alignments up to a page one descent finds the place: at most 2 log2(n) records.
    /// For larger ones a range may be long enough and yet lie wrong. Linux searches for `pages`
    /// plus `align`, which keeps to one descent but passes over ranges that would do, and can
    /// fail where one exists. This looks at each such range, in address order: O((k + 1) log n)
    /// records, where k ranges below the answer are long enough but lie wrong (each of those is
    /// shorter than `pages + align / 4096 - 1` pages).
    #[inline(always)]
    pub fn take(&mut self, pages: u64, align: u64) -> Result<OwnedArea, TakeError> {
        self.take_with_lead(pages, align, 0)
    }

    /// As [`take`](Self::take). What the alignment passes over goes with the area, until that is given
    /// back, if it is no more than `most_lead` pages. It is too short for most areas; to keep each such
    /// hole in the tree, and the areas apart that could be flushed and given back as one, costs as much
    /// as all else that there is to an area.
    #[inline(always)]
    pub fn take_with_lead(
        &mut self,
        pages: u64,
        align: u64,
        most_lead: u64,
    ) -> Result<OwnedArea, TakeError> {
        if pages == 0 || !align.is_power_of_two() {
            return Err(TakeError::Invalid);
        }
        let mask = (align - 1) >> PAGE_SHIFT;
        if mask == 0
            && let Some(range) = Length::within(pages).and_then(|length| self.low.of(length))
        {
            // Mostly so: the search ends where it begins, and something is left, or just nothing.
            if range.pages.get() > pages {
                return self.carve_front(range, pages);
            }
            if range.pages.get() == pages {
                self.unlink(range);
                self.pages -= pages;
                return Ok(OwnedArea(range));
            }
        }
        self.take_otherwise(pages, mask, most_lead)
    }

    /// As [`take`](Self::take), where it takes a search.
    #[inline(never)]
    fn take_otherwise(
        &mut self,
        pages: u64,
        mask: u64,
        most_lead: u64,
    ) -> Result<OwnedArea, TakeError> {
        let low = Length::within(pages).and_then(|length| self.lowest_of(length));
        let (area, first) = match low.and_then(|area| Some((area, fit(area, pages, mask)?))) {
            Some(found) => found,
            None => self.search(low, pages, mask).ok_or(TakeError::NoSpace)?,
        };
        let below = first - area.first.get();
        if below == 0 || below > most_lead {
            return self.carve(area, first, pages);
        }
        let taken = self.carve(area, area.first.get(), below + pages)?;
        taken.0.first.set(first);
        taken.0.pages.set(pages);
        taken.0.lead.set(below as u16);
        Ok(taken)
    }

    /// The lowest free range that is as long.
    #[inline]
    fn lowest_of(&mut self, length: Length) -> Link {
        let known = self.low.of(length);
        if known.is_some_and(|area| area.pages.get() >= length.pages()) {
            return known;
        }
        let found = self.search(known, length.pages(), 0);
        self.low.found(length, found.map(|(area, _)| area));
        self.low.of(length)
    }

    /// Takes exactly the pages of `range`, if all of them are free.
    pub fn take_exact(&mut self, range: PageRange) -> Result<OwnedArea, TakeError> {
        let (first, end) = page_numbers(range);
        match self.tree.find_last_from(first) {
            Some(area) if area.end() >= end => self.carve(area, first, range.pages()),
            _ => Err(TakeError::NoSpace),
        }
    }

    /// The lowest free range with room for `pages` pages from a multiple of `mask + 1`, and the page
    /// number of that multiple; from the range `known` on, if one is known.
    #[inline(never)]
    fn search(&self, known: Link, pages: u64, mask: u64) -> Option<(&'static VmapArea, u64)> {
        let mut area = match known {
            Some(area) => area,
            None => lowest_of_enough(self.tree.root()?, pages)?,
        };
        loop {
            // Nothing lower is to be looked at. This one, or the right subtree, or further up.
            if let Some(first) = fit(area, pages, mask) {
                return Some((area, first));
            }
            let right = area.child[1].get();
            area = match right.and_then(|right| lowest_of_enough(right, pages)) {
                Some(area) => area,
                None => tree::parent_to_the_right(area)?,
            };
        }
    }

    /// Takes the first pages of a free range that has more.
    #[inline(always)]
    fn carve_front(&mut self, area: &'static VmapArea, pages: u64) -> Result<OwnedArea, TakeError> {
        let first = area.first.get();
        let taken = self.record(first, pages)?;
        self.cut(area, first + pages, area.pages.get() - pages);
        self.pages -= pages;
        Ok(OwnedArea(taken))
    }

    /// Takes part of a free range out of it.
    fn carve(
        &mut self,
        area: &'static VmapArea,
        first: u64,
        pages: u64,
    ) -> Result<OwnedArea, TakeError> {
        let (start, end) = (area.first.get(), area.end());
        let below = first - start;
        let above = end - (first + pages);
        let taken = match (below, above) {
            (0, 0) => {
                self.unlink(area);
                area
            }
            (0, _) => {
                let taken = self.record(first, pages)?;
                self.cut(area, first + pages, above);
                taken
            }
            (_, 0) => {
                let taken = self.record(first, pages)?;
                self.cut(area, start, below);
                taken
            }
            (_, _) => {
                self.pool.reserve(2)?;
                let taken = self.record(first, pages)?;
                let rest = self.record(first + pages, above)?;
                // In this order: those above the two hear of them once, when the front is cut.
                self.gap = None;
                self.tree.insert(rest, tree::place_after(area));
                self.cut(area, start, below);
                self.low.split(area, rest);
                self.count += 1;
                taken
            }
        };
        self.pages -= pages;
        Ok(OwnedArea(taken))
    }
}

/// The first page of `pages` pages in a free range, a multiple of `mask + 1`, if they fit.
#[inline(always)]
fn fit(area: &VmapArea, pages: u64, mask: u64) -> Option<u64> {
    let first = (area.first.get() + mask) & !mask;
    (area.pages.get() >= pages && first <= area.end() - pages).then_some(first)
}

/// The lowest record in the subtree of `area` below which nothing is left to be looked at for `pages`
/// pages: it, or something in its right subtree, is long enough. `None` if nothing in the subtree is.
#[inline]
fn lowest_of_enough(mut area: &'static VmapArea, pages: u64) -> Link {
    let enough = |area: &&VmapArea| area.largest.get() >= pages;
    if !enough(&area) {
        return None;
    }
    while let Some(left) = area.child[0].get().filter(enough) {
        area = left;
    }
    Some(area)
}
