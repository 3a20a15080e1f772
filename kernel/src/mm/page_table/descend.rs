//! From the root down to the tables of leaves.

use super::{Error, PageTable, TableMemory};
use crate::{arch::entry::Entry, event};
use vmsa::{Descriptor, Frame, Kind, Level, PTRS_PER_TABLE, PageRange, VirtAddr};

impl<M: TableMemory> PageTable<M> {
    /// The table of the leaf for `va`; `None` where there is none.
    pub fn table_of_leaf(&self, va: VirtAddr) -> Option<Frame> {
        self.linked_leaf_table(va)
    }

    /// The table of the leaf for `va`, if there is one.
    #[inline(always)]
    pub(super) fn leaf_table(&self, va: VirtAddr) -> Result<Option<Frame>, Error> {
        match self.linked_leaf_table(va) {
            Some(table) => Ok(Some(table)),
            None => self.why_no_leaf_table(va),
        }
    }

    /// The table of the leaf for `va`, where everything is as it mostly is: links all the way.
    #[inline(always)]
    pub(super) fn linked_leaf_table(&self, va: VirtAddr) -> Option<Frame> {
        let mut table = self.root;
        for level in [Level::L0, Level::L1, Level::L2] {
            table = self.next_table(table, level, va).ok().flatten()?;
        }
        Some(table)
    }

    #[cold]
    #[inline(never)]
    fn why_no_leaf_table(&self, va: VirtAddr) -> Result<Option<Frame>, Error> {
        let mut table = self.root;
        for level in [Level::L0, Level::L1, Level::L2] {
            match self.next_table(table, level, va)? {
                Some(next) => table = next,
                None => return Ok(None),
            }
        }
        Ok(Some(table))
    }

    /// The table that the entry of `table` for `va` links to.
    ///
    /// Another CPU may have linked it a moment ago, and nothing but this load says so. There is no
    /// barrier, for all that goes on from here has its address from what was loaded: an address
    /// dependency, which orders the load before it (DDI 0487, B2.3, "Dependency-ordered-before").
    /// - A load from the table comes after the link was stored, and so after the zeroes, which a
    ///   DSB ISHST put before the link.
    /// - A store of a leaf does, too. Hence the DSB ISHST behind that store, here or wherever the
    ///   task is by then, makes both complete, and no walk that sees the leaf is without the link:
    ///   `10-MIGR-SPLIT-STLR--LDAR-x`, Forbidden, where acquire semantics order what the address
    ///   orders here.
    ///
    /// In Rust a relaxed load promises less. The compiler could only lose the dependency by knowing
    /// the address from elsewhere, and it is compared with nothing.
    #[inline(always)]
    pub(super) fn next_table(
        &self,
        table: Frame,
        level: Level,
        va: VirtAddr,
    ) -> Result<Option<Frame>, Error> {
        let entry = self.memory.entry(table, level.index(va));
        Self::linked(entry, entry.load(), level, va)
    }

    /// The table that `entry`, which was read as `value`, links to.
    #[inline(always)]
    pub(super) fn linked(
        _entry: Entry,
        value: Descriptor,
        level: Level,
        va: VirtAddr,
    ) -> Result<Option<Frame>, Error> {
        match value.kind(level) {
            Kind::Table(next) => {
                event!(EntryRead(_entry.told(
                    va.align_down(level.bytes()),
                    level,
                    value
                )));
                Ok(Some(Frame::containing(next)))
            }
            Kind::Invalid if value.is_none() => Ok(None),
            _ => Err(Error::Block(va)),
        }
    }

    /// Calls `visit` for each leaf table that maps a part of `range`: table, first index, number of
    /// entries, address of the first. Where a table is missing, its addresses are passed over.
    /// `known` is the first one, where it has been found already.
    #[inline]
    pub(super) fn for_each_leaf_table(
        &self,
        range: PageRange,
        mut known: Option<Frame>,
        mut visit: impl FnMut(Frame, usize, usize, VirtAddr) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut at = range.start();
        let mut pages = range.pages();
        while pages > 0 {
            let first = Level::L3.index(at);
            let count = (PTRS_PER_TABLE - first).min(usize::try_from(pages).unwrap_or(usize::MAX));
            let table = match known.take() {
                Some(table) => Some(table),
                None => self.leaf_table(at)?,
            };
            if let Some(table) = table {
                visit(table, first, count, at)?;
            }
            pages -= count as u64;
            if pages > 0 {
                // There is more of the range.
                at = at + count as u64 * vmsa::PAGE_SIZE;
            }
        }
        Ok(())
    }
}
