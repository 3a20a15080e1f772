//! Faults: pages that come when they are used, and pages that are copied when they are written.

use super::{Access, AddressSpace, Inner, Locked, Protection, publish, table::Tables};
use crate::{
    arch::{barrier, entry::Entry},
    bug::{Bug, planted},
    mm::{
        linear_map::{virt, zero_page},
        page_alloc::{self, OutOfMemory},
        shares,
        user_tlb::Changed,
    },
};
use core::{
    fmt,
    sync::atomic::{
        AtomicU64,
        Ordering::{Relaxed, Release},
        fence,
    },
};
use vmsa::{Attributes, Descriptor, Frame, Level, PAGE_SIZE, PageRange, VirtAddr};

/// Why a fault is the program's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultError {
    /// No region is there.
    NotMapped,
    /// The region does not permit it.
    NotAllowed(Protection),
    /// There is no page for it.
    OutOfMemory,
}

impl From<OutOfMemory> for FaultError {
    fn from(OutOfMemory: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl fmt::Display for FaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMapped => f.write_str("nothing is mapped there"),
            Self::NotAllowed(protection) => write!(f, "what is mapped there is {protection}"),
            Self::OutOfMemory => OutOfMemory.fmt(f),
        }
    }
}

/// How often faults were dealt with, by what was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A page of zeroes came.
    pub zero: u64,
    /// A shared page was copied.
    pub copied: u64,
    /// A page that nobody shares any more was made writable.
    pub reused: u64,
    /// Nothing was wrong.
    pub spurious: u64,
}

static ZERO: AtomicU64 = AtomicU64::new(0);
static COPIED: AtomicU64 = AtomicU64::new(0);
static REUSED: AtomicU64 = AtomicU64::new(0);
static SPURIOUS: AtomicU64 = AtomicU64::new(0);

/// What faults there have been since boot.
pub fn faults() -> Faults {
    Faults {
        zero: ZERO.load(Relaxed),
        copied: COPIED.load(Relaxed),
        reused: REUSED.load(Relaxed),
        spurious: SPURIOUS.load(Relaxed),
    }
}

impl AddressSpace {
    /// Deals with a fault of an access to `va`: when it returns the access can be tried again. In a
    /// task, with the right to preempt it; never in a handler.
    ///
    /// It promises nothing of the next try but that it may succeed: without FEAT_ETS2 a store that
    /// makes an entry valid is seen by a walk that comes after DSB ISHST and a context
    /// synchronisation, and only the ERET is certain. A barrier for each page would be paid by all
    /// and needed by few, so the next fault pays it ([`Faults::spurious`]).
    ///
    /// # Errors
    /// [`FaultError`]; nothing has changed.
    pub fn handle_fault(&self, va: VirtAddr, access: Access) -> Result<(), FaultError> {
        let mut space = self.0.lock();
        let Inner {
            tables, regions, ..
        } = space.inner();
        let region = regions.find(va).ok_or(FaultError::NotMapped)?;
        let protection = region.protection();
        if !protection.permits(access) {
            return Err(FaultError::NotAllowed(protection));
        }
        let va = va.align_down(PAGE_SIZE);
        let old = tables.leaf(va).map_or(Descriptor::INVALID, Entry::load);
        let read_only = old.attributes().contains(Attributes::AP_READ_ONLY);
        if old.is_none() {
            return bring_zeroes(tables, va, protection);
        }
        if access == Access::Write && read_only {
            return write_to_shared(&mut space, va, old, protection);
        }
        // Another CPU, or this one a moment ago, has seen to it, and the walk did not see the store:
        // `9-SPURIOUS-retry-ISB+ERET`, without the DSB: Allowed without FEAT_ETS2. With it, and with
        // the ERET, which is an ISB: Forbidden ("install PTE in a fault handler").
        SPURIOUS.fetch_add(1, Relaxed);
        barrier::dsb_ishst();
        Ok(())
    }
}

