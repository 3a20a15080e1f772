//! The raw calls one by one: what they leak, where the counters end, in which order they act; and
//! the names.

mod common;

use common::{Event, Task};
use lazy_mmu::ArchCall::{Enter, Leave};
use lazy_mmu::{Call, LazyMmu, LazyMmuState, Model, Token, Transition, Warning};

/// `enable(); spin_lock_bh(); disable();` loses the section, in Linux and with the raw calls.
#[test]
fn raw_calls_leak_when_the_context_changes() {
    for model in [
        Model::Tolerant,
        Model::Avoid,
        Model::Token,
        Model::NestingLevel,
        Model::TwoCounters,
    ] {
        let task = Task::new(model);
        let token = task.enable();
        task.in_interrupt.set(true);
        task.disable(token);
        task.in_interrupt.set(false);
        assert_eq!(task.take_arch(), [Enter], "{model}");
        assert_eq!(task.state().leaked(model), 1, "{model}");
    }
}

/// A pause left behind is seen by the models that remember one.
#[test]
fn leaked_pauses() {
    for (model, in_section, bare) in [
        (Model::TwoCounters, 2, 2),
        (Model::NestingLevel, 1, 0),
        (Model::Strict, 0, 0),
    ] {
        let mut state = LazyMmuState::new();
        let _ = state.pause(model, false);
        let _ = state.pause(model, false);
        assert_eq!(state.leaked_pauses(model), bare, "{model}");
        let mut state = LazyMmuState::new();
        let _ = state.enable(model, false);
        assert_eq!(state.leaked_pauses(model), 0, "{model}");
        let _ = state.pause(model, false);
        let _ = state.pause(model, false);
        assert_eq!(state.leaked_pauses(model), in_section, "{model}");
    }
}

/// 300 sections: the counter stops at 255, each call beyond warns, and so does each disable too
/// many.
#[test]
fn sections_saturate() {
    for model in [Model::NestingLevel, Model::TwoCounters] {
        let task = Task::new(model);
        for _ in 0..300 {
            let _ = task.enable();
        }
        assert_eq!(task.state().enable_count(), 255);
        assert_eq!(task.take_warnings(), [Warning::EnableOverflow; 45]);
        assert_eq!(task.take_arch(), [Enter]);
        for _ in 0..300 {
            task.disable(Token::Default);
        }
        assert_eq!(task.state(), LazyMmuState::new());
        assert_eq!(task.take_warnings(), [Warning::DisableUnderflow; 45]);
        let hooks = task.take_arch();
        assert_eq!(hooks.iter().filter(|hook| **hook == Leave).count(), 1);
        assert_eq!(
            hooks.len(),
            300,
            "every disable makes its caller's changes visible"
        );
    }
}

/// The same of pauses.
#[test]
fn pauses_saturate() {
    let task = Task::new(Model::TwoCounters);
    let section = task.enable();
    for _ in 0..300 {
        let _ = task.pause();
    }
    assert_eq!(task.text(), "enable=1 pause=255");
    assert_eq!(task.take_warnings(), [Warning::PauseOverflow; 45]);
    for _ in 0..300 {
        task.resume(Token::Default);
    }
    assert_eq!(task.take_warnings(), [Warning::ResumeUnderflow; 45]);
    assert_eq!(task.take_arch(), [Enter, Leave, Enter]);
    task.disable(section);
    assert_eq!(task.state(), LazyMmuState::new());
}

/// A call warns on the old state, stores the new one, calls the hook, and is then observed.
#[test]
fn order_within_a_call() {
    for model in Model::ALL {
        let task = Task::new(model);
        for (call, hook) in [(Call::Enable, Enter), (Call::Disable, Leave)] {
            match call {
                Call::Enable => drop(task.enable()),
                _ => task.disable(Token::Default),
            }
            let (state, arch) = (task.state(), Some(hook));
            let seen = Event::Observe(
                call,
                state,
                Transition {
                    arch,
                    ..Transition::default()
                },
            );
            let expected = [Event::Store(state), Event::Arch(hook), seen];
            assert_eq!(task.events.take(), expected, "{model}");
        }
    }
    let task = Task::new(Model::NestingLevel);
    task.resume(Token::Default);
    let (warning, state) = (Some(Warning::ResumeOutsideSection), task.state());
    let transition = Transition {
        arch: Some(Enter),
        warning,
        ignored: false,
    };
    let seen = Event::Observe(Call::Resume, state, transition);
    let warned = Event::Warn(Warning::ResumeOutsideSection);
    assert_eq!(
        task.events.take(),
        [warned, Event::Store(state), Event::Arch(Enter), seen]
    );
}

/// Every call is observed once, those of the guards and those that are ignored among them.
#[test]
fn every_call_is_observed() {
    for model in Model::ALL {
        let task = Task::new(model);
        let section = task.section();
        let pause = task.paused();
        task.in_interrupt.set(true);
        let token = task.enable();
        task.disable(token);
        task.in_interrupt.set(false);
        drop(pause);
        let token = task.pause();
        task.resume(token);
        drop(section);
        let observed = |event| {
            if let Event::Observe(call, ..) = event {
                Some(call)
            } else {
                None
            }
        };
        let calls = task
            .events
            .take()
            .into_iter()
            .filter_map(observed)
            .collect::<Vec<_>>();
        use Call::{Disable, Enable, Pause, Resume};
        let expected = [
            Enable, Pause, Enable, Disable, Resume, Pause, Resume, Disable,
        ];
        assert_eq!(calls, expected, "{model}");
    }
}

/// Names, their parsing, and the size of what a task carries.
#[test]
fn names_and_size() {
    assert!(size_of::<LazyMmuState>() <= 4);
    let names = Model::ALL.map(Model::name);
    let known = [
        "strict",
        "tolerant",
        "avoid",
        "token",
        "nesting-level",
        "two-counters",
    ];
    assert_eq!(names, known);
    for model in Model::ALL {
        assert_eq!(Model::parse(model.name()), Ok(model));
        assert_eq!(model.to_string(), model.name());
    }
    assert_eq!(Model::default(), Model::TwoCounters);
    assert_eq!(Call::Enable.to_string(), "lazy_mmu_mode_enable");
    assert_eq!(Enter.to_string(), "arch_enter");
    for wrong in ["", "Strict", "two_counters", "token "] {
        let text = Model::try_from(wrong).expect_err("no model").to_string();
        assert_eq!(
            text,
            format!("unknown model '{wrong}'; known: {}", known.join(", "))
        );
    }
}
