//! The address space as it is mapped, read from the live tables, and what must hold of it.

use super::{Trouble, ensure};
use crate::{
    arch::{fixup, image},
    mm::{
        dump::{check_wx, for_each_run},
        layout::{PARTS, UPPER_HALF},
        linear_map,
    },
    println,
};
use vmsa::{PageRange, PhysAddr, VirtAddr};

/// Runs that are printed of a part; DEBUG_PAGEALLOC makes many.
const RUNS: usize = 8;

pub(super) fn run() -> Result<(), Trouble> {
    for (name, part) in PARTS {
        println!(
            "{name}: {:016x}-{:016x}",
            part.start().as_u64(),
            part.last_byte().as_u64()
        );
        let mut runs = 0;
        for_each_run(part, &mut |run| {
            runs += 1;
            if runs <= RUNS {
                println!("  {run}");
            }
        });
        if runs > RUNS {
            println!("  and {} runs more", runs - RUNS);
        }
    }
    let verdict = check_wx(&[UPPER_HALF]);
    println!("{verdict}");
    ensure!(verdict.passed(), "{verdict}");
    let code = image::text().pages();
    ensure!(
        verdict.executable == code,
        "{} executable frames, expected {code}",
        verdict.executable
    );

    for region in [image::text(), image::rodata()] {
        for page in region.pages_iter() {
            ensure!(
                !alias_is_writable(page),
                "the linear alias of {page} is writable"
            );
        }
    }
    let guard = image::boot_stack_guard().start();
    ensure!(
        fixup::probe_read_u8(guard).is_err(),
        "the guard page of the boot stack can be read"
    );
    let identity = VirtAddr::literal(boot::IMAGE_PA);
    ensure!(
        fixup::probe_read_u8(identity).is_err(),
        "the identity map is still there"
    );
    Ok(())
}

/// Whether the frame of an image page can be written through the linear map.
fn alias_is_writable(page: VirtAddr) -> bool {
    let alias = image::physical_address(page).map(|pa: PhysAddr| linear_map::virt(pa));
    alias.and_then(|alias| {
        let mut writable = false;
        linear_map::kernel().visit(PageRange::new(alias, 1)?, &mut |_, _, entry| {
            writable |= entry.is_valid() && entry.attributes().is_writable_el1();
        });
        Some(writable)
    }) != Some(false)
}
