//! Where a search among the free ranges may begin.
//!
//! Of a few lengths it is known below which range all are shorter than that: a search for as many pages
//! begins there and not at the root. Who fills small holes, or takes from above them, one after the
//! other finds what it needs with the first look; and whoever wants one page takes no hole away from
//! who wants many.

use super::{Link, VmapArea, tree};
use core::ptr;

/// The lengths, in pages with the guard page: an area of one page, some that are small, larger ones.
const LENGTHS: [u64; 4] = [2, 4, 8, 64];

/// For each length the lowest range that is as long, or one before which none is. `None`: nothing is
/// known.
pub(super) struct Lows([Link; LENGTHS.len()]);

/// One of the lengths.
#[derive(Clone, Copy)]
pub(super) struct Length(usize);

impl Length {
    /// The greatest that is no more than `pages`.
    #[inline(always)]
    pub(super) fn within(pages: u64) -> Option<Self> {
        let lengths = LENGTHS.iter().filter(|least| **least <= pages).count();
        lengths.checked_sub(1).map(Self)
    }

    /// In pages.
    #[inline(always)]
    pub(super) fn pages(self) -> u64 {
        LENGTHS[self.0]
    }
}

impl Lows {
    /// Nothing.
    pub(super) const fn new() -> Self {
        Self([None; LENGTHS.len()])
    }

    /// The range below which all are shorter than `length`.
    #[inline(always)]
    pub(super) fn of(&self, length: Length) -> Link {
        self.0[length.0]
    }

    /// All below `range` are shorter than `length`.
    #[inline]
    pub(super) fn found(&mut self, length: Length, range: Link) {
        self.0[length.0] = range;
    }

    /// A range has come, or has grown.
    #[inline]
    pub(super) fn came(&mut self, range: &'static VmapArea) {
        for (low, least) in self.0.iter_mut().zip(LENGTHS) {
            if range.pages.get() < least {
                return;
            }
            if low.is_some_and(|at| range.first.get() < at.first.get()) {
                *low = Some(range);
            }
        }
    }

    /// The front of a range is one of its own now, and `rest` what comes behind.
    #[inline]
    pub(super) fn split(&mut self, front: &VmapArea, rest: &'static VmapArea) {
        for (low, least) in self.0.iter_mut().zip(LENGTHS) {
            if front.pages.get() < least && low.is_some_and(|at| ptr::eq(at, front)) {
                *low = Some(rest);
            }
        }
    }

    /// A range that is still in its tree goes.
    #[inline]
    pub(super) fn goes(&mut self, range: &'static VmapArea) {
        for low in &mut self.0 {
            if low.is_some_and(|at| ptr::eq(at, range)) {
                *low = tree::following(range);
            }
        }
    }

    /// What is known, for tests: number of the first page, and the length.
    #[cfg(test)]
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, u64)> {
        let known = |(low, length): (&Link, u64)| Some(((*low)?.first.get(), length));
        self.0.iter().zip(LENGTHS).filter_map(known)
    }
}
