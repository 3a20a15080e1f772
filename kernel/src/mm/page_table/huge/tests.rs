//! Huge mappings on the host: tables over an arena, judged by the recorded events and by what a walk
//! finds.

use super::*;
use crate::{
    mm::{
        host_tests::{Arena, Machine, Step, steps},
        lazy::{Backend, Model},
    },
    trace::{Counts, Event, Kind as What},
};
use std::vec::Vec;
use vmsa::{PhysAddr, live_change, tlbi::Operation};

const START: u64 = 0xffff_8000_8000_0000;

fn tree(arena: &mut Arena) -> PageTable<&mut Arena> {
    PageTable::create(arena).unwrap()
}

fn range(offset: u64, pages: u64) -> PageRange {
    PageRange::new(VirtAddr::literal(START + offset), pages).unwrap()
}

fn frame(pa: u64) -> Frame {
    Frame::containing(PhysAddr::literal(pa))
}

fn block(pa: u64) -> (Frame, Size) {
    (frame(pa), Size::Block)
}

fn map(
    tree: &mut PageTable<&mut Arena>,
    offset: u64,
    parts: &[(Frame, Size)],
) -> Result<(), Error> {
    let start = VirtAddr::literal(START + offset);
    tree.map_parts(start, parts.iter().copied(), Attributes::KERNEL_DATA)
}

/// Clears `range`, and gives back what was taken.
fn take(tree: &PageTable<&mut Arena>, range: PageRange) -> Result<Vec<(Frame, Size)>, Error> {
    let mut taken = Vec::new();
    let section = lazy::section();
    tree.take_leaves(&section, range, |frame, size| taken.push((frame, size)))?;
    Ok(taken)
}

/// Every leaf of `range`: address and level, and whether it is of a set.
fn leaves(tree: &PageTable<&mut Arena>, range: PageRange) -> Vec<(u64, Level, bool)> {
    let mut leaves = Vec::new();
    tree.visit(range, &mut |va, level, entry| {
        let set = entry.attributes().contains(Attributes::CONTIGUOUS);
        leaves.push((va.as_u64() - START, level, set));
    });
    leaves
}

/// No store changed a live entry in a way that needs break-before-make.
fn judge(events: &[Event]) {
    for event in events {
        if let What::Store {
            va,
            old,
            new,
            level,
            ..
        } = event.kind
        {
            let change = live_change(old, new, level);
            assert!(change.is_one_store(), "{va} {old:?} -> {new:?}: {change:?}");
        }
    }
}

const MIXED: [(u64, Size); 5] = [
    (0x4020_0000, Size::Block),
    (0x4800_0000, Size::Block),
    (0x4401_0000, Size::Contiguous),
    (0x4003_0000, Size::Contiguous),
    (0x4003_7000, Size::Page),
];
const MIXED_PAGES: u64 = 2 * 512 + 2 * 16 + 1;

fn mixed() -> Vec<(Frame, Size)> {
    MIXED.iter().map(|(pa, size)| (frame(*pa), *size)).collect()
}

#[test]
fn parts_go_in_and_come_out_whole_under_every_backend() {
    let machine = Machine::take();
    for backend in Backend::ALL {
        machine.choose(Model::TwoCounters, backend);
        let mut arena = Arena::new();
        let mut tree = tree(&mut arena);
        let (result, events) = machine.record(|| map(&mut tree, 0, &mixed()));
        result.unwrap();
        judge(&events);
        let all = range(0, MIXED_PAGES);
        let found = leaves(&tree, all);
        assert_eq!(found.len(), 2 + 2 * 16 + 1);
        assert_eq!(found[1], (Level::L2.bytes(), Level::L2, false));
        assert_eq!(found[2], (2 * Level::L2.bytes(), Level::L3, true));
        assert_eq!(
            found[34],
            (2 * Level::L2.bytes() + 32 * 4096, Level::L3, false)
        );
        // Each page of a set says where it is itself.
        let third = VirtAddr::literal(START + 2 * Level::L2.bytes() + 3 * 4096);
        let output = tree
            .leaf(third)
            .and_then(|(entry, level)| entry.output(level));
        assert_eq!(output, Some(PhysAddr::literal(0x4401_3000)));

        assert_eq!(take(&tree, all).unwrap(), mixed(), "{backend}");
        assert!(leaves(&tree, all).is_empty());
        assert!(lazy::reset());
    }
}

