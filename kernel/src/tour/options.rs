//! The four options of thread 001: what may stand inside a pause. Each is tried under the rules
//! that were proposed first and under those that were merged.

use super::{Trouble, ensure, failed, recorded};
use crate::{
    mm::lazy::{
        self, Call, Model, lazy_mmu_mode_disable as disable, lazy_mmu_mode_enable as enable,
        lazy_mmu_mode_pause as pause, lazy_mmu_mode_resume as resume,
    },
    println,
    trace::Kind,
};
use alloc::{string::String, vec::Vec};

/// An option: its name in the thread, what it allows, the calls, and what `nesting-level` makes of
/// them: how many warnings, and whether a resume that had nothing to resume leaves the mode on.
struct Case {
    name: &'static str,
    allows: &'static str,
    calls: fn(),
    nesting_level_warns: usize,
    nesting_level_leaves_on: bool,
}

const CASES: [Case; 4] = [
    Case {
        name: "[A]",
        allows: "a pause inside a section",
        calls: a,
        nesting_level_warns: 0,
        nesting_level_leaves_on: false,
    },
    // Pause and resume each find no section.
    Case {
        name: "[B]",
        allows: "a pause outside a section",
        calls: b,
        nesting_level_warns: 2,
        nesting_level_leaves_on: true,
    },
    // Without a section around it the pause is none: its state is that of no section, and what is
    // enabled in it is an ordinary section.
    Case {
        name: "[C]",
        allows: "a section inside a pause",
        calls: c,
        nesting_level_warns: 2,
        nesting_level_leaves_on: true,
    },
    Case {
        name: "[D]",
        allows: "a pause inside a pause",
        calls: d,
        nesting_level_warns: 4,
        nesting_level_leaves_on: true,
    },
];

fn a() {
    let section = enable();
    let token = pause();
    resume(token);
    disable(section);
}

fn b() {
    let token = pause();
    resume(token);
}

fn c() {
    let token = pause();
    let section = enable();
    disable(section);
    resume(token);
}

fn d() {
    let outer = pause();
    let inner = pause();
    let section = enable();
    disable(section);
    resume(inner);
    resume(outer);
}

pub(super) fn run() -> Result<(), Trouble> {
    let before = (lazy::model(), lazy::backend());
    let choose =
        |model| lazy::choose(model, before.1).map_err(|lazy::Busy| failed("a section is open"));
    for model in [Model::NestingLevel, Model::TwoCounters] {
        println!("{model}:");
        for case in &CASES {
            choose(model)?;
            let warned = one(model, case)?;
            let clean = lazy::reset();
            choose(before.0)?;
            let (expected, leaves_on) = if model == Model::NestingLevel {
                (case.nesting_level_warns, case.nesting_level_leaves_on)
            } else {
                (0, false)
            };
            if !clean {
                println!("      the mode is left on, with no section open");
            }
            ensure!(
                clean != leaves_on,
                "{model} {}: left on: {}, expected {leaves_on}",
                case.name,
                !clean
            );
            ensure!(
                warned == expected,
                "{model} {}: {warned} warnings, expected {expected}",
                case.name
            );
        }
    }
    Ok(())
}

/// Makes the calls of a case, prints them with the state after each, and returns how many warned.
fn one(model: Model, case: &Case) -> Result<usize, Trouble> {
    let mut warned = 0;
    recorded(
        || {
            (case.calls)();
            Ok(())
        },
        |events, ()| {
            let calls: Vec<String> = events
                .iter()
                .filter_map(|event| match event.kind {
                    Kind::Lazy {
                        call,
                        state,
                        warning,
                        ..
                    } => {
                        warned += usize::from(warning.is_some());
                        let mark = if warning.is_some() { " WARNS" } else { "" };
                        Some(alloc::format!(
                            "{} ({}{mark})",
                            short(call),
                            state.display(model)
                        ))
                    }
                    _ => None,
                })
                .collect();
            println!("  {} {}: {}", case.name, case.allows, calls.join(", "));
            Ok(())
        },
    )?;
    Ok(warned)
}

/// The name of a call without what all four share.
fn short(call: Call) -> &'static str {
    call.name().trim_start_matches("lazy_mmu_mode_")
}
