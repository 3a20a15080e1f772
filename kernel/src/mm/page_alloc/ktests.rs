//! Kernel tests of the page allocator: what is refused and reported, and what it costs.

use super::{FreeError, MAX_ORDER, OutOfMemory, PageList, PageMeta, allocate, allocate_list};
use super::{empty_list, fail_after, free, free_blocks, free_list, give_up, is_free, stats};
use crate::{
    arch::image,
    check, check_eq, kernel_test,
    ktest::TestResult,
    mm::{
        debug_pagealloc::History,
        linear_map,
        testing::{logged, make_room, must},
    },
};
use alloc::{format, vec::Vec};
use vmsa::Frame;

/// The frame `n` frames behind `frame`.
fn behind(frame: Frame, n: u64) -> Frame {
    frame.checked_add(n).expect("RAM ends below 2^48")
}

/// Frees what must not be freed: it is refused for `why`, reported, and nothing changes.
fn refused(frame: Frame, order: u8, why: FreeError) -> TestResult {
    make_room()?;
    let before = (stats(), is_free(frame));
    let (messages, result) = logged(|| free(frame, order));
    check_eq!(result, Err(why));
    let report = format!(
        "ERROR: BUG: bad free of page {:#x}, order {order}, at {}:",
        frame.number(),
        file!()
    );
    check!(messages.contains(&report));
    check!(messages.contains(&format!("{why}")));
    check_eq!((stats(), is_free(frame)), before);
    Ok(())
}

kernel_test! { "page_alloc", double_free_is_refused, {
    // First: the heap would grow by the page that was freed last.
    make_room()?;
    let page = must!(allocate(0));
    must!(free(page, 0));
    check!(is_free(page));
    refused(page, 0, FreeError::DoubleFree)?;
    // The same where the page lies in the middle of a free block.
    let block = must!(allocate(4));
    must!(free(block, 4));
    refused(behind(block, 5), 0, FreeError::DoubleFree)?;
    refused(block, 4, FreeError::DoubleFree)?;
    // And the allocator still works: the page can be had, and freed, once.
    let again = must!(allocate(0));
    must!(free(again, 0));
    Ok(())
} }

kernel_test! { "page_alloc", reserved_and_unknown_pages_are_refused, {
    let image = Frame::containing(image::physical().start);
    refused(image, 0, FreeError::Reserved)?;
    let root = linear_map::kernel().root();
    refused(root, 0, FreeError::Reserved)?;
    // Flash, and far beyond all RAM.
    for number in [0, 1 << 35] {
        let nowhere = Frame::from_number(number).expect("below 2^48");
        refused(nowhere, 0, FreeError::Reserved)?;
        refused(nowhere, MAX_ORDER, FreeError::Reserved)?;
    }
    Ok(())
} }

kernel_test! { "page_alloc", misaligned_and_wrong_orders_are_refused, {
    let block = must!(allocate(3));
    refused(behind(block, 1), 3, FreeError::Misaligned)?;
    refused(behind(block, 4), 3, FreeError::Misaligned)?;
    refused(block, MAX_ORDER + 1, FreeError::Misaligned)?;
    refused(block, u8::MAX, FreeError::Misaligned)?;
    refused(block, 0, FreeError::WrongOrder(3))?;
    refused(block, 2, FreeError::WrongOrder(3))?;
    refused(behind(block, 1), 0, FreeError::NotAllocated)?;
    refused(behind(block, 4), 2, FreeError::NotAllocated)?;
    must!(free(block, 3));
    Ok(())
} }

