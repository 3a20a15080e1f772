//! The tables of an address space: four levels from a root of its own, reached through the linear
//! map, changed with the lock of the address space held.
//!
//! Their leaves are a program's, and so no store of one owes a barrier (`pte_valid_not_user` of
//! Linux): an access that finds it missing faults, and is tried again
//! ([`handle_fault`](super::AddressSpace::handle_fault)).

use crate::{
    arch::{barrier, entry::Entry},
    event,
    mm::{
        gather::Gather,
        linear_map::{virt, zero_page},
        page_alloc::{self, OutOfMemory},
    },
};
use core::ops::ControlFlow;
use vmsa::{Descriptor, Frame, Kind, Level, PAGE_SIZE, PTRS_PER_TABLE, PageRange, VirtAddr};

/// A tree of tables.
#[derive(Debug)]
pub(super) struct Tables {
    pub root: Frame,
    /// The number of the address space, for the record.
    pub space: u16,
}

/// Consecutive entries of a leaf table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaves {
    pub table: Frame,
    pub first: usize,
    pub count: usize,
    /// What the first of them maps.
    pub start: VirtAddr,
}

impl Leaves {
    /// Each entry, and the page that it maps.
    pub fn each(self) -> impl Iterator<Item = (Entry, VirtAddr)> {
        (0..self.count).map(move |n| {
            let va = self.start + n as u64 * PAGE_SIZE;
            (entry(self.table, self.first + n), va)
        })
    }
}

/// The entry `index` of a table.
fn entry(table: Frame, index: usize) -> Entry {
    let pa = table.start() + index as u64 * 8;
    // SAFETY: `table` is a table of an address space whose lock the caller holds, so it stays one;
    // the linear map maps it, and only Entry touches it.
    unsafe { Entry::new(virt(pa).as_mut_ptr(), pa) }
}

/// A zeroed page for a table. Its zeroes are complete.
pub(super) fn new_table() -> Result<Frame, OutOfMemory> {
    let frame = page_alloc::allocate(0)?;
    zero_page(frame);
    event!(TableAllocated(frame.start()));
    // A walker may read the table as soon as it can read the entry, or the TTBR0_EL1, that leads to
    // it, so the zeroes are complete first (as in `page_table::prepare`).
    barrier::dsb_ishst();
    Ok(frame)
}

impl Tables {
    /// An empty tree.
    pub fn create(space: u16) -> Result<Self, OutOfMemory> {
        Ok(Self {
            root: new_table()?,
            space,
        })
    }

    /// Stores an entry. The caller sees to the flush that taking something away or changing it
    /// needs.
    pub fn store(&self, entry: Entry, va: VirtAddr, old: Descriptor, new: Descriptor) {
        entry.store_in(self.space, va, Level::L3, old, new);
    }

    /// The leaf of a page; `None` where a table is missing.
    pub fn leaf(&self, va: VirtAddr) -> Option<Entry> {
        let mut table = self.root;
        for level in [Level::L0, Level::L1, Level::L2] {
            table = next(entry(table, level.index(va)), level)?;
        }
        Some(entry(table, Level::L3.index(va)))
    }

    /// The leaf of a page. Tables that are missing are made.
    ///
    /// # Errors
    /// [`OutOfMemory`]; tables that were made stay, and are found empty when something near is
    /// unmapped.
    pub fn make_leaf(&self, va: VirtAddr) -> Result<Entry, OutOfMemory> {
        let mut table = self.root;
        for level in [Level::L0, Level::L1, Level::L2] {
            let link = entry(table, level.index(va));
            table = match next(link, level) {
                Some(next) => next,
                None => {
                    let frame = new_table()?;
                    let start = va.align_down(level.bytes());
                    let new = Descriptor::table(frame.start());
                    // No barrier: a walk that does not see the link faults, as one that does finds
                    // nothing behind it yet.
                    link.store_in(self.space, start, level, link.load(), new);
                    frame
                }
            };
        }
        Ok(entry(table, Level::L3.index(va)))
    }

    /// Calls `visit` for the entries of each leaf table that is there, in address order, until it
    /// breaks.
    pub fn visit<B>(
        &self,
        range: PageRange,
        mut visit: impl FnMut(Leaves) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let (first, last) = (range.start(), range.last_byte());
        visit_table(self.root, Level::L0, first, last, &mut visit)
    }

    /// Unlinks the tables that map a part of `range` and nothing any more. Returns whether the
    /// gather was full before all had been; then it is to be called again.
    ///
    /// The caller flushes, with the lock held.
    pub fn remove_empty(&self, range: PageRange, gather: &mut Gather<'_>) -> bool {
        let (first, last) = (range.start(), range.last_byte());
        let done = self.remove_below(self.root, Level::L0, first, last, gather);
        done.is_break()
    }

    fn remove_below(
        &self,
        table: Frame,
        level: Level,
        first: VirtAddr,
        last: VirtAddr,
        gather: &mut Gather<'_>,
    ) -> ControlFlow<()> {
        let Some(below) = level.next() else {
            return ControlFlow::Continue(());
        };
        for (link, start, next) in links(table, level, first, last) {
            let (from, to) = (first.max(start), last.min(start + (level.bytes() - 1)));
            self.remove_below(next, below, from, to, gather)?;
            if !is_empty(next) {
                continue;
            }
            link.store_in(self.space, start, level, link.load(), Descriptor::INVALID);
            if gather.remove_table(next, start, level.bytes()).0 {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }
}

/// The table that an entry links to.
fn next(link: Entry, level: Level) -> Option<Frame> {
    match link.load().kind(level) {
        Kind::Table(next) => Some(Frame::containing(next)),
        _ => None,
    }
}

/// The links of a table for `first..=last`: the entry, the first address that it maps, the table
/// that it leads to.
fn links(
    table: Frame,
    level: Level,
    first: VirtAddr,
    last: VirtAddr,
) -> impl Iterator<Item = (Entry, VirtAddr, Frame)> {
    let base = first.align_down(level.bytes());
    let index = level.index(first);
    (index..=level.index(last)).filter_map(move |i| {
        let link = entry(table, i);
        let next = next(link, level)?;
        Some((link, base + (i - index) as u64 * level.bytes(), next))
    })
}

fn visit_table<B>(
    table: Frame,
    level: Level,
    first: VirtAddr,
    last: VirtAddr,
    visit: &mut impl FnMut(Leaves) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let Some(below) = level.next() else {
        let index = Level::L3.index(first);
        return visit(Leaves {
            table,
            first: index,
            count: Level::L3.index(last) - index + 1,
            start: first.align_down(PAGE_SIZE),
        });
    };
    for (_, start, next) in links(table, level, first, last) {
        let (first, last) = (first.max(start), last.min(start + (level.bytes() - 1)));
        visit_table(next, below, first, last, visit)?;
    }
    ControlFlow::Continue(())
}

fn is_empty(table: Frame) -> bool {
    (0..PTRS_PER_TABLE).all(|index| entry(table, index).load().is_none())
}
