//! The cache sequence as it is issued, from the recording: the emulator would show nothing of a
//! step that is missing.

use super::{CacheType, cache_type, publish};
use crate::{
    check, check_eq, kernel_test,
    mm::{
        testing::{must, recorded},
        vmalloc,
    },
    trace::{Barrier, CacheOp, Event, Kind},
};
use alloc::vec::Vec;
use vmsa::{PAGE_SIZE, VirtAddr};

/// The least that publishing the page at `page` takes, in order: every line cleaned, DSB ISH, every
/// line invalidated (or all), DSB ISH; what CTR_EL0 says is not needed left out.
pub(crate) fn sequence(caches: CacheType, page: VirtAddr) -> Vec<Step> {
    let mut steps: Vec<_> = caches.cleans(page).map(Step::Cache).collect();
    steps.push(Step::Barrier(Barrier::DsbIsh));
    let before = steps.len();
    steps.extend(caches.invalidates(page).map(Step::Cache));
    if steps.len() > before {
        steps.push(Step::Barrier(Barrier::DsbIsh));
    }
    steps
}

/// What a recording is looked through for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Cache(CacheOp),
    Barrier(Barrier),
}

/// The cache maintenance and barriers of a recording.
pub(crate) fn steps(events: &[Event]) -> Vec<Step> {
    let step = |event: &Event| match event.kind {
        Kind::Cache(op) => Some(Step::Cache(op)),
        Kind::Barrier(barrier) => Some(Step::Barrier(barrier)),
        _ => None,
    };
    events.iter().filter_map(step).collect()
}

kernel_test! { "cache", publishing_is_the_architectures_sequence, {
    let page = must!(vmalloc::vzalloc(PAGE_SIZE));
    // SAFETY: the page is the test's own.
    let (events, ()) = recorded(|| unsafe { publish(page) })?;
    must!(vmalloc::vfree(page));
    let caches = cache_type();
    check!(caches.data_line >= 16 && caches.data_line <= PAGE_SIZE);
    check_eq!(steps(&events), sequence(caches, page));
    Ok(())
} }
