//! The buddy system as a value: which frames are free, in blocks of 2^order, over metadata that it
//! is lent.
//!
//! Every block, free or allocated, has one head: its first page, which holds the block's state and
//! order. All other pages of a block are bodies. So one look at a page tells whether it may be
//! freed, and with which order.

mod blocks;

pub use blocks::BlockList;

use super::{
    error::{FreeError, OutOfMemory},
    list::{Chain, Runs},
    map::{MANY, MAX_ORDER, Map, NONE, PageMeta, State},
};
use core::sync::atomic::Ordering::Relaxed;
use vmsa::Frame;

/// How many orders there are.
pub const ORDERS: usize = MAX_ORDER as usize + 1;

/// The allocator's state.
#[derive(Debug)]
pub struct Buddy<'a> {
    map: Map<'a>,
    /// The first free block of each order.
    lists: [u32; ORDERS],
    /// Bit n: the list of order n has a block.
    nonempty: u32,
    /// Pages in the free lists, but for those that are [reserved](Self::reserve).
    free: u64,
    managed: u64,
}

impl<'a> Buddy<'a> {
    /// An allocator of the frames `base..base + meta.len()`, all reserved so far.
    pub fn new(base: Frame, meta: &'a [PageMeta]) -> Self {
        debug_assert!(meta.len() < MANY as usize);
        // `Map::frame` relies on it, whatever a link says.
        assert!(base.checked_add(u32::MAX.into()).is_some());
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

    /// Without frames: every call is refused.
    pub const EMPTY: Self = Self {
        map: Map { meta: &[], base: 0 },
        lists: [NONE; ORDERS],
        nonempty: 0,
        free: 0,
        managed: 0,
    };

    /// What is known of its frames.
    pub(super) fn map(&self) -> Map<'a> {
        self.map
    }

    /// Pages in the free lists.
    #[inline]
    pub fn free_pages(&self) -> u64 {
        self.free
    }

    /// Pages that were added.
    pub fn managed_pages(&self) -> u64 {
        self.managed
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

    /// Takes a block of 2^`order` frames.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn allocate(&mut self, order: u8) -> Result<Frame, OutOfMemory> {
        // What is reserved is in the free lists, and promised to somebody else.
        if order > MAX_ORDER || self.free < 1 << order {
            return Err(OutOfMemory);
        }
        let (index, found) = self.take_at_least(order)?;
        self.trim(index, found, order);
        self.map.meta[index].set(State::Allocated, order);
        self.free -= 1 << order;
        Ok(self.map.frame(index))
    }

    /// Promises the caller `count` single frames, who [takes](Self::take_reserved) all of them, in
    /// as many steps as it likes: nobody else gets them meanwhile.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    #[inline]
    pub fn reserve(&mut self, count: u64) -> Result<(), OutOfMemory> {
        self.free = self.free.checked_sub(count).ok_or(OutOfMemory)?;
        Ok(())
    }

    /// Takes up to `count` reserved frames, from the largest blocks that fit, each as an allocated
    /// block of its own: how many. It ends with the block that brings it to `step` or above.
    pub fn take_reserved(&mut self, pages: &mut Chain, count: u64, step: u64) -> u64 {
        let mut left = count;
        while left > 0 && count - left < step {
            // The largest order that is not more than what is wanted, or else the largest block
            // that there is: then every block is smaller than that, and what was reserved says that
            // there are enough of them.
            let wanted = (left.ilog2() as u8).min(MAX_ORDER);
            if let Ok((index, order)) = self.take_at_least(wanted) {
                self.trim(index, order, wanted);
                let end = index + (1 << wanted);
                self.map.set_all(index, end, State::Allocated);
                pages.append_taken(self.map, index, 1 << wanted);
                left -= 1 << wanted;
            } else {
                let order = self.nonempty.ilog2() as u8;
                let more = (step - (count - left)).div_ceil(1 << order);
                let most = more.min(left >> order) as u32;
                let taken = match order {
                    0 => self.pop_singles(most, pages),
                    _ => self.pop_blocks(order, most, pages),
                };
                left -= u64::from(taken) << order;
            }
        }
        count - left
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
        self.release_index(index, order);
    }

    /// Makes the block whose head is `index`, and which is in no list, available.
    pub(super) fn release_index(&mut self, index: usize, order: u8) {
        self.free += 1 << order;
        self.insert(index, order);
    }

    /// Makes a page available that is in no list, and of which `meta` is known.
    #[inline(always)]
    pub(super) fn release_page(&mut self, index: usize, meta: &PageMeta) {
        self.free += 1;
        // Nothing to merge, in fragmented memory mostly.
        if self.map.free_buddy(index, 0).is_none() {
            self.link(index, meta, 0);
        } else {
            self.insert(index, 0);
        }
    }

