//! Stores that wait in a queue of the CPU, not of the task: the backends `stores-percpu` and
//! `stores-percpu-hooks`.
//!
//! What belongs to a CPU must not be left behind by a task that moves. `stores-percpu` lets none
//! move: preemption is disabled from the arch hook that enters to the one that leaves (powerpc,
//! sparc). `stores-percpu-hooks` lets it be preempted, and the context switch leaves the mode for
//! it, draining the queue, and enters it for the next task if that one has a section open which is
//! not paused (Xen PV).
//!
//! The task's state changes a moment before the CPU's, and the switch may come in between. So entering
//! and leaving are told apart by what the CPU's flag says, and doing either twice is the same as
//! doing it once.

use super::{
    config::{Backend, backend, ets2, model},
    full::count_full,
    owed::needs_barriers,
};
use crate::{
    arch::{
        cpu::{self, MAX_CPUS},
        entry::Entry,
    },
    bug::{Bug, planted},
    task::{
        self, Task,
        deferred::{List, QUEUE, QueuedStore},
        points::preempt_point,
        preempt,
    },
};
use core::cell::Cell;
use vmsa::Level;

/// What one CPU has put off.
struct PerCpu {
    /// The mode is on here.
    active: Cell<bool>,
    stores: List<QueuedStore, QUEUE>,
}

// SAFETY: a CPU uses its own alone, with preemption disabled or interrupts masked; handlers leave it
// alone.
unsafe impl Sync for PerCpu {}

static CPUS: [PerCpu; MAX_CPUS] = [const {
    PerCpu {
        active: Cell::new(false),
        stores: List::new(),
    }
}; MAX_CPUS];

/// Does something with what this CPU has, and stays on it meanwhile.
fn here<R>(action: impl FnOnce(&'static PerCpu) -> R) -> R {
    let _stays = preempt::disable();
    action(&CPUS[cpu::id() as usize])
}

/// The running task's state says that the mode is on: so does this CPU from here on.
#[cold]
#[inline(never)]
pub(super) fn enter() {
    let lock = &task::current().section_lock;
    match backend() {
        Backend::StoresPerCpu if !lock.keeps_cpu.replace(true) => preempt::disable().keep(),
        Backend::StoresPerCpu => {}
        // Between the state of the task and that of the CPU: if it is switched from here, the CPU
        // has been entered by the time that it comes back.
        Backend::StoresPerCpuHooks => preempt_point(),
        _ => return,
    }
    lock.on_cpu.set(true);
    here(|cpu| {
        // What Xen's xen_enter_lazy_mmu did: BUG_ON(this_cpu_read(xen_lazy_mode) != XEN_LAZY_NONE).
        if planted(Bug::LateEnter) {
            assert!(!cpu.active.get(), "the lazy MMU mode is entered twice");
        }
        cpu.active.set(true);
    });
}

/// The running task's state says that the mode is off.
pub(super) fn leave() {
    let lock = &task::current().section_lock;
    here(|cpu| {
        drain_from(cpu, task::current());
        cpu.active.set(false);
    });
    lock.on_cpu.set(false);
    if lock.keeps_cpu.replace(false) {
        preempt::enable_kept();
    }
}

/// Puts a store in this CPU's queue.
pub(super) fn queue(store: QueuedStore) {
    here(|cpu| {
        if cpu.stores.push(store).is_err() {
            count_full();
            drain_from(cpu, task::current());
            let _ = cpu.stores.push(store);
        }
    });
    preempt_point();
}

/// Whether a store to this entry waits here.
pub(super) fn is_queued(entry: Entry) -> bool {
    here(|cpu| cpu.stores.iter().any(|store| store.entry == entry))
}

/// Makes the stores that wait on this CPU, which are the running task's.
pub(super) fn drain() {
    let task = task::current();
    if !task.in_interrupt() {
        here(|cpu| drain_from(cpu, task));
    }
}

/// Makes the stores that wait on a CPU; `task` owes their barriers.
fn drain_from(cpu: &PerCpu, task: &Task) {
    for store in cpu.stores.iter() {
        let QueuedStore {
            entry,
            va,
            old,
            new,
        } = store;
        entry.store(va, Level::L3, old, new);
        if needs_barriers(new, ets2()) {
            task.deferred.barriers.set(true);
        }
    }
    cpu.stores.clear();
}

/// The context switch: interrupts are masked. The DSB ISH that follows it completes the stores that
/// are made here; the task that is switched from owes their barriers, and has them issued where it
/// goes on.
pub fn on_switch(from: &'static Task, to: &'static Task) {
    if backend() != Backend::StoresPerCpuHooks || planted(Bug::PercpuPending) {
        return;
    }
    let cpu = &CPUS[cpu::id() as usize];
    if cpu.active.get() {
        drain_from(cpu, from);
    }
    // A task is never switched from under a handler.
    cpu.active
        .set(to.lazy_mmu_state.get().is_active(model(), false));
}

/// The stores that wait on this CPU, for reports.
pub(super) fn waiting(mut each: impl FnMut(QueuedStore)) {
    here(|cpu| cpu.stores.iter().for_each(&mut each));
}
