//! Kernel tests of huge areas, on the live tables and the live TLB.

use super::{AreaKind, Frames, Idle, Size, SplitError, find, split_block, vmalloc_huge};
use crate::{
    arch::fixup::{probe_read_u64, probe_write_u64},
    check, check_eq, kernel_test,
    ktest::{Failure, TestResult},
    mm::{
        debug_pagealloc, dump, kasan,
        layout::LINEAR,
        lazy::{self, Backend, Model, model},
        linear_map, page_alloc,
        page_table::{
            self,
            huge::Size::{Block, Contiguous, Page},
        },
        set_memory::{
            self, set_memory_nx, set_memory_ro, set_memory_rw, set_memory_valid, set_memory_x,
        },
        testing::{
            Chosen, Usage, bytes, frame_at, leaf_at, logged, make_room, must, recorded, trouble,
        },
        vmalloc::{Error, vfree, vm_unmap_aliases, vmalloc, vmalloc_aligned},
    },
    trace::{Barrier, Counts, Event, Kind},
};
use alloc::{format, string::ToString, vec::Vec};
use vmsa::{
    Attributes, Descriptor, Kind as Entry, Level, PAGE_SIZE, PageRange, VirtAddr, live_change,
    tlbi::Operation,
};

const BLOCK: u64 = Block.bytes();
const SET: u64 = Contiguous.bytes();

/// One block, two sets, three pages.
const MIXED: u64 = BLOCK + 2 * SET + 3 * PAGE_SIZE;

fn pages(start: VirtAddr, size: u64) -> Result<PageRange, Failure> {
    PageRange::new(start, size.div_ceil(PAGE_SIZE)).ok_or(trouble("no such range"))
}

/// What is in use before a test.
fn warmed() -> Result<Usage, Failure> {
    make_room()?;
    settled()
}

/// What is in use when the records and tables exist that two areas need: those stay, but for the
/// tables of leaves where their blocks go.
fn settled() -> Result<Usage, Failure> {
    vm_unmap_aliases();
    for area in [MIXED; 2].map(vmalloc_huge) {
        area.and_then(vfree).map_err(|_| trouble("no area"))?;
    }
    Ok(Usage::now())
}

/// What maps `range`: the size of each part, in order. A set must be one.
fn parts(range: PageRange) -> Result<Vec<Size>, Failure> {
    let (mut parts, mut in_set) = (Vec::new(), Vec::new());
    linear_map::kernel().visit(range, &mut |va, level, entry| {
        if level == Level::L2 {
            parts.push(Block);
        } else if entry.attributes().contains(Attributes::CONTIGUOUS) {
            in_set.push((va, entry));
        } else {
            parts.push(Page);
        }
    });
    let at = parts.iter().take_while(|size| **size == Block).count();
    for set in in_set.chunks(16) {
        let (va, first) = set[0];
        let start = first
            .output(Level::L3)
            .ok_or(trouble("no entry of a set is invalid"))?;
        let alike = set.iter().enumerate().all(|(i, (at, entry))| {
            let offset = i as u64 * PAGE_SIZE;
            *at == va + offset
                && Descriptor::leaf(Level::L3, start + offset, first.attributes()) == Some(*entry)
        });
        if set.len() != 16 || !alike || !va.is_aligned(SET) || !start.is_aligned(SET) {
            return Err(trouble("16 aligned entries, alike, make a set"));
        }
        parts.insert(at, Contiguous);
    }
    Ok(parts)
}

/// Stores a word in each page and reads all of them back.
fn use_every_page(range: PageRange) -> Result<(), Failure> {
    let fault = |_| trouble("the area is not memory");
    for page in range.pages_iter() {
        // SAFETY: the area is the test's own.
        unsafe { probe_write_u64(page + 8, page.as_u64()) }.map_err(fault)?;
    }
    for page in range.pages_iter() {
        if probe_read_u64(page + 8).map_err(fault)? != page.as_u64() {
            return Err(trouble("two addresses are one page"));
        }
    }
    Ok(())
}

