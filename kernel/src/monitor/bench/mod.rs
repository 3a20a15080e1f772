//! `bench`: what the kernel's work costs, in executed instructions, barriers and TLBIs. Each case
//! measures itself, and prints a line of JSON a measurement; docs/performance.md says how to read it.

mod areas;
mod beyond;
mod meter;
mod pages;
pub mod parameters;
mod protect;
mod report;
mod sections;

use super::command::{Failed, refuse};
use crate::arch::time;
use meter::Measured;
use parameters::{Parameter, Values};

/// A case.
struct Case {
    name: &'static str,
    parameters: &'static [Parameter],
    run: fn(&Values) -> Measured<()>,
}

/// Shortens the table.
const fn case(
    name: &'static str,
    parameters: &'static [Parameter],
    run: fn(&Values) -> Measured<()>,
) -> Case {
    Case {
        name,
        parameters,
        run,
    }
}

/// Every case.
const CASES: [Case; 7] = [
    case("vmalloc_pair", areas::SIZED, areas::vmalloc_pair),
    case("vmap", areas::SIZED, areas::vmap),
    case("huge_pair", areas::LOOPS, areas::huge_pair),
    case("set_memory", areas::SIZED, protect::set_memory),
    case("page", pages::ORDER, pages::page),
    case("page_batch", areas::LOOPS, pages::page_batch),
    case("lazy", areas::LOOPS, sections::lazy),
];

/// The names of the cases.
pub(super) const NAMES: [&str; CASES.len()] = {
    let mut names = [""; CASES.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = CASES[i].name;
        i += 1;
    }
    names
};

/// `bench CASE [NAME=VALUE ...]`.
pub(super) fn bench(arguments: &[&str]) -> Result<(), Failed> {
    let Some((name, words)) = arguments.split_first() else {
        return Err(Failed::Usage);
    };
    let Some(case) = const { &CASES }.iter().find(|case| case.name == *name) else {
        return refuse!(
            "unknown case '{name}'; known: {}",
            super::command::List(&NAMES)
        );
    };
    let values = Values::parse(words, case.parameters).map_err(Failed::because)?;
    if !time::counts_instructions() {
        return refuse!(
            "the counter of this machine does not count instructions; known: QEMU with -smp 1 \
             -icount shift=0,align=off,sleep=off -cpu CPU,cntfrq=1000000000, which 'make bench' uses"
        );
    }
    (case.run)(&values).map_err(|trouble| Failed::because(format_args!("bench {name}: {trouble}")))
}
