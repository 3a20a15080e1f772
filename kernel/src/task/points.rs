//! Deterministic preemption: a switch at a certain place, however fast the machine is.
//!
//! Code that could be preempted at a place of interest calls [`preempt_point`] there. A test says at
//! which call of its own a switch is to happen, tries every number, and so sees every schedule.

use super::{current, preempt};
use crate::unusual::{self, Reason};
use core::sync::atomic::{
    AtomicBool, AtomicU32, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// What happens at the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The task is preempted: all others that want to run do so first.
    Preempt,
    /// It goes on on another CPU, where it stays.
    Migrate(usize),
}

/// A plan exists. Looked at on every path that has a point: one load and one branch.
static ARMED: AtomicBool = AtomicBool::new(false);
/// Held for as long as a plan exists.
static PLANNED: AtomicBool = AtomicBool::new(false);
static TASK: AtomicU32 = AtomicU32::new(0);
static AT: AtomicUsize = AtomicUsize::new(0);
static PASSED: AtomicUsize = AtomicUsize::new(0);
static DONE: AtomicBool = AtomicBool::new(false);
/// [`Action`]: 0, or one more than the CPU.
static ACTION: AtomicUsize = AtomicUsize::new(0);

/// A place at which the running task may be preempted.
#[inline(always)]
pub fn preempt_point() {
    if ARMED.load(Relaxed) {
        reached();
    }
}

/// Whether a task has a plan. A task makes none for another, so what it is told of its own stays true
/// until it calls [`plan`].
#[inline]
pub fn is_planned() -> bool {
    ARMED.load(Relaxed)
}

#[cold]
#[inline(never)]
fn reached() {
    if current().id != TASK.load(Relaxed) || !ARMED.load(Acquire) {
        return;
    }
    // Only the task that the plan is for counts.
    let passed = PASSED.load(Relaxed);
    PASSED.store(passed + 1, Relaxed);
    if passed != AT.load(Relaxed) || !preempt::is_enabled() {
        return;
    }
    DONE.store(true, Relaxed);
    switch(ACTION.load(Relaxed).checked_sub(1));
}

/// Goes on later, on `cpu` if that is one.
#[cfg(target_os = "none")]
fn switch(cpu: Option<usize>) {
    use super::schedule;
    match cpu {
        None => schedule::preempt(),
        Some(cpu) => {
            // Where that CPU is offline it stays; the test sees where it is.
            let _ = schedule::migrate_to(cpu);
        }
    }
}

/// The host has one task.
#[cfg(not(target_os = "none"))]
fn switch(_: Option<usize>) {}

/// A plan for the running task. Dropping it ends the plan.
#[derive(Debug)]
#[must_use = "the plan ends when it is dropped"]
pub struct Plan(());

/// Has the running task do `action` at its `n`-th point from here on, the first being 0; `None` while
/// another plan exists.
pub fn plan(n: usize, action: Action) -> Option<Plan> {
    if PLANNED.swap(true, Acquire) {
        return None;
    }
    TASK.store(current().id, Relaxed);
    AT.store(n, Relaxed);
    PASSED.store(0, Relaxed);
    DONE.store(false, Relaxed);
    let action = match action {
        Action::Preempt => 0,
        Action::Migrate(cpu) => cpu + 1,
    };
    ACTION.store(action, Relaxed);
    unusual::set(Reason::Planned, true);
    ARMED.store(true, Release);
    Some(Plan(()))
}

impl Plan {
    /// How many points the task has passed.
    #[must_use]
    pub fn passed(&self) -> usize {
        PASSED.load(Relaxed)
    }

    /// Whether it came to the point, and could be preempted there.
    #[must_use]
    pub fn is_done(&self) -> bool {
        DONE.load(Relaxed)
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        ARMED.store(false, Relaxed);
        unusual::set(Reason::Planned, false);
        PLANNED.store(false, Release);
    }
}
