//! The kernel's free pages: a list for each CPU, and the buddy system behind them, each under a lock
//! of its own.
//!
//! A call takes the lock of its CPU's list, and where that isn't enough the buddy system's inside;
//! who wants everything takes those of all lists, in the order of the CPUs, then the buddy
//! system's. There is no other order, and nothing is called under them. Handlers take them too, so
//! they mask interrupts; what a call does under one is bounded (by [`STEP`] and [`SINGLES`], and by
//! the batch of `cpu_list`), but for a drain when memory has run out.
//!
//! The list of a CPU is chosen before interrupts are masked. The task may migrate in between, and
//! then takes that of the CPU that it was on: correct, and at worst contended.

use super::{
    buddy::{Buddy, ORDERS},
    cpu_list::CpuList,
    error::OutOfMemory,
    list::Chain,
    map::{Map, PageMeta, State},
};
use crate::{arch::cpu, task::lock::IrqLock};
use core::{
    cell::UnsafeCell,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};
use vmsa::Frame;

/// On a line of its own: a CPU writes to its list all the time.
#[repr(align(64))]
struct Line(IrqLock<Mine>);

/// What the calls of one CPU for single pages work on.
struct Mine {
    /// What the short ways know of the pages: nothing where a call has more to do than to hand a
    /// page over. So the bounds check of an index, which has to be made, tells them that too; and
    /// the list, its lock and this are on one line, whose address is made once (20 instructions
    /// less a pair than with a flag and the map at places of their own).
    short: Map<'static>,
    list: CpuList,
}

const NO_MAP: Map<'static> = Map { meta: &[], base: 0 };

// In a section of its own, or the compiler would address it by way of a neighbour: 2 instructions a
// pair.
#[cfg_attr(target_os = "none", unsafe(link_section = ".data.page_lists"))]
static LISTS: [Line; cpu::MAX_CPUS] = [const {
    Line(IrqLock::new(Mine {
        short: NO_MAP,
        list: CpuList::EMPTY,
    }))
}; cpu::MAX_CPUS];
const _: () = assert!(size_of::<Line>() == 64);
static BUDDY: IrqLock<Buddy<'static>> = IrqLock::new(Buddy::EMPTY);
/// What is known of the pages: for what needs no lock.
static MAP: Published = Published(UnsafeCell::new(NO_MAP));
/// Pages that the buddy system was given.
static MANAGED: AtomicU64 = AtomicU64::new(0);

/// What a list takes from the buddy system under one lock, in pages: interrupts are masked for a
/// few thousand instructions then. One block of the highest order may come on top.
const STEP: u64 = 512;
/// Single pages that go back under one lock.
const SINGLES: u32 = 64;

/// A [`Map`] that is written once, and read as any other data: atomic accesses would keep the
/// compiler from leaving out those whose values are not needed.
struct Published(UnsafeCell<Map<'static>>);

// SAFETY: it is written in `open` alone, when nobody else is there.
unsafe impl Sync for Published {}

/// Opens the allocator.
///
/// # Safety
/// Only once, in bring-up, before there are other CPUs and handlers.
pub unsafe fn open(buddy: Buddy<'static>) {
    // SAFETY: the caller's promise: nobody reads it now.
    unsafe { *MAP.0.get() = buddy.map() };
    MANAGED.store(buddy.managed_pages(), Relaxed);
    *BUDDY.lock() = buddy;
    allow_short_ways(true);
}

/// What is known of the pages; nothing of any before [`open`].
#[inline(always)]
pub fn map() -> Map<'static> {
    // SAFETY: nobody writes it: `open` does so when nobody else is there.
    unsafe { *MAP.0.get() }
}

/// Lets calls for single pages take the short ways, [`take_page_at_once`] and
/// [`give_page_at_once`], or none of them.
pub fn allow_short_ways(allowed: bool) {
    for line in &LISTS {
        line.0.lock().short = if allowed { map() } else { NO_MAP };
    }
}

