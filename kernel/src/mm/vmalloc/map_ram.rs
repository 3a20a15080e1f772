//! `vm_map_ram`: mapping a few pages of one's own for a short time, at the least cost.
//!
//! Up to [`MAX_FROM_BLOCK`] pages get addresses from the block of this CPU's arena: a counter goes up,
//! and no area is made. Unmapping them leaves them dirty; nothing is flushed before a block is dirty
//! as a whole and purged with the areas that wait, or before somebody must be sure
//! ([`vm_unmap_aliases`](super::vm_unmap_aliases)). The window "freed but not purged" is open for
//! each of them until then. A block has no guard pages within it; its shadow knows what is mapped.

use super::{
    allocate::{map_frames, unmap_frames},
    area::{AreaKind, BLOCK_PAGES},
    purge,
    reserve::{self, Error},
    state::SPACE,
};
#[cfg(feature = "oracle")]
use crate::event;
use crate::{
    arch::{cpu, record::span},
    mm::{
        debug_pagealloc, kasan, lazy, linear_map,
        page_alloc::PageList,
        page_table,
        tlb::{Removed, flush_kernel_range},
    },
    task, unusual,
};
use core::panic::Location;
use vmsa::{Attributes, Frame, PAGE_SIZE, PageRange, VirtAddr};

/// Pages that a block is asked for (VMAP_MAX_ALLOC in Linux on 64 bits); more get an area.
pub const MAX_FROM_BLOCK: usize = 64;

/// Maps `frames`, which stay the caller's, at adjacent addresses. To be taken down by
/// [`vm_unmap_ram`], on any CPU, with as many pages.
///
/// # Errors
/// [`Error`].
#[track_caller]
#[inline]
pub fn vm_map_ram(frames: &[Frame]) -> Result<VirtAddr, Error> {
    // One page, where nobody watches or interrupts: a leaf and its barriers, and no more than that.
    if let [frame] = *frames
        && goes_short()
        && !task::current().in_interrupt()
        && let Some(start) = SPACE.take_slots(cpu::id() as usize, 1)
    {
        if !linear_map::kernel().map_single(start, frame, Attributes::KERNEL_DATA) {
            return map_given_out(start, frames);
        }
        return Ok(start);
    }
    map_ram(frames, Location::caller())
}

/// Whether there is a short way for one page. There is none where the page has a shadow, or is to be
/// flushed at once.
#[inline(always)]
fn goes_short() -> bool {
    // Planted bugs are to be met.
    !cfg!(feature = "bugs") && !unusual::anything_or_tools()
}

#[inline(never)]
fn map_ram(frames: &[Frame], caller: &'static Location<'static>) -> Result<VirtAddr, Error> {
    let _span = span("vm_map_ram");
    if frames.is_empty() || frames.len() > MAX_FROM_BLOCK {
        return map_frames(frames, Attributes::KERNEL_DATA, AreaKind::MapRam, caller);
    }
    if task::current().in_interrupt() {
        return Err(reserve::refuse_in_interrupt(caller));
    }
    let pages = frames.len() as u16;
    // Which CPU this is may be out of date at once: any arena will do.
    let cpu = cpu::id() as usize;
    let start = match SPACE.take_slots(cpu, pages) {
        Some(start) => start,
        None => new_block(pages, caller)?,
    };
    map_given_out(start, frames)
}

/// Maps `frames` at addresses from `start` on that a block has given out for them.
#[inline(never)]
fn map_given_out(start: VirtAddr, frames: &[Frame]) -> Result<VirtAddr, Error> {
    // Addresses come from one block, whose last page is one of the address space's as well.
    let range = PageRange::new(start, frames.len() as u64).ok_or(Error::Invalid)?;
    match linear_map::kernel().map_frames(start, frames, Attributes::KERNEL_DATA) {
        Ok(()) => {
            reserve::open(start, range.bytes());
            Ok(start)
        }
        Err(page_table::Error::OutOfMemory) => {
            // Never mapped; that they count as dirty loses them as any others.
            give_back(range, frames.len() as u16);
            Err(Error::OutOfMemory)
        }
        // Pages that were not given out are not mapped, and there is a frame for each.
        Err(other) => unreachable!("mapping pages of a block: {other}"),
    }
}

