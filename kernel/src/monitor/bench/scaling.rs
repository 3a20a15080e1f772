//! `scaling`: the same work on one CPU and on several at the same time.
//!
//! The one case that measures time, which only says something as a ratio of two runs side by side:
//! `make bench CASE=scaling` makes them, with separate machines as the measure of what the host has to
//! give.

use super::parameters::{Parameter, Values, parameter};
use crate::{
    arch::{cpu, time},
    mm::{
        debug_pagealloc, kasan, lazy, stack,
        vmalloc::{vfree, vmalloc},
    },
    monitor::command::{Failed, refuse},
    println,
    task::{Handle, lock},
};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use vmsa::PAGE_SIZE;

/// Of `scaling`: `loops` is the number of pairs of each worker.
pub(super) const THREADS: &[Parameter] = &[
    parameter("threads", 1, 1, 8),
    parameter("loops", 100_000, 1, 10_000_000),
];

/// Workers that are ready to begin.
static READY: AtomicUsize = AtomicUsize::new(0);
/// Pairs of each worker; 0 while they are to wait, [`STOP`] where not all of them could be started.
static GO: AtomicU64 = AtomicU64::new(0);
const STOP: u64 = u64::MAX;

/// What went wrong in a worker, as what it returns in place of its time.
const FAILED: usize = usize::MAX;

/// A pair: a page of vmalloc.
fn pair() -> bool {
    vmalloc(PAGE_SIZE).is_ok_and(|area| vfree(area).is_ok())
}

/// A worker: warms up, waits for the others, does its pairs, and returns the ticks that they took.
fn work(_: usize) -> usize {
    let mut good = (0..WARM_UP).all(|_| pair());
    READY.fetch_add(1, Ordering::Release);
    let pairs = loop {
        match GO.load(Ordering::Acquire) {
            0 => core::hint::spin_loop(),
            STOP => return FAILED,
            pairs => break pairs,
        }
    };
    let begin = time::now();
    good &= (0..pairs).all(|_| pair());
    let ticks = time::now() - begin;
    if good { ticks as usize } else { FAILED }
}

/// Pairs before those that are measured: tables are there, QEMU has translated what is executed.
const WARM_UP: u64 = 10_000;

/// `scaling threads=N loops=N`.
pub(super) fn scaling(values: &Values) -> Result<(), Failed> {
    let (threads, pairs) = (values.get("threads") as usize, values.get("loops"));
    if threads > cpu::count() {
        return refuse!(
            "threads={threads} is more than there are CPUs; known: 1 to {}",
            cpu::count()
        );
    }
    READY.store(0, Ordering::Relaxed);
    GO.store(0, Ordering::Relaxed);
    let mut workers: Vec<Handle> = Vec::with_capacity(threads);
    let mut refused = None;
    // The last CPU first: this task is on the first one, and is in nobody's way when it waits.
    for cpu in (0..threads).rev() {
        match stack::spawn_on(cpu, "bench", work, 0) {
            Ok(worker) => workers.push(worker),
            Err(error) => refused = Some(error),
        }
    }
    while READY.load(Ordering::Acquire) < workers.len() {
        crate::task::yield_now();
    }
    let contended = lock::contentions();
    GO.store(
        if refused.is_some() { STOP } else { pairs },
        Ordering::Release,
    );
    let ticks: Vec<usize> = workers.into_iter().map(Handle::join).collect();
    let contended = lock::contentions() - contended;
    if let Some(error) = refused {
        return refuse!("bench scaling: no worker: {error}");
    }
    if ticks.contains(&FAILED) {
        return refuse!("bench scaling: a worker had no memory");
    }
    // The slowest: until then the work was not done.
    let longest = ticks.into_iter().max().unwrap_or(0) as u64;
    let nanoseconds = u128::from(longest) * 1_000_000_000 / u128::from(time::frequency());
    println!(
        "{{\"case\":\"scaling\",\"threads\":{threads},\"kernel\":\"lull\",\"memory\":\"{}\",\
         \"debug_pagealloc\":{},\"kasan\":{},\"backend\":\"{}\",\"pairs\":{pairs},\
         \"ns\":{nanoseconds},\"contended\":{contended}}}",
        values.memory.name(),
        debug_pagealloc::is_on(),
        kasan::is_on(),
        lazy::backend(),
    );
    Ok(())
}
