//! The guards: what they remember, in which order they may end, and what `avoid` asks of callers.

mod common;

use common::Task;
use lazy_mmu::ArchCall::{Enter, Flush, Leave};
use lazy_mmu::{LazyMmu, LazyMmuState, Model, Token, Warning};

/// The models in which an interrupt's calls are ignored.
const NOT_STRICT: [Model; 5] = [
    Model::Tolerant,
    Model::Avoid,
    Model::Token,
    Model::NestingLevel,
    Model::TwoCounters,
];

/// Opened in a task, ended with bottom halves disabled: the end is made all the same.
#[test]
fn section_ends_in_another_context() {
    for model in NOT_STRICT {
        let task = Task::new(model);
        let section = task.section();
        assert!(!section.is_no_op());
        task.in_interrupt.set(true);
        drop(section);
        assert_eq!(task.take_arch(), [Enter, Leave], "{model}");
        assert_eq!(task.state(), LazyMmuState::new(), "{model}");
    }
}

/// Opened in an interrupt, ended outside it: nothing was done, so nothing is undone.
#[test]
fn section_of_an_interrupt_is_remembered_as_none() {
    for model in NOT_STRICT {
        let task = Task::new(model);
        let outer = task.section();
        task.in_interrupt.set(true);
        let inner = task.section();
        assert!(inner.is_no_op(), "{model}");
        task.in_interrupt.set(false);
        drop(inner);
        assert!(task.is_active(), "{model}");
        drop(outer);
        assert_eq!(task.take_arch(), [Enter, Leave], "{model}");
        assert_eq!(task.take_warnings(), [], "{model}");
    }
}

/// `strict` has no no-ops: it warns of the interrupt, and the guard ends what it began.
#[test]
fn strict_section_in_an_interrupt() {
    let task = Task::new(Model::Strict);
    task.in_interrupt.set(true);
    drop(task.section());
    assert_eq!(task.take_warnings(), [Warning::InInterrupt]);
    assert_eq!(task.take_arch(), [Enter, Leave]);
    assert_eq!(task.state(), LazyMmuState::new());
}

/// A section opened while paused is none, even if the pause ends first.
#[test]
fn section_of_a_pause_is_remembered_as_none() {
    let task = Task::new(Model::TwoCounters);
    let outer = task.section();
    let pause = task.paused();
    let inner = task.section();
    assert!(inner.is_no_op());
    drop(pause);
    drop(inner);
    assert_eq!(task.text(), "enable=1 pause=0");
    assert!(task.is_active());
    drop(outer);
    assert_eq!(task.take_arch(), [Enter, Leave, Enter, Leave]);
}

/// A section that ends inside a pause begun in it is counted down; the raw disable is lost.
#[test]
fn section_ends_inside_a_pause() {
    let task = Task::new(Model::TwoCounters);
    let outer = task.section();
    let nested = task.section();
    let pause = task.paused();
    drop(nested);
    assert_eq!(task.text(), "enable=1 pause=1");
    drop(outer);
    assert_eq!(task.text(), "enable=0 pause=1");
    drop(pause);
    assert_eq!(task.state(), LazyMmuState::new());
    // The pause left; nothing is on any more when it ends.
    assert_eq!(task.take_arch(), [Enter, Leave]);

    let task = Task::new(Model::TwoCounters);
    let (section, pause) = (task.enable(), task.pause());
    task.disable(section);
    task.resume(pause);
    assert_eq!(task.state().leaked(Model::TwoCounters), 1);
}

/// Sections may end in any order: the last to end leaves.
#[test]
fn sections_end_in_any_order() {
    for model in [Model::TwoCounters, Model::NestingLevel] {
        let task = Task::new(model);
        let (first, second) = (task.section(), task.section());
        drop(first);
        assert!(task.is_active(), "{model}");
        drop(second);
        assert_eq!(task.take_arch(), [Enter, Flush, Leave], "{model}");
        assert_eq!(task.state(), LazyMmuState::new(), "{model}");
    }
    // The token says who leaves: the first to have entered. Its section's end is everyone's.
    let task = Task::new(Model::Token);
    let (first, second) = (task.section(), task.section());
    drop(first);
    assert!(!task.is_active());
    drop(second);
    assert_eq!(task.take_arch(), [Enter, Leave, Flush]);
    assert_eq!(task.state(), LazyMmuState::new());
}

/// Locals are dropped last to first, also by `?` in mid-section.
#[test]
fn early_return_closes_the_section() {
    /// Fails half way, as `vmap_pages_pte_range` did before `fea18c686320`.
    fn fails(task: &Task) -> Result<(), &'static str> {
        let _outer = task.section();
        let _inner = task.section();
        Err("-EBUSY")?;
        Ok(())
    }
    for model in Model::ALL {
        let task = Task::new(model);
        assert_eq!(fails(&task), Err("-EBUSY"));
        assert_eq!(task.state(), LazyMmuState::new(), "{model}");
        let inner = if matches!(model, Model::Strict | Model::Tolerant | Model::Avoid) {
            Leave
        } else {
            Flush
        };
        assert_eq!(task.take_arch(), [Enter, inner, Leave], "{model}");
    }
}

