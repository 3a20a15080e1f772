//! Address spaces: what a program sees in the lower half. Tables of its own under TTBR0_EL1, an
//! ASID, a list of regions, pages that come when they are first used.
//!
//! One lock guards the regions and the tables of an address space, and is held from the first change
//! of an entry to the end of the flush for it. So whoever takes it finds no translation that is
//! older than the tables, and nothing needs to be said of who may fault what in while another
//! unmaps. (Linux has `mmap_lock` for the first and a lock for each table for the second, and lets
//! go of the latter before the flush of the last batch.)
//!
//! | file | what |
//! |---|---|
//! | this one | the handle; map, unmap, protect |
//! | `region` | which addresses may be used, and how: data |
//! | `table` | the tables |
//! | `fault` | pages on demand, copy-on-write |
//! | `fork` | a copy of an address space |
//! | `switch` | which address space a CPU uses |

mod fault;
mod fork;
#[cfg(all(feature = "ktests", target_os = "none"))]
mod ktests;
mod region;
mod switch;
mod table;

pub use fault::{FaultError, Faults, faults};
pub use region::{Access, Protection, Region};
pub use switch::{InUse, asids, init, limit_asids};

use super::{
    asid::Id,
    gather::Gather,
    layout::USER,
    lazy,
    linear_map::{virt, zero_page},
    page_alloc::{self, OutOfMemory},
    user_tlb::{self, Changed},
};
use crate::{
    arch::{cache, record::span},
    bug::{Bug, planted},
    event,
    task::lock::{SpinLock, SpinLockGuard},
};
use core::{
    fmt,
    ops::ControlFlow,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};
use region::{Full, Regions};
use table::{Leaves, Tables};
use vmsa::{Attributes, Descriptor, Frame, Level, PAGE_SIZE, PageRange, PhysAddr, VirtAddr};

/// How many address spaces there can be at a time.
pub const SPACES: usize = 128;

/// The most regions of one: what a page holds (Linux: `sysctl_max_map_count`).
pub const REGIONS: usize = PAGE_SIZE as usize / size_of::<Region>();

/// Why an address space could not be made or changed. Nothing has changed then, unless it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No page.
    OutOfMemory,
    /// There are [`SPACES`] already.
    TooManySpaces,
    /// It would have more than [`REGIONS`] regions.
    TooManyRegions,
    /// Some of the addresses are not a program's.
    NotUser(PageRange),
    /// Some of the addresses are in a region already.
    Occupied(PageRange),
    /// Some of the addresses are in no region.
    NotMapped(PageRange),
    /// No page is mapped so: readable at least, if anything, and not writable and executable.
    Impossible(Protection),
}

impl From<OutOfMemory> for Error {
    fn from(OutOfMemory: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl From<Full> for Error {
    fn from(Full: Full) -> Self {
        Self::TooManyRegions
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory => OutOfMemory.fmt(f),
            Self::TooManySpaces => write!(f, "there are {SPACES} address spaces already"),
            Self::TooManyRegions => write!(f, "an address space has at most {REGIONS} regions"),
            Self::NotUser(range) => {
                write!(
                    f,
                    "{range} is not all in {USER}, which is what a program can have"
                )
            }
            Self::Occupied(range) => write!(f, "{range} is in part mapped already"),
            Self::NotMapped(range) => write!(f, "{range} is not all mapped"),
            Self::Impossible(protection) => {
                write!(
                    f,
                    "no page is mapped {protection}; known: ---, r--, rw-, r-x"
                )
            }
        }
    }
}

/// An address space, or the place of one.
#[derive(Debug)]
struct Slot {
    /// Handles and tasks that use it; 0 for a place that is free.
    users: AtomicU32,
    /// Its [`Id`], written with the lock of the ASIDs held.
    id: AtomicU64,
    /// The number of the frame of its level 0 table, which does not change while there are users.
    root: AtomicU64,
    /// Set while there are users.
    inner: SpinLock<Option<Inner>>,
}

/// What the lock of an address space guards.
#[derive(Debug)]
struct Inner {
    tables: Tables,
    regions: Regions<'static>,
    /// The page that the regions are in.
    regions_page: Frame,
}

static SLOTS: [Slot; SPACES] = [const {
    Slot {
        users: AtomicU32::new(0),
        id: AtomicU64::new(Id::NONE.bits()),
        root: AtomicU64::new(0),
        inner: SpinLock::new(None),
    }
}; SPACES];

/// A bit for each slot that is taken.
static TAKEN: SpinLock<u128> = SpinLock::new(0);

const _: () = assert!(SPACES == u128::BITS as usize);

impl Slot {
    /// Its number, from 1: 0 stands for the kernel's tables.
    fn number(&'static self) -> u16 {
        let index = SLOTS.iter().position(|slot| core::ptr::eq(slot, self));
        index.expect("a slot is one of the slots") as u16 + 1
    }

