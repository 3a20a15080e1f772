//! Blocks of `vm_map_ram`: areas whose pages are given out one after the other.
//!
//! A page is given out once: when it has been unmapped it is *dirty* and stays so, until all of the
//! block is dirty and is purged as a whole. So to unmap needs no flush, and a block no list of what
//! is free in it. Linux gives out 2^n pages at a time; here it is as many as were asked for, since
//! what is never given out again need not be found again either.

use core::fmt;

use vmsa::{PAGE_SHIFT, PageRange, VirtAddr};

use super::{
    AreaKind, BusyAreas, Chain, Link, VmapArea, address, page_numbers,
    slot_counts::{BLOCK_PAGES, Slots},
};

/// The blocks of an arena. They are busy areas; this says where pages are given out, and which
/// blocks have some to be flushed.
pub struct Blocks {
    /// Where pages are given out.
    current: Link,
    /// Dirty blocks, linked by `next_dirty`.
    dirty: Link,
}

// SAFETY: the records are those of busy areas of the same arena, and are reached only by whoever
// has the arena.
unsafe impl Send for Blocks {}

impl Default for Blocks {
    fn default() -> Self {
        Self::new()
    }
}

impl Blocks {
    /// No blocks.
    pub const fn new() -> Self {
        Self {
            current: None,
            dirty: None,
        }
    }

    /// Gives out `pages` adjacent pages. `None` where that takes a new block.
    #[inline]
    pub fn take(&mut self, pages: u16) -> Option<VirtAddr> {
        let block = self.current?;
        let slots = block.slots.get();
        if slots.used > BLOCK_PAGES - pages {
            return None;
        }
        let used = slots.used + pages;
        block.slots.set(Slots { used, ..slots });
        Some(address(block.first.get() + u64::from(slots.used)))
    }

    /// Has pages given out from a new block, the area that starts at `start`, of which it takes the
    /// first `pages`. What is left of the old one is never given out: less than was asked for.
    /// Returns whether the old one waits for the purge now.
    pub fn renew(&mut self, busy: &BusyAreas, start: VirtAddr, pages: u16) -> bool {
        let block = busy.starting_at(start).expect("a block is an area in use");
        debug_assert_eq!(block.pages(), u64::from(BLOCK_PAGES));
        let mut through = false;
        if let Some(old) = self.current {
            let slots = old.slots.get();
            let rest = BLOCK_PAGES - slots.used;
            let slots = Slots {
                used: BLOCK_PAGES,
                dirty: slots.dirty + rest,
                ..slots
            };
            old.slots.set(slots);
            through = rest > 0 && slots.is_through();
            self.list(old);
        }
        block.slots.set(Slots {
            used: pages,
            ..Slots::NONE
        });
        self.current = Some(block);
        through
    }

    /// Whether a purge has something to do.
    pub fn are_dirty(&self) -> bool {
        self.dirty.is_some()
    }

    /// Whether a range lies in a block, among the pages that are given out.
    pub fn holds(&self, busy: &BusyAreas, range: PageRange) -> bool {
        let (first, end) = page_numbers(range);
        self.block_of(busy, first)
            .is_some_and(|block| end - block.first.get() <= u64::from(block.slots.get().used))
    }

    /// The block that a page lies in.
    #[inline]
    fn block_of(&self, busy: &BusyAreas, page: u64) -> Link {
        let holds = |block: &&VmapArea| page.wrapping_sub(block.first.get()) < BLOCK_PAGES.into();
        self.current.filter(holds).or_else(|| busy.block_at(page))
    }

    /// Takes back pages that were given out, of a block. `dirty` of them were mapped. Returns
    /// whether the block waits for the purge now.
    #[inline]
    pub fn give_back(&mut self, busy: &BusyAreas, range: PageRange, dirty: u16) -> bool {
        let (page, end) = page_numbers(range);
        let Some(block) = self.block_of(busy, page) else {
            return false;
        };
        let slots = block.slots.get();
        let first = page - block.first.get();
        let end = end - block.first.get();
        debug_assert!(end <= slots.used.into() && slots.dirty + dirty <= slots.used);
        let slots = Slots {
            dirty: slots.dirty + dirty,
            first: slots.first.min(first as u16),
            end: slots.end.max(end as u16),
            ..slots
        };
        block.slots.set(slots);
        self.list(block);
        slots.is_through()
    }

