//! Looking at entries without changing them: at anybody's, so that each walk announces itself.

use super::{PageTable, TableMemory, walks::WALKS};
use crate::mm::lazy;
use vmsa::{Descriptor, Frame, Kind, Level, PTRS_PER_TABLE, PageRange, VirtAddr};

impl<M: TableMemory> PageTable<M> {
    /// Calls `look` for each valid or non-zero entry that maps a part of `range`, blocks included,
    /// without changing anything: address, level, entry. They may be anybody's addresses: the walk
    /// announces itself ([`walks`](super::walks)).
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
}
