//! W^X by frame: it holds, and the walk that says so would say if it did not.

use super::Area;
use crate::{
    arch::image,
    check, check_eq, kernel_test,
    ktest::Failure,
    mm::{
        dump::{Verdict, check_wx},
        layout::{PARTS, UPPER_HALF},
        linear_map, page_alloc,
        testing::{must, trouble},
        tlb::{Removed, flush_kernel_range},
        vmalloc,
    },
};
use alloc::{format, vec::Vec};
use vmsa::{Attributes, Descriptor, Frame, Level, PageRange, VirtAddr};

fn verdict() -> Verdict {
    check_wx(&[UPPER_HALF])
}

/// The frame of an address of the image.
fn frame(va: VirtAddr) -> Result<Frame, Failure> {
    let pa = image::physical_address(va).ok_or(trouble("an address of the image"))?;
    Ok(Frame::containing(pa))
}

/// Maps `frame` once more, checks that the verdict names `culprit`, and that it passes again
/// without the mapping. Returns where it was.
fn planted(
    frame: Frame,
    attributes: Attributes,
    culprit: impl Fn(VirtAddr) -> VirtAddr,
) -> Result<VirtAddr, Failure> {
    let before = verdict();
    check!(before.passed());
    let va = must!(vmalloc::vmap(&[frame], attributes));
    let found = verdict();
    must!(vmalloc::vunmap(va));
    vmalloc::vm_unmap_aliases();
    check!(!found.passed());
    check_eq!(found.writable_too, 1);
    check_eq!(found.first, Some(culprit(va)));
    let text = format!("{found}");
    check!(text.contains("FAILED") && text.contains(&format!("{}", culprit(va))));
    let after = verdict();
    check!(after.passed());
    check_eq!(after.executable, before.executable);
    Ok(va)
}

kernel_test! { "wx", holds_and_what_is_executable_is_the_code, {
    let verdict = verdict();
    check!(verdict.passed());
    check_eq!(verdict.executable, image::text().pages());
    check!(format!("{verdict}").contains("passed"));
    Ok(())
} }

kernel_test! { "wx", finds_code_that_can_be_written, {
    for va in [image::text().start(), image::text().last_byte()] {
        planted(frame(va)?, Attributes::KERNEL_DATA, |va| va)?;
    }
    Ok(())
} }

kernel_test! { "wx", finds_data_that_can_be_executed, {
    let page = must!(page_alloc::allocate(0));
    let result = planted(page, Attributes::KERNEL_TEXT, |_| linear_map::virt(page.start()));
    must!(page_alloc::free(page, 0));
    result.map(drop)
} }

kernel_test! { "wx", finds_a_page_that_is_both, {
    let both = Attributes::KERNEL_DATA - Attributes::PXN;
    check!(both.is_writable_el1() && both.is_executable_el1());
    // Rodata: there is no other address at which it could be written.
    planted(frame(image::rodata().start())?, both, |va| va).map(drop)
} }

kernel_test! { "wx", finds_it_behind_more_writable_pages_than_are_remembered, {
    let page = must!(page_alloc::allocate(0));
    // A run each: there is a guard page behind every area. Until they have come one behind the other
    // for long enough: addresses that were freed before are used up then.
    let mut areas = Vec::new();
    let mut ascending = 0;
    while ascending < 100 {
        let area = must!(vmalloc::vmap(&[page], Attributes::KERNEL_DATA));
        let follows = areas.last().is_some_and(|last| *last < area);
        ascending = if follows { ascending + 1 } else { 0 };
        areas.push(area);
    }
    let text = frame(image::text().start())?;
    let result = planted(text, Attributes::KERNEL_DATA, |va| va);
    let last = areas.last().copied();
    for va in areas {
        must!(vmalloc::vunmap(va));
    }
    must!(page_alloc::free(page, 0));
    // Only so was the other walk needed.
    check!(Some(result?) > last);
    Ok(())
} }

kernel_test! { "wx", a_read_only_alias_of_code_is_no_violation, {
    let code = frame(image::text().start())?;
    let before = verdict();
    let va = must!(vmalloc::vmap(&[code], Attributes::KERNEL_RODATA));
    let with_alias = verdict();
    must!(vmalloc::vunmap(va));
    check!(with_alias.passed());
    check_eq!(with_alias.executable, before.executable);
    Ok(())
} }

kernel_test! { "wx", every_page_of_the_image_is_mapped_as_its_region_says, {
    let kernel = linear_map::kernel();
    for region in image::regions() {
        for n in 0..region.range.pages() {
            let va = region.range.page(n);
            let Some((entry, Level::L3)) = kernel.leaf(va) else {
                return Err(trouble("the image is mapped by pages"));
            };
            check!(entry.is_valid());
            check_eq!(entry.attributes(), region.attributes);
            check_eq!(entry.output(Level::L3), image::physical_address(va));
            let alias = linear_map::virt(frame(va)?.start());
            let (alias, _) = kernel.leaf(alias).ok_or(trouble("RAM is in the linear map"))?;
            check!(!alias.attributes().is_executable_el1());
            let written = region.attributes.is_writable_el1();
            check_eq!(alias.attributes().is_writable_el1(), written);
        }
    }
    for n in 0..image::boot_stack_guard().pages() {
        let guard = kernel.leaf(image::boot_stack_guard().page(n));
        check!(guard.is_none_or(|(entry, _)| !entry.is_valid()));
    }
    Ok(())
} }

kernel_test! { "wx", areas_are_data, {
    let area = Area::new(3)?;
    let range = PageRange::new(area.page(0), 3).ok_or(trouble("three pages"))?;
    let mut pages = 0;
    linear_map::kernel().visit(range, &mut |_, _, entry| {
        pages += u64::from(entry.attributes() == Attributes::KERNEL_DATA);
    });
    check_eq!(pages, 3);
    Ok(())
} }

kernel_test! { "wx", a_mapping_outside_of_every_part_is_found, {
    let nowhere = must!(PageRange::new(VirtAddr::literal(0xffff_f000_0000_0000), 1).ok_or("no range"));
    check!(PARTS.iter().all(|(_, part)| !part.contains(nowhere.start())));
    let text = frame(image::text().start())?;
    let mut kernel = linear_map::kernel();
    must!(kernel.apply_to_page_range(nowhere, |leaf| {
        let new = Descriptor::leaf(Level::L3, text.start(), Attributes::KERNEL_DATA);
        leaf.set(leaf.get(), new.unwrap_or(Descriptor::INVALID));
        Ok(())
    }));
    let found = verdict();
    must!(kernel.apply_to_existing_page_range(nowhere, |leaf| {
        leaf.take();
        Ok(())
    }));
    flush_kernel_range(nowhere, Removed::Leaves);
    check_eq!((found.writable_too, found.first), (1, Some(nowhere.start())));
    check!(verdict().passed());
    Ok(())
} }
