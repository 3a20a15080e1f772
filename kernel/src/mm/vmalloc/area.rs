//! Virtual address space as data: which ranges are free, which are in use.
//!
//! Executes no instruction and takes no lock, so all of it runs in host tests. Three containers
//! pass areas on to each other:
//!
//! ```text
//!            take                insert              remove               push
//! FreeAreas ------> OwnedArea --------> BusyAreas --------> OwnedArea --------> Chain
//!     ^                                                                           |
//!     +------------------------------------- insert <-------------- pop ----------+
//! ```
//!
//! One record, [`VmapArea`], describes a range in whichever of them holds it, as Linux's `struct
//! vmap_area` does. That is why giving space back never allocates and so cannot fail: the record
//! of the busy area becomes the record of the free one. Only [`FreeAreas`] makes records (a take
//! that splits needs one or two), and only it takes them back (when neighbours coalesce).
//!
//! Ranges are kept as page numbers (address / 4 KiB). They are below 2^52, so that the end of a
//! range at the top of the address space (2^64 in bytes) is a number like any other.

mod augment;
mod busy;
mod chain;
mod free;
mod low;
mod pool;
mod slot_counts;
mod slots;
#[cfg(test)]
mod tests;
mod tree;

use core::cell::Cell;
use core::fmt;
use core::ops::Deref;
use core::panic::Location;

use crate::mm::page_alloc::PageList;
use vmsa::{PAGE_SHIFT, PageRange, VirtAddr};

pub use busy::BusyAreas;
pub use chain::{Chain, Spare, iter_raw, link_before};
pub use free::{FreeAreas, InsertError, TakeError};
pub use pool::{Grow, NoMemory};
pub use slot_counts::BLOCK_PAGES;
pub use slots::{Blocks, DirtyBlocks};

use slot_counts::Slots;

/// Reference to a record, or none. Records live for ever: the pool does not return its pages.
type Link = Option<&'static VmapArea>;

/// What an area is used for, which decides how it is taken down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AreaKind {
    /// The area owns the frames behind it (`vmalloc`; Linux `VM_ALLOC`).
    #[default]
    Vmalloc,
    /// As `Vmalloc`, and blocks may map it (`vmalloc_huge`; Linux `VM_ALLOC | VM_ALLOW_HUGE_VMAP`).
    VmallocHuge,
    /// The frames belong to the caller of `vmap` (Linux `VM_MAP`).
    Vmap,
    /// As `Vmap`, made by `vm_map_ram`.
    MapRam,
    /// Pages that `vm_map_ram` gives out a few at a time.
    MapRamBlock,
}

impl AreaKind {
    /// Whether blocks may map it, so that a flush has to be of another kind.
    #[inline]
    pub const fn has_blocks(self) -> bool {
        matches!(self, Self::VmallocHuge)
    }

    /// How many pages that its alignment passes over an area keeps
    /// ([`FreeAreas::take_with_lead`]): 64 KiB, and of what has blocks, or is one, none.
    #[inline]
    pub const fn most_lead(self) -> u64 {
        match self {
            Self::Vmalloc => 16,
            Self::VmallocHuge | Self::Vmap | Self::MapRam | Self::MapRamBlock => 0,
        }
    }

    /// Pages at the end of the area that are never mapped.
    pub const fn guard_pages(self) -> u64 {
        match self {
            Self::Vmalloc | Self::VmallocHuge | Self::Vmap | Self::MapRam => 1,
            // It is a multiple of its size, and its neighbours within it have none either.
            Self::MapRamBlock => 0,
        }
    }
}

/// What is remembered of an area beside its range; shown by `vmallocinfo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AreaInfo {
    /// Size that the caller asked for, in bytes: without rounding and without the guard page.
    pub requested: u64,
    /// Who made the area.
    pub caller: Option<&'static Location<'static>>,
    /// What the area is used for.
    pub kind: AreaKind,
}

/// A range of pages: free, in use, or waiting to be purged.
///
/// The fields are cells because a record is reached from its parent and from both its children.
/// What keeps that in order is that every record belongs to one container (or to one
/// [`OwnedArea`]) and changes only through `&mut` of it. The order of the fields is fixed so that
/// a descent addresses a child without adding an offset first.
#[repr(C)]
pub struct VmapArea {
    /// Subtrees with lower and higher addresses. The second is also the link of the lists
    /// (chains, unused records): a record is never in a tree and a list at once.
    child: [Cell<Link>; 2],
    /// Record above this one in the tree, none at the root.
    parent: Cell<Link>,
    /// Number of the first page.
    first: Cell<u64>,
    /// Length in pages; with the guard page, where the area has one.
    pages: Cell<u64>,
    /// Length in pages of the longest area in the subtree with this root (free areas only).
    largest: Cell<u64>,
    /// [`AreaInfo`] by its parts, which one by one stay in registers (meaningless while free).
    requested: Cell<u64>,
    caller: Cell<Option<&'static Location<'static>>>,
    /// The pages that are its own, of a [`AreaKind::Vmalloc`] in use.
    frames: Cell<PageList>,
    /// The last part of its use.
    kind: Cell<AreaKind>,
    /// What the tree balances by; see there.
    rank: Cell<i8>,
    /// Pages before the first that its alignment passed over, and that go back with it; 0 while free.
    lead: Cell<u16>,
    /// Of a block: which pages are given out.
    slots: Cell<Slots>,
    /// Of a dirty block: the pages that a purge flushes, first and end,
    flushing: Cell<(u16, u16)>,
    /// and the next dirty block.
    next_dirty: Cell<Link>,
}

