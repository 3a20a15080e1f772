//! What an address is, for reports: the free page that it is in and who freed it, the guard page
//! that was hit, the area that it belongs to.

use super::{
    debug_pagealloc,
    kasan::shadow,
    layout::{PARTS, SHADOW, VMALLOC},
    vmalloc,
};
use crate::arch::image;
use core::fmt;
use vmsa::VirtAddr;

/// Says in whole lines what is known of `va`. Takes no lock that it would have to wait for.
pub fn explain(va: VirtAddr, out: &mut dyn fmt::Write) -> fmt::Result {
    if image::boot_stack_guard().contains(va) {
        return writeln!(out, "{va} is in the guard page below the boot stack");
    }
    if debug_pagealloc::explain(va, out)? {
        return Ok(());
    }
    if VMALLOC.contains(va) {
        return vmalloc::describe(va, out);
    }
    if let Some(memory) = shadow::memory_of(va).filter(|_| SHADOW.contains(va)) {
        return writeln!(out, "{va} is the shadow of {memory}");
    }
    match PARTS.iter().find(|(_, part)| part.contains(va)) {
        Some((name, _)) => writeln!(out, "{va} is in the {name}"),
        None => writeln!(out, "{va} is in no part of the kernel's address space"),
    }
}
