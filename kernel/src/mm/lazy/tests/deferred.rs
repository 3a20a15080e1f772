//! The backends that put off more than barriers: flushes, and the stores themselves.

use super::*;
use crate::mm::tlb::{Flush, Removed, flush_kernel_range};
use crate::task::deferred::{PENDING, QUEUE};

/// The barriers and the TLBI of one flush of a page.
const FLUSH: [Step; 4] = [DsbIshst, Tlbi("vaale1is"), DsbIsh, Isb];

fn flush(index: usize) {
    flush_kernel_range(PageRange::new(page(index), 1).unwrap(), Removed::Leaves);
}

/// Chooses the backend, and maps the pages 0 to 3.
fn four_pages(machine: &Machine, leaves: &Leaves<'_>, backend: Backend) {
    machine.choose(Model::TwoCounters, backend);
    (0..4).for_each(|index| leaves.map(index));
}

#[test]
fn flushes_of_a_section_become_one_sequence_at_its_end() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let leaves = Leaves::new(&mut arena);
    four_pages(&machine, &leaves, Backend::Tlbi);
    let steps = machine.steps(|| {
        let _section = section();
        leaves.map(7);
        for index in 0..3 {
            leaves.unmap(index);
            flush(index);
        }
    });
    let tlbi = Tlbi("vaale1is");
    let expected = [
        &[STORE, CLEAR, CLEAR, CLEAR][..],
        &[DsbIshst, tlbi, tlbi, tlbi, DsbIsh, Isb],
    ];
    assert_eq!(steps, expected.concat(), "its ISB pays for the store, too");
    assert!(task::current().deferred.is_empty());
}

#[test]
fn without_a_section_in_a_pause_and_in_a_handler_a_flush_is_at_once() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let leaves = Leaves::new(&mut arena);
    four_pages(&machine, &leaves, Backend::Tlbi);
    let unmap_and_flush = |index| {
        machine.steps(|| {
            leaves.unmap(index);
            flush(index);
        })
    };
    let expected = [&[CLEAR][..], &FLUSH].concat();
    assert_eq!(unmap_and_flush(0), expected);
    let _section = section();
    {
        let _pause = paused();
        assert_eq!(unmap_and_flush(1), expected);
    }
    let _handler = task::enter_interrupt();
    assert_eq!(unmap_and_flush(2), expected);
}

#[test]
fn a_synchronous_flush_is_synchronous_in_a_section() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let leaves = Leaves::new(&mut arena);
    for backend in [Backend::Tlbi, Backend::Stores] {
        four_pages(&machine, &leaves, backend);
        let _section = section();
        let steps = machine.steps(|| {
            leaves.queue(0, Descriptor::INVALID);
            let mut flush = Flush::begin(1);
            flush.add(PageRange::new(page(0), 1).unwrap(), Removed::Leaves);
            flush.finish();
        });
        assert_eq!(steps, [&[CLEAR][..], &FLUSH].concat(), "{backend}");
    }
}

#[test]
fn an_address_is_flushed_before_it_is_used_again() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let leaves = Leaves::new(&mut arena);
    four_pages(&machine, &leaves, Backend::Tlbi);
    let _section = section();
    let steps = machine.steps(|| {
        leaves.unmap(0);
        flush(0);
        // Another address waits for nothing.
        leaves.map(5);
        leaves.map(0);
    });
    assert_eq!(steps, [&[CLEAR, STORE][..], &FLUSH, &[STORE]].concat());
}

#[test]
fn a_handler_flushes_the_page_that_it_uses_and_leaves_the_list_alone() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let leaves = Leaves::new(&mut arena);
    four_pages(&machine, &leaves, Backend::Tlbi);
    let steps = machine.steps(|| {
        let _section = section();
        leaves.unmap(0);
        flush(0);
        let _handler = task::enter_interrupt();
        leaves.map(0);
        assert_eq!(task::current().deferred.flushes.len(), 1);
    });
    assert_eq!(
        steps,
        [&[CLEAR][..], &FLUSH, &EAGER, &FLUSH].concat(),
        "the handler's, its store, and the task's own"
    );
}

#[test]
fn a_handler_flushes_a_page_below_a_removed_table_with_the_table() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let leaves = Leaves::new(&mut arena);
    four_pages(&machine, &leaves, Backend::Tlbi);
    let steps = machine.steps(|| {
        let _section = section();
        flush_kernel_range(PageRange::new(page(0), 1).unwrap(), Removed::Tables);
        let _handler = task::enter_interrupt();
        leaves.map(0);
    });
    let tlbis: Vec<_> = steps.iter().filter(|s| matches!(s, Tlbi(_))).collect();
    assert_eq!(tlbis, [&Tlbi("vaae1is"); 2], "the handler's and the task's");
}

#[test]
fn a_full_list_of_flushes_flushes_and_drops_none() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let leaves = Leaves::new(&mut arena);
    machine.choose(Model::TwoCounters, Backend::Tlbi);
    let count = PENDING + 1;
    (0..count).for_each(|index| leaves.map(index));
    let steps = machine.steps(|| {
        let _section = section();
        for index in 0..count {
            leaves.unmap(index);
            flush(index);
        }
    });
    let tlbis = steps.iter().filter(|step| matches!(step, Tlbi(_))).count();
    let sequences = steps.iter().filter(|step| **step == DsbIsh).count();
    assert_eq!((tlbis, sequences), (count, 2));
}

/// An entry for a page.
fn valid() -> Descriptor {
    let pa = PhysAddr::literal(0x4000_0000);
    Descriptor::leaf(Level::L3, pa, Attributes::KERNEL_DATA).unwrap()
}

#[test]
fn stores_are_made_in_order_at_the_end_of_the_section() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let leaves = Leaves::new(&mut arena);
    four_pages(&machine, &leaves, Backend::Stores);
    let steps = machine.steps(|| {
        let section = section();
        leaves.queue(0, Descriptor::INVALID);
        leaves.queue(4, valid());
        let read = |index| load_leaf(leaves.memory.entry(leaves.table, index), page(index));
        assert_eq!(
            (read(0), read(4)),
            (valid(), Descriptor::INVALID),
            "what was there before"
        );
        drop(section);
        assert_eq!((read(0), read(4)), (Descriptor::INVALID, valid()));
    });
    assert_eq!(steps, [CLEAR, STORE, DsbIshst, Isb]);
}

#[test]
fn a_flush_and_a_take_drain_the_queue_first() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let leaves = Leaves::new(&mut arena);
    four_pages(&machine, &leaves, Backend::Stores);
    let _section = section();
    let steps = machine.steps(|| {
        leaves.queue(0, Descriptor::INVALID);
        flush(0);
    });
    assert_eq!(steps, [&[CLEAR][..], &FLUSH].concat());
    leaves.queue(9, valid());
    let entry = leaves.memory.entry(leaves.table, 9);
    assert_eq!(take_leaf(entry, page(9)), valid(), "what was queued last");
}

#[test]
fn a_full_queue_drains_and_is_counted() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let leaves = Leaves::new(&mut arena);
    machine.choose(Model::TwoCounters, Backend::Stores);
    let full = queue_full_count();
    let steps = machine.steps(|| {
        let _section = section();
        (0..=QUEUE).for_each(|index| leaves.queue(index, valid()));
        assert_eq!(task::current().deferred.stores.len(), 1);
    });
    let stores = [STORE; QUEUE + 1];
    assert_eq!(steps, [&stores[..], &[DsbIshst, Isb]].concat());
    assert_eq!(queue_full_count(), full + 1);
}
