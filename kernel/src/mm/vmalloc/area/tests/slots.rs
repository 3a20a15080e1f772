//! Blocks of `vm_map_ram`.

use super::*;

const PAGES: u64 = BLOCK_PAGES as u64;

/// An arena with `count` blocks' worth of addresses from page 1024 on.
fn arena(count: u64) -> (FreeAreas, BusyAreas, Blocks) {
    (
        space(&[(PAGES, count * PAGES)]),
        BusyAreas::new(),
        Blocks::new(),
    )
}

/// An area of a block's worth of addresses, in use.
fn block(free: &mut FreeAreas, busy: &mut BusyAreas) -> VirtAddr {
    let mut area = free.take(PAGES, PAGES * PAGE_SIZE).unwrap();
    area.set_info(AreaInfo {
        kind: AreaKind::MapRamBlock,
        ..AreaInfo::default()
    });
    let start = area.start();
    busy.insert(area);
    start
}

/// What a purge would flush, and how many blocks are through.
fn purge(
    free: &mut FreeAreas,
    busy: &mut BusyAreas,
    blocks: &mut Blocks,
) -> (Vec<(u64, u64)>, u64) {
    let mut through = Chain::new();
    let (dirty, count) = blocks.take_dirty(busy, &mut through);
    let ranges = dirty
        .ranges()
        .map(|range| (range.start().as_u64() / PAGE_SIZE, range.pages()))
        .collect();
    blocks.flushed(dirty);
    while let Some(area) = through.pop() {
        free.insert(area);
    }
    (ranges, count)
}

#[test]
fn pages_are_given_out_in_order_and_once() {
    let (mut free, mut busy, mut blocks) = arena(2);
    assert_eq!(blocks.take(1), None, "there is no block yet");
    let start = block(&mut free, &mut busy);
    assert!(!blocks.renew(&busy, start, 3));
    assert_eq!(blocks.take(64), Some(address(PAGES + 3)));
    assert!(!blocks.give_back(&busy, range(PAGES + 3, 64), 64));
    assert_eq!(blocks.take(1), Some(address(PAGES + 67)));
    for n in 1..15 {
        assert_eq!(blocks.take(64), Some(address(PAGES + 4 + 64 * n)));
    }
    // 60 pages are left: enough for some, not for others.
    assert_eq!(blocks.take(64), None);
    assert_eq!(blocks.take(60), Some(address(2 * PAGES - 60)));
    assert_eq!(blocks.take(1), None);
}

#[test]
fn only_what_is_given_out_is_in_a_block() {
    let (mut free, mut busy, mut blocks) = arena(2);
    let start = block(&mut free, &mut busy);
    blocks.renew(&busy, start, 10);
    let start = block(&mut free, &mut busy);
    blocks.renew(&busy, start, 5);
    let other = free.take(1, PAGE_SIZE);
    assert!(other.is_err(), "all of it is in blocks");
    for (first, pages, holds) in [
        (PAGES, 10, true),
        // The rest of a block that was given up counts as given out, and is mapped nowhere.
        (PAGES + 9, 2, true),
        (2 * PAGES, 5, true),
        (2 * PAGES + 4, 2, false),
        (2 * PAGES - 1, 2, false),
        (PAGES - 1, 1, false),
        (3 * PAGES, 1, false),
    ] {
        assert_eq!(
            (first, blocks.holds(&busy, range(first, pages))),
            (first, holds)
        );
    }
}

