//! Leaves changed by hand, in whatever section is open: here, and only here, work stays put off
//! from one step to the next, since every other call ends with a section of its own.
//!
//! What was changed may not be used before it is settled: the section has been closed or paused,
//! or there was none that puts anything off. The frames are this run's until its end, so that none
//! goes back to the allocator with a flush outstanding.

use super::{
    contents::{load, readable, store, writable},
    dice::{Dice, mix},
    sections::Sections,
    wrong::{Wrong, ensure, wrong},
};
use crate::{
    arch::fixup::probe_read_u64,
    mm::{
        layout::SCRATCH,
        lazy::{self, Backend},
        linear_map,
        page_alloc::{self, OutOfMemory},
        page_table,
        tlb::{Flush, Removed, flush_kernel_range},
    },
};
use vmsa::{Attributes, Descriptor, Frame, Level, PAGE_SIZE, PageRange, VirtAddr};

/// Leaves of a task; more than a queue of stores or a list of flushes holds.
pub(super) const LEAVES: usize = 56;
/// Of those, at hand.
const AT_HAND: usize = 8;
/// Frames that are mapped there.
const FRAMES: usize = 4;

/// What a leaf is.
#[derive(Clone, Copy, Default)]
struct Leaf {
    mapped: Option<Mapped>,
    /// Changed, and perhaps not yet as it will be.
    open: bool,
}

#[derive(Clone, Copy)]
struct Mapped {
    frame: usize,
    read_only: bool,
}

impl Mapped {
    fn attributes(self) -> Attributes {
        if self.read_only {
            Attributes::KERNEL_RODATA
        } else {
            Attributes::KERNEL_DATA
        }
    }
}

/// All of them.
pub(super) struct Leaves {
    /// The number of the first among the scratch addresses.
    base: usize,
    frames: [Frame; FRAMES],
    tag: u64,
    leaves: [Leaf; LEAVES],
    /// The first of those that are at hand: what is done to a leaf is soon followed by more.
    focus: usize,
}

fn broken(error: page_table::Error) -> Wrong {
    wrong!("a leaf of the scratch addresses: {error}")
}

impl Leaves {
    /// None mapped, of the `part`-th share of the scratch addresses. The tables and the frames for
    /// them are made.
    pub(super) fn new(part: usize, dice: &mut Dice) -> Result<Self, Wrong> {
        let no_memory = |OutOfMemory| wrong!("no memory to begin with");
        linear_map::kernel().prepare(SCRATCH).map_err(broken)?;
        // The links may be looked through before any leaf is stored below them.
        Flush::begin(1).finish();
        let mut frames = [Frame::from_number(0).ok_or_else(|| wrong!("no frame 0"))?; FRAMES];
        let tag = dice.tag();
        for (n, frame) in frames.iter_mut().enumerate() {
            *frame = page_alloc::allocate(0).map_err(no_memory)?;
            store(linear_map::virt(frame.start()), mix(tag ^ n as u64))?;
        }
        let base = part * LEAVES;
        let share = PageRange::new(SCRATCH.page(base as u64), LEAVES as u64)
            .ok_or_else(|| wrong!("no share of the scratch addresses"))?;
        let mut occupied = 0;
        linear_map::kernel().visit(share, &mut |_, _, _| occupied += 1);
        ensure!(occupied == 0, "{occupied} scratch addresses are in use");
        Ok(Self {
            base,
            frames,
            tag,
            leaves: [Leaf::default(); LEAVES],
            focus: 0,
        })
    }

    fn va(&self, n: usize) -> VirtAddr {
        SCRATCH.page((self.base + n) as u64)
    }

    /// Everything that was put off has been made good.
    pub(super) fn settle(&mut self) {
        self.leaves.iter_mut().for_each(|leaf| leaf.open = false);
    }

    /// Whether a change that is made now may still be under way when the call returns.
    fn puts_off() -> bool {
        lazy::is_active() && lazy::backend() != Backend::Eager
    }

