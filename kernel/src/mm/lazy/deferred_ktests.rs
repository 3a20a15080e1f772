//! Kernel tests of the backends that defer more than barriers: every rule without which they are
//! not sound, kept and needed.

use super::{
    Backend, Model, call_page_allocator, drain, lazy_mmu_mode_pause, queue_full_count, section,
};
use crate::{
    arch::fixup::probe_read_u8,
    check, check_eq, kernel_test,
    mm::{
        debug_pagealloc,
        layout::{LINEAR, SCRATCH},
        linear_map, page_alloc, set_memory,
        testing::{Chosen, must, recorded},
        tlb::{Flush, Removed, flush_kernel_range},
        vmalloc,
    },
    oracle::{Rule, expect},
    task::{
        self,
        deferred::{PENDING, QUEUE},
        enter_interrupt,
    },
    trace::{Barrier, Event, Kind},
};
use alloc::vec::Vec;
use vmsa::{Attributes, Descriptor, Frame, Level, PAGE_SIZE, PageRange, VirtAddr, tlbi::Operation};

/// The default model, under `backend`.
fn under(backend: Backend) -> Result<Chosen, crate::ktest::Failure> {
    Chosen::new(Model::TwoCounters, backend)
}

/// A page to map, and the tables of the scratch addresses. Dropping it clears them.
struct Pages(Frame);

impl Pages {
    fn new() -> Result<Self, crate::ktest::Failure> {
        must!(linear_map::kernel().prepare(SCRATCH));
        Ok(Self(must!(page_alloc::allocate(0))))
    }

    fn leaf(&self) -> Descriptor {
        Descriptor::leaf(Level::L3, self.0.start(), Attributes::KERNEL_DATA)
            .expect("frames are aligned")
    }

    /// Maps the scratch address `n`, in whatever section is open.
    fn map(&self, n: u64) -> VirtAddr {
        set(n, self.leaf())
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        drain();
        let cleared = linear_map::kernel().apply_to_existing_page_range(SCRATCH, |leaf| {
            leaf.take();
            Ok(())
        });
        cleared.expect("scratch addresses are mapped by pages");
        let mut flush = Flush::begin(SCRATCH.pages());
        flush.add(SCRATCH, Removed::Leaves);
        flush.finish();
        page_alloc::free(self.0, 0).expect("the page was allocated");
    }
}

/// Stores a leaf of the scratch range.
fn set(n: u64, new: Descriptor) -> VirtAddr {
    let va = SCRATCH.page(n);
    linear_map::kernel()
        .set_leaf(va, |_| new)
        .expect("the tables are there");
    va
}

/// Clears a leaf and asks for its flush.
fn unmap(n: u64) {
    set(n, Descriptor::INVALID);
    flush_kernel_range(page(n), Removed::Leaves);
}

fn page(n: u64) -> PageRange {
    PageRange::new(SCRATCH.page(n), 1).expect("scratch addresses are pages")
}

/// What memory holds for the scratch address `n`.
fn memory(n: u64) -> Descriptor {
    linear_map::kernel()
        .leaf(SCRATCH.page(n))
        .map_or(Descriptor::INVALID, |(entry, _)| entry)
}

fn pending() -> usize {
    task::current().deferred.flushes.len()
}

fn queued() -> usize {
    task::current().deferred.stores.len()
}

/// Whether a TLBI covers `va`.
fn invalidates(event: &Event, va: VirtAddr) -> bool {
    match event.kind {
        Kind::Tlbi(Operation::Vmalle1is) => true,
        Kind::Tlbi(Operation::Vaale1is(at) | Operation::Vaae1is(at)) => at.va() == Some(va),
        Kind::Tlbi(Operation::Rvaale1is(range) | Operation::Rvaae1is(range)) => {
            va >= range.base() && va - range.base() < range.pages() * PAGE_SIZE
        }
        _ => false,
    }
}

/// The place of the first event of a kind.
fn place(events: &[Event], is: impl Fn(&Event) -> bool) -> Option<usize> {
    events.iter().position(is)
}

fn is_barrier(event: &Event, barrier: Barrier) -> bool {
    matches!(event.kind, Kind::Barrier(b) if b == barrier)
}

/// The store for `va`.
fn stores(event: &Event, va: VirtAddr) -> bool {
    matches!(event.kind, Kind::Store { va: at, .. } if at == va)
}

