//! Sleeping in an atomic section, and how it is reported: with where it slept, and where the
//! section began.
//!
//! A task that sleeps with preemption disabled holds back whoever the section was to keep out; with
//! a spin lock held, for ever. With interrupts masked it would take its mask along. In an interrupt
//! handler there is no task that could sleep: the handler has borrowed one.

use super::{current, is_preemptible};
use crate::{
    arch::{
        backtrace::{self, Backtrace, ThisCpu},
        cpu,
    },
    warning,
};
use core::{fmt, iter, panic::Location, sync::atomic::Ordering::Relaxed};

/// Whether the running task may sleep here; if not, that is reported, as something that `what` did.
///
/// # Panics
///
/// In interrupt context: there is no way to go on.
#[inline(never)]
#[track_caller]
pub fn may_sleep(what: &'static str) -> bool {
    if is_preemptible() {
        return true;
    }
    let report = Report {
        what,
        location: Location::caller(),
        masked: cpu::interrupts_masked(),
        slept: backtrace::from_here(),
    };
    assert!(
        !current().in_interrupt(),
        "{what} in an interrupt handler\n{report}"
    );
    warning!("{report}");
    false
}

/// What is wrong, and the two traces.
struct Report {
    what: &'static str,
    location: &'static Location<'static>,
    masked: bool,
    slept: Backtrace<ThisCpu>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let task = current();
        let count = task.preempt_count.load(Relaxed);
        writeln!(
            f,
            "BUG: {} in an atomic section: task {} ({}), preempt_count {count}, interrupts {}, \
             in_interrupt {}",
            self.what,
            task.name,
            task.id,
            if self.masked { "masked" } else { "unmasked" },
            u8::from(task.in_interrupt()),
        )?;
        writeln!(f, "It slept at {}:", self.location)?;
        write!(f, "{}", self.slept)?;
        let origin = task.atomic_since.get().filter(|_| count != 0);
        let Some(origin) = origin else {
            // Nobody but the exception, which is in the trace above, or the register's owner.
            return write!(f, "Where the section began was not noted");
        };
        writeln!(f, "The section began at {}:", origin.location)?;
        // A lazy section is opened by a function that returns: who called it may still be there.
        let held = task.section_lock.is_held();
        let opened_by = task.section_lock.opened_by.get().into_iter().flatten();
        let frames = iter::once(origin.frame).chain(opened_by.filter(|_| held));
        match frames.filter_map(backtrace::from_frame).next() {
            Some(began) => write!(f, "{began}  (end of both traces)"),
            // The guard was handed on: what its maker's frame held is gone.
            None => write!(f, "  in a function that has returned"),
        }
    }
}
