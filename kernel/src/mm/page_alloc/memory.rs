//! The kernel's free pages: a list for each CPU, and the buddy system behind them, each under a lock
//! of its own.
//!
//! A call takes the lock of its CPU's list, and where that isn't enough the buddy system's inside;
//! who wants everything takes those of all lists, in the order of the CPUs, then the buddy
//! system's. There is no other order, and nothing is called under them. Handlers take them too, so
//! they mask interrupts; what a call does under one is bounded (by the constants of `lists` and of
//! `cpu_list`), but for a drain when memory has run out.
//!
//! The list of a CPU is chosen before interrupts are masked. The task may migrate in between, and
//! then takes that of the CPU that it was on: correct, and at worst contended.

mod lists;

pub use lists::{give_list, give_run_at_once, is_many, take_list, take_run_at_once};

use super::{
    buddy::{Buddy, ORDERS},
    cpu_list::CpuList,
    error::OutOfMemory,
    map::{Map, PageMeta},
};
use crate::{arch::cpu, task::lock::IrqLock};
use core::{
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};
use vmsa::Frame;

/// What the calls of one CPU for single pages and lists work on. On a line of its own: a CPU writes
/// to it all the time.
#[repr(align(64))]
struct Line {
    lock: IrqLock<Mine>,
    /// Whether a call has more to do than to hand a page over. It is the same for all CPUs; here it is
    /// next to what a call reads in any case.
    more: AtomicBool,
}

/// What the lock is for.
struct Mine {
    /// What is known of the pages: next to the list, for the same reason.
    map: Map<'static>,
    list: CpuList,
}

const NO_MAP: Map<'static> = Map { meta: &[], base: 0 };

static LISTS: [Line; cpu::MAX_CPUS] = [const {
    Line {
        lock: IrqLock::new(Mine {
            map: NO_MAP,
            list: CpuList::EMPTY,
        }),
        more: AtomicBool::new(false),
    }
}; cpu::MAX_CPUS];
const _: () = assert!(size_of::<Line>() == 128);
static BUDDY: IrqLock<Buddy<'static>> = IrqLock::new(Buddy::EMPTY);
/// What is known of the pages: for what needs no lock.
static MAP: Published = Published(UnsafeCell::new(NO_MAP));
/// Pages that the buddy system was given.
static MANAGED: AtomicU64 = AtomicU64::new(0);

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
    for line in &LISTS {
        line.lock.lock().map = map();
    }
    #[cfg(target_os = "none")]
    for (number, line) in LISTS.iter().enumerate() {
        cpu::set_page_list(number, (&raw const *line).cast());
    }
}

/// What is known of the pages; nothing of any before [`open`].
#[inline(always)]
pub fn map() -> Map<'static> {
    // SAFETY: nobody writes it: `open` does so when nobody else is there.
    unsafe { *MAP.0.get() }
}

/// As [`map`], where it is, for who only looks at a part of it.
#[inline(always)]
pub fn map_ref() -> &'static Map<'static> {
    // SAFETY: as in `map`.
    unsafe { &*MAP.0.get() }
}

/// Lets calls for single pages and lists take the short ways, those whose names end in `_at_once`, or
/// none of them.
pub fn allow_short_ways(allowed: bool) {
    for line in &LISTS {
        line.more.store(!allowed, Relaxed);
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

/// The list of the CPU that this runs on, if [`open`] has said which it is.
#[inline(always)]
fn list_at_hand() -> Option<&'static Line> {
    #[cfg(target_os = "none")]
    // SAFETY: null, or what `open` said: a line.
    return unsafe { cpu::page_list().cast::<Line>().as_ref() };
    #[cfg(not(target_os = "none"))]
    Some(&LISTS[cpu::id() as usize % cpu::MAX_CPUS])
}

/// The list of the CPU that this runs on.
#[inline(always)]
fn mine() -> &'static Line {
    // Masked, so that the compiler sees that it is in bounds.
    list_at_hand().unwrap_or_else(|| &LISTS[cpu::id() as usize % cpu::MAX_CPUS])
}

/// Calls `with` on all lists and the buddy system, which nobody else can use meanwhile.
fn everything<R>(with: impl FnOnce(&mut [&mut CpuList], &mut Buddy<'static>) -> R) -> R {
    // The guards give back the mask that they found, in any order: it has to be the same for all.
    let _masked = cpu::mask_interrupts();
    let mut guards = LISTS.each_ref().map(|line| line.lock.lock());
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
    take_from(list_at_hand().filter(|line| !line.more.load(Relaxed))?)
}

/// Takes a single page, if the CPU's list has one and its lock is free; and whether there is more to be
/// done before it is handed out.
#[inline(always)]
pub fn take_page_and_ask() -> Option<(Frame, bool)> {
    let line = list_at_hand()?;
    let (_, frame) = take_from(line)?;
    Some((frame, line.more.load(Relaxed)))
}

#[inline(always)]
fn take_from(line: &Line) -> Option<(usize, Frame)> {
    let mut mine = line.lock.try_lock()?;
    let map = mine.map;
    let index = mine.list.pop(map)?;
    Some((index, map.frame(index)))
}

/// Takes a page back that nobody has been given.
#[cold]
pub fn give_back(frame: Frame) {
    // It has just been allocated.
    if let Ok((index, meta)) = map_ref().retire(frame, 0) {
        give_page(index, meta);
    }
}

/// Gives back an allocated page, if there is nothing to it, as above. If not, nothing has changed.
#[inline(always)]
pub fn give_page_at_once(frame: Frame) -> bool {
    give_at_once(|map| map.index(frame))
}

/// As [`give_page_at_once`], by the index of the page.
#[inline(always)]
pub fn give_index_at_once(index: usize) -> bool {
    give_at_once(|_| Some(index))
}

#[inline(always)]
fn give_at_once(page: impl FnOnce(Map<'static>) -> Option<usize>) -> bool {
    let line = list_at_hand().filter(|line| !line.more.load(Relaxed));
    let Some(mut mine) = line.and_then(|line| line.lock.try_lock()) else {
        return false;
    };
    let map = mine.map;
    let Some((index, meta)) = page(map).and_then(|index| Some((index, map.meta.get(index)?)))
    else {
        return false;
    };
    let taken = mine.list.take_in(index, meta);
    #[cfg(feature = "oracle")]
    if taken {
        // Nobody can be given it before the lock is free.
        crate::event!(FramesFreed(mmu_oracle::event::Frames {
            first: map.frame(index).start(),
            count: 1,
        }));
    }
    taken
}

/// Takes a single page.
pub fn take_page() -> Result<Frame, OutOfMemory> {
    let listed = {
        let mut mine = mine().lock.lock();
        let map = mine.map;
        mine.list.pop(map).map(|index| map.frame(index))
    };
    listed.map_or_else(take_page_slow, Ok)
}

#[cold]
#[inline(never)]
fn take_page_slow() -> Result<Frame, OutOfMemory> {
    let map = map();
    let refilled = {
        let list = &mut mine().lock.lock().list;
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
    let full = !mine().lock.lock().list.push(index, meta);
    if full {
        give_page_slow(index, meta);
    }
}

#[cold]
#[inline(never)]
fn give_page_slow(index: usize, meta: &PageMeta) {
    let list = &mut mine().lock.lock().list;
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