kernel_test! { "page_alloc", a_page_of_a_list_is_freed_once, {
    make_room()?;
    let before = stats();
    let list = must!(allocate_list(3));
    let frames: Vec<Frame> = list.iter().collect();
    let mut back = must!(empty_list().ok_or("not open"));
    must!(give_up(&mut back, frames[0]));
    let (messages, again) = logged(|| give_up(&mut back, frames[0]));
    check_eq!(again, Err(FreeError::DoubleFree));
    check!(messages.contains("BUG: bad free of page"));
    // Given up is not free yet, and not allocated any more.
    refused(frames[0], 0, FreeError::DoubleFree)?;
    must!(give_up(&mut back, frames[1]));
    must!(give_up(&mut back, frames[2]));
    check_eq!(back.count(), 3);
    check_eq!(stats().free, before.free - 3);
    free_list(back);
    check_eq!(stats(), before);
    Ok(())
} }

kernel_test! { "page_alloc", a_page_that_was_freed_behind_a_list_is_reported_and_left_out, {
    make_room()?;
    let before = stats();
    let list = must!(allocate_list(64));
    let frames: Vec<Frame> = list.iter().collect();
    // One within a run: it leads to no other.
    let page = (1..64).find(|n| frames[*n] == behind(frames[n - 1], 1));
    let page = frames[must!(page.ok_or("no two pages adjoin"))];
    must!(free(page, 0));
    let (messages, ()) = logged(|| free_list(list));
    check!(messages.contains(&format!("BUG: bad free of page {:#x}", page.number())));
    check!(messages.contains("BUG: 1 pages of a list"));
    check_eq!(stats(), before);
    Ok(())
} }

kernel_test! { "page_alloc", blocks_are_aligned_to_their_size, {
    let before = stats();
    for order in 0..=MAX_ORDER {
        let block = must!(allocate(order));
        check_eq!(block.number() % (1 << order), 0);
        check_eq!(stats().free, before.free - (1 << order));
        let last = linear_map::virt(behind(block, (1 << order) - 1).start());
        // SAFETY: the page is ours and mapped.
        unsafe { last.as_mut_ptr::<u64>().write_volatile(1) };
        must!(free(block, order));
        check_eq!(stats(), before);
    }
    Ok(())
} }

kernel_test! { "page_alloc", a_list_is_all_or_nothing, {
    make_room()?;
    let before = stats();
    check_eq!(allocate_list(before.free + 1).err(), Some(OutOfMemory));
    check_eq!(allocate_list(u64::MAX).err(), Some(OutOfMemory));
    check_eq!(stats(), before);
    let list = must!(allocate_list(77));
    check_eq!((list.count(), list.iter().count()), (77, 77));
    check!(list.iter().all(|frame| !is_free(frame)));
    let mut frames: Vec<u64> = list.iter().map(Frame::number).collect();
    frames.sort_unstable();
    frames.dedup();
    check_eq!(frames.len(), 77);
    check_eq!(stats().free, before.free - 77);
    free_list(list);
    check_eq!(stats(), before);
    // The CPU keeps what it has of a block when nothing is asked for.
    let list = must!(allocate_list(77));
    let blocks = free_blocks();
    let none = must!(allocate_list(0));
    let untouched = blocks == free_blocks();
    check_eq!((none.count(), none.iter().count()), (0, 0));
    free_list(none);
    free_list(list);
    check!(untouched);
    Ok(())
} }

kernel_test! { "page_alloc", out_of_memory_is_an_error, {
    let before = stats();
    check_eq!(allocate(MAX_ORDER + 1), Err(OutOfMemory));
    check_eq!(allocate(u8::MAX), Err(OutOfMemory));
    let everything = must!(allocate_list(before.free));
    // Nothing is checked before the pages are back: a failure would need memory to be told.
    let failed = (0..=MAX_ORDER).all(|order| allocate(order) == Err(OutOfMemory));
    let list_failed = allocate_list(1).is_err();
    let none_left = stats().free;
    let count = everything.count();
    free_list(everything);
    check!(failed && list_failed);
    check_eq!((none_left, count), (0, before.free));
    check_eq!(stats(), before);
    Ok(())
} }

