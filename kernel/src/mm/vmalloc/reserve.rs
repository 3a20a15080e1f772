//! Taking addresses for an area, and giving them back where nothing comes of it: what areas of pages
//! and of blocks share.

use super::{
    area::{AreaInfo, AreaKind, OwnedArea, TakeError},
    purge,
    state::SPACE,
};
use crate::{
    arch::cpu,
    event,
    mm::{kasan, layout::VMALLOC, page_alloc::OutOfMemory},
    task,
};
use core::{fmt, panic::Location};
use vmsa::{PAGE_SIZE, VirtAddr};

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

/// Takes addresses for `pages` pages, and the guard page that the kind has, with their shadow.
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
    if task::current().in_interrupt() {
        return Err(refuse_in_interrupt(caller));
    }
    let align = align.max(PAGE_SIZE);
    // Which CPU this is may be out of date at once: any arena will do.
    let cpu = cpu::id() as usize;
    let with_guard = pages + kind.guard_pages();
    let area = match SPACE.take(cpu, with_guard, align) {
        // Addresses that wait for a purge may be what is missing.
        Err(TakeError::NoSpace) => {
            purge::purge();
            SPACE.take_from_any(cpu, with_guard, align)
        }
        other => other,
    };
    let mut area = area.map_err(|error| match error {
        TakeError::NoSpace => Error::NoSpace,
        TakeError::NoMemory => Error::OutOfMemory,
        TakeError::Invalid => Error::Invalid,
    })?;
    event!(VaAllocated(area.range()));
    area.set_info(AreaInfo {
        requested,
        caller: Some(caller),
        kind,
    });
    if kasan::is_on() {
        return with_shadow(area);
    }
    Ok(area)
}

/// Gives an area its shadow. On its own: without KASAN nobody pays for what it keeps in registers.
#[inline(never)]
fn with_shadow(area: OwnedArea) -> Result<OwnedArea, Error> {
    match kasan::populate_vmalloc(area.range()) {
        Ok(()) => Ok(area),
        Err(OutOfMemory) => Err(give_back(area, Error::OutOfMemory)),
    }
}

/// Says who makes an area where none may be made (BUG_ON in Linux).
#[cold]
pub(super) fn refuse_in_interrupt(caller: &Location<'_>) -> Error {
    log::error!("BUG: an area is made in interrupt context at {caller}");
    Error::InInterrupt
}

/// Makes a mapped area known and its bytes accessible.
#[inline]
pub(super) fn use_area(area: OwnedArea, size: u64) -> VirtAddr {
    let start = area.start();
    if kasan::is_on() {
        unpoison(start, size);
    }
    SPACE.put_in_use(area);
    start
}

/// As [`with_shadow`] on its own.
#[inline(never)]
fn unpoison(start: VirtAddr, size: u64) {
    kasan::unpoison(start, size);
}

/// Gives back the addresses of an area that was never mapped.
pub(super) fn give_back(area: OwnedArea, error: Error) -> Error {
    purge::release(area);
    error
}
