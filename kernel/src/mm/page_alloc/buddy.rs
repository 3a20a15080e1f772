//! The buddy system as a value: which frames are free, in blocks of 2^order, over metadata that it
//! is lent.
//!
//! Every block, free or allocated, has one head: its first page, which holds the block's state and
//! order. All other pages of a block are bodies. So one look at a page tells whether it may be
//! freed, and with which order.

mod blocks;

pub use blocks::BlockList;

use super::error::{FreeError, OutOfMemory};
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering::Relaxed};
use vmsa::Frame;

/// The largest block is 2^10 pages, 4 MiB, as in Linux (MAX_PAGE_ORDER).
pub const MAX_ORDER: u8 = 10;

/// How many orders there are.
pub const ORDERS: usize = MAX_ORDER as usize + 1;

/// No page: the end of a list.
const NONE: u32 = u32::MAX;

/// What a page is in its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum State {
    /// Not the first page of a block, or never given to the allocator. Zero, so that zeroed
    /// metadata says so of every page.
    Body = 0,
    /// The head of a block in a free list.
    Free = 1,
    /// The head of a block that is in use.
    Allocated = 2,
    /// The head of a block on its way back: nobody's.
    Retired = 3,
}

/// What the allocator knows of a page: 16 bytes, none of them in the page.
///
/// The fields are atomics without any order: those of a free page are guarded by the allocator's
/// lock, those of an allocated one belong to its owner, who may chain pages through them
/// ([`PageList`]) without a lock.
#[derive(Debug)]
#[repr(C)]
pub struct PageMeta {
    /// The neighbours in a list, as page indices: of free blocks of one order, or a [`PageList`]
    /// (`next` alone).
    next: AtomicU32,
    previous: AtomicU32,
    /// [`State`] in the low byte, the block's order above it.
    head: AtomicU16,
    /// Whether the page has been given to the allocator (as opposed to reserved).
    managed: AtomicBool,
    /// Whether its contents are the poison pattern; kept for the hooks.
    poisoned: AtomicBool,
    _reserved: u32,
}

impl PageMeta {
    /// A page that the allocator does not own. All bits are zero.
    #[expect(
        clippy::declare_interior_mutable_const,
        reason = "an initial value, copied into metadata"
    )]
    pub const RESERVED: Self = Self {
        next: AtomicU32::new(0),
        previous: AtomicU32::new(0),
        head: AtomicU16::new(0),
        managed: AtomicBool::new(false),
        poisoned: AtomicBool::new(false),
        _reserved: 0,
    };

    #[inline]
    fn is(&self, state: State, order: u8) -> bool {
        self.head.load(Relaxed) == head(state, order)
    }

    #[inline]
    fn set(&self, state: State, order: u8) {
        self.head.store(head(state, order), Relaxed);
    }

    fn state(&self) -> State {
        match self.head.load(Relaxed) as u8 {
            1 => State::Free,
            2 => State::Allocated,
            3 => State::Retired,
            _ => State::Body,
        }
    }

    fn order(&self) -> u8 {
        (self.head.load(Relaxed) >> 8) as u8
    }
}

/// What a block is, to those outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockState {
    /// In a free list.
    Free,
    /// Allocated, or on its way back.
    InUse,
}

#[inline]
const fn head(state: State, order: u8) -> u16 {
    state as u16 | (order as u16) << 8
}

const _: () = assert!(size_of::<PageMeta>() == 16);

/// Single pages in a chain through their metadata: as many as there are pages, in no memory of its
/// own.
///
/// Whoever has the list owns its pages. Dropping it loses them.
#[derive(Debug)]
#[must_use = "the pages of a list that is dropped are lost"]
pub struct PageList<'a> {
    map: Map<'a>,
    first: u32,
    last: u32,
    count: u64,
}

