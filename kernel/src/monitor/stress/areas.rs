//! Areas that vmalloc makes of pages of its own, in pages and in blocks: made, looked at, freed.

use super::{
    claims,
    contents::{Marks, alias, load, readable, shadow_forbids},
    dice::Dice,
    interrupts,
    messages::expect_report,
    permissions::Permissions,
    room::AREAS,
    wrong::{Wrong, ensure, wrong},
};
use crate::mm::{
    debug_pagealloc, kasan,
    page_table::huge::{Idle, Size},
    vmalloc::{
        self, Error, SplitError, split_block, vfree, vmalloc, vmalloc_aligned, vmalloc_huge,
        vzalloc,
    },
};
use vmsa::{Level, PAGE_SIZE, PageRange, VirtAddr};

/// Areas of a task in blocks, at most.
const HUGE: usize = 2;

/// One area.
pub(super) struct Area {
    pub(super) start: VirtAddr,
    pub(super) marks: Marks,
    /// What `set_memory_*` made of its pages; an area in blocks has none.
    pub(super) permissions: Option<Permissions>,
    size: u64,
}

impl Area {
    pub(super) fn pages(&self) -> u64 {
        self.size.div_ceil(PAGE_SIZE)
    }

    fn range(&self) -> Result<PageRange, Wrong> {
        PageRange::new(self.start, self.pages()).ok_or_else(|| wrong!("an area that is no range"))
    }

    /// Whether page `n` is valid.
    fn is_valid(&self, n: u64) -> bool {
        self.permissions.as_ref().is_none_or(|of| of.is_valid(n))
    }

    /// Whether the area is what it was made, and its neighbours are out of reach.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        self.marks.check(|n| self.is_valid(n))?;
        // The first byte behind what was asked for, and the guard page.
        let behind = self.start + self.size;
        let guard = self.start + self.pages() * PAGE_SIZE;
        ensure!(
            shadow_forbids(behind),
            "the shadow allows {behind}, behind an area"
        );
        ensure!(!readable(guard), "the guard page at {guard} can be read");
        Ok(())
    }

    /// Leaves it to the handlers of a CPU, to be freed there, or frees it where they have one, or
    /// something is wrong with it. It is looked at first.
    pub(super) fn leave_to_handlers(self, cpu: usize) -> Result<(), Wrong> {
        let start = self.start;
        let checked = self.check().and(claims::give_up(start));
        if checked.is_ok() && interrupts::leave(cpu, start) {
            return Ok(());
        }
        vfree(start).map_err(|error| wrong!("vfree({start}): {error}"))?;
        checked
    }

    /// Frees it. It is looked at first, and freed in any case.
    pub(super) fn free(self) -> Result<(), Wrong> {
        let start = self.start;
        let checked = self.check().and(claims::give_up(start));
        vfree(start).map_err(|error| wrong!("vfree({start}): {error}"))?;
        checked
    }
}

/// Those of one task.
pub(super) struct Areas {
    slots: [Option<Area>; AREAS],
    /// Nobody else allocates: what was freed is nobody's when the call returns.
    alone: bool,
    /// Pages that they hold, and may hold.
    pages: u64,
    budget: u64,
}