/// The stores to entries for `range`, the TLBIs of its addresses, and all barriers.
fn about(range: PageRange, events: &[Event]) -> Vec<Kind> {
    let va_of = |operation: &Operation| match operation {
        Operation::Vaale1is(o) | Operation::Vaae1is(o) => o.va(),
        Operation::Rvaale1is(o) | Operation::Rvaae1is(o) => Some(o.base()),
        _ => Some(range.start()),
    };
    let concerns = |kind: &Kind| match kind {
        Kind::Store { va, .. } => range.contains(*va),
        Kind::Tlbi(operation) => va_of(operation).is_some_and(|va| range.contains(va)),
        Kind::Barrier(_) => true,
        _ => false,
    };
    events
        .iter()
        .map(|event| event.kind)
        .filter(concerns)
        .collect()
}

/// Whether every store was one that a live entry allows (DDI 0487, D8.16).
fn no_store_needed_a_break(events: &[Event]) -> bool {
    events.iter().all(|event| match event.kind {
        Kind::Store {
            old, new, level, ..
        } => live_change(old, new, level).is_one_store(),
        _ => true,
    })
}

/// Finds `wanted` in `events`, in this order, other events between them.
fn in_order(events: &[Kind], wanted: &[&dyn Fn(&Kind) -> bool]) -> bool {
    let mut rest = events.iter();
    wanted.iter().all(|wanted| rest.any(wanted))
}

fn ishst(kind: &Kind) -> bool {
    matches!(kind, Kind::Barrier(Barrier::DsbIshst))
}

fn ish(kind: &Kind) -> bool {
    matches!(kind, Kind::Barrier(Barrier::DsbIsh))
}

fn isb(kind: &Kind) -> bool {
    matches!(kind, Kind::Barrier(Barrier::Isb))
}

/// A store at level 2 from one kind of entry to another.
fn level_2(from: fn(Entry) -> bool, to: fn(Entry) -> bool) -> impl Fn(&Kind) -> bool {
    move |kind| match kind {
        Kind::Store {
            old,
            new,
            level: Level::L2,
            ..
        } => from(old.kind(Level::L2)) && to(new.kind(Level::L2)),
        _ => false,
    }
}

fn is_table(kind: Entry) -> bool {
    matches!(kind, Entry::Table(_))
}

fn is_block(kind: Entry) -> bool {
    matches!(kind, Entry::Block(_))
}

fn is_invalid(kind: Entry) -> bool {
    kind == Entry::Invalid
}

kernel_test! { "huge", two_megabytes_are_one_store, {
    let before = warmed()?;
    let _chosen = Chosen::new(model(), lazy::backend())?;
    let (events, start) = recorded(|| vmalloc_huge(BLOCK - 5))?;
    let range = pages(must!(start), BLOCK)?;
    let start = range.start();
    check!(start.is_aligned(BLOCK));
    let about = about(range, &events);
    let stores = about.iter().filter(|kind| matches!(kind, Kind::Store { .. })).count();
    check!(no_store_needed_a_break(&events));
    check!(in_order(&about, &[&level_2(is_invalid, is_block), &ishst, &isb]));
    check_eq!((parts(range)?, stores), (Vec::from([Block]), 1));
    use_every_page(range)?;
    // The frames are adjacent, and the guard page is not mapped.
    let first = linear_map::virt(frame_at(start)?.start());
    check_eq!(must!(probe_read_u64(first + bytes(511) + 8)), (start + bytes(511)).as_u64());
    check!(probe_read_u64(start + BLOCK).is_err_and(|fault| fault.is_translation_fault()));
    let area = must!(find(start).ok_or("no area"));
    check_eq!((area.kind, area.requested), (AreaKind::VmallocHuge, BLOCK - 5));
    must!(vfree(start));
    check!(leaf_at(start).is_none());
    check_eq!(settled()?, before);
    Ok(())
} }

kernel_test! { "huge", one_block_is_its_entry_and_its_barriers, {
    let before = warmed()?;
    let _chosen = Chosen::new(Model::TwoCounters, Backend::Barriers)?;
    // The first time a table is in the way, or one is missing.
    for first in [true, false] {
        let counts = Counts::now();
        let start = must!(vmalloc_huge(BLOCK));
        let map = counts.since();
        let range = pages(start, BLOCK)?;
        check_eq!(parts(range)?, [Block]);
        use_every_page(range)?;
        check!(probe_read_u64(start + BLOCK).is_err());
        let counts = Counts::now();
        must!(vfree(start));
        let unmap = counts.since();
        check!(leaf_at(start).is_none());
        // Those have more to do, for the shadow and for each page.
        if !first && !kasan::is_on() && !debug_pagealloc::is_on() {
            check_eq!((map.stores, map.dsb, map.isb, map.tlbi), (1, 1, 1, 0));
            check_eq!((unmap.stores, unmap.dsb, unmap.isb, unmap.tlbi), (1, 0, 0, 0));
        }
        vm_unmap_aliases();
        check!(range.pages_iter().all(|page| probe_read_u64(page).is_err()));
    }
    // A block that has been split is no entry any more.
    let start = must!(vmalloc_huge(BLOCK));
    // SAFETY: the area is the test's own, and nothing uses it.
    let idle = unsafe { Idle::promise(pages(start, BLOCK)?) };
    must!(split_block(start, &idle));
    must!(vfree(start));
    check!(leaf_at(start).is_none());
    check_eq!(settled()?, before);
    Ok(())
} }

