//! The kernel's free pages: a list for each CPU, and the buddy system behind them, each under a lock
//! of its own.
//!
//! A call takes the lock of its CPU's list, and where that isn't enough the buddy system's inside;
//! who wants everything takes those of all lists, in the order of the CPUs, then the buddy
//! system's. There is no other order, and nothing is called under them. Handlers take them too, so
//! they mask interrupts; what a call does under one is bounded (by [`BLOCKS`], and by the batch of
//! `cpu_list`), but for a drain when memory has run out.
//!
//! The list of a CPU is chosen before interrupts are masked. The task may migrate in between, and
//! then takes that of the CPU that it was on: correct, and at worst contended.

use super::{
    buddy::{Buddy, ORDERS},
    cpu_list::CpuList,
    error::OutOfMemory,
    list::PageList,
    map::{Map, PageMeta, State},
};
use crate::{arch::cpu, task::lock::IrqLock};
use core::{
    ptr::NonNull,
    sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::Relaxed},
};
use vmsa::Frame;

/// On a line of its own: a CPU writes to its list all the time.
#[repr(align(64))]
struct Line(IrqLock<CpuList>);

static LISTS: [Line; cpu::MAX_CPUS] = [const { Line(IrqLock::new(CpuList::EMPTY)) }; cpu::MAX_CPUS];
static BUDDY: IrqLock<Buddy<'static>> = IrqLock::new(Buddy::EMPTY);
/// What is known of the pages: for what needs no lock.
static MAP: Published = Published {
    meta: AtomicPtr::new(NonNull::dangling().as_ptr()),
    pages: AtomicUsize::new(0),
    base: AtomicU64::new(0),
};
/// Pages that the buddy system was given.
static MANAGED: AtomicU64 = AtomicU64::new(0);

/// Blocks that a list takes or gives back under one lock: interrupts are masked for a few thousand
/// instructions then.
const BLOCKS: u32 = 64;

/// A [`Map`] that is written once, and read without asking whether it has been: before, it is about
/// no pages.
struct Published {
    meta: AtomicPtr<PageMeta>,
    pages: AtomicUsize,
    base: AtomicU64,
}

/// Bytes of metadata that there are for the pages.
pub fn metadata_bytes() -> u64 {
    (MAP.pages.load(Relaxed) * size_of::<PageMeta>()) as u64
}

/// Opens the allocator. Only once, in bring-up, before there are other CPUs and handlers: what it
/// stores needs no order then.
pub fn open(buddy: Buddy<'static>) {
    let map = buddy.map();
    MAP.base.store(map.base, Relaxed);
    MAP.meta.store(map.meta.as_ptr().cast_mut(), Relaxed);
    MAP.pages.store(map.meta.len(), Relaxed);
    MANAGED.store(buddy.managed_pages(), Relaxed);
    *BUDDY.lock() = buddy;
}

/// What is known of the pages; nothing of any before [`open`].
#[inline(always)]
pub fn map() -> Map<'static> {
    let (meta, pages) = (MAP.meta.load(Relaxed), MAP.pages.load(Relaxed));
    Map {
        // SAFETY: no elements at a dangling pointer, or the slice that `open` was given, for good:
        // it stored the one and the other when nothing else could come in between.
        meta: unsafe { core::slice::from_raw_parts(meta, pages) },
        base: MAP.base.load(Relaxed),
    }
}

/// How many pages the allocator was given.
#[inline]
pub fn managed() -> u64 {
    MANAGED.load(Relaxed)
}

/// The list of the CPU that this runs on.
#[inline(always)]
fn mine() -> &'static IrqLock<CpuList> {
    // Masked, so that the compiler sees that it is in bounds: there is no panic in the hot path.
    &LISTS[cpu::id() as usize % cpu::MAX_CPUS].0
}

/// Calls `with` on all lists and the buddy system, which nobody else can use meanwhile.
fn everything<R>(with: impl FnOnce(&mut [&mut CpuList], &mut Buddy<'static>) -> R) -> R {
    // The guards give back the mask that they found, in any order: it has to be the same for all.
    let _masked = cpu::mask_interrupts();
    let mut guards = LISTS.each_ref().map(|line| line.0.lock());
    let mut lists = guards.each_mut().map(|guard| &mut **guard);
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

/// Takes a single page.
#[inline(always)]
pub fn take_page() -> Result<Frame, OutOfMemory> {
    let map = map();
    // A statement of its own: the lock is free behind it.
    let listed = mine().lock().pop(map);
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
        let mut list = mine().lock();
        list.refill(map, || BUDDY.lock());
        list.pop(map)
    };
    match refilled {
        Some(index) => Ok(map.frame(index)),
        None => after_drain(|buddy| buddy.allocate(0)),
    }
}

/// Takes in a retired page.
#[inline(always)]
pub fn give_page(index: usize, meta: &PageMeta) {
    let full = !mine().lock().push(index, meta);
    if full {
        give_page_slow(index, meta);
    }
}

#[cold]
#[inline(never)]
fn give_page_slow(index: usize, meta: &PageMeta) {
    let mut list = mine().lock();
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
pub fn take_list(count: u64) -> Result<PageList<'static>, OutOfMemory> {
    let map = map();
    let mut list = PageList::new(map);
    if count <= FEW {
        take_few(map, count, &mut list);
    }
    if list.count() < count {
        take_many(count - list.count(), &mut list).inspect_err(|OutOfMemory| {
            give_list_back(&list);
        })?;
    }
    // Nobody else has the pages: no lock is needed.
    list.set_all(State::Allocated);
    Ok(list)
}

/// So many pages come from the CPU's list and return to it. More are cheaper from the buddy system: one
/// block, not a page at a time; and a list that they went through would be emptied by them.
const FEW: u64 = 4;

/// Takes as many of `count` pages as the CPU's list has.
#[inline]
fn take_few(map: Map<'static>, count: u64, list: &mut PageList<'static>) {
    let mut mine = mine().lock();
    while list.count() < count
        && let Some(index) = mine.pop(map)
    {
        list.append(index, 1);
    }
}

fn take_many(count: u64, list: &mut PageList<'static>) -> Result<(), OutOfMemory> {
    let mut left = count;
    {
        let mut buddy = BUDDY.lock();
        if buddy.reserve(count).is_ok() {
            left -= buddy.take_reserved(list, left, BLOCKS);
        } else {
            drop(buddy);
            after_drain(|buddy| buddy.reserve(count))?;
        }
    }
    // Between the steps interrupts come through, and others.
    while left > 0 {
        left -= BUDDY.lock().take_reserved(list, left, BLOCKS);
    }
    Ok(())
}

/// Takes in the pages of a list, in use until now or given up.
#[inline]
pub fn give_list(list: &PageList<'static>) {
    if list.count() > FEW {
        return give_list_back(list);
    }
    let map = map();
    for (start, end) in list.runs().indices() {
        (start..end).for_each(|index| give_page(index, &map.meta[index]));
    }
}

/// Gives the pages of a list to the buddy system. Runs of adjacent frames become blocks at once.
fn give_list_back(list: &PageList<'static>) {
    // They are nobody's: no lock is needed.
    list.set_all(State::Body);
    let mut runs = list.runs().indices();
    let mut next = runs.next();
    while next.is_some() {
        let mut buddy = BUDDY.lock();
        for _ in 0..BLOCKS {
            let Some((start, end)) = next else { break };
            // The next one is read first: this one's metadata is the buddy system's from here on.
            next = runs.next();
            buddy.release_range(start, end);
        }
    }
}
