//! Making the tables that are missing: zeroed, ordered, linked.

use super::{BATCH, Error, PageTable, TableMemory};
use crate::{arch::barrier, event, mm::lazy, task::points::preempt_point};
use core::slice;
use vmsa::{Descriptor, Frame, Level, PageRange, VirtAddr};

impl<M: TableMemory> PageTable<M> {
    /// Makes the tables that `range` needs and does not have.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]: tables made until then stay, empty; [`Error::Block`].
    pub fn prepare(&mut self, range: PageRange) -> Result<(), Error> {
        self.prepare_down_to(Level::L3, range)
    }

    /// Makes the tables that `range` needs and does not have, and finds the table of its first leaf.
    /// Where nothing is missing and one table has all of `range`, that takes one descent, and whoever
    /// goes on to change the leaves needs no other.
    #[inline]
    pub(super) fn prepare_and_find(&mut self, range: PageRange) -> Result<Frame, Error> {
        let (first, last) = (range.start(), range.last_byte());
        if first.as_u64() >> Level::L2.shift() == last.as_u64() >> Level::L2.shift()
            && let Some(table) = self.leaf_table(first)?
        {
            return Ok(table);
        }
        self.prepare(range)?;
        self.leaf_table(first)?.ok_or(Error::NotMapped(first))
    }

    /// Makes the missing tables of every level up to `leaf`, whose entries are to be the leaves.
    #[cold]
    pub(super) fn prepare_down_to(&mut self, leaf: Level, range: PageRange) -> Result<(), Error> {
        let mut at = range.start();
        loop {
            // First look how many tables the next stretch lacks, then get them all, so that one
            // barrier orders them all.
            let (missing, next) = self.count_missing(leaf, at, range.last_byte())?;
            if missing > 0 {
                let mut storage = [self.root; BATCH];
                let frames = &mut storage[..missing];
                self.memory.allocate(frames)?;
                for frame in &*frames {
                    self.memory.zero(*frame);
                    event!(TableAllocated(frame.start()));
                }
                // A walker may read a new table as soon as it can read the entry that leads there,
                // so the zeroes go first. Between two stores that another observer reads DMB ISHST
                // would order as well; the manual speaks of completion where descriptors are
                // concerned, hence DSB (facts on litmus, "Limits", last but two).
                barrier::dsb_ishst();
                // Links are never queued, and come after whatever is.
                lazy::drain();
                let mut spare = frames.iter();
                let last = next.map_or(range.last_byte(), |next| next - 1);
                let linked = self.link_missing(leaf, at, last, &mut spare);
                // Others may have linked some since they were counted. A page that nothing links to
                // is known to nobody.
                let left = spare.as_slice();
                if !left.is_empty() {
                    #[cfg(feature = "oracle")]
                    for frame in left {
                        event!(TableFreed(frame.start()));
                    }
                    self.memory.free(left);
                }
                linked?;
            }
            match next {
                None => return Ok(()),
                Some(address) => at = address,
            }
        }
        // No barrier for the links: nobody uses an address below them before its leaf is stored,
        // and the DSB ISHST that makes that leaf visible comes after the links, too.
    }

    /// Counts the missing tables from `first` on until `last`, or until the next leaf table would
    /// not fit a batch any more: the count, and where to go on.
    fn count_missing(
        &self,
        leaf: Level,
        first: VirtAddr,
        last: VirtAddr,
    ) -> Result<(usize, Option<VirtAddr>), Error> {
        let mut missing = 0;
        let mut at = first;
        // The last address that lacked tables: one that shares an entry with it lacks the same
        // table there.
        let mut counted: Option<VirtAddr> = None;
        loop {
            let mut lacks = 0;
            let mut table = Some(self.root);
            let mut level = Level::L0;
            while level < leaf
                && let Some(below) = level.next()
            {
                table = match table {
                    None => None,
                    Some(frame) => self.next_table(frame, level, at)?,
                };
                let shares =
                    |va: VirtAddr| va.align_down(level.bytes()) == at.align_down(level.bytes());
                if table.is_none() && !counted.is_some_and(shares) {
                    lacks += 1;
                }
                level = below;
            }
            if missing + lacks > BATCH {
                return Ok((missing, Some(at)));
            }
            if lacks > 0 {
                missing += lacks;
                counted = Some(at);
            }
            match at
                .align_down(Level::L2.bytes())
                .checked_add(Level::L2.bytes())
            {
                Some(next) if next <= last => at = next,
                _ => return Ok((missing, None)),
            }
        }
    }

    /// Links tables of `spare`, zeroed, where some are missing between `first` and `last`.
    /// `count_missing` counted as many; others may have linked theirs since.
    fn link_missing(
        &self,
        leaf: Level,
        first: VirtAddr,
        last: VirtAddr,
        spare: &mut slice::Iter<'_, Frame>,
    ) -> Result<(), Error> {
        let mut at = first;
        loop {
            let mut table = self.root;
            let mut level = Level::L0;
            while level < leaf
                && let Some(below) = level.next()
            {
                table = match self.next_table(table, level, at)? {
                    Some(next) => next,
                    None => self.link(table, level, at, spare)?,
                };
                level = below;
            }
            match at
                .align_down(Level::L2.bytes())
                .checked_add(Level::L2.bytes())
            {
                Some(next) if next <= last => at = next,
                _ => return Ok(()),
            }
        }
    }

    /// Links the next table of `spare` at the entry of `table` for `va`, which was found empty, or
    /// finds the one that somebody else has linked there since: then none is taken.
    fn link(
        &self,
        table: Frame,
        level: Level,
        va: VirtAddr,
        spare: &mut slice::Iter<'_, Frame>,
    ) -> Result<Frame, Error> {
        let new = *spare.as_slice().first().ok_or(Error::OutOfMemory)?;
        let entry = self.memory.entry(table, level.index(va));
        preempt_point();
        let installed = entry.compare_exchange(
            va.align_down(level.bytes()),
            level,
            Descriptor::INVALID,
            Descriptor::table(new.start()),
        );
        match installed {
            Ok(()) => {
                spare.next();
                Ok(new)
            }
            // Nobody puts a block over addresses of ours.
            Err(found) => Self::linked(entry, found, level, va)?.ok_or(Error::Block(va)),
        }
    }
}
