//! Pages of the page allocator: blocks and lists, allocated, split, taken out of the linear map and
//! put back, and given back.

use super::{
    contents::{load, readable, store},
    dice::{Dice, mix},
    messages::expect_report,
    wrong::{Wrong, ensure, wrong},
};
use crate::mm::{
    debug_pagealloc, lazy, linear_map,
    page_alloc::{self, BlockState, OutOfMemory, PageList},
    set_memory::{Error, set_memory_valid},
};
use vmsa::Frame;

/// Blocks and lists that there can be at a time.
pub(super) const HOLDINGS: usize = 20;

/// Pages that were allocated by one call.
pub(super) struct Holding {
    what: What,
    tag: u64,
    /// Mappings of its pages.
    users: u32,
}

enum What {
    Block(Frame, u8),
    /// A block that was made single pages.
    Split(Frame, u8),
    List(PageList),
}

impl Holding {
    pub(super) fn count(&self) -> u64 {
        match &self.what {
            What::Block(_, order) | What::Split(_, order) => 1 << order,
            What::List(list) => list.count(),
        }
    }

    fn frame(&self, n: u64) -> Option<Frame> {
        match &self.what {
            What::Block(first, _) | What::Split(first, _) => first.checked_add(n),
            What::List(list) => list.iter().nth(n as usize),
        }
    }

    /// The pages whose contents are looked at: the first, the last, and one in between.
    fn marked(&self) -> impl Iterator<Item = (Frame, u64)> + use<'_> {
        let last = self.count() - 1;
        let nth = move |n| Some((self.frame(n)?, mix(self.tag ^ n)));
        let between = (last > 1).then_some(last / 2);
        let end = (last > 0).then_some(last);
        [Some(0), between, end]
            .into_iter()
            .flatten()
            .filter_map(nth)
    }

    /// Whether it has its contents.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        for (frame, mark) in self.marked() {
            let found = load(linear_map::virt(frame.start()))?;
            ensure!(
                found == mark,
                "page {frame} holds {found:#018x}, and {mark:#018x} was written"
            );
        }
        Ok(())
    }

    /// Gives the pages back.
    pub(super) fn free(self, one_by_one: bool) -> Result<(), Wrong> {
        let free = |frame: Frame, order| {
            lazy::call_page_allocator(|| page_alloc::free(frame, order))
                .map_err(|error| wrong!("freeing page {frame}, order {order}: {error}"))
        };
        match self.what {
            What::Block(first, order) => free(first, order),
            What::Split(first, order) => {
                let mut frames = (0..1 << order).filter_map(|n| first.checked_add(n));
                if one_by_one {
                    return frames.try_for_each(|frame| free(frame, 0));
                }
                let Some(mut list) = page_alloc::empty_list() else {
                    return Err(wrong!("the page allocator is closed"));
                };
                frames
                    .try_for_each(|frame| page_alloc::give_up(&mut list, frame))
                    .map_err(|error| wrong!("giving up a page of a split block: {error}"))?;
                lazy::call_page_allocator(|| page_alloc::free_list(list));
                Ok(())
            }
            What::List(list) => {
                lazy::call_page_allocator(|| page_alloc::free_list(list));
                Ok(())
            }
        }
    }
}

/// A page of one of the holdings.
#[derive(Clone, Copy)]
pub(super) struct Page {
    slot: usize,
    nth: u64,
    pub(super) frame: Frame,
}

/// Those of one task.
pub(super) struct Pages {
    slots: [Option<Holding>; HOLDINGS],
    /// Nobody else allocates: what was freed is nobody's when the call returns.
    alone: bool,
    held: u64,
    budget: u64,
}

impl Pages {
    /// None, with room for `budget` pages.
    pub(super) fn new(budget: u64, alone: bool) -> Self {
        Self {
            slots: [const { None }; HOLDINGS],
            alone,
            held: 0,
            budget,
        }
    }

    /// How many are held.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Allocates a block or a list, if there is room.
    pub(super) fn allocate(&mut self, dice: &mut Dice) -> Result<(), Wrong> {
        let Some(slot) = dice.slot(&self.slots, false) else {
            return Ok(());
        };
        let most = self.budget.saturating_sub(self.held);
        let order = match dice.below(256) {
            0 => 9,
            1..16 => dice.below(7) as u8,
            _ => dice.below(3) as u8,
        };
        let count = dice.pages(64);
        let tag = dice.tag();
        let block = dice.one_in(2);
        if most < if block { 1 << order } else { count } {
            return Ok(());
        }
        let (got, failed) = dice.allocating(|| {
            lazy::call_page_allocator(|| {
                if block {
                    page_alloc::allocate(order).map(|frame| What::Block(frame, order))
                } else {
                    page_alloc::allocate_list(count).map(What::List)
                }
            })
        });
        dice.note(u64::from(order) | count << 8 | u64::from(block) << 16);
        let what = match got {
            Ok(what) if !failed => what,
            Err(OutOfMemory) if failed => {
                dice.note(0);
                return Ok(());
            }
            Ok(_) => return Err(wrong!("an allocation failed, and gave pages all the same")),
            Err(OutOfMemory) => return Err(wrong!("no pages, and nothing made it fail")),
        };
        let holding = Holding {
            what,
            tag,
            users: 0,
        };
        for (frame, mark) in holding.marked() {
            ensure!(
                page_alloc::block_of(frame) == Some(BlockState::InUse),
                "page {frame} was handed out and is not in use"
            );
            store(linear_map::virt(frame.start()), mark)?;
        }
        if let What::Block(frame, order) = holding.what {
            ensure!(
                frame.number().is_multiple_of(1 << order),
                "a block of order {order} at page {frame}"
            );
        }
        self.held += holding.count();
        self.slots[slot] = Some(holding);
        Ok(())
    }