#[test]
fn one_pair_of_barriers_for_all_parts() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let mut tree = tree(&mut arena);
    tree.prepare_down_to(Level::L2, range(0, 1024)).unwrap();
    tree.prepare(range(2 * Level::L2.bytes(), 33)).unwrap();
    let steps = machine.steps(|| map(&mut tree, 0, &mixed()).unwrap());
    let mut expected = vec![Step::Valid(Level::L2); 2];
    expected.extend([Step::Valid(Level::L3); 33]);
    expected.extend([Step::DsbIshst, Step::Isb]);
    assert_eq!(steps, expected);
}

#[test]
fn an_empty_table_is_unlinked_flushed_and_only_then_freed() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let mut tree = tree(&mut arena);
    // Two tables where three blocks go.
    tree.prepare(range(0, 513)).unwrap();
    let blocks = [0x4020_0000, 0x4060_0000, 0x4040_0000].map(block);
    let before = Counts::now();
    let (result, events) = machine.record(|| map(&mut tree, 0, &blocks));
    result.unwrap();
    judge(&events);
    let expected = [
        Step::Invalid(Level::L2),
        Step::Invalid(Level::L2),
        Step::DsbIshst,
        // Not vaale1is: it would leave the walker its way into the tables.
        Step::Tlbi("vaae1is"),
        Step::Tlbi("vaae1is"),
        Step::DsbIsh,
        Step::Isb,
        Step::Valid(Level::L2),
        Step::Valid(Level::L2),
        Step::Valid(Level::L2),
        Step::DsbIshst,
        Step::Isb,
    ];
    assert_eq!(steps(&events), expected);
    let at: Vec<u64> = events
        .iter()
        .filter_map(|event| match event.kind {
            What::Tlbi(Operation::Vaae1is(operand)) => operand.va().map(VirtAddr::as_u64),
            _ => None,
        })
        .collect();
    assert_eq!(at, [START, START + Level::L2.bytes()]);
    // Both came back behind the sequence: the links were gone, and no block was there yet.
    let done = Counts {
        stores: before.stores + 2,
        dsb: before.dsb + 2,
        isb: before.isb + 1,
        tlbi: before.tlbi + 2,
    };
    assert_eq!(tree.memory().freed(), [done, done]);
}

#[test]
fn more_tables_than_a_batch_holds() {
    let machine = Machine::take();
    let count = if cfg!(miri) { 2 } else { BATCH as u64 + 3 };
    let mut arena = Arena::new();
    let mut tree = tree(&mut arena);
    tree.prepare(range(0, count * 512)).unwrap();
    let parts: Vec<_> = (0..count)
        .map(|i| block(0x4000_0000 + i * Level::L2.bytes()))
        .collect();
    let (result, events) = machine.record(|| map(&mut tree, 0, &parts));
    result.unwrap();
    judge(&events);
    assert_eq!(tree.memory().freed().len() as u64, count);
    assert_eq!(leaves(&tree, range(0, count * 512)).len() as u64, count);
}

