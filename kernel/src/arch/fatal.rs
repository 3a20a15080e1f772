//! What ends the machine with a report, where an exception leaves nothing to go on with.

use super::{exit, frame::ExceptionFrame, semihosting::DebugChannel};
use core::fmt::Write;
use spin::Once;

static FATAL: Once<fn(&ExceptionFrame) -> !> = Once::new();

/// Installs what is called with an exception that nothing can be done about. The first stays.
pub fn set(handler: fn(&ExceptionFrame) -> !) {
    FATAL.call_once(|| handler);
}

/// Ends the machine with a report.
pub(super) fn fatal(frame: &ExceptionFrame) -> ! {
    if let Some(handler) = FATAL.get() {
        handler(frame);
    }
    // Bring-up has not come to the report yet.
    let _ = writeln!(DebugChannel, "exception before bring-up: {frame}");
    exit::failure()
}