#[test]
fn what_is_dirty_is_flushed_once_and_a_block_goes_as_a_whole() {
    let (mut free, mut busy, mut blocks) = arena(2);
    let start = block(&mut free, &mut busy);
    blocks.renew(&busy, start, 500);
    assert_eq!(blocks.take(500), Some(address(PAGES + 500)));
    assert_eq!(purge(&mut free, &mut busy, &mut blocks), (vec![], 0));
    assert!(!blocks.give_back(&busy, range(PAGES + 100, 4), 4));
    assert!(!blocks.give_back(&busy, range(PAGES + 300, 2), 2));
    let both = (vec![(PAGES + 100, 202)], 0);
    assert_eq!(purge(&mut free, &mut busy, &mut blocks), both);
    assert_eq!(purge(&mut free, &mut busy, &mut blocks), (vec![], 0));
    // What becomes dirty while a purge flushes is left to the next one.
    assert!(!blocks.give_back(&busy, range(PAGES, 100), 100));
    let (dirty, _) = blocks.take_dirty(&mut busy, &mut Chain::new());
    assert!(!blocks.give_back(&busy, range(PAGES + 104, 196), 196));
    assert_eq!(dirty.ranges().map(PageRange::pages).sum::<u64>(), 100);
    blocks.flushed(dirty);
    let rest = (vec![(PAGES + 104, 196)], 0);
    assert_eq!(purge(&mut free, &mut busy, &mut blocks), rest);
    // The last page in use: then the block is through, once its own rest is given up.
    assert!(!blocks.give_back(&busy, range(PAGES + 302, 698), 698));
    let start = block(&mut free, &mut busy);
    assert!(blocks.renew(&busy, start, 1), "the old one is through");
    assert_eq!(purge(&mut free, &mut busy, &mut blocks).1, 1);
    assert_eq!((free.pages(), busy.count()), (PAGES, 1));
    // And one that is through while pages are given out from it.
    assert_eq!(blocks.take(1023), Some(address(2 * PAGES + 1)));
    assert!(!blocks.give_back(&busy, range(2 * PAGES, 1), 1));
    assert!(blocks.give_back(&busy, range(2 * PAGES + 1, 1023), 1023));
    assert_eq!(purge(&mut free, &mut busy, &mut blocks).1, 1);
    assert_eq!(
        (free.pages(), busy.count(), blocks.take(1)),
        (2 * PAGES, 0, None)
    );
    check_free(&free);
    check_records(&free, 0);
}

/// Whether the page at `start` was taken back the short way, and whether it came to be unmapped.
fn give_back_single(blocks: &mut Blocks, start: VirtAddr, mapped: bool) -> (bool, bool) {
    let mut asked = false;
    let taken = blocks.give_back_single(start, || {
        asked = true;
        mapped
    });
    (taken, asked)
}

#[test]
fn a_single_page_goes_the_short_way_only_where_that_is_all() {
    const LONG: (bool, bool) = (false, false);
    let (mut free, mut busy, mut blocks) = arena(2);
    let page = |page| address(PAGES + page);
    assert_eq!(give_back_single(&mut blocks, page(0), true), LONG);
    let start = block(&mut free, &mut busy);
    blocks.renew(&busy, start, 10);
    // It is to be listed first.
    assert_eq!(give_back_single(&mut blocks, page(3), true), LONG);
    assert!(!blocks.give_back(&busy, range(PAGES + 4, 1), 1));
    assert_eq!(give_back_single(&mut blocks, page(3), true), (true, true));
    assert_eq!(give_back_single(&mut blocks, page(9), true), (true, true));
    // What is not mapped is left to who reports it.
    assert_eq!(give_back_single(&mut blocks, page(0), false), (false, true));
    // No page of those that are given out, or no page.
    for start in [
        page(10),
        address(PAGES - 1),
        page(2) + 8,
        VirtAddr::literal(0),
        VirtAddr::MAX,
    ] {
        assert_eq!(give_back_single(&mut blocks, start, true), LONG);
    }
    let three = (vec![(PAGES + 3, 7)], 0);
    assert_eq!(purge(&mut free, &mut busy, &mut blocks), three);
    // The purge has taken it from the list.
    assert_eq!(give_back_single(&mut blocks, page(5), true), LONG);
    assert!(!blocks.give_back(&busy, range(PAGES + 5, 1), 1));
    // The last page of all: somebody has to be told that the block is through.
    assert_eq!(blocks.take(1014), Some(page(10)));
    assert!(!blocks.give_back(&busy, range(PAGES + 10, 1014), 1014));
    for last in [0, 1, 2, 6, 7] {
        assert_eq!(
            give_back_single(&mut blocks, page(last), true),
            (true, true)
        );
    }
    assert_eq!(give_back_single(&mut blocks, page(8), true), LONG);
    assert!(blocks.give_back(&busy, range(PAGES + 8, 1), 1));
    assert_eq!(purge(&mut free, &mut busy, &mut blocks).1, 1);
    // A block from which nothing is given out any more.
    let first = block(&mut free, &mut busy);
    blocks.renew(&busy, first, 2);
    let second = block(&mut free, &mut busy);
    blocks.renew(&busy, second, 1);
    assert_eq!(give_back_single(&mut blocks, first, true), LONG);
}
