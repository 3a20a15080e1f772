//! Kernel tests of the shadow: what it says of an area, when its pages come and go, and what a
//! report looks like. With `KASAN=off` there is none, and everything is allowed.

use super::{
    access::{Error, load_u8, load_u64, store_u8, store_u64},
    is_on, populate,
    populate::read_shadow,
    report::{self, Kind},
    shadow::{GRANULE, SPAN, VMALLOC_INVALID, shadow_of},
};
use crate::{
    arch::fixup::{probe_read_u8, probe_write_u8},
    check, check_eq, kernel_test,
    ktest::{Failure, TestResult},
    mm::{
        layout::{HEAP, IMAGE, LINEAR},
        lazy::{self, Backend, Call, Model},
        linear_map::virt,
        page_alloc,
        testing::{
            Chosen, Usage, bytes, is_page, leaf_at, logged, make_room, must, recorded, trouble,
        },
        vmalloc::{vfree, vm_unmap_aliases, vmalloc, vmalloc_aligned},
    },
    trace,
};
use alloc::{boxed::Box, format, vec::Vec};
use vmsa::{PAGE_SIZE, VirtAddr};

/// The shadow byte of `va`, or none.
fn shadow_byte(va: VirtAddr) -> Option<u8> {
    shadow_of(va).and_then(read_shadow)
}

/// Whether the page of shadow that speaks of `va` is there.
fn has_shadow(va: VirtAddr) -> bool {
    shadow_of(va).is_some_and(|shadow| is_page(leaf_at(shadow)))
}

/// What the shadow must say of the granule at `offset` of an area of `size` bytes.
fn expected(size: u64, offset: u64) -> u8 {
    match size.saturating_sub(offset) {
        0 => VMALLOC_INVALID,
        left @ 1..GRANULE => left as u8,
        _ => 0,
    }
}

kernel_test! { "kasan", the_shadow_of_an_area, {
    for size in [1, 7, 8, 9, 2035, 4095, 4096, 4097, bytes(7), bytes(9) + 3, bytes(40) - 1] {
        let start = must!(vmalloc(size));
        let end = size.next_multiple_of(PAGE_SIZE) + PAGE_SIZE;
        for offset in (0..end).step_by(GRANULE as usize) {
            let byte = shadow_byte(start + offset);
            let right = is_on().then(|| expected(size, offset));
            check_eq!((size, offset, byte), (size, offset, right));
        }
        must!(vfree(start));
        // Not purged yet: nothing of it may be accessed.
        for offset in (0..end).step_by(GRANULE as usize) {
            check_eq!(shadow_byte(start + offset), is_on().then_some(VMALLOC_INVALID));
        }
    }
    vm_unmap_aliases();
    Ok(())
} }

/// Areas of one page with their guards, four of which share a page of shadow: the first span of
/// 32 KiB that four of them fill, and all others.
fn four_of_a_span() -> Result<([VirtAddr; 4], Vec<VirtAddr>), Failure> {
    let mut areas: Vec<VirtAddr> = Vec::with_capacity(64);
    // One that begins a span, which the lowest free address need not do: stacks leave odd holes.
    areas.push(vmalloc_aligned(PAGE_SIZE, SPAN).map_err(|_| trouble("no area"))?);
    while areas.len() < areas.capacity() {
        areas.push(vmalloc(PAGE_SIZE).map_err(|_| trouble("no area"))?);
    }
    let whole = |first: &VirtAddr| {
        let all = core::array::from_fn(|i| *first + bytes(2 * i as u64));
        let there = |va: &VirtAddr| areas.contains(va);
        (first.is_aligned(SPAN) && all.iter().all(there)).then_some(all)
    };
    let four: [VirtAddr; 4] = areas
        .iter()
        .find_map(whole)
        .ok_or(trouble("the areas lie apart"))?;
    areas.retain(|area| !four.contains(area));
    Ok((four, areas))
}

kernel_test! { "kasan", a_page_of_shadow_stays_for_its_neighbours, {
    let before = Usage::now();
    // Whichever of the four is the last one, the page goes with it and not before.
    for last in 0..4 {
        let (four, others) = four_of_a_span()?;
        let start = four[0];
        for (i, area) in four.iter().enumerate() {
            if i != last {
                must!(vfree(*area));
                vm_unmap_aliases();
                check_eq!(has_shadow(start), is_on());
                // What the survivor has is as it was, and what is gone is poisoned.
                check_eq!(shadow_byte(four[last]), is_on().then_some(0));
                check_eq!(shadow_byte(*area), is_on().then_some(VMALLOC_INVALID));
            }
        }
        let depopulated = populate::stats().depopulated;
        must!(vfree(four[last]));
        // Freed, but not purged: still there.
        check_eq!(has_shadow(start), is_on());
        vm_unmap_aliases();
        check!(!has_shadow(start));
        check_eq!(populate::stats().depopulated - depopulated, u64::from(is_on()));
        for area in others {
            must!(vfree(area));
        }
    }
    let after = Usage::now();
    check_eq!((after.space, after.shadow), (before.space, before.shadow));
    check_eq!(populate::stats().before_flush, 0);
    Ok(())
} }

