//! Blocks of any order in a chain through the metadata of their first pages.

use super::{Frame, FreeError, Map, NONE, Relaxed, State};

/// Allocated blocks, in no memory of its own; `PageList` is the same for single
/// pages.
///
/// Whoever has the list owns its blocks. Dropping it loses them.
#[derive(Debug)]
#[must_use = "the blocks of a list that is dropped are lost"]
pub struct BlockList<'a> {
    map: Map<'a>,
    first: u32,
    last: u32,
}

impl<'a> BlockList<'a> {
    /// A list without blocks.
    pub(in super::super) fn new(map: Map<'a>) -> Self {
        Self {
            map,
            first: NONE,
            last: NONE,
        }
    }

    /// Appends an allocated block that is the caller's, by its first page.
    ///
    /// # Errors
    /// [`FreeError::Reserved`], [`FreeError::NotAllocated`]: it is no such block.
    pub fn push(&mut self, frame: Frame) -> Result<(), FreeError> {
        let index = self.map.index(frame).ok_or(FreeError::Reserved)?;
        if self.map.meta[index].state() != State::Allocated {
            return Err(FreeError::NotAllocated);
        }
        self.map.meta[index].next.store(NONE, Relaxed);
        if self.first == NONE {
            self.first = index as u32;
        } else {
            self.map.meta[self.last as usize]
                .next
                .store(index as u32, Relaxed);
        }
        self.last = index as u32;
        Ok(())
    }

    /// First page and order of each block, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (Frame, u8)> + Clone + use<'a> {
        let (map, mut next) = (self.map, self.first);
        core::iter::from_fn(move || {
            // The next one is read before this one is handed out, and may be freed.
            let meta = map.meta.get(next as usize)?;
            let frame = map.frame(next as usize);
            next = meta.next.load(Relaxed);
            Some((frame, meta.order()))
        })
    }

    /// The blocks, each on its own from now on.
    pub fn into_blocks(self) -> impl Iterator<Item = (Frame, u8)> + use<'a> {
        self.iter()
    }
}

impl Map<'_> {
    /// Makes single pages of an allocated block, each to be freed on its own (Linux `split_page`).
    ///
    /// # Errors
    /// What is wrong with the call; nothing has changed.
    pub(in super::super) fn split(self, frame: Frame, order: u8) -> Result<(), FreeError> {
        let index = self.index(frame).ok_or(FreeError::Reserved)?;
        if !self.meta[index].is(State::Allocated, order) {
            return Err(self.why_not(frame, index, order));
        }
        for page in &self.meta[index..index + (1 << order)] {
            page.set(State::Allocated, 0);
        }
        Ok(())
    }
}
