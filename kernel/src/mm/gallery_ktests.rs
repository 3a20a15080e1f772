//! Kernel tests that are short on purpose: each does one ordinary thing, with the accesses that its
//! user would make, and leaves the rest to the oracle. `make bugs` plays them with and without the
//! bug that they are about (`docs/bugs.md`). Without an oracle they would say little, so they are
//! there with the feature `oracle` alone.

use super::{
    lazy, linear_map, page_alloc,
    page_table::Error,
    stack::spawn_on,
    testing::{Scratch, bytes, must},
    tlb::{Removed, flush_kernel_range},
    vmalloc::{vfree, vm_unmap_aliases, vmalloc, vmap, vunmap},
};
use crate::{
    arch::{
        cpu,
        fixup::{probe_read_u64, probe_write_u64},
    },
    check_eq, kernel_test,
    ktest::Failure,
    task::{
        enter_interrupt, migrate_to,
        points::{self, Action},
        schedule, unpin,
    },
};
use vmsa::{Attributes, Descriptor, Level, PageRange, VirtAddr};

/// Stores a word in each page of memory that is the test's own.
fn fill(start: VirtAddr, pages: u64) -> Result<(), Failure> {
    for i in 0..pages {
        // SAFETY: every caller passes pages that it has just been given.
        must!(unsafe { probe_write_u64(start + bytes(i), i) });
    }
    Ok(())
}

kernel_test! { "gallery", a_page_mapped_in_a_pause_is_used_in_it, {
    let scratch = must!(Scratch::new());
    let outer = lazy::section();
    let pause = lazy::paused();
    scratch.map(0);
    let read = probe_read_u64(scratch.address(0));
    drop(pause);
    drop(outer);
    must!(read);
    Ok(())
} }

kernel_test! { "gallery", a_handler_uses_what_it_has_mapped, {
    let scratch = must!(Scratch::new());
    let open = lazy::section();
    let handler = enter_interrupt();
    scratch.map(0);
    let read = probe_read_u64(scratch.address(0));
    drop(handler);
    drop(open);
    must!(read);
    Ok(())
} }

/// Opens a section of its own.
fn other(_: usize) -> usize {
    drop(lazy::section());
    0
}

kernel_test! { "gallery", a_task_is_preempted_as_it_opens_a_section, {
    let scratch = must!(Scratch::new());
    let _slices = schedule::no_slices();
    let other = must!(spawn_on(0, "other", other, 0));
    must!(migrate_to(0));
    let plan = points::plan(0, Action::Preempt);
    let section = lazy::section();
    drop(plan);
    scratch.map(0);
    drop(section);
    let read = probe_read_u64(scratch.address(0));
    other.join();
    unpin();
    must!(read);
    Ok(())
} }

kernel_test! { "gallery", a_task_moves_right_after_its_store, {
    let scratch = must!(Scratch::new());
    // The boot CPU can be moved from once there has been another task.
    must!(spawn_on(0, "other", other, 0)).join();
    must!(migrate_to(0));
    let there = cpu::others().next().unwrap_or(0);
    let section = lazy::section();
    let plan = points::plan(0, Action::Migrate(there));
    scratch.map(0);
    drop(plan);
    drop(section);
    let read = probe_read_u64(scratch.address(0));
    unpin();
    must!(read);
    Ok(())
} }

kernel_test! { "gallery", a_walk_that_stops_at_an_error_closes_its_section, {
    let scratch = must!(Scratch::new());
    scratch.map(1);
    let stopped = linear_map::kernel().apply_to_existing_page_range(scratch.range(), |leaf| {
        if leaf.get().is_valid() {
            return Err(Error::Occupied(leaf.va()));
        }
        Ok(())
    });
    check_eq!(stopped, Err(Error::Occupied(scratch.address(1))));
    Ok(())
} }

kernel_test! { "gallery", a_new_page_is_used_in_its_callers_section, {
    let outer = lazy::section();
    let page = lazy::call_page_allocator(|| page_alloc::allocate(0));
    // What comes of it is looked at when the section is closed.
    let filled = page.map(|page| fill(linear_map::virt(page.start()), 1));
    drop(outer);
    must!(must!(filled));
    must!(page_alloc::free(must!(page), 0));
    Ok(())
} }

/// An area is made, used and freed, and its addresses are purged.
fn area_comes_and_goes(pages: u64) -> Result<(), Failure> {
    let start = must!(vmalloc(bytes(pages)));
    fill(start, pages)?;
    must!(vfree(start));
    vm_unmap_aliases();
    Ok(())
}

kernel_test! { "gallery", an_area_is_purged, {
    area_comes_and_goes(4)
} }

kernel_test! { "gallery", freed_addresses_are_used_again, {
    for _ in 0..2 {
        let start = must!(vmalloc(bytes(4)));
        fill(start, 4)?;
        must!(vfree(start));
    }
    vm_unmap_aliases();
    Ok(())
} }

kernel_test! { "gallery", a_page_is_freed, {
    let page = must!(page_alloc::allocate(0));
    fill(linear_map::virt(page.start()), 1)?;
    must!(page_alloc::free(page, 0));
    Ok(())
} }

// Odd, and more than one.
kernel_test! { "gallery", an_area_of_five_pages_is_purged, {
    area_comes_and_goes(5)
} }

kernel_test! { "gallery", an_address_gets_another_frame, {
    let scratch = must!(Scratch::new());
    let other = must!(page_alloc::allocate(0));
    scratch.map(0);
    fill(scratch.address(0), 1)?;
    let page = must!(PageRange::new(scratch.address(0), 1).ok_or("no page"));
    let leaf = Descriptor::leaf(Level::L3, other.start(), Attributes::KERNEL_DATA);
    let leaf = must!(leaf.ok_or("frames are aligned"));
    let outer = lazy::section();
    scratch.unmap(0);
    flush_kernel_range(page, Removed::Leaves);
    let mapped = linear_map::kernel().set_leaf(scratch.address(0), |_| leaf);
    drop(outer);
    must!(mapped);
    fill(scratch.address(0), 1)?;
    check_eq!(must!(probe_read_u64(linear_map::virt(other.start()))), 0);
    scratch.clear();
    must!(page_alloc::free(other, 0));
    Ok(())
} }

kernel_test! { "gallery", mapped_pages_are_given_back, {
    let (first, second) = (must!(page_alloc::allocate(0)), must!(page_alloc::allocate(0)));
    let start = must!(vmap(&[first, second], Attributes::KERNEL_DATA));
    fill(start, 2)?;
    must!(vunmap(start));
    vm_unmap_aliases();
    must!(page_alloc::free(first, 0));
    must!(page_alloc::free(second, 0));
    Ok(())
} }
