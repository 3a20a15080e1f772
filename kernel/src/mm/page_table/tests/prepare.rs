//! Making the tables that are missing: how many, in which order, behind which barriers, and what is
//! left where there is no memory for them.

use super::*;

/// Ranges that lie across the edges of tables of every level, at the bottom and at the top.
const EDGES: [(u64, u64); 8] = [
    (0xffff_8000_8000_0000, 1),
    (0xffff_8000_8000_0000, 512),
    (0xffff_8000_801f_f000, 2),
    (0xffff_8000_3fff_f000, 2),
    (0xffff_807f_ffff_f000, 2),
    (0xffff_ffff_ffff_f000, 1),
    (0xffff_ffff_ffdf_f000, 513),
    (0xffff_0000_0000_0000, 513),
];

#[test]
fn tables_are_made_exactly_where_they_are_missing() {
    let _machine = Machine::take();
    for (start, pages) in EDGES.into_iter().take(if cfg!(miri) { 3 } else { 8 }) {
        let range = range(start, pages);
        let mut arena = Arena::new();
        let mut tree = tree(&mut arena);
        tree.prepare(range).unwrap();
        assert_eq!(tree.memory().used(), 1 + tables_for(range), "{range:?}");
        assert_eq!(tree.memory().zeroed(), tree.memory().used());
        assert!(mapped(&tree).is_empty(), "{range:?}");
        // A second time nothing is missing.
        tree.prepare(range).unwrap();
        assert_eq!(tree.memory().used(), 1 + tables_for(range));
    }
}

#[test]
fn tables_that_are_there_are_not_made_again() {
    let _machine = Machine::take();
    let mut arena = Arena::new();
    let mut tree = tree(&mut arena);
    tree.prepare(range(0xffff_8000_8020_0000, 1)).unwrap();
    assert_eq!(tree.memory().used(), 4);
    // Two more leaf tables, one on each side of the one that is there.
    tree.prepare(range(0xffff_8000_8000_0000, 3 * 512)).unwrap();
    assert_eq!(tree.memory().used(), 6);
    assert_eq!(tree.memory().calls(), [1, 3, 2]);
}

#[test]
fn each_batch_of_tables_is_zeroed_ordered_and_linked_behind_one_barrier() {
    let machine = Machine::take();
    // 130 leaf tables and one of level 2, and one of level 1.
    let leaf_tables = if cfg!(miri) { 66 } else { 130 };
    let range = range(0xffff_8000_8000_0000, leaf_tables * 512);
    let mut arena = Arena::new();
    let mut tree = tree(&mut arena);
    let ((), events) = machine.record(|| tree.prepare(range).unwrap());
    let batches = &tree.memory().calls()[1..];
    assert_eq!(batches.iter().sum::<usize>(), tables_for(range));
    assert!(batches.iter().all(|n| *n <= BATCH), "{batches:?}");
    assert_eq!(batches.len(), tables_for(range).div_ceil(BATCH));
    let mut expected = Vec::new();
    for batch in batches {
        expected.push(Step::DsbIshst);
        expected.extend(std::iter::repeat_n((), *batch).map(|()| Step::Valid(Level::L0)));
    }
    let links = steps(&events).into_iter().map(|step| match step {
        // Whatever level the link is of.
        Step::Valid(_) => Step::Valid(Level::L0),
        other => other,
    });
    assert_eq!(links.collect::<Vec<_>>(), expected);
}

#[test]
fn a_batch_that_ends_in_mid_range_goes_on_where_it_stopped() {
    let _machine = Machine::take();
    // With every second leaf table there already, in an order of its own.
    let tables = if cfg!(miri) { 70 } else { 300 };
    let whole = range(0xffff_8000_8000_0000, tables * 512);
    let mut arena = Arena::new();
    let mut tree = tree(&mut arena);
    for n in (0..tables).step_by(2) {
        tree.prepare(range(0xffff_8000_8000_0000 + n * (2 << 20), 1))
            .unwrap();
    }
    tree.prepare(whole).unwrap();
    assert_eq!(tree.memory().used(), 1 + tables_for(whole));
    let missing = |va: VirtAddr| tree.leaf_table(va).unwrap().is_none();
    let mut starts = (0..tables).map(|n| whole.start() + n * (2 << 20));
    assert_eq!(starts.find(|va| missing(*va)), None);
}

#[test]
fn links_are_not_queued_and_come_after_what_is() {
    let machine = Machine::take();
    machine.choose(lazy::Model::TwoCounters, lazy::Backend::Stores);
    let mut arena = Arena::new();
    let mut tree = tree(&mut arena);
    map(&mut tree, range(0xffff_8000_8000_0000, 1)).unwrap();
    let steps = machine.steps(|| {
        let section = lazy::section();
        let first = range(0xffff_8000_8000_0000, 1);
        let take = |leaf: &Leaf| {
            leaf.take();
            Ok(())
        };
        tree.change_leaves(&section, first, take).unwrap();
        tree.prepare(range(0xffff_8000_8020_0000, 1)).unwrap();
    });
    let expected = [
        Step::DsbIshst,
        Step::Invalid(Level::L3),
        Step::Valid(Level::L2),
    ];
    assert_eq!(steps, expected);
}

#[test]
fn running_out_of_tables_leaves_a_tree_that_works() {
    let _machine = Machine::take();
    // Two batches, of which the second is not to be had.
    let tables = if cfg!(miri) { 66 } else { 100 };
    let wanted = range(0xffff_8000_8000_0000, tables * 512);
    let mut arena = Arena::with(1 + BATCH);
    let mut tree = tree(&mut arena);
    assert_eq!(map(&mut tree, wanted), Err(Error::OutOfMemory));
    assert!(
        mapped(&tree).is_empty(),
        "no leaf is changed before all tables are there"
    );
    assert_eq!(tree.memory().used(), 1 + BATCH, "those stay");
    // What is there can be used, and when there is memory again, so can the rest.
    map(&mut tree, range(0xffff_8000_8000_0000, 4)).unwrap();
    tree.memory.allow(1000);
    map(&mut tree, range(0xffff_8000_8000_4000, 6)).unwrap();
    // A table that the second batch would have had.
    map(&mut tree, range(0xffff_8000_8820_0000, 7)).unwrap();
    assert_eq!(mapped(&tree).len(), 10 + 7);
    tree.prepare(wanted).unwrap();
    assert_eq!(tree.memory().used(), 1 + tables_for(wanted));
}

#[test]
fn all_or_no_tables_of_a_batch_are_taken() {
    let machine = Machine::take();
    let mut arena = Arena::with(1 + 2);
    let mut tree = tree(&mut arena);
    let (result, events) = machine.record(|| tree.prepare(range(0xffff_8000_8000_0000, 1)));
    assert_eq!(result, Err(Error::OutOfMemory));
    assert!(events.is_empty());
    assert!(PageTable::create(&mut Arena::with(0)).is_err());
}
