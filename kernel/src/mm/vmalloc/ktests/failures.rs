//! What a call that fails part-way leaves behind: nothing. The page allocator is made to fail at
//! each of its calls in turn.

use super::super::{Error, vfree, vmalloc, vmalloc_aligned, vmap, vunmap, vzalloc};
use crate::{
    check, check_eq, kernel_test,
    ktest::TestResult,
    mm::{
        kasan, page_alloc,
        testing::{Usage, bytes, make_room, must},
    },
};
use alloc::vec::Vec;
use vmsa::{Attributes, Frame, Level, VirtAddr};

/// Pages of the last size, whose leaves need more than 64 tables.
const STRETCH: u64 = 70 * 512;

/// Pages that are left to run out of.
const LEFT: u64 = 2048;

/// Fails `make` at its first allocation, then at its second, and so on until it succeeds; then takes
/// its area down again. At least `least` allocations must have failed. With `warm` everything that
/// stays for good (tables, records of areas) exists already, so no page may be missing.
fn fails_cleanly(
    least: u64,
    warm: bool,
    make: impl Fn() -> Result<VirtAddr, Error>,
    unmake: fn(VirtAddr) -> Result<(), Error>,
) -> TestResult {
    make_room()?;
    if warm {
        must!(unmake(must!(make())));
    }
    let before = Usage::now();
    let mut failures = 0;
    let start = loop {
        page_alloc::fail_after(Some(failures));
        let result = make();
        let fired = !page_alloc::armed();
        page_alloc::fail_after(None);
        match result {
            Ok(start) => {
                check!(!fired);
                break start;
            }
            Err(error) => {
                check!(fired);
                check_eq!(error, Error::OutOfMemory);
            }
        }
        failures += 1;
        let now = Usage::now();
        check_eq!(
            (failures, now.space, now.shadow),
            (failures, before.space, before.shadow)
        );
        if warm {
            check_eq!((failures, now.pages), (failures, before.pages));
        }
    };
    check!(failures >= least);
    must!(unmake(start));
    let after = Usage::now();
    check_eq!((after.space, after.shadow), (before.space, before.shadow));
    check!(!warm || after.pages == before.pages);
    Ok(())
}

/// Allocations that an area of vmalloc makes once its tables exist: its shadow's pages and its own.
fn expected(own: u64) -> u64 {
    own + u64::from(kasan::is_on())
}

kernel_test! { "vmalloc", a_failing_vmalloc_gives_everything_back, {
    // 7 pages and a guard are one page of shadow, 8 and a guard are two.
    for pages in [1, 7, 8, 100, 600, 1500] {
        fails_cleanly(expected(1), true, || vmalloc(bytes(pages)), vfree)?;
    }
    fails_cleanly(expected(1), true, || vmalloc_aligned(bytes(3), 2 << 20), vfree)
} }

kernel_test! { "vmalloc", a_failing_vzalloc_gives_everything_back, {
    for pages in [1, 40] {
        fails_cleanly(expected(1), true, || vzalloc(bytes(pages)), vfree)?;
    }
    Ok(())
} }

kernel_test! { "vmalloc", a_failing_vmap_gives_its_addresses_back, {
    // The same few again and again.
    let few: Vec<Frame> = must!(page_alloc::allocate_list(64)).into_frames().collect();
    let mut frames: Vec<Frame> = Vec::new();
    must!(frames.try_reserve_exact(STRETCH as usize));
    frames.extend(few.iter().cycle().take(STRETCH as usize));
    for pages in [1, 8, 600, STRETCH] {
        // Without a shadow nothing is allocated at all.
        let frames = &frames[..pages as usize];
        fails_cleanly(expected(0), true, || vmap(frames, Attributes::KERNEL_DATA), vunmap)?;
    }
    for frame in few {
        must!(page_alloc::free(frame, 0));
    }
    Ok(())
} }

kernel_test! { "vmalloc", failing_for_want_of_tables_leaves_only_tables, {
    // What the heap and the first area of all take for good is not counted: tests come in any order.
    make_room()?;
    must!(vfree(must!(vmalloc(bytes(9)))));
    let free = Usage::now().pages;
    // Far from all that is mapped: a level 0 entry that nobody has used, in the area and in its
    // shadow, whatever ran before.
    fails_cleanly(expected(2), false, || vmalloc_aligned(bytes(9), Level::L0.bytes()), vfree)?;
    // Three levels below it each, and a page of records.
    check!(free - Usage::now().pages <= 7);
    Ok(())
} }

kernel_test! { "vmalloc", running_out_of_pages_gives_everything_back, {
    // Every page that is left costs time several times over, with the debug tools a lot: so few are.
    let _others = must!(page_alloc::withhold(page_alloc::stats().free - LEFT));
    // More than there are.
    let more = bytes(LEFT + 1);
    check_eq!(vmalloc(more), Err(Error::OutOfMemory));
    let before = Usage::now();
    check_eq!(vmalloc(more), Err(Error::OutOfMemory));
    check_eq!(Usage::now(), before);
    // With next to nothing left, a small one fails as well, and works again afterwards.
    let everything = must!(page_alloc::allocate_list(before.pages - 1));
    let result = vmalloc(bytes(2));
    page_alloc::free_list(everything);
    check_eq!(result, Err(Error::OutOfMemory));
    check_eq!(Usage::now(), before);
    let start = must!(vmalloc(bytes(2)));
    must!(vfree(start));
    Ok(())
} }
