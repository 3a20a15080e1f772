//! How much there can be of each thing that random operation has in its hands.

use crate::arch::cpu::MAX_CPUS;

/// Tasks.
pub(super) const MAX_TASKS: usize = MAX_CPUS;
/// Areas of a task.
pub(super) const AREAS: usize = 32;
/// Mappings of a task, of pages that it has at other addresses already.
pub(super) const MAPPINGS: usize = 12;
/// Places where tasks hand things over.
pub(super) const PLACES: usize = 12;
