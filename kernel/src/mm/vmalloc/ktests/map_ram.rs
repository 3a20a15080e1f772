//! Kernel tests of `vm_map_ram`: which addresses it gives, what a purge does with them, who may unmap.

use super::{not_mapped, warmed};
use crate::{
    arch::fixup::{probe_read_u64, probe_write_u64},
    check, check_eq, kernel_test,
    ktest::{Failure, TestResult},
    mm::{
        debug_pagealloc, kasan,
        lazy::{self, Backend, Model},
        linear_map, page_alloc,
        testing::{Chosen, Usage, bytes, logged, make_room, must, trouble},
        vmalloc::{
            AreaKind, Error, area::BLOCK_PAGES, find, unpurged, vfree, vm_map_ram,
            vm_unmap_aliases, vm_unmap_ram, vmallocinfo, vunmap,
        },
    },
    task::schedule::{migrate_to, unpin},
    tests::cpus::{all, me, on},
    trace::Counts,
};
use alloc::{format, string::String, vec::Vec};
use core::sync::atomic::{AtomicU64, Ordering};
use vmsa::{Frame, PAGE_SIZE, VirtAddr};

const BLOCK: u64 = bytes(BLOCK_PAGES as u64);

/// Pages of the test's own, and this CPU: addresses come from its block.
struct Own(Vec<Frame>);

