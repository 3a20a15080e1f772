//! Whether anything is unusual: what makes the hot paths take the long way.
//!
//! A lazy section, or the store of a leaf, is a few instructions; to ask each time whether somebody
//! records it, plans to come in between, or has chosen other rules would be more than they. So every
//! reason to do more than that sets a bit in one byte, and they ask once. Who finds any bit set goes
//! the long way, where each question is asked by itself: a bit too many costs time, and nothing else.
//!
//! The tools that are chosen at boot have bits in another byte: most hot paths ask for those they
//! know of when they get there, and are short with them. A few are so short that even that is much.

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

/// Tools that have more to be done where memory is mapped, unmapped, or has a new owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Tool {
    /// Areas have a shadow.
    Kasan = 1 << 4,
    /// Free pages leave the linear map.
    DebugPagealloc = 1 << 5,
}

static REASONS: AtomicU8 = AtomicU8::new(0);
/// The same, and the tools.
static WITH_TOOLS: AtomicU8 = AtomicU8::new(0);

/// Has a reason hold from now on, or no more. Who does something for that reason sets it before.
pub fn set(reason: Reason, holds: bool) {
    for reasons in [&REASONS, &WITH_TOOLS] {
        // Read-modify-write: the reasons are set by different people.
        if holds {
            reasons.fetch_or(reason as u8, Relaxed);
        } else {
            reasons.fetch_and(!(reason as u8), Relaxed);
        }
    }
}

/// Has a tool be there from now on. Whoever turns it on says so before.
pub fn has(tool: Tool) {
    WITH_TOOLS.fetch_or(tool as u8, Relaxed);
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

/// Whether there is any, or any [`Tool`].
#[inline(always)]
#[must_use]
pub fn anything_or_tools() -> bool {
    WITH_TOOLS.load(Relaxed) != 0
}
