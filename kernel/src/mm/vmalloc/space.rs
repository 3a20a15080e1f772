//! Addresses for many CPUs: vmalloc space in *arenas*, as many as there are CPUs (rounded up to a
//! power of two).
//!
//! An arena is a part of the address space with free and busy areas of its own, behind a lock of its
//! own, and with a list of its own for the areas that wait for the purge. A CPU takes addresses from
//! its arena. Whose an address is, is arithmetic: a subtraction and a shift. So whoever frees finds
//! the arena of the one who allocated, and takes its lock for a moment; and a record never leaves
//! its arena, since its pages are the arena's. Linux hands ranges of exact sizes to nodes and keeps
//! one tree of free space behind them all, with one lock, to which whatever a node lacks and what it
//! decays goes back; here nothing is behind the arenas. What that costs is that a CPU whose arena is
//! full has to ask the others', which at 8 TiB each is for alignments alone.
//!
//! Arenas begin and end at multiples of their size, which is some TiB: no two share a table, nor a
//! table of shadow.
//!
//! The lists of areas that wait take no lock: who has unmapped an area pushes it, and the purge takes
//! a whole list with one exchange. Nobody takes out a single one, so that no pointer that was read
//! can mean something else by the time it is compared.
//!
//! Executes no instruction, so it runs in host tests; its locks and atomics come from `sync`, which
//! the model checker has of its own.

use super::{
    area::{
        AreaInfo, AreaKind, BLOCK_PAGES, Blocks, BusyAreas, Chain, DirtyBlocks, FreeAreas,
        InsertError, OwnedArea, Spare, TakeError, VmapArea, iter_raw, link_before,
    },
    sync::{AtomicPtr, AtomicU64, Lock, MOST_ARENAS, Ordering, acquired, releases},
};
use crate::mm::{layout::IMAGE, page_alloc::PageList};
use core::{mem, ptr};
use vmsa::{PAGE_SHIFT, PageRange, VirtAddr};

/// Pages that may wait for the purge for each bit of the number of CPUs: 32 MiB, as in Linux.
const LAZY_UNIT: u64 = (32 << 20) >> PAGE_SHIFT;

/// Ranges of one arena that are free or in use.
#[derive(Debug)]
pub struct Ranges {
    /// Nobody's.
    pub free: FreeAreas,
    /// Somebody's.
    pub busy: BusyAreas,
    /// What `vm_map_ram` has of the busy ones.
    pub blocks: Blocks,
}

/// What a purge has taken of an arena.
#[derive(Debug)]
pub struct Taken {
    /// Areas that nobody uses, to be flushed and released.
    pub areas: Chain,
    /// Their lengths together.
    pub pages: u64,
    /// Records of those that others of them stand for.
    pub spare: Spare,
    /// Blocks that are in use, some pages of which are to be flushed.
    pub dirty: DirtyBlocks,
}

/// An arena in which more waits for the purge than should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "areas beyond the limit are to be purged"]
pub struct FullArena(usize);

/// A part of the address space. By itself in its cache lines: CPUs do not disturb each other by
/// using theirs.
#[derive(Debug)]
#[repr(align(128))]
pub struct Arena {
    /// Free and busy.
    pub ranges: Lock<Ranges>,
    /// Unmapped, perhaps still in TLBs.
    pub lazy: Waiting,
}

/// Areas that wait, and for how many pages they stand.
#[derive(Debug)]
pub struct Waiting {
    /// The one that came last.
    pub first: AtomicPtr<VmapArea>,
    /// Their lengths together, guard pages included.
    pub pages: AtomicU64,
}

impl Waiting {
    /// Adds an area; says how many pages wait now.
    #[inline]
    pub fn push(&self, area: OwnedArea) -> u64 {
        let pages = area.pages();
        // Before somebody can take it, so that the count does not fall below nothing.
        let waiting = self.pages.fetch_add(pages, Ordering::Relaxed) + pages;
        let area = area.into_raw();
        releases(&self.first);
        let mut first = self.first.load(Ordering::Relaxed);
        loop {
            // SAFETY: nobody else has the area yet.
            unsafe { link_before(area, first) };
            // Release: whoever takes the list reads the link and the area, and flushes what was
            // cleared before this.
            let pushed =
                self.first
                    .compare_exchange(first, area, Ordering::Release, Ordering::Relaxed);
            match pushed {
                Ok(_) => return waiting,
                Err(other) => first = other,
            }
        }
    }

