//! Kernel tests of walks that are in a table while it is taken out.

use super::{huge::Size, walks::WALKS};
use crate::{
    check, check_eq, kernel_test,
    ktest::{Failure, TestResult},
    mm::{
        lazy,
        linear_map::{self, free_retired},
        page_alloc,
        testing::{fresh_region, must, trouble},
        tlb::{Removed, flush_kernel_range},
    },
};
use vmsa::{Attributes, Frame, Level, PageRange, VirtAddr};

/// 2 MiB of addresses with an empty table of leaves, and a block to take its place.
struct Place {
    range: PageRange,
    table: Frame,
    block: Frame,
}

impl Place {
    fn new() -> Result<Self, Failure> {
        let pages = Size::Block.pages();
        let range = PageRange::new(fresh_region(), pages).ok_or(trouble("no such range"))?;
        must!(linear_map::kernel().prepare(range));
        let table = table_of(range.start()).ok_or(trouble("the table was made"))?;
        let block = must!(page_alloc::allocate(Size::Block.order()));
        Ok(Self {
            range,
            table,
            block,
        })
    }

    /// Puts the block in the place of the table.
    fn replace(&self) -> Result<(), super::Error> {
        let parts = [(self.block, Size::Block)].into_iter();
        linear_map::kernel().map_parts(self.range.start(), parts, Attributes::KERNEL_DATA)
    }

    /// Whether the table is no table any more, but free.
    fn is_freed(&self) -> bool {
        page_alloc::is_free(self.table)
    }

    /// Takes the block away again.
    fn clear(self) -> TestResult {
        {
            let section = lazy::section();
            must!(linear_map::kernel().take_leaves(&section, self.range, |_, _| ()));
        }
        flush_kernel_range(self.range, Removed::Blocks);
        must!(page_alloc::free(self.block, Size::Block.order()));
        Ok(())
    }
}

/// The table of leaves for `va`.
fn table_of(va: VirtAddr) -> Option<Frame> {
    let mut table = None;
    linear_map::kernel().visit_tables(PageRange::new(va, 1)?, &mut |_, level, _, below| {
        if level == Level::L2 {
            table = below;
        }
        true
    });
    table
}

kernel_test! { "page_table_walks", a_table_that_nobody_reads_is_freed_at_once, {
    let place = Place::new()?;
    let free = page_alloc::stats().free;
    must!(place.replace());
    check!(place.is_freed());
    check_eq!(page_alloc::stats().free, free + 1);
    check_eq!(table_of(place.range.start()), None);
    place.clear()
} }

kernel_test! { "page_table_walks", a_table_waits_for_the_walk_that_is_in_it, {
    let place = Place::new()?;
    let free = page_alloc::stats().free;
    let (mut replaced, mut entries) = (None, 0);
    linear_map::kernel().visit_tables(place.range, &mut |_, level, _, below| {
        // The walk has read the link, and is about to go on to the table.
        if level == Level::L2 && below == Some(place.table) {
            replaced = Some(place.replace());
            free_retired();
        } else if level == Level::L3 {
            entries += 1;
        }
        true
    });
    must!(must!(replaced.ok_or("the walk did not come to the table")));
    // It went through the table as that was, which it could not have done in a page that is free:
    // with DEBUG_PAGEALLOC it is not even mapped.
    check_eq!(entries, 0);
    check!(!place.is_freed());
    check_eq!(page_alloc::stats().free, free);
    free_retired();
    check!(place.is_freed());
    check_eq!(page_alloc::stats().free, free + 1);
    place.clear()
} }

kernel_test! { "page_table_walks", a_table_waits_for_no_walk_that_came_later, {
    let (first, second) = (Place::new()?, Place::new()?);
    let walk = WALKS.begin();
    must!(first.replace());
    let later = WALKS.begin();
    must!(second.replace());
    check!(!first.is_freed() && !second.is_freed());
    drop(walk);
    free_retired();
    check!(first.is_freed() && !second.is_freed());
    drop(later);
    free_retired();
    check!(second.is_freed());
    first.clear()?;
    second.clear()
} }
