//! When the barriers are issued, on the host: every backend under every model.

mod deferred;
mod ets2;

use super::*;
use crate::mm::host_tests::{Arena, Machine, Step};
use crate::mm::page_table::TableMemory;
use Step::{DsbIsh, DsbIshst, Invalid, Isb, Tlbi, Valid};
use vmsa::{Attributes, Descriptor, Frame, Level, PageRange, PhysAddr, VirtAddr};

/// A leaf table, and what is stored in it.
struct Leaves<'a> {
    memory: &'a mut Arena,
    table: Frame,
}

impl<'a> Leaves<'a> {
    fn new(mut memory: &'a mut Arena) -> Self {
        let mut table = [Frame::containing(PhysAddr::literal(0))];
        memory.allocate(&mut table).unwrap();
        memory.zero(table[0]);
        Self {
            memory,
            table: table[0],
        }
    }

    /// Stores, by whatever the backend makes of it.
    fn queue(&self, index: usize, new: Descriptor) {
        let entry = self.memory.entry(self.table, index);
        store_leaf(entry, page(index), load_leaf(entry, page(index)), new);
    }

    /// Stores, by a backend that does so at once.
    fn store(&self, index: usize, new: Descriptor) {
        self.queue(index, new);
        assert_eq!(
            load_leaf(self.memory.entry(self.table, index), page(index)),
            new
        );
    }

    /// Maps a page.
    fn map(&self, index: usize) {
        let pa = PhysAddr::literal(0x4000_0000);
        self.store(
            index,
            Descriptor::leaf(Level::L3, pa, Attributes::KERNEL_DATA).unwrap(),
        );
    }

    /// Unmaps a page.
    fn unmap(&self, index: usize) {
        self.store(index, Descriptor::INVALID);
    }
}

fn page(index: usize) -> VirtAddr {
    VirtAddr::literal(0xffff_8000_8000_0000) + index as u64 * vmsa::PAGE_SIZE
}

const STORE: Step = Valid(Level::L3);
const CLEAR: Step = Invalid(Level::L3);
/// A store and its barriers, at once.
const EAGER: [Step; 3] = [STORE, DsbIshst, Isb];
/// Backends that store at once.
const AT_ONCE: [Backend; 3] = [Backend::Eager, Backend::Barriers, Backend::Tlbi];
/// Those of them that put barriers off.
const LAZY: [Backend; 2] = [Backend::Barriers, Backend::Tlbi];

fn owed() -> bool {
    task::current().deferred.barriers.get()
}

#[test]
fn outside_of_a_section_the_barriers_come_at_once() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let leaves = Leaves::new(&mut arena);
    for model in Model::ALL {
        for backend in AT_ONCE {
            machine.choose(model, backend);
            let steps = machine.steps(|| {
                leaves.map(0);
                leaves.map(1);
            });
            assert_eq!(steps, [EAGER, EAGER].concat(), "{model} {backend}");
            assert!(!owed());
        }
    }
}

#[test]
fn eager_defers_nothing_in_a_section() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let leaves = Leaves::new(&mut arena);
    for model in Model::ALL {
        machine.choose(model, Backend::Eager);
        let steps = machine.steps(|| {
            let _section = section();
            leaves.map(0);
            leaves.map(1);
            assert!(!owed());
        });
        assert_eq!(steps, [EAGER, EAGER].concat(), "{model}");
    }
}

#[test]
fn barriers_are_paid_once_at_the_end_of_the_section() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let leaves = Leaves::new(&mut arena);
    let both = |model| LAZY.map(|backend| (model, backend));
    for (model, backend) in Model::ALL.into_iter().flat_map(both) {
        machine.choose(model, backend);
        let steps = machine.steps(|| {
            {
                let _section = section();
                leaves.map(0);
                assert!(owed());
                leaves.map(1);
                leaves.map(2);
            }
            assert!(!owed());
            // The next one owes nothing that the first has paid.
            drop(section());
        });
        assert_eq!(
            steps,
            [STORE, STORE, STORE, DsbIshst, Isb],
            "{model} {backend}"
        );
    }
}

