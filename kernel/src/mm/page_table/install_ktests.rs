//! Kernel tests of links made by several tasks at once: each page is mapped, no table is lost, and
//! none is made twice.

use super::PageTable;
use crate::{
    arch::{
        cpu,
        fixup::{probe_read_u64, probe_write_u64},
    },
    check, check_eq, kernel_test,
    ktest::{Failure, TestResult},
    mm::{
        linear_map::{self, Linear},
        page_alloc,
        page_table::Error,
        stack::{spawn, spawn_on},
        testing::{fresh_region, is_page, leaf_at, must, trouble},
        tlb::{Removed, flush_kernel_range},
    },
    task::{
        WaitQueue, migrate_to,
        points::{self, Action},
        schedule, unpin,
    },
};
use core::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use vmsa::{Attributes, Descriptor, Frame, Level, PAGE_SIZE, PageRange, VirtAddr};

/// What every page of these tests is mapped to: the number of a frame.
static FRAME: AtomicU64 = AtomicU64::new(0);
/// Turns that the mappers may take, and those that they have taken, all together.
static TURNS: AtomicUsize = AtomicUsize::new(0);
static TAKEN: AtomicUsize = AtomicUsize::new(0);
static RELEASED: WaitQueue = WaitQueue::new();
static TAKEN_ALL: WaitQueue = WaitQueue::new();
/// Where the first turn maps; each further one does it 1 GiB on, where two tables are missing.
static START: AtomicU64 = AtomicU64::new(0);

/// Maps one page, with whatever tables that takes.
fn map_page(va: VirtAddr) -> Result<(), Error> {
    let range = PageRange::new(va, 1).ok_or(Error::Misaligned(va))?;
    let frame = Frame::from_number(FRAME.load(Relaxed)).ok_or(Error::NotMapped(va))?;
    let new = Descriptor::leaf(Level::L3, frame.start(), Attributes::KERNEL_DATA);
    linear_map::kernel().apply_to_page_range(range, |leaf| {
        leaf.set(leaf.get(), new.ok_or(Error::Misaligned(va))?);
        Ok(())
    })
}

/// The tables below the root that lead to `range`.
fn tables(kernel: &PageTable<Linear>, range: PageRange) -> usize {
    let mut tables = 0;
    kernel.visit_tables(range, &mut |_, _, _, below| {
        tables += usize::from(below.is_some());
        true
    });
    tables
}

fn turn(n: usize) -> VirtAddr {
    VirtAddr::literal(START.load(Relaxed)) + n as u64 * Level::L1.bytes()
}

/// Maps page `number` of the addresses of each turn, and uses it. How many turns failed.
fn mapper(number: usize) -> usize {
    let mut failed = 0;
    for n in 0.. {
        RELEASED.wait_until(|| TURNS.load(Acquire) > n);
        if TURNS.load(Acquire) == usize::MAX {
            return failed;
        }
        let va = turn(n) + number as u64 * PAGE_SIZE;
        let used = map_page(va).is_ok()
            // SAFETY: the page is this task's, and its frame is written by these tests alone.
            && unsafe { probe_write_u64(va + 8 * number as u64, n as u64) }.is_ok()
            && probe_read_u64(va + 8 * number as u64) == Ok(n as u64);
        failed += usize::from(!used);
        TAKEN.fetch_add(1, Release);
        TAKEN_ALL.wake_all();
    }
    failed
}

/// The mappers, and the frame that they map. However a test ends, they end with it.
struct Mappers {
    handles: [Option<crate::task::Handle>; cpu::MAX_CPUS],
    count: usize,
    frame: Frame,
}

impl Mappers {
    /// Starts a mapper of page `i + first` on each of `cpus`.
    fn start(first: usize, cpus: impl IntoIterator<Item = usize>) -> Result<Self, Failure> {
        let frame = must!(page_alloc::allocate(0));
        FRAME.store(frame.number(), Relaxed);
        START.store(fresh_region().as_u64(), Relaxed);
        TURNS.store(0, Relaxed);
        TAKEN.store(0, Relaxed);
        // Only then is CPU 0 one that others can be pinned to.
        must!(spawn("warm up", |_| 0, 0)).join();
        let mut mappers = Self {
            handles: [const { None }; cpu::MAX_CPUS],
            count: 0,
            frame,
        };
        for (cpu, slot) in cpus.into_iter().zip(0..cpu::MAX_CPUS) {
            let handle = must!(spawn_on(cpu, "mapper", mapper, first + slot));
            mappers.handles[slot] = Some(handle);
            mappers.count += 1;
        }
        Ok(mappers)
    }

