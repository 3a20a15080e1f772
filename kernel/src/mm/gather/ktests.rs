//! Kernel tests of gathers: the order of what they do, and what happens where there is no page for a
//! batch.

use super::*;
use crate::{
    check, check_eq, kernel_test,
    ktest::TestResult,
    mm::{
        address_space::{Access, AddressSpace, Protection},
        layout::USER,
        testing::{make_room, must, recorded},
        zap_cost,
    },
    task,
    trace::{Event, Kind},
    warning,
};

/// Pages of an address space of their own, each of which has come.
fn with_pages(pages: u64, test: impl FnOnce(&AddressSpace, PageRange) -> TestResult) -> TestResult {
    // What is recorded lies in the heap, which must not grow while pages are counted.
    make_room()?;
    let before = page_alloc::stats().free;
    let space = must!(AddressSpace::create());
    let range = must!(PageRange::new(USER.start(), pages).ok_or("a range"));
    must!(space.map(range, Protection::READ | Protection::WRITE));
    let used = space.use_here();
    for page in range.pages_iter() {
        must!(space.handle_fault(page, Access::Write));
    }
    test(&space, range)?;
    drop(used);
    drop(space);
    check_eq!(page_alloc::stats().free, before);
    Ok(())
}

/// Whether everything of a recording comes in its order: lock, enable, clear, disable, flush, unlock,
/// free.
fn is_in_order(events: &[Event]) -> TestResult {
    let me = task::current().id;
    let (mut locked, mut sections, mut unflushed, mut freed) = (false, 0, 0, 0);
    for event in events.iter().filter(|event| event.task == me) {
        match event.kind {
            Kind::Enter("page_table_lock") => locked = true,
            Kind::Leave("page_table_lock") => {
                check_eq!(unflushed, 0);
                locked = false;
            }
            Kind::Lazy { state, .. } => sections = state.enable_count(),
            Kind::Store { space, level, .. } if space != 0 => {
                check!(locked);
                // Leaves in a section, links outside of it.
                check_eq!(sections > 0, level == vmsa::Level::L3);
                unflushed += 1;
            }
            Kind::Enter("tlb_flush_mmu_tlbonly") => {
                check!(locked && sections == 0);
                unflushed = 0;
            }
            Kind::Enter("tlb_batch_pages_flush" | "tlb_batch_list_free") => {
                check!(!locked && sections == 0 && unflushed == 0);
                freed += 1;
            }
            _ => {}
        }
    }
    check_eq!(unflushed, 0);
    check!(freed > 0);
    Ok(())
}

kernel_test! { "gather", lock_enable_clear_disable_flush_unlock_free, {
    with_pages(600, |space, range| {
        let warned = warning::count();
        let (events, zapped) = recorded(|| space.zap(range))?;
        must!(zapped);
        is_in_order(&events)?;
        let (events, unmapped) = recorded(|| space.unmap(range))?;
        must!(unmapped);
        is_in_order(&events)?;
        check_eq!(warning::count(), warned);
        Ok(())
    })
} }

// The first batch is asked for by the seventh page. Where there is none the walk stops there,
// flushes, frees, and goes on.
kernel_test! { "gather", no_page_for_a_batch_is_an_ordinary_event, {
    let batches = zap_cost::least(1_100, false).batches as u64;
    for calls in 0..=batches {
        with_pages(1_100, |space, range| {
            let (warned, before) = (warning::count(), stats());
            page_alloc::fail_after(Some(calls));
            let zapped = space.zap(range);
            let failed = !page_alloc::armed();
            page_alloc::fail_after(None);
            must!(zapped);
            let after = stats();
            check_eq!(failed, calls < batches);
            check_eq!(after.failures - before.failures, u64::from(failed));
            check_eq!(after.flushes - before.flushes, 1 + u64::from(failed));
            check_eq!(warning::count(), warned);
            for page in range.pages_iter() {
                check!(space.leaf(page).is_none_or(vmsa::Descriptor::is_none));
            }
            Ok(())
        })?;
    }
    Ok(())
} }

// As above, of an address space as a whole, tables included.
kernel_test! { "gather", an_address_space_goes_whatever_can_not_be_had, {
    for calls in 0..4 {
        let before = page_alloc::stats().free;
        let space = must!(AddressSpace::create());
        let range = must!(PageRange::new(USER.start(), 1_100).ok_or("a range"));
        must!(space.map(range, Protection::READ | Protection::WRITE));
        for page in range.pages_iter() {
            must!(space.handle_fault(page, Access::Write));
        }
        page_alloc::fail_after(Some(calls));
        drop(space);
        page_alloc::fail_after(None);
        check_eq!(page_alloc::stats().free, before);
    }
    Ok(())
} }

kernel_test! { "gather", a_flush_is_one_range_by_asid_and_has_no_isb, {
    with_pages(3, |space, range| {
        let asid = space.asid();
        let (events, zapped) = recorded(|| space.zap(range))?;
        must!(zapped);
        let me = task::current().id;
        let mut in_flush = false;
        let mut steps = alloc::vec::Vec::new();
        for event in events.iter().filter(|event| event.task == me) {
            match event.kind {
                Kind::Enter("tlb_flush_mmu_tlbonly") => in_flush = true,
                Kind::Leave("tlb_flush_mmu_tlbonly") => in_flush = false,
                Kind::Barrier(barrier) if in_flush => steps.push(alloc::format!("{barrier:?}")),
                Kind::Tlbi(operation) if in_flush => {
                    let bits = operation.operand_bits().unwrap_or(0);
                    check_eq!((bits >> 48) as u16, asid);
                    steps.push(operation.name().into());
                }
                _ => {}
            }
        }
        let expected: &[&str] = if crate::arch::cpu::features().tlbi_range {
            &["DsbIshst", "rvale1is", "vale1is", "DsbIsh"]
        } else {
            &["DsbIshst", "vale1is", "vale1is", "vale1is", "DsbIsh"]
        };
        check_eq!(steps, expected);
        Ok(())
    })
} }
