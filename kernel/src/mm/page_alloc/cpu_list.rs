//! The single pages that a CPU keeps for itself (the per-CPU page lists of Linux), as data.
//!
//! Two stacks of at most [`BATCH`] pages. The first is used; when it is full, it becomes the second, and
//! what that held goes back to the buddy system; when it is empty, the second takes its place, and
//! only when both are empty [`BATCH`] pages come from the buddy system. So between two visits there
//! lie at least [`BATCH`] calls, whatever their order; the page that was freed last is allocated
//! first, while the caches still hold it; and what goes back is what lay longest. (The magazines of
//! Bonwick and Adams, "Magazines and Vmem", USENIX 2001, with the buddy system as the depot.)
//!
//! [`BATCH`] is 32: a batch is then one block of order 5 on fresh memory, a visit costs each page a
//! few instructions, and interrupts are masked for some thousand of them at most. Twice that, 256 KiB,
//! is what a CPU may hold back from the others and from merging (until somebody drains it): 2 MiB
//! with 8 CPUs, and less than Linux's least.

use super::{
    buddy::Buddy,
    list::Chain,
    map::{Map, NONE, PageMeta, State},
};
use core::sync::atomic::Ordering::Relaxed;

/// Pages that come and go together.
pub const BATCH: u32 = 32;

/// Pages chained through their metadata, the last first.
#[derive(Debug)]
struct Stack {
    first: u32,
    count: u32,
}

impl Stack {
    const EMPTY: Self = Self {
        first: NONE,
        count: 0,
    };

    /// Puts a page on top whose state says so already.
    #[inline(always)]
    fn push(&mut self, index: usize, meta: &PageMeta) {
        meta.next.store(self.first, Relaxed);
        self.first = index as u32;
        self.count += 1;
    }

    /// The page on top, in nobody's list: its state is the caller's to set.
    #[inline(always)]
    fn pop<'a>(&mut self, map: Map<'a>) -> Option<(usize, &'a PageMeta)> {
        // NONE is no page's index: one comparison is for the end and for the bounds.
        let index = self.first as usize;
        let meta = map.meta.get(index)?;
        self.first = meta.next.load(Relaxed);
        self.count -= 1;
        Some((index, meta))
    }
}

/// The pages of one CPU.
#[derive(Debug)]
pub struct CpuList {
    used: Stack,
    full: Stack,
}

impl CpuList {
    /// No pages.
    pub const EMPTY: Self = Self {
        used: Stack::EMPTY,
        full: Stack::EMPTY,
    };

    /// How many pages.
    pub fn count(&self) -> u64 {
        u64::from(self.used.count + self.full.count)
    }

    /// Hands out the page that came last, as allocated.
    #[inline(always)]
    pub(super) fn pop(&mut self, map: Map<'_>) -> Option<usize> {
        let (index, meta) = self.used.pop(map)?;
        meta.set(State::Allocated, 0);
        Some(index)
    }

    /// Whether there is room for a page.
    #[inline(always)]
    pub(super) fn has_room(&self) -> bool {
        self.used.count < BATCH
    }

    /// Takes a retired page, if there is room.
    #[inline(always)]
    pub(super) fn push(&mut self, index: usize, meta: &PageMeta) -> bool {
        let room = self.has_room();
        if room {
            meta.set(State::Listed, 0);
            self.used.push(index, meta);
        }
        room
    }

    /// Takes an allocated page at once, if it is one and there is room: one compare-exchange, where
    /// retiring it and then [`push`](Self::push) take that and a store.
    #[inline(always)]
    pub(super) fn take_in(&mut self, index: usize, meta: &PageMeta) -> bool {
        let taken = self.has_room() && meta.change(State::Allocated, State::Listed, 0);
        if taken {
            self.used.push(index, meta);
        }
        taken
    }

    /// Sees to it that there is a page to [`pop`](Self::pop), if there is one anywhere but in the
    /// list of another CPU. `buddy` is asked for the buddy system where it is needed.
    pub(super) fn refill<'a, B>(&mut self, map: Map<'a>, buddy: impl FnOnce() -> B)
    where
        B: core::ops::DerefMut<Target = Buddy<'a>>,
    {
        if self.full.count > 0 {
            core::mem::swap(&mut self.used, &mut self.full);
            return;
        }
        let mut pages = Chain::EMPTY;
        {
            let mut buddy = buddy();
            let wanted = u64::from(BATCH).min(buddy.free_pages());
            if buddy.reserve(wanted).is_err() {
                return;
            }
            buddy.take_reserved(&mut pages, wanted, wanted);
        }
        // The lowest on top: what is allocated one after the other is adjacent where it can be.
        for (start, end) in pages.runs(map).indices() {
            map.set_all(start, end, State::Listed);
            (start..end)
                .rev()
                .for_each(|index| self.used.push(index, &map.meta[index]));
        }
    }

    /// Makes room for a batch of pages.
    pub(super) fn make_room<'a, B>(&mut self, map: Map<'a>, buddy: impl FnOnce() -> B)
    where
        B: core::ops::DerefMut<Target = Buddy<'a>>,
    {
        core::mem::swap(&mut self.used, &mut self.full);
        if self.used.count > 0 {
            drain(&mut self.used, map, &mut buddy());
        }
    }

    /// Gives all pages back to the buddy system.
    pub(super) fn drain<'a>(&mut self, map: Map<'a>, buddy: &mut Buddy<'a>) {
        drain(&mut self.used, map, buddy);
        drain(&mut self.full, map, buddy);
    }
}

fn drain<'a>(stack: &mut Stack, map: Map<'a>, buddy: &mut Buddy<'a>) {
    while let Some((index, meta)) = stack.pop(map) {
        buddy.release_page(index, meta);
    }
}

#[cfg(test)]
mod tests;
