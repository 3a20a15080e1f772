//! Kernel tests of the walks, on the live tables: what comes before the section, what an error
//! leaves, what is passed over.

use super::{Error, PageTable};
use crate::{
    arch::fixup::{probe_read_u64, probe_write_u64},
    check, check_eq, kernel_test,
    ktest::{Failure, TestResult},
    mm::{
        layout::VMALLOC,
        lazy::{Backend, Call, LazyMmuState, model},
        linear_map::{self, Linear},
        page_alloc,
        testing::{
            Chosen, fresh_region, is_page, leaf_at, logged, make_room, must, recorded, trouble,
        },
        tlb::{Removed, flush_kernel_range},
    },
    task,
    trace::{Barrier, Counts, Event, Kind},
};
use alloc::vec::Vec;
use vmsa::{Attributes, Descriptor, Frame, Level, PAGE_SIZE, PageRange, VirtAddr};

/// Bytes that a table of leaves maps.
const TABLE: u64 = Level::L2.bytes();

fn range(start: VirtAddr, pages: u64) -> Result<PageRange, Failure> {
    PageRange::new(start, pages).ok_or(trouble("no such range"))
}

/// A valid leaf for `frame`.
fn leaf_for(frame: Frame) -> Descriptor {
    Descriptor::leaf(Level::L3, frame.start(), Attributes::KERNEL_DATA).expect("frames are aligned")
}

/// Maps every page of `range` to `frame`.
fn map(kernel: &mut PageTable<Linear>, range: PageRange, frame: Frame) -> Result<(), Error> {
    kernel.apply_to_page_range(range, |leaf| {
        leaf.set(leaf.get(), leaf_for(frame));
        Ok(())
    })
}

/// Clears every leaf of `range` that is there, and flushes.
fn unmap(kernel: &PageTable<Linear>, range: PageRange) -> Result<(), Error> {
    kernel.apply_to_existing_page_range(range, |leaf| {
        leaf.take();
        Ok(())
    })?;
    flush_kernel_range(range, Removed::Leaves);
    Ok(())
}

/// Whether an event is a store for an address of `range`.
fn stores_in(range: PageRange, event: &Event) -> bool {
    matches!(event.kind, Kind::Store { va, level: Level::L3, .. } if range.contains(va))
}

/// The section in which the leaves of `range` were stored, from the outermost enable to its
/// disable: where it starts and ends in `events`.
fn section_of(events: &[Event], range: PageRange) -> Option<(usize, usize)> {
    let first = events.iter().position(|event| stores_in(range, event))?;
    let call =
        |event: &Event, which| matches!(event.kind, Kind::Lazy { call, .. } if call == which);
    let start = events[..first]
        .iter()
        .rposition(|event| call(event, Call::Enable))?;
    let end = first
        + events[first..]
            .iter()
            .position(|event| call(event, Call::Disable))?;
    Some((start, end))
}

/// The events of `events` that belong to no lazy section: the allocations' own are gone.
fn outside_of_sections(events: &[Event]) -> Vec<Event> {
    let mut depth = 0;
    let mut outside = Vec::new();
    for event in events {
        match event.kind {
            Kind::Lazy {
                call: Call::Enable, ..
            } => depth += 1,
            Kind::Lazy {
                call: Call::Disable,
                ..
            } => depth -= 1,
            _ if depth == 0 => outside.push(*event),
            _ => {}
        }
    }
    outside
}

