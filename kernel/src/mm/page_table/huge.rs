//! Leaves that map more than a page: blocks of 2 MiB, and contiguous sets, 16 page entries whose
//! Contiguous bit tells the TLB that one entry of 64 KiB will do for them (DDI 0487, chapter D8, "The
//! Contiguous bit").
//!
//! A block or a set changes as a whole. It is stored where nothing was, and it is cleared; what
//! changes leaves in place ([`PageTable::change_leaves`]) refuses both with [`Error::Block`]. Where
//! a block is to go there may be a link to a table whose leaves have all been cleared: the table is
//! removed first.

#[cfg(test)]
mod tests;

use super::{BATCH, Error, PageTable, TableMemory};
use crate::{
    arch::{barrier, entry::Entry},
    bug::{Bug, planted},
    event,
    mm::{
        lazy,
        tlb::{Flush, Removed},
    },
};
use vmsa::{
    Attributes, Descriptor, Frame, Kind, Level, PAGE_SIZE, PTRS_PER_TABLE, PageRange, VirtAddr,
};

/// What one entry, or one set of them, maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    /// 4 KiB.
    Page,
    /// 64 KiB: 16 page entries with the Contiguous bit, for the 4 KiB granule.
    Contiguous,
    /// 2 MiB: an entry of level 2.
    Block,
}

impl Size {
    /// Every size, the largest first.
    pub const ALL: [Self; 3] = [Self::Block, Self::Contiguous, Self::Page];

    /// log2 of the pages that it maps: the order of the page allocator's block.
    pub const fn order(self) -> u8 {
        match self {
            Self::Page => 0,
            Self::Contiguous => 4,
            Self::Block => 9,
        }
    }

    /// The pages that it maps.
    pub const fn pages(self) -> u64 {
        1 << self.order()
    }

    /// The bytes that it maps; address and frame are multiples of it.
    pub const fn bytes(self) -> u64 {
        self.pages() * PAGE_SIZE
    }

    /// The largest of which `pages` pages hold one.
    pub fn largest_in(pages: u64) -> Self {
        let fits = |size: &Self| size.pages() <= pages;
        Self::ALL.into_iter().find(fits).unwrap_or(Self::Page)
    }
}

const _: () = assert!(Size::Block.bytes() == Level::L2.bytes());

/// Page entries of a contiguous set.
const SET: usize = Size::Contiguous.pages() as usize;

/// A promise that nothing uses a range: what the break of break-before-make rests on.
#[derive(Debug)]
pub struct Idle(PageRange);

impl Idle {
    /// Promises it.
    ///
    /// # Safety
    /// For as long as the value exists nothing accesses `range`, on any CPU, in any interrupt: no
    /// data of anyone, no stack, no table, no code. An access in the break would fault.
    pub const unsafe fn promise(range: PageRange) -> Self {
        Self(range)
    }

    fn covers(&self, range: PageRange) -> bool {
        self.0.contains(range.start()) && self.0.contains(range.last_byte())
    }
}

/// The block that `va` lies in.
fn block_of(va: VirtAddr) -> Result<PageRange, Error> {
    PageRange::new(va.align_down(Level::L2.bytes()), Size::Block.pages())
        .ok_or(Error::Misaligned(va))
}

