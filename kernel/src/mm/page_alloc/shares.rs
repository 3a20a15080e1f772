//! How many address spaces map a page: a count in the metadata of a page that is allocated.
//!
//! It lies where a free block keeps its neighbour in a list: an allocated page is in no such list,
//! and is chained by its owner through another field.

use super::memory;
use core::sync::atomic::AtomicU32;
use vmsa::Frame;

/// The count of a page that the caller, or whoever shares it, has allocated; anything at first.
/// `None` for a page that the allocator does not have.
#[inline]
pub fn shares(frame: Frame) -> Option<&'static AtomicU32> {
    let map = memory::map();
    Some(&map.meta[map.index(frame)?].previous)
}