/// Three tables of leaves, with tables of two higher levels: `apply_to_page_range` under `backend`.
fn tables_first(backend: Backend) -> TestResult {
    make_room()?;
    let _chosen = Chosen::new(model(), backend)?;
    let mut kernel = linear_map::kernel();
    let frame = must!(page_alloc::allocate(0));
    let pages = range(fresh_region() + (TABLE - 5 * PAGE_SIZE), 512 + 10)?;
    let (events, result) = recorded(|| map(&mut kernel, pages, frame))?;
    must!(result);
    let (start, end) = must!(section_of(&events, pages).ok_or("no section"));

    // Before the section: one DSB ISHST, and then the links of 5 tables. No other barrier.
    let before = outside_of_sections(&events[..start]);
    let links =
        |event: &&Event| matches!(event.kind, Kind::Store { level, .. } if level != Level::L3);
    check_eq!(before.iter().filter(links).count(), 5);
    check_eq!(
        Counts::of(&before),
        Counts {
            stores: 5,
            dsb: 1,
            isb: 0,
            tlbi: 0
        }
    );
    let barrier = before
        .iter()
        .position(|event| matches!(event.kind, Kind::Barrier(_)));
    let first_link = before.iter().position(|event| links(&event));
    check!(barrier < first_link);
    check!(
        before
            .iter()
            .any(|event| matches!(event.kind, Kind::Barrier(Barrier::DsbIshst)))
    );

    // In it: the leaves and their barriers. No allocation, so no call, and no table.
    let section = &events[start + 1..end];
    let calls = section
        .iter()
        .filter(|e| matches!(e.kind, Kind::Lazy { .. } | Kind::Enter(_)));
    check_eq!(calls.count(), 0);
    let stores = section
        .iter()
        .filter(|event| matches!(event.kind, Kind::Store { .. }));
    check_eq!(stores.clone().count() as u64, pages.pages());
    check!(stores.clone().all(|event| stores_in(pages, event)));
    let leaves = stores.filter_map(|event| match event.kind {
        Kind::Store { va, .. } => Some(va),
        _ => None,
    });
    check!(leaves.eq(pages.pages_iter()));
    // The last disable leaves: the call is recorded once its barriers have been issued.
    let pairs = if backend == Backend::Eager {
        pages.pages() as usize
    } else {
        1
    };
    let counts = Counts::of(section);
    check_eq!((counts.dsb, counts.isb, counts.tlbi), (pairs, pairs, 0));

    must!(unmap(&kernel, pages));
    must!(page_alloc::free(frame, 0));
    Ok(())
}

kernel_test! { "page_table", tables_are_made_before_the_section, {
    tables_first(Backend::Eager)?;
    tables_first(Backend::Barriers)
} }

kernel_test! { "page_table", tables_that_exist_are_not_made_again, {
    let pages = range(fresh_region(), 600)?;
    let mut kernel = linear_map::kernel();
    must!(kernel.prepare(pages));
    let (free, counts) = (page_alloc::stats().free, Counts::now());
    must!(kernel.prepare(pages));
    check_eq!(counts.since(), Counts::default());
    check_eq!(page_alloc::stats().free, free);
    Ok(())
} }

kernel_test! { "page_table", many_tables_are_made_in_batches, {
    make_room()?;
    // 70 tables of leaves and two above them: more than are made behind one barrier.
    let mut kernel = linear_map::kernel();
    let pages = range(fresh_region(), 70 * 512)?;
    let free = page_alloc::stats().free;
    let (events, result) = recorded(|| kernel.prepare(pages))?;
    must!(result);
    let made = outside_of_sections(&events);
    check_eq!(Counts::of(&made), Counts { stores: 72, dsb: 2, isb: 0, tlbi: 0 });
    check_eq!(free - page_alloc::stats().free, 72);
    let has_table = |va: VirtAddr| linear_map::kernel().leaf(va).is_some();
    check!((0..70).all(|i| has_table(pages.start() + i * TABLE)));
    check!(!has_table(pages.start() + 70 * TABLE));
    Ok(())
} }