    /// Takes back the page at `start` as [`give_back`](Self::give_back) does, where little is to be
    /// seen to: it was given out from the block from which pages are given out now, which is listed
    /// already and does not become dirty as a whole. `unmap` unmaps it, and says whether it was
    /// mapped. False where any of that is not so; then nothing has been taken back.
    #[inline(always)]
    pub fn give_back_single(&mut self, start: VirtAddr, unmap: impl FnOnce() -> bool) -> bool {
        let Some(block) = self.current else {
            return false;
        };
        let slots = block.slots.get();
        // The number of the page in the block. What is no multiple of a page, or below the block, is a
        // number with high bits set, and so beyond all of them.
        let bytes = start.as_u64().wrapping_sub(block.first.get() << PAGE_SHIFT);
        let page = bytes.rotate_right(PAGE_SHIFT);
        let short = page < slots.used.into() && slots.listed && slots.dirty < BLOCK_PAGES - 1;
        if !short || !unmap() {
            return false;
        }
        // Read again: what the fields hold need not be kept over all that, and stays in registers.
        let slots = block.slots.get();
        block.slots.set(Slots {
            dirty: slots.dirty + 1,
            first: slots.first.min(page as u16),
            end: slots.end.max(page as u16 + 1),
            ..slots
        });
        true
    }

    /// Puts a block in the list of dirty ones, if it is not there.
    #[inline]
    fn list(&mut self, block: &'static VmapArea) {
        let slots = block.slots.get();
        if !slots.listed {
            block.slots.set(Slots {
                listed: true,
                ..slots
            });
            block.next_dirty.set(self.dirty);
            self.dirty = Some(block);
        }
    }

    /// Takes the dirty blocks for a purge. Those that are through leave the busy areas for
    /// `through`, and are counted; of the others it gets the pages that have to be flushed.
    pub fn take_dirty(&mut self, busy: &mut BusyAreas, through: &mut Chain) -> (DirtyBlocks, u64) {
        let (mut taken, mut count) = (DirtyBlocks::NONE, 0);
        let mut next = self.dirty.take();
        while let Some(block) = next {
            next = block.next_dirty.get();
            let slots = block.slots.get();
            if slots.is_through() {
                if self
                    .current
                    .is_some_and(|current| core::ptr::eq(current, block))
                {
                    self.current = None;
                }
                through.push(busy.take_out(block));
                count += 1;
                continue;
            }
            block.flushing.set((slots.first, slots.end));
            block.slots.set(Slots {
                first: BLOCK_PAGES,
                end: 0,
                ..slots
            });
            block.next_dirty.set(taken.first);
            taken.first = Some(block);
        }
        (taken, count)
    }

    /// Takes back the blocks of a purge whose flush is complete.
    pub fn flushed(&mut self, dirty: DirtyBlocks) {
        let mut next = dirty.first;
        while let Some(block) = next {
            next = block.next_dirty.get();
            let slots = block.slots.get();
            block.slots.set(Slots {
                listed: false,
                ..slots
            });
            // Some pages may have become dirty since.
            if slots.first < slots.end || slots.is_through() {
                self.list(block);
            }
        }
    }
}

impl fmt::Debug for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocks")
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

/// Blocks of which pages are to be flushed, under the hand of a purge. They stay in use meanwhile.
#[must_use = "they are never flushed again unless they are given back"]
pub struct DirtyBlocks {
    first: Link,
}

// SAFETY: of a block that is listed only the purge reaches `next_dirty` and `flushing`, and it is
// not purged before it has been given back.
unsafe impl Send for DirtyBlocks {}

impl DirtyBlocks {
    /// None.
    pub const NONE: Self = Self { first: None };

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The pages to be flushed, a range a block. Some between them may be mapped.
    pub fn ranges(&self) -> impl Iterator<Item = PageRange> {
        core::iter::successors(self.first, |block| block.next_dirty.get()).filter_map(|block| {
            let (first, end) = block.flushing.get();
            let start = address(block.first.get() + u64::from(first));
            PageRange::new(start, u64::from(end.checked_sub(first)?))
        })
    }
}

impl fmt::Debug for DirtyBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ranges()).finish()
    }
}

impl BusyAreas {
    /// The block that a page lies in.
    fn block_at(&self, page: u64) -> Link {
        self.containing(page)
            .filter(|area| area.kind.get() == AreaKind::MapRamBlock)
    }
}
