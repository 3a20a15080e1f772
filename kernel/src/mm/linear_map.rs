//! The linear map: every frame of RAM at a fixed distance from its physical address, and the
//! kernel's page tables, which are reached through it.

use super::{
    layout::LINEAR,
    lazy,
    page_alloc::{self, OutOfMemory, PageList, Pages},
    page_table::{
        PageTable, TableMemory,
        walks::{WALKS, Waiting},
    },
    sequence,
    tlb::{Flush, Removed},
    unflushed::Unflushed,
};
#[cfg(feature = "oracle")]
use crate::event;
use crate::{
    arch::{
        entry::{Entries, Entry},
        one_page,
        record::span,
        zero,
    },
    bug::{Bug, planted},
    task::{self, Task, lock::SpinLock},
};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vmsa::{Frame, PAGE_SIZE, PTRS_PER_TABLE, PageRange, PhysAddr, VirtAddr};

/// The address of `pa` in the linear map.
#[inline]
pub fn virt(pa: PhysAddr) -> VirtAddr {
    LINEAR.start() + pa.as_u64()
}

/// The frame that `va` is in, if it is in the linear map.
pub fn frame_of(va: VirtAddr) -> Option<Frame> {
    LINEAR
        .contains(va)
        .then(|| PhysAddr::new(va - LINEAR.start()).map(Frame::containing))
        .flatten()
}

/// `pages` as ranges of the linear map.
pub fn ranges(pages: Pages<'_>) -> impl Iterator<Item = PageRange> + Clone + use<> {
    pages
        .runs()
        .filter_map(|(first, count)| PageRange::new(virt(first.start()), count))
}

/// Tables that wait for walks to end before they are freed, as chains of pages.
static RETIRED: SpinLock<Waiting<PageList>> = SpinLock::new(Waiting::new());
/// Whether there are any: looked at without the lock, where tables are made.
static ANY_RETIRED: AtomicBool = AtomicBool::new(false);

/// Frees the tables for which no walk has to end any more. Called whenever tables are made or taken
/// out.
pub fn free_retired() {
    if !ANY_RETIRED.load(Ordering::Relaxed) {
        return;
    }
    let done = {
        let mut retired = RETIRED.lock();
        let done = retired.done(&WALKS);
        ANY_RETIRED.store(!retired.is_empty(), Ordering::Relaxed);
        done
    };
    for list in done {
        #[cfg(feature = "oracle")]
        for table in list.iter() {
            event!(TableFreed(table.start()));
        }
        page_alloc::free_list(list);
    }
}

/// How many tables wait for walks to end.
#[cfg(feature = "ktests")]
pub fn retired() -> u64 {
    RETIRED.lock().iter().map(PageList::count).sum()
}

/// Table pages from the page allocator, reached through the linear map.
#[derive(Clone, Copy, Debug)]
pub struct Linear(());

impl TableMemory for Linear {
    fn allocate(&mut self, frames: &mut [Frame]) -> Result<(), OutOfMemory> {
        free_retired();
        let list = page_alloc::allocate_list(frames.len() as u64)?;
        frames
            .iter_mut()
            .zip(list.iter())
            .for_each(|(slot, frame)| *slot = frame);
        Ok(())
    }

    #[inline]
    fn entry(&self, table: Frame, index: usize) -> Entry {
        let pa = table.start() + index as u64 * 8;
        // SAFETY: `table` is a table of the kernel's tree, or was when a walk came to it: it stays
        // one for as long as a walk may be in it, the linear map maps it, and only Entry touches it.
        unsafe { Entry::new(virt(pa).as_mut_ptr(), pa) }
    }

    #[inline(always)]
    fn entries(&self, table: Frame, first: usize, count: usize) -> Entries {
        assert!(first + count <= PTRS_PER_TABLE);
        let pa = table.start() + first as u64 * 8;
        // SAFETY: as in `entry`.
        unsafe { Entries::new(virt(pa).as_mut_ptr(), pa, count) }
    }

    fn zero(&mut self, page: Frame) {
        zero_page(page);
    }

