//! Making areas and taking them down.

use super::{
    area::{AreaInfo, AreaKind, OwnedArea},
    deferred, huge, purge,
    reserve::{Error, check_context, give_back, open, take, take_here, unpoison},
    space::Arena,
    state::SPACE,
};
#[cfg(feature = "oracle")]
use crate::event;
use crate::{
    arch::{record::span, zero::zero},
    bug::{Bug, planted},
    mm::{
        debug_pagealloc, kasan,
        lazy::{self, KnownFrames},
        linear_map::{self, Linear},
        page_alloc::{self, PageList},
        page_table::{self, PageTable},
        tlb::{Flush, flush_unflushed},
        unflushed::Unflushed,
    },
    task, unusual,
};
use core::{mem, panic::Location};
use vmsa::{Attributes, Descriptor, Frame, PAGE_SIZE, PageRange, VirtAddr};

/// Allocates `size` bytes, rounded up to pages, at the lowest address that is free. The contents
/// are whatever was in the pages.
///
/// # Errors
/// [`Error`].
#[track_caller]
pub fn vmalloc(size: u64) -> Result<VirtAddr, Error> {
    let caller = Location::caller();
    // A single page that is at hand, and nobody records or interrupts: then nothing is to be counted,
    // and all of it stays in registers (a tenth less).
    if size.wrapping_sub(1) < PAGE_SIZE
        && !unusual::anything()
        && !task::current().in_interrupt()
        && let Some((list, first)) = page_alloc::allocate_at_once()
    {
        return with_single(list, first, size, caller);
    }
    allocate(size, PAGE_SIZE, caller)
}

/// An area of the page `frame`, which is all of `list`, where nothing is [`unusual`].
#[inline(always)]
fn with_single(
    list: PageList,
    frame: Frame,
    size: u64,
    caller: &'static Location<'static>,
) -> Result<VirtAddr, Error> {
    let info = AreaInfo {
        requested: size,
        caller: Some(caller),
        kind: AreaKind::Vmalloc,
    };
    let shadow = kasan::is_on();
    let start = take_here(1, PAGE_SIZE, info, list, shadow)?;
    let data = Attributes::KERNEL_DATA;
    // Planted bugs are to be met.
    if cfg!(feature = "bugs") || !linear_map::kernel().map_single(start, frame, data) {
        map_adjacent(start, frame, 1)?;
    }
    if shadow {
        unpoison(start, size);
    }
    Ok(start)
}

/// As [`vmalloc`], with the contents zeroed.
///
/// # Errors
/// [`Error`].
#[track_caller]
pub fn vzalloc(size: u64) -> Result<VirtAddr, Error> {
    let start = vmalloc(size)?;
    #[cfg(feature = "oracle")]
    for va in PageRange::covering(start, size)
        .into_iter()
        .flat_map(PageRange::pages_iter)
    {
        event!(Access {
            va,
            access: event::Access::Write,
        });
    }
    let bytes = size.div_ceil(PAGE_SIZE) * PAGE_SIZE;
    // SAFETY: the area is new, so nobody else knows of it, and it is mapped for as many bytes.
    unsafe { zero(start.as_mut_ptr(), bytes as usize) };
    Ok(start)
}

/// As [`vmalloc`], at a multiple of `align` bytes, a power of two; below a page it means nothing.
///
/// # Errors
/// [`Error`].
#[track_caller]
pub fn vmalloc_aligned(size: u64, align: u64) -> Result<VirtAddr, Error> {
    allocate(size, align, Location::caller())
}

/// What [`vmalloc_aligned`] does.
#[inline(never)]
fn allocate(size: u64, align: u64, caller: &'static Location<'static>) -> Result<VirtAddr, Error> {
    let _span = span("vmalloc");
    let pages = size.div_ceil(PAGE_SIZE);
    // One comparison for none and for too many.
    if pages.wrapping_sub(1) >= page_alloc::managed() {
        return Err(if pages == 0 {
            Error::Invalid
        } else {
            Error::TooLarge
        });
    }
    check_context(caller)?;
    let list = page_alloc::allocate_list(pages)?;
    match list.adjacent() {
        Some(first) => with_adjacent(list, first, pages, align, size, caller),
        None => with_scattered(list, align, size, caller),
    }
}