    /// Does a few things to leaves, now and then more than can be put off at a time.
    pub(super) fn step(&mut self, sections: &Sections, dice: &mut Dice) -> Result<(), Wrong> {
        if dice.one_in(8) {
            self.focus = dice.below((LEAVES - AT_HAND) as u64) as usize;
        }
        let many = dice.one_in(128);
        let times = if many { 48 } else { dice.between(1, 2) };
        (0..times).try_for_each(|_| self.one(many, sections, dice))
    }

    /// Maps a leaf, unmaps a few, changes one, looks at one, or walks into an error; `anywhere` or
    /// at hand.
    fn one(&mut self, anywhere: bool, sections: &Sections, dice: &mut Dice) -> Result<(), Wrong> {
        let n = if anywhere {
            dice.below(LEAVES as u64) as usize
        } else {
            self.focus + dice.below(AT_HAND as u64) as usize
        };
        let leaf = self.leaves[n];
        dice.note(n as u64);
        if dice.one_in(64) {
            return self.walk_into_error(n, dice);
        }
        match (leaf.mapped, dice.below(4)) {
            (None, 0..3) => self.map(n, dice),
            (Some(_), 0) => self.unmap(n, sections, dice),
            (Some(mapped), 1) if !leaf.open => self.protect(n, mapped),
            _ if !leaf.open => self.look(n),
            _ => Ok(()),
        }
    }

    /// Maps what is not mapped of a few leaves, in a walk that ends with an error. What was done
    /// until then stays done, and no section is left open.
    fn walk_into_error(&mut self, n: usize, dice: &mut Dice) -> Result<(), Wrong> {
        let good = dice.below(4).min((LEAVES - 1 - n) as u64);
        let range = PageRange::new(self.va(n), good + 1).ok_or_else(|| wrong!("no range"))?;
        let mapped = Mapped {
            frame: 0,
            read_only: false,
        };
        let new = Descriptor::leaf(Level::L3, self.frames[0].start(), mapped.attributes())
            .ok_or_else(|| wrong!("a frame that is not aligned"))?;
        let mut leaves = self.leaves[n..].iter_mut();
        let stop = range.page(good);
        let stopped = linear_map::kernel().apply_to_existing_page_range(range, |leaf| {
            if leaf.va() == stop {
                return Err(page_table::Error::Occupied(stop));
            }
            if let Some(known) = leaves.next().filter(|known| known.mapped.is_none()) {
                leaf.set(Descriptor::INVALID, new);
                known.mapped = Some(mapped);
                known.open = true;
            }
            Ok(())
        });
        ensure!(
            stopped == Err(page_table::Error::Occupied(stop)),
            "a walk that fails at {stop} gave {stopped:?}"
        );
        if !Self::puts_off() {
            self.settle();
        }
        Ok(())
    }

    fn map(&mut self, n: usize, dice: &mut Dice) -> Result<(), Wrong> {
        let mapped = Mapped {
            frame: dice.below(FRAMES as u64) as usize,
            read_only: dice.one_in(4),
        };
        let frame = self.frames[mapped.frame];
        let new = Descriptor::leaf(Level::L3, frame.start(), mapped.attributes())
            .ok_or_else(|| wrong!("a frame that is not aligned"))?;
        let mut old = Descriptor::INVALID;
        linear_map::kernel()
            .set_leaf(self.va(n), |held| {
                old = held;
                new
            })
            .map_err(broken)?;
        ensure!(
            old.is_none(),
            "{} is unmapped and its entry holds {old:?}",
            self.va(n)
        );
        self.leaves[n] = Leaf {
            mapped: Some(mapped),
            open: Self::puts_off(),
        };
        if self.leaves[n].open {
            Ok(())
        } else {
            self.look(n)
        }
    }

