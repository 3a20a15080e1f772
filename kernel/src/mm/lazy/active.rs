//! Whether the running task puts anything off, here and now.

use super::config::model;
use crate::{
    bug::{Bug, planted},
    task::{self, Task},
};
use lazy_mmu::Model;

/// Whether barriers are being put off.
#[inline]
pub fn is_active() -> bool {
    let task = task::current();
    let in_interrupt = task.in_interrupt() && !planted(Bug::EnableInIrq);
    task.lazy_mmu_state.get().is_active(model(), in_interrupt)
}

/// Whether barriers are being put off by `task`, which is the running one, where nothing is
/// [unusual](crate::unusual): the model is the default.
#[inline(always)]
pub(super) fn is_active_by_default(task: &Task) -> bool {
    let state = task.lazy_mmu_state.get();
    state.is_active(Model::TwoCounters, task.in_interrupt())
}
