//! The oracle's wiring: that events are told in the order of what they describe, that what it finds
//! is reported and ends in failure, and that what is expected must come.

use crate::{
    arch::{exit, fixup::probe_read_u8},
    check, check_eq, event, kernel_test,
    ktest::{Failure, TestResult},
    mm::{
        debug_pagealloc, kasan,
        layout::{SCRATCH, SHADOW},
        lazy::{self, Backend, model},
        linear_map, page_alloc,
        testing::{Chosen, Scratch, bytes, fresh_region, leaf_at, must, trouble},
        vmalloc::{vfree, vm_unmap_aliases, vmalloc},
    },
    oracle::{self, Rule},
    verdict,
};
use alloc::{boxed::Box, vec::Vec};
use core::mem::MaybeUninit;
use mmu_oracle::{
    Event, Kind,
    event::{Access, Barrier, Boundary, Domain, Orders, SyncAccess, Window},
};
use vmsa::{Level, PAGE_SIZE, PageRange};

/// What was told while `action` ran.
fn told(action: impl FnOnce()) -> Result<Vec<Kind>, Failure> {
    let mut memory: Box<[MaybeUninit<Event>]> = Box::new_uninit_slice(4096);
    let mut kinds = Vec::with_capacity(memory.len());
    let count = oracle::heard(&mut memory, action);
    let events = memory
        .get(..count)
        .ok_or(trouble("there was no room for the events"))?;
    // SAFETY: as many were written.
    kinds.extend(
        events
            .iter()
            .map(|event| unsafe { event.assume_init() }.kind),
    );
    Ok(kinds)
}

/// Finds `wanted` in `events`, in this order, other events between them.
fn in_order(events: &[Kind], wanted: &[&dyn Fn(&Kind) -> bool]) -> bool {
    let mut rest = events.iter();
    wanted.iter().all(|wanted| rest.any(wanted))
}

fn ishst(kind: &Kind) -> bool {
    *kind == Kind::Barrier(Barrier::Dsb(Domain::InnerShareable, Orders::Stores))
}

fn ish(kind: &Kind) -> bool {
    *kind == Kind::Barrier(Barrier::Dsb(Domain::InnerShareable, Orders::All))
}

fn isb(kind: &Kind) -> bool {
    *kind == Kind::Barrier(Barrier::Isb)
}

fn tlbi(kind: &Kind) -> bool {
    matches!(kind, Kind::Tlbi(_))
}

/// A store for a page of `range` that leaves the entry valid or not.
fn stores(range: PageRange, valid: bool) -> impl Fn(&Kind) -> bool {
    move |kind| match kind {
        Kind::Store { entry, .. } => {
            entry.level == Level::L3 && range.contains(entry.va) && entry.value.is_valid() == valid
        }
        _ => false,
    }
}

fn opens(wanted: Window) -> impl Fn(&Kind) -> bool {
    move |kind| matches!(kind, Kind::WindowOpened { window, .. } if *window == wanted)
}

fn closes(wanted: Window) -> impl Fn(&Kind) -> bool {
    move |kind| matches!(kind, Kind::WindowClosed { window, .. } if *window == wanted)
}

/// Frames change hands that hold the page behind `alias` of the linear map.
fn freed(frame: vmsa::PhysAddr) -> impl Fn(&Kind) -> bool {
    move |kind| {
        matches!(kind, Kind::FramesFreed(frames)
            if frame >= frames.first && frame < frames.first + frames.count * PAGE_SIZE)
    }
}