kernel_test! { "deferred", a_flush_waits_for_the_end_of_the_section, {
    let _chosen = under(Backend::Tlbi)?;
    let pages = Pages::new()?;
    let attempt = || {
        let va = pages.map(0);
        recorded(|| {
            // Here and not before: to make room for a recording touches so many pages that the TLB may
            // have forgotten this one.
            let mapped = probe_read_u8(va).is_ok();
            let section = section();
            unmap(0);
            let stale =
                expect(&[Rule::StaleAccess], || (pending(), probe_read_u8(va).is_ok()));
            drop(section);
            (va, mapped, stale)
        })
    };
    // A TLB may forget at any time. What makes it do so the first time, here, are pages of code and
    // data that nobody has used for a while; they are in the TLB the next time.
    let mut last = attempt()?;
    for _ in 0..3 {
        if last.1.2 != (1, true) {
            last = attempt()?;
        }
    }
    let (events, (va, mapped, stale)) = last;
    check!(mapped);
    check_eq!(stale, (1, true));
    check!(pending() == 0 && probe_read_u8(va).is_err());
    // The whole sequence, in order, and no barrier but its own.
    let order: Vec<_> = events
        .iter()
        .filter_map(|event| match event.kind {
            Kind::Barrier(Barrier::DsbIshst) => Some('s'),
            Kind::Tlbi(_) => Some('t'),
            Kind::Barrier(Barrier::DsbIsh) => Some('d'),
            Kind::Barrier(Barrier::Isb) => Some('i'),
            Kind::Store { .. } => Some('w'),
            _ => None,
        })
        .collect();
    check_eq!(order, ['w', 's', 't', 'd', 'i']);
    Ok(())
} }

kernel_test! { "deferred", a_pause_and_an_inner_disable_flush, {
    let _chosen = under(Backend::Tlbi)?;
    let pages = Pages::new()?;
    let outer = section();
    pages.map(0);
    unmap(0);
    drop(section());
    check_eq!(pending(), 0);
    pages.map(1);
    unmap(1);
    let token = lazy_mmu_mode_pause();
    check_eq!(pending(), 0);
    super::lazy_mmu_mode_resume(token);
    drop(outer);
    Ok(())
} }

kernel_test! { "deferred", outside_of_a_section_a_flush_is_made_at_once, {
    let _chosen = under(Backend::Tlbi)?;
    let pages = Pages::new()?;
    let va = pages.map(0);
    check!(probe_read_u8(va).is_ok());
    unmap(0);
    check!(pending() == 0 && probe_read_u8(va).is_err());
    Ok(())
} }

kernel_test! { "deferred", a_pending_address_is_flushed_before_it_maps_something_else, {
    let _chosen = under(Backend::Tlbi)?;
    let pages = Pages::new()?;
    pages.map(0);
    let (events, (va, before, after)) = recorded(|| {
        let _outer = section();
        unmap(0);
        // Another address has nothing to do with it.
        pages.map(1);
        let before = pending();
        (pages.map(0), before, pending())
    })?;
    check_eq!((before, after), (1, 0));
    let tlbi = place(&events, |event| invalidates(event, va));
    let store = events.iter().rposition(|event| stores(event, va));
    check!(tlbi.is_some() && tlbi < store);
    Ok(())
} }

kernel_test! { "deferred", a_full_list_flushes_and_drops_nothing, {
    let _chosen = under(Backend::Tlbi)?;
    let pages = Pages::new()?;
    let count = PENDING as u64 + 3;
    // Every other page, so that no range adjoins another.
    (0..count).for_each(|n| {
        pages.map(2 * n);
    });
    let (events, ()) = recorded(|| {
        let _section = section();
        (0..count).for_each(|n| unmap(2 * n));
    })?;
    for n in 0..count {
        let va = SCRATCH.page(2 * n);
        check!(events.iter().any(|event| invalidates(event, va)));
        check!(probe_read_u8(va).is_err());
    }
    // And each TLBI comes after its own clear, with a DSB ISHST between them.
    for n in 0..count {
        let va = SCRATCH.page(2 * n);
        let clear = place(&events, |event| stores(event, va)).unwrap_or(usize::MAX);
        let tlbi = place(&events, |event| invalidates(event, va)).unwrap_or(0);
        check!(events[clear..tlbi].iter().any(|event| is_barrier(event, Barrier::DsbIshst)));
    }
    Ok(())
} }

kernel_test! { "deferred", a_later_clear_starts_a_sequence_of_its_own, {
    let _chosen = under(Backend::Tlbi)?;
    let pages = Pages::new()?;
    pages.map(0);
    pages.map(1);
    let (events, ()) = recorded(|| {
        let _outer = section();
        unmap(0);
        drop(section());
        unmap(1);
    })?;
    let ends = events.iter().filter(|event| is_barrier(event, Barrier::DsbIsh)).count();
    check_eq!(ends, 2);
    let clear = place(&events, |event| stores(event, SCRATCH.page(1))).unwrap_or(usize::MAX);
    check!(events[clear..].iter().any(|event| is_barrier(event, Barrier::DsbIshst)));
    Ok(())
} }