/// Bytes of metadata that there are for the pages.
pub fn metadata_bytes() -> u64 {
    size_of_val(map().meta) as u64
}

/// How many pages the allocator was given.
#[inline]
pub fn managed() -> u64 {
    MANAGED.load(Relaxed)
}

/// The list of the CPU that this runs on.
#[inline(always)]
fn mine() -> &'static IrqLock<Mine> {
    // Masked, so that the compiler sees that it is in bounds: there is no panic in the hot path.
    &LISTS[cpu::id() as usize % cpu::MAX_CPUS].0
}

/// Calls `with` on all lists and the buddy system, which nobody else can use meanwhile.
fn everything<R>(with: impl FnOnce(&mut [&mut CpuList], &mut Buddy<'static>) -> R) -> R {
    // The guards give back the mask that they found, in any order: it has to be the same for all.
    let _masked = cpu::mask_interrupts();
    let mut guards = LISTS.each_ref().map(|line| line.0.lock());
    let mut lists = guards.each_mut().map(|guard| &mut guard.list);
    with(&mut lists, &mut BUDDY.lock())
}

/// Pages that are free: in the buddy system or in the list of a CPU.
pub fn free_pages() -> u64 {
    everything(|lists, buddy| {
        let listed: u64 = lists.iter().map(|list| list.count()).sum();
        buddy.free_pages() + listed
    })
}

/// How many blocks of each order the buddy system has.
pub fn free_blocks() -> [u64; ORDERS] {
    BUDDY.lock().free_blocks()
}

/// Gives what the CPUs keep back to the buddy system, and calls `with` on it before a CPU can take
/// anything again: what isn't there then is nowhere.
#[cold]
#[inline(never)]
fn after_drain<R>(with: impl FnOnce(&mut Buddy<'static>) -> R) -> R {
    everything(|lists, buddy| {
        let map = buddy.map();
        lists.iter_mut().for_each(|list| list.drain(map, buddy));
        with(buddy)
    })
}

/// Gives what the CPUs keep back to the buddy system.
pub fn drain() {
    after_drain(|_| ());
}

/// Takes a single page, if there is nothing to it: the CPU's list has one, its lock is free, and
/// who calls has nothing else to do. Its index, and the page.
///
/// The short ways call nothing: then what calls them, and leaves the rest to a function that it
/// ends with, keeps nothing on the stack (8 instructions a pair).
#[inline(always)]
pub fn take_page_at_once() -> Option<(usize, Frame)> {
    let mut mine = mine().try_lock()?;
    let map = mine.short;
    let index = mine.list.pop(map)?;
    Some((index, map.frame(index)))
}

/// Gives back an allocated page, if there is nothing to it, as above. If not, nothing has changed.
#[inline(always)]
pub fn give_page_at_once(frame: Frame) -> bool {
    let Some(mut mine) = mine().try_lock() else {
        return false;
    };
    let map = mine.short;
    let Some(index) = map.index(frame) else {
        return false;
    };
    let taken = mine.list.take_in(index, &map.meta[index]);
    #[cfg(feature = "oracle")]
    if taken {
        // Nobody can be given it before the lock is free.
        super::tell_freed(super::Pages::Block(frame, 0));
    }
    taken
}

/// As [`give_page_at_once`], by the index of the page.
#[inline(always)]
pub fn give_index_at_once(index: usize) -> bool {
    let Some(mut mine) = mine().try_lock() else {
        return false;
    };
    let map = mine.short;
    let Some(meta) = map.meta.get(index) else {
        return false;
    };
    let taken = mine.list.take_in(index, meta);
    #[cfg(feature = "oracle")]
    if taken {
        super::tell_freed(super::Pages::Block(map.frame(index), 0));
    }
    taken
}

/// Takes a single page.
pub fn take_page() -> Result<Frame, OutOfMemory> {
    let map = map();
    // A statement of its own: the lock is free behind it.
    let listed = mine().lock().list.pop(map);
    match listed {
        Some(index) => Ok(map.frame(index)),
        None => take_page_slow(),
    }
}

#[cold]
#[inline(never)]
fn take_page_slow() -> Result<Frame, OutOfMemory> {
    let map = map();
    let refilled = {
        let list = &mut mine().lock().list;
        list.refill(map, || BUDDY.lock());
        list.pop(map)
    };
    match refilled {
        Some(index) => Ok(map.frame(index)),
        None => after_drain(|buddy| buddy.allocate(0)),
    }
}

/// Takes in a retired page.
#[inline]
pub fn give_page(index: usize, meta: &PageMeta) {
    let full = !mine().lock().list.push(index, meta);
    if full {
        give_page_slow(index, meta);
    }
}

#[cold]
#[inline(never)]
fn give_page_slow(index: usize, meta: &PageMeta) {
    let list = &mut mine().lock().list;
    // Another task, or a handler, may have made room meanwhile.
    if !list.push(index, meta) {
        list.make_room(map(), || BUDDY.lock());
        list.push(index, meta);
    }
}

/// Takes a block of 2^`order` pages.
pub fn take_block(order: u8) -> Result<Frame, OutOfMemory> {
    let taken = BUDDY.lock().allocate(order);
    taken.or_else(|OutOfMemory| after_drain(|buddy| buddy.allocate(order)))
}

/// Takes in a retired block.
pub fn give_block(frame: Frame, order: u8) {
    BUDDY.lock().release(frame, order);
}

/// Takes `count` single pages, or none.
#[inline]
pub fn take_list(count: u64) -> Result<Chain, OutOfMemory> {
    let map = map();
    let mut pages = Chain::EMPTY;
    if count <= FEW {
        take_few(map, count, &mut pages);
    }
    if pages.count() < count {
        take_many(count - pages.count(), &mut pages)
            .inspect_err(|OutOfMemory| give_many(map, &pages))?;
    }
    Ok(pages)
}

/// So many pages come from the CPU's list and return to it. More are cheaper from the buddy system: one
/// block, not a page at a time; and a list that they went through would be emptied by them.
const FEW: u64 = 4;

/// Takes as many of `count` pages as the CPU's list has.
fn take_few(map: Map<'static>, count: u64, pages: &mut Chain) {
    let mut mine = mine().lock();
    while pages.count() < count
        && let Some(index) = mine.list.pop(map)
    {
        pages.append_taken(map, index, 1);
    }
}

fn take_many(count: u64, pages: &mut Chain) -> Result<(), OutOfMemory> {
    let mut left = count;
    {
        let mut buddy = BUDDY.lock();
        if buddy.reserve(count).is_ok() {
            left -= buddy.take_reserved(pages, left, STEP);
        } else {
            drop(buddy);
            after_drain(|buddy| buddy.reserve(count))?;
        }
    }
    // Between the steps interrupts come through, and others.
    while left > 0 {
        left -= BUDDY.lock().take_reserved(pages, left, STEP);
    }
    Ok(())
}

/// Takes in pages that are nobody's.
#[inline]
pub fn give_list(pages: &Chain) {
    let map = map();
    if pages.count() > FEW {
        return give_many(map, pages);
    }
    for (start, end) in pages.runs(map).indices() {
        (start..end).for_each(|index| give_page(index, &map.meta[index]));
    }
}

/// Gives pages to the buddy system. Runs of adjacent frames become blocks at once.
fn give_many(map: Map<'static>, pages: &Chain) {
    let mut runs = pages.runs(map);
    while runs.comes_single() {
        BUDDY.lock().release_singles(&mut runs, SINGLES);
    }
    // What comes next is read first: this run's metadata is the buddy system's from here on.
    while let Some((start, end)) = runs.step() {
        // They are nobody's: no lock is needed.
        map.set_all(start, end, State::Body);
        BUDDY.lock().release_range(start, end);
        while runs.comes_single() {
            BUDDY.lock().release_singles(&mut runs, SINGLES);
        }
    }
}
