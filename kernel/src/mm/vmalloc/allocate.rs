//! Making areas and taking them down.

use super::{
    area::{AreaInfo, AreaKind, BusyAreas, FreeAreas, LazyAreas, OwnedArea, TakeError},
    huge, purge,
};
use crate::{
    arch::record::span,
    mm::{
        debug_pagealloc, kasan,
        layout::VMALLOC,
        lazy,
        linear_map::{self, Linear},
        page_alloc::{self, OutOfMemory},
        page_table::{self, PageTable},
        tlb::{Flush, Removed, flush_kernel_range},
    },
};
use core::{fmt, panic::Location, ptr::NonNull};
use spin::Mutex;
use vmsa::{Attributes, Descriptor, Frame, Level, PAGE_SIZE, PageRange, VirtAddr};

/// Why there is no area. Whatever had been taken for it has been given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No bytes were asked for, more than the address space has, or an alignment that is no power
    /// of two.
    Invalid,
    /// More pages than the machine has.
    TooLarge,
    /// No free range of addresses is large enough.
    NoSpace,
    /// No pages, for the area, its tables, its shadow or its record.
    OutOfMemory,
    /// No area of this kind starts at this address.
    NoArea(VirtAddr),
}

impl From<OutOfMemory> for Error {
    fn from(OutOfMemory: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid => f.write_str("the size or the alignment makes no sense"),
            Self::TooLarge => f.write_str("the machine has fewer pages than that"),
            Self::NoSpace => f.write_str("no free range of addresses is large enough"),
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::NoArea(va) => write!(f, "no such area starts at {va}"),
        }
    }
}

/// Every range of vmalloc space is in one of these three.
pub(super) struct State {
    pub(super) free: FreeAreas,
    pub(super) busy: BusyAreas,
    /// Unmapped, perhaps still in TLBs.
    pub(super) lazy: LazyAreas,
}

pub(super) static STATE: Mutex<State> = Mutex::new(State {
    // SAFETY: `page_for_records` gives pages of the allocator that nobody takes back.
    free: unsafe { FreeAreas::new(page_for_records) },
    busy: BusyAreas::new(),
    lazy: LazyAreas::new(),
});

fn page_for_records() -> Option<NonNull<u8>> {
    let frame = page_alloc::allocate(0).ok()?;
    NonNull::new(linear_map::virt(frame.start()).as_mut_ptr())
}