    /// Frees a block or a list that nothing maps, if there is any.
    pub(super) fn free(&mut self, dice: &mut Dice) -> Result<(), Wrong> {
        let Some(slot) = dice.slot(&self.slots, true) else {
            return Ok(());
        };
        let one_by_one = dice.one_in(4);
        dice.note(slot as u64);
        self.free_slot(slot, one_by_one)
    }

    fn free_slot(&mut self, slot: usize, one_by_one: bool) -> Result<(), Wrong> {
        let Some(holding) = self.slots[slot].take_if(|holding| holding.users == 0) else {
            return Ok(());
        };
        self.held -= holding.count();
        let checked = holding.check();
        let first = holding.frame(0);
        holding.free(one_by_one)?;
        checked?;
        if let Some(frame) = first.filter(|_| self.alone && debug_pagealloc::is_on()) {
            let va = linear_map::virt(frame.start());
            ensure!(
                !readable(va),
                "page {frame} was freed and can be read at {va}"
            );
        }
        Ok(())
    }

    /// Hands a block or a list over, that nothing maps, to whoever takes it.
    pub(super) fn give_away(&mut self, dice: &mut Dice) -> Option<Holding> {
        let slot = dice.slot(&self.slots, true)?;
        let holding = self.slots[slot].take_if(|holding| holding.users == 0)?;
        self.held -= holding.count();
        Some(holding)
    }

    /// Takes one over that another task may have made, if there is room.
    pub(super) fn take_over(&mut self, holding: Holding) -> Result<(), Holding> {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.is_none()) else {
            return Err(holding);
        };
        self.held += holding.count();
        *slot = Some(holding);
        Ok(())
    }

    /// Frees all.
    pub(super) fn free_all(&mut self) -> Result<(), Wrong> {
        (0..HOLDINGS)
            .map(|slot| self.free_slot(slot, false))
            .fold(Ok(()), Result::and)
    }

    /// Makes single pages of a block.
    pub(super) fn split(&mut self, dice: &mut Dice) -> Result<(), Wrong> {
        let Some(slot) = dice.slot(&self.slots, true) else {
            return Ok(());
        };
        if let Some(holding) = &mut self.slots[slot]
            && let What::Block(first, order) = holding.what
        {
            dice.note(slot as u64);
            page_alloc::split(first, order)
                .map_err(|error| wrong!("splitting page {first}, order {order}: {error}"))?;
            holding.what = What::Split(first, order);
            return holding.check();
        }
        Ok(())
    }

    /// Takes pages of a block out of the linear map, and puts them back.
    pub(super) fn take_out(&mut self, dice: &mut Dice) -> Result<(), Wrong> {
        let Some(slot) = dice.slot(&self.slots, true) else {
            return Ok(());
        };
        let Some(holding) = &self.slots[slot] else {
            return Ok(());
        };
        let (What::Block(first, order) | What::Split(first, order)) = holding.what else {
            return holding.check();
        };
        let va = linear_map::virt(first.start());
        let count = dice.between(1, 1 << order);
        dice.note(count);
        let out = set_memory_valid(va, count, false);
        if !linear_map::is_page_granular() {
            ensure!(
                out == Err(Error::Huge),
                "a part of the linear map, which is made of blocks: {out:?}"
            );
            return holding.check();
        }
        ensure!(out == Ok(()), "{count} pages at {va} made invalid: {out:?}");
        let seen = readable(va);
        let back = set_memory_valid(va, count, true);
        ensure!(back == Ok(()), "{count} pages at {va} made valid: {back:?}");
        ensure!(!seen, "{va} was made invalid and can be read");
        holding.check()
    }

    /// Frees that must be refused.
    pub(super) fn misuse(&mut self, dice: &mut Dice) -> Result<(), Wrong> {
        let Some(slot) = dice.slot(&self.slots, true) else {
            return Ok(());
        };
        if let Some(holding) = &self.slots[slot]
            && let What::Block(first, order) = holding.what
        {
            dice.note(slot as u64);
            expect_report();
            let freed = page_alloc::free(first, order + 1);
            ensure!(
                freed.is_err(),
                "page {first} of order {order} was freed as twice as much"
            );
        }
        Ok(())
    }

    /// A page of some holding, which must then be [`used`](Self::used).
    pub(super) fn one(&self, dice: &mut Dice) -> Option<Page> {
        let slot = dice.slot(&self.slots, true)?;
        let holding = self.slots[slot].as_ref()?;
        let nth = dice.below(holding.count().min(16));
        let frame = holding.frame(nth)?;
        Some(Page { slot, nth, frame })
    }

    /// Counts a user of a page: a mapping.
    pub(super) fn used(&mut self, page: Page) {
        if let Some(holding) = &mut self.slots[page.slot] {
            holding.users += 1;
        }
    }

    /// A user is gone.
    pub(super) fn unused(&mut self, page: Page) {
        if let Some(holding) = &mut self.slots[page.slot] {
            holding.users -= 1;
        }
    }

    /// What the first word of a page is, or becomes with this.
    pub(super) fn mark(&self, page: Page) -> u64 {
        let tag = self.slots[page.slot]
            .as_ref()
            .map_or(0, |holding| holding.tag);
        mix(tag ^ page.nth)
    }
}
