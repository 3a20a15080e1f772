//! Single pages in a chain through their metadata: as many as there are pages, in no memory of
//! their own.
//!
//! A chain does not hold on to the metadata, and so is 16 bytes. With the [`Map`] in it it was 48,
//! and each move of it a call of `memcpy`.

mod front;
mod singles;

use super::{
    error::FreeError,
    map::{MANY, Map, NONE, PageMeta, State},
};
use core::sync::atomic::Ordering::Relaxed;
use vmsa::Frame;

/// Single pages, as runs of adjacent ones, so that a long run costs no more than a short one to
/// hand over. It is read and changed with the map of the allocator whose pages they are.
///
/// Whoever has the chain owns its pages. Dropping it loses them.
#[derive(Debug)]
// It is moved as two words, not as four halves.
#[repr(align(8))]
#[must_use = "the pages of a chain that is dropped are lost"]
pub struct Chain {
    /// The first page of the first run.
    first: u32,
    /// The first page of the last run, and behind its last page: its length is in no metadata yet.
    last: u32,
    end: u32,
    /// How many pages; with [`IN_USE`].
    count: u32,
}

/// The pages of a [`Chain`] were taken, and are in use until they are [retired](Chain::retire); those
/// of others were given up.
const IN_USE: u32 = 1 << 31;

