//! Where a section began in which its task must not sleep.

use crate::arch::backtrace::Frame;
use core::panic::Location;

/// A place in the source, and the frame of the function that it is in: while that function has not
/// returned, whoever called it can be told from there. Both cost little more than their store, so that
/// every spin lock can afford them; a list of callers would be walked for nothing nearly always.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The call that began it.
    pub location: &'static Location<'static>,
    /// The function that made the call.
    pub frame: Frame,
}