#[test]
fn leaves_are_in_the_way_of_a_block() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let mut tree = tree(&mut arena);
    // The first table is empty; in the second one page is mapped.
    tree.prepare(range(0, 512)).unwrap();
    let used = Level::L2.bytes() + 77 * 4096;
    map(&mut tree, used, &[(frame(0x4000_0000), Size::Page)]).unwrap();
    let blocks = [0x4020_0000, 0x4060_0000].map(block);
    let (result, events) = machine.record(|| map(&mut tree, 0, &blocks));
    assert_eq!(
        result,
        Err(Error::Occupied(VirtAddr::literal(
            START + Level::L2.bytes()
        )))
    );
    // What had been unlinked was flushed and freed nevertheless, and no block was stored.
    assert_eq!(tree.memory().freed().len(), 1);
    assert!(steps(&events).contains(&Step::Tlbi("vaae1is")));
    assert_eq!(leaves(&tree, range(0, 1024)), [(used, Level::L3, false)]);
    // A block is in the way of another, and of a table.
    map(&mut tree, 4 * Level::L2.bytes(), &[block(0x4020_0000)]).unwrap();
    let there = VirtAddr::literal(START + 4 * Level::L2.bytes());
    assert_eq!(
        map(&mut tree, 4 * Level::L2.bytes(), &[block(0x4060_0000)]),
        Err(Error::Occupied(there))
    );
    assert_eq!(
        tree.prepare(range(4 * Level::L2.bytes(), 1)),
        Err(Error::Block(there))
    );
}

#[test]
fn what_is_not_aligned_is_refused() {
    let _machine = Machine::take();
    let mut arena = Arena::new();
    let mut tree = tree(&mut arena);
    for (offset, pa, size) in [
        (0x1000, 0x4020_0000, Size::Block),
        (0, 0x4021_0000, Size::Block),
        (0x1000, 0x4020_0000, Size::Contiguous),
        (0, 0x4020_1000, Size::Contiguous),
    ] {
        let va = VirtAddr::literal(START + offset);
        assert_eq!(
            map(&mut tree, offset, &[(frame(pa), size)]),
            Err(Error::Misaligned(va))
        );
    }
    assert_eq!(tree.memory().used(), 1, "no table was made");
}

#[test]
fn a_failed_allocation_maps_nothing() {
    let _machine = Machine::take();
    for pages in 1..4 {
        let mut arena = Arena::with(pages);
        let mut tree = tree(&mut arena);
        assert_eq!(map(&mut tree, 0, &mixed()), Err(Error::OutOfMemory));
        assert!(leaves(&tree, range(0, MIXED_PAGES)).is_empty());
        tree.memory.allow(8);
        map(&mut tree, 0, &mixed()).unwrap();
    }
}

#[test]
fn a_part_is_refused_and_nothing_of_it_changes() {
    let _machine = Machine::take();
    let mut arena = Arena::new();
    let mut tree = tree(&mut arena);
    map(&mut tree, 0, &mixed()).unwrap();
    let before = leaves(&tree, range(0, MIXED_PAGES));
    let sets = 2 * Level::L2.bytes();
    for (offset, pages) in [
        (0, 1),
        (0, 511),
        (4096, 511),
        (sets, 1),
        (sets, 15),
        (sets + 4096, 15),
        (sets, 17),
        (sets + 31 * 4096, 2),
    ] {
        let range = range(offset, pages);
        assert!(
            matches!(take(&tree, range), Err(Error::Block(_))),
            "{range:?}"
        );
        let section = lazy::section();
        let result = tree.change_leaves(&section, range, |leaf| panic!("{}", leaf.va()));
        assert!(matches!(result, Err(Error::Block(_))), "{range:?}");
    }
    // Not even whole: a live entry of a set can't change in place.
    assert!(matches!(
        tree.apply_to_existing_page_range(range(sets, 16), |_| Ok(())),
        Err(Error::Block(_))
    ));
    assert_eq!(leaves(&tree, range(0, MIXED_PAGES)), before);
    // The page behind them is free to change, and a set goes by itself.
    tree.apply_to_existing_page_range(range(sets + 32 * 4096, 1), |_| Ok(()))
        .unwrap();
    assert_eq!(
        take(&tree, range(sets + 16 * 4096, 16)).unwrap(),
        [mixed()[3]]
    );
}