impl<'a> PageList<'a> {
    /// How many pages.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The pages, in the order in which they came.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = Frame> + Clone + use<'a> {
        let (map, mut next, mut left) = (self.map, self.first, self.count);
        core::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let frame = map.frame(next as usize);
            next = map.meta[next as usize].next.load(Relaxed);
            Some(frame)
        })
    }

    /// The pages, each on its own from now on.
    pub fn into_frames(self) -> impl Iterator<Item = Frame> + use<'a> {
        // The chain is followed one step ahead, so that the page in hand may be freed.
        self.iter()
    }

    /// Appends a single page that the caller gives up. It is out of use from now on.
    ///
    /// # Errors
    /// Why it can't be taken; nothing has changed.
    #[inline]
    pub fn give_up(&mut self, frame: Frame) -> Result<(), FreeError> {
        let index = self.map.retire(frame, 0)?;
        self.append(index);
        Ok(())
    }

    #[inline]
    fn append(&mut self, index: usize) {
        if self.count == 0 {
            self.first = index as u32;
        } else {
            self.map.meta[self.last as usize]
                .next
                .store(index as u32, Relaxed);
        }
        self.last = index as u32;
        self.count += 1;
    }
}

/// The metadata, and which frame its first element is about.
#[derive(Clone, Copy, Debug)]
struct Map<'a> {
    meta: &'a [PageMeta],
    base: u64,
}

impl Map<'_> {
    #[inline]
    fn index(&self, frame: Frame) -> Option<usize> {
        let index = frame.number().checked_sub(self.base)? as usize;
        (index < self.meta.len()).then_some(index)
    }

    #[inline]
    fn frame(&self, index: usize) -> Frame {
        Frame::from_number(self.base + index as u64)
            .expect("frames of the metadata are physical frames")
    }

    /// Takes a block out of use: its index.
    #[inline]
    fn retire(&self, frame: Frame, order: u8) -> Result<usize, FreeError> {
        let index = self.index(frame).ok_or(FreeError::Reserved)?;
        if !self.meta[index].is(State::Allocated, order) {
            return Err(self.why_not(frame, index, order));
        }
        self.meta[index].set(State::Retired, order);
        Ok(index)
    }

    /// Why a page can't be freed with `order`.
    #[cold]
    fn why_not(&self, frame: Frame, index: usize, order: u8) -> FreeError {
        let meta = &self.meta[index];
        if !meta.managed.load(Relaxed) {
            return FreeError::Reserved;
        }
        if order > MAX_ORDER || frame.number() & ((1 << order) - 1) != 0 {
            return FreeError::Misaligned;
        }
        match meta.state() {
            State::Allocated => FreeError::WrongOrder(meta.order()),
            State::Free | State::Retired => FreeError::DoubleFree,
            State::Body => match self.head_of(index).map(|head| self.meta[head].state()) {
                Some(State::Free | State::Retired) => FreeError::DoubleFree,
                Some(State::Allocated | State::Body) => FreeError::NotAllocated,
                None => FreeError::Reserved,
            },
        }
    }

    /// The head of the block that a page lies in, or `None` for a reserved page.
    fn head_of(&self, index: usize) -> Option<usize> {
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
}

/// The allocator's state.
#[derive(Debug)]
pub struct Buddy<'a> {
    map: Map<'a>,
    /// The first free block of each order.
    lists: [u32; ORDERS],
    /// Bit n: the list of order n has a block.
    nonempty: u32,
    free: u64,
    managed: u64,
}

impl<'a> Buddy<'a> {
    /// An allocator of the frames `base..base + meta.len()`, all reserved so far.
    pub fn new(base: Frame, meta: &'a [PageMeta]) -> Self {
        debug_assert!(meta.len() < NONE as usize);
        let map = Map {
            meta,
            base: base.number(),
        };
        Self {
            map,
            lists: [NONE; ORDERS],
            nonempty: 0,
            free: 0,
            managed: 0,
        }
    }

    /// Gives the frames `first..first + count` to the allocator. They must be RAM that nobody uses.
    pub fn add(&mut self, first: Frame, count: u64) {
        let Some(start) = self.map.index(first) else {
            return;
        };
        let end = (start + count as usize).min(self.map.meta.len());
        for meta in &self.map.meta[start..end] {
            meta.managed.store(true, Relaxed);
        }
        self.managed += (end - start) as u64;
        self.release_range(start, end);
    }

