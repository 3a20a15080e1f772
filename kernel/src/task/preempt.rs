//! Sections in which the running task stays on its CPU: preemption disabled, or interrupts masked.
//! Neither may sleep; [`atomic`](super::atomic) reports who does.

use super::{Task, current, is_preemptible, origin::Origin};
use crate::arch::{
    backtrace,
    cpu::{self, InterruptsMasked},
};
use core::{
    marker::PhantomData,
    panic::Location,
    sync::atomic::{Ordering::Relaxed, Ordering::SeqCst, compiler_fence},
};

/// The running task is not preempted while this lives. It is interrupted all the same.
#[derive(Debug)]
#[must_use = "preemption is enabled when the guard is dropped"]
pub struct Disabled {
    /// Whose count it is; it is given back by the task that took it.
    not_send: PhantomData<*const ()>,
}

/// Forbids to preempt the running task. Sections nest.
///
/// Inlined whatever the compiler thinks of it: the frame that is noted has to be that of the
/// caller.
#[inline(always)]
#[track_caller]
pub fn disable() -> Disabled {
    begin(Location::caller());
    Disabled {
        not_send: PhantomData,
    }
}

/// Begins an atomic section of the running task.
#[inline(always)]
fn begin(location: &'static Location<'static>) {
    let task = current();
    let count = task.preempt_count.load(Relaxed);
    // A load and a store: handlers that come in between give back the count that they found.
    task.preempt_count.store(count + 1, Relaxed);
    // What is done in the section is not done before it, as far as handlers on this CPU can tell.
    compiler_fence(SeqCst);
    if count == 0 {
        note(task, location);
    }
}

/// Notes where the outermost section of a task begins.
#[inline(always)]
fn note(task: &Task, location: &'static Location<'static>) {
    task.atomic_since.set(Some(Origin {
        location,
        frame: backtrace::frame(),
    }));
}

impl Disabled {
    /// Leaves preemption disabled until [`enable_kept`]: for sections that end in another function
    /// than they began in.
    #[inline]
    pub fn keep(self) {
        core::mem::forget(self);
    }
}

/// Gives back a [`Disabled`] that was [kept](Disabled::keep).
#[inline]
pub fn enable_kept() {
    drop(Disabled {
        not_send: PhantomData,
    });
}

impl Drop for Disabled {
    #[inline]
    fn drop(&mut self) {
        let task = current();
        compiler_fence(SeqCst);
        let count = task.preempt_count.load(Relaxed) - 1;
        task.preempt_count.store(count, Relaxed);
        if count == 0 && task.need_resched.load(Relaxed) {
            make_room();
        }
    }
}

/// Interrupts are masked while this lives, and a task that sleeps then is told where it began.
///
/// Not `Send`; guards are to be dropped in the reverse order.
#[derive(Debug)]
#[must_use = "interrupts are unmasked when the guard is dropped"]
pub struct InterruptsOff {
    // In this order: what the section was for may want the CPU, once interrupts are back.
    _masked: InterruptsMasked,
    _preempt: Disabled,
}

/// Masks interrupts, and so preemption, for the running task.
#[inline(always)]
#[track_caller]
pub fn mask_interrupts() -> InterruptsOff {
    begin(Location::caller());
    InterruptsOff {
        _preempt: Disabled {
            not_send: PhantomData,
        },
        _masked: cpu::mask_interrupts(),
    }
}

/// Whether the running task could be preempted here.
#[must_use]
pub fn is_enabled() -> bool {
    is_preemptible()
}

/// How many sections forbid to preempt the running task.
#[must_use]
pub fn count() -> u32 {
    current().preempt_count.load(Relaxed)
}

/// Lets others run, if that is allowed here.
#[cold]
#[inline(never)]
fn make_room() {
    #[cfg(target_os = "none")]
    if is_enabled() {
        super::schedule::preempt();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_nest_and_the_outermost_is_remembered() {
        assert!(is_enabled());
        let line = line!() + 1;
        let outer = disable();
        let inner = disable();
        assert_eq!((count(), is_enabled()), (2, false));
        let origin = current().atomic_since.get().unwrap();
        assert_eq!(origin.location.line(), line);
        // The order in which they end does not matter.
        drop(outer);
        assert_eq!((count(), is_enabled()), (1, false));
        drop(inner);
        assert!(is_enabled());
        let _again = disable();
        assert!(current().atomic_since.get().unwrap().location.line() > line);
    }

    #[test]
    fn masked_interrupts_are_a_section_too() {
        let masked = mask_interrupts();
        assert_eq!(count(), 1);
        drop(masked);
        assert_eq!(count(), 0);
    }
}
