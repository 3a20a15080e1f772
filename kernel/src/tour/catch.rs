//! Three mistakes, each caught by what was built to catch it, reported, and survived.

use super::{Trouble, ensure, failed};
use crate::{
    arch::fault,
    arch::fixup,
    mm::{
        debug_pagealloc, kasan,
        kasan::{access, report},
        linear_map, page_alloc, vmalloc,
    },
    oops::Survived,
    println,
};
use alloc::{format, string::String};
use vmsa::VirtAddr;

/// Not a multiple of 8: the last granule is partial. 2048 - 8 - 5, as in Linux's vmalloc_oob test.
const ODD_SIZE: u64 = 2035;

pub(super) fn run() -> Result<(), Trouble> {
    if !debug_pagealloc::is_on() {
        return Err(Trouble::Needs("DEBUG_PAGEALLOC=on"));
    }
    if !kasan::is_on() {
        return Err(Trouble::Needs("KASAN=on"));
    }
    use_after_free()?;
    overrun()?;
    out_of_bounds()
}

/// DEBUG_PAGEALLOC: the page of a pointer that was kept is not there any more.
fn use_after_free() -> Result<(), Trouble> {
    println!("[1] a page is freed, then read:");
    let page = page_alloc::allocate(0).map_err(failed)?;
    let va = linear_map::virt(page.start());
    page_alloc::free(page, 0).map_err(failed)?;
    let report = survived(va, || fixup::probe_read_u64(va).map(|_| ()))?;
    let (name, here) = (format!("page {:#x}", page.number()), file!());
    ensure!(
        report.contains("use after free") && report.contains(&name),
        "the report does not name {name}"
    );
    ensure!(
        report.contains("freed by") && report.contains(here),
        "the report does not say who freed it"
    );
    Ok(())
}

/// The guard page: behind every area there is a page that is not there.
fn overrun() -> Result<(), Trouble> {
    println!("[2] one byte is written behind a vmalloc area:");
    let start = vmalloc::vmalloc(vmsa::PAGE_SIZE).map_err(failed)?;
    let behind = start + vmsa::PAGE_SIZE;
    let report = survived(behind, || {
        // SAFETY: behind an area there is nothing that could be changed.
        unsafe { fixup::probe_write_u8(behind, 1) }
    });
    vmalloc::vfree(start).map_err(failed)?;
    let report = report?;
    ensure!(
        report.contains("guard page") && report.contains(file!()),
        "the report does not name the area"
    );
    Ok(())
}

/// The shadow: inside of the page, but beyond what was asked for.
fn out_of_bounds() -> Result<(), Trouble> {
    println!("[3] of {ODD_SIZE} bytes, the last is read, then the one behind:");
    let start = vmalloc::vmalloc(ODD_SIZE).map_err(failed)?;
    let inside = access::load_u8(start + (ODD_SIZE - 1));
    let outside = access::load_u8(start + ODD_SIZE);
    vmalloc::vfree(start).map_err(failed)?;
    ensure!(
        inside.is_ok(),
        "the last byte could not be read: {inside:?}"
    );
    let expected = report::Kind("vmalloc-out-of-bounds");
    ensure!(
        matches!(outside, Err(access::Error::Kasan(kind)) if kind == expected),
        "the byte behind gave {outside:?}, expected {expected:?}"
    );
    Ok(())
}

/// Makes an access that must fault at `va` with a translation fault; prints and returns the report.
fn survived(
    va: VirtAddr,
    access: impl FnOnce() -> Result<(), fault::Fault>,
) -> Result<String, Trouble> {
    let Err(fault) = access() else {
        return Err(Trouble::Failed(format!("{va} could be accessed")));
    };
    let report = format!("{}", Survived(&fault));
    report.lines().for_each(|line| println!("    {line}"));
    ensure!(
        fault.address() == Some(va) && fault.is_translation_fault(),
        "{fault}, expected a translation fault at {va}"
    );
    Ok(report)
}