/// An area of every size, under one backend, in a section of somebody else's or not.
fn every_size(backend: Backend) -> TestResult {
    let before = warmed()?;
    let _chosen = Chosen::new(model(), backend)?;
    let (events, start) = recorded(|| vmalloc_huge(MIXED - 7))?;
    let range = pages(must!(start), MIXED)?;
    check!(no_store_needed_a_break(&events));
    let expected = [Block, Contiguous, Contiguous, Page, Page, Page];
    check_eq!(parts(range)?, expected);
    use_every_page(range)?;
    must!(vfree(range.start()));
    check!(range.pages_iter().all(|page| leaf_at(page).is_none()));
    {
        let _section = lazy::section();
        let start = must!(vmalloc_huge(MIXED));
        must!(vfree(start));
    }
    check_eq!(settled()?, before);
    Ok(())
}

kernel_test! { "huge", every_size_has_its_place, {
    Backend::ALL.into_iter().try_for_each(every_size)
} }

kernel_test! { "huge", sizes_below_a_set_are_pages, {
    let before = warmed()?;
    for (size, expected) in [
        (1, Vec::from([Page])),
        (SET - PAGE_SIZE, Vec::from([Page; 15])),
        (SET - 1, Vec::from([Contiguous])),
        (SET + 1, Vec::from([Contiguous, Page])),
    ] {
        let start = must!(vmalloc_huge(size));
        check_eq!(parts(pages(start, size)?)?, expected);
        must!(vfree(start));
    }
    check_eq!(vmalloc_huge(0), Err(Error::Invalid));
    check_eq!(vmalloc_huge(u64::MAX), Err(Error::TooLarge));
    check_eq!(settled()?, before);
    Ok(())
} }

kernel_test! { "huge", without_blocks_there_are_sets_and_without_sets_pages, {
    let before = warmed()?;
    // Keep all of RAM but one page in two of some: no two free pages adjoin.
    let everything = must!(page_alloc::allocate_list(page_alloc::stats().free));
    let mut kept = must!(page_alloc::empty_list().ok_or("not open"));
    let mut free = 0;
    for frame in everything.into_frames() {
        if frame.number() % 2 == 0 && free < 1200 {
            free += u64::from(page_alloc::free(frame, 0).is_ok());
        } else {
            let _ = page_alloc::give_up(&mut kept, frame);
        }
    }
    let start = vmalloc_huge(BLOCK);
    // Tell nothing before memory is back.
    let used = start.map(|start| (start, pages(start, BLOCK).and_then(|range| {
        use_every_page(range)?;
        parts(range)
    })));
    let freed = start.and_then(vfree);
    page_alloc::free_list(kept);
    let (start, parts_of) = must!(used);
    must!(freed);
    check!(start.is_aligned(BLOCK));
    check_eq!(parts_of?, [Page; 512]);
    check_eq!(settled()?, before);
    Ok(())
} }

kernel_test! { "huge", a_failing_call_gives_everything_back, {
    [MIXED, BLOCK].into_iter().try_for_each(failing)
} }

/// An area of `size` bytes, at whichever call of the page allocator memory ends.
fn failing(size: u64) -> TestResult {
    let before = warmed()?;
    let mut seen = Vec::with_capacity(16);
    for n in 0.. {
        page_alloc::fail_after(Some(n));
        let result = vmalloc_huge(size);
        let fired = !page_alloc::armed();
        page_alloc::fail_after(None);
        if let Ok(start) = result {
            use_every_page(pages(start, size)?)?;
            seen.push(parts(pages(start, size)?)?[0]);
            must!(vfree(start));
        }
        check_eq!((n, settled()?), (n, before));
        if !fired {
            break;
        }
    }
    // One block alone is asked for a second time by the general way, which then has it.
    check!(seen.contains(&Contiguous) || size == BLOCK);
    check_eq!(seen.last(), Some(&Block));
    Ok(())
}

