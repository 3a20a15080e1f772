//! Whether anything is unusual: what makes the hot paths take the long way.
//!
//! A lazy section, or the store of a leaf, is a few instructions; to ask each time whether somebody
//! records it, plans to come in between, or has chosen other rules would be more than they. So every
//! reason to do more than that sets a bit in one byte, and they ask once. Who finds any bit set goes
//! the long way, where each question is asked by itself: a bit too many costs time, and nothing else.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// Events are recorded.
    Recording = 1,
    /// A task wants to be preempted at some point.
    Planned = 1 << 1,
    /// The rules of lazy sections are not those of the default model, or sections take a lock or
    /// their CPU.
    Sections = 1 << 2,
    /// It is not the barriers of stores that wait for the end of a section, or they are not needed.
    Backend = 1 << 3,
}

static REASONS: AtomicU8 = AtomicU8::new(0);

/// Has a reason hold from now on, or no more. Who does something for that reason sets it before.
pub fn set(reason: Reason, holds: bool) {
    // Read-modify-write: the reasons are set by different people.
    if holds {
        REASONS.fetch_or(reason as u8, Relaxed);
    } else {
        REASONS.fetch_and(!(reason as u8), Relaxed);
    }
}

/// Whether this reason holds.
#[cfg(test)]
#[must_use]
pub fn holds(reason: Reason) -> bool {
    REASONS.load(Relaxed) & reason as u8 != 0
}

/// Whether there is any.
#[inline(always)]
#[must_use]
pub fn anything() -> bool {
    REASONS.load(Relaxed) != 0
}
