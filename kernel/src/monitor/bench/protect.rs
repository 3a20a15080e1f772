//! `set_memory_ro` and `set_memory_rw`, in turns, on one area.

use super::{
    areas::rounds,
    meter::{Measured, measure_in_turns, warm_up},
    parameters::Values,
    report::Line,
};
use crate::mm::{
    set_memory::{set_memory_ro, set_memory_rw},
    vmalloc,
};
use vmsa::{PAGE_SIZE, VirtAddr};

/// An area that is freed at the end.
pub(super) struct Area(pub(super) VirtAddr);

impl Drop for Area {
    fn drop(&mut self) {
        // It is an area: there is nothing to fail.
        let _ = vmalloc::vfree(self.0);
    }
}

/// `set_memory`. Nothing waits for a purge: the one that each call begins with finds nothing.
pub(super) fn set_memory(values: &Values) -> Measured<()> {
    let pages = values.get("n");
    let line = |case| Line {
        case,
        size: Some(("n", pages)),
        memory: values.memory,
    };
    let area = Area(vmalloc::vmalloc(pages * PAGE_SIZE)?);
    vmalloc::vm_unmap_aliases();
    let protect = |_| Ok(set_memory_ro(area.0, pages)?);
    let unprotect = |_| Ok(set_memory_rw(area.0, pages)?);
    warm_up(2, |round| protect(round).and_then(|()| unprotect(round)))?;
    let [ro, rw] = measure_in_turns(rounds(values, pages), protect, unprotect)?;
    line("set_memory_ro").cost(ro);
    line("set_memory_rw").cost(rw);
    Ok(())
}
