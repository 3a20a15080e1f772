//! Page tables of the kernel: finding, preparing and changing leaves.
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

pub mod huge;
#[cfg(all(feature = "ktests", target_os = "none"))]
mod install_ktests;
#[cfg(all(feature = "ktests", target_os = "none"))]
mod ktests;
mod offline;
mod runs;
mod single;
pub mod walks;
#[cfg(all(feature = "ktests", target_os = "none"))]
mod walks_ktests;

use super::{lazy, page_alloc::OutOfMemory};
use crate::{
    arch::{
        barrier,
        entry::{Entries, Entry},
    },
    bug::{Bug, planted},
    event,
    task::points::preempt_point,
};
use core::{fmt, slice};
use vmsa::{Descriptor, Frame, Kind, Level, PTRS_PER_TABLE, PageRange, PhysAddr, VirtAddr};
use walks::WALKS;

/// How table pages are had and reached.
pub trait TableMemory {
    /// Fills `frames` with pages for tables, or takes none.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    fn allocate(&mut self, frames: &mut [Frame]) -> Result<(), OutOfMemory>;

    /// The entry `index` of `table`.
    fn entry(&self, table: Frame, index: usize) -> Entry;

    /// The `count` entries of `table` from `first` on.
    ///
    /// # Panics
    /// If a table has fewer.
    fn entries(&self, table: Frame, first: usize, count: usize) -> Entries;

    /// Zeroes a page that is no table yet.
    fn zero(&mut self, page: Frame);

    /// The table of the leaf for `va`, if it is remembered. Whoever asks owns `va`, so that it is the
    /// right one: see [`forget`](Self::forget).
    #[inline(always)]
    fn remembered(&self, _va: VirtAddr) -> Option<Frame> {
        None
    }

    /// May remember that a walk has found `table` to have the leaf for `va`, which the caller owns.
    fn remember(&self, _va: VirtAddr, _table: Frame) {}

    /// Remembers the table of the leaf for `va` no more: it has been taken out, by the owner of all of
    /// its addresses. So whoever remembered it owned one of them before, and whoever asks will own
    /// one after; what handed the addresses on puts the two in order.
    fn forget(&self, _va: VirtAddr) {}

    /// Takes tables back that nothing ever linked to. A memory that has no use for them keeps them.
    fn free(&mut self, _tables: &[Frame]) {}

    /// Takes tables back that nothing links to any more and no TLB knows. A walk of [`walks`] may
    /// still be in one.
    fn retire(&mut self, tables: &[Frame]) {
        self.free(tables);
    }
}

/// Why a walk stopped. What it had done until then stays done, and is guaranteed visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No page for a table.
    OutOfMemory,
    /// Something is mapped at this address already (-EBUSY in Linux).
    Occupied(VirtAddr),
    /// Nothing is mapped at this address.
    NotMapped(VirtAddr),
    /// A block or a set of contiguous entries covers this address; changing a part of it would need
    /// it split.
    Block(VirtAddr),
    /// This address, or the frame for it, is not aligned to the size of the mapping.
    Misaligned(VirtAddr),
}