    /// Makes the pages that come next in `runs` available, which are in no list and in the state
    /// `from`, up to `most` of them, up to the last run, and up to a run of more than one: in
    /// fragmented memory every run is one. How many they were; it ends before a page that is in
    /// another state.
    pub(super) fn release_singles(&mut self, runs: &mut Runs<'a>, most: u32, from: State) -> u32 {
        // In locals of its own, all that the loop needs is kept in registers.
        let mut left = runs.clone();
        let map = self.map;
        // The first and the last of those that are to be put into the list together: in the order of
        // the chain, so that the links of all but the last are there already.
        let mut first = NONE;
        let mut last: Option<(usize, &PageMeta)> = None;
        let mut done = 0;
        while done < most {
            let Some((index, meta)) = left.step_single() else {
                break;
            };
            if !meta.change(from, State::Free, 0) {
                left.go_back(index);
                break;
            }
            done += 1;
            if map.free_buddy(index, 0).is_some() {
                // A block to merge with, which may be one of those that were passed.
                self.splice(first, last);
                (first, last) = (NONE, None);
                self.insert(index, 0);
                continue;
            }
            match last {
                None => first = index as u32,
                Some((before, _)) => meta.previous.store(before as u32, Relaxed),
            }
            last = Some((index, meta));
        }
        self.splice(first, last);
        self.free += u64::from(done);
        *runs = left;
        done
    }

    /// Puts free single pages, chained both ways, at the head of their list.
    fn splice(&mut self, first: u32, last: Option<(usize, &PageMeta)>) {
        let Some((last_index, last)) = last else {
            return;
        };
        let behind = self.lists[0];
        last.next.store(behind, Relaxed);
        if let Some(behind) = self.map.meta.get(behind as usize) {
            behind.previous.store(last_index as u32, Relaxed);
        }
        self.map.meta[first as usize].previous.store(NONE, Relaxed);
        self.lists[0] = first;
        self.nonempty |= 1;
    }

    /// Puts the pages `start..end`, all bodies, into the free lists as the largest aligned blocks.
    pub(super) fn release_range(&mut self, start: usize, end: usize) {
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
        while order < MAX_ORDER
            && let Some(other) = self.map.free_buddy(index, order)
        {
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
        let meta = &self.map.meta[index];
        meta.set(State::Body, 0);
        self.set_first(order, meta.next.load(Relaxed));
        index
    }

    /// Takes the first `most` blocks of a list, or all that there are, as single pages that are
    /// allocated: how many blocks.
    fn pop_blocks(&mut self, order: u8, most: u32, pages: &mut Chain) -> u32 {
        let map = self.map;
        let mut next = self.lists[order as usize];
        let mut taken = 0;
        while taken < most
            && let Some(meta) = map.meta.get(next as usize)
        {
            let index = next as usize;
            next = meta.next.load(Relaxed);
            map.set_all(index, index + (1 << order), State::Allocated);
            pages.append_taken(map, index, 1 << order);
            taken += 1;
        }
        self.set_first(order, next);
        taken
    }

    /// The same for single pages. They are chained already: what is left to write of each is its
    /// state.
    fn pop_singles(&mut self, most: u32, pages: &mut Chain) -> u32 {
        let map = self.map;
        let first = self.lists[0];
        let (mut last, mut next) = (first, first);
        let mut taken = 0;
        while taken < most
            && let Some(meta) = map.meta.get(next as usize)
        {
            meta.set(State::Allocated, 0);
            last = next;
            next = meta.next.load(Relaxed);
            taken += 1;
        }
        if taken > 0 {
            pages.append_singles(map, first, last, taken);
            self.set_first(0, next);
        }
        taken
    }

    /// Lets the list of an order begin with the block `first`: those before it were taken.
    #[inline]
    fn set_first(&mut self, order: u8, first: u32) {
        self.lists[order as usize] = first;
        match self.map.meta.get(first as usize) {
            None => self.nonempty &= !(1 << order),
            Some(first) => first.previous.store(NONE, Relaxed),
        }
    }

    fn push(&mut self, index: usize, order: u8) {
        self.link(index, &self.map.meta[index], order);
    }

    /// Puts a block at the head of a list, as free.
    #[inline(always)]
    fn link(&mut self, index: usize, meta: &PageMeta, order: u8) {
        let first = self.lists[order as usize];
        meta.set(State::Free, order);
        meta.next.store(first, Relaxed);
        meta.previous.store(NONE, Relaxed);
        // NONE is no page's index, here and below: one comparison is for the end and for the
        // bounds.
        if let Some(first) = self.map.meta.get(first as usize) {
            first.previous.store(index as u32, Relaxed);
        }
        self.lists[order as usize] = index as u32;
        self.nonempty |= 1 << order;
    }

    fn unlink(&mut self, index: usize, order: u8) {
        let meta = &self.map.meta[index];
        let (next, previous) = (meta.next.load(Relaxed), meta.previous.load(Relaxed));
        let Some(before) = self.map.meta.get(previous as usize) else {
            return self.set_first(order, next);
        };
        before.next.store(next, Relaxed);
        if let Some(after) = self.map.meta.get(next as usize) {
            after.previous.store(previous, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
