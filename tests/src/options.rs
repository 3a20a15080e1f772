//! The variables of `make`: their names, defaults and known values, in one table.
//!
//! A value that is not known is refused here, before anything is built. An empty
//! variable is its default.

use crate::failure::{Failure, Result};
use std::collections::BTreeMap;

/// Which values a variable may have.
#[derive(Clone, Copy, Debug)]
pub enum Known {
    /// One of these words.
    Words(&'static [&'static str]),
    /// A size of RAM with the suffix M or G, from 64M to 8G.
    Memory,
    /// A TCP port, or empty for a free one.
    Port,
    /// A whole number from 1 on, or empty.
    Count,
    /// Any text.
    Text,
}

/// Who the variable is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// The host program or QEMU.
    Host,
    /// The kernel, as a `name=value` word of its command line, in lower case.
    Kernel,
}

/// One variable of `make`.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Its value when it is empty or not set.
    pub default: &'static str,
    /// The values that it may have.
    pub known: Known,
    /// Who it is for.
    pub whose: For,
    /// One line for a person.
    pub help: &'static str,
}

/// The CPUs of QEMU's `virt` board that Lull is tested on.
const CPUS: &[&str] = &[
    "cortex-a53",
    "cortex-a57",
    "cortex-a72",
    "cortex-a76",
    "neoverse-n1",
    "max",
];
/// How many of them a GICv2 can have, and so the kernel.
const SMP: &[&str] = &["1", "2", "3", "4", "5", "6", "7", "8"];
/// The historic sets of nesting rules (`kernel/lazy-mmu`), oldest first.
const MODELS: &[&str] = &[
    "strict",
    "tolerant",
    "avoid",
    "token",
    "nesting-level",
    "two-counters",
];
/// A switch.
const ON_OFF: &[&str] = &["on", "off"];
/// The least and the greatest `MEM`, in MiB.
const MEMORY_MIB: std::ops::RangeInclusive<u64> = 64..=8192;
/// The least and the greatest of what is counted.
const COUNTS: std::ops::RangeInclusive<u64> = 1..=1_000_000_000_000;

/// Shortens the table below.
const fn host(
    name: &'static str,
    default: &'static str,
    known: Known,
    help: &'static str,
) -> Variable {
    Variable {
        name,
        default,
        known,
        whose: For::Host,
        help,
    }
}

/// Shortens the table below.
const fn kernel(
    name: &'static str,
    default: &'static str,
    words: &'static [&'static str],
    help: &'static str,
) -> Variable {
    Variable {
        name,
        default,
        known: Known::Words(words),
        whose: For::Kernel,
        help,
    }
}

/// Every variable, in the order in which `make` prints them.
pub const VARIABLES: &[Variable] = &[
    host(
        "CPU",
        "max",
        Known::Words(CPUS),
        "the CPU that QEMU emulates",
    ),
    host("SMP", "1", Known::Words(SMP), "how many CPUs"),
    host("MEM", "512M", Known::Memory, "how much RAM"),
    host(
        "GIC",
        "3",
        Known::Words(&["2", "3"]),
        "version of the interrupt controller",
    ),
    host(
        "EL",
        "1",
        Known::Words(&["1", "2", "3"]),
        "exception level at entry; 3 is refused by the kernel",
    ),
    host(
        "APPEND",
        "",
        Known::Text,
        "further words of the kernel command line, e.g. 'autorun=\"tour nesting\"'",
    ),
    host(
        "V",
        "",
        Known::Words(&["0", "1"]),
        "1 prints the QEMU command",
    ),
    host(
        "DURATION",
        "",
        Known::Count,
        "stress: seconds in which seeds are begun; fuzz: seconds in all",
    ),
    host(
        "OPS",
        "",
        Known::Count,
        "stress: operations, the sum over all seeds",
    ),
    host("SEEDS", "", Known::Count, "stress: how many seeds"),
    host(
        "CASE",
        "",
        Known::Text,
        "bench, profile: a case, with its parameters, e.g. 'vmalloc_pair n=64'; empty is all",
    ),
    host(
        "BASE",
        "",
        Known::Text,
        "bench: an earlier target/bench.json to compare with; new writes tests/bench-baseline.json",
    ),
    host(
        "ORACLE",
        "0",
        Known::Words(&["0", "1"]),
        "run, test, matrix, gdb: 1 is the build that judges every page-table update as it happens",
    ),
    host(
        "GDB_PORT",
        "",
        Known::Port,
        "TCP port of QEMU's gdb stub; empty takes a free one",
    ),
    host(
        "DIR",
        "",
        Known::Text,
        "the folder of make litmus; empty is tests/litmus",
    ),
    host(
        "FORMAT",
        "lull",
        Known::Words(&["lull", "casemate"]),
        "trace: casemate writes target/mmu.casemate as well, for casemate-check",
    ),
    kernel(
        "MODEL",
        "two-counters",
        MODELS,
        "nesting rules of lazy MMU mode",
    ),
    kernel(
        "BACKEND",
        "barriers",
        &[
            "eager",
            "barriers",
            "tlbi",
            "stores",
            "stores-percpu",
            "stores-percpu-hooks",
        ],
        "what a lazy section defers",
    ),
    kernel(
        "DEBUG_PAGEALLOC",
        "on",
        ON_OFF,
        "free pages leave the linear map",
    ),
    kernel(
        "PAGE_POISON",
        "on",
        ON_OFF,
        "freed pages are filled with 0xAA and checked",
    ),
    kernel("KASAN", "on", ON_OFF, "the shadow of vmalloc's memory"),
    kernel(
        "RODATA",
        "full",
        &["full", "on"],
        "linear alias of read-only areas: full follows them, on leaves it alone",
    ),
    kernel(
        "PTLOCK",
        "none",
        &["none", "global", "preempt"],
        "what keeps others out of a lazy section: global is one lock, preempt the CPU alone",
    ),
    kernel(
        "ETS2",
        "auto",
        &["auto", "assume", "off"],
        "FEAT_ETS2: auto counts on it where the CPU has it, assume does everywhere",
    ),
    host(
        "BUG",
        "",
        Known::Words(&crate::bugs::NAMES),
        "run, bugs, gdb, stress: a kernel with this bug put in; list says what each is",
    ),
];

