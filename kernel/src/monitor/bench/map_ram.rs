//! `vm_map_ram`, and vfree in interrupt context.

use super::{
    areas::{Frames, rounds, touch},
    meter::{Measured, Trouble},
    parameters::{Parameter, Values, parameter},
    report::Line,
    steady::steady,
};
use crate::{
    mm::vmalloc::{vfree, vm_map_ram, vm_unmap_ram, vmalloc, wait_for_deferred},
    task,
};
use vmsa::PAGE_SIZE;

/// Of `vm_map_ram`: as many pages as a block gives.
pub(super) const BLOCK: &[Parameter] = &[
    parameter("nr_pages", 1, 1, 64),
    parameter("loops", 0, 0, 10_000_000),
];

/// `vm_map_ram`: pages that the case has, mapped and unmapped.
pub(super) fn map_ram(values: &Values) -> Measured<()> {
    let pages = values.get("nr_pages");
    let frames = Frames::allocate(pages)?;
    let pair = steady(rounds(values, 1), |_| {
        let start = vm_map_ram(&frames.frames)?;
        touch(start, b'a');
        Ok(vm_unmap_ram(start, pages as usize)?)
    })?;
    Line {
        case: "vm_map_ram",
        size: Some(("n", pages)),
        memory: values.memory,
    }
    .steady(pair);
    Ok(())
}

/// `vfree_deferred`: an area made by a task and freed in interrupt context, so that another task takes it
/// down, up to the end of that.
pub(super) fn vfree_deferred(values: &Values) -> Measured<()> {
    let pages = values.get("n");
    let pair = steady(rounds(values, pages), |_| -> Result<(), Trouble> {
        let area = vmalloc(pages * PAGE_SIZE)?;
        touch(area, 1);
        let interrupt = task::enter_interrupt();
        let freed = vfree(area);
        drop(interrupt);
        freed?;
        wait_for_deferred();
        Ok(())
    })?;
    Line {
        case: "vfree_deferred",
        size: Some(("n", pages)),
        memory: values.memory,
    }
    .steady(pair);
    Ok(())
}
