//! Whether the running task puts anything off, here and now.

use super::config::model;
use crate::{
    bug::{Bug, planted},
    task,
};

/// Whether barriers are being put off.
#[inline]
pub fn is_active() -> bool {
    let task = task::current();
    let in_interrupt = task.in_interrupt() && !planted(Bug::EnableInIrq);
    task.lazy_mmu_state.get().is_active(model(), in_interrupt)
}
