//! `vmap` and `vunmap`: pages of others at further addresses.

use super::{
    claims,
    contents::{load, readable, shadow_forbids, store, writable},
    dice::Dice,
    pages::{Page, Pages},
    room::MAPPINGS,
    wrong::{Wrong, ensure, wrong},
};
use crate::mm::{
    debug_pagealloc, linear_map,
    vmalloc::{Error, vmap, vunmap},
};
use vmsa::{Attributes, PAGE_SIZE, VirtAddr};

/// Pages of one.
const MOST: usize = 6;

/// One mapping.
struct Mapping {
    start: VirtAddr,
    read_only: bool,
    pages: [Option<Page>; MOST],
}

impl Mapping {
    /// Each address with its page.
    fn pages(&self) -> impl Iterator<Item = (VirtAddr, Page)> + use<'_> {
        let nth =
            |(n, page): (usize, &Option<Page>)| Some((self.start + n as u64 * PAGE_SIZE, (*page)?));
        self.pages.iter().enumerate().filter_map(nth)
    }

    /// Whether `count` of its pages, from page `first` on, are there, by both addresses.
    fn check(&self, pages: &Pages, first: usize, count: usize) -> Result<(), Wrong> {
        for (va, page) in self.pages().skip(first).take(count) {
            let mark = pages.mark(page);
            if self.read_only {
                store(linear_map::virt(page.frame.start()), mark)?;
                ensure!(!writable(va, mark), "{va} is read-only and can be written");
            } else {
                store(va, mark)?;
            }
            for va in [va, linear_map::virt(page.frame.start())] {
                let found = load(va)?;
                ensure!(
                    found == mark,
                    "{va} holds {found:#018x}, and {mark:#018x} was written"
                );
            }
        }
        Ok(())
    }
}

/// Those of one task.
pub(super) struct Mappings {
    slots: [Option<Mapping>; MAPPINGS],
    /// Nobody else allocates: what was unmapped is nobody's when the call returns.
    alone: bool,
}

impl Mappings {
    /// None.
    pub(super) fn new(alone: bool) -> Self {
        Self {
            slots: [const { None }; MAPPINGS],
            alone,
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Maps a few pages, if there is room and there are any.
    pub(super) fn map(&mut self, pages: &mut Pages, dice: &mut Dice) -> Result<(), Wrong> {
        let Some(slot) = dice.slot(&self.slots, false) else {
            return Ok(());
        };
        let Some(first) = pages.one(dice) else {
            return Ok(());
        };
        let mut chosen = [None; MOST];
        let mut frames = [first.frame; MOST];
        let count = dice.between(1, MOST as u64) as usize;
        for (page, frame) in chosen.iter_mut().zip(&mut frames).take(count) {
            let one = pages.one(dice).unwrap_or(first);
            (*page, *frame) = (Some(one), one.frame);
        }
        let read_only = dice.one_in(4);
        let attributes = if read_only {
            Attributes::KERNEL_RODATA
        } else {
            Attributes::KERNEL_DATA
        };
        let (mapped, failed) = dice.allocating(|| vmap(&frames[..count], attributes));
        let start = match mapped {
            Ok(start) if !failed => start,
            Err(Error::OutOfMemory) if failed => {
                dice.note(0);
                return Ok(());
            }
            other => {
                return Err(wrong!(
                    "vmap gave {other:?}; an allocation failed: {failed}"
                ));
            }
        };
        dice.note(start.as_u64());
        claims::claim(start, count as u64)?;
        let mapping = Mapping {
            start,
            read_only,
            pages: chosen,
        };
        mapping.pages().for_each(|(_, page)| pages.used(page));
        let checked = mapping.check(pages, 0, MOST);
        self.slots[slot] = Some(mapping);
        checked
    }

    /// Looks at one.
    pub(super) fn check(&self, pages: &Pages, dice: &mut Dice) -> Result<(), Wrong> {
        match dice
            .slot(&self.slots, true)
            .and_then(|slot| self.slots[slot].as_ref())
        {
            Some(mapping) => mapping.check(pages, dice.below(MOST as u64) as usize, 1),
            None => Ok(()),
        }
    }

    /// Unmaps one, if there is any.
    pub(super) fn unmap(&mut self, pages: &mut Pages, dice: &mut Dice) -> Result<(), Wrong> {
        let Some(slot) = dice.slot(&self.slots, true) else {
            return Ok(());
        };
        dice.note(slot as u64);
        self.unmap_slot(slot, pages)
    }

    fn unmap_slot(&mut self, slot: usize, pages: &mut Pages) -> Result<(), Wrong> {
        let Some(mapping) = self.slots[slot].take() else {
            return Ok(());
        };
        let start = mapping.start;
        let checked = mapping.check(pages, 0, 2).and(claims::give_up(start));
        let unmapped = vunmap(start);
        mapping.pages().for_each(|(_, page)| pages.unused(page));
        ensure!(unmapped == Ok(()), "vunmap({start}) gave {unmapped:?}");
        checked?;
        if !self.alone {
            return Ok(());
        }
        if debug_pagealloc::is_on() {
            ensure!(!readable(start), "{start} was unmapped and can be read");
        }
        ensure!(
            shadow_forbids(start),
            "{start} was unmapped and the shadow allows it"
        );
        Ok(())
    }

    /// Unmaps all.
    pub(super) fn unmap_all(&mut self, pages: &mut Pages) -> Result<(), Wrong> {
        (0..MAPPINGS)
            .map(|slot| self.unmap_slot(slot, pages))
            .fold(Ok(()), Result::and)
    }
}
