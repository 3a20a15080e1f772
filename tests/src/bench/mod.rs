//! `make bench` and `make profile`: what the kernel's work costs in executed instructions, barriers
//! and TLBIs, and where in the kernel.

mod calls;
mod exec_log;
mod profile;
mod stub;

use crate::failure::{Doing, Failure, Result};
use crate::judge;
use crate::machine::Machine;
use crate::options::Options;
use crate::workspace::{Build, Workspace};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// Time for one machine. It finds what hangs; it is no measure of speed.
const LIMIT: Duration = Duration::from_secs(120);
/// The RAM of a measurement, as Linux had it (`MEM` of make where it is set).
const MEMORY: &str = "2G";

/// The cases of the kernel's command `bench`.
pub const CASES: &[&str] = &[
    "vmalloc_pair",
    "vmap",
    "huge_pair",
    "set_memory",
    "page",
    "page_batch",
    "lazy",
];

/// Whether the options make sense, before anything is installed or built.
///
/// # Errors
/// If they ask for things that do not go together, or a case that is not known.
pub fn check(options: &Options) -> Result {
    if !judge::tour_expected(options.get("APPEND")) {
        return Err(Failure::refused(
            "a measurement has an autorun= of its own; APPEND has another",
        ));
    }
    if options.get("SMP") != "1" {
        return Err(Failure::refused(
            "instructions are counted on one CPU; known: SMP=1",
        ));
    }
    let case = options.get("CASE").split_whitespace().next();
    match case {
        Some(case) if !CASES.contains(&case) => Err(Failure::refused(format!(
            "unknown CASE '{case}'; known: {}",
            CASES.join(" ")
        ))),
        _ => Ok(()),
    }
}

/// What all measurements have in common.
pub struct Setting<'a> {
    workspace: &'a Workspace,
    options: &'a Options,
}

/// Variables in which a machine differs from the others.
type Changes = &'static [(&'static str, &'static str)];

/// The debugging tools are off, unless a person or a row turns them on.
const TOOLS: Changes = &[
    ("DEBUG_PAGEALLOC", "off"),
    ("PAGE_POISON", "off"),
    ("KASAN", "off"),
    ("MEM", MEMORY),
];

/// A line that the kernel printed.
#[derive(Clone, Debug, PartialEq)]
struct Measurement {
    value: Value,
    instructions: f64,
}

impl Setting<'_> {
    /// The machine that runs `bench` with these words.
    fn machine(&self, image: &Path, words: &str, changes: Changes) -> Result<Machine> {
        let mut options = self.options.clone();
        for (name, value) in TOOLS {
            if std::env::var(name).is_ok_and(|value| !value.is_empty()) {
                continue;
            }
            options = options.with(name, value)?;
        }
        for (name, value) in changes {
            options = options.with(name, value)?;
        }
        Ok(Machine::new(&options, image)
            .autorun(&format!("bench {words}"))
            .counting_instructions())
    }
}

/// Runs a case in a machine of its own.
fn run(
    setting: &Setting<'_>,
    image: &Path,
    words: &str,
    changes: Changes,
) -> Result<Vec<Measurement>> {
    let machine = setting.machine(image, words, changes)?;
    let log = setting.workspace.log(&format!("bench-{words}"));
    let boot = machine.boot_logged(LIMIT, &setting.workspace.root, &log)?;
    if let Some(why) = boot
        .text
        .lines()
        .find_map(|line| line.strip_prefix("lull: "))
    {
        return Err(Failure::fail(format!("bench {words}: {why}")));
    }
    judge::success(&boot)?;
    let lines = boot.text.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| {
            let value: Value = serde_json::from_str(line).doing("read a measurement")?;
            let instructions = value["insn"]
                .as_f64()
                .ok_or_else(|| Failure::fail(format!("no measurement: {line}")))?;
            Ok(Measurement {
                value,
                instructions,
            })
        })
        .collect()
}

/// `make bench`.
///
/// # Errors
/// If a case fails.
pub fn bench(workspace: &Workspace, options: &Options) -> Result {
    let image = workspace.build(Build::Plain)?;
    let setting = Setting { workspace, options };
    for measured in run(&setting, &image, options.get("CASE"), &[])? {
        println!("{}", measured.value);
    }
    Ok(())
}

/// `make profile`.
///
/// # Errors
/// If there is no case, or it fails.
pub fn profile(workspace: &Workspace, options: &Options) -> Result {
    let case = options.get("CASE");
    if case.is_empty() {
        return Err(Failure::refused(format!(
            "no CASE to profile; known: {}",
            CASES.join(" ")
        )));
    }
    let image = workspace.build(Build::Plain)?;
    profile::profile(&Setting { workspace, options }, &image, case)
}
