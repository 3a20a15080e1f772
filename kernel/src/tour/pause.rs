//! A section inside a pause inside a section: the chain of calls that made Linux count enables and
//! pauses separately.
//!
//! `set_memory_ro` purges, the purge takes down the shadow of a freed area in a lazy section, each
//! shadow page is freed in a pause of that section, and DEBUG_PAGEALLOC unmaps the freed page from
//! the linear map in a section of its own: an enable inside a pause. Under `nesting-level` that
//! warned (thread of patch v4); under `two-counters` it is a no-op, and the unmapping gets its
//! barriers at once.

use super::{Trouble, call_tree, ensure, failed, recorded};
use crate::{
    mm::{
        debug_pagealloc, kasan,
        lazy::{self, Call, Model},
        set_memory::{set_memory_ro, set_memory_rw},
        vmalloc,
    },
    println,
    trace::{Event, Kind},
    warning,
};

/// Enough for whole spans of 32 KiB, wherever the area lies.
const PURGED: u64 = 20 * vmsa::PAGE_SIZE;

pub(super) fn run() -> Result<(), Trouble> {
    if !debug_pagealloc::is_on() {
        return Err(Trouble::Needs("DEBUG_PAGEALLOC=on"));
    }
    if !kasan::is_on() {
        return Err(Trouble::Needs("KASAN=on"));
    }
    vmalloc::vm_unmap_aliases();
    let read_only = vmalloc::vmalloc(vmsa::PAGE_SIZE).map_err(failed)?;
    let purged = vmalloc::vmalloc(PURGED).map_err(failed)?;
    vmalloc::vfree(purged).map_err(failed)?;

    let model = lazy::model();
    let (warned, shadow) = (warning::count(), kasan::populate::stats());
    recorded(
        || set_memory_ro(read_only, 1).map_err(failed),
        |events, ()| {
            call_tree::print(events, model);
            enabled_inside_a_pause(events)
        },
    )?;
    let freed = kasan::populate::stats().depopulated - shadow.depopulated;
    let warned = warning::count() - warned;
    println!("{freed} shadow pages were freed, {warned} warnings");
    ensure!(freed > 0, "no shadow page was freed");
    // Linux's v4 warns at the enable and at the disable of each page that is freed inside the
    // pause.
    let expected = if model == Model::NestingLevel {
        2 * freed as usize
    } else {
        0
    };
    ensure!(warned == expected, "{warned} warnings, expected {expected}");

    set_memory_rw(read_only, 1).map_err(failed)?;
    vmalloc::vfree(read_only).map_err(failed)?;
    vmalloc::vm_unmap_aliases();
    Ok(())
}

/// The heart of the chain must have happened: an enable while a pause was under way.
fn enabled_inside_a_pause(events: &[Event]) -> Result<(), Trouble> {
    let mut pauses = 0;
    let mut enables = 0;
    for event in events {
        if let Kind::Lazy { call, .. } = event.kind {
            match call {
                Call::Pause => pauses += 1,
                Call::Resume => pauses -= 1,
                Call::Enable if pauses > 0 => enables += 1,
                Call::Enable | Call::Disable => {}
            }
        }
    }
    ensure!(enables > 0, "nothing was enabled inside a pause");
    Ok(())
}