kernel_test! { "huge", an_empty_table_goes_before_a_block_comes, {
    let before = warmed()?;
    let _chosen = Chosen::new(model(), lazy::backend())?;
    let start = must!(vmalloc_aligned(bytes(4), BLOCK));
    must!(vfree(start));
    vm_unmap_aliases();
    let mut table = None;
    linear_map::kernel().visit_tables(pages(start, 1)?, &mut |_, level, _, below| {
        table = below.filter(|_| level == Level::L2).or(table);
        true
    });
    let table = must!(table.ok_or("a table stays when its leaves are gone"));
    let (events, again) = recorded(|| vmalloc_huge(BLOCK))?;
    check_eq!(must!(again), start);
    // Everything about the area, and about the table's own page in the linear map, which it leaves
    // when it is freed.
    let range = pages(start, BLOCK)?;
    let alias = linear_map::virt(table.start());
    let concerned = about(range, &events);
    let non_leaf = |kind: &Kind| matches!(kind, Kind::Tlbi(Operation::Vaae1is(_)));
    check!(in_order(&concerned, &[
        &level_2(is_table, is_invalid), &ishst, &non_leaf, &ish, &isb, &level_2(is_invalid, is_block), &ishst, &isb,
    ]));
    let unlinked = level_2(is_table, is_invalid);
    let freed = |kind: &Kind| matches!(kind, Kind::Store { va, new, .. } if *va == alias && !new.is_valid());
    let all: Vec<Kind> = events.iter().map(|event| event.kind).collect();
    if debug_pagealloc::is_on() {
        check!(in_order(&all, &[&unlinked, &ishst, &non_leaf, &ish, &freed]));
    }
    check_eq!(all.iter().filter(|kind| non_leaf(kind)).count(), 1);
    check!(no_store_needed_a_break(&events));
    use_every_page(range)?;
    must!(vfree(start));
    vm_unmap_aliases();
    // The table that was freed is somebody else's: nobody remembers it as the one for these leaves.
    check_eq!(vmalloc_aligned(bytes(4), BLOCK), Ok(start));
    use_every_page(pages(start, bytes(4))?)?;
    must!(vfree(start));
    check_eq!(settled()?, before);
    Ok(())
} }

kernel_test! { "huge", a_flush_of_blocks_has_no_hint, {
    let before = warmed()?;
    let start = must!(vmalloc_huge(MIXED));
    let range = pages(start, MIXED)?;
    use_every_page(range)?;
    let (events, result) = recorded(|| {
        let result = vfree(start);
        vm_unmap_aliases();
        result
    })?;
    must!(result);
    let concerned = about(range, &events);
    let hinted = |kind: &Kind| match kind {
        Kind::Tlbi(Operation::Vaale1is(o)) => o.ttl().is_some(),
        Kind::Tlbi(Operation::Rvaale1is(o)) => o.ttl().is_some(),
        _ => false,
    };
    check!(!concerned.iter().any(hinted));
    let tlbi = |kind: &Kind| matches!(kind, Kind::Tlbi(_));
    // The last entry of the area is cleared before the DSB ISHST.
    let last = range.page(range.pages() - 1);
    let cleared = |kind: &Kind| matches!(kind, Kind::Store { va, .. } if *va == last);
    check!(in_order(&concerned, &[&level_2(is_block, is_invalid), &cleared, &ishst, &tlbi, &ish, &isb]));
    check!(probe_read_u64(start).is_err_and(|fault| fault.is_translation_fault()));
    check_eq!(settled()?, before);
    Ok(())
} }