impl Chain {
    /// No pages.
    pub(super) const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
        end: NONE,
        count: 0,
    };

    /// A single page, in use.
    #[inline(always)]
    pub(super) fn of(index: usize) -> Self {
        let first = index as u32;
        Self {
            first,
            last: first,
            end: first + 1,
            count: 1 | IN_USE,
        }
    }

    /// What its pages are.
    #[inline(always)]
    pub(super) fn state(&self) -> State {
        if self.count & IN_USE == 0 {
            State::Retired
        } else {
            State::Allocated
        }
    }

    /// The only page, if there is one that is in use.
    #[inline(always)]
    pub(super) fn single(&self) -> Option<usize> {
        (self.count == 1 | IN_USE).then_some(self.first as usize)
    }

    /// The first page, if there is one, and the others are the ones behind it.
    #[inline(always)]
    pub(super) fn only_run(&self) -> Option<usize> {
        (self.first == self.last && self.first != NONE).then_some(self.first as usize)
    }

    /// How many pages.
    #[inline(always)]
    pub(super) fn count(&self) -> u64 {
        (self.count & !IN_USE).into()
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
        self.runs(map).into_frames()
    }

    /// Appends a single page that the caller gives up. It is out of use from now on; in a list whose
    /// pages are in use, when all of them are.
    ///
    /// # Errors
    /// Why it can't be taken; nothing has changed.
    #[inline(always)]
    pub(super) fn give_up(&mut self, map: Map<'_>, frame: Frame) -> Result<(), FreeError> {
        let index = match self.count & IN_USE {
            0 => map.retire(frame, 0)?.0,
            _ => map.in_use(frame)?,
        };
        self.append(map, index, 1);
        Ok(())
    }

    /// Appends the `pages` pages from `index` on, which were taken.
    #[inline(always)]
    pub(super) fn append_taken(&mut self, map: Map<'_>, index: usize, pages: u32) {
        self.append(map, index, pages);
        self.count |= IN_USE;
    }

    #[inline(always)]
    fn append(&mut self, map: Map<'_>, index: usize, pages: u32) {
        let index = index as u32;
        self.count += pages;
        // An empty list ends at NONE, which is no page's index.
        if index != self.end {
            self.begin_run(map, index);
        }
        self.end = index + pages;
    }

    /// Takes the pages out of use, if they were taken: those that are given up are so already.
    /// `refused` is told of each page that was freed behind the back of who has the list: the list is
    /// without it then.
    #[inline(always)]
    pub(super) fn retire(&mut self, map: Map<'_>, refused: impl FnMut(usize)) {
        if self.count & IN_USE == 0 {
            return;
        }
        self.count -= IN_USE;
        let mut runs = self.runs(map);
        loop {
            // Single pages first, without the ends of runs; what each says of the next is read when it
            // is known to be ours.
            let meta = map.meta.get(runs.next as usize);
            if meta.is_none() && runs.next == NONE {
                return;
            }
            if !meta.is_some_and(|meta| meta.change(State::Allocated, State::Retired, 0)) {
                return self.retire_in_pieces(map, refused);
            }
            if runs.step_single().is_some() {
                continue;
            }
            if let Some((start, end)) = runs.step()
                && map.change_all(start + 1, end, State::Allocated, State::Retired) < end
            {
                return self.retire_in_pieces(map, refused);
            }
        }
    }

    /// As [`retire`](Self::retire), which came to a page that it must refuse, and has retired those
    /// before it.
    ///
    /// What a page says of its run that was freed meanwhile is anything: where it is the first of a
    /// run, the rest of the list can't be found, and nobody frees it.
    #[cold]
    #[inline(never)]
    fn retire_in_pieces(&mut self, map: Map<'_>, mut refused: impl FnMut(usize)) {
        let mut runs = self.runs(map);
        *self = Self::EMPTY;
        let mut is_ours = |index: usize| {
            let ours = map.meta.get(index).is_some_and(|meta| {
                meta.is(State::Retired, 0) || meta.change(State::Allocated, State::Retired, 0)
            });
            if !ours {
                refused(index);
            }
            ours
        };
        while let Some(start) = runs.first().filter(|start| is_ours(*start)) {
            // Read before anything is appended, which writes to what has been passed.
            let Some((_, end)) = runs.step() else {
                return;
            };
            self.append(map, start, 1);
            for index in start + 1..end.min(map.meta.len()) {
                if is_ours(index) {
                    self.append(map, index, 1);
                }
            }
        }
    }

    /// Appends `count` pages that were taken and are chained already, each as a run of its own.
    pub(super) fn append_singles(&mut self, map: Map<'_>, first: u32, last: u32, count: u32) {
        self.begin_run(map, first);
        self.last = last;
        self.end = last + 1;
        self.count = (self.count + count) | IN_USE;
    }

    #[inline(always)]
    fn begin_run(&mut self, map: Map<'_>, index: u32) {
        // No run has begun, and NONE is no page's index, where the list is empty.
        match map.meta.get(self.last as usize) {
            None => self.first = index,
            Some(last) if self.end == self.last + 1 => last.next.store(index, Relaxed),
            Some(last) => {
                last.run.store(self.end - self.last, Relaxed);
                last.next.store(index | MANY, Relaxed);
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

    /// The pages of the runs, one by one.
    #[inline(always)]
    pub fn into_frames(self) -> Frames<'a> {
        Frames {
            runs: self,
            next: 0,
            end: 0,
        }
    }

    /// The first page of the next run, by its index.
    #[inline(always)]
    pub(super) fn first(&self) -> Option<usize> {
        (self.next != NONE).then_some(self.next as usize)
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
            let link = meta.next.load(Relaxed);
            self.next = link & !MANY;
            if link & MANY == 0 {
                start + 1
            } else {
                start + meta.run.load(Relaxed)
            }
        };
        Some((start as usize, end as usize))
    }

    /// Takes back the [step](Self::step_single) over the single page `index`, which was the last.
    #[inline(always)]
    pub(super) fn go_back(&mut self, index: usize) {
        self.next = index as u32;
    }

    /// Whether the next run is a single page, and not the last.
    #[inline(always)]
    pub(super) fn comes_single(&self) -> bool {
        self.clone().step_single().is_some()
    }

    /// The next run, if that is a single page and not the last run, and what is known of it.
    #[inline(always)]
    pub(super) fn step_single(&mut self) -> Option<(usize, &'a PageMeta)> {
        let start = self.next;
        // NONE is no page's index.
        let meta = self.map.meta.get(start as usize)?;
        if start == self.last {
            return None;
        }
        let link = meta.next.load(Relaxed);
        if link & MANY != 0 {
            return None;
        }
        self.next = link;
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

impl Frames<'_> {
    /// The next frames that are adjacent, up to `most`: the first, and how many.
    #[inline(always)]
    pub fn next_run(&mut self, most: usize) -> Option<(Frame, usize)> {
        if self.next == self.end {
            (self.next, self.end) = self.runs.step()?;
        }
        let count = most.min(self.end - self.next);
        let first = self.runs.map.frame(self.next);
        self.next += count;
        Some((first, count))
    }
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
