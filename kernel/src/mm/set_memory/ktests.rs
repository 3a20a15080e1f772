//! Kernel tests of `set_memory_*`: what an area and its linear alias allow afterwards, what is
//! refused, and what it costs.

use super::{Error, set_memory_nx, set_memory_ro, set_memory_rw, set_memory_valid, set_memory_x};
use crate::{
    arch::{
        cache::publish_instructions,
        fault::Fault,
        fixup::{probe_execute, probe_read_u64, probe_write_u64},
    },
    check, check_eq, kernel_test,
    ktest::{Failure, TestResult},
    mm::{
        lazy::{Backend, Call, model},
        linear_map::{is_page_granular, virt},
        page_alloc,
        testing::{Chosen, bytes, frame_at, leaf_at, logged, make_room, must, recorded},
        vmalloc::{self, vfree, vmalloc, vmap, vunmap},
    },
    trace::{Barrier, Counts, Event, Kind},
};
use alloc::vec::Vec;
use vmsa::{Attributes, Descriptor, PAGE_SIZE, VirtAddr};

/// One of the calls.
type Change = fn(VirtAddr, u64) -> Result<(), Error>;

/// The linear address of the page at `va`.
fn alias(va: VirtAddr) -> Result<VirtAddr, Failure> {
    Ok(virt(frame_at(va)?.start()) + va.page_offset())
}

/// A store to memory that is the test's own.
fn write(va: VirtAddr) -> Result<(), Fault> {
    // SAFETY: every caller passes its own area, or the alias of it.
    unsafe { probe_write_u64(va, 0xd1) }
}

/// Whether a store is refused for want of permission.
fn read_only(va: VirtAddr) -> bool {
    probe_read_u64(va).is_ok() && write(va).is_err_and(|f| f.is_permission_fault() && f.is_write())
}

/// The leaves of an area and of its alias, to see that nothing has changed.
fn leaves(start: VirtAddr, pages: u64) -> Result<Vec<(Descriptor, Descriptor)>, Failure> {
    let both = |i| {
        let va = start + bytes(i);
        Ok((leaf_at(va), leaf_at(alias(va)?)))
    };
    (0..pages).map(both).collect()
}

kernel_test! { "set_memory", read_only_in_the_area_and_at_its_alias, {
    let start = must!(vmalloc(bytes(3)));
    // Known to the TLB as writable, at both addresses.
    for i in 0..3 {
        must!(write(start + bytes(i)));
        must!(write(alias(start + bytes(i))?));
    }
    must!(set_memory_ro(start, 3));
    for i in 0..3 {
        let va = start + bytes(i);
        check!(read_only(va));
        // With an alias made of blocks it is left alone, and still writable.
        check_eq!(read_only(alias(va)?), is_page_granular());
        check_eq!(write(alias(va)?).is_err(), is_page_granular());
    }
    must!(set_memory_rw(start, 3));
    for i in 0..3 {
        must!(write(start + bytes(i)));
        must!(write(alias(start + bytes(i))?));
    }
    must!(vfree(start));
    Ok(())
} }

kernel_test! { "set_memory", an_alias_of_blocks_is_left_alone_and_said_so, {
    let start = must!(vmalloc(bytes(1)));
    let before = leaves(start, 1)?;
    let (text, result) = logged(|| set_memory_ro(start, 1));
    must!(result);
    let said = "the linear map is made of blocks (RODATA=on): the alias stays writable";
    check_eq!(text.contains(said), !is_page_granular());
    check_eq!(leaves(start, 1)?[0].1 == before[0].1, !is_page_granular());
    must!(set_memory_rw(start, 1));
    check_eq!(leaves(start, 1)?, before);
    must!(vfree(start));
    Ok(())
} }

kernel_test! { "set_memory", a_part_of_an_area, {
    let start = must!(vmalloc(bytes(5)));
    must!(set_memory_ro(start + bytes(1), 2));
    for i in 0..5 {
        let va = start + bytes(i);
        check_eq!(read_only(va), (1..3).contains(&i));
        check_eq!(read_only(alias(va)?), (1..3).contains(&i) && is_page_granular());
    }
    must!(set_memory_rw(start, 5));
    check!((0..5).all(|i| write(start + bytes(i)).is_ok()));
    must!(vfree(start));
    Ok(())
} }

