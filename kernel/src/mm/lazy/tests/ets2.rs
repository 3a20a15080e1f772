//! With FEAT_ETS2 a leaf for data owes nothing, and one that can be executed owes what it always
//! did.

use super::*;
use crate::mm::tlb::Removed;

const EXECUTABLE: Attributes = Attributes::KERNEL_TEXT;

/// A leaf with these attributes.
fn leaf(attributes: Attributes) -> Descriptor {
    Descriptor::leaf(Level::L3, PhysAddr::literal(0x4000_0000), attributes).unwrap()
}

#[test]
fn a_leaf_for_data_is_a_store_and_nothing_else() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let leaves = Leaves::new(&mut arena);
    count_on_ets2(true);
    for model in Model::ALL {
        for backend in Backend::ALL {
            machine.choose(model, backend);
            let steps = machine.steps(|| {
                leaves.map(0);
                let _section = section();
                leaves.queue(1, leaf(Attributes::KERNEL_DATA));
                assert!(!owed(), "{model} {backend}");
            });
            assert_eq!(steps, [STORE, STORE], "{model} {backend}");
            leaves.unmap(0);
            leaves.unmap(1);
        }
    }
}

#[test]
fn a_leaf_that_can_be_executed_keeps_its_barriers() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let leaves = Leaves::new(&mut arena);
    count_on_ets2(true);
    for backend in Backend::ALL {
        machine.choose(Model::TwoCounters, backend);
        let steps = machine.steps(|| leaves.store(0, leaf(EXECUTABLE)));
        assert_eq!(steps, EAGER, "{backend}");
        // In a section: one pair for all, behind the last store.
        let steps = machine.steps(|| {
            let _section = section();
            leaves.queue(1, leaf(EXECUTABLE));
            leaves.queue(2, leaf(Attributes::KERNEL_DATA));
            assert_eq!(owed(), matches!(backend, Backend::Barriers | Backend::Tlbi));
        });
        let expected: &[Step] = match backend {
            Backend::Eager => &[STORE, DsbIshst, Isb, STORE],
            _ => &[STORE, STORE, DsbIshst, Isb],
        };
        assert_eq!(steps, expected, "{backend}");
        (0..3).for_each(|index| leaves.unmap(index));
    }
}

#[test]
fn what_el0_alone_can_execute_counts_as_executable() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let leaves = Leaves::new(&mut arena);
    count_on_ets2(true);
    let user = Attributes::KERNEL_DATA - Attributes::UXN;
    assert_eq!(machine.steps(|| leaves.store(0, leaf(user))), EAGER);
    leaves.unmap(0);
}

#[test]
fn a_flush_has_all_its_parts() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let leaves = Leaves::new(&mut arena);
    count_on_ets2(true);
    leaves.map(0);
    let steps = machine.steps(|| {
        leaves.unmap(0);
        let range = PageRange::new(page(0), 1).unwrap();
        crate::mm::tlb::flush_kernel_range(range, Removed::Leaves);
    });
    assert_eq!(steps, [CLEAR, DsbIshst, Tlbi("vaale1is"), DsbIsh, Isb]);
}