    /// Takes all of them.
    pub fn take_all(&self) -> Chain {
        let chain = self.take_uncounted();
        self.count_out(&chain);
        chain
    }

    /// Takes all of them, and leaves it to the caller to [count](Self::count_out) them.
    fn take_uncounted(&self) -> Chain {
        if self.is_empty() {
            return Chain::new();
        }
        let first = self.first.swap(ptr::null_mut(), Ordering::Acquire);
        acquired(&self.first);
        // SAFETY: whoever pushed these areas owned them, and the exchange gave them to this value
        // alone.
        unsafe { Chain::from_raw(first) }
    }

    /// Counts areas that have been taken: how many pages they have.
    fn count_out(&self, areas: &Chain) -> u64 {
        let pages = areas.iter().map(VmapArea::pages).sum::<u64>();
        self.pages.fetch_sub(pages, Ordering::Relaxed);
        pages
    }

    /// Whether there are none: none of those, at least, whose push the caller knows of.
    pub fn is_empty(&self) -> bool {
        self.first.load(Ordering::Relaxed).is_null()
    }

    /// The areas, the one that came last first.
    ///
    /// # Safety
    /// Nobody takes them meanwhile.
    pub unsafe fn iter(&self) -> impl Iterator<Item = &VmapArea> {
        let first = self.first.load(Ordering::Acquire);
        acquired(&self.first);
        // SAFETY: the caller's promise.
        unsafe { iter_raw(first) }
    }

    /// How many pages wait.
    pub fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }
}

/// An address space for many CPUs.
///
/// Bring-up says once how it is cut; the fields are atomic so that it can, and cost what plain ones
/// would.
#[derive(Debug)]
pub struct Space {
    /// The first `count` are in use. The others have no addresses.
    pub arenas: [Arena; MOST_ARENAS],
    /// How many there are.
    pub count: AtomicU64,
    /// Arenas are 2^this bytes long.
    pub shift: AtomicU64,
    /// Pages of one arena that may wait for the purge.
    pub limit: AtomicU64,
}

impl Space {
    /// Opens `range` for `cpus` CPUs: for each of them one arena, the first of which may lack its
    /// beginning.
    ///
    /// # Errors
    /// [`InsertError`].
    pub fn open(&self, range: PageRange, cpus: usize) -> Result<(), InsertError> {
        let count = cpus
            .clamp(1, MOST_ARENAS)
            .next_power_of_two()
            .min(MOST_ARENAS);
        // The smallest power of two that takes the last address to the last arena.
        let last = range.last_byte() - BASE;
        let shift = (64 - last.leading_zeros()) - count.ilog2();
        self.shift.store(u64::from(shift), Ordering::Relaxed);
        self.count.store(count as u64, Ordering::Relaxed);
        // As many pages in all as in Linux, fls(CPUs) * 32 MiB, in equal shares: an arena is over
        // its share before all of them are over the whole, and no counter is every CPU's.
        let in_all = LAZY_UNIT * u64::from(64 - (cpus as u64).leading_zeros());
        self.limit.store(in_all >> count.ilog2(), Ordering::Relaxed);
        for (index, arena) in self.arenas().iter().enumerate() {
            let start = (BASE + ((index as u64) << shift)).max(range.start());
            let end = BASE.as_u64() + ((index as u64 + 1) << shift);
            let end = end.min(range.last_byte().as_u64() + 1);
            if let Some(part) = PageRange::covering(start, end - start.as_u64()) {
                arena.ranges.lock().free.add(part)?;
            }
        }
        Ok(())
    }

    /// The arenas in use.
    #[inline]
    pub fn arenas(&self) -> &[Arena] {
        &self.arenas[..self.count.load(Ordering::Relaxed) as usize]
    }

    /// The number of the arena of an address; too large for one outside of the space.
    #[inline]
    fn index_of(&self, va: VirtAddr) -> usize {
        let offset = va.as_u64().wrapping_sub(BASE.as_u64());
        (offset >> self.shift.load(Ordering::Relaxed)) as usize
    }

    /// The arena of an address; `None` for one outside of the space.
    #[inline]
    pub fn arena_of(&self, va: VirtAddr) -> Option<&Arena> {
        self.arenas.get(self.index_of(va))
    }

    /// The arena of an address that was taken from one.
    #[inline]
    pub fn home_of(&self, start: VirtAddr) -> &Arena {
        self.arena_of(start).expect("it was taken from one")
    }

