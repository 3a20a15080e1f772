//! Kernel tests of vmalloc: where areas lie, who may take them down, what waits for the purge.

mod arenas;
mod failures;
mod flushes;
mod map_ram;

use super::{
    AreaKind, Error, describe, find, stats, unpurged, vfree, vm_unmap_aliases, vmalloc,
    vmalloc_aligned, vmallocinfo, vmap, vunmap, vzalloc,
};
use crate::{
    arch::{
        cpu,
        fault::Fault,
        fixup::{probe_read_u64, probe_write_u64},
    },
    check, check_eq, kernel_test,
    ktest::{Failure, TestResult},
    mm::{
        debug_pagealloc, kasan,
        lazy::{self, Backend, Model},
        linear_map, page_alloc,
        testing::{Chosen, Usage, bytes, frame_at, logged, make_room, must, trouble},
    },
    trace::Counts,
};
use alloc::{format, string::String};
use vmsa::{Attributes, PAGE_SIZE, VirtAddr};

/// Whether an access failed because nothing is mapped.
fn not_mapped<T>(result: Result<T, Fault>) -> bool {
    result.is_err_and(|fault| fault.is_translation_fault())
}

/// What is in use once the tables and records exist that small areas need: those stay.
fn warmed() -> Result<Usage, Failure> {
    let failed = |_| trouble("no area");
    let areas = [20, 20, 20, 20].map(|pages| vmalloc(bytes(pages)));
    for area in areas {
        area.and_then(vfree).map_err(failed)?;
    }
    Ok(Usage::now())
}

/// Stores a word in each page of an area.
fn fill(start: VirtAddr, pages: u64, word: u64) -> Result<(), Fault> {
    // SAFETY: the area is the test's own.
    (0..pages).try_for_each(|i| unsafe { probe_write_u64(start + bytes(i) + 8 * i, word) })
}

kernel_test! { "vmalloc", an_area_is_memory, {
    let before = warmed()?;
    let start = must!(vmalloc(bytes(7) - 3));
    must!(fill(start, 7, 0x5a5a));
    // Every page is a page of its own, and nobody else's.
    for i in 0..7 {
        let frame = frame_at(start + bytes(i))?;
        check!(!page_alloc::is_free(frame));
        check_eq!(must!(probe_read_u64(linear_map::virt(frame.start()) + 8 * i)), 0x5a5a);
        let is_other = |j| frame_at(start + bytes(j)).is_ok_and(|other| other != frame);
        check!((0..i).all(is_other));
    }
    let area = must!(find(start + bytes(7)).ok_or("the guard page belongs to it"));
    check_eq!((area.mapped.start(), area.mapped.pages()), (start, 7));
    check_eq!((area.requested, area.kind), (bytes(7) - 3, AreaKind::Vmalloc));
    check!(area.caller.is_some_and(|caller| caller.file() == file!()));
    must!(vfree(start));
    check!(find(start).is_none());
    check_eq!(Usage::now(), before);
    Ok(())
} }

kernel_test! { "vmalloc", what_alignment_passes_over_waits_and_comes_back_with_its_area, {
    const ALIGN: u64 = 16 * PAGE_SIZE;
    warmed()?;
    vm_unmap_aliases();
    let before = stats();
    // The first has what lies before it; each of the others comes after one, and cannot adjoin it.
    let mut areas = [must!(vmalloc_aligned(PAGE_SIZE, ALIGN)); 3];
    let mut took = [0; 3];
    for (area, took) in areas.iter_mut().zip(&mut took).skip(1) {
        let free = stats().free;
        *area = must!(vmalloc_aligned(PAGE_SIZE, ALIGN));
        *took = free - stats().free;
        check!(area.is_aligned(ALIGN));
        // It is nobody's, and not mapped.
        check!(find(*area - PAGE_SIZE).is_none());
        check!(not_mapped(probe_read_u64(*area - PAGE_SIZE)));
    }
    check!(took.iter().any(|pages| *pages > 2));
    for (area, took) in areas.into_iter().zip(took).skip(1) {
        let (_, lazy, _) = unpurged();
        must!(vfree(area));
        check_eq!(unpurged().1 - lazy, took);
    }
    must!(vfree(areas[0]));
    vm_unmap_aliases();
    check_eq!(stats(), before);
    Ok(())
} }