    /// Unmaps a run of leaves from `n` on, and flushes them, now or when the section ends.
    fn unmap(&mut self, n: usize, sections: &Sections, dice: &mut Dice) -> Result<(), Wrong> {
        let most = dice.between(1, 8) as usize;
        let run = self.leaves[n..].iter().take(most);
        let count = run.take_while(|leaf| leaf.mapped.is_some()).count();
        let range = PageRange::new(self.va(n), count as u64)
            .ok_or_else(|| wrong!("{count} leaves are no range"))?;
        let mut leaves = self.leaves[n..].iter().map(|leaf| leaf.mapped);
        let mut wrong_entry = None;
        let mut clear = |leaf: &page_table::Leaf| {
            let held = leaf.take();
            let frame = leaves
                .next()
                .flatten()
                .map(|mapped| self.frames[mapped.frame]);
            if held.output(Level::L3).map(Frame::containing) != frame {
                wrong_entry = Some((leaf.va(), held));
            }
            Ok(())
        };
        let kernel = linear_map::kernel();
        match sections.innermost() {
            Some(section) => kernel.change_leaves(section, range, &mut clear),
            None => kernel.apply_to_existing_page_range(range, &mut clear),
        }
        .map_err(broken)?;
        if let Some((va, held)) = wrong_entry {
            return Err(wrong!("{va} was mapped, and its entry held {held:?}"));
        }
        flush_kernel_range(range, Removed::Leaves);
        for leaf in &mut self.leaves[n..n + count] {
            *leaf = Leaf {
                mapped: None,
                open: Self::puts_off(),
            };
        }
        if self.leaves[n].open {
            Ok(())
        } else {
            self.look(n)
        }
    }

    /// Makes a leaf read-only or writable; published at once, so the flush is synchronous.
    fn protect(&mut self, n: usize, mapped: Mapped) -> Result<(), Wrong> {
        let mapped = Mapped {
            read_only: !mapped.read_only,
            ..mapped
        };
        linear_map::kernel()
            .set_leaf(self.va(n), |held| held.with_attributes(mapped.attributes()))
            .map_err(broken)?;
        let page =
            PageRange::new(self.va(n), 1).ok_or_else(|| wrong!("a page that is no range"))?;
        let mut flush = Flush::begin(1);
        flush.add(page, Removed::Leaves);
        flush.finish();
        self.leaves[n].mapped = Some(mapped);
        self.look(n)
    }

    /// Whether a settled leaf can be used as it is mapped, and not where it is not.
    fn look(&self, n: usize) -> Result<(), Wrong> {
        let at = self.va(n) + (n as u64 * 8) % PAGE_SIZE;
        let Some(mapped) = self.leaves[n].mapped else {
            ensure!(!readable(at), "{at} is unmapped and can be read");
            return Ok(());
        };
        let mark = mix(self.tag ^ mapped.frame as u64);
        let found = probe_read_u64(self.va(n))
            .map_err(|fault| wrong!("{} is mapped and can't be read: {fault:?}", self.va(n)))?;
        ensure!(
            found == mark,
            "{} holds {found:#018x}, and {mark:#018x} is right",
            self.va(n)
        );
        let written = writable(self.va(n), mark);
        ensure!(
            written != mapped.read_only,
            "{} is read-only: {}, and can be written: {written}",
            self.va(n),
            mapped.read_only
        );
        Ok(())
    }

    /// Unmaps all and gives the frames back.
    pub(super) fn give_back(&mut self) -> Result<(), Wrong> {
        let range = PageRange::new(self.va(0), LEAVES as u64).ok_or_else(|| wrong!("no range"))?;
        linear_map::kernel()
            .apply_to_existing_page_range(range, |leaf| {
                if !leaf.get().is_none() {
                    leaf.take();
                }
                Ok(())
            })
            .map_err(broken)?;
        let mut flush = Flush::begin(range.pages());
        flush.add(range, Removed::Leaves);
        flush.finish();
        for (n, frame) in self.frames.iter().enumerate() {
            let found = load(linear_map::virt(frame.start()))?;
            let mark = mix(self.tag ^ n as u64);
            page_alloc::free(*frame, 0).map_err(|error| wrong!("page {frame}: {error}"))?;
            ensure!(
                found == mark,
                "page {frame} holds {found:#x}, and {mark:#x} is right"
            );
        }
        Ok(())
    }
}