    /// Where its level 0 table is.
    fn root(&self) -> PhysAddr {
        let frame = Frame::from_number(self.root.load(Ordering::Relaxed));
        frame.expect("it was the number of a frame").start()
    }

    fn lock(&'static self) -> Locked {
        Locked {
            guard: self.inner.lock(),
            slot: self,
        }
    }
}

/// An address space whose lock is held.
struct Locked {
    guard: SpinLockGuard<'static, Option<Inner>>,
    slot: &'static Slot,
}

impl Locked {
    fn inner(&mut self) -> &mut Inner {
        self.guard.as_mut().expect("it has users")
    }

    /// Flushes what has been changed with the lock held.
    fn flush(&self, changed: Changed) {
        user_tlb::flush(&self.slot.id, changed);
    }
}

/// A handle of an address space. The last one that is dropped gives back everything that is in it.
#[derive(Debug)]
pub struct AddressSpace(&'static Slot);

impl AddressSpace {
    /// One without regions.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::TooManySpaces`].
    pub fn create() -> Result<Self, Error> {
        let slot = take_slot().ok_or(Error::TooManySpaces)?;
        let give_back = |error: OutOfMemory| {
            free_slot(slot);
            Error::from(error)
        };
        let regions_page = page_alloc::allocate(0).map_err(give_back)?;
        let tables = Tables::create(slot.number()).map_err(|error| {
            // It has just been allocated.
            let _ = page_alloc::free(regions_page, 0);
            give_back(error)
        })?;
        zero_page(regions_page);
        let regions = virt(regions_page.start()).as_mut_ptr::<Region>();
        // SAFETY: the page is this address space's alone, mapped, and zeroed: all zeroes is
        // Region::UNUSED. It goes back when nobody has the slot any more.
        let regions = unsafe { core::slice::from_raw_parts_mut(regions, REGIONS) };
        slot.root.store(tables.root.number(), Ordering::Relaxed);
        *slot.inner.lock() = Some(Inner {
            tables,
            regions: Regions::new(regions),
            regions_page,
        });
        slot.id.store(Id::NONE.bits(), Ordering::Relaxed);
        // Nothing of it is in any TLB.
        event!(Asid {
            space: slot.number(),
            asid: 0,
        });
        slot.users.store(1, Ordering::Relaxed);
        Ok(Self(slot))
    }

    /// Makes the pages of `range` a region. They come when they are used, and hold zeroes then.
    ///
    /// # Errors
    /// [`Error::NotUser`], [`Error::Impossible`], [`Error::Occupied`], [`Error::TooManyRegions`].
    pub fn map(&self, range: PageRange, protection: Protection) -> Result<(), Error> {
        check(range, protection)?;
        let mut space = self.0.lock();
        let regions = &mut space.inner().regions;
        if regions.within(range).next().is_some() {
            return Err(Error::Occupied(range));
        }
        Ok(regions.set(range, Some(protection))?)
    }

    /// Takes the pages of `range` out of their regions, if they are in any, and gives them back
    /// (`munmap`).
    ///
    /// # Errors
    /// [`Error::NotUser`], [`Error::TooManyRegions`].
    pub fn unmap(&self, range: PageRange) -> Result<(), Error> {
        check(range, Protection::empty())?;
        let mut space = self.0.lock();
        space.inner().regions.set(range, None)?;
        // Given back with the lock: from here on no fault brings a page in.
        drop(space);
        self.take_down(range, Keep::Nothing, Gather::new(&self.0.id, false));
        Ok(())
    }

    /// Gives the pages of `range` back and leaves the regions as they are: what is used again holds
    /// zeroes (`zap_page_range`, MADV_DONTNEED).
    ///
    /// # Errors
    /// [`Error::NotUser`].
    pub fn zap(&self, range: PageRange) -> Result<(), Error> {
        check(range, Protection::empty())?;
        self.take_down(range, Keep::Tables, Gather::new(&self.0.id, false));
        Ok(())
    }

    /// Unmaps pages. Each round: lock, then for each table enable, clear, disable; flush, unlock,
    /// free.
    fn take_down(&self, range: PageRange, keep: Keep, mut gather: Gather<'_>) {
        let _span = span("unmap_page_range");
        let mut from = Some(range);
        loop {
            let mut space = self.0.lock();
            let held = span("page_table_lock");
            let tables = &space.inner().tables;
            if let Some(range) = from {
                from = zap_pages(tables, range, &mut gather);
            }
            let mut again = from.is_some();
            if !again && keep == Keep::Nothing {
                again = tables.remove_empty(range, &mut gather);
            }
            gather.flush_tlb();
            drop(held);
            drop(space);
            gather.free();
            if !again {
                break;
            }
        }
        gather.finish();
    }

    /// Changes what may be done with the pages of `range`, all of them in regions (`mprotect`).
    ///
    /// # Errors
    /// [`Error::NotUser`], [`Error::Impossible`], [`Error::NotMapped`], [`Error::TooManyRegions`].
    pub fn protect(&self, range: PageRange, protection: Protection) -> Result<(), Error> {
        check(range, protection)?;
        let mut space = self.0.lock();
        let Inner {
            tables, regions, ..
        } = space.inner();
        if !regions.covers(range) {
            return Err(Error::NotMapped(range));
        }
        regions.set(range, Some(protection))?;
        let mut changed = false;
        let _: ControlFlow<()> = tables.visit(range, |leaves| {
            let _section = lazy::section();
            changed |= change_protection(tables, leaves, protection);
            ControlFlow::Continue(())
        });
        // Wider permissions too: a TLB that has the narrow ones may go on to fault for ever.
        if changed && !planted(Bug::ProtectNoTlbi) {
            space.flush(Changed::Pages(range));
        }
        Ok(())
    }

    /// The region that an address is in.
    #[must_use]
    pub fn region_of(&self, va: VirtAddr) -> Option<(PageRange, Protection)> {
        let mut space = self.0.lock();
        let region = space.inner().regions.find(va)?;
        Some((region.range(), region.protection()))
    }

    /// Calls `look` for each region, lowest first. The lock is held: it must not come back here.
    pub fn for_each_region(&self, mut look: impl FnMut(PageRange, Protection)) {
        let mut space = self.0.lock();
        let regions = space.inner().regions.all().iter();
        regions.for_each(|region| look(region.range(), region.protection()));
    }

    /// The entry that maps an address, valid or not; `None` where a table is missing.
    #[must_use]
    pub fn leaf(&self, va: VirtAddr) -> Option<Descriptor> {
        let mut space = self.0.lock();
        let entry = space.inner().tables.leaf(va)?;
        Some(entry.load())
    }

    /// The ASID that it has, for people; 0 before it is used.
    #[must_use]
    pub fn asid(&self) -> u16 {
        Id::from_bits(self.0.id.load(Ordering::Relaxed)).asid()
    }
}

impl Clone for AddressSpace {
    fn clone(&self) -> Self {
        self.0.users.fetch_add(1, Ordering::Relaxed);
        Self(self.0)
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        // As for an Arc: what others did with it comes before what the last one does to it.
        if self.0.users.fetch_sub(1, Ordering::AcqRel) == 1 {
            destroy(self);
        }
    }
}

/// Takes an address space down that nobody can reach any more, and that no CPU uses.
fn destroy(space: &AddressSpace) {
    space.take_down(USER, Keep::Nothing, Gather::new(&space.0.id, true));
    let inner = space.0.inner.lock().take();
    if let Some(inner) = inner {
        // The root was linked by nothing but TTBR0_EL1, in which no CPU has it. What a walk may
        // hold of it are its entries, and those went with the tables below.
        event!(TableFreed(inner.tables.root.start()));
        // Both are this address space's own.
        let _ = page_alloc::free(inner.tables.root, 0);
        let _ = page_alloc::free(inner.regions_page, 0);
    }
    free_slot(space.0);
}

/// What remains of unmapped addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Nothing,
    Tables,
}

/// Whether an address space can have the pages of a range, so protected.
fn check(range: PageRange, protection: Protection) -> Result<(), Error> {
    if !USER.contains(range.start()) || !USER.contains(range.last_byte()) {
        return Err(Error::NotUser(range));
    }
    if !protection.is_possible() {
        return Err(Error::Impossible(protection));
    }
    Ok(())
}

fn take_slot() -> Option<&'static Slot> {
    let mut taken = TAKEN.lock();
    let free = taken.trailing_ones();
    let slot = SLOTS.get(free as usize)?;
    *taken |= 1 << free;
    Some(slot)
}