kernel_test! { "deferred", frames_are_free_only_after_the_flush, {
    let _chosen = under(Backend::Tlbi)?;
    let area = must!(vmalloc::vmalloc(4 * PAGE_SIZE));
    let frame = crate::mm::testing::frame_at(area)?;
    let alias = linear_map::virt(frame.start());
    let (events, (freed, left)) = recorded(|| {
        let _outer = section();
        (vmalloc::vfree(area), pending())
    })?;
    must!(freed);
    if debug_pagealloc::is_on() {
        // The page leaves the linear map when it is freed: both flushes, or the one that is for both,
        // are complete before the call ends, with a section still open.
        let flushed = place(&events, |event| invalidates(event, area));
        let gone = place(&events, |event| stores(event, alias));
        let alias_flushed = place(&events, |event| invalidates(event, alias));
        let end = events.iter().rposition(|event| is_barrier(event, Barrier::DsbIsh));
        check!(flushed.is_some() && gone.is_some());
        check!(flushed < end && gone < alias_flushed && alias_flushed < end);
        check_eq!(left, 0);
    } else {
        // Left to the purge, which is synchronous.
        let (events, ()) = recorded(|| {
            let _outer = section();
            vmalloc::vm_unmap_aliases();
            assert!(pending() == 0, "the purge was put off");
        })?;
        check!(events.iter().any(|event| invalidates(event, area)));
    }
    vmalloc::vm_unmap_aliases();
    Ok(())
} }

kernel_test! { "deferred", who_publishes_does_not_wait_for_the_end, {
    for backend in [Backend::Tlbi, Backend::Stores] {
        let _chosen = under(backend)?;
        let area = must!(vmalloc::vmalloc(PAGE_SIZE));
        let page = must!(page_alloc::allocate(0));
        let outer = section();
        // SAFETY: the area is this test's own.
        must!(unsafe { crate::arch::fixup::probe_write_u8(area, 1) });
        must!(set_memory::set_memory_ro(area, 1));
        // SAFETY: as above; the write must fault.
        check!(unsafe { crate::arch::fixup::probe_write_u8(area, 2) }.is_err());
        let va = linear_map::virt(page.start());
        check!(probe_read_u8(va).is_ok());
        must!(call_page_allocator(|| page_alloc::free(page, 0)));
        check_eq!(probe_read_u8(va).is_err(), debug_pagealloc::is_on());
        check!(pending() == 0 && queued() == 0);
        drop(outer);
        must!(set_memory::set_memory_rw(area, 1));
        must!(vmalloc::vfree(area));
    }
    Ok(())
} }

kernel_test! { "deferred", an_interrupt_flushes_its_own_range_alone, {
    let _chosen = under(Backend::Tlbi)?;
    let pages = Pages::new()?;
    pages.map(0);
    pages.map(1);
    let (events, (va, left)) = recorded(|| {
        let _outer = section();
        unmap(0);
        unmap(1);
        let handler = enter_interrupt();
        let va = pages.map(0);
        drop(handler);
        (va, pending())
    })?;
    check_eq!((left, pending()), (2, 0));
    // The handler's TLBI, its store, then the task's own flush, which covers the other page as well.
    let tlbi = place(&events, |event| invalidates(event, va));
    let store = events.iter().rposition(|event| stores(event, va));
    let others = place(&events, |event| invalidates(event, SCRATCH.page(1)));
    check!(tlbi.is_some() && tlbi < store && store < others);
    check!(probe_read_u8(va).is_ok());
    Ok(())
} }

kernel_test! { "deferred", a_queued_store_is_made_at_the_end, {
    let _chosen = under(Backend::Stores)?;
    let pages = Pages::new()?;
    let outer = section();
    let va = pages.map(0);
    check!(memory(0).is_none() && probe_read_u8(va).is_err());
    check_eq!(queued(), 1);
    drop(section());
    check!(memory(0).is_valid() && probe_read_u8(va).is_ok());
    drop(outer);
    Ok(())
} }

kernel_test! { "deferred", nothing_is_queued_where_the_mode_is_not_active, {
    let _chosen = under(Backend::Stores)?;
    let pages = Pages::new()?;
    pages.map(0);
    check!(memory(0).is_valid());
    let outer = section();
    let token = lazy_mmu_mode_pause();
    pages.map(1);
    check!(memory(1).is_valid() && queued() == 0);
    super::lazy_mmu_mode_resume(token);
    pages.map(2);
    let handler = enter_interrupt();
    pages.map(3);
    check!(memory(3).is_valid() && queued() == 1);
    drop(handler);
    check!(memory(2).is_none());
    drop(outer);
    check!(memory(2).is_valid());
    Ok(())
} }

