//! Pages that several address spaces map: how many of them do, and the gathers that have unmapped
//! one and not flushed yet.
//!
//! The count lies in the metadata of the page (`page_alloc::shares`), so that sharing allocates
//! nothing. A share is given back only after the flush of whoever had it: the page is free when
//! nobody can reach it, not when nobody maps it.

use super::page_alloc;
use crate::arch::lock::acquired;
#[cfg(feature = "oracle")]
use crate::event;
use core::sync::atomic::{
    AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed},
};
use vmsa::Frame;

/// What the oracle is told of in the place of every count: there may be as many as pages. It is of
/// use only where a page turns out to be nobody else's, and then everybody who had a share has gone
/// before.
static ORDER: u8 = 0;

fn count(frame: Frame) -> &'static AtomicU32 {
    page_alloc::shares(frame).expect("pages of programs are the allocator's")
}

/// A page that was just allocated has one owner.
pub fn own(frame: Frame) {
    count(frame).store(1, Relaxed);
}

/// One more maps it. The caller holds a share, with the lock of the tables that map the page.
pub fn share(frame: Frame) {
    // Nothing is ordered by having a share more.
    count(frame).fetch_add(1, Relaxed);
}

/// Whether others have a share in it, or have not flushed it yet. That there are none stays true
/// for as long as the caller holds the lock of the tables that map it.
pub fn is_shared(frame: Frame) -> bool {
    // What others did to the page, by way of translations that are flushed now, comes before what
    // the only owner does.
    let shared = count(frame).load(Acquire) != 1;
    acquired(&ORDER);
    shared
}

/// Gives a share back, after the flush. Returns whether it was the last: the page is the caller's,
/// to be freed.
#[must_use = "the last one frees the page"]
pub fn give_back(frame: Frame) -> bool {
    // Release: what this CPU's flush completed comes before the last owner frees. Acquire: that one
    // comes after all of it.
    tell_given_back();
    let last = count(frame).fetch_sub(1, AcqRel) == 1;
    acquired(&ORDER);
    last
}

/// Tells the oracle that a count is about to fall: before it does, so that whoever finds that it has
/// tells of that later. What a write by another CPU ordered is kept, for the read behind this one to
/// find: of its own write a CPU learns nothing.
fn tell_given_back() {
    #[cfg(feature = "oracle")]
    event!(Sync {
        variable: (&raw const ORDER).addr() as u64,
        access: event::SyncAccess::ReadModifyWrite {
            acquire: true,
            release: true,
        },
    });
}
