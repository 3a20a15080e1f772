//! Single pages in a chain through their metadata: as many as there are pages, in no memory of
//! their own.
//!
//! A chain does not hold on to the metadata, and so is 16 bytes. With the [`Map`] in it it was 48,
//! and each move of it a call of `memcpy`.

use super::{
    error::FreeError,
    map::{Map, NONE, PageMeta},
};
use core::sync::atomic::Ordering::Relaxed;
use vmsa::Frame;

/// Single pages, as runs of adjacent ones, so that a long run costs no more than a short one to
/// hand over. It is read and changed with the map of the allocator whose pages they are.
///
/// Whoever has the chain owns its pages. Dropping it loses them.
#[derive(Debug)]
#[must_use = "the pages of a chain that is dropped are lost"]
pub struct Chain {
    /// The first page of the first run.
    first: u32,
    /// The first page of the last run, and behind its last page: its length is in no metadata yet.
    last: u32,
    end: u32,
    count: u32,
}

impl Chain {
    /// No pages.
    pub(super) const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
        end: NONE,
        count: 0,
    };

    /// A single page.
    #[inline(always)]
    pub(super) fn of(index: usize) -> Self {
        let first = index as u32;
        Self {
            first,
            last: first,
            end: first + 1,
            count: 1,
        }
    }

    /// The only page, if there is one.
    #[inline(always)]
    pub(super) fn single(&self) -> Option<usize> {
        (self.count == 1).then_some(self.first as usize)
    }

    /// How many pages.
    #[inline(always)]
    pub(super) fn count(&self) -> u64 {
        self.count.into()
    }

    /// The pages as runs of adjacent frames, in the order in which they came. Two that follow each
    /// other may be one.
    #[inline(always)]
    pub(super) fn runs<'a>(&self, map: Map<'a>) -> Runs<'a> {
        Runs {
            map,
            next: self.first,
            last: self.last,
            end: self.end,
        }
    }

    /// The pages, in the order in which they came. Those that were handed out may be freed: what
    /// the metadata says of a run is read before the first page of it is.
    #[inline(always)]
    pub(super) fn frames<'a>(&self, map: Map<'a>) -> Frames<'a> {
        Frames {
            runs: self.runs(map),
            next: 0,
            end: 0,
        }
    }

    /// Appends a single page that the caller gives up. It is out of use from now on.
    ///
    /// # Errors
    /// Why it can't be taken; nothing has changed.
    #[inline(always)]
    pub(super) fn give_up(&mut self, map: Map<'_>, frame: Frame) -> Result<(), FreeError> {
        let (index, _) = map.retire(frame, 0)?;
        self.append(map, index, 1);
        Ok(())
    }

    /// Appends the `pages` pages from `index` on.
    #[inline(always)]
    pub(super) fn append(&mut self, map: Map<'_>, index: usize, pages: u32) {
        let index = index as u32;
        self.count += pages;
        // An empty list ends at NONE, which is no page's index.
        if index != self.end {
            self.begin_run(map, index);
        }
        self.end = index + pages;
    }

    /// Appends `count` pages that are chained already, each as a run of its own.
    pub(super) fn append_singles(&mut self, map: Map<'_>, first: u32, last: u32, count: u32) {
        self.begin_run(map, first);
        self.last = last;
        self.end = last + 1;
        self.count += count;
    }

    #[inline(always)]
    fn begin_run(&mut self, map: Map<'_>, index: u32) {
        // No run has begun, and NONE is no page's index, where the list is empty.
        match map.meta.get(self.last as usize) {
            None => self.first = index,
            Some(last) => {
                last.run.store(self.end - self.last, Relaxed);
                last.next.store(index, Relaxed);
            }
        }
        self.last = index;
    }
}

/// Runs of adjacent pages: first frame, number of frames.
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    map: Map<'a>,
    next: u32,
    last: u32,
    end: u32,
}

impl<'a> Runs<'a> {
    /// One run: the pages of a block, if they are the allocator's.
    #[inline(always)]
    pub(super) fn of_block(map: Map<'a>, first: Frame, order: u8) -> Self {
        let start = map.index(first).map_or(NONE, |index| index as u32);
        Self {
            map,
            next: start,
            last: start,
            end: start.wrapping_add(1 << order),
        }
    }

    /// The next run: the index of its first page, and the one behind its last.
    #[inline(always)]
    pub(super) fn step(&mut self) -> Option<(usize, usize)> {
        let start = self.next;
        if start == NONE {
            return None;
        }
        let end = if start == self.last {
            self.next = NONE;
            self.end
        } else {
            let meta = &self.map.meta[start as usize];
            self.next = meta.next.load(Relaxed);
            start + meta.run.load(Relaxed)
        };
        Some((start as usize, end as usize))
    }

    /// The next run, if that is a single page, and what is known of it.
    #[inline(always)]
    pub(super) fn step_single(&mut self) -> Option<(usize, &'a PageMeta)> {
        let start = self.next;
        // NONE is no page's index.
        let meta = self.map.meta.get(start as usize)?;
        let (next, end) = if start == self.last {
            (NONE, self.end)
        } else {
            let next = meta.next.load(Relaxed);
            (next, start + meta.run.load(Relaxed))
        };
        if end != start + 1 {
            return None;
        }
        self.next = next;
        Some((start as usize, meta))
    }

    /// The runs by the indices of their pages.
    #[inline(always)]
    pub(super) fn indices(mut self) -> impl Iterator<Item = (usize, usize)> {
        core::iter::from_fn(move || self.step())
    }
}

impl Iterator for Runs<'_> {
    type Item = (Frame, u64);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        let (start, end) = self.step()?;
        Some((self.map.frame(start), (end - start) as u64))
    }
}

/// The pages of a list, one by one.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    runs: Runs<'a>,
    next: usize,
    end: usize,
}

impl Iterator for Frames<'_> {
    type Item = Frame;

    #[inline(always)]
    fn next(&mut self) -> Option<Frame> {
        if self.next == self.end {
            (self.next, self.end) = self.runs.step()?;
        }
        let frame = self.runs.map.frame(self.next);
        self.next += 1;
        Some(frame)
    }
}