#[test]
fn an_entry_made_invalid_owes_nothing() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let leaves = Leaves::new(&mut arena);
    for backend in AT_ONCE {
        machine.choose(Model::TwoCounters, backend);
        leaves.map(0);
        leaves.map(1);
        let steps = machine.steps(|| {
            leaves.unmap(0);
            let _section = section();
            leaves.unmap(1);
            assert!(!owed());
        });
        assert_eq!(steps, [CLEAR, CLEAR], "{backend}");
    }
}

#[test]
fn the_end_of_an_inner_section_pays_too() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let leaves = Leaves::new(&mut arena);
    for model in Model::ALL {
        // What the table of models says of a nested disable: the mode is off afterwards for all
        // that keep no count and no token.
        let stays_on = match model {
            Model::Strict | Model::Tolerant | Model::Avoid => false,
            Model::Token | Model::NestingLevel | Model::TwoCounters => true,
        };
        machine.choose(model, Backend::Barriers);
        let steps = machine.steps(|| {
            let outer = section();
            leaves.map(0);
            let inner = section();
            leaves.map(1);
            drop(inner);
            assert_eq!(is_active(), stays_on, "{model}");
            leaves.map(2);
            leaves.map(3);
            drop(outer);
        });
        let inner = [STORE, STORE, DsbIshst, Isb];
        let expected = if stays_on {
            [&inner[..], &[STORE, STORE, DsbIshst, Isb]].concat()
        } else {
            [&inner[..], &EAGER, &EAGER].concat()
        };
        assert_eq!(steps, expected, "{model}");
    }
}

#[test]
fn a_pause_pays_and_nothing_is_put_off_while_it_lasts() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let leaves = Leaves::new(&mut arena);
    for model in Model::ALL {
        machine.choose(model, Backend::Barriers);
        let steps = machine.steps(|| {
            let _section = section();
            leaves.map(0);
            {
                let _pause = paused();
                leaves.map(1);
                leaves.map(2);
            }
            leaves.map(3);
            leaves.map(4);
        });
        let before = [STORE, DsbIshst, Isb];
        let after = [STORE, STORE, DsbIshst, Isb];
        let expected = [&before[..], &EAGER, &EAGER, &after].concat();
        assert_eq!(steps, expected, "{model}");
    }
}

#[test]
fn a_section_inside_a_pause_defers_only_where_the_model_lets_it() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let leaves = Leaves::new(&mut arena);
    for model in Model::ALL {
        machine.choose(model, Backend::Barriers);
        let warned = warning::count();
        let steps = machine.steps(|| {
            let _outer = section();
            let _pause = paused();
            let _inner = section();
            leaves.map(0);
            leaves.map(1);
        });
        // Two counters know of the pause. A flag does not: the inner section sets it. The level
        // counts, and complains, but stays as the pause left it.
        let expected = match model {
            Model::TwoCounters | Model::NestingLevel => [EAGER, EAGER].concat(),
            _ => [STORE, STORE, DsbIshst, Isb].to_vec(),
        };
        assert_eq!(steps, expected, "{model}");
        let warns = model == Model::NestingLevel;
        assert_eq!(warning::count() > warned, warns, "{model}");
        task::current().lazy_mmu_state.set(LazyMmuState::new());
        task::current().deferred.barriers.set(false);
    }
}

#[test]
fn an_interrupt_handler_is_eager_and_leaves_the_debt_alone() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let leaves = Leaves::new(&mut arena);
    // Strict reads the flag of the task that it interrupted.
    for model in Model::ALL.into_iter().filter(|m| *m != Model::Strict) {
        machine.choose(model, Backend::Barriers);
        let steps = machine.steps(|| {
            let _section = section();
            leaves.map(0);
            {
                let _handler = task::enter_interrupt();
                leaves.map(1);
                let _nested = section();
                leaves.map(2);
            }
            assert!(owed(), "{model}: the task still owes for its own store");
        });
        let expected = [&[STORE][..], &EAGER, &EAGER, &[DsbIshst, Isb]].concat();
        assert_eq!(steps, expected, "{model}");
    }
}