    /// Pages in the free lists.
    pub fn free_pages(&self) -> u64 {
        self.free
    }

    /// Pages that were added.
    pub fn managed_pages(&self) -> u64 {
        self.managed
    }

    /// Whether the frame lies in a free block.
    pub fn is_free(&self, frame: Frame) -> bool {
        let head = self
            .map
            .index(frame)
            .and_then(|index| self.map.head_of(index));
        head.is_some_and(|head| self.map.meta[head].state() == State::Free)
    }

    /// What the block is that the frame lies in; `None` for a frame that was never added.
    pub fn block_of(&self, frame: Frame) -> Option<BlockState> {
        let head = self.map.head_of(self.map.index(frame)?)?;
        Some(match self.map.meta[head].state() {
            State::Free => BlockState::Free,
            State::Allocated | State::Retired | State::Body => BlockState::InUse,
        })
    }

    /// How many blocks of each order are free.
    pub fn free_blocks(&self) -> [u64; ORDERS] {
        self.lists.map(|first| {
            let mut count = 0;
            let mut at = first;
            while at != NONE {
                count += 1;
                at = self.map.meta[at as usize].next.load(Relaxed);
            }
            count
        })
    }

    /// A list without pages.
    pub fn empty_list(&self) -> PageList<'a> {
        PageList {
            map: self.map,
            first: NONE,
            last: NONE,
            count: 0,
        }
    }

    /// Takes a block of 2^`order` frames.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn allocate(&mut self, order: u8) -> Result<Frame, OutOfMemory> {
        if order > MAX_ORDER {
            return Err(OutOfMemory);
        }
        let (index, found) = self.take_at_least(order)?;
        self.trim(index, found, order);
        self.map.meta[index].set(State::Allocated, order);
        self.free -= 1 << order;
        Ok(self.map.frame(index))
    }

    /// Takes `count` single frames, from the largest blocks that fit, or none.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn allocate_list(&mut self, count: u64) -> Result<PageList<'a>, OutOfMemory> {
        if count > self.free {
            return Err(OutOfMemory);
        }
        self.free -= count;
        let mut list = self.empty_list();
        let mut left = count;
        while left > 0 {
            // The largest order that is not more than what is wanted, or else the largest block
            // that there is: then every block is smaller than that, and `free` says that there are
            // enough of them.
            let wanted = (left.ilog2() as u8).min(MAX_ORDER);
            let (index, order) = match self.take_at_least(wanted) {
                Ok((index, order)) => {
                    self.trim(index, order, wanted);
                    (index, wanted)
                }
                Err(OutOfMemory) => {
                    let order = self.nonempty.ilog2() as u8;
                    (self.pop(order), order)
                }
            };
            for page in index..index + (1 << order) {
                self.map.meta[page].set(State::Allocated, 0);
                list.append(page);
            }
            left -= 1 << order;
        }
        Ok(list)
    }

    /// Frees a block at once: [`retire`](Self::retire) and [`release`](Self::release).
    ///
    /// # Errors
    /// What is wrong with the call; nothing has changed.
    pub fn free(&mut self, frame: Frame, order: u8) -> Result<(), FreeError> {
        self.retire(frame, order)?;
        self.release(frame, order);
        Ok(())
    }

    /// Takes a block out of use without making it available.
    ///
    /// # Errors
    /// What is wrong with the call; nothing has changed.
    pub fn retire(&mut self, frame: Frame, order: u8) -> Result<(), FreeError> {
        self.map.retire(frame, order).map(|_| ())
    }

    /// Makes a retired block available.
    pub fn release(&mut self, frame: Frame, order: u8) {
        let index = (frame.number() - self.map.base) as usize;
        debug_assert!(self.map.meta[index].is(State::Retired, order));
        self.free += 1 << order;
        self.insert(index, order);
    }

    /// Makes the pages of a list available, in use until now or given up. Runs of adjacent frames
    /// become blocks at once.
    pub fn release_list(&mut self, list: PageList<'a>) {
        let mut next = list.first as usize;
        let mut left = list.count;
        while left > 0 {
            let start = next;
            let mut end = start;
            loop {
                let meta = &self.map.meta[end];
                next = meta.next.load(Relaxed) as usize;
                meta.set(State::Body, 0);
                end += 1;
                left -= 1;
                if left == 0 || next != end {
                    break;
                }
            }
            self.release_range(start, end);
        }
    }

    /// Says whether a page's contents are the poison pattern.
    pub fn set_poisoned(&mut self, frame: Frame, poisoned: bool) {
        if let Some(index) = self.map.index(frame) {
            self.map.meta[index].poisoned.store(poisoned, Relaxed);
        }
    }

    /// What [`set_poisoned`](Self::set_poisoned) last said.
    pub fn is_poisoned(&self, frame: Frame) -> bool {
        self.map
            .index(frame)
            .is_some_and(|index| self.map.meta[index].poisoned.load(Relaxed))
    }

    /// Puts the pages `start..end`, all bodies, into the free lists as the largest aligned blocks.
    fn release_range(&mut self, start: usize, end: usize) {
        self.free += (end - start) as u64;
        let mut index = start;
        while index < end {
            let aligned = (self.map.base + index as u64).trailing_zeros() as u8;
            let fits = (end - index).ilog2() as u8;
            let order = aligned.min(fits).min(MAX_ORDER);
            self.insert(index, order);
            index += 1 << order;
        }
    }

    /// Inserts a free block, merged with its buddy for as long as that is free and whole.
    fn insert(&mut self, mut index: usize, mut order: u8) {
        while order < MAX_ORDER {
            let buddy = (self.map.base + index as u64) ^ (1 << order);
            let Some(other) = buddy.checked_sub(self.map.base).map(|i| i as usize) else {
                break;
            };
            match self.map.meta.get(other) {
                Some(meta) if meta.is(State::Free, order) => {}
                _ => break,
            }
            self.unlink(other, order);
            self.map.meta[other].set(State::Body, 0);
            self.map.meta[index].set(State::Body, 0);
            index = index.min(other);
            order += 1;
        }
        self.push(index, order);
    }

    /// Takes the first block of at least `order` out of its list: index and order.
    fn take_at_least(&mut self, order: u8) -> Result<(usize, u8), OutOfMemory> {
        let large_enough = self.nonempty & (u32::MAX << order);
        if large_enough == 0 {
            return Err(OutOfMemory);
        }
        let found = large_enough.trailing_zeros() as u8;
        Ok((self.pop(found), found))
    }

    /// Gives the upper halves of a block back until it has the order that is wanted.
    fn trim(&mut self, index: usize, mut order: u8, wanted: u8) {
        while order > wanted {
            order -= 1;
            self.push(index + (1 << order), order);
        }
    }

    fn pop(&mut self, order: u8) -> usize {
        let index = self.lists[order as usize] as usize;
        self.unlink(index, order);
        self.map.meta[index].set(State::Body, 0);
        index
    }

    fn push(&mut self, index: usize, order: u8) {
        let first = self.lists[order as usize];
        let meta = &self.map.meta[index];
        meta.set(State::Free, order);
        meta.next.store(first, Relaxed);
        meta.previous.store(NONE, Relaxed);
        if first != NONE {
            self.map.meta[first as usize]
                .previous
                .store(index as u32, Relaxed);
        }
        self.lists[order as usize] = index as u32;
        self.nonempty |= 1 << order;
    }

    fn unlink(&mut self, index: usize, order: u8) {
        let meta = &self.map.meta[index];
        let (next, previous) = (meta.next.load(Relaxed), meta.previous.load(Relaxed));
        if next != NONE {
            self.map.meta[next as usize]
                .previous
                .store(previous, Relaxed);
        }
        if previous != NONE {
            self.map.meta[previous as usize].next.store(next, Relaxed);
        } else {
            self.lists[order as usize] = next;
            if next == NONE {
                self.nonempty &= !(1 << order);
            }
        }
    }
}

#[cfg(test)]
mod tests;