kernel_test! { "vmalloc", one_page_is_a_leaf_and_its_barriers, {
    let _chosen = Chosen::new(Model::TwoCounters, Backend::Barriers)?;
    let other = must!(vmalloc(1));
    for in_section in [false, true] {
        let section = in_section.then(lazy::section);
        if in_section {
            // Leaves the section something to make good.
            must!(linear_map::kernel().set_leaf(other, |leaf| leaf));
        }
        let counts = Counts::now();
        let start = must!(vmalloc(1));
        must!(fill(start, 1, 0x5a5a));
        drop(section);
        let made = counts.since();
        // Those have more to do, for the shadow and for the page.
        if !kasan::is_on() && !debug_pagealloc::is_on() {
            check_eq!((made.stores, made.dsb, made.isb, made.tlbi), (1, 1, 1, 0));
        }
        check!(not_mapped(probe_read_u64(start + bytes(1))));
        must!(vfree(start));
        vm_unmap_aliases();
        check!(not_mapped(probe_read_u64(start)));
    }
    must!(vfree(other));
    Ok(())
} }

kernel_test! { "vmalloc", the_lowest_addresses_that_fit_are_taken, {
    vm_unmap_aliases();
    // Whatever small holes there are, stacks leave some, these fill them.
    let above = must!(vmalloc(bytes(100)));
    let mut others = alloc::vec![above];
    while others.last() <= Some(&above) {
        others.push(must!(vmalloc(bytes(1))));
    }
    let a = must!(vmalloc(bytes(20)));
    let hole = must!(vmalloc(bytes(9)));
    let b = must!(vmalloc(bytes(20)));
    check!(hole < b);
    must!(vfree(hole));
    vm_unmap_aliases();
    // 10 pages with the guard: 4 and 6 fill it, and then the next is above.
    let first = must!(vmalloc(bytes(3)));
    let second = must!(vmalloc(bytes(5)));
    let third = must!(vmalloc(bytes(20)));
    check_eq!((first, second), (hole, hole + bytes(4)));
    check!(third > b);
    others.extend([a, b, first, second, third]);
    for start in others {
        must!(vfree(start));
    }
    Ok(())
} }

kernel_test! { "vmalloc", a_guard_page_is_behind_every_area, {
    let a = must!(vmalloc(bytes(2)));
    let b = must!(vmalloc(bytes(2)));
    for start in [a, b] {
        must!(fill(start, 2, 1));
        must!(probe_read_u64(start + (bytes(2) - 8)));
        check!(not_mapped(probe_read_u64(start + bytes(2))));
        // SAFETY: nothing is there.
        check!(not_mapped(unsafe { probe_write_u64(start + (bytes(3) - 8), 1) }));
        let mut text = String::new();
        must!(describe(start + bytes(2), &mut text));
        check!(text.contains("is in the guard page behind"));
        check!(text.contains(&format!("of {} bytes created by:", bytes(2))));
        text.clear();
        must!(describe(start + (bytes(2) - 1), &mut text));
        check!(!text.contains("guard page") && text.contains(file!()));
    }
    must!(vfree(a));
    must!(vfree(b));
    Ok(())
} }

kernel_test! { "vmalloc", alignment_is_kept, {
    let before = Usage::now();
    let mut areas = [VirtAddr::literal(0); 8];
    let aligns = [PAGE_SIZE, 2 * PAGE_SIZE, 64 << 10, 2 << 20, 1 << 30, 1, 8, 0];
    for (slot, align) in areas.iter_mut().zip(aligns) {
        *slot = must!(vmalloc_aligned(bytes(3), align));
        check!(slot.is_aligned(align.max(PAGE_SIZE)));
        must!(fill(*slot, 3, 1));
    }
    for start in areas {
        must!(vfree(start));
    }
    // Tables stay, so pages are counted where they exist already.
    let mid = Usage::now();
    check_eq!((mid.space, mid.shadow), (before.space, before.shadow));
    // No power of two, and powers of which there is no multiple in vmalloc space.
    for align in [PAGE_SIZE + 1, 3 * PAGE_SIZE, u64::MAX] {
        check_eq!(vmalloc_aligned(bytes(1), align), Err(Error::Invalid));
    }
    for align in [1 << 47, 1 << 63] {
        check_eq!(vmalloc_aligned(bytes(1), align), Err(Error::NoSpace));
    }
    check_eq!(Usage::now(), mid);
    Ok(())
} }