    // The oracle is told of each link that a walk goes by: it has them walked.
    #[cfg(not(feature = "oracle"))]
    #[inline(always)]
    fn remembered(&self, va: VirtAddr) -> Option<Frame> {
        // What follows has its address from this load: as for a link (`PageTable::next_table`).
        let word = LEAF_TABLES[slot_of(va)].load(Ordering::Relaxed);
        (word >> FRAME_BITS == key_of(va)).then(|| Frame::containing(in_word(word)))
    }

    #[cfg(not(feature = "oracle"))]
    fn remember(&self, va: VirtAddr, table: Frame) {
        // Release: whoever reads it finds the links made that this CPU has made or read.
        let word = key_of(va) << FRAME_BITS | table.number();
        LEAF_TABLES[slot_of(va)].store(word, Ordering::Release);
    }

    #[cfg(not(feature = "oracle"))]
    fn forget(&self, va: VirtAddr) {
        let slot = &LEAF_TABLES[slot_of(va)];
        let word = slot.load(Ordering::Relaxed);
        if word >> FRAME_BITS == key_of(va) {
            // If it is another table's by now, nothing is to be forgotten.
            let _ = slot.compare_exchange(word, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn free(&mut self, tables: &[Frame]) {
        let Some(mut list) = page_alloc::empty_list() else {
            return;
        };
        for table in tables {
            // A table that is not the allocator's own (bring-up made it) is reported, and lost.
            let _ = page_alloc::give_up(&mut list, *table);
        }
        page_alloc::free_list(list);
    }

    fn retire(&mut self, tables: &[Frame]) {
        {
            let mut retired = RETIRED.lock();
            let list = retired.list();
            if list.is_none() {
                *list = page_alloc::empty_list();
            }
            if let Some(list) = list {
                for table in tables {
                    // As in `free`.
                    let _ = page_alloc::give_up(list, *table);
                }
            }
            ANY_RETIRED.store(true, Ordering::Relaxed);
        }
        free_retired();
    }
}

/// Leaf tables of the kernel that walks have found: which 2 MiB, above [`FRAME_BITS`], and the frame of
/// the table. Areas that are made one after the other are neighbours, so one answer serves a hundred
/// calls (26 instructions each).
#[cfg(not(feature = "oracle"))]
static LEAF_TABLES: [AtomicU64; 16] = [const { AtomicU64::new(0) }; 16];

/// Bits of a frame's number.
#[cfg(not(feature = "oracle"))]
const FRAME_BITS: u32 = 36;

/// Which 2 MiB `va` is in: bits `[48:21]`. The first of them is set in the upper half, so that no
/// address of it is that of an empty word.
#[cfg(not(feature = "oracle"))]
#[inline(always)]
fn key_of(va: VirtAddr) -> u64 {
    va.as_u64() << 15 >> (15 + 21)
}

/// Where its table is remembered. The arenas of two CPUs, which lie TiB apart, use different ones.
#[cfg(not(feature = "oracle"))]
#[inline(always)]
fn slot_of(va: VirtAddr) -> usize {
    (va.as_u64() >> 21 ^ va.as_u64() >> 43) as usize % LEAF_TABLES.len()
}

/// The address of the frame in a word.
#[cfg(not(feature = "oracle"))]
#[inline(always)]
fn in_word(word: u64) -> PhysAddr {
    PhysAddr::literal((word & ((1 << FRAME_BITS) - 1)) << vmsa::PAGE_SHIFT)
}

/// Zeroes a page of RAM through the linear map. It must be the caller's, and mapped there.
pub fn zero_page(page: Frame) {
    #[cfg(feature = "oracle")]
    tell_written(page);
    let start = virt(page.start()).as_mut_ptr::<u8>();
    // SAFETY: the caller owns the page, and the linear map maps it, as Normal memory.
    unsafe { zero::zero(start, PAGE_SIZE as usize) };
}

/// Tells the oracle that a page is about to be written by its owner, through the linear map.
#[cfg(feature = "oracle")]
pub(super) fn tell_written(page: Frame) {
    event!(FrameWritten(page.start()));
    event!(Access {
        va: virt(page.start()),
        access: event::Access::Write,
    });
}

/// Physical address of the live root.
static ROOT: AtomicU64 = AtomicU64::new(0);
/// Its bits.
const ROOT_BITS: u64 = (1 << 48) - PAGE_SIZE;
/// Whether every leaf of the linear map is a page.
static PAGE_GRANULAR: AtomicBool = AtomicBool::new(true);

/// Makes the tree whose root is `root` the one that [`kernel`] means.
pub(super) fn adopt(root: Frame, page_granular: bool) {
    ROOT.store(root.start().as_u64(), Ordering::Relaxed);
    PAGE_GRANULAR.store(page_granular, Ordering::Relaxed);
}

/// The kernel's page tables. Only after bring-up.
#[inline]
pub fn kernel() -> PageTable<Linear> {
    // Masked, so that the compiler sees that it is an address: `adopt` was given a frame.
    let root = PhysAddr::literal(ROOT.load(Ordering::Relaxed) & ROOT_BITS);
    PageTable::new(Frame::containing(root), Linear(()))
}

/// Whether single pages of the linear map can be changed (`can_set_direct_map()` in Linux): with
/// DEBUG_PAGEALLOC or `RODATA=full`. Otherwise it is made of blocks, which could only be changed
/// whole.
pub fn is_page_granular() -> bool {
    PAGE_GRANULAR.load(Ordering::Relaxed)
}

/// Makes the linear addresses of `pages` valid or invalid (`set_memory_valid` of Linux, as
/// `__kernel_map_pages` calls it).
///
/// Making them invalid flushes: nobody may believe that the pages are gone before. Making them
/// valid needs no TLBI, since an invalid entry is never cached (DDI 0487, D8.16.1); the end of the
/// section here sees to the barriers, whatever section is open around it.
pub fn set_direct_map_valid(pages: Pages<'_>, valid: bool) {
    set_valid(ranges(pages), pages.count(), valid, None);
}

/// Makes the linear addresses of `pages` invalid, as [`set_direct_map_valid`] does; the flush covers
/// `unflushed` as well.
pub fn set_direct_map_invalid(pages: Pages<'_>, unflushed: Option<Unflushed>) {
    set_valid(ranges(pages), pages.count(), false, unflushed);
}

/// The leaf of one page, where nobody watches what becomes of it: nothing is
/// [unusual](crate::unusual), and the task has put off nothing but barriers.
///
/// A section of one leaf then comes to that leaf and its barriers, whatever section is open around it:
/// so they are issued at once, and no section is opened.
#[derive(Clone, Copy, Debug)]
pub struct SingleLeaf {
    entry: Entry,
    page: Frame,
    task: &'static Task,
}

/// The leaf of a page, if it is known where that is; [`look_up_leaf`] sees to it. Whether anything is
/// unusual the caller has to ask.
#[inline(always)]
pub fn single_leaf(page: Frame) -> Option<SingleLeaf> {
    // The planted bugs are in the long way.
    if cfg!(feature = "bugs") {
        return None;
    }
    let entry = leaf_tables::entry(page)?;
    let task = task::current();
    (!task.deferred.more.get()).then_some(SingleLeaf { entry, page, task })
}

/// Finds the leaf of a page for the next time.
pub fn look_up_leaf(page: Frame) {
    leaf_tables::find(page);
}

impl SingleLeaf {
    /// The page becomes valid: see [`set_direct_map_valid`].
    #[inline(always)]
    pub fn appear(self) {
        let old = self.entry.load();
        // DSB ISHST and ISB: see `lazy::emit_barriers`.
        one_page::appear(self.entry, self.va(), old, old.with_valid(true));
        lazy::settle_of(self.task);
    }

    /// It becomes invalid, and no TLB knows it any more.
    #[inline(always)]
    pub fn go(self) {
        let (va, old) = (self.va(), self.entry.load());
        // As in `mm::sequence`, where it is said what each barrier is for.
        let operand = sequence::of_one_leaf(va);
        one_page::go(self.entry, va, old, old.with_valid(false), operand);
        lazy::settle_of(self.task);
    }

    #[inline(always)]
    fn va(self) -> VirtAddr {
        virt(self.page.start())
    }
}

/// Where the leaves of the linear map are.
///
/// It is made of pages from bring-up on, or of blocks; its tables are never taken out, so that one
/// which was found once needs no other walk.
mod leaf_tables {
    use super::{Entry, Frame, LINEAR, Ordering, PhysAddr, kernel, virt};
    use core::{
        ptr::{self, NonNull},
        sync::atomic::AtomicPtr,
    };
    use vmsa::PTRS_PER_TABLE;

    /// A table for each 2 MiB of the first 4 GiB of physical addresses, of which the board has up to 3
    /// GiB of RAM: where it is in the linear map; null where it has not been looked for.
    static TABLES: [AtomicPtr<u64>; 2048] = [const { AtomicPtr::new(ptr::null_mut()) }; _];

    /// The leaf of a page, if its table has been [found](find).
    #[inline(always)]
    pub(super) fn entry(page: Frame) -> Option<Entry> {
        let number = page.number() as usize;
        let table = TABLES.get(number / PTRS_PER_TABLE)?.load(Ordering::Relaxed);
        // SAFETY: a table has as many entries.
        let slot = unsafe { NonNull::new(table)?.add(number % PTRS_PER_TABLE) };
        // What the linear map adds is all above it.
        const { assert!(LINEAR.start().as_u64() << 16 == 0) };
        let pa = PhysAddr::new(slot.addr().get() as u64 & ((1 << 48) - 1))?;
        // SAFETY: as in `TableMemory::entry`: it is an entry of a table that stays one.
        Some(unsafe { Entry::new(slot.as_ptr(), pa) })
    }

    /// Finds the table of a page's leaf, where it is one, and no block, and not further up.
    pub(super) fn find(page: Frame) {
        if let Some(known) = TABLES.get(page.number() as usize / PTRS_PER_TABLE)
            && known.load(Ordering::Relaxed).is_null()
            && let Some(table) = kernel().table_of_leaf(virt(page.start()))
        {
            known.store(virt(table.start()).as_mut_ptr(), Ordering::Relaxed);
        }
    }
}

/// Makes the pages of `ranges`, `pages` in all and each mapped by a page or known to have been,
/// valid or invalid, as [`set_direct_map_valid`] does. Only where they become invalid there is a flush
/// that could take `unflushed` in.
pub(super) fn set_valid(
    ranges: impl Iterator<Item = PageRange> + Clone,
    pages: u64,
    valid: bool,
    mut unflushed: Option<Unflushed>,
) {
    let _span = span("set_memory_valid");
    let kernel = kernel();
    if planted(Bug::RemapNoBarrier) && valid {
        // What the stores owe waits for the end of whatever section the caller has open.
        for va in ranges.flat_map(PageRange::pages_iter) {
            let _ = kernel.set_leaf(va, |entry| entry.with_valid(true));
        }
        return;
    }
    let flush = |unflushed: Option<Unflushed>| {
        let others = unflushed.as_ref().map_or(0, Unflushed::pages);
        let mut flush = Flush::begin(pages + others);
        if let Some(unflushed) = unflushed {
            flush.add_unflushed(unflushed);
        }
        let each = ranges.clone();
        each.for_each(|range| flush.add(range, Removed::Leaves));
        flush.finish();
    };
    if planted(Bug::TlbiBeforeStore) && !valid {
        flush(unflushed.take());
    }
    let section = lazy::section();
    for range in ranges.clone() {
        kernel
            .edit_pages(&section, range, lazy::Edit::valid(valid))
            .unwrap_or_else(|error| unreachable!("mapped pages lost their leaves: {error}"));
    }
    if !valid && !planted(Bug::TlbiBeforeStore) {
        flush(unflushed);
    }
    drop(section);
}