/// A pause remembers its context too.
#[test]
fn pause_in_another_context() {
    for model in NOT_STRICT {
        let task = Task::new(model);
        let section = task.section();
        let pause = task.paused();
        task.in_interrupt.set(true);
        drop(pause);
        let pause = task.paused();
        assert!(pause.is_no_op(), "{model}");
        task.in_interrupt.set(false);
        assert!(task.is_active(), "{model}");
        drop(pause);
        drop(section);
        assert_eq!(task.take_arch(), [Enter, Leave, Enter, Leave], "{model}");
        assert_eq!(task.take_warnings(), [], "{model}");
        assert_eq!(task.state(), LazyMmuState::new(), "{model}");
    }
}

/// A pause with nothing to leave turns nothing on; the raw resume does, under four models.
#[test]
fn pause_outside_a_section() {
    for model in Model::ALL {
        let task = Task::new(model);
        let outer = task.paused();
        let inner = task.paused();
        drop(inner);
        drop(outer);
        assert_eq!(task.state(), LazyMmuState::new(), "{model}");

        let task = Task::new(model);
        let token = task.pause();
        task.resume(token);
        let leaks = !matches!(model, Model::Token | Model::TwoCounters);
        assert_eq!(task.state().leaked(model), u8::from(leaks), "{model}");
    }
}

/// Pauses nest under every model: only the outer one's end enters again.
#[test]
fn pauses_nest() {
    for model in Model::ALL {
        let task = Task::new(model);
        let section = task.section();
        let outer = task.paused();
        let inner = task.paused();
        drop(inner);
        assert!(!task.is_active(), "{model}");
        drop(outer);
        assert!(task.is_active(), "{model}");
        drop(section);
        assert_eq!(task.state(), LazyMmuState::new(), "{model}");
    }
}

/// The chain of thread 001 with guards: v4 warns at both ends of the inner section.
#[test]
fn section_inside_a_pause_warns_under_nesting_level() {
    let task = Task::new(Model::NestingLevel);
    let section = task.section();
    let pause = task.paused();
    drop(task.section());
    assert_eq!(
        task.take_warnings(),
        [Warning::EnableWhilePaused, Warning::DisableWhilePaused]
    );
    drop(pause);
    drop(section);
    assert_eq!(task.state(), LazyMmuState::new());
}

/// A section that could not be counted still makes its changes visible, and counts nothing down.
#[test]
fn guards_of_a_full_counter() {
    for model in [Model::NestingLevel, Model::TwoCounters] {
        let task = Task::new(model);
        for _ in 0..255 {
            let _ = task.enable();
        }
        task.events.take();
        let section = task.section();
        assert_eq!(task.take_warnings(), [Warning::EnableOverflow], "{model}");
        assert!(!section.is_no_op());
        drop(section);
        assert_eq!(task.take_arch(), [Flush], "{model}");
        assert_eq!(task.state().enable_count(), 255, "{model}");
    }
    let task = Task::new(Model::TwoCounters);
    for _ in 0..255 {
        let _ = task.pause();
    }
    let pause = task.paused();
    assert_eq!(task.take_warnings(), [Warning::PauseOverflow]);
    drop(pause);
    assert_eq!(task.state().pause_count(), 255);
}

/// Closing what is not open warns, as the raw disable does.
#[test]
fn close_without_a_section() {
    let mut state = LazyMmuState::new();
    let transition = state.close(Model::TwoCounters, Token::Default);
    assert_eq!(transition.warning, Some(Warning::DisableUnderflow));
    let _ = state.pause(Model::TwoCounters, false);
    let transition = state.close(Model::TwoCounters, Token::Default);
    assert!(transition.ignored);
    assert_eq!(state.pause_count(), 1);
}

/// The RFC of thread 000: the allocator is called outside the section, and only under `avoid`.
#[test]
fn page_allocator() {
    for model in Model::ALL {
        let avoids = model == Model::Avoid;
        assert_eq!(model.page_allocator_leaves(), avoids);
        let task = Task::new(model);
        assert!(!task.call_page_allocator(|| task.is_active()), "{model}");
        assert_eq!(
            task.take_arch(),
            [],
            "{model}: no section, nothing to leave"
        );
        let section = task.section();
        // What DEBUG_PAGEALLOC does inside: a section of its own.
        let nested = task.call_page_allocator(|| {
            let nested = task.is_active();
            drop(task.section());
            nested
        });
        assert_eq!(nested, !avoids, "{model}");
        if avoids {
            assert_eq!(task.take_arch(), [Enter, Leave, Enter, Leave, Enter]);
            assert_eq!(task.take_warnings(), []);
            assert!(task.is_active());
        }
        drop(section);
        assert_eq!(task.state(), LazyMmuState::new(), "{model}");
    }
}

/// The RFC's assertions: they fire in an active section, and only under `avoid`.
#[test]
fn gather_flush() {
    for model in Model::ALL {
        let task = Task::new(model);
        task.check_gather_flush();
        assert_eq!(task.take_warnings(), [], "{model}: outside");
        let section = task.section();
        task.check_gather_flush();
        let fires = model.flush_in_section_warns();
        assert_eq!(fires, model == Model::Avoid);
        let expected: &[Warning] = if fires {
            &[Warning::FlushInSection]
        } else {
            &[]
        };
        assert_eq!(task.take_warnings(), expected, "{model}");
        let pause = task.paused();
        task.check_gather_flush();
        assert_eq!(task.take_warnings(), [], "{model}: paused");
        drop(pause);
        drop(section);
    }
}
