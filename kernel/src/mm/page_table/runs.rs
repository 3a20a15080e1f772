//! Walks that change many leaves alike, a table at a time: [`lazy`] decides once for all leaves of a
//! table how they are stored.

use super::{Error, PageTable, TableMemory};
use crate::{
    arch::entry::Entries,
    mm::{
        lazy::{self, Edit, KnownFrames},
        page_alloc,
    },
};
use vmsa::{Attributes, Descriptor, Frame, Level, PAGE_SIZE, PageRange, VirtAddr};

impl KnownFrames for page_alloc::Frames<'_> {
    /// A run of adjacent frames at a time: seven instructions a leaf then. Where no two frames are
    /// adjacent, one after the other: twice as many, and half of what runs of one page would cost.
    #[inline]
    fn store(&mut self, entries: Entries, va: VirtAddr, attributes: Attributes) -> usize {
        let mut stored = 0;
        loop {
            let left = entries.from(stored);
            let at = va + stored as u64 * PAGE_SIZE;
            let now = if self.comes_single() {
                // A copy, which is known to nobody else, can be kept in registers.
                let mut rest = self.clone();
                let new = |old: Descriptor| match old.is_none() {
                    true => Some(Descriptor::page(rest.next_single()?, attributes)),
                    false => None,
                };
                let now = left.store_each(at, Level::L3, new, |_| ());
                *self = rest;
                now
            } else if let Some((first, count)) = self.next_run(left.count()) {
                left.store_run(at, Level::L3, Descriptor::page(first, attributes), count)
            } else {
                0
            };
            stored += now;
            if now == 0 || stored == entries.count() {
                return stored;
            }
        }
    }
}

impl<M: TableMemory> PageTable<M> {
    /// Maps the pages of `range` to `frames`, in address order: missing tables are made, then the
    /// leaves are stored inside one lazy section.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Occupied`]; [`Error::NotMapped`] where there are too few
    /// frames. Leaves before it are mapped.
    #[inline]
    pub fn map_pages(
        &mut self,
        range: PageRange,
        mut frames: impl KnownFrames,
        attributes: Attributes,
    ) -> Result<(), Error> {
        let first = self.prepare_and_find(range)?;
        let _section = lazy::section();
        self.for_each_run(range, Some(first), |_, _, entries, va| {
            let mapped = lazy::map_run(entries, va, &mut frames, attributes);
            if mapped == entries.count() {
                return Ok(());
            }
            let va = va + mapped as u64 * PAGE_SIZE;
            Err(match entries.entry(mapped).load().is_none() {
                true => Error::NotMapped(va),
                false => Error::Occupied(va),
            })
        })
    }

    /// Clears the leaves of `range`, and tells `each` what they held, after that. The flush is left to
    /// the caller.
    ///
    /// # Errors
    /// [`Error::Block`]; leaves before it are cleared.
    #[inline]
    pub fn take_pages(
        &self,
        _section: &lazy::Section<'_, lazy::Current>,
        range: PageRange,
        mut each: impl FnMut(Descriptor),
    ) -> Result<(), Error> {
        self.for_each_run(range, None, |table, first, entries, va| {
            self.refuse_contiguous(table, first, entries.count(), va)?;
            lazy::clear_run(entries, va, &mut each);
            Ok(())
        })
    }

    /// As [`take_pages`](Self::take_pages), for who has mapped them by [`map_pages`](Self::map_pages):
    /// then there are no contiguous sets to be looked for.
    ///
    /// # Errors
    /// [`Error::Block`]; leaves before it are cleared.
    #[inline]
    pub fn take_mapped_pages(
        &self,
        _section: &lazy::Section<'_, lazy::Current>,
        range: PageRange,
        mut each: impl FnMut(Descriptor),
    ) -> Result<(), Error> {
        self.for_each_run(range, None, |_, _, entries, va| {
            lazy::clear_run(entries, va, &mut each);
            Ok(())
        })
    }

    /// Has `edit` become of each leaf of `range`. The flush is left to the caller.
    ///
    /// # Errors
    /// [`Error::Block`]; leaves before it are changed.
    #[inline]
    pub fn edit_pages(
        &self,
        section: &lazy::Section<'_, lazy::Current>,
        range: PageRange,
        edit: Edit,
    ) -> Result<(), Error> {
        self.edit_and_note_pages(section, range, edit, |_| ())
    }

    /// As [`edit_pages`](Self::edit_pages), and tells `note` what each leaf held, in address order.
    /// `note` remembers it and does no more: leaves are being changed.
    ///
    /// # Errors
    /// [`Error::Block`]; leaves before it are changed.
    #[inline]
    pub fn edit_and_note_pages(
        &self,
        _section: &lazy::Section<'_, lazy::Current>,
        range: PageRange,
        edit: Edit,
        mut note: impl FnMut(Descriptor),
    ) -> Result<(), Error> {
        self.for_each_run(range, None, |table, first, entries, va| {
            self.refuse_contiguous(table, first, entries.count(), va)?;
            lazy::edit_run(entries, va, edit, &mut note);
            Ok(())
        })
    }

    /// Tells `each` what the leaves of `range` hold, in address order. The addresses are the caller's:
    /// for those that may be anybody's there is [`visit`](Self::visit).
    ///
    /// # Errors
    /// [`Error::Block`].
    #[inline]
    pub fn read_pages(
        &self,
        range: PageRange,
        mut each: impl FnMut(Descriptor),
    ) -> Result<(), Error> {
        self.for_each_run(range, None, |_, _, entries, _| {
            entries.load().for_each(&mut each);
            Ok(())
        })
    }

    /// As [`for_each_leaf_table`](Self::for_each_leaf_table), with the entries themselves.
    #[inline]
    fn for_each_run(
        &self,
        range: PageRange,
        known: Option<Frame>,
        mut change: impl FnMut(Frame, usize, Entries, VirtAddr) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.for_each_leaf_table(range, known, |table, first, count, va| {
            change(table, first, self.memory.entries(table, first, count), va)
        })
    }
}
