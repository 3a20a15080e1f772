//! One leaf by itself, where nothing is [unusual](crate::unusual).
//!
//! A section of one leaf that nobody watches comes to the store of that leaf and its barriers, whatever
//! section is open around it: the end of each makes good what was put off. So no section is opened
//! here, and none is needed. (Half of what one page costs in one.) Where somebody does watch, where
//! anything but barriers is deferred, or by other rules, it is to be one: whoever calls has asked.

use super::owed::emit_and_settle_unrecorded;
use crate::arch::entry::Entry;
use vmsa::{Descriptor, Level, VirtAddr};

/// Has `entry`, the leaf of `va` at `level`, become `leaf`, a valid one, with its barriers. False if it
/// was not empty; then it stays as it is. Not in interrupt context.
#[inline(always)]
pub fn map_single(entry: Entry, va: VirtAddr, level: Level, leaf: Descriptor) -> bool {
    let old = entry.load();
    if !old.is_none() {
        return false;
    }
    entry.store_unrecorded(va, level, old, leaf);
    emit_and_settle_unrecorded();
    true
}

/// Clears `entry`, the leaf of `va` at `level`. False if it was empty. As every leaf that becomes
/// invalid it owes no barrier of its own: the TLB flush, which is left to the caller, has them.
#[inline(always)]
pub fn clear_single(entry: Entry, va: VirtAddr, level: Level) -> bool {
    let old = entry.load();
    if old.is_none() {
        return false;
    }
    entry.store_unrecorded(va, level, old, Descriptor::INVALID);
    true
}