/// Opens vmalloc space.
///
/// # Errors
/// [`OutOfMemory`].
pub fn init() -> Result<(), OutOfMemory> {
    STATE.lock().free.add(VMALLOC).map_err(|_| OutOfMemory)
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

/// How the space is used.
pub fn stats() -> Stats {
    let state = STATE.lock();
    Stats {
        free: state.free.pages(),
        areas: state.busy.count(),
        lazy: state.lazy.pages(),
    }
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
    let state = STATE.lock();
    let area = state.busy.find_containing(va)?;
    let info = area.info();
    Some(Area {
        mapped: PageRange::new(area.start(), area.pages() - 1)?,
        requested: info.requested,
        kind: info.kind,
        caller: info.caller,
    })
}

/// Allocates `size` bytes, rounded up to pages, at the lowest address that is free. The contents
/// are whatever was in the pages.
///
/// # Errors
/// [`Error`].
#[track_caller]
pub fn vmalloc(size: u64) -> Result<VirtAddr, Error> {
    vmalloc_aligned(size, PAGE_SIZE)
}

/// As [`vmalloc`], with the contents zeroed.
///
/// # Errors
/// [`Error`].
#[track_caller]
pub fn vzalloc(size: u64) -> Result<VirtAddr, Error> {
    let start = vmalloc(size)?;
    // SAFETY: the area is new, so nobody else knows of it, and it is mapped for as many bytes.
    unsafe { start.as_mut_ptr::<u8>().write_bytes(0, size as usize) };
    Ok(start)
}

/// As [`vmalloc`], at a multiple of `align` bytes, a power of two; below a page it means nothing.
///
/// # Errors
/// [`Error`].
#[track_caller]
pub fn vmalloc_aligned(size: u64, align: u64) -> Result<VirtAddr, Error> {
    let caller = Location::caller();
    let _span = span("vmalloc");
    let pages = size.div_ceil(PAGE_SIZE);
    if pages > page_alloc::stats().managed {
        return Err(Error::TooLarge);
    }
    let area = take(pages, align, size, AreaKind::Vmalloc, caller)?;
    let list = match page_alloc::allocate_list(pages) {
        Ok(list) => list,
        Err(OutOfMemory) => return Err(give_back(area, Error::OutOfMemory)),
    };
    match map(&area, list.iter(), Attributes::KERNEL_DATA) {
        Ok(()) => Ok(use_area(area, size)),
        Err(error) => {
            page_alloc::free_list(list);
            Err(give_back(area, error))
        }
    }
}

/// Maps `frames`, which stay the caller's, at adjacent addresses.
///
/// # Errors
/// [`Error`].
#[track_caller]
pub fn vmap(frames: &[Frame], attributes: Attributes) -> Result<VirtAddr, Error> {
    let caller = Location::caller();
    let _span = span("vmap");
    let size = frames.len() as u64 * PAGE_SIZE;
    let area = take(frames.len() as u64, PAGE_SIZE, size, AreaKind::Vmap, caller)?;
    match map(&area, frames.iter().copied(), attributes) {
        Ok(()) => Ok(use_area(area, size)),
        Err(error) => Err(give_back(area, error)),
    }
}

/// Takes addresses for `pages` pages and a guard page, with their shadow.
pub(super) fn take(
    pages: u64,
    align: u64,
    requested: u64,
    kind: AreaKind,
    caller: &'static Location<'static>,
) -> Result<OwnedArea, Error> {
    if pages == 0 || pages >= VMALLOC.pages() {
        return Err(Error::Invalid);
    }
    let align = align.max(PAGE_SIZE);
    let first = STATE.lock().free.take(pages + 1, align);
    let area = match first {
        // Addresses that wait for a purge may be what is missing.
        Err(TakeError::NoSpace) => {
            purge::purge();
            STATE.lock().free.take(pages + 1, align)
        }
        other => other,
    };
    let mut area = area.map_err(|error| match error {
        TakeError::NoSpace => Error::NoSpace,
        TakeError::NoMemory => Error::OutOfMemory,
        TakeError::Invalid => Error::Invalid,
    })?;
    area.set_info(AreaInfo {
        requested,
        caller: Some(caller),
        kind,
    });
    match kasan::populate_vmalloc(area.range()) {
        Ok(()) => Ok(area),
        Err(OutOfMemory) => Err(give_back(area, Error::OutOfMemory)),
    }
}

/// Maps the pages of an area but for its guard page.
fn map(
    area: &OwnedArea,
    frames: impl Iterator<Item = Frame>,
    attributes: Attributes,
) -> Result<(), Error> {
    let Some(range) = PageRange::new(area.start(), area.pages() - 1) else {
        return Err(Error::Invalid);
    };
    let mut frames = frames;
    let mapped = linear_map::kernel().apply_to_page_range(range, |leaf| {
        let old = leaf.get();
        if !old.is_none() {
            return Err(page_table::Error::Occupied(leaf.va()));
        }
        let frame = frames
            .next()
            .ok_or(page_table::Error::NotMapped(leaf.va()))?;
        let new = Descriptor::leaf(Level::L3, frame.start(), attributes);
        leaf.set(old, new.ok_or(page_table::Error::NotMapped(leaf.va()))?);
        Ok(())
    });
    mapped.map_err(|error| match error {
        page_table::Error::OutOfMemory => Error::OutOfMemory,
        // Free addresses are not mapped, and there is a frame for each page: the tables are not
        // what they should be.
        other => unreachable!("mapping a new area: {other}"),
    })
}

/// Makes a mapped area known and its bytes accessible.
pub(super) fn use_area(area: OwnedArea, size: u64) -> VirtAddr {
    let start = area.start();
    kasan::unpoison(start, size);
    STATE.lock().busy.insert(area);
    start
}

/// Gives back the addresses of an area that was never mapped.
pub(super) fn give_back(area: OwnedArea, error: Error) -> Error {
    purge::release(area);
    error
}

/// Frees what [`vmalloc`] or [`vmalloc_huge`](super::vmalloc_huge) returned. Its pages are free at
/// once; a TLB may know the addresses until the purge.
///
/// # Errors
/// [`Error::NoArea`], after a report; nothing has changed.
#[track_caller]
pub fn vfree(start: VirtAddr) -> Result<(), Error> {
    let _span = span("vfree");
    let kinds = [AreaKind::Vmalloc, AreaKind::VmallocHuge];
    let area = remove(start, &kinds, "vfree")?;
    if area.info().kind == AreaKind::VmallocHuge {
        huge::unmap_and_free(&area);
        purge::push(area);
        return Ok(());
    }
    let mut list = page_alloc::empty_list();
    unmap(&area, |frame| {
        if let Some(list) = &mut list {
            // A page that is not the area's own is reported, and left alone.
            let _ = page_alloc::give_up(list, frame);
        }
    });
    if let Some(list) = list {
        page_alloc::free_list(list);
    }
    purge::push(area);
    Ok(())
}

/// Takes down what [`vmap`] returned; the frames are the caller's.
///
/// # Errors
/// [`Error::NoArea`], after a report; nothing has changed.
#[track_caller]
pub fn vunmap(start: VirtAddr) -> Result<(), Error> {
    let _span = span("vunmap");
    let area = remove(start, &[AreaKind::Vmap], "vunmap")?;
    unmap(&area, |_| ());
    purge::push(area);
    Ok(())
}

/// Takes an area out of use.
#[track_caller]
fn remove(start: VirtAddr, kinds: &[AreaKind], what: &str) -> Result<OwnedArea, Error> {
    let area = {
        let mut state = STATE.lock();
        let right = state
            .busy
            .find(start)
            .is_some_and(|area| kinds.contains(&area.info().kind));
        if right {
            state.busy.remove(start)
        } else {
            None
        }
    };
    // Not in the closure, whose caller is this function.
    let caller = Location::caller();
    area.ok_or_else(|| {
        log::error!("BUG: {what}({start}) at {caller}: no such area starts there");
        Error::NoArea(start)
    })
}

/// Clears the leaves of an area and tells of each frame. No flush, but with DEBUG_PAGEALLOC or where
/// permissions had been changed: the purge makes it.
fn unmap(area: &OwnedArea, mut each: impl FnMut(Frame)) {
    let Some(range) = PageRange::new(area.start(), area.pages() - 1) else {
        return;
    };
    let kernel = linear_map::kernel();
    let owned = area.info().kind == AreaKind::Vmalloc;
    let mut reset = false;
    let section = lazy::section();
    kernel
        .change_leaves(&section, range, |leaf| {
            let old = leaf.take();
            if let Some(frame) = old.output_ignoring_valid(Level::L3).map(Frame::containing) {
                if owned && old.attributes() != Attributes::KERNEL_DATA {
                    reset = true;
                    make_alias_writable(&kernel, frame)?;
                }
                each(frame);
            }
            Ok(())
        })
        .unwrap_or_else(|error| unreachable!("an area is made of pages: {error}"));
    if reset {
        // Frames that a TLB can still execute, or can't write through the linear map, may not have
        // a new owner (VM_FLUSH_RESET_PERMS in Linux). Rare, so all of the TLB goes.
        Flush::begin(u64::MAX).finish();
    } else if debug_pagealloc::is_on() {
        // Who asks for DEBUG_PAGEALLOC wants a stale access to fault now, not after the purge. The
        // flush may be put off, but only to the end of this section, whatever is open around it:
        // the frames reach the allocator after that.
        flush_kernel_range(range, Removed::Leaves);
    }
    drop(section);
    kasan::poison(area.range());
}

/// Undoes what `set_memory_ro` did to the linear alias of a frame; the flush is the caller's.
fn make_alias_writable(kernel: &PageTable<Linear>, frame: Frame) -> Result<(), page_table::Error> {
    if !linear_map::is_page_granular() {
        return Ok(());
    }
    kernel.set_leaf(linear_map::virt(frame.start()), |entry| {
        entry.with_attributes(Attributes::KERNEL_DATA)
    })
}
