//! `vmalloc_huge`: areas in blocks of 2 MiB and contiguous sets of 64 KiB, as far as size and RAM
//! allow.
//!
//! What is too small for a block is left to sets, and what is too small for a set to pages; where
//! RAM has no block, the next smaller size takes its place. So an area is no larger than was asked
//! for (Linux rounds it up, and tries again with pages alone when it has no block). Blocks of the
//! page allocator and entries correspond: an order-9 block is one entry of level 2, an order-4 block
//! one set, and a vfree can tell from the entry what to free.

#[cfg(feature = "ktests")]
mod ktests;

use super::{
    area::{AreaInfo, AreaKind, OwnedArea},
    purge,
    reserve::{Error, check, give_back, open, take, take_back, take_here},
    state::{SPACE, find},
};
#[cfg(feature = "oracle")]
use crate::event;
use crate::{
    arch::{cpu, record::span},
    mm::{
        debug_pagealloc, kasan,
        layout::{IMAGE, LINEAR},
        lazy, linear_map,
        page_alloc::{self, BlockList, OutOfMemory, PageList},
        page_table::{
            self,
            huge::{Idle, Size},
        },
        tlb::{Removed, flush_kernel_range},
    },
    task, unusual,
};
use core::{fmt, panic::Location};
use vmsa::{Attributes, Frame, Level, PAGE_SIZE, PageRange, VirtAddr};

/// The frames of an area.
struct Frames {
    /// Of order 9 and 4.
    blocks: BlockList,
    singles: PageList,
}

impl Frames {
    fn none() -> Result<Self, OutOfMemory> {
        Ok(Self {
            blocks: page_alloc::empty_blocks().ok_or(OutOfMemory)?,
            singles: page_alloc::empty_list().ok_or(OutOfMemory)?,
        })
    }

    /// Allocates `pages` pages in the largest parts that there are, or none.
    #[track_caller]
    fn allocate(pages: u64) -> Result<Self, OutOfMemory> {
        let mut frames = Self::none()?;
        let mut left = pages;
        for size in [Size::Block, Size::Contiguous] {
            while left >= size.pages()
                && let Ok(frame) = page_alloc::allocate(size.order())
            {
                left -= size.pages();
                // It has just been allocated.
                let _ = frames.blocks.push(frame);
            }
        }
        match page_alloc::allocate_list(left) {
            Ok(singles) => frames.singles = singles,
            Err(OutOfMemory) => {
                frames.free();
                return Err(OutOfMemory);
            }
        }
        Ok(frames)
    }

    /// First frame and size of each part, the largest first.
    fn parts(&self) -> impl Iterator<Item = (Frame, Size)> + Clone + use<> {
        let size = |order| match order {
            9 => Size::Block,
            _ => Size::Contiguous,
        };
        let blocks = self
            .blocks
            .iter()
            .map(move |(frame, order)| (frame, size(order)));
        blocks.chain(self.singles.iter().map(|frame| (frame, Size::Page)))
    }

    /// Takes a part of an area that has been unmapped.
    fn take(&mut self, frame: Frame, size: Size) {
        // A page that is not the area's own is reported, and left alone.
        let _ = match size {
            Size::Page => page_alloc::give_up(&mut self.singles, frame),
            Size::Contiguous | Size::Block => self.blocks.push(frame),
        };
    }

    #[track_caller]
    fn free(self) {
        for (frame, order) in self.blocks.into_blocks() {
            // The block's own order, so nothing can be wrong with it.
            let _ = page_alloc::free(frame, order);
        }
        page_alloc::free_list(self.singles);
    }
}

/// As [`vmalloc`](super::vmalloc), in blocks and contiguous sets where they fit. The area is aligned
/// to the largest of them that `size` holds. `set_memory_*` refuses it.
///
/// # Errors
/// [`Error`].
#[track_caller]
pub fn vmalloc_huge(size: u64) -> Result<VirtAddr, Error> {
    let caller = Location::caller();
    if size.div_ceil(PAGE_SIZE) == Size::Block.pages()
        && goes_short()
        && !task::current().in_interrupt()
        && let Some(start) = one_block(size, caller)?
    {
        return Ok(start);
    }
    in_parts(size, caller)
}

/// Whether there is a short way for one block: as for one page of [`map_ram`](super::map_ram).
#[inline(always)]
fn goes_short() -> bool {
    !cfg!(feature = "bugs") && !unusual::anything_or_tools()
}

/// An area of one block, where RAM has one and there is nothing to be seen to but its entry. `None`
/// where that is not so; then nothing has been taken.
#[inline(always)]
fn one_block(size: u64, caller: &'static Location<'static>) -> Result<Option<VirtAddr>, Error> {
    let Ok(frame) = page_alloc::allocate(Size::Block.order()) else {
        return Ok(None);
    };
    let info = AreaInfo {
        requested: size,
        caller: Some(caller),
        kind: AreaKind::VmallocHuge,
    };
    let (pages, align) = (Size::Block.pages(), Size::Block.bytes());
    let start = match take_here(pages, align, info, PageList::EMPTY, false) {
        Ok(start) => start,
        Err(error) => return Err(not_taken(frame, error)),
    };
    if !linear_map::kernel().map_single_block(start, frame, Attributes::KERNEL_DATA) {
        // A table is missing, or one is in the way.
        purge::release(take_back(start));
        free_block(frame);
        return Ok(None);
    }
    Ok(Some(start))
}

#[cold]
fn not_taken(frame: Frame, error: Error) -> Error {
    free_block(frame);
    error
}

fn free_block(frame: Frame) {
    // It is whole, so nothing can be wrong with it.
    let _ = page_alloc::free(frame, Size::Block.order());
}

