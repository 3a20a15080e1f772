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
use vmsa::{Attributes, Descriptor, Frame, Level, PAGE_SIZE, PTRS_PER_TABLE, PageRange, VirtAddr};

impl KnownFrames for page_alloc::Frames<'_> {
    /// A run of adjacent frames at a time: seven instructions a leaf then. Where no two frames are
    /// adjacent, one after the other: twice as many, and half of what runs of one page would cost.
    #[inline]
    fn store(&mut self, entries: Entries, va: VirtAddr, attributes: Attributes) -> usize {
        let mut stored = 0;
        loop {
            let left = entries.from(stored);
            let at = va + stored as u64 * PAGE_SIZE;
            let now = if let Some(mut singles) = self.singles() {
                let leaves = singles
                    .by_ref()
                    .map(|frame| Descriptor::page(frame, attributes));
                let now = left.store_leaves(at, Level::L3, leaves);
                self.behind(&singles);
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

    /// As [`map_pages`](Self::map_pages), to adjacent frames from `first` on. Where one table that
    /// exists has all of the leaves, as it mostly does, there is little to it: one descent, the
    /// section, and seven instructions a leaf.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Occupied`]. Leaves before it are mapped.
    #[inline(always)]
    pub fn map_adjacent(
        &mut self,
        start: VirtAddr,
        pages: u64,
        first: Frame,
        attributes: Attributes,
    ) -> Result<(), Error> {
        let Some(entries) = self.leaves_of_one_table(start, pages) else {
            return self.map_adjacent_in_tables(start, pages, first, attributes);
        };
        let _section = lazy::section();
        match lazy::map_adjacent_run(entries, start, first, attributes) {
            mapped if mapped == entries.count() => Ok(()),
            mapped => Err(Error::Occupied(start + mapped as u64 * PAGE_SIZE)),
        }
    }

    /// As [`map_pages`](Self::map_pages), to frames that lie side by side in memory, and as short as
    /// [`map_adjacent`](Self::map_adjacent).
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Occupied`]. Leaves before it are mapped.
    #[inline(always)]
    pub fn map_frames(
        &mut self,
        start: VirtAddr,
        frames: &[Frame],
        attributes: Attributes,
    ) -> Result<(), Error> {
        let Some(entries) = self.leaves_of_one_table(start, frames.len() as u64) else {
            return self.map_frames_in_tables(start, frames, attributes);
        };
        let _section = lazy::section();
        match lazy::map_frames_run(entries, start, frames, attributes) {
            mapped if mapped == entries.count() => Ok(()),
            mapped => Err(Error::Occupied(start + mapped as u64 * PAGE_SIZE)),
        }
    }

    /// The same in any number of tables, which may be missing.
    #[inline(never)]
    fn map_frames_in_tables(
        &mut self,
        start: VirtAddr,
        frames: &[Frame],
        attributes: Attributes,
    ) -> Result<(), Error> {
        let range = PageRange::new(start, frames.len() as u64).ok_or(Error::Misaligned(start))?;
        self.prepare_where_missing(range)?;
        let _section = lazy::section();
        self.for_each_run(range, None, |_, _, entries, va| {
            let done = ((va - start) / PAGE_SIZE) as usize;
            match lazy::map_frames_run(entries, va, &frames[done..], attributes) {
                mapped if mapped == entries.count() => Ok(()),
                mapped => Err(Error::Occupied(va + mapped as u64 * PAGE_SIZE)),
            }
        })
    }

    /// [`prepare`](Self::prepare), once it is known that something is missing.
    #[inline]
    fn prepare_where_missing(&mut self, range: PageRange) -> Result<(), Error> {
        let mut tables = (0..range.pages()).step_by(PTRS_PER_TABLE);
        let there = |page| self.linked_leaf_table(range.page(page)).is_some();
        // The last page lies in the last table, wherever the first lies in its.
        if tables.all(there) && self.linked_leaf_table(range.last_byte()).is_some() {
            return Ok(());
        }
        self.prepare(range)
    }

    /// [`map_adjacent`](Self::map_adjacent) in any number of tables, which may be missing.
    #[inline(never)]
    fn map_adjacent_in_tables(
        &mut self,
        start: VirtAddr,
        pages: u64,
        first: Frame,
        attributes: Attributes,
    ) -> Result<(), Error> {
        let range = PageRange::new(start, pages).ok_or(Error::Misaligned(start))?;
        self.prepare_where_missing(range)?;
        let _section = lazy::section();
        self.for_each_run(range, None, |_, _, entries, va| {
            let frame = first.checked_add((va - start) / PAGE_SIZE);
            let frame = frame.ok_or(Error::NotMapped(va))?;
            match lazy::map_adjacent_run(entries, va, frame, attributes) {
                mapped if mapped == entries.count() => Ok(()),
                mapped => Err(Error::Occupied(va + mapped as u64 * PAGE_SIZE)),
            }
        })
    }

    /// The leaves of `pages` pages from `start` on, if one table that exists has all of them.
    #[inline(always)]
    pub(super) fn leaves_of_one_table(&self, start: VirtAddr, pages: u64) -> Option<Entries> {
        let first = Level::L3.index(start);
        let left = (PTRS_PER_TABLE - first) as u64;
        if pages > left {
            return None;
        }
        let table = match self.memory.remembered(start) {
            Some(table) => table,
            None => self.find_and_remember(start)?,
        };
        Some(self.memory.entries(table, first, pages as usize))
    }

    #[inline(never)]
    fn find_and_remember(&self, va: VirtAddr) -> Option<Frame> {
        let table = self.linked_leaf_table(va)?;
        self.memory.remember(va, table);
        Some(table)
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

    /// As [`take_pages`](Self::take_pages), for who has mapped them by
    /// [`map_pages`](Self::map_pages): then there are no contiguous sets to be looked for. What the
    /// leaves held goes through `fold`, from `from` on, as in an iterator's: a value that nobody
    /// has the address of stays in a register.
    ///
    /// # Errors
    /// [`Error::Block`]; leaves before it are cleared. [`Error::Misaligned`] for what is no range.
    #[inline(always)]
    pub fn take_mapped_pages<A>(
        &self,
        _section: &lazy::Section<'_, lazy::Current>,
        start: VirtAddr,
        pages: u64,
        from: A,
        fold: impl Fn(A, Descriptor) -> A,
    ) -> Result<A, Error> {
        if let Some(entries) = self.leaves_of_one_table(start, pages) {
            return Ok(lazy::clear_run_folded(entries, start, from, fold));
        }
        self.take_from_tables(start, pages, from, fold)
    }

    /// As [`take_mapped_pages`](Self::take_mapped_pages), for who does not want to know what they held:
    /// nothing is read then.
    ///
    /// # Errors
    /// As there.
    #[inline(always)]
    pub fn clear_mapped_pages(
        &self,
        _section: &lazy::Section<'_, lazy::Current>,
        start: VirtAddr,
        pages: u64,
    ) -> Result<(), Error> {
        match self.leaves_of_one_table(start, pages) {
            Some(entries) => {
                lazy::clear_run_unseen(entries, start);
                Ok(())
            }
            None => self.take_from_tables(start, pages, (), |(), _| ()),
        }
    }

    /// [`take_mapped_pages`](Self::take_mapped_pages) from any number of tables.
    #[inline(never)]
    fn take_from_tables<A>(
        &self,
        start: VirtAddr,
        pages: u64,
        from: A,
        fold: impl Fn(A, Descriptor) -> A,
    ) -> Result<A, Error> {
        let range = PageRange::new(start, pages).ok_or(Error::Misaligned(start))?;
        let mut value = Some(from);
        self.for_each_run(range, None, |_, _, entries, va| {
            value = value
                .take()
                .map(|value| lazy::clear_run_folded(entries, va, value, &fold));
            Ok(())
        })?;
        value.ok_or(Error::Misaligned(start))
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
