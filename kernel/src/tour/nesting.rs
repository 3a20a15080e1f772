//! Sections inside sections: the six calls of the transition table in the commit message that
//! introduced the final rules (Linux `5ab246749569`).
//!
//! Each line is read from the task's live state and from the recorded arch call; nothing is
//! computed here. What the chosen model is expected to say is written down below, from the sources
//! of its time.

use super::{Trouble, ensure, recorded};
use crate::{
    mm::lazy::{
        self, Model, lazy_mmu_mode_disable as disable, lazy_mmu_mode_enable as enable,
        lazy_mmu_mode_pause as pause, lazy_mmu_mode_resume as resume,
    },
    println, task,
    trace::{Event, Kind},
    warning,
};
use alloc::format;

/// What each model says to the six calls, and how often it warns.
const fn expected(model: Model) -> ([&'static str; 6], usize) {
    match model {
        // One flag is all there is. The second enable warns and finds it set; the first disable
        // ends the mode for both sections, and the second leaves what is left already.
        Model::Strict | Model::Avoid => (
            [
                "arch_enter active=1",
                "none active=1",
                "arch_leave active=0",
                "arch_enter active=1",
                "arch_leave active=0",
                "arch_leave active=0",
            ],
            1,
        ),
        // The same without the warning.
        Model::Tolerant => (
            [
                "arch_enter active=1",
                "none active=1",
                "arch_leave active=0",
                "arch_enter active=1",
                "arch_leave active=0",
                "arch_leave active=0",
            ],
            0,
        ),
        // The inner section has the token NESTED, so its disable flushes and the mode stays on.
        Model::Token => (
            [
                "arch_enter active=1",
                "none active=1",
                "arch_leave active=0",
                "arch_enter active=1",
                "arch_flush active=1",
                "arch_leave active=0",
            ],
            0,
        ),
        // A pause leaves whatever the level, as long as it is not inside another pause.
        Model::NestingLevel => (
            [
                "arch_enter nesting_level=1 active=1",
                "none nesting_level=2 active=1",
                "arch_leave nesting_level=2 active=0",
                "arch_enter nesting_level=2 active=1",
                "arch_flush nesting_level=1 active=1",
                "arch_leave nesting_level=0 active=0",
            ],
            0,
        ),
        // The table of the commit message.
        Model::TwoCounters => (
            [
                "arch_enter enable=1 pause=0",
                "none enable=2 pause=0",
                "arch_leave enable=2 pause=1",
                "arch_enter enable=2 pause=0",
                "arch_flush enable=1 pause=0",
                "arch_leave enable=0 pause=0",
            ],
            0,
        ),
    }
}

pub(super) fn run() -> Result<(), Trouble> {
    let model = lazy::model();
    let (lines, warnings) = expected(model);
    let warned = warning::count();
    recorded(
        || {
            let mut states = [task::current().lazy_mmu_state.get(); 6];
            let state = || task::current().lazy_mmu_state.get();
            let outer = enable();
            states[0] = state();
            let inner = enable();
            states[1] = state();
            let token = pause();
            states[2] = state();
            resume(token);
            states[3] = state();
            disable(inner);
            states[4] = state();
            disable(outer);
            states[5] = state();
            Ok(states)
        },
        |events, states| {
            let calls = events.iter().filter_map(|event| match event {
                Event {
                    kind: Kind::Lazy { call, arch, .. },
                    ..
                } => Some((call, arch)),
                _ => None,
            });
            let mut seen = 0;
            for (((call, arch), state), expected) in calls.zip(states).zip(lines) {
                let arch = arch.map_or("none", |arch| arch.name());
                let line = format!("{arch} {}", state.display(model));
                println!("{call}() -> {line}");
                ensure!(line == expected, "{call}(): {line}, expected {expected}");
                seen += 1;
            }
            ensure!(
                seen == lines.len(),
                "{seen} calls were recorded, expected {}",
                lines.len()
            );
            Ok(())
        },
    )?;
    let warned = warning::count() - warned;
    ensure!(warned == warnings, "{warned} warnings, expected {warnings}");
    Ok(())
}