kernel_test! { "kasan", spans_that_are_free_as_a_whole_go, {
    // An area of three spans and a bit: with neighbours alive, its own whole spans go at once.
    let below = must!(vmalloc(PAGE_SIZE));
    let start = must!(vmalloc(3 * SPAN + bytes(2)));
    let above = must!(vmalloc(3 * SPAN));
    let end = start + (3 * SPAN + bytes(3));
    let first = must!(start.align_up(SPAN).ok_or("no span"));
    check!(start != first || is_on() || !has_shadow(start));
    let stats = populate::stats();
    must!(vfree(start));
    vm_unmap_aliases();
    // Two whole ones at least, wherever it lay; none of those that a neighbour shares.
    let spans = || (0..8).map(|i| first + i * SPAN).filter(|span| *span + SPAN <= end);
    check!(spans().count() >= 2);
    check!(spans().all(|span| !has_shadow(span)));
    if is_on() {
        check!(has_shadow(below) && has_shadow(above));
        check_eq!(shadow_byte(below), Some(0));
        check_eq!(shadow_byte(above), Some(0));
        check!(populate::stats().depopulated - stats.depopulated >= 2);
    } else {
        check_eq!(populate::stats(), stats);
    }
    must!(vfree(below));
    must!(vfree(above));
    Ok(())
} }

kernel_test! { "kasan", everything_but_vmalloc_shares_a_page_of_zeroes, {
    let page = must!(page_alloc::allocate(0));
    let heap = Box::new(7u64);
    let on_stack = 7u64;
    static IN_IMAGE: u64 = 7;
    let places = [
        virt(page.start()),
        VirtAddr::from_ptr(&raw const *heap),
        VirtAddr::from_ptr(&raw const on_stack),
        VirtAddr::from_ptr(&raw const IN_IMAGE),
    ];
    // SAFETY: the page is ours.
    unsafe { places[0].as_mut_ptr::<u64>().write(7) };
    for va in places {
        check_eq!(load_u64(va).ok(), Some(7));
    }
    if is_on() {
        let ends = [LINEAR, IMAGE, HEAP].map(|part| [part.start(), part.last_byte()]);
        let shadows = ends.as_flattened().iter().chain(&places).filter_map(|va| shadow_of(*va));
        let mut frames = shadows.map(|shadow| {
            // Read-only: nobody can forbid anything there, or allow it to everybody.
            // SAFETY: the write is refused; that is what is tested.
            let write = unsafe { probe_write_u8(shadow, 1) };
            let refused = write.is_err_and(|fault| fault.is_permission_fault());
            let frame = leaf_at(shadow).output(vmsa::Level::L3);
            (probe_read_u8(shadow).ok() == Some(0) && refused).then_some(frame)
        });
        let first = frames.next().flatten();
        check!(first.is_some_and(|frame| frame.is_some()));
        check!(frames.all(|frame| frame == first));
    }
    must!(page_alloc::free(page, 0));
    Ok(())
} }

/// Whether an access was refused by the shadow as an access of that kind.
fn refused_as<T>(kind: &'static str, result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Kasan(said)) if said == Kind(kind))
}

kernel_test! { "kasan", what_is_out_of_bounds_is_refused_and_counted, {
    const SIZE: u64 = 4096 + 13;
    const OUT: &str = "vmalloc-out-of-bounds";
    let start = must!(vmalloc(SIZE));
    let reports = report::count();
    // SAFETY: the area is ours.
    unsafe {
        must!(store_u8(start + (SIZE - 1), 0x21));
        must!(store_u64(start + 8, 0x2222));
    }
    check_eq!(must!(load_u8(start + (SIZE - 1))), 0x21);
    check_eq!(must!(load_u64(start + 8)), 0x2222);
    // Across a page, and up to the last byte.
    must!(load_u64(start + 4092));
    must!(load_u64(start + (SIZE - 8)));
    check_eq!(report::count(), reports);
    // The last page of the area is mapped as a whole: without the shadow all of these would work.
    let last_word = start + (SIZE - 5);
    let results = [
        load_u8(start + SIZE).map(u64::from),
        load_u64(start + (SIZE - 7)),
        load_u8(start + (bytes(2) - 1)).map(u64::from),
    ];
    // SAFETY: the page is ours, also behind the area's end.
    let store = unsafe { store_u64(last_word, u64::MAX) };
    if is_on() {
        check!(results.into_iter().all(|result| refused_as(OUT, result)));
        check!(refused_as(OUT, store));
        check_eq!(report::count(), reports + 4);
        // The store was not made, not even the part of it that would have been allowed.
        check!(probe_read_u8(last_word).is_ok_and(|byte| byte != 0xff));
    } else {
        check!(results.into_iter().all(|result| result.is_ok()) && store.is_ok());
        check_eq!(report::count(), reports);
    }
    must!(vfree(start));
    let freed = load_u8(start);
    if is_on() {
        check!(refused_as(OUT, freed));
    }
    vm_unmap_aliases();
    match load_u8(start) {
        Err(Error::Kasan(_)) => check!(is_on()),
        Err(Error::Fault(fault)) => check!(!is_on() && fault.is_translation_fault()),
        Ok(_) => check!(false),
    }
    Ok(())
} }

