//! The pages that change hands in one call, and lists of them.

use super::{
    list::{Chain, Frames, Runs},
    memory,
};
use vmsa::Frame;

/// The pages that change hands in one call.
#[derive(Clone, Copy, Debug)]
pub enum Pages<'a> {
    /// A block of 2^order pages.
    Block(Frame, u8),
    /// Single pages, in any order.
    List(&'a PageList),
}

impl Pages<'_> {
    /// The pages as runs of adjacent frames: first frame, number of frames.
    #[inline]
    pub fn runs(&self) -> Runs<'static> {
        match self {
            Self::Block(first, order) => Runs::of_block(memory::map(), *first, *order),
            Self::List(list) => list.runs(),
        }
    }

    /// The pages, one by one.
    pub fn frames(&self) -> impl Iterator<Item = Frame> + use<> {
        self.runs()
            .flat_map(|(first, count)| (0..count).filter_map(move |i| first.checked_add(i)))
    }

    /// How many pages.
    pub fn count(&self) -> u64 {
        match self {
            Self::Block(_, order) => 1 << order,
            Self::List(list) => list.count(),
        }
    }
}

/// Single pages of the kernel's allocator: as many as there are, in no memory of their own, since
/// they are chained through what the allocator knows of them.
///
/// Whoever has the list owns its pages. Dropping it loses them.
#[derive(Debug)]
#[must_use = "the pages of a list that is dropped are lost"]
pub struct PageList(pub(super) Chain);

impl PageList {
    /// A list without pages, to give pages up to; before [`open`](memory::open) it takes none.
    pub const EMPTY: Self = Self(Chain::EMPTY);

    /// How many pages.
    #[inline]
    pub fn count(&self) -> u64 {
        self.0.count()
    }

    /// The pages as runs of adjacent frames, in the order in which they came.
    #[inline]
    pub fn runs(&self) -> Runs<'static> {
        self.0.runs(memory::map())
    }

    /// The first frame, if there is one, and the others are the ones behind it.
    #[inline(always)]
    pub fn adjacent(&self) -> Option<Frame> {
        Some(memory::map().frame(self.0.only_run()?))
    }

    /// The pages, in the order in which they came.
    #[inline]
    pub fn iter(&self) -> Frames<'static> {
        self.0.frames(memory::map())
    }

    /// The pages, each on its own from now on. Those that were handed out may be freed.
    #[inline]
    pub fn into_frames(self) -> Frames<'static> {
        self.iter()
    }
}

impl Default for PageList {
    fn default() -> Self {
        Self::EMPTY
    }
}
