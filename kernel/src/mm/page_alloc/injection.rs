//! Failures for tests: the allocations that are still to come before one fails. Those of one task
//! alone count; what others allocate, and handlers that come in between, is not its business.

use super::{error::OutOfMemory, hooks::hooks, memory};
use crate::task;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// 0: off. Otherwise one more than the number of calls that still succeed.
static COUNTDOWN: AtomicU64 = AtomicU64::new(0);
/// One more than the number of the task whose calls they are; 0: nobody's.
static TASK: AtomicU32 = AtomicU32::new(0);

/// Lets `calls` allocations of the running task pass and fails the one after them; `None` stops
/// that. Nothing changes, and the answer is `false`, while another task waits for its own.
pub fn fail_after(calls: Option<u64>) -> bool {
    let me = task::current().id + 1;
    if let Err(other) = TASK.compare_exchange(0, me, Ordering::Relaxed, Ordering::Relaxed)
        && other != me
    {
        return false;
    }
    COUNTDOWN.store(calls.map_or(0, |n| n + 1), Ordering::Relaxed);
    memory::allow_short_ways(is_plain());
    if calls.is_none() {
        TASK.store(0, Ordering::Relaxed);
    }
    true
}

/// Whether a call for a page or a list has nothing to do beyond handing it over.
fn is_plain() -> bool {
    hooks().is_none() && !armed()
}

/// Whether this call is one of those that count.
#[cold]
fn is_meant() -> bool {
    let task = task::current();
    TASK.load(Ordering::Relaxed) == task.id + 1 && !task.in_interrupt()
}

/// Whether a failure is still to come.
pub fn armed() -> bool {
    COUNTDOWN.load(Ordering::Relaxed) != 0
}

#[inline]
pub(super) fn injected_failure() -> Result<(), OutOfMemory> {
    match COUNTDOWN.load(Ordering::Relaxed) {
        0 => Ok(()),
        _ if !is_meant() => Ok(()),
        n => {
            COUNTDOWN.store(n - 1, Ordering::Relaxed);
            if n == 1 { Err(OutOfMemory) } else { Ok(()) }
        }
    }
}
