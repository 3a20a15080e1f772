//! Kernel tests of DEBUG_PAGEALLOC and of page poisoning, on and off: what a free page allows, what
//! is said of one that was used, and that a caller's lazy section does not put any of it off.

use super::{POISON, POISON_WORD, describe, is_on, poisons};
use crate::{
    arch::{
        fault::Fault,
        fixup::{probe_read_u64, probe_write_u64},
        image,
    },
    check, check_eq, kernel_test,
    ktest::{Failure, TestResult},
    mm::{
        lazy::{self, Backend, LazyMmuState, Model, model},
        linear_map::{is_page_granular, virt},
        page_alloc,
        set_memory::set_memory_valid,
        testing::{Chosen, bytes, leaf_at, logged, make_room, must, recorded, trouble},
    },
    oops::Survived,
    task,
    trace::{Barrier, Counts, Event, Kind},
    warning,
};
use alloc::{format, string::String};
use vmsa::{Frame, PAGE_SIZE, VirtAddr};

/// Where a page is in the linear map.
fn linear(page: Frame) -> VirtAddr {
    virt(page.start())
}

/// A store to a page that is the test's own, or free.
fn write(va: VirtAddr, word: u64) -> Result<(), Fault> {
    // SAFETY: the tests restore what a free page must hold, or say why not.
    unsafe { probe_write_u64(va, word) }
}

/// Whether the page of a translation can't be reached.
fn is_gone(va: VirtAddr) -> bool {
    probe_read_u64(va).is_err_and(|fault| fault.is_translation_fault())
}

/// Lets `action` reach a free page.
fn reaching<R>(page: Frame, action: impl FnOnce(VirtAddr) -> R) -> Result<R, Failure> {
    if is_on() {
        set_memory_valid(linear(page), 1, true).map_err(|_| trouble("no leaf"))?;
    }
    let result = action(linear(page));
    if is_on() {
        set_memory_valid(linear(page), 1, false).map_err(|_| trouble("no leaf"))?;
    }
    Ok(result)
}

kernel_test! { "debug_pagealloc", a_free_page_is_not_there, {
    let page = must!(page_alloc::allocate(0));
    let va = linear(page);
    must!(write(va, 7));
    check_eq!(must!(probe_read_u64(va)), 7);
    must!(page_alloc::free(page, 0));
    check_eq!(is_gone(va), is_on());
    check_eq!(is_gone(va + (PAGE_SIZE - 8)), is_on());
    check_eq!(write(va, if poisons() { POISON_WORD } else { 7 }).is_err(), is_on());
    // The leaf keeps its other bits: allocating makes it valid again, without a table.
    if is_on() {
        check!(!leaf_at(va).is_valid() && !leaf_at(va).is_none());
    }
    Ok(())
} }

kernel_test! { "debug_pagealloc", every_page_of_a_block_or_list_goes_and_comes_back, {
    let block = must!(page_alloc::allocate(3));
    let page = |i| linear(block) + bytes(i);
    check!((0..8).all(|i| write(page(i), i).is_ok()));
    must!(page_alloc::free(block, 3));
    check!((0..8).all(|i| is_gone(page(i)) == is_on()));
    let list = must!(page_alloc::allocate_list(13));
    check!(list.iter().all(|frame| write(linear(frame), 1).is_ok()));
    let copy = must!(page_alloc::allocate(0));
    let first = list.iter().next();
    page_alloc::free_list(list);
    check!(first.is_some_and(|frame| is_gone(linear(frame)) == is_on()));
    must!(write(linear(copy), 1));
    must!(page_alloc::free(copy, 0));
    Ok(())
} }

kernel_test! { "debug_pagealloc", the_report_names_page_and_places, {
    make_room()?;
    let before = line!() + 1;
    let page = must!(page_alloc::allocate(0));
    must!(page_alloc::free(page, 0));
    let mut text = String::new();
    must!(describe(page, &mut text));
    let name = format!("{:#x}", page.number());
    if !is_on() {
        check_eq!(text, format!("  no history is kept of page {name}\n"));
        return Ok(());
    }
    check!(text.contains(&format!("  allocated by task 0 at {}:{before}:", file!())));
    check!(text.contains(&format!("  freed by task 0 at {}:{}:", file!(), before + 1)));
    // With the way there, by return address.
    check!(text.lines().filter(|line| line.starts_with("    [<ffff8000")).count() >= 4);
    let fault = probe_read_u64(linear(page) + 16);
    let fault = must!(fault.err().ok_or("a free page could be read"));
    let report = format!("{}", Survived(&fault));
    check!(report.contains("use after free") && report.contains(&format!("page {name} ")));
    check!(report.contains("level 3 translation fault") && report.contains(&text));
    Ok(())
} }

