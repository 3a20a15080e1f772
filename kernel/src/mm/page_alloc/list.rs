//! Single pages in a chain through their metadata: as many as there are pages, in no memory of
//! their own.

use super::{
    error::FreeError,
    map::{Map, NONE, PageMeta, State},
};
use core::sync::atomic::Ordering::Relaxed;
use vmsa::Frame;

/// Single pages. What is chained are runs of adjacent ones, so that a long run costs no more than a
/// short one to hand over.
///
/// Whoever has the list owns its pages. Dropping it loses them.
#[derive(Debug)]
#[must_use = "the pages of a list that is dropped are lost"]
pub struct PageList<'a> {
    map: Map<'a>,
    /// The first page of the first run.
    first: u32,
    /// The first page of the last run, and behind its last page: its length is in no metadata yet.
    last: u32,
    end: u32,
    count: u64,
}

impl<'a> PageList<'a> {
    /// A list without pages.
    #[inline(always)]
    pub(super) fn new(map: Map<'a>) -> Self {
        Self {
            map,
            first: NONE,
            last: NONE,
            end: NONE,
            count: 0,
        }
    }

    /// How many pages.
    #[inline(always)]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The pages as runs of adjacent frames, in the order in which they came.
    #[inline(always)]
    pub fn runs(&self) -> Runs<'a> {
        Runs {
            map: self.map,
            next: if self.count > 0 { self.first } else { NONE },
            last: self.last,
            end: self.end,
        }
    }

    /// The pages, in the order in which they came.
    #[inline(always)]
    pub fn iter(&self) -> Frames<'a> {
        Frames {
            runs: self.runs(),
            next: 0,
            end: 0,
        }
    }

    /// The pages, each on its own from now on. Those that were handed out may be freed: what the
    /// metadata says of a run is read before the first page of it is.
    #[inline(always)]
    pub fn into_frames(self) -> Frames<'a> {
        self.iter()
    }

    /// Appends a single page that the caller gives up. It is out of use from now on.
    ///
    /// # Errors
    /// Why it can't be taken; nothing has changed.
    #[inline(always)]
    pub fn give_up(&mut self, frame: Frame) -> Result<(), FreeError> {
        let (index, _) = self.map.retire(frame, 0)?;
        self.append(index, 1);
        Ok(())
    }

    /// Appends the `pages` pages from `index` on.
    #[inline(always)]
    pub(super) fn append(&mut self, index: usize, pages: u32) {
        let index = index as u32;
        self.count += u64::from(pages);
        // An empty list ends at NONE, which is no page's index.
        if index != self.end {
            self.begin_run(index);
        }
        self.end = index + pages;
    }

    #[inline(always)]
    fn begin_run(&mut self, index: u32) {
        if self.last == NONE {
            self.first = index;
        } else {
            let last = &self.map.meta[self.last as usize];
            last.run.store(self.end - self.last, Relaxed);
            last.next.store(index, Relaxed);
        }
        self.last = index;
    }

    /// Makes `state` the state of each page.
    #[inline(always)]
    pub(super) fn set_all(&self, state: State) {
        for (start, end) in self.runs().indices() {
            self.map.meta[start..end]
                .iter()
                .for_each(|meta: &PageMeta| meta.set(state, 0));
        }
    }
}

/// The runs of adjacent pages of a list: first frame, number of frames.
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    map: Map<'a>,
    next: u32,
    last: u32,
    end: u32,
}

impl Runs<'_> {
    /// The next run: the index of its first page, and the one behind its last.
    #[inline(always)]
    fn step(&mut self) -> Option<(usize, usize)> {
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
