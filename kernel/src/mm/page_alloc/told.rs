//! What the oracle is told of pages that change hands.

use super::pages::Pages;
use crate::event;

/// Tells the oracle of pages that have left the free lists: before the hooks, which change the
/// tables for whoever has the pages now.
pub(super) fn tell_allocated(pages: Pages<'_>) {
    for (first, count) in pages.runs() {
        event!(FramesAllocated(event::Frames {
            first: first.start(),
            count,
        }));
    }
}

/// Tells the oracle of pages that are about to enter the free lists: after the hooks, whose
/// business it is that nobody can reach the pages any more, and before anybody can be given them.
pub(super) fn tell_freed(pages: Pages<'_>) {
    for (first, count) in pages.runs() {
        event!(FramesFreed(event::Frames {
            first: first.start(),
            count,
        }));
    }
}