kernel_test! { "page_table", running_out_of_tables_leaves_whole_ones, {
    let mut kernel = linear_map::kernel();
    let pages = range(fresh_region(), 70 * 512)?;
    let (free, counts) = (page_alloc::stats().free, Counts::now());
    let mut called = false;
    page_alloc::fail_after(Some(0));
    let nothing = kernel.apply_to_page_range(pages, |_| {
        called = true;
        Ok(())
    });
    page_alloc::fail_after(None);
    check_eq!(nothing, Err(Error::OutOfMemory));
    check_eq!(page_alloc::stats().free, free);
    check_eq!(counts.since(), Counts::default());
    // The second batch fails: the tables of the first stay, empty.
    page_alloc::fail_after(Some(1));
    let half = kernel.apply_to_page_range(pages, |_| {
        called = true;
        Ok(())
    });
    page_alloc::fail_after(None);
    check_eq!(half, Err(Error::OutOfMemory));
    check!(!called);
    check_eq!(free - page_alloc::stats().free, 64);
    let mut entries = 0;
    kernel.visit(pages, &mut |_, _, _| entries += 1);
    check_eq!(entries, 0);
    // The rest can still be made.
    must!(kernel.prepare(pages));
    check_eq!(free - page_alloc::stats().free, 72);
    Ok(())
} }

/// An error at the eighth leaf of twenty, under `backend`.
fn stops_at_an_error(backend: Backend) -> TestResult {
    make_room()?;
    let _chosen = Chosen::new(model(), backend)?;
    let mut kernel = linear_map::kernel();
    let frame = must!(page_alloc::allocate(0));
    let pages = range(fresh_region() + (TABLE - 4 * PAGE_SIZE), 20)?;
    let mut called = 0;
    let (events, result) = recorded(|| {
        kernel.apply_to_page_range(pages, |leaf| {
            called += 1;
            if called == 8 {
                return Err(Error::Occupied(leaf.va()));
            }
            leaf.set(leaf.get(), leaf_for(frame));
            Ok(())
        })
    })?;
    check_eq!(result, Err(Error::Occupied(pages.page(7))));
    check_eq!(called, 8);
    // The section is closed and everything paid ...
    check!(task::current().lazy_mmu_state.get() == LazyMmuState::new());
    check!(task::current().deferred.is_empty());
    let last = must!(
        events
            .iter()
            .rposition(|e| stores_in(pages, e))
            .ok_or("no store")
    );
    let paid = Counts::of(&events[last..]);
    check_eq!((paid.dsb, paid.isb), (1, 1));
    // ... what was done stays done, and nothing more was.
    for (i, va) in pages.pages_iter().enumerate() {
        check_eq!(is_page(leaf_at(va)), i < 7);
        // SAFETY: the page is ours, if it is one.
        check_eq!(unsafe { probe_write_u64(va, i as u64) }.is_ok(), i < 7);
    }
    must!(unmap(&kernel, pages));
    check!(probe_read_u64(pages.start()).is_err());
    must!(page_alloc::free(frame, 0));
    Ok(())
}

kernel_test! { "page_table", an_error_stops_the_walk_cleanly, {
    stops_at_an_error(Backend::Eager)?;
    stops_at_an_error(Backend::Barriers)
} }

kernel_test! { "page_table", the_existing_variant_passes_over_holes, {
    let mut kernel = linear_map::kernel();
    let frame = must!(page_alloc::allocate(0));
    // Tables 0 and 2 of four exist.
    let start = fresh_region();
    let first = range(start + 3 * PAGE_SIZE, 1)?;
    let third = range(start + 2 * TABLE, 1)?;
    must!(map(&mut kernel, first, frame));
    must!(map(&mut kernel, third, frame));
    let all = range(start + PAGE_SIZE, 4 * 512 - 1)?;
    let mut seen = Vec::new();
    must!(seen.try_reserve(2 * 512));
    let (free, counts) = (page_alloc::stats().free, Counts::now());
    must!(kernel.apply_to_existing_page_range(all, |leaf| {
        seen.push((leaf.va(), !leaf.get().is_none()));
        Ok(())
    }));
    check_eq!(page_alloc::stats().free, free);
    check_eq!(counts.since(), Counts::default());
    let expected = all.pages_iter().filter(|va| ((*va - start) / TABLE).is_multiple_of(2));
    check!(expected.eq(seen.iter().map(|(va, _)| *va)));
    let mapped = seen.iter().filter(|(_, mapped)| *mapped).map(|(va, _)| *va);
    check!(mapped.eq([first.start(), third.start()]));
    // A region without any table: nothing is called at all.
    let nowhere = range(fresh_region(), 3 * 512)?;
    must!(kernel.apply_to_existing_page_range(nowhere, |leaf| Err(Error::Occupied(leaf.va()))));
    must!(unmap(&kernel, all));
    must!(page_alloc::free(frame, 0));
    Ok(())
} }