/// An area of blocks and what is smaller.
#[inline(never)]
fn in_parts(size: u64, caller: &'static Location<'static>) -> Result<VirtAddr, Error> {
    let _span = span("vmalloc_huge");
    let pages = size.div_ceil(PAGE_SIZE);
    if pages > page_alloc::managed() {
        return Err(Error::TooLarge);
    }
    check(pages, caller)?;
    let align = Size::largest_in(pages).bytes();
    let kind = AreaKind::VmallocHuge;
    let start = take(pages, align, size, kind, caller, PageList::EMPTY)?;
    let frames = match Frames::allocate(pages) {
        Ok(frames) => frames,
        Err(OutOfMemory) => return Err(give_back(start, Error::OutOfMemory)),
    };
    let parts = frames.parts();
    match linear_map::kernel().map_parts(start, parts, Attributes::KERNEL_DATA) {
        Ok(()) => {
            open(start, size);
            Ok(start)
        }
        Err(page_table::Error::OutOfMemory) => {
            frames.free();
            Err(give_back(start, Error::OutOfMemory))
        }
        Err(other) => unreachable!("mapping a new huge area: {other}"),
    }
}

/// Takes an area down that [`vmalloc_huge`] made; what `vfree` does with one.
#[track_caller]
#[inline]
pub(super) fn unmap_and_free(area: OwnedArea) {
    let start = area.start();
    if area.pages() == Size::Block.pages() + AreaKind::VmallocHuge.guard_pages()
        && goes_short()
        && let Some(frame) = linear_map::kernel().clear_single_block(start)
    {
        #[cfg(feature = "oracle")]
        event!(WindowOpened {
            window: event::Window::LazyPurge,
            range: area.range(),
        });
        // In this order: see `vfree`.
        let full = purge::push(area, start, SPACE.home_of(start));
        free_block(frame);
        if let Some(full) = full {
            purge::purge_if_free(full);
        }
        return;
    }
    unmap_parts(area);
}

#[track_caller]
#[inline(never)]
fn unmap_parts(area: OwnedArea) {
    let range = PageRange::new(area.start(), area.pages() - 1);
    // The page allocator is open, or there would be no area.
    let (Some(range), Ok(mut frames)) = (range, Frames::none()) else {
        return;
    };
    {
        let section = lazy::section();
        linear_map::kernel()
            .take_leaves(&section, range, |frame, size| frames.take(frame, size))
            .unwrap_or_else(|error| unreachable!("an area has its blocks whole: {error}"));
    }
    kasan::poison(area.range());
    if debug_pagealloc::is_on() {
        flush_kernel_range(range, Removed::Blocks);
    }
    #[cfg(feature = "oracle")]
    if !debug_pagealloc::is_on() {
        event!(WindowOpened {
            window: event::Window::LazyPurge,
            range: area.range(),
        });
    }
    // In this order: see `vfree`.
    let full = purge::push(area, range.start(), SPACE.home_of(range.start()));
    frames.free();
    if let Some(full) = full {
        purge::purge_if_free(full);
    }
}

/// Why a block was not split. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitError {
    /// It is of the linear map.
    LinearMap,
    /// It is of the image.
    Image,
    /// The address is in no area of [`vmalloc_huge`], or no block maps it.
    NoBlock(VirtAddr),
    /// The promise does not cover the block.
    NotIdle(VirtAddr),
    /// No page for the table.
    OutOfMemory,
}

impl fmt::Display for SplitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, user) = match self {
            Self::LinearMap => (
                "the linear map",
                "page tables and stacks are reached through it",
            ),
            Self::Image => ("the image", "the code that would split it runs from it"),
            Self::NoBlock(va) => return write!(f, "no block of a vmalloc_huge area maps {va}"),
            Self::NotIdle(va) => return write!(f, "the block at {va} may be in use"),
            Self::OutOfMemory => return OutOfMemory.fmt(f),
        };
        let level = cpu::features().bbm;
        write!(
            f,
            "{what} is always in use ({user}), so that it can't be broken before it is made; the CPU has FEAT_BBM level {level}, and even level 2 leaves it the choice to report a TLB conflict"
        )
    }
}

/// Splits the block that `va` lies in into 512 pages, by break-before-make. It must be of an area
/// of [`vmalloc_huge`], and nobody may be using it: `idle` promises that. Everything else that is
/// mapped by blocks is in use at any time.
///
/// # Errors
/// [`SplitError`].
pub fn split_block(va: VirtAddr, idle: &Idle) -> Result<(), SplitError> {
    let _span = span("split_block");
    if LINEAR.contains(va) {
        return Err(SplitError::LinearMap);
    }
    if IMAGE.contains(va) {
        return Err(SplitError::Image);
    }
    let mut kernel = linear_map::kernel();
    let frame = find(va)
        .filter(|area| area.kind == AreaKind::VmallocHuge)
        .and_then(|_| kernel.leaf(va))
        .filter(|(_, level)| *level == Level::L2)
        .and_then(|(entry, level)| entry.output(level))
        .map(Frame::containing)
        .ok_or(SplitError::NoBlock(va))?;
    kernel.split_block(va, idle).map_err(|error| match error {
        page_table::Error::OutOfMemory => SplitError::OutOfMemory,
        page_table::Error::Block(va) => SplitError::NotIdle(va),
        other => unreachable!("there is a block: {other}"),
    })?;
    // From now on vfree finds pages there, and frees pages.
    page_alloc::split(frame, Size::Block.order())
        .unwrap_or_else(|error| unreachable!("a block's frames are of its order: {error}"));
    Ok(())
}
