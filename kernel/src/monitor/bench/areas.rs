//! vmalloc and its relatives: pairs in the steady state, and the halves of a pair.

use super::{
    meter::{Cost, Measured, Trouble, measure},
    parameters::{Parameter, Values, parameter},
    report::Line,
    steady::steady,
};
use crate::mm::{
    page_alloc::{self, PageList},
    vmalloc,
};
use alloc::vec::Vec;
use vmsa::{Attributes, Frame, PAGE_SIZE, VirtAddr};

/// The pages of a case, and how often it is done: `loops` is a number of pairs, 0 as many as make some
/// ten thousand pages.
pub(super) const SIZED: &[Parameter] = &[
    parameter("n", 1, 1, 4096),
    parameter("loops", 0, 0, 10_000_000),
];

/// Of `vmalloc_huge`.
pub(super) const LOOPS: &[Parameter] = &[parameter("loops", 0, 0, 10_000_000)];

/// The rounds that were asked for, or enough for something of `pages` pages.
pub(super) fn rounds(values: &Values, pages: u64) -> u64 {
    match values.get("loops") {
        0 => (16_384 / pages).max(8),
        rounds => rounds,
    }
}

/// What takes an area down.
pub(super) type Free = fn(VirtAddr) -> Result<(), vmalloc::Error>;

/// Areas that are held, and taken down at the latest when this goes.
#[derive(Debug)]
pub(super) struct Held {
    areas: Vec<VirtAddr>,
    free: Free,
}

impl Held {
    /// Room for `count` of them, so that none has to be made while something is measured.
    pub(super) fn with_room(count: u64, free: Free) -> Result<Self, Trouble> {
        let mut areas = Vec::new();
        areas
            .try_reserve_exact(count as usize)
            .map_err(|_| Trouble::OutOfMemory)?;
        Ok(Self { areas, free })
    }

    /// Takes one more, for which there is room.
    #[inline]
    pub(super) fn push(&mut self, area: VirtAddr) {
        self.areas.push(area);
    }

    /// Takes the newest down.
    #[inline]
    pub(super) fn free_newest(&mut self) -> Result<(), Trouble> {
        self.areas
            .pop()
            .map_or(Ok(()), |area| Ok((self.free)(area)?))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for area in self.areas.drain(..) {
            // It is an area: there is nothing to fail.
            let _ = (self.free)(area);
        }
    }
}

/// Stores to the first byte, as everybody who allocates does.
#[inline(always)]
pub(super) fn touch(area: VirtAddr, value: u8) {
    // SAFETY: the caller has just made the area, which is mapped as memory.
    unsafe { area.as_mut_ptr::<u8>().write_volatile(value) };
}

/// `vmalloc_pair`: an area made and freed, again and again; then the halves, in batches between which
/// there is a purge, and the purge.
pub(super) fn vmalloc_pair(values: &Values) -> Measured<()> {
    let pages = values.get("n");
    let line = |case| Line {
        case,
        size: Some(("n", pages)),
        memory: values.memory,
    };
    let bytes = pages * PAGE_SIZE;
    let pair = steady(rounds(values, pages), |_| {
        let area = vmalloc::vmalloc(bytes)?;
        Ok(vmalloc::vfree(area)?)
    })?;
    line("vmalloc_pair").steady(pair);

    let halves = halves(pages, vmalloc::vfree, || Ok(vmalloc::vmalloc(bytes)?))?;
    line("vmalloc").cost(halves.make);
    line("vfree").cost(halves.free);
    line("purge").of_areas(halves.purge, halves.areas);
    Ok(())
}

/// Pages that a case allocates once and gives back at the end.
pub(super) struct Frames {
    list: Option<PageList>,
    /// The same, as a slice.
    pub(super) frames: Vec<Frame>,
}

impl Frames {
    /// So many.
    pub(super) fn allocate(count: u64) -> Result<Self, Trouble> {
        let mut frames = Vec::new();
        frames
            .try_reserve_exact(count as usize)
            .map_err(|_| Trouble::OutOfMemory)?;
        let list = page_alloc::allocate_list(count)?;
        frames.extend(list.iter());
        Ok(Self {
            list: Some(list),
            frames,
        })
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.list.take().into_iter().for_each(page_alloc::free_list);
    }
}

/// `vmap`: the halves of mapping pages that the case has, and the pair in the steady state.
pub(super) fn vmap(values: &Values) -> Measured<()> {
    let pages = values.get("n");
    let line = |case| Line {
        case,
        size: Some(("n", pages)),
        memory: values.memory,
    };
    let frames = Frames::allocate(pages)?;
    let make = || Ok(vmalloc::vmap(&frames.frames, Attributes::KERNEL_DATA)?);
    let pair = steady(rounds(values, pages), |_| Ok(vmalloc::vunmap(make()?)?))?;
    line("vmap_pair").steady(pair);
    let halves = halves(pages, vmalloc::vunmap, make)?;
    line("vmap").cost(halves.make);
    line("vunmap").cost(halves.free);
    Ok(())
}

/// `huge_pair`: 2 MiB, in one block where RAM has one.
pub(super) fn huge_pair(values: &Values) -> Measured<()> {
    const PAGES: u64 = 512;
    let line = |case| Line {
        case,
        size: Some(("n", PAGES)),
        memory: values.memory,
    };
    let make = || Ok(vmalloc::vmalloc_huge(PAGES * PAGE_SIZE)?);
    let pair = steady(rounds(values, PAGES), |_| Ok(vmalloc::vfree(make()?)?))?;
    line("huge_pair").steady(pair);
    let halves = halves(PAGES, vmalloc::vfree, make)?;
    line("vmalloc_huge").cost(halves.make);
    line("vfree_huge").cost(halves.free);
    Ok(())
}

/// The two halves of a pair, and the purge of a batch.
#[derive(Debug, Default)]
struct Halves {
    make: Cost,
    free: Cost,
    purge: Cost,
    /// In a batch.
    areas: u64,
}

/// Batches; the first is not in the figures.
const BATCHES: u64 = 5;
/// Pages of a batch, guard pages included: no purge comes before half as many more.
const BATCH: u64 = 4097;

/// Makes areas of `pages` pages, frees them all, and purges, several times.
fn halves(
    pages: u64,
    free: Free,
    make: impl Fn() -> Result<VirtAddr, Trouble>,
) -> Measured<Halves> {
    let areas = (BATCH / (pages + 1)).clamp(1, 256);
    let mut held = Held::with_room(areas, free)?;
    let mut halves = Halves {
        areas,
        ..Halves::default()
    };
    vmalloc::vm_unmap_aliases();
    for batch in 0..BATCHES {
        let made = measure(areas, |_| {
            held.push(make()?);
            Ok(())
        })?;
        let freed = measure(areas, |_| held.free_newest())?;
        let purged = measure(1, |_| {
            vmalloc::vm_unmap_aliases();
            Ok(())
        })?;
        if batch > 0 {
            halves.make = halves.make.and(made);
            halves.free = halves.free.and(freed);
            halves.purge = halves.purge.and(purged);
        }
    }
    Ok(halves)
}
