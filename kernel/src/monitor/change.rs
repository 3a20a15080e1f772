//! Areas of vmalloc by hand: `vmalloc`, `vfree`, `set_memory`.
//!
//! Only areas that were made here can be freed and changed here: the kernel's own (its stacks, one
//! day) are in use. Who made an area is in its record.

use super::{
    arguments::{number, page, size},
    command::{Failed, List, refuse},
};
use crate::{
    mm::{
        set_memory::{set_memory_nx, set_memory_ro, set_memory_rw, set_memory_valid, set_memory_x},
        vmalloc as areas,
    },
    println,
};
use vmsa::{PageRange, VirtAddr};

/// `vmalloc BYTES`.
pub(super) fn vmalloc(arguments: &[&str]) -> Result<(), Failed> {
    let [bytes] = arguments else {
        return Err(Failed::Usage);
    };
    let bytes = size(bytes)?;
    match areas::vmalloc(bytes) {
        Ok(start) => {
            println!("{start}");
            Ok(())
        }
        Err(error) => refuse!("no area of {bytes} bytes: {error}"),
    }
}

/// The pages of the area that `va` lies in, if it was made here.
fn area_at(va: VirtAddr) -> Result<PageRange, Failed> {
    let Some(area) = areas::find(va) else {
        return refuse!("{va} is in no vmalloc area; known: see 'vmallocinfo'");
    };
    match area.caller {
        Some(caller) if caller.file() == file!() => Ok(area.mapped),
        Some(caller) => refuse!(
            "the area at {} is not the monitor's: {caller}",
            area.mapped.start()
        ),
        None => refuse!("the area at {} is not the monitor's", area.mapped.start()),
    }
}

/// `vfree ADDRESS`.
pub(super) fn vfree(arguments: &[&str]) -> Result<(), Failed> {
    let [start] = arguments else {
        return Err(Failed::Usage);
    };
    let start = page(start)?;
    let area = area_at(start)?;
    if area.start() != start {
        return refuse!(
            "{start} is not the start of its area, which is {}",
            area.start()
        );
    }
    areas::vfree(start).map_err(Failed::because)
}

/// What `set_memory` can do.
pub(super) const KINDS: [&str; 6] = ["ro", "rw", "x", "nx", "valid", "invalid"];

/// `set_memory KIND ADDRESS PAGES`.
pub(super) fn set_memory(arguments: &[&str]) -> Result<(), Failed> {
    let [kind, start, pages] = arguments else {
        return Err(Failed::Usage);
    };
    if !KINDS.contains(kind) {
        return refuse!("unknown kind '{kind}'; known: {}", List(&KINDS));
    }
    let (start, pages) = (page(start)?, number(pages)?);
    let area = area_at(start)?;
    let Some(range) = PageRange::new(start, pages).filter(|range| range.pages() > 0) else {
        return refuse!("{pages} pages from {start} are no range");
    };
    if !area.contains(range.start()) || !area.contains(range.last_byte()) {
        return refuse!(
            "{pages} pages from {start} are not within their area; known: {} pages from {}",
            area.pages(),
            area.start()
        );
    }
    let done = match *kind {
        "ro" => set_memory_ro(start, pages),
        "rw" => set_memory_rw(start, pages),
        "x" => set_memory_x(start, pages),
        "nx" => set_memory_nx(start, pages),
        kind => set_memory_valid(start, pages, kind == "valid"),
    };
    done.map_err(Failed::because)
}