kernel_test! { "page_table", visit_changes_nothing, {
    let mut kernel = linear_map::kernel();
    let frame = must!(page_alloc::allocate(0));
    let pages = range(fresh_region() + (TABLE - PAGE_SIZE), 3)?;
    must!(map(&mut kernel, pages, frame));
    // The second is invalid, with its other bits still there: visited all the same.
    must!(kernel.apply_to_existing_page_range(range(pages.page(1), 1)?, |leaf| {
        leaf.set(leaf.get(), leaf.get().with_valid(false));
        Ok(())
    }));
    flush_kernel_range(pages, Removed::Leaves);
    let around = range(pages.start() - PAGE_SIZE, 512 * 3)?;
    let mut seen = Vec::new();
    must!(seen.try_reserve(8));
    let (free, counts) = (page_alloc::stats().free, Counts::now());
    kernel.visit(around, &mut |va, level, entry| seen.push((va, level, entry)));
    check_eq!(counts.since(), Counts::default());
    check_eq!(page_alloc::stats().free, free);
    check!(pages.pages_iter().eq(seen.iter().map(|(va, _, _)| *va)));
    check!(seen.iter().all(|(_, level, _)| *level == Level::L3));
    let valid = seen.iter().map(|(_, _, entry)| entry.is_valid());
    check!(valid.eq([true, false, true]));
    must!(unmap(&kernel, pages));
    must!(page_alloc::free(frame, 0));
    Ok(())
} }

kernel_test! { "page_table", the_ends_of_the_address_space_can_be_mapped, {
    let mut kernel = linear_map::kernel();
    let frame = must!(page_alloc::allocate(0));
    // The last pages of vmalloc space, and the last pages of all, whose end has no address.
    for last in [VMALLOC.last_byte(), VirtAddr::MAX] {
        let pages = range(last.align_down(PAGE_SIZE) - PAGE_SIZE, 2)?;
        must!(map(&mut kernel, pages, frame));
        let word = last - 7;
        // SAFETY: the page is ours.
        must!(unsafe { probe_write_u64(word, 0x1122_3344) });
        check_eq!(must!(probe_read_u64(word)), 0x1122_3344);
        check_eq!(must!(probe_read_u64(word - PAGE_SIZE)), 0x1122_3344);
        let mut seen = 0;
        kernel.visit(pages, &mut |_, _, _| seen += 1);
        check_eq!(seen, 2);
        must!(unmap(&kernel, pages));
        check!(probe_read_u64(word).is_err());
    }
    must!(page_alloc::free(frame, 0));
    Ok(())
} }

kernel_test! { "page_table", blocks_are_not_split, {
    // The first block of RAM that the linear map has, or, where it is made of pages, none.
    let image = linear_map::virt(crate::arch::image::physical().end).align_down(TABLE) + 2 * TABLE;
    let pages = range(image, 1)?;
    let mut kernel = linear_map::kernel();
    let counts = Counts::now();
    let mut called = 0;
    let result = kernel.apply_to_page_range(pages, |_| {
        called += 1;
        Ok(())
    });
    check_eq!(counts.since(), Counts::default());
    if linear_map::is_page_granular() {
        check_eq!((result, called), (Ok(()), 1));
    } else {
        check_eq!((result, called), (Err(Error::Block(image)), 0));
        let mut levels = Vec::new();
        kernel.visit(pages, &mut |_, level, _| levels.push(level));
        check!(levels == [Level::L2] || levels == [Level::L1]);
    }
    let (text, ()) = logged(|| log::info!("{}", Error::Block(image)));
    check!(text.contains("is mapped by a block"));
    Ok(())
} }
