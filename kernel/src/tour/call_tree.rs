//! A recording as a tree of calls.

use crate::{
    mm::lazy::{LazyMmuState, Model},
    println,
    trace::{Event, Kind},
};

/// Prints the recorded functions and lazy MMU calls as a tree, with the task's state after each
/// call.
pub(super) fn print(events: &[Event], model: Model) {
    let mut depth = 0;
    let mut state = LazyMmuState::new();
    for event in events {
        let indent = 2 * depth;
        match event.kind {
            Kind::Enter(name) => {
                println!(
                    "{:indent$}{name:<w$} {}",
                    "",
                    state.display(model),
                    w = 50 - indent.min(50)
                );
                depth += 1;
            }
            Kind::Leave(_) => depth -= 1,
            Kind::Lazy {
                call,
                state: after,
                arch,
                warning,
            } => {
                state = after;
                let arch = arch.map_or("none", |arch| arch.name());
                let call = alloc::format!("{call}() -> {arch}");
                let warned = if warning.is_some() { "  WARNING" } else { "" };
                println!(
                    "{:indent$}{call:<w$} {}{warned}",
                    "",
                    state.display(model),
                    w = 50 - indent.min(50)
                );
            }
            Kind::Store { .. } | Kind::Barrier(_) | Kind::Tlbi(_) | Kind::Cache(_) => {}
        }
    }
}