#[test]
fn a_split_breaks_flushes_and_makes() {
    let machine = Machine::take();
    machine.choose(Model::TwoCounters, Backend::Tlbi);
    let mut arena = Arena::new();
    let mut tree = tree(&mut arena);
    map(&mut tree, 0, &[block(0x4020_0000)]).unwrap();
    let all = range(0, 512);
    // SAFETY: nothing on the host translates by these tables.
    let (all_but_one, idle) = unsafe { (Idle::promise(range(0, 511)), Idle::promise(all)) };
    let va = VirtAddr::literal(START + 0x12_3456);
    assert_eq!(
        tree.split_block(va, &all_but_one),
        Err(Error::Block(VirtAddr::literal(START)))
    );
    // Even in a section, under the backend that puts flushes off.
    let section = lazy::section();
    let (result, events) = machine.record(|| tree.split_block(va, &idle));
    drop(section);
    result.unwrap();
    judge(&events);
    let mut expected = vec![Step::Valid(Level::L3); 512];
    expected.extend([
        Step::Invalid(Level::L2),
        Step::DsbIshst,
        Step::Tlbi("vaale1is"),
        Step::DsbIsh,
        Step::Isb,
        Step::Valid(Level::L2),
        Step::DsbIshst,
        Step::Isb,
    ]);
    assert_eq!(steps(&events), expected);
    let hint = events.iter().find_map(|event| match event.kind {
        What::Tlbi(Operation::Vaale1is(operand)) => Some(operand.ttl()),
        _ => None,
    });
    assert_eq!(hint, Some(None), "the block was not at the level of pages");
    for (i, page) in all.pages_iter().enumerate() {
        let pa = PhysAddr::literal(0x4020_0000 + i as u64 * 4096);
        let expected = Descriptor::leaf(Level::L3, pa, Attributes::KERNEL_DATA);
        assert_eq!(tree.leaf(page), expected.map(|entry| (entry, Level::L3)));
    }
    assert_eq!(
        tree.split_block(va, &idle),
        Err(Error::NotMapped(VirtAddr::literal(START)))
    );
}

#[test]
fn a_block_over_a_pending_flush_waits_for_it() {
    let machine = Machine::take();
    machine.choose(Model::TwoCounters, Backend::Tlbi);
    let mut arena = Arena::new();
    let mut tree = tree(&mut arena);
    map(&mut tree, 0, &[(frame(0x4000_0000), Size::Page)]).unwrap();
    tree.prepare_down_to(Level::L2, range(Level::L2.bytes(), 512))
        .unwrap();
    let outer = lazy::section();
    // A page of the second 2 MiB was unmapped, and its flush put off.
    crate::mm::tlb::flush_kernel_range(range(Level::L2.bytes() + 300 * 4096, 1), Removed::Leaves);
    let (result, events) =
        machine.record(|| map(&mut tree, Level::L2.bytes(), &[block(0x4020_0000)]));
    drop(outer);
    result.unwrap();
    let steps = steps(&events);
    let tlbi = steps
        .iter()
        .position(|step| matches!(step, Step::Tlbi(_)))
        .unwrap();
    let stored = steps
        .iter()
        .position(|step| *step == Step::Valid(Level::L2))
        .unwrap();
    assert!(tlbi < stored, "{steps:?}");
}

