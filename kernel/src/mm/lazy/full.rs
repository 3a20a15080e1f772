//! How often a queue of stores was full before its section ended.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

static QUEUE_FULL: AtomicU64 = AtomicU64::new(0);

/// Counts one.
pub(super) fn count_full() {
    QUEUE_FULL.fetch_add(1, Relaxed);
}

/// How often a queue was full before its section ended.
pub fn queue_full_count() -> u64 {
    QUEUE_FULL.load(Relaxed)
}
