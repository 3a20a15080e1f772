//! Free ranges: lowest fit, coalescing.

use core::fmt;

use vmsa::{PAGE_SHIFT, PageRange};

use super::augment::Largest;
use super::chain::Spare;
use super::low::{Length, Lows};
use super::pool::{Grow, NoMemory, Pool, Pooled};
use super::tree::{self, Surroundings, Tree};
use super::{Link, OwnedArea, VmapArea, address, page_numbers};

/// Why addresses were not taken. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeError {
    /// No free range fits; for [`FreeAreas::take_exact`] and [`FreeAreas::widen`]: not free.
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

    /// Sees to it that the next `takes` calls of [`take`](Self::take) need no memory.
    pub fn reserve(&mut self, takes: usize) -> Result<(), NoMemory> {
        // One record for the area, one for what is left above it.
        self.pool.reserve(2 * takes)
    }

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

    /// Takes back the records that [`Chain::join_neighbours`](super::Chain::join_neighbours) has left.
    pub fn take_back(&mut self, spare: Spare) {
        if let Some((first, last, count)) = spare.into_linked() {
            self.pool.release_linked(first, last, count);
        }
    }

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

    /// Leaves the `pages` pages from `first` of a free range.
    #[inline]
    fn cut(&mut self, area: &'static VmapArea, first: u64, pages: u64) {
        area.first.set(first);
        let before = area.pages.replace(pages);
        if area.largest.get() == before {
            self.tree.refresh_upwards(area);
        }
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

    /// Takes a whole free range out of the tree.
    fn unlink(&mut self, area: &'static VmapArea) {
        self.low.goes(area);
        self.gap = None;
        self.tree.remove(area);
        self.count -= 1;
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
