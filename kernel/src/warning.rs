//! Warnings: something that should not happen did, and the kernel goes on.
//!
//! Every firing is counted and printed, as `WARN_ON` prints it: scenes compare the count with what their model is
//! expected to say.

use core::sync::atomic::{AtomicUsize, Ordering};

static FIRED: AtomicUsize = AtomicUsize::new(0);

/// How many warnings fired since reset.
pub fn count() -> usize {
    FIRED.load(Ordering::Relaxed)
}

/// Counts a warning and prints it. [`warning!`](crate::warning!) is the way to call it.
pub fn fire(message: core::fmt::Arguments<'_>) {
    FIRED.fetch_add(1, Ordering::Relaxed);
    log::warn!("{message}");
}

/// Fires a warning with a formatted message.
#[macro_export]
macro_rules! warning {
    ($($message:tt)+) => { $crate::warning::fire(format_args!($($message)+)) };
}
