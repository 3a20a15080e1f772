//! What is in vmalloc space, for people: the layout of `/proc/vmallocinfo`.

use super::{area::AreaKind, state::STATE};
use core::fmt;
use vmsa::VirtAddr;

/// Prints every area, one a line, then those that wait for the purge.
pub fn vmallocinfo(out: &mut dyn fmt::Write) -> fmt::Result {
    let state = STATE.lock();
    for area in state.busy.iter() {
        let info = area.info();
        line(out, area.start(), area.pages())?;
        if let Some(caller) = info.caller {
            write!(out, " {}:{}", caller.file(), caller.line())?;
        }
        let kind = match info.kind {
            AreaKind::Vmalloc | AreaKind::VmallocHuge => "vmalloc",
            AreaKind::Vmap => "vmap",
        };
        writeln!(out, " pages={} {kind}", area.pages() - 1)?;
    }
    for area in state.lazy.iter() {
        line(out, area.start(), area.pages())?;
        writeln!(out, " unpurged vm_area")?;
    }
    Ok(())
}

fn line(out: &mut dyn fmt::Write, start: VirtAddr, pages: u64) -> fmt::Result {
    let size = pages * vmsa::PAGE_SIZE;
    write!(
        out,
        "{:#018x}-{:#018x} {size:7}",
        start.as_u64(),
        start.as_u64() + size
    )
}

/// Says which area an address belongs to, for reports.
pub fn describe(va: VirtAddr, out: &mut dyn fmt::Write) -> fmt::Result {
    // A report must not wait for a lock that the code it is about holds.
    let Some(state) = STATE.try_lock() else {
        return Ok(());
    };
    if let Some(area) = state.busy.find_containing(va) {
        let end = area.start().as_u64() + area.pages() * vmsa::PAGE_SIZE;
        let info = area.info();
        let guard = end - va.as_u64() <= vmsa::PAGE_SIZE;
        if guard {
            writeln!(out, "BUG: overrun: {va} is in the guard page behind")?;
        }
        writeln!(out, "The buggy address belongs to the virtual mapping at")?;
        writeln!(
            out,
            " [{:016x}, {end:016x}) of {} bytes created by:",
            area.start().as_u64(),
            info.requested
        )?;
        if let Some(caller) = info.caller {
            writeln!(out, " {caller}")?;
        }
    } else if state.lazy.iter().any(|area| area.range().contains(va)) {
        writeln!(
            out,
            "The address belongs to a vmalloc area that was freed and not purged yet"
        )?;
    }
    Ok(())
}