    /// Lets them take turn `n`.
    fn release(&self, n: usize) {
        TURNS.store(n + 1, Release);
        RELEASED.wake_all();
    }

    /// Waits until all have taken `turns` turns.
    fn wait(&self, turns: usize) {
        TAKEN_ALL.wait_until(|| TAKEN.load(Acquire) >= turns * self.count);
    }

    /// Unmaps the pages of turn `n`.
    fn unmap(&self, n: usize) -> TestResult {
        let range = must!(PageRange::new(turn(n), 16).ok_or("no such range"));
        must!(
            linear_map::kernel().apply_to_existing_page_range(range, |leaf| {
                leaf.take();
                Ok(())
            })
        );
        flush_kernel_range(range, Removed::Leaves);
        Ok(())
    }

    /// Ends them; how many turns failed.
    fn end(mut self) -> usize {
        self.stop()
    }

    fn stop(&mut self) -> usize {
        TURNS.store(usize::MAX, Release);
        RELEASED.wake_all();
        let handles = self.handles.iter_mut().filter_map(Option::take);
        handles.map(crate::task::Handle::join).sum()
    }
}

impl Drop for Mappers {
    fn drop(&mut self) {
        self.stop();
        // Whoever failed may have left it mapped: then it is lost.
        if !is_page(leaf_at(turn(0))) {
            let _ = page_alloc::free(self.frame, 0);
        }
    }
}

/// Pins the test to CPU 0, where the clock preempts nobody, until it is dropped.
struct Untimed(#[expect(dead_code, reason = "held")] schedule::NoSlices);

impl Untimed {
    fn start() -> Result<Self, Failure> {
        must!(migrate_to(0));
        Ok(Self(schedule::no_slices()))
    }
}

impl Drop for Untimed {
    fn drop(&mut self) {
        unpin();
    }
}

/// Maps a page where three tables are missing, and has a neighbour map the next page when this task
/// comes to point `n`. Whether it did, and at how many of the three this task was the slower one.
fn overtaken_at(n: usize, away: Option<usize>) -> Result<bool, Failure> {
    let mappers = Mappers::start(1, [0])?;
    let _here = Untimed::start()?;
    let free = page_alloc::stats().free;
    mappers.release(0);
    let action = away.map_or(Action::Preempt, Action::Migrate);
    let plan = points::plan(n, action).ok_or(trouble("another plan exists"))?;
    let mapped = map_page(turn(0));
    let done = plan.is_done();
    drop(plan);
    must!(migrate_to(0));
    mappers.wait(1);
    let used = free - page_alloc::stats().free;
    must!(mapped);
    for page in 0..2 {
        check!(is_page(leaf_at(turn(0) + page * PAGE_SIZE)));
    }
    let range = must!(PageRange::new(turn(0), 2).ok_or("no such range"));
    check_eq!((tables(&linear_map::kernel(), range), used), (3, 3));
    mappers.unmap(0)?;
    check_eq!(mappers.end(), 0);
    Ok(done)
}

/// Every place at which another task can be faster.
fn overtaken(away: Option<usize>) -> TestResult {
    let mut n = 0;
    while overtaken_at(n, away)? {
        n += 1;
    }
    // Before each of three links, and behind the leaf. DEBUG_PAGEALLOC adds some of its own.
    check!(n >= 4);
    Ok(())
}

kernel_test! { "page_table_install", overtaken_before_every_link, {
    overtaken(None)
} }

kernel_test! { "page_table_install", moved_before_every_link, {
    let other = (1..cpu::MAX_CPUS).find(|cpu| schedule::is_online(*cpu));
    other.map_or(Ok(()), |other| overtaken(Some(other)))
} }

kernel_test! { "page_table_install", neighbours_on_all_cpus, {
    const TURNS: usize = 32;
    // On one CPU too there are several, and the clock has them take turns.
    let cpus = (0..cpu::MAX_CPUS).filter(|cpu| *cpu == 0 || schedule::is_online(*cpu));
    let mappers = Mappers::start(0, cpus.cycle().take(cpu::count().max(3)))?;
    let free = page_alloc::stats().free;
    let mut expected = 1;
    for n in 0..TURNS {
        mappers.release(n);
        mappers.wait(n + 1);
        let mapped = (0..mappers.count).filter(|i| is_page(leaf_at(turn(n) + *i as u64 * PAGE_SIZE)));
        check_eq!(mapped.count(), mappers.count);
        // One below the root for all turns, and two more for each.
        expected += 2;
        check_eq!(free - page_alloc::stats().free, expected);
        mappers.unmap(n)?;
    }
    check_eq!(mappers.end(), 0);
    Ok(())
} }