kernel_test! { "set_memory", nonsense_is_refused_and_changes_nothing, {
    make_room()?;
    let first = must!(vmalloc(bytes(2)));
    let second = must!(vmalloc(bytes(2)));
    let frame = must!(page_alloc::allocate(0));
    let mapping = must!(vmap(&[frame], Attributes::KERNEL_DATA));
    let before = (leaves(first, 2)?, leaves(second, 2)?, leaves(mapping, 1)?);
    let calls: [Change; 4] = [set_memory_ro, set_memory_rw, set_memory_nx, set_memory_x];
    let cases = [
        // Misaligned, nothing, too much.
        (first + 8, 1, Error::Misaligned),
        (first, 0, Error::Misaligned),
        (first, u64::MAX, Error::Misaligned),
        // The guard page, and from one area into the next.
        (first, 3, Error::NoArea),
        (first + bytes(2), 1, Error::NoArea),
        (first, 4, Error::NoArea),
        // Pages that are not the area's own, and no area at all.
        (mapping, 1, Error::NoArea),
        (virt(frame.start()), 1, Error::NoArea),
        (second + bytes(1000), 1, Error::NoArea),
    ];
    for (start, pages, why) in cases {
        for call in calls {
            let counts = Counts::now();
            check_eq!(call(start, pages), Err(why));
            check_eq!(counts.since(), Counts::default());
        }
    }
    check_eq!((leaves(first, 2)?, leaves(second, 2)?, leaves(mapping, 1)?), before);
    must!(vfree(first));
    must!(vfree(second));
    must!(vunmap(mapping));
    // A freed area is none any more.
    check_eq!(set_memory_ro(first, 1), Err(Error::NoArea));
    must!(page_alloc::free(frame, 0));
    Ok(())
} }

kernel_test! { "set_memory", code_is_executed_only_where_nobody_writes, {
    /// `RET`: returns what it was given, its own address.
    const RET: u32 = 0xd65f_03c0;
    let start = must!(vmalloc(bytes(1)));
    // SAFETY: the page is ours; behind the instruction nothing is reached.
    unsafe { start.as_mut_ptr::<u32>().write_volatile(RET) };
    // SAFETY: the page is mapped.
    unsafe { publish_instructions(start) };
    // SAFETY: there is a function that returns at once.
    let execute = || unsafe { probe_execute(start) };
    let not_executable =
        || execute().is_err_and(|fault| fault.is_fetch() && fault.is_permission_fault());
    check!(not_executable());
    let before = leaves(start, 1)?;
    check_eq!(set_memory_x(start, 1), Err(Error::WritableAndExecutable));
    check_eq!(leaves(start, 1)?, before);
    must!(set_memory_ro(start, 1));
    check!(not_executable());
    if is_page_granular() {
        must!(set_memory_x(start, 1));
        check_eq!(must!(execute()), start.as_u64());
        // Executable, it can't become writable again.
        check_eq!(set_memory_rw(start, 1), Err(Error::WritableAndExecutable));
        check!(read_only(start) && read_only(alias(start)?));
        check_eq!(must!(execute()), start.as_u64());
        must!(set_memory_nx(start, 1));
        check!(not_executable());
    } else {
        // Its frame stays writable through the alias.
        check_eq!(set_memory_x(start, 1), Err(Error::WritableAndExecutable));
        check!(not_executable());
    }
    must!(set_memory_rw(start, 1));
    must!(write(start));
    check_eq!(leaves(start, 1)?, before);
    must!(vfree(start));
    Ok(())
} }

kernel_test! { "set_memory", valid_off_and_on, {
    let start = must!(vmalloc(bytes(3)));
    must!((0..3).try_for_each(|i| write(start + bytes(i))));
    must!(set_memory_valid(start + bytes(1), 1, false));
    let valid = |i| probe_read_u64(start + bytes(i));
    check!(valid(0).is_ok() && valid(2).is_ok());
    check!(valid(1).is_err_and(|fault| fault.is_translation_fault()));
    // The alias is left alone, and what was written is still there.
    check_eq!(must!(probe_read_u64(alias(start + bytes(1))?)), 0xd1);
    let counts = Counts::now();
    must!(set_memory_valid(start, 3, true));
    check_eq!(counts.since().tlbi, 0);
    check!((0..3).all(|i| valid(i).is_ok_and(|word| word == 0xd1)));
    check_eq!(set_memory_valid(start, 4, false), Err(Error::NoArea));
    check_eq!(set_memory_valid(start + 1, 1, false), Err(Error::Misaligned));
    check!((0..3).all(|i| valid(i).is_ok()));
    // A page of the linear map: only where it is one.
    let linear = alias(start)?;
    if is_page_granular() {
        must!(set_memory_valid(linear, 1, false));
        check!(probe_read_u64(linear).is_err() && probe_read_u64(start).is_ok());
        must!(set_memory_valid(linear, 1, true));
        must!(probe_read_u64(linear));
    } else {
        check!(set_memory_valid(linear, 1, false).is_err());
        must!(probe_read_u64(linear));
    }
    must!(vfree(start));
    Ok(())
} }