kernel_test! { "oracle", an_area_is_told_in_the_order_of_its_life, {
    let _chosen = Chosen::new(model(), lazy::backend())?;
    // Enough for a page of shadow of its own; the tables stay from the first.
    const PAGES: u64 = 20;
    let warm = must!(vmalloc(bytes(PAGES)));
    must!(vfree(warm));
    vm_unmap_aliases();

    let mut area = None;
    let making = told(|| area = vmalloc(bytes(PAGES)).ok())?;
    let start = area.ok_or(trouble("no area"))?;
    let range = PageRange::new(start, PAGES).ok_or(trouble("no range"))?;
    let allocates = |kind: &Kind| matches!(kind, Kind::FramesAllocated(_));
    let reserved = |kind: &Kind| {
        matches!(kind, Kind::VaAllocated(all) if all.start() == start && all.pages() == PAGES + 1)
    };
    check!(in_order(&making, &[&reserved, &allocates, &stores(range, true), &ishst, &isb]));
    check_eq!(making.iter().filter(|kind| stores(range, true)(kind)).count() as u64, PAGES);
    check!(!making.iter().any(tlbi));

    let frame = leaf_at(start).output(Level::L3).ok_or(trouble("not mapped"))?;
    let mut freed_well = false;
    let freeing = told(|| freed_well = vfree(start).is_ok())?;
    check!(freed_well);
    let cleared = stores(range, false);
    if debug_pagealloc::is_on() {
        // Flushed at once, and the page leaves the linear map before it is free.
        let alias = PageRange::new(linear_map::virt(frame), 1).ok_or(trouble("no alias"))?;
        let gone = stores(alias, false);
        check!(in_order(&freeing, &[
            &cleared, &ishst, &tlbi, &ish, &isb, &gone, &tlbi, &ish, &freed(frame),
        ]));
        check!(!freeing.iter().any(opens(Window::LazyPurge)));
    } else {
        check!(in_order(&freeing, &[&cleared, &opens(Window::LazyPurge), &freed(frame)]));
    }

    let purging = told(vm_unmap_aliases)?;
    check!(in_order(&purging, &[&ishst, &tlbi, &ish, &isb, &closes(Window::LazyPurge)]));
    if kasan::is_on() {
        let frames = |kind: &Kind| matches!(kind, Kind::FramesFreed(_));
        check!(in_order(&purging, &[
            &closes(Window::LazyPurge), &stores(SHADOW, false), &opens(Window::Shadow), &frames,
            &tlbi, &ish, &closes(Window::Shadow),
        ]));
    }
    Ok(())
} }

kernel_test! { "oracle", a_table_is_told_before_its_link_and_after_its_zeroes, {
    let region = PageRange::new(fresh_region(), 1).ok_or(trouble("no region"))?;
    let mut made_well = false;
    let events = told(|| made_well = linear_map::kernel().prepare(region).is_ok())?;
    check!(made_well);
    let written = |kind: &Kind| matches!(kind, Kind::FrameWritten(_));
    let made = |kind: &Kind| matches!(kind, Kind::TableAllocated(_));
    let linked = |kind: &Kind| {
        matches!(kind, Kind::Store { entry, .. }
            if entry.level < Level::L3 && entry.value.is_valid())
    };
    check!(in_order(&events, &[&written, &made, &ishst, &linked]));
    let first_link = events.iter().position(linked);
    check!(first_link.is_some() && events.iter().rposition(made) < first_link);
    Ok(())
} }

kernel_test! { "oracle", a_lock_is_told_when_it_is_taken_and_given_back, {
    let lock = crate::arch::lock::Mutex::new(0);
    let events = told(|| *lock.lock() += 1)?;
    let accesses: Vec<SyncAccess> = events
        .iter()
        .filter_map(|kind| match kind {
            Kind::Sync { access, .. } => Some(*access),
            _ => None,
        })
        .collect();
    check_eq!(accesses, [
        SyncAccess::ReadModifyWrite { acquire: true, release: false },
        SyncAccess::Branch,
        SyncAccess::Write { release: true },
    ]);
    let variables: Vec<u64> = events
        .iter()
        .filter_map(|kind| match kind {
            Kind::Sync { variable, .. } => Some(*variable),
            _ => None,
        })
        .collect();
    check!(variables.iter().all(|variable| *variable == variables[0]));
    check_eq!(*lock.lock(), 1);
    check!(lock.try_lock().is_some());
    let _held = lock.lock();
    check!(lock.try_lock().is_none());
    Ok(())
} }

