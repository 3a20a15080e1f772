//! The pages that a CPU keeps for itself (the per-CPU page lists of Linux), as data: single ones, and
//! those of lists.
//!
//! For single pages there are two stacks of at most [`BATCH`] pages. The first is used; when it is
//! full, it becomes the second, and what that held goes back to the buddy system; when it is empty,
//! the second takes its place, and only when both are empty [`BATCH`] pages come from the buddy
//! system. So between two visits there lie at least [`BATCH`] calls, whatever their order; the page
//! that was freed last is allocated first, while the caches still hold it; and what goes back is
//! what lay longest. (The magazines of Bonwick and Adams, "Magazines and Vmem", USENIX 2001, with
//! the buddy system as the depot.)
//!
//! [`BATCH`] is 32: a batch is then one block of order 5 on fresh memory, a visit costs each page a
//! few instructions, and interrupts are masked for some thousand of them at most.
//!
//! Lists of up to [`KEPT`] pages come from one chain, and go back to it, at its front: a list that
//! is freed and wanted again is not merged into blocks and split again (a third of the instructions
//! of a `vmalloc` of 16 pages). What was taken off last comes back first, mostly, and is then one
//! run with what was left: as long as that holds, every list is one run. Where the chain has fewer
//! pages than are wanted it goes back to the buddy system, which gives [`KEPT`] pages in its place,
//! in one block where it has one; where it would have more than [`KEPT`], what lay there goes back,
//! and the new list stays.
//!
//! A CPU may hold back 2 * [`BATCH`] + [`KEPT`] pages, 768 KiB, from the others and from merging, until
//! somebody drains it; whoever finds too little memory does.

use super::{
    buddy::Buddy,
    list::Chain,
    map::{Map, NONE, PageMeta, State},
};
use core::sync::atomic::Ordering::Relaxed;

/// Single pages that come and go together.
pub const BATCH: u32 = 32;
/// The most pages that the chain has: one block of order 7.
pub const KEPT: u32 = 128;

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
    /// Pages of lists. All are [`State::Listed`], as in the stacks.
    kept: Chain,
}

impl CpuList {
    /// No pages.
    pub const EMPTY: Self = Self {
        used: Stack::EMPTY,
        full: Stack::EMPTY,
        kept: Chain::EMPTY,
    };

    /// How many pages.
    pub fn count(&self) -> u64 {
        u64::from(self.used.count + self.full.count) + self.kept.count()
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

    /// Hands out `count` pages of the chain, as allocated: in one run, mostly. `None` where it has
    /// fewer: then it is to be [refilled](Self::refill_kept).
    #[inline]
    pub(super) fn take_kept(&mut self, map: Map<'_>, count: u32) -> Option<Chain> {
        self.kept.take_front(map, count)
    }

    /// As [`take_kept`](Self::take_kept), if that is as short as it mostly is: the chain is one
    /// run, and has more.
    #[inline(always)]
    pub(super) fn take_kept_run(&mut self, map: Map<'_>, count: u64) -> Option<Chain> {
        self.kept.take_front_run(map, u32::try_from(count).ok()?)
    }

    /// As [`keep`](Self::keep), if that is as short as it mostly is: the pages are in use, and one run
    /// together with the chain. If not, nothing has changed.
    #[inline(always)]
    pub(super) fn keep_run(&mut self, map: Map<'_>, pages: &Chain) -> bool {
        self.kept.count() + pages.count() <= KEPT.into()
            && self.kept.join_front(map, pages, State::Listed)
    }

    /// Sees to it that the chain has `count` pages, up to [`KEPT`], if the buddy system does.
    #[cold]
    #[inline(never)]
    pub(super) fn refill_kept<'a>(&mut self, map: Map<'a>, count: u32, buddy: &mut Buddy<'a>) {
        drain_chain(&mut self.kept, map, buddy);
        let wanted = u64::from(KEPT).min(buddy.free_pages());
        if wanted < count.into() || buddy.reserve(wanted).is_err() {
            return;
        }
        let mut pages = Chain::EMPTY;
        buddy.take_reserved(&mut pages, wanted, wanted);
        for (start, end) in pages.runs(map).indices() {
            map.set_all(start, end, State::Listed);
        }
        self.kept.prepend(map, &pages);
    }

    /// Takes in the pages of a list, [`KEPT`] at most, whose state says so already.
    #[inline]
    pub(super) fn keep<'a, B>(&mut self, map: Map<'a>, pages: &Chain, buddy: impl FnOnce() -> B)
    where
        B: core::ops::DerefMut<Target = Buddy<'a>>,
    {
        if self.kept.count() + pages.count() > KEPT.into() {
            drain_chain(&mut self.kept, map, &mut buddy());
        }
        self.kept.prepend(map, pages);
    }

    /// Gives all pages back to the buddy system.
    pub(super) fn drain<'a>(&mut self, map: Map<'a>, buddy: &mut Buddy<'a>) {
        drain(&mut self.used, map, buddy);
        drain(&mut self.full, map, buddy);
        drain_chain(&mut self.kept, map, buddy);
    }
}

#[inline(never)]
fn drain_chain<'a>(chain: &mut Chain, map: Map<'a>, buddy: &mut Buddy<'a>) {
    let mut runs = core::mem::replace(chain, Chain::EMPTY).runs(map);
    loop {
        buddy.release_singles(&mut runs, KEPT, State::Listed);
        let Some((start, end)) = runs.step() else {
            return;
        };
        map.set_all(start, end, State::Body);
        buddy.release_range(start, end);
    }
}

fn drain<'a>(stack: &mut Stack, map: Map<'a>, buddy: &mut Buddy<'a>) {
    while let Some((index, meta)) = stack.pop(map) {
        buddy.release_page(index, meta);
    }
}

#[cfg(test)]
mod tests;