kernel_test! { "debug_pagealloc", a_freed_page_is_filled, {
    let page = must!(page_alloc::allocate(0));
    for offset in (0..PAGE_SIZE).step_by(8) {
        must!(write(linear(page) + offset, 5));
    }
    must!(page_alloc::free(page, 0));
    let expected = if poisons() { u64::from_ne_bytes([POISON; 8]) } else { 5 };
    let filled = reaching(page, |va| {
        let mut words = (0..PAGE_SIZE).step_by(8).map(|offset| probe_read_u64(va + offset));
        words.all(|word| word.is_ok_and(|word| word == expected))
    })?;
    check!(filled);
    Ok(())
} }

/// Frees a page, lets `spoil` change it, and allocates it again: the warning must hold `says`, or be
/// none.
fn corruption(says: Option<&str>, spoil: impl FnOnce(VirtAddr) -> Result<(), Fault>) -> TestResult {
    make_room()?;
    let page = must!(page_alloc::allocate(0));
    must!(page_alloc::free(page, 0));
    must!(reaching(page, spoil)?);
    let warned = warning::count();
    let (text, again) = logged(|| page_alloc::allocate(0));
    check_eq!(again, Ok(page));
    must!(page_alloc::free(page, 0));
    let expected = says.filter(|_| poisons());
    check_eq!(warning::count() - warned, usize::from(expected.is_some()));
    match expected {
        Some(says) => {
            let start = format!(
                "WARN: pagealloc: {says} in free page {:#x}: ",
                page.number()
            );
            check!(text.starts_with(&start));
            check!(!is_on() || text.contains("freed by task 0"));
        }
        None => check!(!text.contains("pagealloc")),
    }
    Ok(())
}

kernel_test! { "debug_pagealloc", who_writes_to_a_free_page_is_found_out, {
    corruption(None, |_| Ok(()))?;
    corruption(Some("memory corruption"), |va| write(va, 0x1234_5678))?;
    corruption(Some("memory corruption"), |va| write(va + (PAGE_SIZE - 8), 0))?;
    corruption(Some("single bit error"), |va| write(va + 800, POISON_WORD ^ 1 << 42))?;
    // Filled and allocated once more, it is clean again.
    corruption(None, |_| Ok(()))
} }

kernel_test! { "debug_pagealloc", the_warning_says_what_and_where, {
    make_room()?;
    if !poisons() {
        return corruption(None, |va| write(va, 1));
    }
    let page = must!(page_alloc::allocate(0));
    must!(page_alloc::free(page, 0));
    must!(reaching(page, |va| write(va + 64, 0xdead))?);
    let (text, again) = logged(|| page_alloc::allocate(0));
    check_eq!(again, Ok(page));
    let words = format!(
        "{:#018x} at {}, {POISON_WORD:#018x} expected",
        0xdead,
        linear(page) + 64
    );
    check!(text.contains(&words));
    must!(page_alloc::free(page, 0));
    Ok(())
} }

kernel_test! { "debug_pagealloc", a_page_that_nobody_had_is_not_filled, {
    make_room()?;
    // Of the pages behind the image the last that is free and has never been freed. Without a
    // history one that does not hold the pattern will do; it is what is looked for that must exist.
    let first = image::physical().end.as_u64() / PAGE_SIZE;
    let pages = (first..first + page_alloc::stats().managed).rev();
    let mut frames = pages.filter_map(Frame::from_number).filter(|f| page_alloc::is_free(*f));
    let mut found = None;
    let mut text = String::new();
    while let Some(frame) = frames.next().filter(|_| found.is_none()) {
        text.clear();
        must!(describe(frame, &mut text));
        let new = text.contains("never allocated") && text.contains("never freed");
        let filled = |va| probe_read_u64(va).is_ok_and(|word| word == POISON_WORD);
        if new || (!is_on() && !filled(linear(frame))) {
            found = Some(frame);
        }
    }
    let Some(frame) = found else {
        // Other tests, run before in the same machine, have had every page.
        return Ok(());
    };
    check_eq!(is_gone(linear(frame)), is_on());
    let words = reaching(frame, |va| [0, 8, PAGE_SIZE - 8].map(|at| probe_read_u64(va + at)))?;
    check!(words.into_iter().all(|word| word.is_ok_and(|word| word != POISON_WORD)));
    Ok(())
} }

