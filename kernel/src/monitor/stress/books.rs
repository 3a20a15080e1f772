//! The books: where every page is. What was taken and what was given back must come to the same.

use super::wrong::{Wrong, ensure, wrong};
use crate::mm::{
    heap,
    kasan::{self, shadow::shadow_of},
    layout::VMALLOC,
    linear_map, page_alloc,
    vmalloc::{self, vfree, vmalloc},
};
use alloc::vec::Vec;
use vmsa::{Level, PAGE_SIZE, PageRange};

/// Freed areas, and pages of them, that may wait when it is time to purge: less than the kernel
/// lets wait, so that the run's addresses stay within [`REACH`].
const WAITING: (usize, u64) = (48, 4096);
/// As many again may come before it is time once more.
const MOST_WAITING: usize = 2 * WAITING.0;

/// Addresses of vmalloc space that a run gets to, and more: 128 MiB.
const REACH: u64 = 128 << 20;

/// What there was at the start.
pub(super) struct Books {
    /// Free pages, tables, shadow, and records of areas.
    accounted: u64,
    space: vmalloc::Stats,
    heap: u64,
}

/// The shadow of part of vmalloc space.
fn shadow(range: PageRange) -> Option<PageRange> {
    PageRange::covering(shadow_of(range.start())?, range.bytes() / 8)
}

/// Tables below the root that map vmalloc space and its shadow. Some are made as addresses are used
/// for the first time, and some are removed where a block takes their place.
fn tables() -> u64 {
    let kernel = linear_map::kernel();
    let mut tables = 0;
    for range in [Some(VMALLOC), shadow(VMALLOC)].into_iter().flatten() {
        kernel.visit_tables(range, &mut |_, level, _, below| {
            tables += u64::from(below.is_some());
            level < Level::L2
        });
    }
    tables
}

fn accounted() -> u64 {
    let shadow = kasan::populate::stats();
    // Records are made ready by the CPU that begins alone; in the arena of another one there may come
    // more.
    let records = vmalloc::record_pages();
    // A table that has given way to a block waits while any CPU walks.
    let tables = tables() + linear_map::retired();
    page_alloc::stats().free + tables + records + shadow.populated - shadow.depopulated
}

/// Makes what a run would otherwise make the first time alone: tables for the addresses that it
/// gets to, and records of areas. So a second run of a seed finds what the first one found, and an
/// allocation that is made to fail is the same in both.
pub(super) fn make_ready(areas: usize) -> Result<(), Wrong> {
    vmalloc::vm_unmap_aliases();
    let reach = PageRange::new(VMALLOC.start(), REACH / PAGE_SIZE);
    for range in [reach, reach.and_then(shadow)].into_iter().flatten() {
        let mut kernel = linear_map::kernel();
        kernel
            .prepare(range)
            .map_err(|error| wrong!("no tables to begin with: {error}"))?;
    }
    // As many areas as there will be at a time, and then every second of them free.
    let most = 2 * (areas + MOST_WAITING);
    let no_area = |error| wrong!("no areas to begin with: {error}");
    let mut made = Vec::with_capacity(most);
    for _ in 0..most {
        made.push(vmalloc(1).map_err(no_area)?);
    }
    for half in [0, 1] {
        for start in made.iter().skip(half).step_by(2) {
            vfree(*start).map_err(no_area)?;
        }
        vmalloc::vm_unmap_aliases();
    }
    Ok(())
}

impl Books {
    /// Opens them.
    pub(super) fn open() -> Self {
        Self {
            accounted: accounted(),
            space: vmalloc::stats(),
            heap: heap::stats().1,
        }
    }

    /// Purges, if so much has been freed that it is time to.
    pub(super) fn purge_in_time() {
        let (areas, pages, _) = vmalloc::unpurged();
        if areas > WAITING.0 || pages > WAITING.1 {
            vmalloc::vm_unmap_aliases();
        }
    }

    /// Whether the books balance, with so many pages and areas in the hands of the run.
    pub(super) fn check(&self, pages: u64, areas: usize) -> Result<(), Wrong> {
        // The heap grows where a message is made; it never gives anything back.
        let heap = (heap::stats().1 - self.heap) / PAGE_SIZE;
        let now = accounted() + pages + heap;
        ensure!(
            now == self.accounted,
            "{} pages were there at the start, and {now} are accounted for: {pages} in use, \
             {} free",
            self.accounted,
            page_alloc::stats().free
        );
        let found = vmalloc::stats().areas - self.space.areas;
        ensure!(
            found == areas,
            "{areas} areas are in use, and {found} are known"
        );
        Ok(())
    }

    /// Whether everything is as it was, once everything that was freed is purged.
    pub(super) fn close(&self) -> Result<(), Wrong> {
        vmalloc::vm_unmap_aliases();
        self.check(0, 0)?;
        let space = vmalloc::stats();
        ensure!(
            space == self.space,
            "vmalloc space was {:?} and is {space:?}",
            self.space
        );
        Ok(())
    }
}