kernel_test! { "oracle", a_fault_is_an_entry_and_a_return, {
    let nowhere = SCRATCH.last_byte();
    let mut faulted = false;
    let events = told(|| faulted = probe_read_u8(nowhere).is_err())?;
    check!(faulted);
    let read = |kind: &Kind| *kind == Kind::Access { va: nowhere, access: Access::Read };
    let entered = |kind: &Kind| *kind == Kind::ExceptionEntry;
    let returned = |kind: &Kind| *kind == Kind::ExceptionReturn { to_el0: false };
    check!(in_order(&events, &[&read, &entered, &returned]));
    Ok(())
} }

/// Reads through a translation whose flush is still pending.
fn read_too_early() -> Result<(), Failure> {
    let _chosen = Chosen::new(model(), Backend::Tlbi)?;
    let scratch = Scratch::new()?;
    scratch.map(0);
    let read = probe_read_u8(scratch.address(0));
    let section = lazy::section();
    scratch.unmap(0);
    let stale = probe_read_u8(scratch.address(0));
    drop(section);
    scratch.clear();
    drop(scratch);
    check!(read.is_ok() && stale.is_ok());
    Ok(())
}

kernel_test! { "oracle", what_is_expected_is_counted_and_not_reported, {
    let before = oracle::stats().map(|(_, on_purpose)| on_purpose);
    oracle::expect(&[Rule::StaleAccess], read_too_early)?;
    // One expectation in another: each hears of its own, and the outer of both.
    oracle::expect(&[Rule::SectionLeftOpen, Rule::StaleAccess], || {
        let read = oracle::expect(&[Rule::StaleAccess], read_too_early);
        let section = lazy::section();
        event!(Boundary(event::Boundary::Scene));
        drop(section);
        read
    })?;
    let after = oracle::stats().map(|(_, on_purpose)| on_purpose);
    check_eq!(after.zip(before).map(|(after, before)| after - before), Some(3));
    check!(oracle::take().is_nothing());
    Ok(())
} }

/// The oracle's report has been printed, and nothing else is wrong: the machine must fail all the
/// same.
fn ends_as_if_all_were_well(result: TestResult) -> TestResult {
    result?;
    check_eq!(verdict::at(Boundary::Scene), Err(verdict::Broken));
    check_eq!(verdict::at(Boundary::Scene), Ok(()));
    exit::success()
}

kernel_test! { "oracle", a_violation_fails_the_machine, panics "oracle: VIOLATION stale-access", {
    ends_as_if_all_were_well(read_too_early())
} }

kernel_test! { "oracle", an_expected_violation_that_does_not_come_fails_the_machine,
    panics "oracle: the expected violation frame-reuse did not come", {
    ends_as_if_all_were_well(oracle::expect(&[Rule::FrameReuse], || Ok(())))
} }

kernel_test! { "oracle", another_violation_than_the_expected_fails_the_machine,
    panics "oracle: VIOLATION stale-access", {
    ends_as_if_all_were_well(oracle::expect(&[Rule::FrameReuse], read_too_early))
} }

kernel_test! { "oracle", a_violation_that_nobody_reported_is_reported_at_the_end,
    panics "oracle: VIOLATION stale-access", {
    read_too_early()?;
    exit::success()
} }

kernel_test! { "oracle", a_section_left_open_by_a_test_fails_it,
    panics "oracle: VIOLATION section-left-open", {
    core::mem::forget(lazy::section());
    Ok(())
} }

kernel_test! { "oracle", memory_that_is_full_fails_the_machine,
    panics "oracle: VIOLATION memory-full", {
    // One frame at as many addresses as it takes.
    let frame = must!(page_alloc::allocate(0));
    let frames = alloc::vec![frame; 1 << 15];
    loop {
        must!(crate::mm::vmalloc::vmap(&frames, vmsa::Attributes::KERNEL_DATA));
        if verdict::at(Boundary::Scene).is_err() {
            exit::success();
        }
    }
} }