kernel_test! { "huge", a_block_is_broken_before_its_table_is_made, {
    let before = warmed()?;
    let start = must!(vmalloc_huge(BLOCK));
    let range = pages(start, BLOCK)?;
    use_every_page(range)?;
    let attributes = leaf_at(start).attributes();
    // SAFETY: the area is the test's, which does not touch it before the split is through.
    let idle = unsafe { Idle::promise(range) };
    let (events, result) = recorded(|| split_block(start + bytes(100), &idle))?;
    must!(result);
    check!(no_store_needed_a_break(&events));
    // The pages of the new table are stored for the same addresses, before; from the break on:
    let steps = about(range, &events);
    let broken = level_2(is_block, is_invalid);
    let from = must!(steps.iter().position(broken).ok_or("no break"));
    let [_, dsb, tlbi, sync, context, make, visible, usable] = steps[from..] else {
        return Err(trouble("break, flush, make and barriers are eight events"));
    };
    check!(ishst(&dsb) && ish(&sync) && isb(&context));
    check!(matches!(tlbi, Kind::Tlbi(Operation::Vaale1is(operand)) if operand.ttl().is_none()));
    check!(level_2(is_invalid, is_table)(&make));
    check!(ishst(&visible) && isb(&usable));
    let filled = |kind: &&Kind| matches!(kind, Kind::Store { level: Level::L3, .. });
    check_eq!(steps[..from].iter().filter(filled).count(), 512);

    // The same memory, with the same rights, in pages, each of which is freed on its own.
    check_eq!(parts(range)?, [Page; 512]);
    check_eq!(leaf_at(start).attributes(), attributes);
    for page in range.pages_iter() {
        check_eq!(must!(probe_read_u64(page + 8)), page.as_u64());
    }
    check_eq!(split_block(start, &idle), Err(SplitError::NoBlock(start)));
    must!(vfree(start));
    check_eq!(settled()?, before);
    Ok(())
} }

kernel_test! { "huge", what_may_be_in_use_is_not_split, {
    let before = warmed()?;
    let huge = must!(vmalloc_huge(MIXED));
    let small = must!(vmalloc(bytes(4)));
    let entry = leaf_at(huge);
    // SAFETY: no split succeeds, so no promise is relied on.
    let promise = |start, size| pages(start, size).map(|range| unsafe { Idle::promise(range) });
    let linear = linear_map::virt(frame_at(huge)?.start());
    let image = VirtAddr::from_ptr((&raw const crate::task::BOOT_TASK).cast::<u8>());
    let (tail, in_small) = (huge + BLOCK, small + bytes(1));
    for (va, idle, error) in [
        (linear, promise(linear, BLOCK)?, SplitError::LinearMap),
        (image, promise(image.align_down(BLOCK), BLOCK)?, SplitError::Image),
        (in_small, promise(small, BLOCK)?, SplitError::NoBlock(in_small)),
        (tail, promise(huge, MIXED)?, SplitError::NoBlock(tail)),
        (huge, promise(huge, BLOCK - PAGE_SIZE)?, SplitError::NotIdle(huge)),
        (huge, promise(huge + PAGE_SIZE, BLOCK)?, SplitError::NotIdle(huge)),
    ] {
        let (events, result) = recorded(|| split_block(va, &idle))?;
        check_eq!(result, Err(error));
        let touched = |event: &Event| matches!(event.kind, Kind::Store { .. } | Kind::Tlbi(_));
        check!(!events.iter().any(touched));
    }
    check!(SplitError::LinearMap.to_string().contains("FEAT_BBM level"));
    let idle = promise(huge, BLOCK)?;
    page_alloc::fail_after(Some(0));
    let result = split_block(huge, &idle);
    page_alloc::fail_after(None);
    check_eq!(result, Err(SplitError::OutOfMemory));
    check_eq!(leaf_at(huge), entry);
    must!(vfree(huge));
    must!(vfree(small));
    check_eq!(settled()?, before);
    Ok(())
} }

kernel_test! { "huge", set_memory_refuses_huge_areas, {
    let before = warmed()?;
    let start = must!(vmalloc_huge(MIXED));
    let range = pages(start, MIXED)?;
    let refused = Err(set_memory::Error::Huge);
    for page in [0, 5, 512, 520, 544] {
        let va = start + bytes(page);
        for change in [set_memory_ro, set_memory_rw, set_memory_x, set_memory_nx] {
            check_eq!(change(va, 1), refused);
        }
    }
    for (page, count) in [(0, 1), (0, 512), (510, 4), (512, 16), (513, 1), (540, 5)] {
        check_eq!(set_memory_valid(start + bytes(page), count, false), refused);
    }
    use_every_page(range)?;
    must!(vfree(start));
    check_eq!(settled()?, before);
    Ok(())
} }