kernel_test! { "deferred", a_flush_drains_the_queue_first, {
    let _chosen = under(Backend::Stores)?;
    let pages = Pages::new()?;
    let va = pages.map(0);
    check!(probe_read_u8(va).is_ok());
    let (events, unmapped) = recorded(|| {
        let _outer = section();
        unmap(0);
        queued() == 0 && probe_read_u8(va).is_err()
    })?;
    check!(unmapped);
    let store = place(&events, |event| stores(event, va));
    let dsb = place(&events, |event| is_barrier(event, Barrier::DsbIshst));
    check!(store.is_some() && store < dsb);
    Ok(())
} }

kernel_test! { "deferred", a_queued_entry_is_drained_before_it_is_taken, {
    let _chosen = under(Backend::Stores)?;
    let pages = Pages::new()?;
    let mut taken = Descriptor::INVALID;
    let outer = section();
    pages.map(0);
    pages.map(1);
    let walked = linear_map::kernel().change_leaves(&outer, page(0), |leaf| {
        taken = leaf.take();
        Ok(())
    });
    drop(outer);
    must!(walked);
    check_eq!(taken, pages.leaf());
    check!(memory(0).is_none() && memory(1).is_valid());
    let mut flush = Flush::begin(1);
    flush.add(page(0), Removed::Leaves);
    flush.finish();
    Ok(())
} }

kernel_test! { "deferred", a_full_queue_is_drained_and_counted, {
    let _chosen = under(Backend::Stores)?;
    let pages = Pages::new()?;
    let before = queue_full_count();
    let outer = section();
    (0..QUEUE as u64).for_each(|n| {
        pages.map(n);
    });
    check_eq!((queued(), queue_full_count() - before), (QUEUE, 0));
    pages.map(QUEUE as u64);
    check_eq!((queued(), queue_full_count() - before), (1, 1));
    check!(memory(QUEUE as u64 - 1).is_valid() && memory(QUEUE as u64).is_none());
    drop(outer);
    check!((0..=QUEUE as u64).all(|n| memory(n).is_valid()));
    Ok(())
} }

kernel_test! { "deferred", table_links_are_never_queued, {
    let _chosen = under(Backend::Stores)?;
    let pages = Pages::new()?;
    let region = must!(PageRange::new(crate::mm::testing::fresh_region(), 1).ok_or("no region"));
    // All in one recording: making one may grow the heap, whose sections would drain the queue.
    let (events, (queued_va, prepared)) = recorded(|| {
        let _outer = section();
        (pages.map(0), linear_map::kernel().prepare(region))
    })?;
    must!(prepared);
    // The link went straight to memory, and after what was queued before it.
    let stored = place(&events, |event| stores(event, queued_va));
    let linked = place(&events, |event| matches!(event.kind, Kind::Store { va, level, .. }
        if level != Level::L3 && !LINEAR.contains(va)));
    check!(stored.is_some() && stored < linked);
    check!(linear_map::kernel().leaf(region.start()).is_some());
    Ok(())
} }

kernel_test! { "deferred", a_task_that_owes_anything_keeps_its_backend, {
    let _chosen = under(Backend::Stores)?;
    let pages = Pages::new()?;
    let outer = section();
    pages.map(0);
    check_eq!(super::choose(Model::TwoCounters, Backend::Barriers), Err(super::Busy));
    // Not for the open section alone: what is in the queue would be made by nobody.
    let state = task::current().lazy_mmu_state.replace(super::LazyMmuState::new());
    let refused = super::choose(Model::TwoCounters, Backend::Barriers);
    task::current().lazy_mmu_state.set(state);
    check_eq!(refused, Err(super::Busy));
    drop(outer);
    check_eq!(super::choose(Model::TwoCounters, Backend::Stores), Ok(()));
    Ok(())
} }

kernel_test! { "deferred", blocks_do_not_wait_for_the_end, {
    let _chosen = under(Backend::Tlbi)?;
    let pages = Pages::new()?;
    let va = pages.map(0);
    check!(probe_read_u8(va).is_ok());
    let (events, unmapped) = recorded(|| {
        let _outer = section();
        set(0, Descriptor::INVALID);
        flush_kernel_range(page(0), Removed::Blocks);
        pending() == 0 && probe_read_u8(va).is_err()
    })?;
    check!(unmapped);
    check!(events.iter().any(|event| invalidates(event, va)));
    Ok(())
} }