#[test]
fn what_is_queued_counts_as_stored() {
    let machine = Machine::take();
    machine.choose(Model::TwoCounters, Backend::Stores);
    let mut arena = Arena::new();
    let mut tree = tree(&mut arena);
    tree.prepare(range(0, 16)).unwrap();
    let outer = lazy::section();
    // In this section alone: the end of one that nests makes the stores.
    let store = |tree: &PageTable<&mut Arena>, pages, attributes| {
        tree.change_leaves(&outer, range(0, pages), |leaf| {
            let pa = PhysAddr::literal(0x4401_0000) + leaf.va().as_u64() % Level::L2.bytes();
            let new = Descriptor::leaf(Level::L3, pa, attributes);
            leaf.set(leaf.get(), new.unwrap());
            Ok(())
        })
        .unwrap();
    };
    // Memory does not show the set yet: a part of it is refused all the same.
    store(&tree, 16, Attributes::KERNEL_DATA | Attributes::CONTIGUOUS);
    let part = range(0, 15);
    assert_eq!(take(&tree, part), Err(Error::Block(part.start())));
    assert_eq!(take(&tree, range(0, 16)).unwrap().len(), 1);
    // Nor the page: its table is not empty all the same.
    store(&tree, 1, Attributes::KERNEL_DATA);
    assert_eq!(
        map(&mut tree, 0, &[block(0x4020_0000)]),
        Err(Error::Occupied(part.start()))
    );
    // Cleared, if only in the queue, it is empty.
    tree.change_leaves(&outer, range(0, 1), |leaf| {
        leaf.take();
        Ok(())
    })
    .unwrap();
    map(&mut tree, 0, &[block(0x4020_0000)]).unwrap();
    drop(outer);
    assert_eq!(leaves(&tree, range(0, 512)), [(0, Level::L2, false)]);
}

#[test]
fn offline_maps_have_sets_where_blocks_may_be() {
    let _machine = Machine::take();
    // From 3 pages below a multiple of 64 KiB to 5 pages above one, around one block.
    let first = Level::L2.bytes() - 2 * Size::Contiguous.bytes() - 3 * 4096;
    let pages = 3 + 2 * 16 + 512 + 16 + 5;
    for (largest, sets, blocks) in [(Level::L1, 3, 1), (Level::L2, 3, 1), (Level::L3, 0, 0)] {
        let mut arena = Arena::new();
        let mut tree = tree(&mut arena);
        let pa = PhysAddr::literal(0x4000_0000 + first);
        tree.map_offline(range(first, pages), pa, Attributes::KERNEL_DATA, largest)
            .unwrap();
        let leaves = leaves(&tree, range(first, pages));
        assert_eq!(leaves.iter().filter(|(_, _, set)| *set).count(), 16 * sets);
        assert_eq!(
            leaves
                .iter()
                .filter(|(_, level, _)| *level == Level::L2)
                .count(),
            blocks
        );
        for (offset, level, set) in leaves {
            let va = VirtAddr::literal(START + offset);
            let output = tree.leaf(va).and_then(|(entry, level)| entry.output(level));
            assert_eq!(output, Some(PhysAddr::literal(0x4000_0000 + offset)));
            // In a set exactly where a whole aligned one fits.
            let set_start = offset / Size::Contiguous.bytes() * Size::Contiguous.bytes();
            let fits =
                set_start >= first && set_start + Size::Contiguous.bytes() <= first + pages * 4096;
            assert_eq!(
                set,
                level == Level::L3 && largest < Level::L3 && fits,
                "{va}"
            );
        }
    }
    // Not where input and output are aligned differently.
    let mut arena = Arena::new();
    let mut tree = tree(&mut arena);
    tree.map_offline(
        range(0, 64),
        PhysAddr::literal(0x4000_1000),
        Attributes::KERNEL_DATA,
        Level::L1,
    )
    .unwrap();
    assert!(leaves(&tree, range(0, 64)).iter().all(|(_, _, set)| !set));
}

#[test]
fn sizes() {
    assert_eq!(Size::largest_in(1), Size::Page);
    assert_eq!(Size::largest_in(15), Size::Page);
    assert_eq!(Size::largest_in(16), Size::Contiguous);
    assert_eq!(Size::largest_in(511), Size::Contiguous);
    assert_eq!(Size::largest_in(u64::MAX), Size::Block);
    assert_eq!(Size::ALL.map(Size::bytes), [2 << 20, 64 << 10, 4 << 10]);
}