kernel_test! { "kasan", what_has_no_shadow_is_wild, {
    let user = VirtAddr::literal(0x1000);
    let far = VirtAddr::literal(0xffff_b123_4567_8000);
    for va in [user, far] {
        let (text, result) = logged(|| load_u64(va));
        if is_on() {
            check!(refused_as("wild-memory-access", result));
            check!(text.contains("BUG: KASAN: wild-memory-access in [<ffff8000"));
        } else {
            check!(matches!(result, Err(Error::Fault(_))));
        }
    }
    Ok(())
} }

kernel_test! { "kasan", the_report_is_laid_out_as_linux_does, {
    const SIZE: u64 = 2035;
    let start = must!(vmalloc(SIZE));
    let bad = start + SIZE;
    let (text, result) = logged(|| load_u8(bad));
    must!(vfree(start));
    check_eq!(result.is_err(), is_on());
    if !is_on() {
        check!(text.is_empty());
        return Ok(());
    }
    let lines: Vec<&str> = text.lines().collect();
    let rule = "=".repeat(66);
    check_eq!(lines[0], format!("ERROR: {rule}"));
    check!(lines[1].starts_with("BUG: KASAN: vmalloc-out-of-bounds in [<ffff8000"));
    let what = format!("Read of size 1 at addr {:016x} by task boot/0", bad.as_u64());
    check_eq!(lines[2], what);
    check!(text.contains("\nCall trace:\n  [<ffff8000"));
    check!(text.contains(&format!(
        "The buggy address belongs to the virtual mapping at\n [{:016x}, {:016x}) of {SIZE} bytes",
        start.as_u64(),
        start.as_u64() + bytes(2),
    )));
    check!(text.contains(file!()));
    check!(text.contains("\nMemory state around the buggy address:\n"));
    // Five rows of 128 bytes, the third of them the one; the mark is below its shadow byte.
    let is_marked = |line: &&&str| line.starts_with('>');
    let row = must!(lines.iter().position(|line| is_marked(&line)).ok_or("no mark"));
    let first = bad.align_down(16 * GRANULE);
    for (i, line) in lines[row - 2..row].iter().chain(&lines[row + 2..row + 4]).enumerate() {
        let i = if i < 2 { i as i64 - 2 } else { i as i64 - 1 };
        let address = first.as_u64().wrapping_add_signed(i * 128);
        check!(line.starts_with(&format!(" {address:016x}: ")));
        check_eq!(line.split_whitespace().count(), 17);
    }
    check!(lines[row].starts_with(&format!(">{:016x}: 00 ", first.as_u64())));
    let caret = must!(lines[row + 1].find('^').ok_or("no caret"));
    check_eq!(lines[row].get(caret..caret + 2), Some("03"));
    check_eq!(lines[row].get(caret..caret + 5), Some("03 f8"));
    check_eq!(lines.last().copied(), Some(&*rule));
    Ok(())
} }

/// The calls and the span names of a recording, in order.
fn calls(events: &[trace::Event]) -> impl Iterator<Item = Result<Call, &'static str>> {
    events.iter().filter_map(|event| match event.kind {
        trace::Kind::Lazy { call, .. } => Some(Ok(call)),
        trace::Kind::Enter(name) => Some(Err(name)),
        _ => None,
    })
}

/// Shadow comes and goes inside of a caller's section: each page in a pause, with its barriers at
/// once.
fn in_a_section(model: Model) -> TestResult {
    let _chosen = Chosen::new(model, Backend::Barriers)?;
    make_room()?;
    vm_unmap_aliases();
    let outer = lazy::section();
    let (events, start) = recorded(|| vmalloc(bytes(40)))?;
    let start = must!(start);
    let pauses = |events: &[trace::Event], name| {
        let all: Vec<_> = calls(events).collect();
        let inside = all.windows(2).filter(|pair| pair[0] == Err(name));
        let paused = inside.clone().filter(|pair| pair[1] == Ok(Call::Pause));
        (inside.count(), paused.count())
    };
    let (entries, paused) = pauses(&events, "kasan_populate_vmalloc_pte");
    check_eq!(
        (entries, paused == entries),
        (if is_on() { entries.max(5) } else { 0 }, true)
    );
    must!(load_u8(start));
    must!(vfree(start));
    let (events, ()) = recorded(vm_unmap_aliases)?;
    drop(outer);
    let (entries, paused) = pauses(&events, "kasan_depopulate_vmalloc_pte");
    check_eq!(
        (entries, paused == entries),
        (if is_on() { entries.max(4) } else { 0 }, true)
    );
    check_eq!(populate::stats().before_flush, 0);
    Ok(())
}

kernel_test! { "kasan", every_page_of_shadow_is_mapped_and_freed_in_a_pause, {
    for model in Model::ALL {
        in_a_section(model)?;
    }
    Ok(())
} }
