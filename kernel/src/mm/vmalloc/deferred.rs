//! `vfree` in interrupt context: a task does it.
//!
//! The handler takes the area out of use, so that it can't be freed twice, and chains it by its record:
//! that allocates nothing and waits for nobody. Taking it down means to free pages, and may mean a purge
//! and the shadow, whose locks the task that was interrupted may hold. (Linux: `vfree_atomic()`, with
//! one list a CPU; one that takes no lock is enough here.)

use super::{area::OwnedArea, space::Waiting};
use crate::{
    arch::lock::{acquired, releases},
    task::wait::WaitQueue,
};
use core::{
    ptr,
    sync::atomic::{AtomicPtr, AtomicU64, Ordering},
};

/// Out of use, still mapped.
static AREAS: Waiting = Waiting {
    first: AtomicPtr::new(ptr::null_mut()),
    pages: AtomicU64::new(0),
};
/// Where the task sleeps that takes them down.
static WORKER: WaitQueue = WaitQueue::new();
/// Where those sleep who wait for it.
static WAITERS: WaitQueue = WaitQueue::new();
/// Areas that were ever put off, and how many of them have been taken down.
static DEFERRED: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);

/// Leaves an area to the task. For interrupt context.
pub(super) fn defer(area: OwnedArea) {
    DEFERRED.fetch_add(1, Ordering::Relaxed);
    AREAS.push(area);
    WORKER.wake_one();
}

/// Sleeps until there is something to take down, and does so, for ever.
pub(super) fn free_all(take_down: impl Fn(OwnedArea)) -> ! {
    loop {
        WORKER.wait_until(|| AREAS.pages() > 0);
        let mut areas = AREAS.take_all();
        while let Some(area) = areas.pop() {
            take_down(area);
            releases(&DONE);
            DONE.fetch_add(1, Ordering::Release);
        }
        WAITERS.wake_all();
    }
}

/// Waits until every area is free that was freed in interrupt context before the call.
#[track_caller]
pub fn wait_for_deferred() {
    let until = DEFERRED.load(Ordering::Relaxed);
    WAITERS.wait_until(|| DONE.load(Ordering::Acquire) >= until);
    acquired(&DONE);
}

/// How many areas have been freed in interrupt context, and how many of those are still to be taken
/// down.
pub fn deferred() -> (u64, u64) {
    let done = DONE.load(Ordering::Relaxed);
    let all = DEFERRED.load(Ordering::Relaxed);
    (all, all - done)
}