fn free_slot(slot: &'static Slot) {
    *TAKEN.lock() &= !(1 << (slot.number() - 1));
}

/// How many address spaces there are.
#[must_use]
pub fn count() -> u32 {
    TAKEN.lock().count_ones()
}

/// Clears the leaves of a range until the gather is full: what is left of the range then.
fn zap_pages(tables: &Tables, range: PageRange, gather: &mut Gather<'_>) -> Option<PageRange> {
    let stopped = tables.visit(range, |leaves| zap_table(tables, leaves, gather));
    let ControlFlow::Break(next) = stopped else {
        return None;
    };
    let last = range.last_byte();
    (next <= last)
        .then(|| PageRange::covering(next, last - next + 1))
        .flatten()
}

/// Clears the leaves of one table, in a lazy section (`zap_pte_range`). Breaks behind the leaf with
/// which the gather was full, at its address.
fn zap_table(tables: &Tables, leaves: Leaves, gather: &mut Gather<'_>) -> ControlFlow<VirtAddr> {
    let _span = span("zap_pte_range");
    let section = lazy::section();
    for (entry, va) in leaves.each() {
        let old = entry.load();
        // A leaf that is not valid but for its protection has a page, too.
        let Some(frame) = old.output_ignoring_valid(Level::L3) else {
            continue;
        };
        tables.store(entry, va, old, Descriptor::INVALID);
        if gather.remove_page(Frame::containing(frame), va).0 {
            if planted(Bug::FlushInSection) {
                gather.flush_tlb();
            }
            return ControlFlow::Break(va + PAGE_SIZE);
        }
    }
    drop(section);
    ControlFlow::Continue(())
}

/// Gives the pages of one table another protection. Whether a valid entry was changed.
fn change_protection(tables: &Tables, leaves: Leaves, protection: Protection) -> bool {
    let mut changed = false;
    for (entry, va) in leaves.each() {
        let old = entry.load();
        let Some(frame) = old.output_ignoring_valid(Level::L3) else {
            continue;
        };
        let mut attributes = protection.attributes();
        // A page that may be shared is copied, or found to be this address space's own, when it is
        // written.
        if old.attributes().contains(Attributes::AP_READ_ONLY) {
            attributes |= Attributes::AP_READ_ONLY;
        }
        let new = old
            .with_attributes(attributes)
            .with_valid(!protection.is_empty());
        if protection.contains(Protection::EXECUTE) {
            publish(Frame::containing(frame));
        }
        if new != old {
            tables.store(entry, va, old, new);
            changed |= old.is_valid();
        }
    }
    changed
}

/// Has instruction fetches see what a page holds, before a leaf lets a program execute it
/// (`__sync_icache_dcache` of Linux).
fn publish(frame: Frame) {
    // SAFETY: the page is an address space's, and mapped in the linear map.
    unsafe { cache::publish(virt(frame.start())) };
}
