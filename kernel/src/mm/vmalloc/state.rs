//! Which range of vmalloc space is free, in use, or waits for the purge; and what can be asked of
//! them.

use super::area::{AreaKind, BusyAreas, FreeAreas, LazyAreas};
use crate::{
    mm::{
        layout::VMALLOC,
        linear_map,
        page_alloc::{self, OutOfMemory},
    },
    task::lock::SpinLock,
};
use core::{panic::Location, ptr::NonNull};
use vmsa::{PageRange, VirtAddr};

/// Every range of vmalloc space is in one of these three.
pub(super) struct State {
    pub(super) free: FreeAreas,
    pub(super) busy: BusyAreas,
    /// Unmapped, perhaps still in TLBs.
    pub(super) lazy: LazyAreas,
}

pub(super) static STATE: SpinLock<State> = SpinLock::new(State {
    // SAFETY: `page_for_records` gives pages of the allocator that nobody takes back.
    free: unsafe { FreeAreas::new(page_for_records) },
    busy: BusyAreas::new(),
    lazy: LazyAreas::new(),
});

fn page_for_records() -> Option<NonNull<u8>> {
    let frame = page_alloc::allocate(0).ok()?;
    #[cfg(feature = "oracle")]
    linear_map::tell_written(frame);
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