impl<M: TableMemory> PageTable<M> {
    /// Maps `parts`, the larger ones first, at adjacent addresses from `start` on. All the frames of
    /// a part follow the one that is given.
    ///
    /// # Errors
    /// [`Error::Misaligned`], [`Error::OutOfMemory`] and [`Error::Occupied`] where leaves are in the
    /// way of a block: nothing is mapped. [`Error::Occupied`] elsewhere: what was mapped until then
    /// stays.
    pub fn map_parts(
        &mut self,
        start: VirtAddr,
        parts: impl Iterator<Item = (Frame, Size)> + Clone,
        attributes: Attributes,
    ) -> Result<(), Error> {
        let (mut blocks, mut pages) = (0, 0);
        for (frame, size) in parts.clone() {
            let va = start + pages * PAGE_SIZE;
            if !va.is_aligned(size.bytes()) || !frame.start().is_aligned(size.bytes()) {
                return Err(Error::Misaligned(va));
            }
            blocks += u64::from(size == Size::Block);
            pages += size.pages();
        }
        let huge = blocks * Size::Block.pages();
        let rest = (pages > huge)
            .then(|| PageRange::new(start + huge * PAGE_SIZE, pages - huge))
            .flatten();

        // The tables first, as always: nothing allocates in the section.
        if blocks > 0 {
            let huge = PageRange::new(start, huge).ok_or(Error::Misaligned(start))?;
            self.prepare_down_to(Level::L2, huge)?;
            self.remove_tables(huge)?;
        }
        let first = match rest {
            Some(rest) => Some(self.prepare_and_find(rest)?),
            None => None,
        };

        let section = lazy::section();
        let mut va = start;
        for (frame, _) in parts.clone().take(blocks as usize) {
            let entry = self.block_entry(va)?.ok_or(Error::NotMapped(va))?;
            let new = Descriptor::leaf(Level::L2, frame.start(), attributes);
            lazy::store_block(entry, va, entry.load(), new.ok_or(Error::Misaligned(va))?);
            va = va + Size::Block.bytes();
        }
        // A set is 16 leaves like any others, but for the bit that they all have. That the TLB may
        // take the first of them for all 16 does no harm: in a moment it is true.
        let mut leaves = parts.skip(blocks as usize).flat_map(|(first, size)| {
            let set = size == Size::Contiguous;
            let attributes = attributes
                | if set {
                    Attributes::CONTIGUOUS
                } else {
                    Attributes::empty()
                };
            (0..size.pages()).filter_map(move |i| {
                Descriptor::leaf(Level::L3, first.checked_add(i)?.start(), attributes)
            })
        });
        rest.map_or(Ok(()), |rest| {
            self.change_leaves_from(&section, rest, first, |leaf| {
                let old = leaf.get();
                if !old.is_none() {
                    return Err(Error::Occupied(leaf.va()));
                }
                leaf.set(old, leaves.next().ok_or(Error::NotMapped(leaf.va()))?);
                Ok(())
            })
        })
    }

    /// Clears every leaf of `range`, of whatever size, and tells `each` of its first frame. The
    /// flush, [`Removed::Blocks`], is left to the caller, and must cover all of `range`: to each of
    /// the 16 addresses of a set the TLB may have an answer.
    ///
    /// # Errors
    /// [`Error::Block`] where `range` has a part of a block or of a set; leaves before it are
    /// cleared.
    pub fn take_leaves(
        &self,
        _section: &lazy::Section<'_, lazy::Current>,
        range: PageRange,
        mut each: impl FnMut(Frame, Size),
    ) -> Result<(), Error> {
        // Under the backend `stores`, memory tells what is a block or a set only now.
        lazy::drain();
        let mut done = 0;
        while done < range.pages() {
            let va = range.page(done);
            let index = Level::L3.index(va);
            let count = (PTRS_PER_TABLE - index).min((range.pages() - done) as usize);
            done += count as u64;
            let Some(entry) = self.block_entry(va)? else {
                continue;
            };
            let old = entry.load();
            match old.kind(Level::L2) {
                Kind::Table(table) => {
                    let table = Frame::containing(table);
                    self.refuse_part_of_set(table, index, count, va)?;
                    for i in 0..count {
                        let entry = self.memory.entry(table, index + i);
                        let old = lazy::take_leaf(entry, va + i as u64 * PAGE_SIZE);
                        let size = match old.attributes().contains(Attributes::CONTIGUOUS) {
                            true if (index + i).is_multiple_of(SET) => Size::Contiguous,
                            // The first entry has spoken for the set.
                            true => continue,
                            false => Size::Page,
                        };
                        if let Some(pa) = old.output_ignoring_valid(Level::L3) {
                            each(Frame::containing(pa), size);
                        }
                    }
                }
                Kind::Block(pa) if count == PTRS_PER_TABLE => {
                    lazy::store_block(entry, va, old, Descriptor::INVALID);
                    each(Frame::containing(pa), Size::Block);
                }
                Kind::Block(_) => return Err(Error::Block(va)),
                Kind::Invalid | Kind::Page(_) | Kind::Reserved => {}
            }
        }
        Ok(())
    }

