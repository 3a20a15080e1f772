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
    cpu_list::{CpuList, KEPT},
    error::OutOfMemory,
    list::Chain,
    map::{Map, PageMeta, State},
};
use crate::{arch::cpu, task::lock::IrqLock};
use core::{
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};
use vmsa::Frame;

/// What the calls of one CPU for single pages work on. On a line of its own: a CPU writes to it all
/// the time.
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

/// Lets calls for single pages take the short ways, [`take_page_at_once`] and
/// [`give_page_at_once`], or none of them.
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
    let line = list_at_hand().filter(|line| !line.more.load(Relaxed))?;
    let mut mine = line.lock.try_lock()?;
    let map = mine.map;
    let index = mine.list.pop(map)?;
    Some((index, map.frame(index)))
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

/// Takes `count` single pages, or none.
#[inline]
pub fn take_list(count: u64) -> Result<Chain, OutOfMemory> {
    let map = map();
    if count == 1 {
        let index = map.index(take_page()?).ok_or(OutOfMemory)?;
        return Ok(Chain::of(index));
    }
    if count <= KEPT.into()
        && let Some(pages) = take_kept(map, count as u32)
    {
        return Ok(pages);
    }
    let mut pages = Chain::EMPTY;
    take_many(count, &mut pages)?;
    Ok(pages)
}

/// Takes `count` pages of those that the CPU keeps, if there are as many, or the buddy system has them.
#[inline]
fn take_kept(map: Map<'static>, count: u32) -> Option<Chain> {
    let list = &mut mine().lock.lock().list;
    list.take_kept(map, count).or_else(|| {
        list.refill_kept(map, count, &mut BUDDY.lock());
        list.take_kept(map, count)
    })
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

/// What became of the pages of a list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given {
    /// How many were given back.
    pub pages: u64,
    /// The first that was not: it had been freed by itself.
    pub refused: Option<usize>,
}

/// Takes in pages: those of a list that was [retired](Chain::retire), or, if they are
/// [many](is_many), such as are in use still.
#[inline]
pub fn give_list(pages: &Chain) -> Given {
    let map = map();
    let count = pages.count();
    if count > KEPT.into() {
        return give_many(map, pages);
    }
    if is_many(count) {
        // Nobody can be given them before they are in the chain.
        if !pages.change(map, State::Listed) {
            return give_many(map, pages);
        }
        let list = &mut mine().lock.lock().list;
        list.keep(map, pages, || BUDDY.lock());
    } else if let Some(index) = pages.only_run() {
        give_page(index, &map.meta[index]);
    }
    Given {
        pages: count,
        refused: None,
    }
}

/// Whether the pages of a list are taken in together.
#[inline]
pub fn is_many(pages: u64) -> bool {
    pages > 1
}

/// Gives pages to the buddy system. Runs of adjacent frames become blocks at once.
///
/// Pages that are in use are taken out of use on the way: a pass over them less. What one says that
/// was freed meanwhile is anything: where it is the first of a run, the rest can't be found, and
/// nobody frees it.
fn give_many(map: Map<'static>, pages: &Chain) -> Given {
    let from = pages.state();
    let mut runs = pages.runs(map);
    let mut given = Given::default();
    while let Some(first) = runs.first() {
        if runs.comes_single() {
            match BUDDY.lock().release_singles(&mut runs, SINGLES, from) {
                0 => given.refused = given.refused.or(Some(first)),
                some => {
                    given.pages += u64::from(some);
                    continue;
                }
            }
            break;
        }
        let is_ours = map.meta.get(first).is_some_and(|meta| meta.is(from, 0));
        // What comes next is read first: this run's metadata is the buddy system's from here on.
        let Some((start, end)) = runs.step().filter(|_| is_ours) else {
            given.refused = given.refused.or(Some(first));
            break;
        };
        let mut at = start;
        while at < end {
            let done = map.change_all(at, end, from, State::Body);
            if done > at {
                BUDDY.lock().release_range(at, done);
                given.pages += (done - at) as u64;
            }
            if done < end {
                given.refused = given.refused.or(Some(done));
            }
            at = done + 1;
        }
    }
    given
}