impl From<OutOfMemory> for Error {
    fn from(OutOfMemory: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory => OutOfMemory.fmt(f),
            Self::Occupied(va) => write!(f, "{va} is mapped already"),
            Self::NotMapped(va) => write!(f, "nothing is mapped at {va}"),
            Self::Block(va) => write!(f, "{va} is mapped by a block or a contiguous set"),
            Self::Misaligned(va) => write!(f, "{va} or its frame is not aligned to the mapping"),
        }
    }
}

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

    /// Calls `look` for each valid or non-zero entry that maps a part of `range`, blocks included,
    /// without changing anything: address, level, entry. They may be anybody's addresses: the walk
    /// announces itself ([`walks`]).
    pub fn visit(&self, range: PageRange, look: &mut dyn FnMut(VirtAddr, Level, Descriptor)) {
        self.visit_tables(range, &mut |va, level, entry, table| {
            if table.is_none() {
                look(va, level, entry);
            }
            true
        });
    }

    /// As [`visit`](Self::visit), tables included; for a table `look` says whether to go into it.
    pub fn visit_tables(
        &self,
        range: PageRange,
        look: &mut dyn FnMut(VirtAddr, Level, Descriptor, Option<Frame>) -> bool,
    ) {
        let _walk = WALKS.begin();
        self.visit_table(self.root, Level::L0, range.start(), range.last_byte(), look);
    }

    fn visit_table(
        &self,
        table: Frame,
        level: Level,
        first: VirtAddr,
        last: VirtAddr,
        look: &mut dyn FnMut(VirtAddr, Level, Descriptor, Option<Frame>) -> bool,
    ) {
        for index in level.index(first)..=level.index(last) {
            let base = first.align_down(level.bytes() * PTRS_PER_TABLE as u64);
            let va = base + index as u64 * level.bytes();
            let entry = self.memory.entry(table, index).load();
            match (entry.kind(level), level.next()) {
                (Kind::Table(next), Some(below)) => {
                    let next = Frame::containing(next);
                    if look(va, level, entry, Some(next)) {
                        let first = first.max(va);
                        let last = last.min(va + (level.bytes() - 1));
                        self.visit_table(next, below, first, last, look);
                    }
                }
                _ if entry.is_none() => {}
                _ => {
                    look(va, level, entry, None);
                }
            }
        }
    }

    /// The entry of the leaf that maps `va`, valid or not, and its level; `None` where a table is
    /// missing. As [`visit`](Self::visit) it may be anybody's address.
    pub fn leaf(&self, va: VirtAddr) -> Option<(Descriptor, Level)> {
        let _walk = WALKS.begin();
        let mut table = self.root;
        let mut level = Level::L0;
        loop {
            let entry = self.memory.entry(table, level.index(va)).load();
            match (entry.kind(level), level.next()) {
                (Kind::Table(next), Some(below)) => {
                    table = Frame::containing(next);
                    level = below;
                }
                (_, None) => {
                    return Some((
                        lazy::load_leaf(self.memory.entry(table, level.index(va)), va),
                        level,
                    ));
                }
                _ if entry.is_none() => return None,
                _ => return Some((entry, level)),
            }
        }
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
    fn prepare_and_find(&mut self, range: PageRange) -> Result<Frame, Error> {
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
    fn prepare_down_to(&mut self, leaf: Level, range: PageRange) -> Result<(), Error> {
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
    fn next_table(&self, table: Frame, level: Level, va: VirtAddr) -> Result<Option<Frame>, Error> {
        let entry = self.memory.entry(table, level.index(va));
        Self::linked(entry, entry.load(), level, va)
    }

    /// The table that `entry`, which was read as `value`, links to.
    #[inline(always)]
    fn linked(
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

    /// Calls `visit` for each leaf table that maps a part of `range`: table, first index, number of
    /// entries, address of the first. Where a table is missing, its addresses are passed over.
    /// `known` is the first one, where it has been found already.
    #[inline]
    fn for_each_leaf_table(
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

    /// The table of the leaf for `va`; `None` where there is none.
    pub fn table_of_leaf(&self, va: VirtAddr) -> Option<Frame> {
        self.linked_leaf_table(va)
    }

    /// The table of the leaf for `va`, if there is one.
    #[inline(always)]
    fn leaf_table(&self, va: VirtAddr) -> Result<Option<Frame>, Error> {
        match self.linked_leaf_table(va) {
            Some(table) => Ok(Some(table)),
            None => self.why_no_leaf_table(va),
        }
    }

    /// The table of the leaf for `va`, where everything is as it mostly is: links all the way.
    #[inline(always)]
    fn linked_leaf_table(&self, va: VirtAddr) -> Option<Frame> {
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
}

#[cfg(test)]
mod tests;
