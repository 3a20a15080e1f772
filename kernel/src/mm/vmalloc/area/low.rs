//! Where a search among the free ranges may begin.
//!
//! The free ranges below a certain one are all too short for so many pages: a search for as many, or
//! more, begins there and not at the root. Who fills small holes, or takes from above them, one after
//! the other mostly finds what it needs with the first look. Small areas and larger ones have one such
//! place each: otherwise who wants one page would take all holes away from who wants many.

use super::{Link, VmapArea, tree};
use core::ptr;

/// Pages of a small area, at most; the guard page counts.
const SMALL: u64 = 8;

/// What is known of the lowest ranges.
pub(super) struct Lows([Low; 2]);

/// A place to begin.
#[derive(Clone, Copy)]
struct Low {
    /// The lowest range that is long enough, or the one after where it was. `None`: nothing is known.
    range: Link,
    /// For so many pages.
    pages: u64,
}

impl Lows {
    /// Nothing.
    pub(super) const fn new() -> Self {
        Self(
            [Low {
                range: None,
                pages: 0,
            }; 2],
        )
    }

    #[inline(always)]
    fn of(&mut self, pages: u64) -> &mut Low {
        &mut self.0[usize::from(pages > SMALL)]
    }

    /// Where a search for `pages` pages may begin.
    #[inline(always)]
    pub(super) fn known(&mut self, pages: u64) -> Link {
        let low = *self.of(pages);
        low.range.filter(|_| low.pages <= pages)
    }

    /// Notes what a search for `pages` pages from `known` on has found: the lowest range that is long
    /// enough, whether it fits or not.
    #[inline]
    pub(super) fn found(&mut self, known: Link, pages: u64, lowest: &'static VmapArea) {
        let low = self.of(pages);
        // For more pages than what is known is about, this says nothing new of the ranges below.
        if known.is_none() || low.pages == pages {
            *low = Low {
                range: Some(lowest),
                pages,
            };
        }
    }

    /// A range has come, or has grown.
    #[inline]
    pub(super) fn came(&mut self, range: &'static VmapArea) {
        for low in &mut self.0 {
            let is_below = |at: &VmapArea| range.first.get() < at.first.get();
            if range.pages.get() >= low.pages && low.range.is_some_and(is_below) {
                low.range = Some(range);
            }
        }
    }

    /// The front of a range is one of its own now, and `rest` what comes behind.
    #[inline]
    pub(super) fn split(&mut self, front: &VmapArea, rest: &'static VmapArea) {
        for low in &mut self.0 {
            let is_there = low.range.is_some_and(|at| ptr::eq(at, front));
            if is_there && front.pages.get() < low.pages {
                low.range = Some(rest);
            }
        }
    }

    /// A range that is still in its tree goes.
    #[inline]
    pub(super) fn goes(&mut self, range: &'static VmapArea) {
        for low in &mut self.0 {
            if low.range.is_some_and(|at| ptr::eq(at, range)) {
                low.range = tree::following(range);
            }
        }
    }

    /// What is known, for tests: page number and pages of each.
    #[cfg(test)]
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, u64)> {
        let known = |low: &Low| Some((low.range?.first.get(), low.pages));
        self.0.iter().filter_map(known)
    }
}
