//! The next single pages of a chain, in a value of their own: a loop over them keeps all that it
//! needs in registers. In fragmented memory every run is one.

use super::{Frames, MANY, Map, PageMeta, Runs};
use core::sync::atomic::Ordering::Relaxed;
use vmsa::Frame;

/// The runs that come next, as long as they are single pages, and not the last run.
#[derive(Clone, Debug)]
pub struct Singles<'a> {
    map: Map<'a>,
    next: usize,
    last: usize,
}

impl<'a> Runs<'a> {
    /// Those that come next; what follows them is found by [`behind`](Self::behind).
    #[inline(always)]
    pub(in super::super) fn singles(&self) -> Singles<'a> {
        Singles {
            map: self.map,
            next: self.next as usize,
            last: self.last as usize,
        }
    }

    /// Goes on behind the single pages that `passed` has given.
    #[inline(always)]
    pub(in super::super) fn behind(&mut self, passed: &Singles<'_>) {
        self.next = passed.next as u32;
    }
}

impl<'a> Singles<'a> {
    /// The next page, and what is known of it.
    #[inline(always)]
    pub(in super::super) fn step(&mut self) -> Option<(usize, &'a PageMeta)> {
        // NONE is no page's index.
        let meta = self.map.meta.get(self.next)?;
        let link = meta.next.load(Relaxed);
        if self.next == self.last || link & MANY != 0 {
            return None;
        }
        Some((core::mem::replace(&mut self.next, link as usize), meta))
    }
}

impl Iterator for Singles<'_> {
    type Item = Frame;

    #[inline(always)]
    fn next(&mut self) -> Option<Frame> {
        let (index, _) = self.step()?;
        Some(self.map.frame(index))
    }
}

impl<'a> Frames<'a> {
    /// The frames that come next, as long as each is adjacent to none of the list, as far as that
    /// is noted, and not in the last run. `None` if not even the next one is.
    #[inline(always)]
    pub fn singles(&self) -> Option<Singles<'a>> {
        (self.next == self.end && self.runs.comes_single()).then(|| self.runs.singles())
    }

    /// Goes on behind the frames that `passed`, which came from here, has given.
    #[inline(always)]
    pub fn behind(&mut self, passed: &Singles<'_>) {
        self.runs.behind(passed);
    }
}
