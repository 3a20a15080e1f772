//! What is said of pages that can't be taken back.

use super::{error::FreeError, memory};
use core::panic::Location;
use vmsa::Frame;

/// Says what was wrong with a free, as Linux's bad_page() does: the allocator goes on without the
/// page.
#[cold]
pub(super) fn report(frame: Frame, order: u8, error: FreeError, caller: &Location<'_>) {
    log::error!(
        "BUG: bad free of page {:#x}, order {order}, at {caller}: {error}",
        frame.number()
    );
}

/// Reports a free that is refused.
#[cold]
#[inline(never)]
pub(super) fn refuse(
    frame: Frame,
    order: u8,
    error: FreeError,
    caller: &Location<'_>,
) -> Result<(), FreeError> {
    report(frame, order, error, caller);
    Err(error)
}

/// Reports a page of a list that is not in use.
#[cold]
#[inline(never)]
pub(super) fn report_in_list(index: usize, caller: &Location<'_>) {
    let map = memory::map();
    // A link that was overwritten leads anywhere.
    if index < map.meta.len() {
        let frame = map.frame(index);
        report(frame, 0, map.why_not(frame, index, 0), caller);
    }
}

/// Reports that pages of a list were left out: those that are not in use, and those behind one that was
/// the first of its run, and would have led to them.
#[cold]
#[inline(never)]
pub(super) fn report_lost(pages: u64, caller: &Location<'_>) {
    log::error!("BUG: {pages} pages of a list that is freed at {caller} are left out");
}
