//! Runs: whatever is decided once for many leaves, it comes to what one leaf at a time comes to.
//!
//! A recording has each leaf stored by itself, so the same walk is made twice: recorded and not.

use super::*;
use crate::{
    mm::{
        lazy::{Backend, Edit, Model},
        tlb::{Removed, flush_kernel_range},
    },
    task::{self, enter_interrupt},
    trace::Counts,
};

/// What a walk left, and what it cost.
#[derive(Debug, PartialEq)]
struct Outcome {
    result: Result<(), Error>,
    leaves: BTreeMap<u64, Descriptor>,
    /// What was cleared, as it was told.
    told: Vec<Descriptor>,
    counts: Counts,
    owed: bool,
    queued: usize,
}

/// The walks.
#[derive(Clone, Copy, Debug)]
enum Walk {
    Map(Attributes),
    Edit(Edit),
    Take,
}

/// Where it is made.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Nowhere,
    Section,
    Paused,
    Interrupt,
}

/// Twenty pages in two tables.
fn pages() -> PageRange {
    range(0xffff_8000_801f_6000, 20)
}

fn made(machine: &Machine, backend: Backend, place: Place, walk: Walk, recorded: bool) -> Outcome {
    machine.choose(Model::TwoCounters, backend);
    let mut arena = Arena::new();
    let mut tree = tree(&mut arena);
    tree.prepare(range(0xffff_8000_8000_0000, 1024)).unwrap();
    let frames: Vec<_> = (0..18)
        .map(|n| Frame::from_number(0x4_0000 + n).unwrap())
        .collect();
    if !matches!(walk, Walk::Map(_)) {
        // All but the last two, one of them invalid.
        let all = PageRange::new(pages().start(), 18).unwrap();
        let frames = frames.iter().copied();
        tree.map_pages(all, frames, Attributes::KERNEL_DATA)
            .unwrap();
        tree.set_leaf(pages().page(7), |old| old.with_valid(false))
            .unwrap();
    }
    let mut told = Vec::new();
    let task = task::current();
    let mut outcome = None;
    let mut go = || {
        let _handler = (place == Place::Interrupt).then(enter_interrupt);
        let outer = (place != Place::Nowhere).then(lazy::section);
        let paused = (place == Place::Paused).then(lazy::paused);
        if place == Place::Section && matches!(walk, Walk::Map(_)) {
            // Under the backend `tlbi` an address in each table waits for its flush.
            for n in [3, 12] {
                let page = PageRange::new(pages().page(n), 1).unwrap();
                flush_kernel_range(page, Removed::Leaves);
            }
        }
        let before = Counts::now();
        let section = (place == Place::Section).then(lazy::section);
        let own;
        let section = match &section {
            Some(section) => section,
            None => {
                own = lazy::section();
                &own
            }
        };
        let result = match walk {
            Walk::Map(attributes) => tree.map_pages(pages(), frames.iter().copied(), attributes),
            Walk::Edit(edit) => tree.edit_pages(section, pages(), edit),
            Walk::Take => tree.take_pages(section, pages(), |old| told.push(old)),
        };
        let counts = before.since();
        let owed = task.deferred.barriers.get();
        let queued = task.deferred.stores.len();
        outcome = Some((result, counts, owed, queued));
        drop((paused, outer));
    };
    if recorded {
        machine.record(&mut go);
    } else {
        go();
    }
    lazy::reset();
    let (result, counts, owed, queued) = outcome.unwrap();
    let leaves = mapped(&tree);
    Outcome {
        result,
        leaves,
        told,
        counts,
        owed,
        queued,
    }
}

#[test]
fn a_run_comes_to_what_its_leaves_come_to() {
    let machine = Machine::take();
    let walks = [
        Walk::Map(Attributes::KERNEL_DATA),
        Walk::Map((Attributes::KERNEL_DATA - Attributes::PXN) | Attributes::AP_READ_ONLY),
        Walk::Edit(Edit::attributes(
            Attributes::AP_READ_ONLY,
            Attributes::empty(),
        )),
        Walk::Edit(Edit::attributes(Attributes::empty(), Attributes::PXN)),
        Walk::Edit(Edit::valid(false)),
        Walk::Edit(Edit::valid(true)),
        Walk::Take,
    ];
    let places = [
        Place::Nowhere,
        Place::Section,
        Place::Paused,
        Place::Interrupt,
    ];
    for ets2 in [false, true] {
        lazy::count_on_ets2(ets2);
        for (backend, walk) in Backend::ALL
            .into_iter()
            .flat_map(|it| walks.map(|walk| (it, walk)))
        {
            for place in places {
                let singly = made(&machine, backend, place, walk, true);
                let together = made(&machine, backend, place, walk, false);
                assert_eq!(together, singly, "{backend} {place:?} {walk:?} ets2={ets2}");
            }
        }
    }
    lazy::count_on_ets2(false);
}

#[test]
fn a_run_ends_where_it_must() {
    let machine = Machine::take();
    for backend in Backend::ALL {
        machine.choose(Model::TwoCounters, backend);
        let mut arena = Arena::new();
        let mut tree = tree(&mut arena);
        let frames: Vec<_> = (0..20)
            .map(|n| Frame::from_number(0x4_0000 + n).unwrap())
            .collect();
        let data = Attributes::KERNEL_DATA;
        tree.prepare(pages()).unwrap();
        // One page is mapped already, in the second table.
        let taken = PageRange::new(pages().page(13), 1).unwrap();
        tree.map_pages(taken, frames.iter().copied(), data).unwrap();
        let before = Counts::now();
        let result = tree.map_pages(pages(), frames.iter().copied(), data);
        assert_eq!(result, Err(Error::Occupied(taken.start())));
        assert_eq!(before.since().stores, 13, "{backend}");
        assert_eq!(mapped(&tree).len(), 14);
        tree.take_mapped_pages(
            &lazy::section(),
            pages().start(),
            pages().pages(),
            (),
            |(), _| (),
        )
        .unwrap();
        assert!(mapped(&tree).is_empty());
        // Too few frames.
        let result = tree.map_pages(pages(), frames[..5].iter().copied(), data);
        assert_eq!(result, Err(Error::NotMapped(pages().page(5))));
        for n in 0..5 {
            let expected = Descriptor::page(frames[n as usize], data);
            assert_eq!(tree.leaf(pages().page(n)), Some((expected, Level::L3)));
        }
        assert!(
            task::current().deferred.is_empty(),
            "what was mapped is paid for"
        );
    }
}
