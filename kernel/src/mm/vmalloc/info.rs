//! What is in vmalloc space, for people: the layout of `/proc/vmallocinfo`.

use super::{
    area::AreaKind,
    purge,
    state::{SPACE, next_from},
};
use crate::mm::layout::VMALLOC;
use core::fmt;
use vmsa::VirtAddr;

/// Prints every area, one a line, lowest address first, then those that wait for the purge. The areas
/// are looked up one by one: nobody waits for a lock while a line is printed.
pub fn vmallocinfo(out: &mut dyn fmt::Write) -> fmt::Result {
    let mut at = Some(VMALLOC.start());
    while let Some(area) = at.and_then(next_from) {
        let pages = area.mapped.pages();
        line(out, area.mapped.start(), pages + area.kind.guard_pages())?;
        if let Some(caller) = area.caller {
            write!(out, " {}:{}", caller.file(), caller.line())?;
        }
        let kind = match area.kind {
            AreaKind::Vmalloc | AreaKind::VmallocHuge => "vmalloc",
            AreaKind::Vmap => "vmap",
            AreaKind::MapRam | AreaKind::MapRamBlock => "vm_map_ram",
        };
        writeln!(out, " pages={pages} {kind}")?;
        at = area.mapped.last_byte().checked_add(1);
    }
    let mut result = Ok(());
    purge::each_unpurged(|area| {
        result = result
            .and_then(|()| line(out, area.start(), area.pages()))
            .and_then(|()| writeln!(out, " unpurged vm_area"));
    });
    result
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
    let Some(ranges) = SPACE.arena_of(va).and_then(|arena| arena.ranges.try_lock()) else {
        return Ok(());
    };
    if let Some(area) = ranges.busy.find_containing(va) {
        let end = area.start().as_u64() + area.pages() * vmsa::PAGE_SIZE;
        let info = area.info();
        let guard = end - va.as_u64() <= info.kind.guard_pages() * vmsa::PAGE_SIZE;
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
        return Ok(());
    }
    drop(ranges);
    let mut unpurged = false;
    purge::try_each_unpurged(|area| unpurged |= area.range().contains(va));
    if unpurged {
        writeln!(
            out,
            "The address belongs to a vmalloc area that was freed and not purged yet"
        )?;
    }
    Ok(())
}
