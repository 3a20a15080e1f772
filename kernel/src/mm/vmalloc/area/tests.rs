//! Tests of the areas: what they share, and the cases worth a name. `model` compares random
//! sequences with a naive reference, `starved` takes the memory away, `slots` tests the blocks of
//! `vm_map_ram`, `others` what else is not the free space.

mod model;
mod others;
mod slots;
mod starved;

use core::cell::Cell;
use core::ptr::NonNull;
use std::sync::Mutex;
use std::vec::Vec;

use vmsa::{PAGE_SIZE, PageRange, VirtAddr};

use super::pool::{Pool, Pooled};
use super::*;

/// A page of host memory, aligned as one.
#[repr(align(4096))]
struct Page(#[expect(dead_code, reason = "pools use it")] [u8; 4096]);

/// Address of a page that a pool was given. Kept so that Miri does not see a leak.
struct Given(#[expect(dead_code, reason = "only kept")] NonNull<u8>);

// SAFETY: nobody uses the address.
unsafe impl Send for Given {}

/// All pages that pools were given: they are never freed, by the contract of `Pool::new`.
static GIVEN: Mutex<Vec<Given>> = Mutex::new(Vec::new());

std::thread_local! {
    /// How many more pages the pools of this thread get.
    static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Gives pages with rubbish in them, as a real allocator might.
fn grow() -> Option<NonNull<u8>> {
    LEFT.set(LEFT.get().checked_sub(1)?);
    let page = Box::leak(Box::new(Page([0xAA; 4096])));
    let page = NonNull::from(page).cast();
    GIVEN.lock().unwrap().push(Given(page));
    Some(page)
}

/// A pool that draws on [`LEFT`].
fn pool<T: Pooled>() -> Pool<T> {
    // SAFETY: `grow` leaks the page and nothing else uses it.
    unsafe { Pool::new(grow) }
}

/// Free space with no ranges that draws on [`LEFT`].
fn nothing_free() -> FreeAreas {
    // SAFETY: as in `pool`.
    unsafe { FreeAreas::new(grow) }
}

/// The range of `pages` pages from page number `first`.
fn range(first: u64, pages: u64) -> PageRange {
    PageRange::new(address(first), pages).unwrap()
}

/// Free space made of these ranges (page number, pages), added in this order.
fn space(ranges: &[(u64, u64)]) -> FreeAreas {
    let mut free = nothing_free();
    for &(first, pages) in ranges {
        free.add(range(first, pages)).unwrap();
    }
    free
}

/// The free ranges as (page number, pages).
fn listing(free: &FreeAreas) -> Vec<(u64, u64)> {
    free.iter()
        .map(|area| (area.first.get(), area.pages.get()))
        .collect()
}

/// The page number at which an area starts.
fn first(area: &VmapArea) -> u64 {
    area.start().as_u64() / PAGE_SIZE
}

/// Rank and size of a subtree; panics unless it is balanced and linked both ways, and summarised
/// if it should be.
fn check_subtree(root: Link, parent: Link, summary: bool) -> (i8, usize) {
    let Some(area) = root else { return (-1, 0) };
    let same = |a: Link, b: Link| a.map(core::ptr::from_ref) == b.map(core::ptr::from_ref);
    assert!(
        same(area.parent.get(), parent),
        "{area:?} has another parent"
    );
    let [left, right] = [area.child[0].get(), area.child[1].get()];
    let (left_rank, left_count) = check_subtree(left, root, summary);
    let (right_rank, right_count) = check_subtree(right, root, summary);
    let rank = area.rank.get();
    assert!(
        (1..=2).contains(&(rank - left_rank)),
        "{area:?}: {rank} above {left_rank}"
    );
    assert!(
        (1..=2).contains(&(rank - right_rank)),
        "{area:?}: {rank} above {right_rank}"
    );
    assert!(
        left.is_some() || right.is_some() || rank == 0,
        "{area:?}: a leaf of rank {rank}"
    );
    if summary {
        let below = [left, right]
            .into_iter()
            .flatten()
            .map(|child| child.largest.get())
            .max();
        assert_eq!(
            area.largest.get(),
            area.pages.get().max(below.unwrap_or(0)),
            "{area:?}"
        );
    }
    (rank, left_count + right_count + 1)
}

/// Checks what must always hold of free areas: the tree, that no two ranges touch, the totals.
fn check_free(free: &FreeAreas) {
    let (_, count) = check_subtree(free.tree().root(), None, true);
    let ranges = listing(free);
    assert!(
        ranges
            .windows(2)
            .all(|pair| pair[0].0 + pair[0].1 < pair[1].0),
        "{ranges:x?}"
    );
    assert_eq!((free.count(), ranges.len()), (count, count));
    assert_eq!(
        free.pages(),
        ranges.iter().map(|&(_, pages)| pages).sum::<u64>()
    );
    assert_eq!(
        free.largest(),
        ranges.iter().map(|&(_, pages)| pages).max().unwrap_or(0)
    );
    // Two that are said to follow one another do.
    if let Some((below, above)) = free.gap() {
        let at = ranges.iter().position(|&(first, _)| first == above);
        let before = at.expect("it is free").checked_sub(1);
        assert_eq!(before.map(|before| ranges[before].0), below);
    }
    // What is known of the ranges below the one where a search begins.
    for (at, pages) in free.low() {
        assert!(ranges.iter().any(|&(first, _)| first == at), "{at:x}");
        let below = ranges.iter().filter(|&&(first, _)| first < at);
        assert!(
            below.clone().all(|&(_, length)| length < pages),
            "{at:x} for {pages}: {ranges:x?}"
        );
    }
}

/// Checks what must always hold of busy areas.
fn check_busy(busy: &BusyAreas) {
    let (_, in_tree) = check_subtree(busy.tree().root(), None, false);
    let count = in_tree + usize::from(busy.newest().is_some());
    assert_eq!(
        busy.highest().map(|area| area.first.get()),
        busy.tree().iter().map(|area| area.first.get()).max()
    );
    let ranges: Vec<_> = busy
        .iter()
        .map(|area| (area.first.get(), area.end()))
        .collect();
    assert!(
        ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0),
        "{ranges:x?}"
    );
    assert_eq!((busy.count(), ranges.len()), (count, count));
}

/// Checks that every record is unused, in the free space, or one of `elsewhere`.
fn check_records(free: &FreeAreas, elsewhere: usize) {
    let all = free.pool().pages() * Pool::<VmapArea>::PER_PAGE;
    assert_eq!(
        free.pool().spare() + free.count() + elsewhere,
        all,
        "a record is lost"
    );
}

#[test]
fn containers_can_be_sent_between_cpus() {
    fn is_send<T: Send>() {}
    is_send::<(FreeAreas, BusyAreas, Chain, OwnedArea)>();
}

#[test]
fn a_take_splits_in_each_of_the_four_ways() {
    let mut free = space(&[(100, 10)]);
    let left = free.take_exact(range(100, 2)).unwrap();
    assert_eq!(listing(&free), [(102, 8)]);
    let right = free.take_exact(range(108, 2)).unwrap();
    assert_eq!(listing(&free), [(102, 6)]);
    let middle = free.take_exact(range(104, 1)).unwrap();
    assert_eq!(listing(&free), [(102, 2), (105, 3)]);
    let whole = free.take_exact(range(102, 2)).unwrap();
    assert_eq!(listing(&free), [(105, 3)]);
    check_free(&free);
    check_records(&free, 4);
    let held = [&left, &right, &middle, &whole].map(|area| (first(area), area.pages()));
    assert_eq!(held, [(100, 2), (108, 2), (104, 1), (102, 2)]);
}

#[test]
fn what_is_given_back_merges_with_its_neighbours() {
    let mut free = space(&[(100, 10)]);
    let mut areas: Vec<_> = (0..5).map(|_| free.take(2, PAGE_SIZE).unwrap()).collect();
    assert_eq!((free.count(), free.largest()), (0, 0));
    let mut give = |index: usize, merged: (u64, u64), rest: &[(u64, u64)]| {
        let area = areas.remove(index);
        let into = free.insert(area);
        assert_eq!((first(into), into.pages()), merged);
        assert_eq!(listing(&free), rest);
        check_free(&free);
        check_records(&free, areas.len());
    };
    give(2, (104, 2), &[(104, 2)]); // with none
    give(0, (100, 2), &[(100, 2), (104, 2)]); // the gap between is not free
    give(1, (104, 4), &[(100, 2), (104, 4)]); // with the one below
    give(1, (104, 6), &[(100, 2), (104, 6)]);
    give(0, (100, 10), &[(100, 10)]); // with both
    let mut free = space(&[(100, 10)]);
    let area = free.take(2, PAGE_SIZE).unwrap();
    let into = free.insert(area); // with the one above
    assert_eq!((first(into), into.pages()), (100, 10));
}

#[test]
fn the_lowest_fit_wins_over_a_better_or_a_larger_one() {
    let mut free = space(&[(10, 2), (20, 5), (30, 4), (40, 1000)]);
    assert_eq!(first(&free.take(4, PAGE_SIZE).unwrap()), 20);
    assert_eq!(first(&free.take(1, PAGE_SIZE).unwrap()), 10);
    assert_eq!(first(&free.take(4, PAGE_SIZE).unwrap()), 30);
    assert_eq!(listing(&free), [(11, 1), (24, 1), (40, 1000)]);
}

#[test]
fn where_the_next_lower_range_belongs_is_known() {
    // Ranges of two pages, each with the next after three; the first never goes.
    let all: Vec<_> = (0..40).map(|i| (10 + 3 * i, 2)).collect();
    let mut free = space(&all);
    let mut taken: Vec<_> = (1..40)
        .map(|i| free.take_exact(range(10 + 3 * i, 2)).unwrap())
        .collect();
    assert_eq!(free.gap(), None, "what went may have been one end of it");
    let last = taken.pop().unwrap();
    free.insert(last);
    // From the highest to the lowest each belongs below the one before, above the one that stayed.
    while let Some(area) = taken.pop() {
        assert_eq!(free.gap(), Some((Some(10), first(&area) + 3)));
        free.insert(area);
        check_free(&free);
    }
    assert_eq!(listing(&free), all);
    // What is taken out of a range leaves a new one in the middle.
    let middle = free.take_exact(range(17, 1)).unwrap();
    let end = free.take(1, PAGE_SIZE).unwrap();
    assert_eq!((first(&middle), first(&end)), (17, 10));
    check_free(&free);
    free.insert(middle);
    free.insert(end);
    check_free(&free);
    assert_eq!(listing(&free), all);
}

#[test]
fn an_aligned_take_uses_a_hole_that_is_long_enough_only_because_of_where_it_is() {
    // Eight pages on a multiple of eight: a search for 8 + 7 would pass on to page 64.
    let mut free = space(&[(1, 14), (16, 8), (64, 100)]);
    assert_eq!(first(&free.take(8, 8 * PAGE_SIZE).unwrap()), 16);
    assert_eq!(first(&free.take(8, 8 * PAGE_SIZE).unwrap()), 64);
    assert_eq!(first(&free.take(7, 8 * PAGE_SIZE).unwrap()), 8);
    assert_eq!(listing(&free), [(1, 7), (72, 92)]);
}

#[test]
fn holes_that_lie_wrong_are_passed_over_wherever_they_hang() {
    // Only one of many holes of eight pages lies on a multiple of eight; every one in turn.
    for good in 0..40 {
        let holes: Vec<_> = (0..40)
            .map(|n| (16 * n + 1 - u64::from(n == good), 8))
            .collect();
        let mut free = space(&holes);
        let area = free.take(8, 8 * PAGE_SIZE).unwrap();
        assert_eq!(first(&area), 16 * good);
        assert_eq!(free.take(8, 8 * PAGE_SIZE).unwrap_err(), TakeError::NoSpace);
        assert_eq!(free.count(), 39);
    }
}

#[test]
fn what_alignment_passes_over_goes_with_the_area() {
    let mut free = space(&[(6, 100)]);
    let area = free.take_with_lead(6, 8 * PAGE_SIZE, 2).unwrap();
    assert_eq!((first(&area), area.pages()), (8, 6));
    assert_eq!(listing(&free), [(14, 92)]);
    let small = free.take_with_lead(1, 8 * PAGE_SIZE, 2).unwrap();
    assert_eq!((first(&small), listing(&free)), (16, vec![(17, 89)]));
    // More than it may keep is a hole.
    let other = free.take_with_lead(7, 8 * PAGE_SIZE, 6).unwrap();
    assert_eq!(
        (first(&other), listing(&free)),
        (24, vec![(17, 7), (31, 75)])
    );
    // Given back, each brings along what it kept, and is neighbour of the one before.
    let mut chain = Chain::new();
    [area, small]
        .into_iter()
        .for_each(|area| chain.push(area.with_lead()));
    free.take_back(chain.join_neighbours());
    let both = chain.pop().unwrap();
    assert_eq!((first(&both), both.pages()), (6, 11));
    assert!(chain.pop().is_none());
    for area in [both, other] {
        free.insert(area);
    }
    assert_eq!(listing(&free), [(6, 100)]);
    check_free(&free);
    check_records(&free, 0);
}

#[test]
fn a_lead_that_nobody_asked_for_goes_back_all_the_same() {
    let mut free = space(&[(6, 100)]);
    let area = free.take_with_lead(6, 8 * PAGE_SIZE, 16).unwrap();
    free.insert(area);
    assert_eq!(listing(&free), [(6, 100)]);
    let mut area = free.take_with_lead(6, 8 * PAGE_SIZE, 16).unwrap();
    free.claim_around(&mut area, 8 * PAGE_SIZE);
    assert_eq!((first(&area), area.pages()), (6, 10));
    free.insert(area);
    // The record is as good as any: the next area has no lead.
    let area = free.take(6, PAGE_SIZE).unwrap();
    free.insert(area);
    assert_eq!(listing(&free), [(6, 100)]);
}

#[test]
fn alignment_may_be_as_large_as_the_address_space() {
    let upper = VirtAddr::new(0xffff_0000_0000_0000).unwrap();
    let mut free = nothing_free();
    free.add(PageRange::new(upper, 1 << 36).unwrap()).unwrap();
    let mut take = |shift: u32| free.take(1, 1 << shift).map(|area| area.start().as_u64());
    assert_eq!(take(47), Ok(0xffff_0000_0000_0000));
    assert_eq!(take(47), Ok(0xffff_8000_0000_0000));
    assert_eq!(take(47), Err(TakeError::NoSpace));
    assert_eq!(take(48), Err(TakeError::NoSpace));
    assert_eq!(take(63), Err(TakeError::NoSpace));
    assert_eq!(take(46), Ok(0xffff_4000_0000_0000));
    assert_eq!(take(30), Ok(0xffff_0000_4000_0000));
    // Below a page there is nothing to align.
    assert_eq!(take(0), Ok(0xffff_0000_0000_1000));
    assert_eq!(take(11), Ok(0xffff_0000_0000_2000));
    check_free(&free);
}

#[test]
fn nonsense_is_refused() {
    let mut free = space(&[(100, 10)]);
    assert_eq!(free.take(0, PAGE_SIZE).unwrap_err(), TakeError::Invalid);
    for align in [0, 3, 3 * PAGE_SIZE, u64::MAX] {
        assert_eq!(free.take(1, align).unwrap_err(), TakeError::Invalid);
    }
    for pages in [11, 1 << 52, u64::MAX] {
        assert_eq!(free.take(pages, PAGE_SIZE).unwrap_err(), TakeError::NoSpace);
        assert_eq!(free.take(pages, 1 << 63).unwrap_err(), TakeError::NoSpace);
    }
    for (first, pages) in [(99, 2), (109, 2), (100, 10), (105, 1), (90, 100)] {
        assert_eq!(free.add(range(first, pages)), Err(InsertError::Overlap));
    }
    for (first, pages) in [(99, 2), (109, 2), (90, 100), (90, 1), (110, 1)] {
        assert_eq!(
            free.take_exact(range(first, pages)).unwrap_err(),
            TakeError::NoSpace
        );
    }
    assert_eq!(listing(&free), [(100, 10)]);
}

#[test]
fn the_last_page_of_the_address_space_is_like_any_other() {
    const TOP: u64 = 1 << 52;
    let mut free = space(&[(TOP - 6, 6)]);
    assert_eq!(free.take(7, PAGE_SIZE).unwrap_err(), TakeError::NoSpace);
    let low = free.take(5, PAGE_SIZE).unwrap();
    let mut high = free.take(1, PAGE_SIZE).unwrap();
    assert_eq!(high.range().last_byte(), VirtAddr::MAX);
    assert_eq!(
        free.neighbours(high.range()).map(|area| area.is_some()),
        [false, false]
    );
    free.insert(low);
    assert_eq!(
        free.neighbours(high.range()).map(|area| area.is_some()),
        [true, false]
    );
    free.widen(&mut high, range(TOP - 3, 3)).unwrap();
    assert_eq!(listing(&free), [(TOP - 6, 3)]);
    let mut busy = BusyAreas::new();
    busy.insert(high);
    assert_eq!(
        busy.find_containing(VirtAddr::MAX).map(first),
        Some(TOP - 3)
    );
    free.insert(others::take_out(&mut busy, address(TOP - 3)).unwrap());
    assert_eq!(
        free.take(2, 4 * PAGE_SIZE).map(|area| first(&area)),
        Ok(TOP - 4)
    );
    assert_eq!(listing(&free), [(TOP - 6, 2), (TOP - 2, 2)]);
    check_free(&free);
}

#[test]
fn neighbours_are_those_that_touch() {
    let free = space(&[(10, 5), (20, 5)]);
    let around = |first, pages| {
        free.neighbours(range(first, pages))
            .map(|area| area.map(|area| area.first.get()))
    };
    assert_eq!(around(15, 5), [Some(10), Some(20)]);
    assert_eq!(around(15, 4), [Some(10), None]);
    assert_eq!(around(16, 4), [None, Some(20)]);
    assert_eq!(around(16, 3), [None, None]);
    assert_eq!(around(25, 1), [Some(20), None]);
    assert_eq!(around(0, 10), [None, Some(10)]);
}

#[test]
fn an_area_widens_over_free_pages_only() {
    let mut free = space(&[(100, 20)]);
    let mut area = free.take_exact(range(108, 4)).unwrap();
    let fence = free.take_exact(range(118, 1)).unwrap();
    for (first, pages) in [
        (99, 13),
        (108, 11),
        (107, 20),
        (109, 3),
        (100, 10),
        (90, 10),
    ] {
        assert_eq!(
            free.widen(&mut area, range(first, pages)),
            Err(TakeError::NoSpace)
        );
        assert_eq!(listing(&free), [(100, 8), (112, 6), (119, 1)]);
    }
    free.widen(&mut area, range(108, 4)).unwrap();
    free.widen(&mut area, range(106, 7)).unwrap();
    assert_eq!(listing(&free), [(100, 6), (113, 5), (119, 1)]);
    free.widen(&mut area, range(100, 18)).unwrap();
    assert_eq!(listing(&free), [(119, 1)]);
    assert_eq!(area.range(), range(100, 18));
    check_free(&free);
    check_records(&free, 2);
    free.insert(area);
    free.insert(fence);
    assert_eq!(listing(&free), [(100, 20)]);
}
