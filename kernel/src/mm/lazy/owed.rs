//! The barriers after a leaf was made valid: whether it needs them, and whether they come at once or
//! are owed.

use super::{
    active::is_active,
    config::{Backend, backend},
};
use crate::{
    arch::barrier,
    bug::{Bug, planted},
    task::{self, Task},
};
use vmsa::{Attributes, Descriptor};

/// Whether something must stand between the store of a leaf and its use on this CPU.
///
/// With FEAT_ETS2 nothing, for data: an access comes after the stores before it in the program, and
/// then so do the walks that it makes (`1-I2V-STRx-none`, without any barrier: Forbidden). Neither
/// the DSB nor the ISB is issued for such a leaf. An instruction fetch is no such access: a CPU may
/// have fetched ahead, found the leaf invalid, and hold on to that until it synchronises. The model
/// says nothing of fetches from fresh mappings, so what can be executed keeps both.
#[inline]
pub(super) fn needs_barriers(new: Descriptor, ets2: bool) -> bool {
    const DATA: Attributes = Attributes::PXN.union(Attributes::UXN);
    new.is_valid() && !(ets2 && new.attributes().contains(DATA))
}

/// The barriers after making a leaf valid: now, or at the end of the section.
#[inline]
pub(super) fn owe_barriers() {
    if backend() != Backend::Eager && is_active() {
        task::current().deferred.barriers.set(true);
    } else {
        emit_barriers();
    }
}

/// `DSB ISHST; ISB`: makes every entry stored before usable on this CPU.
#[inline]
pub(super) fn emit_barriers() {
    // The store must be complete before a walk can be sure to see it (`1-I2V-ISB`, without the DSB:
    // Allowed), and the CPU may have found the entry invalid ahead of time, a result that it may use
    // until it synchronises (`1-I2V-DSB.ISHST`, without the ISB: Allowed without FEAT_ETS2). In this
    // order.
    if !planted(Bug::NoDsb) && !planted(Bug::NoIsb) {
        return barrier::dsb_ishst_and_isb();
    }
    if !planted(Bug::NoDsb) {
        barrier::dsb_ishst();
    }
    if !planted(Bug::NoIsb) {
        barrier::isb();
    }
}

/// The barriers, at once, and they are enough for what was owed before. In a task, and where nothing is
/// [unusual](crate::unusual).
#[inline(always)]
pub(super) fn emit_and_settle_unrecorded() {
    barrier::dsb_ishst_and_isb_unrecorded();
    task::current().deferred.barriers.set(false);
}

/// A TLB flush has just ended with its DSB ISH and ISB: they are barriers enough for what was owed
/// before.
#[inline]
pub fn settle() {
    settle_of(task::current());
}

/// As [`settle`], for who knows which task runs.
#[inline(always)]
pub fn settle_of(task: &Task) {
    // An interrupt handler may settle its own stores alone, and those never owe anything.
    if !task.in_interrupt() {
        task.deferred.barriers.set(false);
    }
}
