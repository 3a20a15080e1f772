//! Links made by several CPUs at once, in every order: loom runs each interleaving of their loads,
//! stores and compare-exchanges, with every value that a relaxed load may give.

use super::*;
use crate::{
    arch::{entry::Entries, host::Word},
    mm::page_alloc::OutOfMemory,
};
use loom::{model::Builder, sync::atomic::AtomicU64, thread};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64 as Count, Ordering::Relaxed},
    },
};

/// Neighbours that need the same tables.
const PAGES: [u64; 3] = [
    0xffff_8000_8000_0000,
    0xffff_8000_8000_1000,
    0xffff_8000_8000_2000,
];

/// Memory for tables that CPUs share. What is given out and what came back is no part of the model.
struct Shared {
    words: HashMap<PhysAddr, &'static AtomicU64>,
    given: Count,
    back: Mutex<Vec<Frame>>,
}

fn frame(number: u64) -> Frame {
    Frame::from_number(number).unwrap()
}

impl Shared {
    /// Room for so many tables, the root among them. Only the entries that lead to [`PAGES`] exist.
    fn new(tables: u64) -> Self {
        let mut words = HashMap::new();
        for (table, va) in (0..tables).flat_map(|table| PAGES.map(|va| (table, va))) {
            for level in [Level::L0, Level::L1, Level::L2, Level::L3] {
                let index = level.index(VirtAddr::literal(va)) as u64;
                words
                    .entry(frame(table).start() + index * 8)
                    .or_insert_with(|| &*Box::leak(Box::new(AtomicU64::new(0))));
            }
        }
        Self {
            words,
            given: Count::new(1),
            back: Mutex::default(),
        }
    }
}

impl TableMemory for &Shared {
    fn allocate(&mut self, frames: &mut [Frame]) -> Result<(), OutOfMemory> {
        for slot in frames {
            *slot = frame(self.given.fetch_add(1, Relaxed));
        }
        Ok(())
    }

    fn entry(&self, table: Frame, index: usize) -> Entry {
        let pa = table.start() + index as u64 * 8;
        Entry::of_word(Word::Modelled(self.words[&pa]), pa)
    }

    fn entries(&self, _: Frame, _: usize, _: usize) -> Entries {
        unreachable!("loom's words do not lie side by side")
    }

    fn zero(&mut self, _: Frame) {}

    fn free(&mut self, tables: &[Frame]) {
        self.back.lock().unwrap().extend(tables);
    }
}

/// What one CPU does: makes the tables that it finds missing, and maps its page.
fn map_one(shared: &Shared, va: u64) {
    let mut tree = PageTable::new(frame(0), shared);
    tree.prepare(range(va, 1)).unwrap();
    let va = VirtAddr::literal(va);
    let table = tree.leaf_table(va).unwrap().expect("it was made");
    let entry = shared.entry(table, Level::L3.index(va));
    entry.store(va, Level::L3, Descriptor::INVALID, frame_of(va));
}

/// Every page is mapped, and each table that was given out is linked once or came back once.
fn check(shared: &Shared, cpus: usize) {
    let tree = PageTable::new(frame(0), shared);
    let mut used = shared.back.lock().unwrap().clone();
    for va in PAGES.into_iter().take(cpus).map(VirtAddr::literal) {
        let mut table = tree.root();
        for level in [Level::L0, Level::L1, Level::L2] {
            table = tree.next_table(table, level, va).unwrap().expect("linked");
            if va.as_u64() == PAGES[0] {
                used.push(table);
            }
        }
        let entry = shared.entry(table, Level::L3.index(va));
        assert_eq!(entry.load(), frame_of(va), "{va} is lost");
    }
    used.sort_unstable_by_key(|frame| frame.number());
    let given = 1..shared.given.load(Relaxed);
    assert_eq!(used, given.map(frame).collect::<Vec<_>>());
}

/// Has so many CPUs map a neighbour each, in every order in which none of them is preempted more
/// than `preemptions` times, where that is limited.
fn race(cpus: usize, preemptions: Option<usize>) {
    let _machine = Machine::take();
    let mut model = Builder::new();
    model.preemption_bound = preemptions;
    model.check(move || {
        let shared = Arc::new(Shared::new(1 + 3 * cpus as u64));
        let others: Vec<_> = (1..cpus)
            .map(|cpu| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || map_one(&shared, PAGES[cpu]))
            })
            .collect();
        map_one(&shared, PAGES[0]);
        others.into_iter().for_each(|other| other.join().unwrap());
        check(&shared, cpus);
    });
}

#[test]
fn two_cpus_that_lack_the_same_tables_in_every_order() {
    race(2, None);
}

#[test]
fn three_cpus_that_lack_the_same_tables_in_every_order_with_two_preemptions() {
    race(3, Some(2));
}
