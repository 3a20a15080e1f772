//! The page tables, on the host: tables over an arena, judged by a plain map, by the recorded
//! events, and by another crate.

mod differential;
#[cfg(not(miri))]
mod model;
mod prepare;
mod random;
mod runs;

use super::*;
use crate::mm::host_tests::{Arena, Machine, Step, steps};
use std::collections::{BTreeMap, BTreeSet};
use vmsa::{Attributes, Kind, PAGE_SIZE};

/// A tree over `arena`.
fn tree(arena: &mut Arena) -> PageTable<&mut Arena> {
    PageTable::create(arena).unwrap()
}

fn range(start: u64, pages: u64) -> PageRange {
    PageRange::new(VirtAddr::literal(start), pages).unwrap()
}

fn leaf(pa: u64) -> Descriptor {
    Descriptor::leaf(Level::L3, PhysAddr::literal(pa), Attributes::KERNEL_DATA).unwrap()
}

/// Maps each page of `range` to a frame that can be told from its number.
fn map(tree: &mut PageTable<&mut Arena>, range: PageRange) -> Result<(), Error> {
    tree.apply_to_page_range(range, |leaf| {
        let old = leaf.get();
        if !old.is_none() {
            return Err(Error::Occupied(leaf.va()));
        }
        leaf.set(old, frame_of(leaf.va()));
        Ok(())
    })
}

/// The leaf that [`map`] makes.
fn frame_of(va: VirtAddr) -> Descriptor {
    leaf(va.as_u64() & 0x0000_7fff_ffff_f000)
}

/// The pages that the tree maps, by walking it from the root without its own walks.
fn mapped(tree: &PageTable<&mut Arena>) -> BTreeMap<u64, Descriptor> {
    fn go(
        tree: &PageTable<&mut Arena>,
        table: Frame,
        level: Level,
        base: u64,
        all: &mut BTreeMap<u64, Descriptor>,
    ) {
        for (index, entry) in tree.memory().in_use(table) {
            let va = base + index as u64 * level.bytes();
            match (entry.kind(level), level.next()) {
                (Kind::Table(next), Some(below)) => {
                    go(tree, Frame::containing(next), below, va, all);
                }
                _ => {
                    all.insert(va, entry);
                }
            }
        }
    }
    let mut all = BTreeMap::new();
    go(tree, tree.root(), Level::L0, 0xffff << 48, &mut all);
    all
}

/// Tables that `range` needs, the root not among them.
fn tables_for(range: PageRange) -> usize {
    [Level::L0, Level::L1, Level::L2]
        .map(|level| {
            let first = range.start().as_u64() >> level.shift();
            let last = range.last_byte().as_u64() >> level.shift();
            usize::try_from(last - first + 1).unwrap()
        })
        .iter()
        .sum()
}

#[test]
fn blocks_are_refused_and_left_alone() {
    let machine = Machine::take();
    for (level, bytes) in [(Level::L1, 1 << 30), (Level::L2, 2 << 20)] {
        let mut arena = Arena::new();
        let mut tree = tree(&mut arena);
        let start = VirtAddr::literal(0xffff_8000_4000_0000);
        let block = PageRange::new(start, bytes / PAGE_SIZE).unwrap();
        let pa = PhysAddr::literal(0x4000_0000);
        tree.map_offline(block, pa, Attributes::KERNEL_DATA, Level::L1)
            .unwrap();
        let before = mapped(&tree);
        let inside = PageRange::new(start + 5 * PAGE_SIZE, 3).unwrap();
        let (result, events) = machine.record(|| {
            let prepared = tree.prepare(inside);
            let changed =
                tree.apply_to_existing_page_range(inside, |_| panic!("no leaf is there to change"));
            (prepared, changed)
        });
        let refused = Err(Error::Block(inside.start()));
        assert_eq!(result, (refused, refused), "{level}");
        assert!(steps(&events).is_empty());
        assert_eq!(mapped(&tree), before);
        // It is seen by who only looks.
        let expected = Descriptor::leaf(level, pa, Attributes::KERNEL_DATA).unwrap();
        assert_eq!(tree.leaf(inside.start()), Some((expected, level)));
        let mut seen = Vec::new();
        tree.visit(inside, &mut |va, level, entry| {
            seen.push((va, level, entry));
        });
        assert_eq!(seen, [(start, level, expected)]);
    }
}