/// An area of `pages` pages that adjoin, from `first` on.
#[inline(always)]
fn with_adjacent(
    list: PageList,
    first: Frame,
    pages: u64,
    align: u64,
    size: u64,
    caller: &'static Location<'static>,
) -> Result<VirtAddr, Error> {
    let info = AreaInfo {
        requested: size,
        caller: Some(caller),
        kind: AreaKind::Vmalloc,
    };
    let shadow = kasan::is_on();
    let start = take_here(pages, align, info, list, shadow)?;
    map_adjacent(start, first, pages)?;
    if shadow {
        unpoison(start, size);
    }
    Ok(start)
}

/// Maps the pages of an area, which adjoin from `first` on; an area that can't be mapped is given back.
#[inline(always)]
fn map_adjacent(start: VirtAddr, first: Frame, pages: u64) -> Result<(), Error> {
    let data = Attributes::KERNEL_DATA;
    let mut mapped = linear_map::kernel().map_adjacent(start, pages, first, data);
    if planted(Bug::GuardMapped) {
        mapped = mapped.and_then(|()| map_guard(start + pages * PAGE_SIZE, data));
    }
    mapped.map_err(|error| not_mapped(start, error))
}

/// An area whose pages are anywhere.
#[inline(never)]
fn with_scattered(
    list: PageList,
    align: u64,
    size: u64,
    caller: &'static Location<'static>,
) -> Result<VirtAddr, Error> {
    let (pages, runs) = (list.count(), list.runs());
    let start = take(pages, align, size, AreaKind::Vmalloc, caller, list)?;
    map(start, pages, runs.into_frames(), Attributes::KERNEL_DATA)?;
    open(start, size);
    Ok(start)
}

/// Maps `frames`, which stay the caller's, at adjacent addresses.
///
/// # Errors
/// [`Error`].
#[track_caller]
#[inline]
pub fn vmap(frames: &[Frame], attributes: Attributes) -> Result<VirtAddr, Error> {
    let _span = span("vmap");
    map_frames(frames, attributes, AreaKind::Vmap, Location::caller())
}

/// Makes an area of this kind for the frames of others.
pub(super) fn map_frames(
    frames: &[Frame],
    attributes: Attributes,
    kind: AreaKind,
    caller: &'static Location<'static>,
) -> Result<VirtAddr, Error> {
    let pages = frames.len() as u64;
    let size = pages * PAGE_SIZE;
    if frames.is_empty() {
        return Err(Error::Invalid);
    }
    check_context(caller)?;
    let info = AreaInfo {
        requested: size,
        caller: Some(caller),
        kind,
    };
    let shadow = kasan::is_on();
    let start = take_here(pages, PAGE_SIZE, info, PageList::EMPTY, shadow)?;
    let mut mapped = linear_map::kernel().map_frames(start, frames, attributes);
    if planted(Bug::GuardMapped) {
        mapped = mapped.and_then(|()| map_guard(start + size, attributes));
    }
    if let Err(error) = mapped {
        return Err(not_mapped(start, error));
    }
    if shadow {
        unpoison(start, size);
    }
    Ok(start)
}

/// Maps the pages of an area, but for its guard page; an area that can't be mapped is given back.
#[inline]
fn map(
    start: VirtAddr,
    pages: u64,
    frames: impl KnownFrames,
    attributes: Attributes,
) -> Result<(), Error> {
    let range = PageRange::new(start, pages).ok_or(Error::Invalid)?;
    let mut mapped = linear_map::kernel().map_pages(range, frames, attributes);
    if planted(Bug::GuardMapped) {
        mapped = mapped.and_then(|()| map_guard(start + range.bytes(), attributes));
    }
    mapped.map_err(|error| not_mapped(start, error))
}

#[cold]
#[inline(never)]
fn not_mapped(start: VirtAddr, error: page_table::Error) -> Error {
    match error {
        page_table::Error::OutOfMemory => give_back(start, Error::OutOfMemory),
        // Free addresses are not mapped, and there is a frame for each page: the tables are not
        // what they should be.
        other => unreachable!("mapping a new area: {other}"),
    }
}

/// Maps the guard page at `va` to the frame of the page before it: for a planted bug.
fn map_guard(va: VirtAddr, attributes: Attributes) -> Result<(), page_table::Error> {
    let mut kernel = linear_map::kernel();
    let frame = kernel
        .leaf(va - PAGE_SIZE)
        .and_then(|(entry, level)| entry.output(level))
        .map(Frame::containing)
        .ok_or(page_table::Error::NotMapped(va))?;
    let page = PageRange::new(va, 1).ok_or(page_table::Error::NotMapped(va))?;
    kernel.map_pages(page, [frame].iter().copied(), attributes)
}

