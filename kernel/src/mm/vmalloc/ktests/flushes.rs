//! Kernel tests of what taking an area down issues: nothing, or, with DEBUG_PAGEALLOC, one sequence for
//! the addresses and for the pages.

use crate::{
    arch::cpu,
    check, check_eq, kernel_test,
    ktest::TestResult,
    mm::{
        debug_pagealloc, kasan,
        layout::LINEAR,
        lazy::{self, Backend, Model},
        page_alloc,
        testing::{Chosen, bytes, make_room, must, recorded},
        unflushed::Unflushed,
        vmalloc::{vfree, vm_unmap_aliases, vmalloc, vmap, vunmap},
    },
    trace::{Barrier, Counts, Event, Kind},
};
use alloc::vec::Vec;
use vmsa::{Attributes, VirtAddr, tlbi::Operation};

/// What happens to the addresses of an area, or to those of its pages in the linear map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Clear { linear: bool },
    Invalidate { linear: bool },
    Barrier(Barrier),
}

/// Clears of both, and one sequence that covers both. (A page that is to be filled in between can't
/// wait for it: then [`ADDRESSES`] comes first, and by itself.)
const TOGETHER: [Step; 7] = [
    Step::Clear { linear: false },
    Step::Clear { linear: true },
    Step::Barrier(Barrier::DsbIshst),
    Step::Invalidate { linear: false },
    Step::Invalidate { linear: true },
    Step::Barrier(Barrier::DsbIsh),
    Step::Barrier(Barrier::Isb),
];

/// The same for addresses alone.
const ADDRESSES: [Step; 5] = [
    TOGETHER[0],
    TOGETHER[2],
    TOGETHER[3],
    TOGETHER[5],
    TOGETHER[6],
];

/// And for the linear addresses alone.
const LINEAR_ADDRESSES: [Step; 5] = [
    TOGETHER[1],
    TOGETHER[2],
    TOGETHER[4],
    TOGETHER[5],
    TOGETHER[6],
];

/// The steps of a recording; of those that are the same and come one after the other the first.
fn steps(events: &[Event]) -> Vec<Step> {
    let mut steps: Vec<_> = events
        .iter()
        .filter_map(|event| match event.kind {
            Kind::Store { va, .. } => Some(Step::Clear {
                linear: LINEAR.contains(va),
            }),
            Kind::Tlbi(operation) => Some(Step::Invalidate {
                linear: first(operation).is_some_and(|va| LINEAR.contains(va)),
            }),
            Kind::Barrier(barrier) => Some(Step::Barrier(barrier)),
            _ => None,
        })
        .collect();
    steps.dedup();
    steps
}

/// The first address that a TLBI of leaves names.
fn first(operation: Operation) -> Option<VirtAddr> {
    match operation {
        Operation::Vaale1is(page) => page.va(),
        Operation::Rvaale1is(range) => Some(range.base()),
        _ => None,
    }
}

/// No area waits, there are tables, and the heap need not grow.
fn prepare() -> TestResult {
    make_room()?;
    must!(vfree(must!(vmalloc(bytes(64)))));
    vm_unmap_aliases();
    Ok(())
}

kernel_test! { "vmalloc", an_area_and_its_pages_share_a_flush, {
    prepare()?;
    for backend in Backend::ALL {
        let _chosen = Chosen::new(Model::TwoCounters, backend)?;
        for pages in [1, 64] {
            let area = must!(vmalloc(bytes(pages)));
            // A section that is open puts nothing off.
            let outer = (pages == 64).then(lazy::section);
            let (events, freed) = recorded(|| vfree(area))?;
            drop(outer);
            must!(freed);
            let counts = Counts::of(&events);
            if debug_pagealloc::is_on() {
                if debug_pagealloc::poisons() {
                    check_eq!(steps(&events), [ADDRESSES, LINEAR_ADDRESSES].concat());
                } else {
                    check_eq!(steps(&events), TOGETHER);
                    check_eq!((counts.dsb, counts.isb), (2, 1));
                }
                check_eq!(counts.stores as u64, 2 * pages);
            } else {
                check_eq!((counts.dsb, counts.isb, counts.tlbi), (0, 0, 0));
            }
        }
    }
    Ok(())
} }

kernel_test! { "vmalloc", what_an_area_takes_from_first_to_last, {
    for backend in [Backend::Barriers, Backend::Tlbi] {
        prepare()?;
        let _chosen = Chosen::new(Model::TwoCounters, backend)?;
        let (events, done) = recorded(|| vmalloc(bytes(64)).and_then(vfree))?;
        must!(done);
        let counts = Counts::of(&events);
        let (debug, ets2) = (debug_pagealloc::is_on(), lazy::ets2());
        if kasan::is_on() || ets2 {
            // The shadow takes some of its own; and with FEAT_ETS2 data needs none to be mapped.
            continue;
        }
        // The pages appear, the area does, and both go.
        let expected = match (debug, debug_pagealloc::poisons()) {
            (false, _) => (1, 1),
            (true, false) => (4, 3),
            (true, true) => (6, 4),
        };
        check_eq!((counts.dsb, counts.isb), expected);
        // The pages of fresh memory lie in a row; on that of other tests there may be a few of them.
        check!(debug || counts.tlbi == 0);
        check!(!debug || !cpu::features().tlbi_range || counts.tlbi <= 64);
    }
    Ok(())
} }

kernel_test! { "vmalloc", the_pages_of_others_have_no_flush_to_share, {
    prepare()?;
    let page = must!(page_alloc::allocate(0));
    for backend in Backend::ALL {
        let _chosen = Chosen::new(Model::TwoCounters, backend)?;
        let area = must!(vmap(&[page; 3], Attributes::KERNEL_DATA));
        let outer = lazy::section();
        let (events, unmapped) = recorded(|| vunmap(area))?;
        drop(outer);
        must!(unmapped);
        if debug_pagealloc::is_on() {
            check_eq!(steps(&events), ADDRESSES);
        } else {
            let Counts { dsb, isb, tlbi, .. } = Counts::of(&events);
            check_eq!((dsb, isb, tlbi), (0, 0, 0));
        }
    }
    must!(page_alloc::free(page, 0));
    Ok(())
} }

kernel_test! { "vmalloc", where_no_page_is_left_the_addresses_are_flushed_all_the_same, {
    if !debug_pagealloc::is_on() {
        return Ok(());
    }
    prepare()?;
    let area = must!(vmalloc(bytes(2)));
    let none = must!(page_alloc::empty_list().ok_or("the allocator is open"));
    let addresses = must!(Unflushed::new(area, 2).ok_or("an area is a range"));
    let (events, ()) = recorded(|| page_alloc::free_list_unflushed(none, addresses))?;
    check_eq!(steps(&events), ADDRESSES[1..]);
    must!(vfree(area));
    Ok(())
} }