#[test]
fn a_flush_stands_in_for_owed_barriers_and_what_follows_owes_anew() {
    use crate::mm::tlb::{Removed, flush_kernel_range};
    let machine = Machine::take();
    let mut arena = Arena::new();
    let leaves = Leaves::new(&mut arena);
    let range = PageRange::new(page(0), 1).unwrap();
    let steps = machine.steps(|| {
        {
            let _section = section();
            leaves.map(0);
            flush_kernel_range(range, Removed::Leaves);
        }
        let _section = section();
        leaves.map(1);
        flush_kernel_range(range, Removed::Leaves);
        leaves.map(2);
    });
    let flush = [STORE, DsbIshst, Tlbi("vaale1is"), DsbIsh, Isb];
    assert_eq!(
        steps,
        [&flush[..], &flush, &[STORE, DsbIshst, Isb]].concat()
    );
}

#[test]
fn the_debt_is_the_tasks_own() {
    let machine = Machine::take();
    let mut arena = Arena::new();
    let leaves = Leaves::new(&mut arena);
    let steps = machine.steps(|| {
        let _section = section();
        leaves.map(0);
        // Another thread is another task.
        std::thread::spawn(|| {
            assert!(!owed() && !is_active());
            drop(section());
        })
        .join()
        .unwrap();
        assert!(owed());
    });
    assert_eq!(steps, [STORE, DsbIshst, Isb]);
}

#[test]
fn model_and_backend_stay_while_a_section_is_open_or_barriers_are_owed() {
    let machine = Machine::take();
    {
        let _section = section();
        assert_eq!(choose(Model::Strict, Backend::Eager), Err(Busy));
    }
    {
        let _pause = paused();
        assert_eq!(choose(Model::Strict, Backend::Eager), Err(Busy));
    }
    task::current().deferred.barriers.set(true);
    assert_eq!(choose(Model::Strict, Backend::Eager), Err(Busy));
    task::current().deferred.barriers.set(false);
    assert_eq!(
        (model(), backend()),
        (Model::TwoCounters, Backend::Barriers)
    );
    for chosen in Model::ALL {
        for with in AT_ONCE {
            machine.choose(chosen, with);
            assert_eq!((model(), backend()), (chosen, with));
        }
    }
}

#[test]
fn every_call_is_recorded_with_what_it_did() {
    let machine = Machine::take();
    let (_, events) = machine.record(|| {
        let outer = lazy_mmu_mode_enable();
        let inner = lazy_mmu_mode_enable();
        lazy_mmu_mode_disable(inner);
        let pause = lazy_mmu_mode_pause();
        lazy_mmu_mode_resume(pause);
        lazy_mmu_mode_disable(outer);
    });
    let calls: Vec<_> = events
        .iter()
        .map(|event| match event.kind {
            Kind::Lazy {
                call,
                state,
                arch,
                warning: None,
            } => (call, arch, state.enable_count(), state.pause_count()),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [
        (Call::Enable, Some(ArchCall::Enter), 1, 0),
        (Call::Enable, None, 2, 0),
        (Call::Disable, Some(ArchCall::Flush), 1, 0),
        (Call::Pause, Some(ArchCall::Leave), 1, 1),
        (Call::Resume, Some(ArchCall::Enter), 1, 0),
        (Call::Disable, Some(ArchCall::Leave), 0, 0),
    ];
    assert_eq!(calls, expected);
}

#[test]
fn a_report_tells_model_backend_state_and_debt() {
    let machine = Machine::take();
    let line = || {
        let mut text = String::new();
        describe(&mut text).unwrap();
        text
    };
    let mut arena = Arena::new();
    let leaves = Leaves::new(&mut arena);
    {
        let _section = section();
        leaves.map(0);
        let text = line();
        assert!(
            text.contains(
                "model=two-counters backend=barriers ptlock=none enable=1 pause=0 owed=1"
            ),
            "{text}"
        );
    }
    machine.choose(Model::Tolerant, Backend::Eager);
    let _handler = task::enter_interrupt();
    let text = line();
    assert!(
        text.contains("model=tolerant backend=eager ptlock=none active=0 owed=0 in_interrupt=1"),
        "{text}"
    );
}