kernel_test! { "page_alloc", everything_by_blocks_and_back, {
    make_room()?;
    let mut blocks: Vec<(Frame, u8)> = Vec::new();
    must!(blocks.try_reserve_exact((stats().free >> MAX_ORDER) as usize + 2048));
    let before = stats();
    for order in (0..=MAX_ORDER).rev() {
        while blocks.len() < blocks.capacity() {
            let Ok(block) = allocate(order) else { break };
            blocks.push((block, order));
        }
    }
    let left = stats().free;
    let largest = blocks.iter().filter(|(_, order)| *order == MAX_ORDER).count();
    // Every other one first, so that buddies meet when the second half comes.
    let half = |rest| move |(i, block): (usize, &(Frame, u8))| (i % 2 == rest).then_some(*block);
    let mut freed = true;
    for rest in [0, 1] {
        for (block, order) in blocks.iter().enumerate().filter_map(half(rest)) {
            freed &= free(block, order).is_ok();
        }
    }
    check!(freed);
    check_eq!(left, 0);
    check_eq!(stats(), before);
    // They have become whole again: there are as many blocks of the largest order.
    blocks.clear();
    while blocks.len() < blocks.capacity() {
        let Ok(block) = allocate(MAX_ORDER) else { break };
        blocks.push((block, MAX_ORDER));
    }
    let again = blocks.len();
    for (block, order) in blocks {
        must!(free(block, order));
    }
    check_eq!(again, largest);
    check_eq!(stats(), before);
    Ok(())
} }

kernel_test! { "page_alloc", single_pages_become_a_block_again, {
    const PAGES: u64 = 1 << MAX_ORDER;
    make_room()?;
    let mut singles: Vec<Frame> = Vec::new();
    must!(singles.try_reserve_exact(PAGES as usize));
    let before = stats();
    // With all else taken, single pages can come from this block alone.
    let block = must!(allocate(MAX_ORDER));
    let others = must!(allocate_list(stats().free));
    must!(free(block, MAX_ORDER));
    singles.extend((0..PAGES).map_while(|_| allocate(0).ok()));
    let nothing_left = stats().free == 0 && singles.len() as u64 == PAGES;
    // All of them come back, in an order in which few neighbours follow each other.
    let mut freed = true;
    for i in 0..singles.len() {
        freed &= free(singles[i * 389 % singles.len()], 0).is_ok();
    }
    let whole = allocate(MAX_ORDER);
    let freed = freed && free(block, MAX_ORDER).is_ok();
    free_list(others);
    check!(nothing_left && freed);
    check_eq!(whole, Ok(block));
    check_eq!(stats(), before);
    Ok(())
} }

kernel_test! { "page_alloc", metadata_is_small_and_outside_of_the_pages, {
    check!(size_of::<PageMeta>() <= 32);
    check!(size_of::<PageMeta>() + size_of::<History>() <= 96);
    // No word of a free page is the allocator's: it changes nothing in a page that it frees but by
    // its hooks, which fill or unmap it.
    let page = must!(allocate(0));
    let word = linear_map::virt(page.start()).as_mut_ptr::<u64>();
    // SAFETY: the page is ours and mapped.
    unsafe { word.write_volatile(0x1234_5678) };
    let mut list: PageList = must!(empty_list().ok_or("not open"));
    must!(give_up(&mut list, page));
    // SAFETY: given up but not freed, it is still mapped.
    check_eq!(unsafe { word.read_volatile() }, 0x1234_5678);
    free_list(list);
    Ok(())
} }

kernel_test! { "page_alloc", failures_can_be_injected, {
    let before = stats();
    fail_after(Some(2));
    let first = allocate(0);
    let second = allocate_list(2);
    let third = allocate(0);
    let fourth = allocate(0);
    fail_after(None);
    must!(free(must!(first), 0));
    free_list(must!(second));
    check_eq!(third, Err(OutOfMemory));
    must!(free(must!(fourth), 0));
    check_eq!(stats(), before);
    Ok(())
} }