/// Frees what [`vmalloc`] or [`vmalloc_huge`](super::vmalloc_huge) returned. Its pages are free at
/// once; a TLB may know the addresses until the purge. In interrupt context a task does it, soon:
/// see [`deferred`](mod@super::deferred).
///
/// # Errors
/// [`Error::NoArea`], after a report; nothing has changed.
#[track_caller]
pub fn vfree(start: VirtAddr) -> Result<(), Error> {
    let _span = span("vfree");
    let is_vmalloc = |kind| matches!(kind, AreaKind::Vmalloc | AreaKind::VmallocHuge);
    match SPACE.remove(start, is_vmalloc) {
        Some((area, _)) if task::current().in_interrupt() => {
            deferred::defer(area);
            Ok(())
        }
        Some((area, home)) => {
            take_down_here(area, start, home);
            Ok(())
        }
        None => Err(no_area(start, "vfree", Location::caller())),
    }
}

/// What the task does that frees areas for handlers. Bring-up starts it.
pub fn free_deferred(_: usize) -> usize {
    deferred::free_all(take_down)
}

/// Takes an area down that is in use no more; in interrupt context has a task do it.
#[inline]
fn take_down_or_defer(area: OwnedArea) {
    if task::current().in_interrupt() {
        deferred::defer(area);
    } else {
        take_down(area);
    }
}

/// Clears the leaves of an area, has it wait for the purge, and gives back the pages that are its
/// own.
#[inline(never)]
fn take_down(area: OwnedArea) {
    let start = area.start();
    take_down_here(area, start, SPACE.home_of(start));
}

/// As [`take_down`], in the caller: where it is asked for most.
#[inline(always)]
fn take_down_here(mut area: OwnedArea, start: VirtAddr, home: &Arena) {
    match area.kind() {
        AreaKind::Vmalloc => {}
        AreaKind::VmallocHuge => return huge::unmap_and_free(area),
        _ => return take_frames_down(area, start, home),
    }
    if debug_pagealloc::is_on() {
        return take_down_and_flush(area, start, home);
    }
    let mut frames = area.take_frames();
    unmap(&area, start, &mut frames, true);
    // First the area waits, then its pages are free: whoever gets one and wants no other translation
    // of it (`set_memory_ro`) purges, and has to find the area.
    let full = purge::push(area, start, home);
    page_alloc::free_list(frames);
    if let Some(full) = full {
        purge::purge_if_free(full);
    }
}

/// As [`take_down`], of an area that maps the frames of others.
#[inline(always)]
fn take_frames_down(area: OwnedArea, start: VirtAddr, home: &Arena) {
    if debug_pagealloc::is_on() {
        return take_down_and_flush(area, start, home);
    }
    let mut none = PageList::EMPTY;
    unmap(&area, start, &mut none, false);
    if let Some(full) = purge::push(area, start, home) {
        purge::purge_if_free(full);
    }
}

/// As [`take_down`], with DEBUG_PAGEALLOC, which wants a stale access to fault now and not after the
/// purge. Pages that are freed have to leave the TLBs by their linear addresses as well: one flush does
/// both, behind the page allocator's hook.
///
/// It saves the purge nothing. The area waits before it is flushed, as everywhere, and a purge on
/// another CPU may get to it first: then it is the purge's flush that lets others have the
/// addresses, and the one here has them walk their own leaves again, no more. To have the area wait
/// after its flush, and be left out of the purge's, would be another order of things, for one flush
/// in some hundred areas.
#[cold]
#[inline(never)]
fn take_down_and_flush(mut area: OwnedArea, start: VirtAddr, home: &Arena) {
    let owned = area.kind() == AreaKind::Vmalloc;
    let mut frames = area.take_frames();
    unmap(&area, start, &mut frames, owned);
    let unflushed = Unflushed::new(start, mapped_pages(&area));
    let full = purge::push(area, start, home);
    match unflushed {
        Some(unflushed) if owned => page_alloc::free_list_unflushed(frames, unflushed),
        Some(unflushed) => flush_unflushed(unflushed),
        None => unreachable!("the addresses of an area are no range"),
    }
    if let Some(full) = full {
        purge::purge_if_free(full);
    }
}