/// A value for every variable, each of them known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// By name; every variable of [`VARIABLES`] is here.
    values: BTreeMap<&'static str, String>,
}

impl Options {
    /// From the environment, which is where `make` puts its variables.
    ///
    /// # Errors
    /// The first value that is not known, with those that are.
    pub fn from_environment() -> Result<Self> {
        if let Some(unknown) = unknown_variable(&std::env::var("MAKEFLAGS").unwrap_or_default()) {
            let known: Vec<_> = VARIABLES.iter().map(|variable| variable.name).collect();
            return Err(Failure::refused(format!(
                "unknown variable '{unknown}'; known: {}",
                known.join(" ")
            )));
        }
        Self::from(|name| std::env::var(name).ok())
    }

    /// From a function that gives the text of a variable, if it is set.
    ///
    /// # Errors
    /// The first value that is not known, with those that are.
    pub fn from(get: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let mut values = BTreeMap::new();
        for variable in VARIABLES {
            let given = get(variable.name).filter(|value| !value.is_empty());
            if let Some(value) = &given {
                variable.check(value)?;
            }
            values.insert(
                variable.name,
                given.unwrap_or_else(|| variable.default.to_owned()),
            );
        }
        Ok(Self { values })
    }

    /// The value of a variable.
    ///
    /// # Panics
    /// If the table has no such variable, which is a slip in this program.
    pub fn get(&self, name: &str) -> &str {
        self.values
            .get(name)
            .expect("the name of a variable in the table")
    }

    /// These options with one changed; an empty value is the default, as everywhere.
    ///
    /// # Errors
    /// If the value is not known.
    pub fn with(&self, name: &'static str, value: &str) -> Result<Self> {
        let variable = find(name).expect("the name of a variable in the table");
        let value = match value {
            "" => variable.default,
            value => {
                variable.check(value)?;
                value
            }
        };
        let mut changed = self.clone();
        changed.values.insert(variable.name, value.to_owned());
        Ok(changed)
    }

    /// The words of the kernel command line that these options ask for. What is
    /// at its default is left to the kernel, which has the same defaults, so
    /// that a parameter can be given in `APPEND` without being there twice.
    pub fn kernel_words(&self) -> Vec<String> {
        VARIABLES
            .iter()
            .filter(|variable| variable.whose == For::Kernel || variable.name == "BUG")
            .filter(|variable| self.get(variable.name) != variable.default)
            .map(|variable| {
                format!(
                    "{}={}",
                    variable.name.to_lowercase(),
                    self.get(variable.name)
                )
            })
            .collect()
    }
}

/// The first variable on make's command line that is none of ours. Make hands its own on in
/// MAKEFLAGS, behind ` -- `, with spaces in values escaped.
fn unknown_variable(makeflags: &str) -> Option<String> {
    let (_, given) = format!(" {makeflags}")
        .split_once(" -- ")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))?;
    let words = given.replace("\\ ", "\0");
    let names = words
        .split(' ')
        .filter_map(|word| word.split_once('='))
        .map(|(name, _)| name);
    names.map(str::to_owned).find(|name| find(name).is_none())
}

/// The variable of that name.
pub fn find(name: &str) -> Option<&'static Variable> {
    VARIABLES.iter().find(|variable| variable.name == name)
}

impl Variable {
    /// Whether the value is known.
    fn check(&self, value: &str) -> Result {
        let good = match self.known {
            Known::Words(words) => words.contains(&value),
            Known::Memory => mebibytes(value).is_some_and(|size| MEMORY_MIB.contains(&size)),
            Known::Port => value.parse::<u16>().is_ok_and(|port| port != 0),
            Known::Count => value.parse().is_ok_and(|count| COUNTS.contains(&count)),
            Known::Text => !value.contains(['\n', '\r', '\0']),
        };
        if good {
            return Ok(());
        }
        let (name, known) = (self.name, self.known_values());
        Err(Failure::refused(format!(
            "unknown {name} '{value}'; known: {known}"
        )))
    }

    /// The values that it may have, as one line.
    pub fn known_values(&self) -> String {
        match self.known {
            Known::Words(words) => words.join(" "),
            Known::Memory => "64M to 8G, with the suffix M or G".to_owned(),
            Known::Port => "1 to 65535".to_owned(),
            Known::Count => format!("{} to {}", COUNTS.start(), COUNTS.end()),
            Known::Text => "any text on one line".to_owned(),
        }
    }
}

/// A size such as `512M` or `8G`, in MiB.
fn mebibytes(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let factor = match unit {
        "M" => 1,
        "G" => 1024,
        _ => return None,
    };
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests;