#[test]
fn a_mapping_stores_its_leaves_in_order_and_pays_once() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let mut tree = tree(&mut arena);
    let range = range(0xffff_8000_801f_e000, 4);
    tree.prepare(range).unwrap();
    let (result, events) = machine.record(|| map(&mut tree, range));
    assert_eq!(result, Ok(()));
    let stores: Vec<_> = events
        .iter()
        .filter_map(|event| match event.kind {
            crate::trace::Kind::Store {
                va,
                level: Level::L3,
                old,
                new,
                ..
            } => Some((va, old, new)),
            _ => None,
        })
        .collect();
    let expected: Vec<_> = (0..4)
        .map(|n| range.page(n))
        .map(|va| (va, Descriptor::INVALID, frame_of(va)))
        .collect();
    assert_eq!(stores, expected);
    let steps = steps(&events);
    assert_eq!(steps[4..], [Step::DsbIshst, Step::Isb]);
    // And each store was of the entry that the walker would read.
    for va in (0..4).map(|n| range.page(n)) {
        assert_eq!(tree.leaf(va), Some((frame_of(va), Level::L3)));
    }
}

#[test]
fn an_error_stops_the_walk_and_closes_the_section() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let mut tree = tree(&mut arena);
    let taken = range(0xffff_8000_8000_3000, 1);
    map(&mut tree, taken).unwrap();
    let (result, events) =
        machine.record(|| map(&mut tree, range(0xffff_8000_8000_0000, 8)).unwrap_err());
    assert_eq!(result, Error::Occupied(taken.start()));
    assert!(!lazy::is_active());
    let stored = Step::Valid(Level::L3);
    // What was mapped before it stays, and is guaranteed.
    assert_eq!(
        steps(&events),
        [stored, stored, stored, Step::DsbIshst, Step::Isb]
    );
    assert_eq!(mapped(&tree).len(), 4);
}

#[test]
fn leaves_without_a_table_are_passed_over() {
    let _machine = Machine::take();
    let mut arena = Arena::new();
    let mut tree = tree(&mut arena);
    map(&mut tree, range(0xffff_8000_8000_0000, 1)).unwrap();
    map(&mut tree, range(0xffff_8000_8060_0000, 1)).unwrap();
    let used = tree.memory().used();
    let mut seen = BTreeSet::new();
    let wide = range(0xffff_8000_801f_f000, 3 * 512);
    tree.apply_to_existing_page_range(wide, |leaf| {
        assert!(seen.insert(leaf.va()));
        Ok(())
    })
    .unwrap();
    // The last page of the first table, and the third table but for its last page.
    assert_eq!(seen.len(), 1 + 511);
    assert_eq!(tree.memory().used(), used);
}

#[test]
fn a_leaf_that_is_taken_is_returned_and_cleared() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let mut tree = tree(&mut arena);
    let all = range(0xffff_8000_8000_0000, 5);
    map(&mut tree, all).unwrap();
    let mut taken = Vec::new();
    let steps = machine.steps(|| {
        let section = lazy::section();
        tree.change_leaves(&section, range(0xffff_8000_8000_1000, 2), |leaf| {
            taken.push(leaf.take());
            Ok(())
        })
        .unwrap();
    });
    assert_eq!(taken, [frame_of(all.page(1)), frame_of(all.page(2))]);
    assert_eq!(steps, [Step::Invalid(Level::L3); 2], "nothing is owed");
    let left: Vec<_> = mapped(&tree).into_keys().collect();
    let expected = [0, 3, 4].map(|n| all.page(n).as_u64());
    assert_eq!(left, expected);
}

#[test]
fn visits_see_every_entry_that_is_not_zero_once() {
    let _machine = Machine::take();
    let mut arena = Arena::new();
    let mut tree = tree(&mut arena);
    for (start, pages) in [
        (0xffff_0000_0000_0000, 2),
        (0xffff_8000_801f_f000, 2),
        (0xffff_ffff_ffff_f000, 1),
    ] {
        map(&mut tree, range(start, pages)).unwrap();
    }
    // One that is not valid, but not zero: it was valid once.
    let first = VirtAddr::literal(0xffff_0000_0000_0000);
    tree.apply_to_existing_page_range(PageRange::new(first, 1).unwrap(), |leaf| {
        let old = leaf.get();
        leaf.set(old, old.with_valid(false));
        Ok(())
    })
    .unwrap();
    let everything = range(0xffff_0000_0000_0000, 1 << 36);
    let mut seen = BTreeMap::new();
    tree.visit(everything, &mut |va, level, entry| {
        assert_eq!(level, Level::L3);
        assert_eq!(seen.insert(va.as_u64(), entry), None, "{va} twice");
    });
    assert_eq!(seen, mapped(&tree));
    assert_eq!(seen.len(), 5);
    assert!(!seen[&first.as_u64()].is_valid());
    // A part of it.
    let mut part = Vec::new();
    tree.visit(range(0xffff_8000_8020_0000, 1), &mut |va, _, _| {
        part.push(va.as_u64());
    });
    assert_eq!(part, [0xffff_8000_8020_0000]);
    // One that ends early in a later table than it starts in.
    part.clear();
    tree.visit(range(0xffff_8000_801f_e000, 3), &mut |va, _, _| {
        part.push(va.as_u64());
    });
    assert_eq!(part, [0xffff_8000_801f_f000, 0xffff_8000_8020_0000]);
}

