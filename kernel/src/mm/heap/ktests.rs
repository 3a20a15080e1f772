//! Kernel tests of the heap: it grows, it reuses, and running out is an answer.

use super::{HEAP, STEP, stats};
use crate::{
    arch::{cpu, time},
    check, check_eq, kernel_test,
    ktest::TestResult,
    mm::{
        lazy::{self, Backend, Model, PageTableLock},
        page_alloc,
        stack::spawn_on,
        testing::{Chosen, bytes, logged, must},
    },
    task::{migrate_to, unpin},
};
use alloc::{
    alloc::{alloc, dealloc},
    boxed::Box,
    vec::Vec,
};
use core::{alloc::Layout, hint::black_box};
use vmsa::{PAGE_SIZE, VirtAddr};

kernel_test! { "heap", it_grows, {
    let (used, mapped) = stats();
    if mapped > HEAP.bytes() / 2 {
        // Another test has filled it: there is no doubling it.
        return is_refused(HEAP.bytes() as usize + 1);
    }
    let free = page_alloc::stats().free;
    let size = mapped as usize + 1;
    let mut block: Vec<u8> = Vec::new();
    must!(block.try_reserve_exact(size));
    black_box(&block);
    let (more_used, more_mapped) = stats();
    check!(more_used >= used + size);
    check!(more_mapped > mapped);
    // The pages, and tables of leaves for them.
    let taken = free - page_alloc::stats().free;
    check!(taken >= (more_mapped - mapped) / PAGE_SIZE);
    check!(taken <= (more_mapped - mapped) / PAGE_SIZE + 3 + (more_mapped - mapped) / (2 << 20));
    block.resize(size, 0x3c);
    check!(block.iter().all(|byte| *byte == 0x3c));
    check!(HEAP.contains(VirtAddr::from_ptr(block.as_ptr())));
    drop(block);
    // What it has, it keeps, and uses again.
    check_eq!(stats(), (used, more_mapped));
    let again: Vec<u8> = black_box(Vec::with_capacity(size));
    check_eq!(stats().1, more_mapped);
    drop(again);
    Ok(())
} }

kernel_test! { "heap", small_requests_grow_it_by_a_step, {
    // What is asked for is a page; what is mapped is more, so that the next one is cheap.
    let mut blocks: Vec<Box<[u8; 4096]>> = Vec::with_capacity(4096);
    let (_, before) = stats();
    while stats().1 == before && blocks.len() < blocks.capacity() {
        blocks.push(Box::new([1; 4096]));
    }
    // If it can grow at all: another test may have filled it.
    check_eq!(stats().1, (before + bytes(STEP)).min(HEAP.bytes()));
    Ok(())
} }

kernel_test! { "heap", what_is_freed_is_used_again, {
    let first = Box::new([0u64; 40]);
    let address = first.as_ptr();
    drop(first);
    let second = Box::new([1u64; 40]);
    check_eq!(second.as_ptr(), address);
    drop(second);
    let before = stats();
    for round in 0..500usize {
        let mut blocks: Vec<Vec<u8>> = (1..8).map(|i| Vec::with_capacity(i * 37)).collect();
        blocks.swap_remove(round % 7);
        blocks.push(Vec::with_capacity(200));
        black_box(&blocks);
    }
    check_eq!(stats(), before);
    Ok(())
} }

kernel_test! { "heap", blocks_are_aligned_and_apart, {
    let before = stats().0;
    let mut blocks: Vec<(*mut u8, Layout)> = Vec::with_capacity(17);
    for shift in 0..=16 {
        let layout = must!(Layout::from_size_align(24, 1 << shift));
        // SAFETY: the layout has a size.
        let block = unsafe { alloc(layout) };
        check!(!block.is_null());
        check!(VirtAddr::from_ptr(block).is_aligned(1 << shift));
        // SAFETY: the block is as large as its layout.
        unsafe { block.write_bytes(shift as u8, layout.size()) };
        blocks.push((block, layout));
    }
    for (shift, (block, layout)) in blocks.iter().enumerate() {
        // SAFETY: written above, and no one else's.
        let contents = unsafe { core::slice::from_raw_parts(*block, layout.size()) };
        check!(contents.iter().all(|byte| usize::from(*byte) == shift));
    }
    for (block, layout) in &blocks {
        // SAFETY: it came from `alloc` with this layout.
        unsafe { dealloc(*block, *layout) };
    }
    drop(blocks);
    check_eq!(stats().0, before);
    Ok(())
} }