    /// Splits the block that `va` lies in into pages, by break-before-make: the block goes, no TLB
    /// knows it any more, then the table comes. In between the addresses are mapped to nothing;
    /// `idle` is the promise that nobody notices.
    ///
    /// FEAT_BBM level 2 would allow the table to be stored over the block. It is not used: a TLB that
    /// then finds both may still report a conflict abort (DDI 0487, chapter D8, "Support levels for
    /// changing table or block size"). Linux wants a CPU that is known not to: BBML2_NOABORT.
    ///
    /// # Errors
    /// [`Error::NotMapped`] where there is no block, [`Error::Block`] where `idle` does not cover it,
    /// [`Error::OutOfMemory`]; nothing has changed.
    pub fn split_block(&mut self, va: VirtAddr, idle: &Idle) -> Result<(), Error> {
        let block = block_of(va)?;
        let va = block.start();
        if !idle.covers(block) {
            return Err(Error::Block(va));
        }
        lazy::drain();
        let entry = self.block_entry(va)?.ok_or(Error::NotMapped(va))?;
        let old = entry.load();
        let Kind::Block(pa) = old.kind(Level::L2) else {
            return Err(Error::NotMapped(va));
        };
        let table = self.new_table()?;
        for (i, page) in block.pages_iter().enumerate() {
            let frame = pa + i as u64 * PAGE_SIZE;
            let new = Descriptor::leaf(Level::L3, frame, old.attributes());
            self.memory.entry(table, i).store(
                page,
                Level::L3,
                Descriptor::INVALID,
                new.ok_or(Error::Misaligned(page))?,
            );
        }
        // Break. The DSB ISHST of the flush orders the entries of the new table, too: they are there
        // before any walker can find the link. One TLBI does for the block, however many TLB entries
        // a CPU has made of it: what is invalidated is every copy of the table entry that translates
        // the address (DDI 0487, C5.5, TLBI VAALE1IS).
        if planted(Bug::SplitNoBbm) {
            barrier::dsb_ishst();
            entry.store(va, Level::L2, old, Descriptor::table(table.start()));
            barrier::dsb_ishst();
            barrier::isb();
            return Ok(());
        }
        entry.store(va, Level::L2, old, Descriptor::INVALID);
        let mut flush = Flush::begin(1);
        PageRange::new(va, 1)
            .into_iter()
            .for_each(|page| flush.add(page, Removed::Blocks));
        flush.finish();
        // Make. Steps of break-before-make are never put off.
        entry.store(
            va,
            Level::L2,
            Descriptor::INVALID,
            Descriptor::table(table.start()),
        );
        barrier::dsb_ishst();
        barrier::isb();
        Ok(())
    }

    /// Removes the empty tables that are linked where blocks are to go. `range` is made of such
    /// places, whose addresses are the caller's alone.
    ///
    /// # Errors
    /// [`Error::Occupied`] where a table is not empty or a block is there already; tables before it
    /// are removed.
    fn remove_tables(&mut self, range: PageRange) -> Result<(), Error> {
        // Whether a table is empty is asked of memory.
        lazy::drain();
        let places = (0..range.pages()).step_by(PTRS_PER_TABLE);
        let mut places = places.map(|page| range.page(page)).peekable();
        while places.peek().is_some() {
            let mut removed = [(range.start(), self.root); BATCH];
            let mut count = 0;
            let mut result = Ok(());
            for va in places.by_ref().take(BATCH) {
                match self.unlink_table(va) {
                    Ok(None) => {}
                    Ok(Some(table)) => {
                        removed[count] = (va, table);
                        count += 1;
                    }
                    Err(error) => {
                        // Not returned yet: what has been unlinked is to be flushed and freed.
                        result = Err(error);
                        break;
                    }
                }
            }
            self.flush_and_free(&removed[..count]);
            result?;
        }
        Ok(())
    }