/// The barriers and TLBIs of a list of events, in order; adjacent TLBIs as one `None`.
fn maintenance(events: &[Event]) -> impl Iterator<Item = Option<Barrier>> {
    let mut last = Some(Barrier::Isb);
    events.iter().filter_map(move |event| {
        let this = match event.kind {
            Kind::Barrier(barrier) => Some(barrier),
            Kind::Tlbi(_) => None,
            _ => return None,
        };
        let repeated = this.is_none() && last.is_none();
        last = this;
        (!repeated).then_some(this)
    })
}

/// Frees and allocates with a caller's section open, and paused: nothing of it may be put off.
fn in_a_section(model: Model, pause: bool) -> TestResult {
    use Barrier::{DsbIsh, DsbIshst, Isb};
    let _chosen = Chosen::new(model, Backend::Barriers)?;
    make_room()?;
    let page = must!(page_alloc::allocate(0));
    let va = linear(page);
    must!(write(va, 1));
    let section = lazy::section();
    let paused = pause.then(lazy::paused);
    let (freed, result) = recorded(|| page_alloc::free(page, 0))?;
    must!(result);
    check_eq!(is_gone(va), is_on());
    let (allocated, again) = recorded(|| page_alloc::allocate(0))?;
    // Usable before the section ends: its barriers have been issued.
    check_eq!(again, Ok(page));
    must!(write(va, 2));
    check!(task::current().deferred.is_empty());
    drop(paused);
    drop(section);
    check!(task::current().lazy_mmu_state.get() == LazyMmuState::new());
    must!(page_alloc::free(page, 0));
    if is_on() {
        check!(maintenance(&freed).eq([Some(DsbIshst), None, Some(DsbIsh), Some(Isb)]));
        check!(maintenance(&allocated).eq([Some(DsbIshst), Some(Isb)]));
    } else {
        check_eq!(
            Counts::of(freed.iter().chain(&allocated)),
            Counts::default()
        );
    }
    Ok(())
}

kernel_test! { "debug_pagealloc", a_callers_section_puts_nothing_off, {
    for model in Model::ALL {
        in_a_section(model, false)?;
        in_a_section(model, true)?;
    }
    Ok(())
} }

kernel_test! { "debug_pagealloc", one_section_and_one_flush_for_all_pages_of_a_call, {
    make_room()?;
    let _chosen = Chosen::new(model(), Backend::Barriers)?;
    let list = must!(page_alloc::allocate_list(40));
    let (events, ()) = recorded(|| page_alloc::free_list(list))?;
    let counts = Counts::of(&events);
    let calls = events.iter().filter(|event| matches!(event.kind, Kind::Lazy { .. })).count();
    let expected = if is_on() { (40, 2, 1, 2) } else { (0, 0, 0, 0) };
    check_eq!((counts.stores, counts.dsb, counts.isb, calls), expected);
    check_eq!(counts.tlbi > 0, is_on());
    check!(!is_on() || is_page_granular());
    Ok(())
} }

/// What it takes to allocate a page and to free it, as far as it is counted.
fn pair() -> Result<(), Failure> {
    let page = must!(page_alloc::allocate(0));
    must!(page_alloc::free(page, 0));
    Ok(())
}

kernel_test! { "debug_pagealloc", a_page_that_nobody_watches_takes_the_same_stores_and_barriers, {
    pair()?;
    let (events, watched) = recorded(pair)?;
    watched?;
    let watched = Counts::of(&events);
    check_eq!(watched.stores > 0, is_on());
    // Nobody records here: the short way, where there is one. Other CPUs can only add to it.
    let unwatched = || {
        let before = Counts::now();
        pair().map(|()| before.since())
    };
    let mut counts = unwatched()?;
    for _ in 0..8 {
        if counts != watched {
            counts = unwatched()?;
        }
    }
    check_eq!(counts, watched);
    Ok(())
} }