/// A request of `size` bytes that can't be met: an error, a report, and nothing has changed.
fn is_refused(size: usize) -> TestResult {
    // It may be the first thing that the heap is asked for: what is logged must find room later.
    drop(black_box(Vec::<u8>::with_capacity(64 << 10)));
    let before = stats();
    let free = page_alloc::stats().free;
    let (text, (failed, after)) = logged(|| {
        let mut block: Vec<u8> = Vec::new();
        let failed = block.try_reserve_exact(size).is_err();
        // An allocation that nobody looks at need not be made.
        black_box(&block);
        (failed, stats())
    });
    check!(failed);
    let report = alloc::format!("ERROR: heap: no room for {size} bytes; {} of ", before.1);
    check!(text.contains(&report));
    check!(text.contains("asked for by\nERROR:   [<ffff8000"));
    check_eq!(after, before);
    check_eq!(page_alloc::stats().free, free);
    // The kernel goes on.
    let small = Box::new(7u64);
    check_eq!(*small, 7);
    Ok(())
}

kernel_test! { "heap", what_is_larger_than_the_heap_is_refused, {
    is_refused(HEAP.bytes() as usize + 1)?;
    is_refused(1 << 40)
} }

kernel_test! { "heap", running_out_of_pages_is_survived, {
    // The heap can't hold this without growing.
    let size = stats().1 as usize + 1;
    if size < HEAP.bytes() as usize / 2 {
        // Once for the tables: they stay.
        drop(black_box(Vec::<u8>::with_capacity(size)));
        let size = stats().1 as usize + 1;
        page_alloc::fail_after(Some(0));
        let result = is_refused(size);
        page_alloc::fail_after(None);
        result?;
    }
    Ok(())
} }

// A group of its own, since the heap never gets smaller again.
kernel_test! { "heap_full", a_heap_that_is_full_says_so, {
    // 1 MiB at a time until nothing is left, of the heap or of the machine.
    let mut blocks: Vec<Vec<u8>> = Vec::with_capacity(HEAP.bytes() as usize >> 20);
    let mut failed = false;
    let (text, ()) = logged(|| {
        while !failed {
            let mut block = Vec::new();
            failed = block.try_reserve_exact(1 << 20).is_err();
            blocks.push(block);
        }
    });
    check!(text.contains("heap: no room for 1048576 bytes"));
    // Also for the small ones, down to the last byte of the last page.
    let mut small: Vec<Vec<u8>> = Vec::new();
    blocks.truncate(blocks.len() - 2);
    must!(small.try_reserve_exact(8192));
    let (_, ()) = logged(|| {
        while small.len() < small.capacity() {
            let mut block = Vec::new();
            if block.try_reserve_exact(4000).is_err() {
                break;
            }
            small.push(block);
        }
    });
    check!(small.len() < small.capacity());
    drop(small);
    drop(blocks);
    let mut again = Vec::<u8>::new();
    must!(again.try_reserve_exact(1 << 20));
    black_box(&again);
    Ok(())
} }

/// Asks for more than there is, so that the heap has to grow. Whether it could.
fn asks_for_more(size: usize) -> usize {
    let mut block: Vec<u8> = Vec::new();
    let grown = block.try_reserve_exact(size).is_ok();
    black_box(&block);
    usize::from(grown)
}

kernel_test! { "heap", it_grows_while_a_section_keeps_others_out, {
    let (_, mapped) = stats();
    if mapped > HEAP.bytes() / 2 {
        return is_refused(HEAP.bytes() as usize + 1);
    }
    must!(migrate_to(0));
    let Some(there) = cpu::others().next() else {
        // Nobody else could want to grow it meanwhile.
        unpin();
        return Ok(());
    };
    let _chosen = Chosen::with_lock(Model::TwoCounters, Backend::Barriers, PageTableLock::Global)?;
    let waits = lazy::page_table_lock_contended();
    let section = lazy::section();
    let asks = {
        // Its stack is mapped in sections of this task, inside of this one.
        spawn_on(there, "asks for more", asks_for_more, mapped as usize + 1)
    };
    let limit = time::now() + 20 * time::frequency();
    let waits_now = || lazy::page_table_lock_contended() > waits;
    while asks.is_ok() && !waits_now() && time::now() < limit {
        core::hint::spin_loop();
    }
    // It waits for the section to end, and holds nothing that is wanted here.
    let waited = waits_now();
    drop(black_box(Box::new([0u8; 64])));
    drop(section);
    check_eq!(must!(asks).join(), 1);
    unpin();
    check!(waited);
    Ok(())
} }
