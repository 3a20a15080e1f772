//! Whether the running task puts anything off, here and now.

use super::config::model;
use crate::task;

/// Whether barriers are being put off.
#[inline]
pub fn is_active() -> bool {
    let task = task::current();
    task.lazy_mmu_state
        .get()
        .is_active(model(), task.in_interrupt())
}
