//! vmalloc space itself, and what can be asked of it.

use super::{
    area::{AreaKind, Blocks, BusyAreas, FreeAreas, InsertError, VmapArea},
    space::{Arena, BASE, Ranges, Space, Waiting},
    sync::{AtomicPtr, AtomicU64, Lock},
};
use crate::mm::{
    layout::VMALLOC,
    linear_map,
    page_alloc::{self, OutOfMemory},
};
use core::{
    panic::Location,
    ptr::{self, NonNull},
    sync::atomic::Ordering,
};
use vmsa::{PageRange, VirtAddr};

/// Every range of vmalloc space.
pub(super) static SPACE: Space = Space {
    arenas: [const {
        Arena {
            ranges: Lock::new(Ranges {
                // SAFETY: `page_for_records` gives pages of the allocator that nobody takes back.
                free: unsafe { FreeAreas::new(page_for_records) },
                busy: BusyAreas::new(),
                blocks: Blocks::new(),
            }),
            lazy: Waiting {
                first: AtomicPtr::new(ptr::null_mut()),
                pages: AtomicU64::new(0),
            },
        }
    }; _],
    count: AtomicU64::new(0),
    shift: AtomicU64::new(63),
    limit: AtomicU64::new(0),
};

fn page_for_records() -> Option<NonNull<u8>> {
    let frame = page_alloc::allocate(0).ok()?;
    #[cfg(feature = "oracle")]
    linear_map::tell_written(frame);
    NonNull::new(linear_map::virt(frame.start()).as_mut_ptr())
}

/// Opens vmalloc space for a machine of `cpus` CPUs.
///
/// # Errors
/// [`OutOfMemory`].
pub fn init(cpus: usize) -> Result<(), OutOfMemory> {
    let opened = SPACE.open(VMALLOC, cpus);
    opened.map_err(|error| match error {
        InsertError::NoMemory => OutOfMemory,
        InsertError::Overlap => unreachable!("the space is opened once"),
    })
}

/// The addresses of an arena: of CPU `index`, or a spare one where the number of CPUs is no power of
/// two. `None` where there are fewer.
pub fn arena(index: usize) -> Option<PageRange> {
    let count = SPACE.arenas().len();
    let size = 1 << SPACE.shift.load(Ordering::Relaxed);
    if index >= count {
        return None;
    }
    let start = BASE + index as u64 * size;
    let lacking = VMALLOC.start().max(start) - start;
    PageRange::covering(start + lacking, size - lacking)
}

/// Pages of vmalloc space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Free addresses, in pages.
    pub free: u64,
    /// Areas in use.
    pub areas: usize,
    /// Freed pages that wait for the purge.
    pub lazy: u64,
}

/// How the space is used; CPUs that allocate meanwhile are seen at different moments.
pub fn stats() -> Stats {
    let mut stats = Stats {
        free: 0,
        areas: 0,
        lazy: 0,
    };
    for arena in SPACE.arenas() {
        let ranges = arena.ranges.lock();
        stats.free += ranges.free.pages();
        stats.areas += ranges.busy.count();
        stats.lazy += arena.lazy.pages();
    }
    stats
}

/// How many pages hold the records of areas, in all arenas. They never go back.
pub fn record_pages() -> u64 {
    let pages = |arena: &Arena| arena.ranges.lock().free.record_pages() as u64;
    SPACE.arenas().iter().map(pages).sum()
}

/// An area in use.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    /// What it is mapped at, without the guard page.
    pub mapped: PageRange,
    /// What it was asked for, in bytes.
    pub requested: u64,
    /// How it was made.
    pub kind: AreaKind,
    /// Who made it.
    pub caller: Option<&'static Location<'static>>,
}

/// The area that `va` lies in, guard page included.
pub fn find(va: VirtAddr) -> Option<Area> {
    let ranges = SPACE.arena_of(va)?.ranges.lock();
    ranges.busy.find_containing(va).and_then(of_record)
}

/// The first area that starts at `va` or above it.
pub(super) fn next_from(va: VirtAddr) -> Option<Area> {
    // Arenas that lie below have none.
    SPACE.arenas().iter().find_map(|arena| {
        let ranges = arena.ranges.lock();
        ranges.busy.next_from(va).and_then(of_record)
    })
}

/// What others are told of an area in use.
fn of_record(area: &VmapArea) -> Option<Area> {
    let info = area.info();
    Some(Area {
        mapped: PageRange::new(area.start(), area.pages() - info.kind.guard_pages())?,
        requested: info.requested,
        kind: info.kind,
        caller: info.caller,
    })
}