impl Own {
    fn new(pages: u64) -> Result<Self, Failure> {
        let pinned = migrate_to(me()).is_ok();
        let list = page_alloc::allocate_list(pages);
        match list {
            Ok(list) if pinned => Ok(Self(list.into_frames().collect())),
            _ => Err(trouble("no pages for the test")),
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        for frame in &self.0 {
            let _ = page_alloc::free(*frame, 0);
        }
        unpin();
    }
}

/// Uses up the block of this CPU, and has it purged: what follows comes from a new one.
fn without_block(frame: Frame) -> TestResult {
    let mut last = None;
    loop {
        let start = must!(vm_map_ram(&[frame]));
        must!(vm_unmap_ram(start, 1));
        // The last page of a block, or the first of one.
        if start.is_aligned(BLOCK) && last.is_some() || (start + PAGE_SIZE).is_aligned(BLOCK) {
            break;
        }
        last = Some(start);
    }
    vm_unmap_aliases();
    Ok(())
}

kernel_test! { "map_ram", a_few_pages_come_from_a_block_one_after_the_other, {
    let own = Own::new(64)?;
    without_block(own.0[0])?;
    let first = must!(vm_map_ram(&own.0[..3]));
    check!(first.is_aligned(BLOCK));
    check_eq!(must!(vm_map_ram(&own.0)), first + bytes(3));
    for (i, frame) in own.0.iter().enumerate() {
        let at = first + bytes(3 + i as u64);
        // SAFETY: the pages are the test's own.
        must!(unsafe { probe_write_u64(at, i as u64) });
        check_eq!(must!(probe_read_u64(linear_map::virt(frame.start()))), i as u64);
    }
    check!(not_mapped(probe_read_u64(first + bytes(67))));
    let area = must!(find(first + bytes(4)).ok_or("the block is an area"));
    check_eq!((area.kind, area.mapped.pages()), (AreaKind::MapRamBlock, BLOCK_PAGES.into()));
    let mut text = String::new();
    must!(vmallocinfo(&mut text));
    check!(text.contains("pages=1024 vm_map_ram"));
    must!(vm_unmap_ram(first, 3));
    must!(vm_unmap_ram(first + bytes(3), 64));
    // What has been given out is not given out again.
    let next = must!(vm_map_ram(&own.0[..1]));
    check_eq!(next, first + bytes(67));
    must!(vm_unmap_ram(next, 1));
    Ok(())
} }

kernel_test! { "map_ram", more_pages_get_an_area, {
    let own = Own::new(65)?;
    let before = warmed()?;
    let start = must!(vm_map_ram(&own.0));
    let area = must!(find(start).ok_or("it is an area"));
    check_eq!((area.mapped.start(), area.mapped.pages()), (start, 65));
    check_eq!((area.kind, area.requested), (AreaKind::MapRam, bytes(65)));
    check!(area.caller.is_some_and(|caller| caller.file() == file!()));
    check!(not_mapped(probe_read_u64(start + bytes(65))));
    must!(vm_unmap_ram(start, 65));
    check_eq!(Usage::now(), before);
    check_eq!(vm_map_ram(&[]), Err(Error::Invalid));
    Ok(())
} }

kernel_test! { "map_ram", a_block_that_is_dirty_as_a_whole_is_purged, {
    let own = Own::new(16)?;
    without_block(own.0[0])?;
    make_room()?;
    // Tables and records are there from the first time.
    for _ in 0..2 {
        without_block(own.0[0])?;
    }
    let before = Usage::now();
    let starts: Vec<VirtAddr> = must!((0..64).map(|_| vm_map_ram(&own.0)).collect());
    check!(starts[0].is_aligned(BLOCK));
    check_eq!(find(starts[0]).map(|area| area.mapped.pages()), Some(BLOCK_PAGES.into()));
    for start in &starts[..63] {
        must!(vm_unmap_ram(*start, 16));
    }
    // In use as long as one page is.
    vm_unmap_aliases();
    check!(find(starts[0]).is_some());
    // SAFETY: the pages are the test's own.
    must!(unsafe { probe_write_u64(starts[63], 7) });
    check!(not_mapped(probe_read_u64(starts[0])));
    must!(vm_unmap_ram(starts[63], 16));
    let (_, _, purges) = unpurged();
    vm_unmap_aliases();
    check_eq!(unpurged().2, purges + 1);
    check!(find(starts[0]).is_none());
    drop(starts);
    let after = Usage::now();
    check_eq!((after.space, after.shadow), (before.space, before.shadow));
    Ok(())
} }

kernel_test! { "map_ram", one_page_is_a_leaf_and_its_barriers, {
    let own = Own::new(1)?;
    let _chosen = Chosen::new(Model::TwoCounters, Backend::Barriers)?;
    // A block, whose table is there, and that is dirty already.
    let first = must!(vm_map_ram(&own.0));
    must!(vm_unmap_ram(first, 1));
    for in_section in [false, true] {
        let kept = must!(vm_map_ram(&own.0));
        let section = in_section.then(lazy::section);
        if in_section {
            // Leaves the section something to make good.
            must!(linear_map::kernel().set_leaf(kept, |leaf| leaf));
        }
        let counts = Counts::now();
        let start = must!(vm_map_ram(&own.0));
        // SAFETY: the page is the test's own.
        must!(unsafe { probe_write_u64(start, 7) });
        drop(section);
        let map = counts.since();
        // Whoever has a section open owes nothing at its end, for what came before it neither.
        check_eq!((map.stores, map.dsb, map.isb, map.tlbi), (1, 1, 1, 0));
        let counts = Counts::now();
        must!(vm_unmap_ram(start, 1));
        let unmap = counts.since();
        if !debug_pagealloc::is_on() {
            check_eq!((unmap.stores, unmap.dsb, unmap.isb, unmap.tlbi), (1, 0, 0, 0));
        }
        must!(vm_unmap_ram(kept, 1));
        vm_unmap_aliases();
        check!(not_mapped(probe_read_u64(start)));
        check_eq!(logged(|| vm_unmap_ram(start, 1)).1, Err(Error::NoArea(start)));
    }
    Ok(())
} }

kernel_test! { "map_ram", who_must_be_sure_flushes_what_is_dirty_once, {
    let own = Own::new(2)?;
    let start = must!(vm_map_ram(&own.0));
    vm_unmap_aliases();
    must!(probe_read_u64(start + PAGE_SIZE));
    must!(vm_unmap_ram(start, 2));
    if debug_pagealloc::is_on() {
        check!(not_mapped(probe_read_u64(start)));
    }
    let (_, _, purges) = unpurged();
    vm_unmap_aliases();
    check_eq!(unpurged().2, purges + 1);
    check!(not_mapped(probe_read_u64(start)) && not_mapped(probe_read_u64(start + PAGE_SIZE)));
    // The block stays, and nothing of it is left to flush.
    check!(find(start).is_some());
    vm_unmap_aliases();
    check_eq!(unpurged().2, purges + 1);
    Ok(())
} }

kernel_test! { "map_ram", what_is_not_mapped_is_not_unmapped, {
    let own = Own::new(3)?;
    let area = must!(crate::mm::vmalloc::vmalloc(bytes(3)));
    let start = must!(vm_map_ram(&own.0[..2]));
    let above = must!(vm_map_ram(&own.0[2..]));
    make_room()?;
    fn unmap(start: VirtAddr, pages: usize) -> Result<(), Error> {
        vm_unmap_ram(start, pages)
    }
    for (start, pages) in [
        (area, 1),
        (start, 0),
        (start + 8, 1),
        (start, 65),
        (above + PAGE_SIZE, 1),
        (VirtAddr::literal(0), 1),
        (VirtAddr::MAX, 1),
    ] {
        let (text, result) = logged(|| unmap(start, pages));
        check_eq!(result, Err(Error::NoArea(start)));
        check!(text.contains("BUG: vm_unmap_ram"));
    }
    let (text, result) = logged(|| (vfree(start), vunmap(start)));
    check!(result.0.is_err() && result.1.is_err() && text.lines().count() == 2);
    for page in [area, start, start + PAGE_SIZE, above] {
        must!(probe_read_u64(page));
    }
    must!(vm_unmap_ram(start, 2));
    let (text, result) = logged(|| unmap(start, 2));
    check_eq!(result, Err(Error::NoArea(start)));
    check!(text.contains(&format!("vm_unmap_ram({start}, 2) at {}", file!())));
    must!(vm_unmap_ram(above, 1));
    must!(vfree(area));
    Ok(())
} }

kernel_test! { "map_ram", a_failure_gives_everything_back, {
    let own = Own::new(5)?;
    without_block(own.0[0])?;
    // A new block needs addresses, shadow, perhaps tables. Each may be what is missing.
    let mut failures = 0;
    loop {
        page_alloc::fail_after(Some(failures));
        let result = vm_map_ram(&own.0);
        let fired = !page_alloc::armed();
        page_alloc::fail_after(None);
        match result {
            Ok(start) => {
                check!(!fired);
                must!(vm_unmap_ram(start, 5));
                break;
            }
            Err(error) => check_eq!((fired, error), (true, Error::OutOfMemory)),
        }
        failures += 1;
    }
    check!(failures >= 1 || !kasan::is_on());
    Ok(())
} }

kernel_test! { "map_ram", another_cpu_may_unmap, {
    static START: AtomicU64 = AtomicU64::new(0);
    static RESULT: AtomicU64 = AtomicU64::new(0);
    let own = Own::new(4)?;
    for cpu in all() {
        let start = must!(vm_map_ram(&own.0));
        START.store(start.as_u64(), Ordering::Release);
        RESULT.store(0, Ordering::Release);
        on(cpu, |_| {
            let start = VirtAddr::literal(START.load(Ordering::Acquire));
            let read = probe_read_u64(start).is_ok();
            let done = read && vm_unmap_ram(start, 4).is_ok();
            RESULT.store(u64::from(done), Ordering::Release);
        })?;
        check_eq!((cpu, RESULT.load(Ordering::Acquire)), (cpu, 1));
        vm_unmap_aliases();
        check!(not_mapped(probe_read_u64(start)));
    }
    Ok(())
} }