/// Maps a page of zeroes where there is none.
fn bring_zeroes(tables: &Tables, va: VirtAddr, protection: Protection) -> Result<(), FaultError> {
    let frame = page_alloc::allocate(0)?;
    let entry = match tables.make_leaf(va) {
        Ok(entry) => entry,
        Err(OutOfMemory) => {
            // It has just been allocated.
            let _ = page_alloc::free(frame, 0);
            return Err(FaultError::OutOfMemory);
        }
    };
    zero_page(frame);
    shares::own(frame);
    map_page(tables, entry, va, frame, protection);
    ZERO.fetch_add(1, Relaxed);
    Ok(())
}

/// Makes an entry lead to a page whose contents were just written through the linear map.
fn map_page(tables: &Tables, entry: Entry, va: VirtAddr, frame: Frame, protection: Protection) {
    if protection.contains(Protection::EXECUTE) {
        publish(frame);
    }
    let new = Descriptor::leaf(Level::L3, frame.start(), protection.attributes());
    let new = new.expect("frames are aligned");
    // The contents before the entry: who sees the entry, by a walk on another CPU, must not see what
    // the page held before (Linux: the barrier in __folio_mark_uptodate). A DMB is enough, since the
    // two are stores, and what the other CPU does with the address depends on what its walk read.
    fence(Release);
    // Behind it, nothing: see `handle_fault`.
    tables.store(entry, va, Descriptor::INVALID, new);
}

/// A page that may be shared is written: it becomes writable, or a copy of it takes its place.
fn write_to_shared(
    space: &mut Locked,
    va: VirtAddr,
    old: Descriptor,
    protection: Protection,
) -> Result<(), FaultError> {
    let page = PageRange::new(va, 1).ok_or(FaultError::NotMapped)?;
    let output = old.output(Level::L3).ok_or(FaultError::NotMapped)?;
    let frame = Frame::containing(output);
    let entry = space.inner().tables.leaf(va);
    let entry = entry.ok_or(FaultError::NotMapped)?;
    if !shares::is_shared(frame) {
        let new = old.with_attributes(protection.attributes());
        space.inner().tables.store(entry, va, old, new);
        // A wider permission may be changed in place, and needs its TLBI all the same: without it
        // this access may fault again, for as long as the TLB keeps the old one (`6-RO2RW-noTLBI`:
        // Allowed, with FEAT_ETS2 as well).
        space.flush(Changed::Pages(page));
        REUSED.fetch_add(1, Relaxed);
        return Ok(());
    }
    let copy = page_alloc::allocate(0)?;
    copy_page(frame, copy);
    shares::own(copy);
    let tables = &space.inner().tables;
    if planted(Bug::CowBeforeFlush) {
        tables.store(entry, va, old, Descriptor::INVALID);
        map_page(tables, entry, va, copy, protection);
        space.flush(Changed::Pages(page));
    } else {
        // Another output address: break, TLBI, and only then make (D8.16.1). Without that another
        // thread could read the old page after this one has written the new.
        tables.store(entry, va, old, Descriptor::INVALID);
        space.flush(Changed::Pages(page));
        map_page(&space.inner().tables, entry, va, copy, protection);
    }
    // After the flush: the page may be its next owner's to write from now on.
    if shares::give_back(frame) {
        // The others have gone since they were counted; the page is this address space's own.
        let _ = page_alloc::free(frame, 0);
    }
    COPIED.fetch_add(1, Relaxed);
    Ok(())
}

/// Copies a page, both of them by way of the linear map.
fn copy_page(from: Frame, to: Frame) {
    #[cfg(feature = "oracle")]
    crate::mm::linear_map::tell_written(to);
    let (from, to) = (virt(from.start()), virt(to.start()));
    // SAFETY: `to` was just allocated, `from` is a page of the address space, whose lock is held;
    // both are mapped. A program on another CPU may write to `from` meanwhile only where it could
    // before the fork, and then it is not shared; bytes are copied.
    unsafe {
        to.as_mut_ptr::<u8>()
            .copy_from_nonoverlapping(from.as_ptr::<u8>(), PAGE_SIZE as usize);
    }
}
