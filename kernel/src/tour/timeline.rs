//! A recording as a timeline: a column a CPU, a line a step.
//!
//! Steps are numbered, not timed: what is shown must not depend on the speed of the host.

use crate::{
    mm::lazy::Model,
    println,
    trace::{Barrier, Event, Kind},
};
use alloc::{format, string::String, vec::Vec};
use core::fmt::Write;

/// Width of a column.
const WIDTH: usize = 44;

/// Prints what the tasks of `names` (number, name) did, each on the CPU where it did it.
pub(super) fn print(events: &[Event], names: &[(u32, &str)], model: Model) {
    let of_interest = |event: &&Event| names.iter().any(|(id, _)| *id == event.task);
    let mut cpus: Vec<u32> = Vec::new();
    for event in events.iter().filter(of_interest) {
        if !cpus.contains(&event.cpu) {
            cpus.push(event.cpu);
        }
    }
    cpus.sort_unstable();
    let mut heading = String::from("step");
    for cpu in &cpus {
        let _ = write!(heading, "  {:w$}", format!("CPU {cpu}"), w = WIDTH - 2);
    }
    println!("{}", heading.trim_end());
    let mut step = 0;
    let mut events = events.iter().filter(of_interest).peekable();
    let mut before: Option<(u32, u32)> = None;
    while let Some(event) = events.next() {
        let mut what = words(event, model);
        // Barriers that follow each other share a line.
        while let (Kind::Barrier(_), Some(next)) = (event.kind, events.peek())
            && matches!(next.kind, Kind::Barrier(_))
            && (next.cpu, next.task) == (event.cpu, event.task)
        {
            let _ = write!(what, "; {}", words(next, model));
            events.next();
        }
        let column = cpus.iter().position(|cpu| *cpu == event.cpu).unwrap_or(0);
        let name = names.iter().find(|(id, _)| *id == event.task);
        let name = name.map_or("", |(_, name)| name);
        step += 1;
        let gap = WIDTH * column;
        // The name stands where the CPU changes hands.
        let who = if before == Some((event.cpu, event.task)) {
            ""
        } else {
            name
        };
        before = Some((event.cpu, event.task));
        println!("{step:4}  {:gap$}{who:10} {what}", "");
    }
}

fn words(event: &Event, model: Model) -> String {
    match event.kind {
        Kind::Store { va, new, .. } => {
            let what = if new.is_valid() { "valid" } else { "invalid" };
            format!("store: {va} {what}")
        }
        Kind::Barrier(barrier) => name(barrier).into(),
        Kind::Tlbi(operation) => format!("{operation}"),
        Kind::Cache(operation) => format!("{operation}"),
        Kind::Lazy {
            call, state, arch, ..
        } => {
            let call = call.name().trim_start_matches("lazy_mmu_mode_");
            let arch = arch.map_or("none", |arch| arch.name());
            format!("{call}() -> {arch}: {}", state.display(model))
        }
        Kind::Enter(name) => format!("{name} {{"),
        Kind::Leave(name) => format!("}} {name}"),
    }
}

/// A barrier as the manual writes it.
pub(super) fn name(barrier: Barrier) -> &'static str {
    match barrier {
        Barrier::DsbIshst => "DSB ISHST",
        Barrier::DsbIsh => "DSB ISH",
        Barrier::DsbNsh => "DSB NSH",
        Barrier::Isb => "ISB",
    }
}

/// The barriers that a task issued, each with the CPU where.
pub(super) fn barriers(events: &[Event], task: u32) -> Vec<(u32, Barrier)> {
    let of_task = events.iter().filter(|event| event.task == task);
    of_task
        .filter_map(|event| match event.kind {
            Kind::Barrier(barrier) => Some((event.cpu, barrier)),
            _ => None,
        })
        .collect()
}