kernel_test! { "vmalloc", nonsense_is_an_error, {
    let before = warmed()?;
    check_eq!(vmalloc(0), Err(Error::Invalid));
    check_eq!(vzalloc(0), Err(Error::Invalid));
    check_eq!(vmap(&[], Attributes::KERNEL_DATA), Err(Error::Invalid));
    let managed = page_alloc::stats().managed;
    check_eq!(vmalloc(u64::MAX), Err(Error::TooLarge));
    check_eq!(vmalloc(bytes(managed) + 1), Err(Error::TooLarge));
    check_eq!(Usage::now(), before);
    Ok(())
} }

kernel_test! { "vmalloc", vzalloc_is_zeroed, {
    let dirty = must!(vmalloc(bytes(8)));
    for offset in (0..bytes(8)).step_by(8) {
        // SAFETY: the area is ours.
        must!(unsafe { probe_write_u64(dirty + offset, u64::MAX) });
    }
    must!(vfree(dirty));
    let clean = must!(vzalloc(bytes(8)));
    for offset in (0..bytes(8)).step_by(8) {
        check_eq!(must!(probe_read_u64(clean + offset)), 0);
    }
    must!(vfree(clean));
    Ok(())
} }

kernel_test! { "vmalloc", vmap_maps_the_pages_of_others, {
    let first = must!(page_alloc::allocate(0));
    let second = must!(page_alloc::allocate(0));
    let before = warmed()?;
    // In any order, and twice.
    let start = must!(vmap(&[second, first, second], Attributes::KERNEL_DATA));
    must!(fill(start, 2, 0x77));
    check_eq!(must!(probe_read_u64(linear_map::virt(second.start()))), 0x77);
    check_eq!(must!(probe_read_u64(linear_map::virt(first.start()) + 8)), 0x77);
    check_eq!(must!(probe_read_u64(start + bytes(2))), 0x77);
    check!(not_mapped(probe_read_u64(start + bytes(3))));
    must!(vunmap(start));
    // The pages are still the caller's.
    check!(!page_alloc::is_free(first) && !page_alloc::is_free(second));
    check_eq!(must!(probe_read_u64(linear_map::virt(second.start()))), 0x77);
    check_eq!(Usage::now(), before);
    let constant = must!(vmap(&[first], Attributes::KERNEL_RODATA));
    must!(probe_read_u64(constant));
    // SAFETY: the page is ours.
    let refused = unsafe { probe_write_u64(constant, 1) };
    check!(refused.is_err_and(|fault| fault.is_permission_fault()));
    must!(vunmap(constant));
    must!(page_alloc::free(first, 0));
    must!(page_alloc::free(second, 0));
    Ok(())
} }

/// Something that must be refused, reported as `what`, and change nothing.
fn refused(what: &str, start: VirtAddr, call: fn(VirtAddr) -> Result<(), Error>) -> TestResult {
    make_room()?;
    let before = (page_alloc::stats(), stats());
    let (text, result) = logged(|| call(start));
    check_eq!(result, Err(Error::NoArea(start)));
    check!(text.contains(&format!("ERROR: BUG: {what}({start}) at {}", file!())));
    check_eq!((page_alloc::stats(), stats()), before);
    Ok(())
}

/// The two calls, at places in this file.
fn free(start: VirtAddr) -> Result<(), Error> {
    vfree(start)
}

fn unmap(start: VirtAddr) -> Result<(), Error> {
    vunmap(start)
}

kernel_test! { "vmalloc", the_wrong_address_or_kind_is_refused, {
    let frame = must!(page_alloc::allocate(0));
    let area = must!(vmalloc(bytes(3)));
    let mapping = must!(vmap(&[frame], Attributes::KERNEL_DATA));
    refused("vfree", mapping, free)?;
    refused("vunmap", area, unmap)?;
    refused("vfree", area + PAGE_SIZE, free)?;
    refused("vfree", area + bytes(3), free)?;
    refused("vfree", area + 8, free)?;
    refused("vfree", linear_map::virt(frame.start()), free)?;
    refused("vfree", VirtAddr::literal(0), free)?;
    refused("vunmap", VirtAddr::MAX, unmap)?;
    // Both are still there.
    must!(fill(area, 3, 3));
    must!(fill(mapping, 1, 3));
    must!(vfree(area));
    must!(vunmap(mapping));
    refused("vfree", area, free)?;
    refused("vunmap", mapping, unmap)?;
    vm_unmap_aliases();
    refused("vfree", area, free)?;
    must!(page_alloc::free(frame, 0));
    Ok(())
} }