#[test]
fn a_visit_of_tables_goes_in_only_where_it_is_told_to() {
    let _machine = Machine::take();
    let mut arena = Arena::new();
    let mut tree = tree(&mut arena);
    map(&mut tree, range(0xffff_8000_8000_0000, 1)).unwrap();
    map(&mut tree, range(0xffff_8000_c000_0000, 1)).unwrap();
    let mut tables = Vec::new();
    let mut leaves = 0;
    tree.visit_tables(
        range(0xffff_8000_0000_0000, 1 << 20),
        &mut |va, level, _, table| {
            match table {
                Some(_) => tables.push((level, va.as_u64())),
                None => leaves += 1,
            }
            va.as_u64() != 0xffff_8000_c000_0000 || level != Level::L1
        },
    );
    let expected = [
        (Level::L0, 0xffff_8000_0000_0000),
        (Level::L1, 0xffff_8000_8000_0000),
        (Level::L2, 0xffff_8000_8000_0000),
        (Level::L1, 0xffff_8000_c000_0000),
    ];
    assert_eq!(tables, expected);
    assert_eq!(leaves, 1);
}

#[test]
fn a_leaf_is_found_only_below_its_tables() {
    let _machine = Machine::take();
    let mut arena = Arena::new();
    let mut tree = tree(&mut arena);
    let at = |va| VirtAddr::new(va).unwrap();
    assert_eq!(tree.leaf(at(0xffff_8000_8000_0000)), None);
    map(&mut tree, range(0xffff_8000_8000_0000, 1)).unwrap();
    assert_eq!(
        tree.leaf(at(0xffff_8000_8000_0fff)),
        Some((frame_of(at(0xffff_8000_8000_0000)), Level::L3))
    );
    assert_eq!(
        tree.leaf(at(0xffff_8000_8000_1000)),
        Some((Descriptor::INVALID, Level::L3)),
        "the table is there"
    );
    assert_eq!(tree.leaf(at(0xffff_8000_8020_0000)), None);
}

#[test]
fn offline_changes_reach_what_is_there_and_owe_nothing() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let mut tree = tree(&mut arena);
    let pages = range(0xffff_0000_4000_0000, 4);
    let pa = PhysAddr::literal(0x4000_0000);
    let steps = machine.steps(|| {
        tree.map_offline(pages, pa, Attributes::KERNEL_DATA, Level::L3)
            .unwrap();
        tree.change_offline(range(0xffff_0000_4000_1000, 2), |e| e.with_valid(false));
    });
    assert!(
        steps
            .iter()
            .all(|step| matches!(step, Step::Valid(_) | Step::Invalid(_))),
        "no barrier: {steps:?}"
    );
    let valid: Vec<_> = mapped(&tree).values().map(|e| e.is_valid()).collect();
    assert_eq!(valid, [true, false, false, true]);
    // A page is mapped once.
    assert_eq!(
        tree.map_offline(pages, pa, Attributes::KERNEL_DATA, Level::L3),
        Err(Error::Occupied(pages.start()))
    );
}

#[test]
fn one_table_serves_every_entry_that_it_is_linked_at() {
    let _machine = Machine::take();
    let mut arena = Arena::new();
    let mut tree = tree(&mut arena);
    let shared = tree.new_table().unwrap();
    tree.memory().write(shared, 7, leaf(0x4000_0000));
    let range = range(0xffff_6000_0000_0000, 3 * 512);
    tree.link_offline(range, Level::L2, shared).unwrap();
    assert_eq!(tree.memory().used(), 4, "root, two above, the shared one");
    for n in 0..3 {
        let va = range.start() + n * (2 << 20) + 7 * PAGE_SIZE;
        assert_eq!(tree.leaf(va), Some((leaf(0x4000_0000), Level::L3)));
    }
    assert_eq!(
        tree.link_offline(range, Level::L2, shared),
        Err(Error::Occupied(range.start()))
    );
}