/// A new block, of which the first `pages` pages are given out.
#[cold]
#[inline(never)]
fn new_block(pages: u16, caller: &'static Location<'static>) -> Result<VirtAddr, Error> {
    let size = u64::from(BLOCK_PAGES) * PAGE_SIZE;
    let kind = AreaKind::MapRamBlock;
    let start = reserve::take(
        BLOCK_PAGES.into(),
        size,
        size,
        kind,
        caller,
        PageList::EMPTY,
    )?;
    if let Some(full) = SPACE.add_block(start, pages) {
        purge::purge_if_free(full);
    }
    Ok(start)
}

/// Unmaps `pages` pages that [`vm_map_ram`] mapped at `start`.
///
/// # Errors
/// [`Error::NoArea`], after a report, where it has mapped nothing there; nothing has changed. Where it
/// has mapped fewer pages, those are unmapped, and it is reported.
#[track_caller]
#[inline]
pub fn vm_unmap_ram(start: VirtAddr, pages: usize) -> Result<(), Error> {
    if pages == 1 && goes_short() && unmap_single(start) {
        return Ok(());
    }
    unmap_ram(start, pages, Location::caller())
}

/// Unmaps a page of this CPU's block, where nothing else is to be done for it. False if it is not of
/// this kind; then nothing has changed.
#[inline(always)]
fn unmap_single(start: VirtAddr) -> bool {
    SPACE.give_back_single(start, || {
        let unmapped = linear_map::kernel().clear_single(start);
        #[cfg(feature = "oracle")]
        if let Some(range) = PageRange::new(start, 1).filter(|_| unmapped) {
            event!(WindowOpened {
                window: event::Window::LazyPurge,
                range,
            });
        }
        unmapped
    })
}

#[inline(never)]
fn unmap_ram(
    start: VirtAddr,
    pages: usize,
    caller: &'static Location<'static>,
) -> Result<(), Error> {
    let _span = span("vm_unmap_ram");
    if pages > MAX_FROM_BLOCK {
        return unmap_frames(start, caller);
    }
    let range = PageRange::new(start, pages as u64).filter(|range| range.pages() > 0);
    let Some(range) = range.filter(|range| SPACE.is_of_block(*range)) else {
        return Err(refused(start, pages, caller));
    };
    let unmapped = linear_map::kernel()
        .take_mapped_pages(&lazy::section(), start, range.pages(), 0, |count, old| {
            count + u16::from(!old.is_none())
        })
        .unwrap_or_else(|error| unreachable!("a block is mapped by pages: {error}"));
    if usize::from(unmapped) != pages {
        refused(start, pages, caller);
        if unmapped == 0 {
            return Err(Error::NoArea(start));
        }
    }
    if kasan::is_on() {
        kasan::poison(range);
    }
    if debug_pagealloc::is_on() {
        flush_kernel_range(range, Removed::Leaves);
    }
    #[cfg(feature = "oracle")]
    if !debug_pagealloc::is_on() {
        event!(WindowOpened {
            window: event::Window::LazyPurge,
            range,
        });
    }
    // Only now that the leaves are cleared: a purge that came before would not have flushed them.
    give_back(range, unmapped);
    Ok(())
}

/// Takes back pages of a block, of which `dirty` were mapped.
#[inline]
fn give_back(range: PageRange, dirty: u16) {
    let full = SPACE.give_back_slots(range, dirty);
    // In interrupt context somebody may be interrupted who has locks that a purge takes.
    if let Some(full) = full
        && !task::current().in_interrupt()
    {
        purge::purge_if_free(full);
    }
}

/// Says that so many pages are not mapped there.
#[cold]
fn refused(start: VirtAddr, pages: usize, caller: &Location<'_>) -> Error {
    log::error!(
        "BUG: vm_unmap_ram({start}, {pages}) at {caller}: vm_map_ram has not mapped that there"
    );
    Error::NoArea(start)
}