    /// The arena at `start` as one that is to be purged, if `waiting` pages are too many.
    #[inline(always)]
    fn full_if(&self, waiting: u64, start: VirtAddr) -> Option<FullArena> {
        (waiting > self.limit.load(Ordering::Relaxed)).then(|| FullArena(self.index_of(start)))
    }

    /// The arena that an area was taken from.
    #[inline]
    fn home(&self, area: &VmapArea) -> &Arena {
        self.home_of(area.start())
    }

    /// Takes addresses from the arena of a CPU ([`FreeAreas::take`]), and has them in use: before
    /// anything is mapped there, as in Linux, so that one lock is enough. Nobody has been told the
    /// address yet. `frames`, which the area owns, are left with it, and none to the caller.
    ///
    /// # Errors
    /// [`TakeError`]; `frames` are as they were.
    #[inline(always)]
    pub fn take(
        &self,
        cpu: usize,
        pages: u64,
        align: u64,
        info: AreaInfo,
        frames: &mut PageList,
    ) -> Result<VirtAddr, TakeError> {
        let arena = self.arenas.get(cpu).ok_or(TakeError::Invalid)?;
        let mut ranges = arena.ranges.lock();
        let lead = info.kind.most_lead();
        let mut area = ranges.free.take_with_lead(pages, align, lead)?;
        area.set_info(info);
        area.set_frames(mem::take(frames));
        let start = area.start();
        ranges.busy.insert(area);
        Ok(start)
    }

    /// Takes addresses from whichever arena has them, that of `cpu` first.
    ///
    /// # Errors
    /// [`TakeError::NoSpace`] where none has; the first other error.
    #[cold]
    pub fn take_from_any(
        &self,
        cpu: usize,
        pages: u64,
        align: u64,
        info: AreaInfo,
        frames: &mut PageList,
    ) -> Result<VirtAddr, TakeError> {
        let count = self.arenas().len();
        (cpu..cpu + count)
            .map(|index| self.take(index & (count - 1), pages, align, info, frames))
            .find(|taken| !matches!(taken, Err(TakeError::NoSpace)))
            .unwrap_or(Err(TakeError::NoSpace))
    }

    /// Takes the area that starts at `start` out of use, if `right` says so of its kind. The arena
    /// is the one in which it is to wait for the purge.
    #[inline(always)]
    pub fn remove(
        &self,
        start: VirtAddr,
        right: impl FnOnce(AreaKind) -> bool,
    ) -> Option<(OwnedArea, &Arena)> {
        let arena = self.arena_of(start)?;
        let area = arena.ranges.lock().busy.remove_if(start, right)?;
        Some((area, arena))
    }

    /// Has an unmapped area of the arena `home`, which starts at `start`, wait for the purge, with what
    /// its alignment passed over. Says of which arena it is time for one.
    #[inline]
    #[must_use = "areas beyond the limit are to be purged"]
    pub fn wait_for_purge(
        &self,
        area: OwnedArea,
        start: VirtAddr,
        home: &Arena,
    ) -> Option<FullArena> {
        // Only now: it has been unmapped, and what lies before it never was mapped.
        let waiting = home.lazy.push(area.with_lead());
        self.full_if(waiting, start)
    }

    /// Gives out pages for `vm_map_ram` from the block of a CPU; `None` where that takes a new one.
    #[inline(always)]
    pub fn take_slots(&self, cpu: usize, pages: u16) -> Option<VirtAddr> {
        self.arenas.get(cpu)?.ranges.lock().blocks.take(pages)
    }

    /// Makes the area that starts at `start` the block of the arena that it is from, with its first
    /// pages given out. Says of which arena it is time for a purge.
    pub fn add_block(&self, start: VirtAddr, pages: u16) -> Option<FullArena> {
        let arena = self.home_of(start);
        let through = {
            let mut ranges = arena.ranges.lock();
            let Ranges { busy, blocks, .. } = &mut *ranges;
            blocks.renew(busy, start, pages)
        };
        through.then(|| self.count_block(start)).flatten()
    }

    /// Whether a range lies in a block, among the pages that are given out.
    #[inline]
    pub fn is_of_block(&self, range: PageRange) -> bool {
        self.arena_of(range.start()).is_some_and(|arena| {
            let ranges = arena.ranges.lock();
            ranges.blocks.holds(&ranges.busy, range)
        })
    }

