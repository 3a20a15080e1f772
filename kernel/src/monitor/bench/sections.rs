//! What the lazy MMU calls cost themselves: nothing is changed in the sections, so nothing is owed.

use super::{
    areas::rounds,
    meter::{Measured, measure},
    parameters::Values,
    report::Line,
};
use crate::mm::lazy::{
    self, lazy_mmu_mode_disable, lazy_mmu_mode_enable, lazy_mmu_mode_pause, lazy_mmu_mode_resume,
};

/// `lazy`: enable and disable as the kernel calls them, by a guard; by the four functions; nested in
/// a section; pause and resume in a section. Each is the pair.
pub(super) fn lazy(values: &Values) -> Measured<()> {
    let rounds = rounds(values, 1);
    let line = |case| Line {
        case,
        size: None,
        memory: values.memory,
    };
    let guard = |_| {
        drop(lazy::section());
        Ok(())
    };
    let calls = |_| {
        lazy_mmu_mode_disable(lazy_mmu_mode_enable());
        Ok(())
    };
    let pause = |_| {
        lazy_mmu_mode_resume(lazy_mmu_mode_pause());
        Ok(())
    };
    line("lazy").cost(measure(rounds, guard)?);
    line("lazy_calls").cost(measure(rounds, calls)?);
    let section = lazy::section();
    let nested = measure(rounds, guard);
    let paused = measure(rounds, pause);
    // What is printed is not in a section.
    drop(section);
    line("lazy_nested").cost(nested?);
    line("lazy_pause").cost(paused?);
    Ok(())
}