/// The barriers and calls of 64 pages made read-only, under `backend`.
fn costs(backend: Backend) -> TestResult {
    make_room()?;
    const PAGES: u64 = 64;
    let _chosen = Chosen::new(model(), backend)?;
    let start = must!(vmalloc(bytes(PAGES)));
    vmalloc::vm_unmap_aliases();
    let (events, result) = recorded(|| set_memory_ro(start, PAGES))?;
    must!(result);
    must!(set_memory_rw(start, PAGES));
    must!(vfree(start));
    let stores = if is_page_granular() { 2 * PAGES } else { PAGES } as usize;
    let immediate = if backend == Backend::Eager { stores } else { 0 };
    let counts = Counts::of(&events);
    check_eq!(
        (counts.stores, counts.dsb, counts.isb),
        (stores, 2 + immediate, 1 + immediate)
    );
    check!(counts.tlbi > 0);
    // One section, and behind its last store one flush, which is through before it ends.
    let calls = events
        .iter()
        .filter(|event| matches!(event.kind, Kind::Lazy { .. }));
    check_eq!(calls.count(), 2);
    let last = |wanted: fn(&Event) -> bool| events.iter().rposition(wanted);
    let store = last(|event| matches!(event.kind, Kind::Store { .. }));
    let disable = last(|event| {
        matches!(
            event.kind,
            Kind::Lazy {
                call: Call::Disable,
                ..
            }
        )
    });
    let (store, disable) = must!(store.zip(disable).ok_or("no section"));
    check!(store < disable);
    let mut flush = Vec::new();
    for event in &events[store + 1 + 2 * immediate.min(1)..disable] {
        match event.kind {
            Kind::Barrier(barrier) => flush.push(Some(barrier)),
            Kind::Tlbi(_) if flush.last() != Some(&None) => flush.push(None),
            _ => {}
        }
    }
    use Barrier::{DsbIsh, DsbIshst, Isb};
    check_eq!(flush, [Some(DsbIshst), None, Some(DsbIsh), Some(Isb)]);
    Ok(())
}

kernel_test! { "set_memory", one_flush_for_area_and_alias, {
    costs(Backend::Eager)?;
    costs(Backend::Barriers)
} }

kernel_test! { "set_memory", stale_aliases_are_purged_first, {
    let start = must!(vmalloc(PAGE_SIZE));
    let freed = must!(vmalloc(bytes(4)));
    must!(vfree(freed));
    check!(vmalloc::unpurged().0 > 0);
    must!(set_memory_ro(start, 1));
    check_eq!(vmalloc::unpurged().0, 0);
    must!(set_memory_rw(start, 1));
    must!(vfree(start));
    Ok(())
} }

kernel_test! { "set_memory", what_was_read_only_or_executable_is_freed_as_ordinary_memory, {
    for executable in [false, true] {
        let start = must!(vmalloc(PAGE_SIZE));
        let frame = frame_at(start)?;
        must!(set_memory_ro(start, 1));
        if executable && is_page_granular() {
            must!(set_memory_x(start, 1));
        }
        check!(read_only(start));
        must!(vfree(start));
        // Nobody can use the old address, and the next owner can write.
        check!(probe_read_u64(start).is_err());
        let alias = virt(frame.start());
        check!(!is_page_granular() || leaf_at(alias).attributes().is_writable_el1());
        let page = must!(page_alloc::allocate(0));
        check!(write(virt(page.start())).is_ok());
        must!(page_alloc::free(page, 0));
    }
    vmalloc::vm_unmap_aliases();
    Ok(())
} }

kernel_test! { "set_memory", only_vmalloc_and_the_linear_map_become_invalid, {
    // Asked to be what it is, so that a kernel that allowed it would live to tell.
    let device = crate::mm::layout::DEVICES.start();
    check!(leaf_at(device).is_valid());
    check_eq!(set_memory_valid(device, 1, true), Err(Error::NoArea));
    Ok(())
} }