impl Areas {
    /// None, with room for `budget` pages.
    pub(super) fn new(budget: u64, alone: bool) -> Self {
        Self {
            slots: [const { None }; AREAS],
            alone,
            pages: 0,
            budget,
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// The pages that they hold.
    pub(super) fn pages(&self) -> u64 {
        self.pages
    }

    /// One of them.
    pub(super) fn one(&mut self, dice: &mut Dice) -> Option<&mut Area> {
        let slot = dice.slot(&self.slots, true)?;
        self.slots[slot].as_mut()
    }

    /// Makes one, if there is room.
    pub(super) fn make(&mut self, dice: &mut Dice) -> Result<(), Wrong> {
        let Some(slot) = dice.slot(&self.slots, false) else {
            return Ok(());
        };
        let huge = self
            .slots
            .iter()
            .flatten()
            .filter(|area| area.permissions.is_none());
        let how = match dice.below(32) {
            0 if huge.count() < HUGE => How::Huge,
            1..4 => How::Zeroed,
            4..8 => How::Aligned(PAGE_SIZE << dice.below(6)),
            _ => How::Plain,
        };
        // Areas that were taken over may have used more than there was.
        let most = self.budget.saturating_sub(self.pages);
        let pages = match how {
            How::Huge => dice.between(1, 1024).max(dice.below(1024)).min(most),
            _ if most == 0 => 0,
            _ => dice.pages(most),
        };
        if pages == 0 {
            return Ok(());
        }
        let size = pages * PAGE_SIZE - dice.below(PAGE_SIZE) * u64::from(dice.one_in(2));
        let tag = dice.tag();
        let (made, failed) = dice.allocating(|| match how {
            How::Plain => vmalloc(size),
            How::Zeroed => vzalloc(size),
            How::Aligned(align) => vmalloc_aligned(size, align),
            How::Huge => vmalloc_huge(size),
        });
        dice.note(size);
        let start = match made {
            Ok(start) => start,
            Err(Error::OutOfMemory) if failed => {
                dice.note(0);
                return Ok(());
            }
            Err(error) => return Err(wrong!("no area of {size} bytes: {error}")),
        };
        dice.note(start.as_u64());
        let area = Area {
            start,
            marks: Marks::new(start, size, tag),
            permissions: (how != How::Huge).then(Permissions::default),
            size,
        };
        // A block that can't be had is made up for by smaller ones.
        ensure!(
            !failed || how == How::Huge,
            "an allocation failed, and an area of {size} bytes was made all the same"
        );
        if let How::Aligned(align) = how {
            ensure!(
                start.is_aligned(align),
                "{start} is not aligned to {align} bytes"
            );
        }
        claims::claim(start, pages)?;
        if how == How::Zeroed {
            for (va, _) in area.marks.pages().filter_map(|n| area.marks.of_page(n)) {
                let found = load(va)?;
                ensure!(found == 0, "{va} of a zeroed area holds {found:#x}");
            }
        }
        area.marks.write()?;
        self.pages += pages;
        self.slots[slot] = Some(area);
        Ok(())
    }

    /// Frees one, if there is any.
    pub(super) fn free(&mut self, dice: &mut Dice) -> Result<(), Wrong> {
        let Some(slot) = dice.slot(&self.slots, true) else {
            return Ok(());
        };
        let report = kasan::is_on() && dice.one_in(256);
        dice.note(slot as u64);
        self.free_slot(slot, report)
    }

    fn free_slot(&mut self, slot: usize, report: bool) -> Result<(), Wrong> {
        let Some(area) = self.slots[slot].take() else {
            return Ok(());
        };
        self.pages -= area.pages();
        let start = area.start;
        area.free()?;
        if !self.alone {
            return Ok(());
        }
        if debug_pagealloc::is_on() {
            ensure!(!readable(start), "{start} was freed and can be read");
        }
        ensure!(
            shadow_forbids(start),
            "{start} was freed and the shadow allows it"
        );
        if report {
            expect_report();
            ensure!(
                kasan::access::load_u8(start).is_err(),
                "{start} was freed and can be read"
            );
        }
        Ok(())
    }

    /// Frees all.
    pub(super) fn free_all(&mut self) -> Result<(), Wrong> {
        // Each, whatever became of the one before it: here as in `pages` and `mappings`.
        (0..AREAS)
            .map(|slot| self.free_slot(slot, false))
            .fold(Ok(()), Result::and)
    }

    /// Hands one over to whoever takes it.
    pub(super) fn give_away(&mut self, dice: &mut Dice) -> Option<Area> {
        let slot = dice.slot(&self.slots, true)?;
        let area = self.slots[slot].take()?;
        self.pages -= area.pages();
        Some(area)
    }

    /// Takes one over that another task may have made, if there is room.
    pub(super) fn take_over(&mut self, area: Area) -> Result<(), Area> {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.is_none()) else {
            return Err(area);
        };
        self.pages += area.pages();
        *slot = Some(area);
        Ok(())
    }

    /// Looks at one.
    pub(super) fn check(&mut self, dice: &mut Dice) -> Result<(), Wrong> {
        let Some(area) = self.one(dice) else {
            return Ok(());
        };
        area.check()?;
        if dice.one_in(4)
            && let Some((va, value)) = area.marks.of_page(0)
        {
            let found = load(alias(va)?)?;
            ensure!(
                found == value,
                "{va} holds {value:#018x}, and its alias {found:#018x}"
            );
        }
        dice.note(area.start.as_u64());
        Ok(())
    }

    /// Splits a block of an area in blocks.
    pub(super) fn split(&mut self, dice: &mut Dice) -> Result<(), Wrong> {
        let huge = |area: &&Area| area.permissions.is_none();
        let Some(area) = self.slots.iter().flatten().find(huge) else {
            return Ok(());
        };
        let va = area.range()?.page(dice.below(area.pages()));
        let is_block = crate::mm::linear_map::kernel()
            .leaf(va)
            .is_some_and(|(_, level)| level == Level::L2);
        let promised = PageRange::new(va.align_down(Size::Block.bytes()), Size::Block.pages())
            .ok_or_else(|| wrong!("a block that is no range"))?;
        // SAFETY: only this task knows the area, and it does nothing else meanwhile.
        let idle = unsafe { Idle::promise(promised) };
        let (split, failed) = dice.allocating(|| split_block(va, &idle));
        dice.note(u64::from(split.is_ok()));
        let expected = match split {
            Ok(()) => is_block && !failed,
            Err(SplitError::NoBlock(_)) => !is_block,
            Err(SplitError::OutOfMemory) => is_block && failed,
            Err(_) => false,
        };
        ensure!(
            expected,
            "splitting at {va} gave {split:?}; a block is there: {is_block}, an allocation failed: \
             {failed}"
        );
        area.marks.check(|_| true)
    }

    /// Calls that must be refused, and change nothing.
    pub(super) fn misuse(&mut self, dice: &mut Dice) -> Result<(), Wrong> {
        let Some(area) = self.one(dice) else {
            return Ok(());
        };
        let (start, pages) = (area.start, area.pages());
        let inside = start + dice.between(1, pages) * PAGE_SIZE;
        dice.note(inside.as_u64());
        expect_report();
        let freed = vfree(inside);
        ensure!(
            freed == Err(Error::NoArea(inside)),
            "vfree({inside}) gave {freed:?}"
        );
        expect_report();
        let unmapped = vmalloc::vunmap(start);
        ensure!(
            unmapped == Err(Error::NoArea(start)),
            "vunmap({start}) gave {unmapped:?}"
        );
        let nothing = vmalloc(0);
        ensure!(
            nothing == Err(Error::Invalid),
            "vmalloc(0) gave {nothing:?}"
        );
        let too_much = vmalloc(1 << 46);
        ensure!(
            too_much == Err(Error::TooLarge),
            "an area of 64 TiB gave {too_much:?}"
        );
        area.check()
    }
}

/// Which call makes an area.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Plain,
    Zeroed,
    Aligned(u64),
    Huge,
}
