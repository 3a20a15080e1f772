//! Lazy sections: what their end promises, and what may not be left open.

use super::*;

#[test]
fn a_store_that_breaks_a_rule_is_still_owed_its_barriers() {
    let other = page(OTHER_FRAME, Attributes::KERNEL_DATA);
    let steps = on_one_cpu(&[
        store(data(), NONE),
        store(NONE, other),
        lazy(LazyCall::Disable, 0, 0, true),
    ]);
    assert_eq!(
        broken(&steps),
        [Rule::BreakBeforeMake, Rule::LeaveWithoutBarriers]
    );
}

#[test]
fn a_section_ends_with_its_barriers() {
    let enable = lazy(LazyCall::Enable, 1, 0, false);
    for end in [
        lazy(LazyCall::Disable, 0, 0, true),
        // Nested, and paused.
        lazy(LazyCall::Disable, 1, 0, true),
        lazy(LazyCall::Pause, 1, 1, true),
    ] {
        least(
            &on_one_cpu(&[enable, store(NONE, data()), DSB_ISHST, ISB, end]),
            &[
                (2, Rule::LeaveWithoutBarriers),
                (3, Rule::LeaveWithoutBarriers),
            ],
        );
    }
    // A disable that promises nothing (in a pause, in an interrupt) owes nothing.
    let steps = on_one_cpu(&[
        enable,
        store(NONE, data()),
        lazy(LazyCall::Disable, 1, 1, false),
    ]);
    assert_eq!(broken(&steps), []);
}

#[test]
fn a_section_that_moves_to_another_cpu_is_ended_there() {
    let enable = lazy(LazyCall::Enable, 1, 0, false);
    let end = lazy(LazyCall::Disable, 0, 0, true);
    least(
        &[
            (0, enable),
            (0, store(NONE, data())),
            (0, RELEASE),
            (1, ACQUIRE),
            (1, BRANCH),
            (1, DSB_ISHST),
            (1, ISB),
            (1, end),
        ],
        &[
            (2, Rule::LeaveWithoutBarriers),
            (3, Rule::LeaveWithoutBarriers),
            (4, Rule::LeaveWithoutBarriers),
            (6, Rule::LeaveWithoutBarriers),
        ],
    );
}

#[test]
fn with_ets2_a_section_owes_barriers_for_code_alone() {
    let end = lazy(LazyCall::Disable, 0, 0, true);
    assert_eq!(
        broken_with(true, &on_one_cpu(&[store(NONE, data()), end])),
        []
    );
    let steps = on_one_cpu(&[store(NONE, code()), end]);
    assert_eq!(broken_with(true, &steps), [Rule::LeaveWithoutBarriers]);
}

#[test]
fn nothing_is_left_open_at_a_boundary() {
    let enable = lazy(LazyCall::Enable, 1, 0, false);
    let disable = lazy(LazyCall::Disable, 0, 0, true);
    let pause = lazy(LazyCall::Pause, 0, 1, true);
    let resume = lazy(LazyCall::Resume, 0, 0, false);
    for boundary in [
        SCENE,
        Kind::Boundary(Boundary::Command),
        Kind::Boundary(Boundary::TaskExit),
        Kind::ExceptionReturn { to_el0: true },
    ] {
        least(
            &on_one_cpu(&[enable, disable, boundary]),
            &[(1, Rule::SectionLeftOpen)],
        );
        least(
            &on_one_cpu(&[pause, resume, boundary]),
            &[(1, Rule::PauseLeft)],
        );
    }
}