kernel_test! { "vmalloc", freed_addresses_wait_for_the_purge, {
    make_room()?;
    warmed()?;
    let (_, _, purges) = unpurged();
    let free = page_alloc::stats().free;
    let start = must!(vmalloc(bytes(4)));
    must!(fill(start, 4, 9));
    must!(vfree(start));
    // The pages are free at once, but for what the shadow has; the addresses are not.
    check_eq!(unpurged(), (1, 5, purges));
    let other = must!(vmalloc(bytes(4)));
    check!(other != start);
    if debug_pagealloc::is_on() {
        // The flush was not put off: whoever asks for DEBUG_PAGEALLOC wants the fault now.
        check!((0..4).all(|i| not_mapped(probe_read_u64(start + bytes(i)))));
    }
    let mut text = String::new();
    must!(describe(start, &mut text));
    check!(text.contains("freed and not purged yet"));
    must!(vfree(other));
    check_eq!(unpurged(), (2, 10, purges));
    vm_unmap_aliases();
    check_eq!(unpurged(), (0, 0, purges + 1));
    check!((0..5).all(|i| not_mapped(probe_read_u64(start + bytes(i)))));
    check_eq!(page_alloc::stats().free, free);
    // Nothing to do is no purge; and now the addresses can be had again.
    vm_unmap_aliases();
    check_eq!(unpurged(), (0, 0, purges + 1));
    check_eq!(must!(vmalloc(bytes(4))), start);
    must!(vfree(start));
    Ok(())
} }

kernel_test! { "vmalloc", the_purge_comes_by_itself_at_the_limit, {
    // 32 MiB for each bit of the number of CPUs, as Linux has it, shared by the arenas.
    let cpus = cpu::count() as u64;
    let limit = 8192 * u64::from(64 - cpus.leading_zeros()) / cpus.next_power_of_two();
    let before = Usage::now();
    let (_, _, purges) = unpurged();
    let frame = must!(page_alloc::allocate(0));
    let frames = [frame; 511];
    // So many times 512 pages with their guards are the limit, not above it.
    for i in 1..=limit as usize / 512 {
        let start = must!(vmap(&frames, Attributes::KERNEL_DATA));
        must!(vunmap(start));
        check_eq!(unpurged(), (i, 512 * i as u64, purges));
    }
    check_eq!(unpurged().1, limit);
    let one_more = must!(vmap(&[frame], Attributes::KERNEL_DATA));
    must!(vunmap(one_more));
    check_eq!(unpurged(), (0, 0, purges + 1));
    must!(page_alloc::free(frame, 0));
    let after = Usage::now();
    check_eq!((after.space, after.shadow), (before.space, before.shadow));
    Ok(())
} }

kernel_test! { "vmalloc", vmallocinfo_names_every_area, {
    vm_unmap_aliases();
    let line = line!() + 1;
    let area = must!(vmalloc(bytes(3) - 100));
    let frame = must!(page_alloc::allocate(0));
    let mapping = must!(vmap(&[frame, frame], Attributes::KERNEL_DATA));
    let mut text = String::new();
    must!(vmallocinfo(&mut text));
    let range = |start: VirtAddr, pages: u64| {
        let (start, size) = (start.as_u64(), bytes(pages));
        format!("{start:#018x}-{:#018x} {size:7}", start + size)
    };
    let first = format!("{} {}:{line} pages=3 vmalloc", range(area, 4), file!());
    let second = format!("{} {}:{} pages=2 vmap", range(mapping, 3), file!(), line + 2);
    check!(text.lines().any(|l| l == first) && text.lines().any(|l| l == second));
    check_eq!(text.lines().count(), stats().areas);
    check!(!text.contains("unpurged"));
    // Lowest address first.
    check!(text.lines().is_sorted());
    must!(vfree(area));
    must!(vunmap(mapping));
    text.clear();
    must!(vmallocinfo(&mut text));
    check!(text.contains(&format!("{} unpurged vm_area\n", range(area, 4))));
    check!(text.contains(&format!("{} unpurged vm_area\n", range(mapping, 3))));
    check!(!text.contains(&first) && !text.contains(&second));
    vm_unmap_aliases();
    text.clear();
    must!(vmallocinfo(&mut text));
    check!(!text.contains("unpurged") && text.lines().count() == stats().areas);
    must!(page_alloc::free(frame, 0));
    Ok(())
} }
