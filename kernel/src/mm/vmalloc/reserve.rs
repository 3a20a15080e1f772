//! Taking addresses for an area, and giving them back where nothing comes of it: what areas of pages
//! and of blocks share.

use super::{
    area::{AreaInfo, AreaKind, OwnedArea, TakeError},
    purge,
    state::SPACE,
};
#[cfg(feature = "oracle")]
use crate::event;
use crate::{
    arch::cpu,
    mm::{
        kasan,
        layout::VMALLOC,
        page_alloc::{self, OutOfMemory, PageList},
    },
    task,
};
use core::{fmt, panic::Location};
use vmsa::{PAGE_SIZE, PageRange, VirtAddr};

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
    /// Areas are not made in interrupt context.
    InInterrupt,
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
            Self::InInterrupt => f.write_str("areas are not made in interrupt context"),
        }
    }
}

/// Takes addresses for `pages` pages, and the guard page that the kind has, with their shadow. They are
/// in use from now on, though nobody has been told; [`give_back`] takes them out again. The area gets
/// `frames`, which are freed where there is none.
///
/// # Errors
/// [`Error`].
#[inline(never)]
pub(super) fn take(
    pages: u64,
    align: u64,
    requested: u64,
    kind: AreaKind,
    caller: &'static Location<'static>,
    frames: PageList,
) -> Result<VirtAddr, Error> {
    let info = AreaInfo {
        requested,
        caller: Some(caller),
        kind,
    };
    take_here(pages, align, info, frames, kasan::is_on())
}

/// As [`take`], in the caller: where it is asked for most. `shadow`: whether KASAN is on.
///
/// # Errors
/// [`Error`].
#[inline(always)]
pub(super) fn take_here(
    pages: u64,
    align: u64,
    info: AreaInfo,
    mut frames: PageList,
    shadow: bool,
) -> Result<VirtAddr, Error> {
    let align = align.max(PAGE_SIZE);
    let with_guard = pages + info.kind.guard_pages();
    // Which CPU this is may be out of date at once: any arena will do.
    let cpu = cpu::id() as usize;
    let start = match SPACE.take(cpu, with_guard, align, info, &mut frames) {
        Ok(start) => start,
        Err(error) => take_otherwise(error, cpu, with_guard, align, info, frames)?,
    };
    #[cfg(feature = "oracle")]
    if let Some(range) = PageRange::new(start, with_guard) {
        event!(VaAllocated(range));
    }
    if shadow {
        with_shadow(start, with_guard)?;
    }
    Ok(start)
}

/// Goes on where this CPU's arena gave no addresses.
#[cold]
#[inline(never)]
fn take_otherwise(
    mut error: TakeError,
    cpu: usize,
    pages: u64,
    align: u64,
    info: AreaInfo,
    mut frames: PageList,
) -> Result<VirtAddr, Error> {
    if error == TakeError::NoSpace {
        // Addresses that wait for a purge may be what is missing.
        purge::purge();
        match SPACE.take_from_any(cpu, pages, align, info, &mut frames) {
            Ok(start) => return Ok(start),
            Err(other) => error = other,
        }
    }
    page_alloc::free_list(frames);
    Err(match error {
        TakeError::NoSpace => Error::NoSpace,
        TakeError::NoMemory => Error::OutOfMemory,
        TakeError::Invalid => Error::Invalid,
    })
}

/// Refuses what makes no sense, and whoever may not make areas.
#[inline]
pub(super) fn check(pages: u64, caller: &'static Location<'static>) -> Result<(), Error> {
    if pages == 0 || pages >= VMALLOC.pages() {
        return Err(Error::Invalid);
    }
    check_context(caller)
}

/// Refuses whoever may not make areas.
#[inline]
pub(super) fn check_context(caller: &'static Location<'static>) -> Result<(), Error> {
    if task::current().in_interrupt() {
        return Err(refuse_in_interrupt(caller));
    }
    Ok(())
}

/// Gives an area its shadow. On its own: without KASAN nobody pays for what it keeps in registers.
#[inline(never)]
fn with_shadow(start: VirtAddr, pages: u64) -> Result<(), Error> {
    let populated = PageRange::new(start, pages).map(kasan::populate_vmalloc);
    match populated {
        Some(Err(OutOfMemory)) => Err(give_back(start, Error::OutOfMemory)),
        Some(Ok(())) | None => Ok(()),
    }
}

/// Says who makes an area where none may be made (BUG_ON in Linux).
#[cold]
pub(super) fn refuse_in_interrupt(caller: &Location<'_>) -> Error {
    log::error!("BUG: an area is made in interrupt context at {caller}");
    Error::InInterrupt
}

/// Makes the bytes of a mapped area accessible.
#[inline]
pub(super) fn open(start: VirtAddr, size: u64) {
    if kasan::is_on() {
        unpoison(start, size);
    }
}

/// As [`with_shadow`] on its own.
#[inline(never)]
pub(super) fn unpoison(start: VirtAddr, size: u64) {
    kasan::unpoison(start, size);
}

/// Takes an area out of use that nobody was told of, and frees its addresses and pages. All that was
/// mapped there, if anything, is mapped no more, or was never used.
#[cold]
#[inline(never)]
pub(super) fn give_back(start: VirtAddr, error: Error) -> Error {
    let mut area = take_back(start);
    let frames = area.take_frames();
    purge::release(area);
    page_alloc::free_list(frames);
    error
}

/// Takes an area out of use that nobody was told of.
#[cold]
#[inline(never)]
pub(super) fn take_back(start: VirtAddr) -> OwnedArea {
    let removed = SPACE.remove(start, |_| true);
    removed
        .expect("it was taken, and nobody else knows of it")
        .0
}
