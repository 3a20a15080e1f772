//! The history of the rules: every model, on every chain of calls that broke one of them.
//!
//! Each cell is run live, from a fresh state: warnings come from the kernel's warning hook, counts
//! from the recorded events, faults from accesses that are made for real. What each cell is
//! expected to show is written in [`expected`], from the sources.

mod chains;
mod expected;

use super::{Trouble, ensure, failed, recorded};
use crate::{
    event,
    mm::{
        debug_pagealloc, kasan,
        lazy::{self, Backend, Model},
    },
    oracle::{self, Rule},
    print, println,
    trace::Counts,
    warning,
};
use alloc::string::String;
use chains::{CHAINS, Chain, Least};
use core::fmt::{self, Write};

/// What running a chain showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    /// Firings of the warning hook.
    warnings: usize,
    /// DSBs of every kind.
    dsb: usize,
    /// ISBs.
    isb: usize,
    /// Accesses that faulted.
    faults: usize,
    /// Sections left open: the count, or 1 for a flag.
    leaked: usize,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            warnings,
            dsb,
            isb,
            faults,
            leaked,
        } = self;
        write!(f, "{warnings:2} {dsb:3}/{isb:<3} {faults:2} {leaked:2}")
    }
}

pub(super) fn run() -> Result<(), Trouble> {
    if !debug_pagealloc::is_on() {
        return Err(Trouble::Needs("DEBUG_PAGEALLOC=on"));
    }
    if !kasan::is_on() {
        return Err(Trouble::Needs("KASAN=on"));
    }
    println!(
        "a cell is run live; `the least` is what makes each access safe: fewer barriers are a bug"
    );
    // They are a column.
    warning::print_no_more();
    let mut wrong = None;
    for backend in [Backend::Barriers, Backend::Stores] {
        println!("backend {backend}: warnings, DSB/ISB, faults, sections leaked");
        println!("{:17} {:>12}  {}", "chain", "the least", Heads);
        let mut lines = String::new();
        for chain in &CHAINS {
            row(backend, chain, &mut lines, &mut wrong)?;
        }
        print!("{lines}");
    }
    wrong.map_or(Ok(()), Err)
}

/// Runs a chain under every model and prints a row; `lines` gets a line of JSON a cell. A cell that
/// is not as expected is noted, and the rest is run all the same.
fn row(
    backend: Backend,
    chain: &Chain,
    lines: &mut String,
    wrong: &mut Option<Trouble>,
) -> Result<(), Trouble> {
    let mut cells = alloc::vec::Vec::new();
    let mut least = Least::default();
    for model in Model::ALL {
        let (cell, units) = cell(model, backend, chain)?;
        least = (chain.least)(units);
        let expected = expected::cell(model, backend, chain.name, units);
        if cell != expected && wrong.is_none() {
            let what = alloc::format!(
                "{model}, {}, {backend}: {cell:?}, expected {expected:?}",
                chain.name
            );
            *wrong = Some(Trouble::Failed(what));
        }
        cells.push((model, cell));
    }
    print!("{:17} {:>8}/{:<3} ", chain.name, least.dsb, least.isb);
    cells.iter().for_each(|(_, cell)| print!(" | {cell}"));
    println!();
    for (model, cell) in cells {
        let Cell {
            warnings,
            dsb,
            isb,
            faults,
            leaked,
        } = cell;
        // Writing to a string can't fail.
        let _ = writeln!(
            lines,
            "{{\"scene\":\"history\",\"model\":\"{model}\",\"chain\":\"{}\",\"backend\":\"{backend}\",\"warnings\":{warnings},\
             \"dsb\":{dsb},\"isb\":{isb},\"least_dsb\":{},\"least_isb\":{},\"faults\":{faults},\"leaked\":{leaked}}}",
            chain.name, least.dsb, least.isb,
        );
    }
    Ok(())
}

/// Runs one chain under one model, from a fresh state, and leaves one. Also returns what the chain
/// says of its size.
fn cell(model: Model, backend: Backend, chain: &Chain) -> Result<(Cell, usize), Trouble> {
    let before = (lazy::model(), lazy::backend());
    let choose = |model, backend| {
        lazy::choose(model, backend).map_err(|lazy::Busy| failed("a section is open"))
    };
    choose(model, backend)?;
    let mut run = (chain.prepare)()?;
    let warned = warning::count();
    let mut cell = Cell {
        warnings: 0,
        dsb: 0,
        isb: 0,
        faults: 0,
        leaked: 0,
    };
    let result = recorded(
        || (chain.run)(&mut run),
        |events, faults| {
            let counts = Counts::of(events);
            cell = Cell {
                dsb: counts.dsb,
                isb: counts.isb,
                faults,
                ..cell
            };
            Ok(())
        },
    );
    cell.warnings = warning::count() - warned;
    cell.leaked = usize::from(lazy::leaked());
    if cell.leaked > 0 {
        oracle::expect(&[Rule::SectionLeftOpen], || {
            event!(Boundary(event::Boundary::Scene));
        });
    }
    lazy::reset();
    let units = (chain.units)(&run);
    drop(run);
    choose(before.0, before.1)?;
    result?;
    ensure!(cell.leaked <= 1, "{}: {cell:?}", chain.name);
    Ok((cell, units))
}

/// The names of the models, as wide as their cells.
struct Heads;

impl fmt::Display for Heads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Model::ALL
            .iter()
            .try_for_each(|model| write!(f, " | {:16}", model.name()))
    }
}
