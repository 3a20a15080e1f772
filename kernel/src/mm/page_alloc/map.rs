//! What the allocator knows of each page, outside of the pages.

use super::error::FreeError;
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering::Relaxed};
use vmsa::{Frame, PAGE_SHIFT};

/// The largest block is 2^10 pages, 4 MiB, as in Linux (MAX_PAGE_ORDER).
pub const MAX_ORDER: u8 = 10;

/// No page: the end of a chain.
pub(super) const NONE: u32 = u32::MAX;

/// In a link of a [`Chain`](super::list::Chain): the run that ends there has more than one page.
/// No page's index is as high.
pub(super) const MANY: u32 = 1 << 31;

/// What a page is in its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// Not the first page of a block, or on its way from the free lists to its owner, or never
    /// given to the allocator. Zero, so that zeroed metadata says so of every page.
    Body = 0,
    /// The head of a block in a free list.
    Free = 1,
    /// The head of a block that is in use.
    Allocated = 2,
    /// The head of a block on its way back: nobody's.
    Retired = 3,
    /// A single page in the list of a CPU: free, and merged with nothing.
    Listed = 4,
}

/// What the allocator knows of a page: 16 bytes, none of them in the page.
///
/// The fields are atomics without any order. Those of a page in a free list or in a CPU's list are
/// guarded by the lock of that list. Those of any other page belong to whoever has it: its owner,
/// who may chain pages through them ([`PageList`](super::PageList)) without a lock, or a call of
/// the allocator that takes it from the one to the other.
#[derive(Debug)]
#[repr(C)]
pub struct PageMeta {
    /// [`State`] in the low byte, the block's order above it. The first field: exclusive accesses
    /// take no offset.
    head: AtomicU16,
    /// Whether the page has been given to the allocator (as opposed to reserved).
    pub(super) managed: AtomicBool,
    /// Whether its contents are the poison pattern; kept for the hooks.
    pub(super) poisoned: AtomicBool,
    /// The next in a chain, as a page's index; in a [`Chain`](super::list::Chain) with [`MANY`].
    pub(super) next: AtomicU32,
    /// Of free blocks of one order alone.
    pub(super) previous: AtomicU32,
    /// How many pages the run has that starts here, in a [`Chain`](super::list::Chain), if it has
    /// more than one.
    pub(super) run: AtomicU32,
}

const _: () = assert!(size_of::<PageMeta>() == 16);

impl PageMeta {
    /// A page that the allocator does not own. All bits are zero.
    #[expect(
        clippy::declare_interior_mutable_const,
        reason = "an initial value, copied into metadata"
    )]
    pub const RESERVED: Self = Self {
        head: AtomicU16::new(0),
        managed: AtomicBool::new(false),
        poisoned: AtomicBool::new(false),
        next: AtomicU32::new(0),
        previous: AtomicU32::new(0),
        run: AtomicU32::new(0),
    };

    #[inline(always)]
    pub(super) fn is(&self, state: State, order: u8) -> bool {
        self.head.load(Relaxed) == head(state, order)
    }

    #[inline(always)]
    pub(super) fn set(&self, state: State, order: u8) {
        self.head.store(head(state, order), Relaxed);
    }

    /// Puts the head of a block of 2^`order` pages from one state into another, unless it is no
    /// such head.
    ///
    /// A compare-exchange, since two frees of one block may come at the same time: one is refused.
    /// It orders nothing: what its owner did to the block is ordered before its next use by the
    /// lock of the list that it comes to lie in.
    #[inline(always)]
    pub(super) fn change(&self, from: State, to: State, order: u8) -> bool {
        let (from, to) = (head(from, order), head(to, order));
        self.head
            .compare_exchange(from, to, Relaxed, Relaxed)
            .is_ok()
    }

    pub(super) fn state(&self) -> State {
        match self.head.load(Relaxed) as u8 {
            1 => State::Free,
            2 => State::Allocated,
            3 => State::Retired,
            4 => State::Listed,
            _ => State::Body,
        }
    }

    pub(super) fn order(&self) -> u8 {
        (self.head.load(Relaxed) >> 8) as u8
    }
}

#[inline(always)]
const fn head(state: State, order: u8) -> u16 {
    state as u16 | (order as u16) << 8
}

/// The metadata, and which frame its first element is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Map<'a> {
    pub(super) meta: &'a [PageMeta],
    pub(super) base: u64,
}

impl<'a> Map<'a> {
    #[inline(always)]
    pub(super) fn index(self, frame: Frame) -> Option<usize> {
        // A frame below the base becomes an index beyond all.
        let index = frame.number().wrapping_sub(self.base) as usize;
        (index < self.meta.len()).then_some(index)
    }