    /// Takes back one page of a block, which `unmap` unmaps: [`Blocks::give_back_single`]. To have it
    /// unmapped under the lock saves taking it twice, once for whether it is to be unmapped at all.
    #[inline(always)]
    pub fn give_back_single(&self, start: VirtAddr, unmap: impl FnOnce() -> bool) -> bool {
        let Some(arena) = self.arena_of(start) else {
            return false;
        };
        let mut ranges = arena.ranges.lock();
        ranges.blocks.give_back_single(start, unmap)
    }

    /// Takes back pages of a block that have been unmapped, `dirty` of which were mapped. Says of which
    /// arena it is time for a purge.
    #[inline]
    pub fn give_back_slots(&self, range: PageRange, dirty: u16) -> Option<FullArena> {
        let arena = self.arena_of(range.start())?;
        let through = {
            let mut ranges = arena.ranges.lock();
            let Ranges { busy, blocks, .. } = &mut *ranges;
            blocks.give_back(busy, range, dirty)
        };
        through.then(|| self.count_block(range.start())).flatten()
    }

    /// Counts a block of the arena at `start` that waits for the purge from now on.
    #[cold]
    #[inline(never)]
    fn count_block(&self, start: VirtAddr) -> Option<FullArena> {
        let pages = u64::from(BLOCK_PAGES);
        let arena = self.home_of(start);
        let waiting = arena.lazy.pages.fetch_add(pages, Ordering::Relaxed) + pages;
        self.full_if(waiting, start)
    }

    /// Whether nothing that the caller knows of waits for the purge.
    pub fn nothing_waits(&self) -> bool {
        self.arenas()
            .iter()
            .all(|arena| arena.lazy.is_empty() && !arena.ranges.lock().blocks.are_dirty())
    }

    /// Takes what waits for the purge, by arena: of all of them, or of the one that is full alone. With
    /// `join` neighbours become one area.
    pub fn take_waiting(&self, of: Option<FullArena>, join: bool) -> [Taken; MOST_ARENAS] {
        let mut taken = [const {
            Taken {
                areas: Chain::new(),
                pages: 0,
                spare: Spare::NONE,
                dirty: DirtyBlocks::NONE,
            }
        }; MOST_ARENAS];
        for (index, (arena, taken)) in self.arenas().iter().zip(&mut taken).enumerate() {
            if of.is_some_and(|FullArena(of)| of != index) {
                continue;
            }
            taken.areas = arena.lazy.take_uncounted();
            if join {
                taken.spare = taken.areas.join_neighbours();
            }
            taken.pages = arena.lazy.count_out(&taken.areas);
            let (dirty, through) = {
                let mut ranges = arena.ranges.lock();
                let Ranges { busy, blocks, .. } = &mut *ranges;
                blocks.take_dirty(busy, &mut taken.areas)
            };
            taken.dirty = dirty;
            if through > 0 {
                let pages = through * u64::from(BLOCK_PAGES);
                arena.lazy.pages.fetch_sub(pages, Ordering::Relaxed);
                taken.pages += pages;
            }
        }
        taken
    }

    /// Takes back the blocks of a purge whose flush is complete, and the records that stand for
    /// nothing.
    pub fn flushed(&self, taken: &mut [Taken; MOST_ARENAS]) {
        for (arena, taken) in self.arenas.iter().zip(taken) {
            let spare = mem::replace(&mut taken.spare, Spare::NONE);
            let dirty = mem::replace(&mut taken.dirty, DirtyBlocks::NONE);
            if !spare.is_empty() || !dirty.is_empty() {
                let mut ranges = arena.ranges.lock();
                ranges.free.take_back(spare);
                ranges.blocks.flushed(dirty);
            }
        }
    }

    /// Makes the addresses of areas free that no TLB knows.
    pub fn release(&self, areas: &mut Chain) {
        /// Areas that are given back before somebody else may have the lock.
        const BATCH: usize = 32;
        while let Some(area) = areas.pop() {
            let arena = self.home(&area);
            let mut ranges = arena.ranges.lock();
            ranges.free.insert(area);
            for _ in 1..BATCH {
                let Some(area) = areas.pop() else { break };
                debug_assert!(ptr::eq(self.home(&area), arena), "a chain is of one arena");
                ranges.free.insert(area);
            }
        }
    }

    /// Adds to an area what is free around it, as far as multiples of `span` bytes. Nobody else can
    /// have it then.
    pub fn claim_around(&self, area: &mut OwnedArea, span: u64) {
        self.home(area).ranges.lock().free.claim_around(area, span);
    }
}

/// Where the first arena begins if it is whole: the space may lack some GiB of it.
pub const BASE: VirtAddr = IMAGE.start();
