//! `bench`: what the kernel's work costs, in executed instructions, barriers and TLBIs. Each case
//! measures itself, and prints a line of JSON a measurement; docs/performance.md says how to read it.

mod areas;
mod beyond;
mod boot;
mod fragment;
mod map_ram;
mod meter;
mod pages;
pub mod parameters;
mod protect;
mod report;
mod scaling;
mod sections;
mod steady;
mod suite;
mod zap;

use super::command::{Failed, refuse};
use crate::arch::time;
use meter::Measured;
use parameters::{Memory, Parameter, Values};

/// A case.
struct Case {
    name: &'static str,
    parameters: &'static [Parameter],
    run: Run,
}

/// How a case measures.
enum Run {
    /// It counts instructions.
    Counted(fn(&Values) -> Measured<()>),
    /// It is told how many instructions there were before it.
    Told(fn(&Values, u64) -> Measured<()>),
    /// It measures time.
    Timed(fn(&Values) -> Result<(), Failed>),
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
        run: Run::Counted(run),
    }
}

/// Every case.
const CASES: [Case; 19] = [
    case("vmalloc_pair", areas::SIZED, areas::vmalloc_pair),
    case("vmap", areas::SIZED, areas::vmap),
    case("huge_pair", areas::LOOPS, areas::huge_pair),
    case("set_memory", areas::SIZED, protect::set_memory),
    case("page", pages::ORDER, pages::page),
    case("page_batch", areas::LOOPS, pages::page_batch),
    case("zap", zap::PAGES, zap::zap),
    case("lazy", areas::LOOPS, sections::lazy),
    case("fix_size", suite::FIXED, suite::fix_size),
    case("full_fit", suite::PLAIN, suite::full_fit),
    case("long_busy_list", suite::PLAIN, suite::long_busy_list),
    case("random_size", suite::DRAWN, suite::random_size),
    case("fix_align", suite::PLAIN, suite::fix_align),
    case("random_size_align", suite::DRAWN, suite::random_size_align),
    case("align_shift", suite::ONCE, suite::align_shift),
    case("vm_map_ram", map_ram::BLOCK, map_ram::map_ram),
    case("vfree_deferred", areas::SIZED, map_ram::vfree_deferred),
    Case {
        name: "boot",
        parameters: suite::ONCE,
        run: Run::Told(boot::boot),
    },
    Case {
        name: "scaling",
        parameters: scaling::THREADS,
        run: Run::Timed(scaling::scaling),
    },
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
    let now = time::now();
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
    let counts = time::counts_instructions();
    let run = match case.run {
        Run::Counted(run) if counts => run,
        Run::Told(run) if counts => {
            return run(&values, now)
                .map_err(|trouble| Failed::because(format_args!("bench {name}: {trouble}")));
        }
        Run::Timed(run) if !counts => return run(&values),
        Run::Counted(_) | Run::Told(_) => {
            return refuse!(
                "the counter of this machine does not count instructions; known: QEMU with -smp 1 \
                 -icount shift=0,align=off,sleep=off -cpu CPU,cntfrq=1000000000, which 'make bench' \
                 uses"
            );
        }
        Run::Timed(_) => {
            return refuse!("the counter of this machine counts instructions and tells no time");
        }
    };
    let fragmented = match values.memory {
        Memory::Fresh => Ok(None),
        Memory::Fragmented => fragment::fragment().map(Some),
    };
    fragmented
        .and_then(|_held| run(&values))
        .map_err(|trouble| Failed::because(format_args!("bench {name}: {trouble}")))
}
