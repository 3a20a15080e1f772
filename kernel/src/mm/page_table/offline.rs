//! Building a tree that no walker reads yet: no barriers, no sections, and entries as large as
//! alignment allows. Bring-up makes the kernel's own tables with this.

use super::{Error, PageTable, TableMemory, huge};
use crate::{event, mm::page_alloc::OutOfMemory};
use vmsa::{
    Attributes, Descriptor, Frame, Kind, Level, PTRS_PER_TABLE, PageRange, PhysAddr, VirtAddr,
};

impl<M: TableMemory> PageTable<M> {
    /// Maps `range` to the frames from `pa` on, in a tree that no walker reads yet: no barriers,
    /// and entries as large as alignment and `largest` allow; where blocks are allowed, pages in
    /// contiguous sets as well.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Occupied`]; what was mapped until then stays.
    pub fn map_offline(
        &mut self,
        range: PageRange,
        pa: PhysAddr,
        attributes: Attributes,
        largest: Level,
    ) -> Result<(), Error> {
        let mut done = 0;
        while done < range.bytes() {
            let (va, pa, left) = (range.start() + done, pa + done, range.bytes() - done);
            let fits = |level: &Level| {
                *level >= largest
                    && va.is_aligned(level.bytes())
                    && pa.is_aligned(level.bytes())
                    && left >= level.bytes()
            };
            let level = [Level::L1, Level::L2]
                .into_iter()
                .find(fits)
                .unwrap_or(Level::L3);
            let set = huge::Size::Contiguous.bytes();
            let (attributes, bytes) = if level == Level::L3
                && largest < Level::L3
                && va.is_aligned(set)
                && pa.is_aligned(set)
                && left >= set
            {
                (attributes | Attributes::CONTIGUOUS, set)
            } else {
                (attributes, level.bytes())
            };
            let table = self.table_offline(va, level)?;
            for offset in (0..bytes).step_by(level.bytes() as usize) {
                let (va, pa) = (va + offset, pa + offset);
                let entry = self.memory.entry(table, level.index(va));
                let old = entry.load();
                let new = Descriptor::leaf(level, pa, attributes).ok_or(Error::Misaligned(va))?;
                if !old.is_none() {
                    return Err(Error::Occupied(va));
                }
                entry.store(va, level, old, new);
            }
            done += bytes;
        }
        Ok(())
    }

    /// Links the table `table`, of the level below `level`, at every entry of `level` that `range`
    /// covers, in a tree that no walker reads yet. The same table serves them all.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Occupied`].
    pub fn link_offline(
        &mut self,
        range: PageRange,
        level: Level,
        table: Frame,
    ) -> Result<(), Error> {
        let mut done = 0;
        while done < range.bytes() {
            let va = range.start() + done;
            let parent = self.table_offline(va, level)?;
            let entry = self.memory.entry(parent, level.index(va));
            let old = entry.load();
            if !old.is_none() {
                return Err(Error::Occupied(va));
            }
            entry.store(va, level, old, Descriptor::table(table.start()));
            done += level.bytes();
        }
        Ok(())
    }

    /// The table of `level` for `va`, made with its parents where it is missing.
    fn table_offline(&mut self, va: VirtAddr, level: Level) -> Result<Frame, Error> {
        let mut table = self.root;
        let mut at = Level::L0;
        while at < level {
            let entry = self.memory.entry(table, at.index(va));
            let old = entry.load();
            table = match old.kind(at) {
                Kind::Table(next) => Frame::containing(next),
                Kind::Invalid if old.is_none() => {
                    let frame = self.new_table()?;
                    entry.store(
                        va.align_down(at.bytes()),
                        at,
                        old,
                        Descriptor::table(frame.start()),
                    );
                    frame
                }
                _ => return Err(Error::Occupied(va)),
            };
            at = at.next().ok_or(Error::Block(va))?;
        }
        Ok(table)
    }

    /// A zeroed page that is linked nowhere yet.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new_table(&mut self) -> Result<Frame, OutOfMemory> {
        let mut frame = [self.root];
        self.memory.allocate(&mut frame)?;
        self.memory.zero(frame[0]);
        event!(TableAllocated(frame[0].start()));
        Ok(frame[0])
    }

    /// Changes each leaf of `range` that is there, in a tree that no walker reads yet.
    pub fn change_offline(
        &mut self,
        range: PageRange,
        mut change: impl FnMut(Descriptor) -> Descriptor,
    ) {
        // The callback can't fail, and blocks are passed over by the caller's choice of range.
        let _ = self.for_each_leaf_table(range, None, |table, first, count, va| {
            for (i, index) in (first..first + count).enumerate() {
                let entry = self.memory.entry(table, index);
                let old = entry.load();
                let new = change(old);
                if new != old {
                    entry.store(va + i as u64 * vmsa::PAGE_SIZE, Level::L3, old, new);
                }
            }
            Ok(())
        });
    }

    /// Fills every entry of `table`, of level 3 and linked nowhere yet, with a page entry for
    /// `page`.
    pub fn fill_offline(&self, table: Frame, page: Frame, attributes: Attributes) {
        if let Some(new) = Descriptor::leaf(Level::L3, page.start(), attributes) {
            for index in 0..PTRS_PER_TABLE {
                // The address is not one: the table will map the page at many.
                self.memory.entry(table, index).store(
                    VirtAddr::literal(0),
                    Level::L3,
                    Descriptor::INVALID,
                    new,
                );
            }
        }
    }

    /// Fills every entry of `table`, of `level` and linked nowhere yet, with a link to `next`.
    pub fn fill_with_table_offline(&self, table: Frame, level: Level, next: Frame) {
        for index in 0..PTRS_PER_TABLE {
            let link = Descriptor::table(next.start());
            self.memory.entry(table, index).store(
                VirtAddr::literal(0),
                level,
                Descriptor::INVALID,
                link,
            );
        }
    }
}
