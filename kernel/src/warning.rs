//! Warnings: something that should not happen did, and the kernel goes on.
//!
//! Every firing is counted, as `WARN_ON` counts for whoever reads the log: scenes compare the count
//! with what their model is expected to say. The first few are printed.

use core::sync::atomic::{AtomicUsize, Ordering};

static FIRED: AtomicUsize = AtomicUsize::new(0);
/// Warnings that may still be printed.
static TO_PRINT: AtomicUsize = AtomicUsize::new(BURST);

/// How many warnings are printed in full between two calls of [`print_again`].
const BURST: usize = 6;

/// How many warnings fired since reset.
pub fn count() -> usize {
    FIRED.load(Ordering::Relaxed)
}

/// Prints warnings again, where the rate limit had stopped that: a new scene or test begins.
pub fn print_again() {
    TO_PRINT.store(BURST, Ordering::Relaxed);
}

/// Prints no warnings until [`print_again`]: whoever calls it shows their number.
pub fn print_no_more() {
    TO_PRINT.store(0, Ordering::Relaxed);
}

/// Counts a warning, and prints it while it is one of the first. [`warning!`](crate::warning!) is
/// the way to call it.
pub fn fire(message: core::fmt::Arguments<'_>) {
    FIRED.fetch_add(1, Ordering::Relaxed);
    let left = TO_PRINT.load(Ordering::Relaxed);
    TO_PRINT.store(left.saturating_sub(1), Ordering::Relaxed);
    match left {
        0 => {}
        1 => log::warn!("{message} (further warnings are counted and not printed)"),
        _ => log::warn!("{message}"),
    }
}

/// Fires a warning with a formatted message.
#[macro_export]
macro_rules! warning {
    ($($message:tt)+) => { $crate::warning::fire(format_args!($($message)+)) };
}