    #[inline(always)]
    pub(super) fn frame(self, index: usize) -> Frame {
        let number = self.base + index as u64;
        // SAFETY: an index is kept in 32 bits, and so much above the base every frame is a physical one
        // of 48 bits (`Buddy::new`). The compiler would check otherwise.
        unsafe { core::hint::assert_unchecked(number >> (48 - PAGE_SHIFT) == 0) };
        Frame::from_number(number).expect("a physical address has 48 bits")
    }

    /// The buddy of a block, if it is free and whole.
    #[inline(always)]
    pub(super) fn free_buddy(self, index: usize, order: u8) -> Option<usize> {
        // A buddy below the base becomes an index beyond all.
        let buddy = (self.base + index as u64) ^ (1 << order);
        let other = buddy.wrapping_sub(self.base) as usize;
        let meta = self.meta.get(other)?;
        meta.is(State::Free, order).then_some(other)
    }

    /// Makes `state` the state of each of the pages `start..end`, each a block of its own.
    #[inline(always)]
    pub(super) fn set_all(self, start: usize, end: usize, state: State) {
        // Eight at a time: one and a half instructions a page, where the compiler's own loop takes
        // three.
        let (eights, rest) = self.meta[start..end].as_chunks::<8>();
        for eight in eights {
            eight.iter().for_each(|meta| meta.set(state, 0));
        }
        rest.iter().for_each(|meta| meta.set(state, 0));
    }

    /// Puts each of the pages `start..end`, each a block of its own, from one state into another, up
    /// to one that is not in the first, or no page: the index of that one, or else `end`.
    #[inline(always)]
    pub(super) fn change_all(self, start: usize, end: usize, from: State, to: State) -> usize {
        // Of none, all are.
        let pages = self.meta.get(start..end).unwrap_or_default();
        let change = |meta: &&PageMeta| meta.change(from, to, 0);
        start + pages.iter().take_while(change).count()
    }

    /// The index of a page that is in use, each on its own.
    ///
    /// # Errors
    /// Why it is no such page.
    #[inline(always)]
    pub(super) fn in_use(self, frame: Frame) -> Result<usize, FreeError> {
        let index = self.index(frame).ok_or(FreeError::Reserved)?;
        if self.meta[index].is(State::Allocated, 0) {
            Ok(index)
        } else {
            Err(self.why_not(frame, index, 0))
        }
    }

    /// Takes a block out of use: the index of its first page, and what is known of that.
    ///
    /// # Errors
    /// What is wrong with the call; nothing has changed.
    #[inline(always)]
    pub(super) fn retire(
        &self,
        frame: Frame,
        order: u8,
    ) -> Result<(usize, &'a PageMeta), FreeError> {
        let index = self.index(frame).ok_or(FreeError::Reserved)?;
        let meta = &self.meta[index];
        if meta.change(State::Allocated, State::Retired, order) {
            Ok((index, meta))
        } else {
            Err(self.why_not(frame, index, order))
        }
    }

    /// Why a page can't be freed with `order`.
    #[cold]
    pub(super) fn why_not(&self, frame: Frame, index: usize, order: u8) -> FreeError {
        let meta = &self.meta[index];
        if !meta.managed.load(Relaxed) {
            return FreeError::Reserved;
        }
        if order > MAX_ORDER || frame.number() & ((1 << order) - 1) != 0 {
            return FreeError::Misaligned;
        }
        match meta.state() {
            State::Allocated => FreeError::WrongOrder(meta.order()),
            State::Free | State::Retired | State::Listed => FreeError::DoubleFree,
            State::Body => match self.head_of(index).map(|head| self.meta[head].state()) {
                Some(State::Free | State::Retired | State::Listed) => FreeError::DoubleFree,
                Some(State::Allocated | State::Body) => FreeError::NotAllocated,
                None => FreeError::Reserved,
            },
        }
    }

    /// The head of the block that a page lies in, or `None` for a reserved page.
    pub(super) fn head_of(self, index: usize) -> Option<usize> {
        if !self.meta[index].managed.load(Relaxed) {
            return None;
        }
        (0..=MAX_ORDER).find_map(|order| {
            let start = (self.base + index as u64) & !((1 << order) - 1);
            let head = start.checked_sub(self.base)? as usize;
            let meta = &self.meta[head];
            (meta.state() != State::Body && meta.order() >= order).then_some(head)
        })
    }

    /// What the block is that a page lies in; `None` for a reserved page.
    pub(super) fn state_of(self, frame: Frame) -> Option<State> {
        let head = self.head_of(self.index(frame)?)?;
        Some(self.meta[head].state())
    }
}