/// Takes down what [`vmap`] returned; the frames are the caller's.
///
/// # Errors
/// [`Error::NoArea`], after a report; nothing has changed.
#[track_caller]
pub fn vunmap(start: VirtAddr) -> Result<(), Error> {
    let _span = span("vunmap");
    match SPACE.remove(start, |kind| kind == AreaKind::Vmap) {
        Some((area, _)) if task::current().in_interrupt() => {
            deferred::defer(area);
            Ok(())
        }
        Some((area, home)) => {
            take_frames_down(area, start, home);
            Ok(())
        }
        None => Err(no_area(start, "vunmap", Location::caller())),
    }
}

/// Takes down what [`map_frames`] made for `vm_map_ram`.
pub(super) fn unmap_frames(start: VirtAddr, caller: &Location<'_>) -> Result<(), Error> {
    match SPACE.remove(start, |kind| kind == AreaKind::MapRam) {
        Some((area, _)) => {
            take_down_or_defer(area);
            Ok(())
        }
        None => Err(no_area(start, "vm_unmap_ram", caller)),
    }
}

/// Says that there is no such area.
#[cold]
#[inline(never)]
fn no_area(start: VirtAddr, what: &str, caller: &Location<'_>) -> Error {
    log::error!("BUG: {what}({start}) at {caller}: no such area starts there");
    Error::NoArea(start)
}

/// Clears the leaves of an area, whose own pages are `frames` if it is `owned`. No flush, but where
/// permissions had been changed: the purge makes it, or the caller.
#[inline(always)]
fn unmap(area: &OwnedArea, start: VirtAddr, frames: &mut PageList, owned: bool) {
    let pages = mapped_pages(area);
    // What `set_memory_*` has changed: the bits in which any leaf differs from what was mapped.
    let mapped = Descriptor::INVALID.with_attributes(Attributes::KERNEL_DATA);
    let section = lazy::section();
    let kernel = linear_map::kernel();
    let changed = if owned {
        let differs = |changed, old: Descriptor| changed | old.bits() ^ mapped.bits();
        kernel.take_mapped_pages(&section, start, pages, 0, differs)
    } else {
        kernel
            .clear_mapped_pages(&section, start, pages)
            .map(|()| 0)
    }
    .unwrap_or_else(|error| unreachable!("an area is made of pages: {error}"));
    let reset = changed & Attributes::all().bits() != 0;
    if planted(Bug::FrameFreedEarly) {
        free_early(mem::take(frames));
    }
    if reset {
        reset_aliases(frames);
    }
    drop(section);
    #[cfg(feature = "oracle")]
    if !reset && !debug_pagealloc::is_on() {
        event!(WindowOpened {
            window: event::Window::LazyPurge,
            range: area.range(),
        });
    }
    if kasan::is_on() {
        poison(area);
    }
}

/// The pages of an area that have leaves: all but its guard page.
#[inline(always)]
fn mapped_pages(area: &OwnedArea) -> u64 {
    let kept = 1 + u64::from(planted(Bug::PageLeftMapped));
    area.pages() - kept
}

/// On its own: without KASAN nobody pays for what it keeps in registers.
#[inline(never)]
fn poison(area: &OwnedArea) {
    kasan::poison(area.range());
}

/// Frees pages, each on its own: for a planted bug.
#[cold]
fn free_early(frames: PageList) {
    for frame in frames.into_frames() {
        let _ = page_alloc::free(frame, 0);
    }
}

/// Undoes what `set_memory_ro` did to the linear aliases of pages, and flushes. Frames that a TLB can
/// still execute, or can't write through the linear map, may not have a new owner
/// (VM_FLUSH_RESET_PERMS in Linux). Rare, so all of the TLB goes.
#[cold]
#[inline(never)]
fn reset_aliases(frames: &PageList) {
    if linear_map::is_page_granular() {
        let kernel = linear_map::kernel();
        for frame in frames.iter() {
            make_alias_writable(&kernel, frame);
        }
    }
    Flush::begin(u64::MAX).finish();
}

/// The same for one frame; the flush is the caller's.
fn make_alias_writable(kernel: &PageTable<Linear>, frame: Frame) {
    kernel
        .set_leaf(linear_map::virt(frame.start()), |entry| {
            entry.with_attributes(Attributes::KERNEL_DATA)
        })
        .unwrap_or_else(|error| unreachable!("the linear map is made of pages: {error}"));
}
