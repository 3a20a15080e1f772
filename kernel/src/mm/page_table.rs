//! Page tables of the kernel: a tree of tables, and the walks that change its leaves.
//!
//! Every function takes three steps in this order: the tables that are missing are made (zeroed,
//! ordered, linked), one lazy section is opened, and all leaves of the call are changed in it. So
//! nothing allocates inside a section, and there is one pair of barriers a call. (Linux opens a
//! section a table, since it makes the tables as it goes.) One leaf, whose table is there, can do
//! without the section: [`single`].
//!
//! There is no lock. Whoever changes leaves owns their addresses: nobody else stores to these
//! entries. A table may be missed by the owners of several addresses at once, so a link is made by
//! compare-exchange: one of them wins, and the others go on with its table. (Linux takes
//! `init_mm.page_table_lock` there.) A table of leaves is removed only by the owner of all its 2 MiB
//! ([`huge`]), and the others never: a walk over addresses that its caller owns a page of, in each
//! such 2 MiB, meets none that goes away.
//!
//! How table pages are had and reached differs between bring-up, the running kernel and host tests:
//! [`TableMemory`].
//!
//! | file | what |
//! |---|---|
//! | `error` | why a walk stopped |
//! | `memory` | how table pages are had and reached |
//! | [`walks`] | when a table that was taken out may be freed |
//! | this one | the tree, one leaf, and walks that change leaves one by one |
//! | `descend` | from the root down to the tables of leaves |
//! | `prepare` | making the tables that are missing |
//! | `visit` | looking at entries without changing them |
//! | `runs` | walks that change many leaves alike |
//! | [`single`] | one leaf, in no section |
//! | [`huge`] | blocks and contiguous sets |
//! | `offline` | building a tree that no walker reads yet |

mod descend;
mod error;
pub mod huge;
#[cfg(all(feature = "ktests", target_os = "none"))]
mod install_ktests;
#[cfg(all(feature = "ktests", target_os = "none"))]
mod ktests;
mod memory;
mod offline;
mod prepare;
mod runs;
mod single;
mod visit;
pub mod walks;
#[cfg(all(feature = "ktests", target_os = "none"))]
mod walks_ktests;

pub use error::Error;
pub use memory::TableMemory;

use super::{lazy, page_alloc::OutOfMemory};
use crate::{
    arch::entry::Entry,
    bug::{Bug, planted},
};
use vmsa::{Descriptor, Frame, Level, PageRange, PhysAddr, VirtAddr};

/// A leaf entry of a live kernel table, under the hand of a walk.
#[derive(Debug)]
pub struct Leaf {
    entry: Entry,
    va: VirtAddr,
}

impl Leaf {
    /// The page that the entry maps.
    pub fn va(&self) -> VirtAddr {
        self.va
    }

    /// What the entry holds.
    #[inline]
    pub fn get(&self) -> Descriptor {
        lazy::load_leaf(self.entry, self.va)
    }

    /// Replaces `old`, which the entry holds, by `new`. Making an entry invalid, or changing a
    /// valid one, leaves a TLB flush to the caller.
    #[inline]
    pub fn set(&self, old: Descriptor, new: Descriptor) {
        lazy::store_leaf(self.entry, self.va, old, new);
    }

    /// Clears the entry and returns what it held.
    #[inline]
    pub fn take(&self) -> Descriptor {
        lazy::take_leaf(self.entry, self.va)
    }
}

/// A tree of tables.
#[derive(Clone, Copy, Debug)]
pub struct PageTable<M> {
    root: Frame,
    memory: M,
}

/// How many tables are zeroed behind one barrier. 64 tables of leaves map 128 MiB.
const BATCH: usize = 64;

impl<M: TableMemory> PageTable<M> {
    /// The tree whose level 0 table is `root`.
    pub fn new(root: Frame, memory: M) -> Self {
        Self { root, memory }
    }

    /// A tree with an empty root.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn create(mut memory: M) -> Result<Self, OutOfMemory> {
        let mut root = [Frame::containing(PhysAddr::literal(0))];
        memory.allocate(&mut root)?;
        memory.zero(root[0]);
        Ok(Self {
            root: root[0],
            memory,
        })
    }

    /// How its pages are had.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// The frame of the level 0 table.
    pub fn root(&self) -> Frame {
        self.root
    }

    /// Changes each page of `range`: missing tables are made, then `change` is called for every
    /// leaf, in address order, inside one lazy section.
    ///
    /// # Errors
    /// The first that comes up; leaves before it are changed.
    pub fn apply_to_page_range(
        &mut self,
        range: PageRange,
        change: impl FnMut(&Leaf) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let first = self.prepare_and_find(range)?;
        self.change_in_section(range, Some(first), change)
    }

    /// As [`apply_to_page_range`](Self::apply_to_page_range), but makes no tables: addresses
    /// without one are passed over.
    ///
    /// # Errors
    /// The first that comes up; leaves before it are changed.
    #[inline]
    pub fn apply_to_existing_page_range(
        &self,
        range: PageRange,
        change: impl FnMut(&Leaf) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.change_in_section(range, None, change)
    }

    /// Changes the leaves of `range` in a section of its own. `first` is the table of the first of
    /// them, where it is known.
    #[inline]
    fn change_in_section(
        &self,
        range: PageRange,
        first: Option<Frame>,
        change: impl FnMut(&Leaf) -> Result<(), Error>,
    ) -> Result<(), Error> {
        // Dropped on every way out: an error can't leave the section open (Linux's `fea18c686320`
        // mended one that did).
        let section = lazy::section();
        let result = self.change_leaves_from(&section, range, first, change);
        if planted(Bug::NoDisable) && result.is_err() {
            core::mem::forget(section);
        }
        result
    }

    /// As [`apply_to_existing_page_range`](Self::apply_to_existing_page_range), in a section that
    /// the caller has open.
    ///
    /// # Errors
    /// The first that comes up; leaves before it are changed. [`Error::Block`] where an entry is not
    /// alone responsible for its page: see [`huge`].
    #[inline]
    pub fn change_leaves(
        &self,
        section: &lazy::Section<'_, lazy::Current>,
        range: PageRange,
        change: impl FnMut(&Leaf) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.change_leaves_from(section, range, None, change)
    }

    /// As [`change_leaves`](Self::change_leaves), where the table of the first leaf may be known.
    #[inline]
    fn change_leaves_from(
        &self,
        _section: &lazy::Section<'_, lazy::Current>,
        range: PageRange,
        first: Option<Frame>,
        mut change: impl FnMut(&Leaf) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.for_each_leaf_table(range, first, |table, first, count, va| {
            self.refuse_contiguous(table, first, count, va)?;
            for (i, index) in (first..first + count).enumerate() {
                change(&Leaf {
                    entry: self.memory.entry(table, index),
                    va: va + i as u64 * vmsa::PAGE_SIZE,
                })?;
            }
            Ok(())
        })
    }

    /// Changes the leaf of one page in no section of its own: what that means depends on the section
    /// that the caller has open, if any. For those who show just that; all others use a walk.
    ///
    /// # Errors
    /// [`Error::NotMapped`] where there is no leaf table, [`Error::Block`].
    pub fn set_leaf(
        &self,
        va: VirtAddr,
        new: impl FnOnce(Descriptor) -> Descriptor,
    ) -> Result<(), Error> {
        let table = self.leaf_table(va)?.ok_or(Error::NotMapped(va))?;
        let leaf = Leaf {
            entry: self.memory.entry(table, Level::L3.index(va)),
            va,
        };
        let old = leaf.get();
        leaf.set(old, new(old));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
