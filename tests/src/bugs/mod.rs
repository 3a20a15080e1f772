//! `make bugs`: every planted bug, each in a machine of its own, and who caught it.
//!
//! One image holds them all (feature `bugs` of the kernel), and `bug=` picks one. Each row of
//! [`rows`] names its catcher in advance; what the machine printed is read without looking at that
//! name ([`complaint`]). The same machine without the bug has to be clean.

mod complaint;
mod rows;

use crate::failure::{Failure, Result};
use crate::judge;
use crate::machine::{Boot, Machine};
use crate::options::{Options, VARIABLES};
use crate::process::Ending;
use crate::workspace::{Build, Workspace};
use rows::{ROWS, Row};
use std::sync::Mutex;
use std::time::Duration;

pub use rows::NAMES;

/// Time for one machine, which needs a second or two.
const LIMIT: Duration = Duration::from_secs(120);
/// How many machines run at a time.
const AT_A_TIME: usize = 2;

/// What came of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    /// Who complained first, or how the machine ended if nobody did.
    caught_by: String,
    /// What is wrong with the same machine without the bug.
    without: Option<String>,
}

impl Outcome {
    /// Whether the catcher that was named is the one.
    fn is_caught(&self, row: &Row) -> bool {
        self.caught_by == row.catcher.to_string() && self.without.is_none()
    }
}

/// Prints the names of all bugs, a line each.
pub fn list() {
    for row in &ROWS {
        println!("{:22} {}", row.name, row.what);
    }
}

/// Says which command shows the bug of `options`: the tour does not come to each.
pub fn hint(options: &Options) {
    if let Some(row) = ROWS.iter().find(|row| row.name == options.get("BUG")) {
        let settings = row
            .options
            .iter()
            .map(|(name, value)| format!(" {name}={value}"));
        eprintln!(
            "lull: {} is caught by {} in: make run BUG={}{} APPEND='autorun=\"{}\"'",
            row.name,
            row.catcher,
            row.name,
            settings.collect::<String>(),
            row.commands
        );
    }
}

/// The verbs that take `BUG=`.
const VERBS: [&str; 4] = ["run", "bugs", "gdb", "stress"];

/// Whether `BUG=` means something to a verb.
///
/// # Errors
/// If it is given to one that boots a kernel without bugs, or `list` to one that boots.
pub fn check(verb: &str, options: &Options) -> Result {
    let known = VERBS.join(" ");
    match options.get("BUG") {
        "list" if !matches!(verb, "run" | "bugs") => {
            Err(Failure::refused("BUG=list is for make run"))
        }
        bug if !bug.is_empty() && !VERBS.contains(&verb) => Err(Failure::refused(format!(
            "make {verb} takes no BUG; known: {known}"
        ))),
        _ => Ok(()),
    }
}

/// Tries every bug, or the one that is chosen.
///
/// # Errors
/// If one was not caught by its catcher, or its machine is not clean without it.
pub fn run(workspace: &Workspace, options: &Options) -> Result {
    let set = VARIABLES.iter().find(|variable| {
        !matches!(variable.name, "BUG" | "V") && options.get(variable.name) != variable.default
    });
    if let Some(variable) = set {
        let name = variable.name;
        return Err(Failure::refused(format!(
            "each bug has a machine of its own, and {name} would change it; known: BUG V"
        )));
    }
    let chosen = options.get("BUG");
    if chosen == "list" {
        list();
        return Ok(());
    }
    let rows: Vec<&Row> = ROWS
        .iter()
        .filter(|row| chosen.is_empty() || chosen == row.name)
        .collect();
    let image = workspace.build(Build::Bugs)?;
    let options = options.with("BUG", "")?;
    let machine = Machine::new(&options, &image);
    let outcomes: Vec<Mutex<Option<Result<Outcome>>>> =
        rows.iter().map(|_| Mutex::new(None)).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let (Some(row), Some(slot)) = (rows.get(at), outcomes.get(at)) else {
                        return;
                    };
                    let outcome = try_out(workspace, &machine, row);
                    *slot
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(outcome);
                }
            });
        }
    });
    let mut results = Vec::new();
    for (row, slot) in rows.iter().zip(outcomes) {
        let outcome = slot
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let outcome = outcome.unwrap_or_else(|| Err(Failure::error("it was not run")))?;
        results.push((*row, outcome));
    }
    report(&results)
}

/// Boots the machine of a row with the bug and without.
fn try_out(workspace: &Workspace, machine: &Machine, row: &Row) -> Result<Outcome> {
    let options = row
        .options
        .iter()
        .try_fold(machine.options.clone(), |options, (name, value)| {
            options.with(name, value)
        })?;
    let boot = |bug: &str| {
        let machine = Machine {
            options: options.with("BUG", bug)?,
            ..machine.clone()
        };
        let log = match bug {
            "" => format!("bug-{}-without", row.name),
            bug => format!("bug-{bug}"),
        };
        machine
            .autorun(row.commands)
            .boot_logged(LIMIT, &workspace.root, &workspace.log(&log))
    };
    let (without, with) = (boot("")?, boot(row.name)?);
    Ok(Outcome {
        caught_by: caught_by(&with, &without.text),
        without: unclean(&without, &options),
    })
}

/// Who complained first.
fn caught_by(boot: &Boot, without: &str) -> String {
    if let Ending::TimeLimit(_) = boot.ending {
        return "a time limit".to_owned();
    }
    match complaint::first(&boot.text, without) {
        Some(complaint) => complaint.to_string(),
        None => format!("nobody ({})", boot.ending),
    }
}

