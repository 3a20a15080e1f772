//! The sequence of a flush, on the host: which instructions, in which order.

use super::*;
use crate::{
    mm::host_tests::{Machine, Step},
    task,
    trace::Kind,
};
use Step::{DsbIsh, DsbIshst, Isb, Tlbi};
use vmsa::{
    Level, VirtAddr,
    tlbi::{MAX_TLBI_RANGE_PAGES, Operation},
};

/// `pages` pages of vmalloc space.
fn range(pages: u64) -> PageRange {
    PageRange::new(VirtAddr::literal(0xffff_8000_8000_0000), pages).unwrap()
}

#[test]
fn a_flush_is_the_whole_sequence() {
    let machine = Machine::take();
    let steps = machine.steps(|| flush_kernel_range(range(1), Removed::Leaves));
    assert_eq!(steps, [DsbIshst, Tlbi("vaale1is"), DsbIsh, Isb]);
    let steps = machine.steps(|| flush_kernel_range(range(1), Removed::Tables));
    assert_eq!(steps, [DsbIshst, Tlbi("vaae1is"), DsbIsh, Isb]);
}

#[test]
fn many_ranges_share_the_barriers() {
    let machine = Machine::take();
    let steps = machine.steps(|| {
        let mut flush = Flush::begin(4);
        flush.add(range(1), Removed::Leaves);
        flush.add(range(2), Removed::Tables);
        flush.add(range(1), Removed::Leaves);
        flush.finish();
    });
    let operations = [Tlbi("vaale1is"), Tlbi("rvaae1is"), Tlbi("vaale1is")];
    assert_eq!(steps[0], DsbIshst);
    assert_eq!(steps[1..4], operations);
    assert_eq!(steps[4..], [DsbIsh, Isb]);
}

#[test]
fn operands_name_the_pages_and_the_level_where_the_cpu_takes_hints() {
    let machine = Machine::take();
    for (ttl, removed, expected) in [
        (true, Removed::Leaves, Some(Level::L3)),
        (true, Removed::Tables, None),
        (false, Removed::Leaves, None),
        (false, Removed::Tables, None),
    ] {
        machine.has(true, ttl);
        let (_, events) = machine.record(|| flush_kernel_range(range(1), removed));
        let operand = events.iter().find_map(|event| match event.kind {
            Kind::Tlbi(Operation::Vaale1is(o) | Operation::Vaae1is(o)) => Some(o),
            _ => None,
        });
        let operand = operand.expect("one page is one operation by address");
        assert_eq!(operand.ttl(), expected, "{removed:?}");
        assert_eq!(operand.va(), Some(range(1).start()));
    }
}

#[test]
fn without_tlbi_by_range_there_is_one_operation_a_page() {
    let machine = Machine::take();
    machine.has(false, false);
    let steps = machine.steps(|| flush_kernel_range(range(7), Removed::Leaves));
    assert_eq!(steps.len(), 3 + 7);
    assert!(steps[1..8].iter().all(|step| *step == Tlbi("vaale1is")));
}

#[test]
fn above_a_limit_everything_goes_at_once() {
    let machine = Machine::take();
    let everything = [DsbIshst, Tlbi("vmalle1is"), DsbIsh, Isb];
    for (by_range, most) in [(true, MAX_TLBI_RANGE_PAGES), (false, 511)] {
        machine.has(by_range, true);
        let pages = if cfg!(miri) { most.min(600) } else { most };
        let steps = machine.steps(|| flush_kernel_range(range(pages), Removed::Leaves));
        assert!(!steps.contains(&Tlbi("vmalle1is")), "{by_range}");
        let steps = machine.steps(|| flush_kernel_range(range(most + 1), Removed::Leaves));
        assert_eq!(steps, everything, "{by_range}");
    }
}

#[test]
fn the_sum_of_the_ranges_decides() {
    let machine = Machine::take();
    machine.has(false, true);
    let flush = |more| {
        machine.steps(|| {
            let mut flush = Flush::begin(300 + more);
            flush.add(range(300), Removed::Leaves);
            flush.add(range(more), Removed::Tables);
            flush.finish();
        })
    };
    assert_eq!(flush(212), [DsbIshst, Tlbi("vmalle1is"), DsbIsh, Isb]);
    assert_eq!(flush(211).len(), 3 + 511);
}

#[test]
fn a_flush_settles_what_is_owed_but_not_from_an_interrupt() {
    let _machine = Machine::take();
    let owed = &task::current().deferred.barriers;
    owed.set(true);
    {
        let _handler = task::enter_interrupt();
        flush_kernel_range(range(1), Removed::Leaves);
    }
    assert!(owed.get(), "the handler does not know what the task owes");
    flush_kernel_range(range(1), Removed::Leaves);
    assert!(!owed.get());
}