impl VmapArea {
    /// Record of no pages, as it lies in the pool.
    const fn empty() -> Self {
        Self {
            child: [Cell::new(None), Cell::new(None)],
            parent: Cell::new(None),
            first: Cell::new(0),
            pages: Cell::new(0),
            largest: Cell::new(0),
            requested: Cell::new(0),
            caller: Cell::new(None),
            kind: Cell::new(AreaKind::Vmalloc),
            frames: Cell::new(PageList::EMPTY),
            rank: Cell::new(0),
            lead: Cell::new(0),
            slots: Cell::new(Slots::NONE),
            flushing: Cell::new((0, 0)),
            next_dirty: Cell::new(None),
        }
    }

    /// First address of the area.
    pub fn start(&self) -> VirtAddr {
        address(self.first.get())
    }

    /// Length in pages, the guard page included.
    pub fn pages(&self) -> u64 {
        self.pages.get()
    }

    /// The addresses of the area, the guard page included.
    #[inline]
    pub fn range(&self) -> PageRange {
        range(self.first.get(), self.pages.get())
    }

    /// What the area is used for, by whom.
    pub fn info(&self) -> AreaInfo {
        AreaInfo {
            requested: self.requested.get(),
            caller: self.caller.get(),
            kind: self.kind.get(),
        }
    }

    /// What the area is used for.
    #[inline]
    pub fn kind(&self) -> AreaKind {
        self.kind.get()
    }

    /// Number of the page after the last one.
    fn end(&self) -> u64 {
        self.first.get() + self.pages.get()
    }
}

impl fmt::Debug for VmapArea {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the links: they would print the whole tree.
        f.debug_struct("VmapArea")
            .field("start", &self.start())
            .field("pages", &self.pages())
            .field("info", &self.info())
            .finish_non_exhaustive()
    }
}

/// An area that is in no container: whoever holds this value holds the addresses.
///
/// Neither `Copy` nor `Clone`, so that a range cannot be given back twice. Dropping it loses the
/// range and its record until reboot.
#[must_use = "dropping it loses the addresses for ever"]
#[derive(Debug)]
pub struct OwnedArea(&'static VmapArea);

// SAFETY: the record is reached through this value only (containers give a record up before
// they hand it out), so that moving the value moves every access to the cells with it.
unsafe impl Send for OwnedArea {}

impl OwnedArea {
    /// Notes what the area is used for.
    #[inline]
    pub fn set_info(&mut self, info: AreaInfo) {
        self.0.requested.set(info.requested);
        self.0.caller.set(info.caller);
        self.0.kind.set(info.kind);
    }

    /// Makes the pages that its alignment passed over a part of the area, once it is in use no more.
    #[inline]
    pub fn take_lead(&mut self) {
        let lead = u64::from(self.0.lead.get());
        if lead > 0 {
            self.0.first.set(self.0.first.get() - lead);
            self.0.pages.set(self.0.pages.get() + lead);
            self.0.lead.set(0);
        }
    }

    /// The area, [its lead](Self::take_lead) included.
    #[inline]
    pub fn with_lead(mut self) -> Self {
        self.take_lead();
        self
    }

    /// Leaves pages with the area: whoever takes it down need not look for them in its leaves.
    #[inline]
    pub fn set_frames(&mut self, frames: PageList) {
        self.0.frames.set(frames);
    }

    /// The pages that were left with it.
    #[inline]
    pub fn take_frames(&mut self) -> PageList {
        self.0.frames.replace(PageList::EMPTY)
    }
}

impl Deref for OwnedArea {
    type Target = VmapArea;

    fn deref(&self) -> &VmapArea {
        self.0
    }
}

/// Address of the page with this number, which comes from a canonical one.
#[inline]
fn address(page: u64) -> VirtAddr {
    VirtAddr::sign_extended(page << PAGE_SHIFT)
}

/// The `pages` pages from the one with this number.
#[inline]
fn range(first: u64, pages: u64) -> PageRange {
    PageRange::new(address(first), pages)
        .expect("made from page ranges, and none spans the two halves")
}

/// Number of the first page of `range` and of the page after its last one.
fn page_numbers(range: PageRange) -> (u64, u64) {
    let first = range.start().as_u64() >> PAGE_SHIFT;
    (first, first + range.pages())
}