    /// Clears the link for `va` to an empty table, and returns the table. All of its addresses are the
    /// caller's, so nobody else prepares, changes or clears leaves in it: those walks need not be
    /// thought of, here or where the table is freed.
    fn unlink_table(&self, va: VirtAddr) -> Result<Option<Frame>, Error> {
        let Some(entry) = self.block_entry(va)? else {
            return Ok(None);
        };
        let old = entry.load();
        match old.kind(Level::L2) {
            Kind::Table(table) => {
                let table = Frame::containing(table);
                let empty =
                    (0..PTRS_PER_TABLE).all(|i| self.memory.entry(table, i).load().is_none());
                if !empty {
                    return Err(Error::Occupied(va));
                }
                entry.store(va, Level::L2, old, Descriptor::INVALID);
                self.memory.forget(va);
                Ok(Some(table))
            }
            _ if old.is_none() => Ok(None),
            _ => Err(Error::Occupied(va)),
        }
    }

    /// Frees tables that have been unlinked, once no walker can be in them.
    fn flush_and_free(&mut self, removed: &[(VirtAddr, Frame)]) {
        if removed.is_empty() {
            return;
        }
        // A walker may have cached the link, and would go on reading the page as a table, whatever
        // it has become: the TLBI is one that takes cached table entries along, and the page is
        // freed when its DSB ISH is done, not before. One address is enough for a table: the link
        // translates it as it does the other 511.
        if planted(Bug::TableFreedEarly) {
            for (_, table) in removed {
                event!(TableFreed(table.start()));
                self.memory.free(&[*table]);
            }
        }
        let mut flush = Flush::begin(removed.len() as u64);
        for (va, _) in removed {
            PageRange::new(*va, 1)
                .into_iter()
                .for_each(|page| flush.add(page, Removed::Tables));
        }
        flush.finish();
        if planted(Bug::TableFreedEarly) {
            return;
        }
        // That was the hardware. A walk of software that read the link before it went is waited for
        // as well, by the tables and not by this CPU.
        let mut tables = [self.root; BATCH];
        for (slot, (_, table)) in tables.iter_mut().zip(removed) {
            *slot = *table;
        }
        self.memory.retire(&tables[..removed.len()]);
    }

    /// The level 2 entry for `va`, if there is a table for it.
    fn block_entry(&self, va: VirtAddr) -> Result<Option<Entry>, Error> {
        let mut table = self.root;
        for level in [Level::L0, Level::L1] {
            match self.next_table(table, level, va)? {
                Some(next) => table = next,
                None => return Ok(None),
            }
        }
        Ok(Some(self.memory.entry(table, Level::L2.index(va))))
    }

    fn is_contiguous(&self, table: Frame, index: usize) -> bool {
        let entry = self.memory.entry(table, index).load();
        entry.attributes().contains(Attributes::CONTIGUOUS)
    }

    /// Refuses the `count` entries of `table` from `first` on, at `va`, if contiguous sets are among
    /// them. One entry of each set is asked: they are all alike.
    #[inline]
    pub(super) fn refuse_contiguous(
        &self,
        table: Frame,
        first: usize,
        count: usize,
        va: VirtAddr,
    ) -> Result<(), Error> {
        let start = first / SET * SET;
        let entries = self.memory.entries(table, start, first + count - start);
        let contiguous = |entry: Descriptor| entry.attributes().contains(Attributes::CONTIGUOUS);
        if entries.load_every(SET).any(contiguous) {
            return Err(Error::Block(va));
        }
        Ok(())
    }

    /// Refuses them if a contiguous set is not among them as a whole.
    fn refuse_part_of_set(
        &self,
        table: Frame,
        first: usize,
        count: usize,
        va: VirtAddr,
    ) -> Result<(), Error> {
        let end = first + count;
        let starts_inside = !first.is_multiple_of(SET) && self.is_contiguous(table, first);
        let ends_inside = !end.is_multiple_of(SET) && self.is_contiguous(table, end - 1);
        if starts_inside || ends_inside {
            return Err(Error::Block(va));
        }
        Ok(())
    }
}
