//! The sequences that the mailing list argued about, written out by hand.
//!
//! The transition table of v5's commit message, Linux's KUnit suite, the four cases \[A\] to \[D\]
//! of the review of v4, tokens used wrongly.

mod common;

use common::Task;
use lazy_mmu::ArchCall::{self, Enter, Flush, Leave};
use lazy_mmu::{Call, LazyMmu, LazyMmuState, Model, Token, Warning};

/// What a call is to do: hook, state in words, warning.
type Line = (Call, Option<ArchCall>, &'static str, Option<Warning>);

/// Plays the calls on a new task, each disable and resume with the token of its partner.
fn play(model: Model, lines: &[Line]) -> Task {
    let task = Task::new(model);
    let (mut sections, mut pauses) = (Vec::new(), Vec::new());
    for (index, (call, arch, text, warning)) in lines.iter().enumerate() {
        match call {
            Call::Enable => sections.push(task.enable()),
            Call::Disable => task.disable(sections.pop().unwrap_or_default()),
            Call::Pause => pauses.push(task.pause()),
            Call::Resume => task.resume(pauses.pop().unwrap_or_default()),
        }
        let at = format!("{model}, call {index}: {call:?}");
        assert_eq!(task.take_arch(), Vec::from_iter(*arch), "{at}");
        assert_eq!(task.take_warnings(), Vec::from_iter(*warning), "{at}");
        assert_eq!(task.text(), *text, "{at}");
    }
    task
}

/// The commit message of 5ab246749569.
#[test]
fn transition_table_of_two_counters() {
    play(
        Model::TwoCounters,
        &[
            (Call::Enable, Some(Enter), "enable=1 pause=0", None),
            (Call::Enable, None, "enable=2 pause=0", None),
            (Call::Pause, Some(Leave), "enable=2 pause=1", None),
            (Call::Resume, Some(Enter), "enable=2 pause=0", None),
            (Call::Disable, Some(Flush), "enable=1 pause=0", None),
            (Call::Disable, Some(Leave), "enable=0 pause=0", None),
        ],
    );
}

/// The same six calls under the others: where the story starts.
#[test]
fn transition_table_of_the_others() {
    let nested = Some(Warning::AlreadyActive);
    for (model, warning, inner) in [
        (Model::Strict, nested, (Leave, "active=0")),
        (Model::Tolerant, None, (Leave, "active=0")),
        (Model::Avoid, nested, (Leave, "active=0")),
        (Model::Token, None, (Flush, "active=1")),
    ] {
        let task = play(
            model,
            &[
                (Call::Enable, Some(Enter), "active=1", None),
                (Call::Enable, None, "active=1", warning),
                (Call::Pause, Some(Leave), "active=0", None),
                (Call::Resume, Some(Enter), "active=1", None),
                (Call::Disable, Some(inner.0), inner.1, None),
                (Call::Disable, Some(Leave), "active=0", None),
            ],
        );
        assert_eq!(task.state(), LazyMmuState::new());
    }
    play(
        Model::NestingLevel,
        &[
            (Call::Enable, Some(Enter), "nesting_level=1 active=1", None),
            (Call::Enable, None, "nesting_level=2 active=1", None),
            (Call::Pause, Some(Leave), "nesting_level=2 active=0", None),
            (Call::Resume, Some(Enter), "nesting_level=2 active=1", None),
            (Call::Disable, Some(Flush), "nesting_level=1 active=1", None),
            (Call::Disable, Some(Leave), "nesting_level=0 active=0", None),
        ],
    );
}

/// `mm/tests/lazy_mmu_mode_kunit.c`, case `lazy_mmu_mode_active`, and what it leaves out: the
/// hooks.
#[test]
fn kunit_lazy_mmu_mode_active() {
    let task = Task::new(Model::TwoCounters);
    assert!(!task.is_active());

    let outer = task.enable();
    assert!(task.is_active());
    {
        let nested = task.enable();
        assert!(task.is_active());
        task.disable(nested);
        assert!(task.is_active());
    }
    {
        let paused = task.pause();
        assert!(!task.is_active());
        let inside = task.enable();
        assert!(!task.is_active());
        task.disable(inside);
        assert!(!task.is_active());
        let again = task.pause();
        assert!(!task.is_active());
        task.resume(again);
        assert!(!task.is_active());
        task.resume(paused);
        assert!(task.is_active());
    }
    task.disable(outer);
    assert!(!task.is_active());

    assert_eq!(task.take_arch(), [Enter, Flush, Leave, Enter, Leave]);
    assert_eq!(task.take_warnings(), []);
}

/// \[A\]: a pause inside a section. Both allow it.
#[test]
fn case_a() {
    play(
        Model::NestingLevel,
        &[
            (Call::Enable, Some(Enter), "nesting_level=1 active=1", None),
            (Call::Pause, Some(Leave), "nesting_level=1 active=0", None),
            (Call::Resume, Some(Enter), "nesting_level=1 active=1", None),
            (Call::Disable, Some(Leave), "nesting_level=0 active=0", None),
        ],
    );
    play(
        Model::TwoCounters,
        &[
            (Call::Enable, Some(Enter), "enable=1 pause=0", None),
            (Call::Pause, Some(Leave), "enable=1 pause=1", None),
            (Call::Resume, Some(Enter), "enable=1 pause=0", None),
            (Call::Disable, Some(Leave), "enable=0 pause=0", None),
        ],
    );
}

/// \[B\]: a pause with no section open. v4 warns twice and leaves the mode on.
#[test]
fn case_b() {
    let (pause, resume) = (Warning::PauseOutsideSection, Warning::ResumeOutsideSection);
    let task = play(
        Model::NestingLevel,
        &[
            (
                Call::Pause,
                Some(Leave),
                "nesting_level=0 active=0",
                Some(pause),
            ),
            (
                Call::Resume,
                Some(Enter),
                "nesting_level=0 active=1",
                Some(resume),
            ),
        ],
    );
    assert_eq!(task.state().leaked(Model::NestingLevel), 1);
    let task = play(
        Model::TwoCounters,
        &[
            (Call::Pause, None, "enable=0 pause=1", None),
            (Call::Resume, None, "enable=0 pause=0", None),
        ],
    );
    assert_eq!(task.state(), LazyMmuState::new());
}

/// \[C\]: a section inside a pause, which KASAN with DEBUG_PAGEALLOC makes. v4 warns at both ends.
#[test]
fn case_c() {
    let (enable, disable) = (Warning::EnableWhilePaused, Warning::DisableWhilePaused);
    let task = play(
        Model::NestingLevel,
        &[
            (Call::Enable, Some(Enter), "nesting_level=1 active=1", None),
            (Call::Pause, Some(Leave), "nesting_level=1 active=0", None),
            (Call::Enable, None, "nesting_level=2 active=0", Some(enable)),
            (
                Call::Disable,
                Some(Flush),
                "nesting_level=1 active=0",
                Some(disable),
            ),
            (Call::Resume, Some(Enter), "nesting_level=1 active=1", None),
            (Call::Disable, Some(Leave), "nesting_level=0 active=0", None),
        ],
    );
    assert_eq!(task.state(), LazyMmuState::new());
    play(
        Model::TwoCounters,
        &[
            (Call::Enable, Some(Enter), "enable=1 pause=0", None),
            (Call::Pause, Some(Leave), "enable=1 pause=1", None),
            (Call::Enable, None, "enable=1 pause=1", None),
            (Call::Disable, None, "enable=1 pause=1", None),
            (Call::Resume, Some(Enter), "enable=1 pause=0", None),
            (Call::Disable, Some(Leave), "enable=0 pause=0", None),
        ],
    );
}

/// \[D\]: a pause inside a pause, and a section inside that.
#[test]
fn case_d() {
    let lines = [
        (
            Call::Pause,
            Some(Leave),
            "nesting_level=0 active=0",
            Some(Warning::PauseOutsideSection),
        ),
        (
            Call::Pause,
            Some(Leave),
            "nesting_level=0 active=0",
            Some(Warning::PauseOutsideSection),
        ),
        // Level 0 is not a pause to v4: the section is simply opened, inside both pauses.
        (Call::Enable, Some(Enter), "nesting_level=1 active=1", None),
        (Call::Disable, Some(Leave), "nesting_level=0 active=0", None),
        (
            Call::Resume,
            Some(Enter),
            "nesting_level=0 active=1",
            Some(Warning::ResumeOutsideSection),
        ),
        (
            Call::Resume,
            Some(Enter),
            "nesting_level=0 active=1",
            Some(Warning::ResumeOutsideSection),
        ),
    ];
    play(Model::NestingLevel, &lines);
    play(
        Model::NestingLevel,
        &[
            (Call::Enable, Some(Enter), "nesting_level=1 active=1", None),
            (Call::Pause, Some(Leave), "nesting_level=1 active=0", None),
            (
                Call::Pause,
                Some(Leave),
                "nesting_level=1 active=0",
                Some(Warning::PauseWhilePaused),
            ),
            // The inner resume ends the outer pause too.
            (Call::Resume, Some(Enter), "nesting_level=1 active=1", None),
            (
                Call::Resume,
                Some(Enter),
                "nesting_level=1 active=1",
                Some(Warning::ResumeNotPaused),
            ),
            (Call::Disable, Some(Leave), "nesting_level=0 active=0", None),
        ],
    );
    play(
        Model::TwoCounters,
        &[
            (Call::Pause, None, "enable=0 pause=1", None),
            (Call::Pause, None, "enable=0 pause=2", None),
            (Call::Enable, None, "enable=0 pause=2", None),
            (Call::Disable, None, "enable=0 pause=2", None),
            (Call::Resume, None, "enable=0 pause=1", None),
            (Call::Resume, None, "enable=0 pause=0", None),
        ],
    );
}

/// Tokens swapped: the outer's ends the mode early, the inner's does not end it at all.
#[test]
fn tokens_swapped() {
    let task = Task::new(Model::Token);
    let (outer, inner) = (task.enable(), task.enable());
    assert_eq!((outer, inner), (Token::Default, Token::Nested));
    task.disable(outer);
    assert!(!task.is_active());
    task.disable(inner);
    assert_eq!(task.take_arch(), [Enter, Leave, Flush]);
    assert_eq!(task.state().leaked(Model::Token), 0);
}

/// The outer token dropped (a constant in its place): harmless. The inner one's value used in its
/// stead: the mode is left on.
#[test]
fn tokens_dropped_or_used_twice() {
    let task = Task::new(Model::Token);
    let _ = (task.enable(), task.enable());
    task.disable(Token::Nested);
    task.disable(Token::Nested);
    assert_eq!(task.take_arch(), [Enter, Flush, Flush]);
    assert_eq!(task.state().leaked(Model::Token), 1);

    let task = Task::new(Model::Token);
    let outer = task.enable();
    let _ = task.enable();
    task.disable(outer);
    task.disable(outer);
    assert_eq!(task.take_arch(), [Enter, Leave, Leave]);
    assert_eq!(task.take_warnings(), []);
    assert_eq!(task.state().leaked(Model::Token), 0);
}
