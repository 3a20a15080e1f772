//! Which pages hold the poison pattern.

use super::{memory, pages::Pages};
use core::sync::atomic::Ordering::Relaxed;
use vmsa::Frame;

/// Notes that the contents of `pages` are the poison pattern. They are the caller's, on their way
/// from or to the free lists: no lock is needed.
pub fn mark_poisoned(pages: Pages<'_>) {
    let map = memory::map();
    for index in pages.frames().filter_map(|frame| map.index(frame)) {
        map.meta[index].poisoned.store(true, Relaxed);
    }
}

/// Calls `check` for each of `pages` that holds the poison pattern, as far as anyone has said, and
/// notes that they do not any more. They are the caller's, as for [`mark_poisoned`].
pub fn for_each_poisoned(pages: Pages<'_>, mut check: impl FnMut(Frame)) {
    let map = memory::map();
    for frame in pages.frames() {
        let poisoned = map.index(frame).map(|index| &map.meta[index].poisoned);
        if let Some(poisoned) = poisoned
            && poisoned.load(Relaxed)
        {
            poisoned.store(false, Relaxed);
            check(frame);
        }
    }
}