kernel_test! { "huge", a_block_and_a_set_change_whole_or_not_at_all, {
    let before = warmed()?;
    let start = must!(vmalloc_huge(MIXED));
    let kernel = linear_map::kernel();
    for (page, count) in [(0, 512), (7, 1), (512, 16), (512, 32), (527, 1), (528, 15), (533, 12)] {
        let range = must!(PageRange::new(start + bytes(page), count).ok_or("no range"));
        let mut calls = 0;
        let result = kernel.apply_to_existing_page_range(range, |_| {
            calls += 1;
            Ok(())
        });
        check!(matches!(result, Err(page_table::Error::Block(_))));
        check_eq!(calls, 0);
    }
    for (page, count) in [(0, 511), (1, 511), (512, 15), (513, 15), (512, 17), (535, 10)] {
        let range = must!(PageRange::new(start + bytes(page), count).ok_or("no range"));
        let section = lazy::section();
        let result = kernel.take_leaves(&section, range, |_, _| ());
        check!(matches!(result, Err(page_table::Error::Block(_))));
    }
    use_every_page(pages(start, MIXED)?)?;
    // The pages behind are alone responsible for themselves.
    let tail = must!(PageRange::new(start + bytes(544), 3).ok_or("no range"));
    must!(kernel.apply_to_existing_page_range(tail, |leaf| {
        leaf.set(leaf.get(), leaf.get());
        Ok(())
    }));
    must!(vfree(start));
    check_eq!(settled()?, before);
    Ok(())
} }

kernel_test! { "huge", what_reads_the_tables_knows_every_size, {
    let before = warmed()?;
    let start = must!(vmalloc_huge(MIXED - 3));
    let range = pages(start, MIXED)?;
    let mut lines = Vec::new();
    dump::for_each_run(range, &mut |run| lines.push(format!("{run}")));
    // Frames that happen to adjoin make one line of two sets, or of three pages.
    let count = |what| lines.iter().filter(|line| line.contains(what)).count();
    check!(lines[0].contains("    2M  2M block") && count("2M block") == 1);
    check!((1..=2).contains(&count("64K set")) && (1..=3).contains(&count("K  page")));
    if kasan::is_on() {
        // The shadow knows nothing of sizes.
        check!(kasan::access::check(start + (MIXED - 4), 1, true).is_ok());
        let (text, result) = logged(|| kasan::access::check(start + (MIXED - 3), 1, true));
        check!(result.is_err() && text.contains("vmalloc-out-of-bounds"));
    }
    must!(vfree(start));
    if kasan::is_on() {
        let (text, result) = logged(|| kasan::access::check(start + BLOCK / 2, 1, false));
        check!(result.is_err() && text.contains("freed"));
    }
    check_eq!(settled()?, before);
    Ok(())
} }

kernel_test! { "huge", the_linear_map_is_in_pages_or_as_large_as_it_can_be, {
    let (mut blocks, mut sets, mut single, mut loose) = (0, 0, 0, 0);
    linear_map::kernel().visit(LINEAR, &mut |va, level, entry| {
        let set = entry.attributes().contains(Attributes::CONTIGUOUS);
        let aligned = va.is_aligned(SET) && entry.output(level).is_some_and(|pa| pa.is_aligned(SET));
        match (level, set) {
            (Level::L3, true) => sets += u64::from(aligned),
            (Level::L3, false) => single += 1,
            _ => blocks += 1,
        }
        loose += u64::from(level == Level::L3 && set);
    });
    check_eq!(loose, 16 * sets);
    if linear_map::is_page_granular() {
        check_eq!((blocks, sets), (0, 0));
    } else {
        // Blocks for all that is far from the image; at its edges sets, and less than a set's worth
        // of pages at each edge of the three read-only parts.
        check!(blocks > 20 && sets > 20 && single <= 6 * 15);
    }
    Ok(())
} }

kernel_test! { "huge", frames_come_in_the_largest_parts, {
    make_room()?;
    let before = Usage::now();
    let frames = must!(Frames::allocate(2 * 512 + 3 * 16 + 5));
    let sizes: Vec<Size> = frames.parts().map(|(_, size)| size).collect();
    frames.free();
    check_eq!(sizes[..5], [Block, Block, Contiguous, Contiguous, Contiguous]);
    check_eq!(sizes[5..], [Page; 5]);
    check_eq!(Usage::now(), before);
    Ok(())
} }