/// What is wrong with a machine that has no bug.
fn unclean(boot: &Boot, options: &Options) -> Option<String> {
    // Its own messages are what tests and scenes provoke, but nothing else is.
    let complaint = complaint::first(&boot.text, &boot.text).map(|first| first.to_string());
    complaint.or_else(|| {
        let verdict = judge::run(boot, options, false);
        verdict.err().map(|failure| failure.to_string())
    })
}

/// Prints the table, a line of JSON a bug, and the count.
///
/// # Errors
/// If a bug was missed.
fn report(results: &[(&Row, Outcome)]) -> Result {
    let mut table = vec![["bug", "in Linux", "where", "catcher", "caught by"].map(str::to_owned)];
    for (row, outcome) in results {
        let history = if row.history.is_empty() {
            "-"
        } else {
            row.history
        };
        table.push([
            row.name.to_owned(),
            history.to_owned(),
            row.configuration(),
            row.catcher.to_string(),
            outcome.caught_by.clone(),
        ]);
    }
    let width = |column: usize| table.iter().map(|line| line[column].len()).max();
    let widths: [usize; 5] = std::array::from_fn(|column| width(column).unwrap_or(0));
    for line in &table {
        let cells: Vec<String> = line
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        println!("{}", cells.join("  ").trim_end());
    }
    for (row, outcome) in results {
        println!("{}", json(row, outcome));
    }
    let missed: Vec<&str> = results
        .iter()
        .filter(|(row, outcome)| !outcome.is_caught(row))
        .map(|(row, _)| row.name)
        .collect();
    for (row, outcome) in results {
        if let Some(why) = &outcome.without {
            println!("{}: without it the machine is not clean: {why}", row.name);
        }
    }
    let caught = results.len() - missed.len();
    println!("bugs: {} planted, {caught} caught", results.len());
    if missed.is_empty() {
        return Ok(());
    }
    Err(Failure::fail(format!("missed: {}", missed.join(" "))))
}

/// A line for programs.
fn json(row: &Row, outcome: &Outcome) -> serde_json::Value {
    serde_json::json!({
        "bug": row.name,
        "catcher": row.catcher.to_string(),
        "caught_by": outcome.caught_by,
        "clean_without": outcome.without.is_none(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::{FAILURE, SUCCESS};

    fn boot(ending: Ending, text: &str) -> Boot {
        Boot {
            ending,
            text: text.to_owned(),
        }
    }

    fn outcome(caught_by: &str, without: Option<&str>) -> Outcome {
        Outcome {
            caught_by: caught_by.to_owned(),
            without: without.map(str::to_owned),
        }
    }

    #[test]
    fn only_the_catcher_that_was_named_counts() {
        let row = &ROWS[0];
        let named = row.catcher.to_string();
        assert!(outcome(&named, None).is_caught(row));
        assert!(!outcome(&named, Some("unclean")).is_caught(row));
        for other in [
            "oracle:unflushed",
            "fault",
            "a time limit",
            "nobody (status 16)",
        ] {
            assert!(!outcome(other, None).is_caught(row));
        }
        let results = [(row, outcome(&named, None)), (row, outcome("fault", None))];
        assert_eq!(report(&results[..1]), Ok(()));
        assert!(report(&results).is_err());
    }

    #[test]
    fn a_bug_is_for_those_who_boot_its_image() {
        let options = |bug: &'static str| {
            Options::from(|name| (name == "BUG").then(|| bug.to_owned())).unwrap()
        };
        for verb in VERBS {
            assert_eq!(check(verb, &options("no-dsb")), Ok(()), "{verb}");
        }
        for verb in ["test", "matrix", "trace", "check", "help"] {
            assert_eq!(check(verb, &options("")), Ok(()));
            assert!(check(verb, &options("no-dsb")).is_err(), "{verb}");
        }
        assert_eq!(check("run", &options("list")), Ok(()));
        assert!(check("gdb", &options("list")).is_err());
    }

    #[test]
    fn a_time_limit_is_no_catcher_whatever_was_printed() {
        let text = "oracle: VIOLATION unflushed\n";
        let limit = Ending::TimeLimit(LIMIT);
        assert_eq!(caught_by(&boot(limit, text), ""), "a time limit");
        let status = Ending::Status(FAILURE);
        assert_eq!(caught_by(&boot(status, text), ""), "oracle:unflushed");
        let silent = Ending::Status(SUCCESS);
        assert_eq!(caught_by(&boot(silent, ""), ""), "nobody (status 16)");
    }

    #[test]
    fn a_machine_is_clean_if_it_passes_and_nobody_complains() {
        let options = Options::from(|_| None).unwrap();
        let unclean = |status, text| unclean(&boot(Ending::Status(status), text), &options);
        let passed = "KTAP version 1\n1..1\nok 1 a.b\n";
        assert_eq!(unclean(SUCCESS, passed), None);
        assert_eq!(unclean(SUCCESS, "WARN: as it should\n"), None);
        assert!(unclean(FAILURE, passed).is_some());
        assert!(unclean(SUCCESS, "oracle: VIOLATION unflushed\n").is_some());
        assert!(unclean(SUCCESS, "KTAP version 1\n1..2\nok 1 a.b\n").is_some());
    }

    #[test]
    fn a_line_for_programs_has_four_fields() {
        let line = json(&ROWS[0], &outcome("fault", Some("why"))).to_string();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["bug"], ROWS[0].name);
        assert_eq!(value["catcher"], ROWS[0].catcher.to_string());
        assert_eq!(value["caught_by"], "fault");
        assert_eq!(value["clean_without"], false);
        assert_eq!(value.as_object().unwrap().len(), 4);
    }
}
