//! One lock around every lazy section, against none: who waits for whom.
//!
//! The patch of the thread took `init_mm.page_table_lock` around each section, so that nobody is
//! preempted inside. Sections of disjoint addresses have nothing to do with each other, yet with the
//! lock they wait for each other: first one at a time, to see it; then with all CPUs at work.

use super::{Trouble, ensure, failed};
use crate::{
    arch::{cpu, time},
    mm::{
        lazy::{self, PageTableLock},
        stack::spawn_on,
        vmalloc,
    },
    println, task,
};
use alloc::vec::Vec;
use core::{
    fmt,
    sync::atomic::{
        AtomicBool, AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    },
};

/// Areas that a worker makes and frees.
const OPERATIONS: usize = 200;
/// Seconds after which a CPU that was to do something is given up.
const PATIENCE: u64 = 20;

/// Workers that are ready.
static READY: AtomicUsize = AtomicUsize::new(0);
/// They may begin.
static GO: AtomicBool = AtomicBool::new(false);
/// Areas that were made and freed.
static DONE: AtomicUsize = AtomicUsize::new(0);

/// Makes and frees areas of a page. How many it could not make.
fn worker(_: usize) -> usize {
    READY.fetch_add(1, Relaxed);
    while !GO.load(Acquire) {
        task::yield_now();
    }
    let one = |_: &usize| {
        let area = vmalloc::vmalloc(vmsa::PAGE_SIZE);
        let made = area.is_ok_and(|area| vmalloc::vfree(area).is_ok());
        DONE.fetch_add(usize::from(made), Release);
        !made
    };
    (0..OPERATIONS).filter(one).count()
}

/// A worker on each of `cpus`, ready and waiting to be let go.
fn workers(cpus: impl Iterator<Item = usize>) -> Result<Vec<task::Handle>, Trouble> {
    READY.store(0, Relaxed);
    GO.store(false, Relaxed);
    DONE.store(0, Relaxed);
    let mut all = Vec::new();
    for cpu in cpus {
        match spawn_on(cpu, "worker", worker, 0) {
            Ok(worker) => all.push(worker),
            Err(error) => {
                GO.store(true, Release);
                all.into_iter().for_each(|worker| {
                    worker.join();
                });
                return Err(failed(error));
            }
        }
    }
    while READY.load(Relaxed) < all.len() {
        task::yield_now();
    }
    Ok(all)
}

pub(super) fn run() -> Result<(), Trouble> {
    let before = lazy::page_table_lock();
    task::migrate_to(0).map_err(failed)?;
    let result = [PageTableLock::None, PageTableLock::Global]
        .into_iter()
        .try_for_each(|lock| {
            choose(lock)?;
            match cpu::others().next() {
                Some(there) => beside_an_open_section(lock, there),
                None => Ok(()),
            }
        })
        .and_then(|()| all_at_work());
    task::unpin();
    choose(before).and(result)
}

fn choose(lock: PageTableLock) -> Result<(), Trouble> {
    lazy::choose_page_table_lock(lock).map_err(|lazy::Busy| failed("a section is open"))
}

/// One CPU has a section open; another one makes areas that have nothing to do with it.
fn beside_an_open_section(lock: PageTableLock, there: usize) -> Result<(), Trouble> {
    let worker = workers([there].into_iter())?;
    let waits = lazy::page_table_lock_contended();
    let section = lazy::section();
    GO.store(true, Release);
    // It gets done, or it has come to wait: whichever is sooner.
    let come =
        comes(|| DONE.load(Acquire) == OPERATIONS || lazy::page_table_lock_contended() > waits);
    let done = DONE.load(Acquire);
    drop(section);
    let missing: usize = worker.into_iter().map(task::Handle::join).sum();
    let waits = lazy::page_table_lock_contended() - waits;
    println!(
        "PTLOCK={:7} while a section is open on CPU 0, CPU {there} makes and frees {done} of {OPERATIONS} areas{}",
        lock.name(),
        if waits == 0 { "" } else { ", and waits" }
    );
    let expected = match lock {
        PageTableLock::Global => 0,
        PageTableLock::None | PageTableLock::Preempt => OPERATIONS,
    };
    ensure!(come, "CPU {there} neither got done nor waited");
    ensure!(
        done == expected,
        "{lock}: {done} areas beside an open section, expected {expected}"
    );
    ensure!(
        (waits > 0) == (lock == PageTableLock::Global),
        "{lock}: the lock was waited for {waits} times"
    );
    ensure!(
        missing == 0 && DONE.load(Acquire) == OPERATIONS,
        "{missing} areas could not be made"
    );
    Ok(())
}

/// What all CPUs together did, in ticks of the clock.
struct Work {
    elapsed: u64,
    waits: u64,
    waited: u64,
}

/// Every CPU makes and frees areas, first without the lock and then with it.
fn all_at_work() -> Result<(), Trouble> {
    let cpus = cpu::count();
    let plural = if cpus == 1 { "" } else { "s" };
    println!("{cpus} worker{plural} at the same time, {OPERATIONS} areas each:");
    println!("PTLOCK   areas    waits   share of time waiting   areas a ms");
    let mut rates = [0, 0];
    for (lock, rate) in [PageTableLock::None, PageTableLock::Global]
        .into_iter()
        .zip(&mut rates)
    {
        choose(lock)?;
        let work = at_work(lock)?;
        let areas = cpus * OPERATIONS;
        let share = Percent(work.waited, work.elapsed * cpus as u64);
        *rate = areas as u64 * time::frequency() / work.elapsed.max(1);
        println!(
            "{:7} {areas:6} {:8}   {share:>21}   {:10}",
            lock.name(),
            work.waits,
            *rate / 1000
        );
    }
    println!(
        "With the lock they do {} of what they do without it. That depends on the host: `make bench CASE=scaling` judges it.",
        Percent(rates[1], rates[0])
    );
    Ok(())
}

fn at_work(lock: PageTableLock) -> Result<Work, Trouble> {
    let cpus = cpu::count();
    let all = workers(0..cpus)?;
    let (waits, waited) = (
        lazy::page_table_lock_contended(),
        lazy::page_table_lock_waited(),
    );
    let begin = time::now();
    GO.store(true, Release);
    let missing: usize = all.into_iter().map(task::Handle::join).sum();
    let work = Work {
        elapsed: time::now() - begin,
        waits: lazy::page_table_lock_contended() - waits,
        waited: lazy::page_table_lock_waited() - waited,
    };
    ensure!(
        missing == 0 && DONE.load(Acquire) == cpus * OPERATIONS,
        "{missing} areas could not be made"
    );
    ensure!(
        work.waits == 0 || (cpus > 1 && lock == PageTableLock::Global),
        "{lock}, {cpus} CPUs: the lock was waited for {} times",
        work.waits
    );
    Ok(work)
}

/// A part of a whole, in percent.
struct Percent(u64, u64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0 * 1000 / self.1.max(1);
        f.pad(&alloc::format!("{}.{} %", tenths / 10, tenths % 10))
    }
}

/// Whether a condition comes to hold while the caller waits for it.
fn comes(condition: impl Fn() -> bool) -> bool {
    let limit = time::now() + PATIENCE * time::frequency();
    while !condition() {
        if time::now() > limit {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}
