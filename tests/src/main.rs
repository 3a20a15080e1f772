//! The host program of Lull: all that is behind the verbs of `make`.
//!
//! It installs what is missing, builds the kernel, drives QEMU and gdb, puts names
//! to addresses, and judges. `make` only names the verbs and passes its variables
//! through the environment.

mod bench;
mod bugs;
mod check;
mod circles;
mod doctor;
mod failure;
mod fuzz;
mod gdb;
mod install;
mod judge;
mod litmus;
mod machine;
mod miri;
mod mm_code;
mod options;
mod process;
mod stress;
mod suite;
mod symbols;
mod tools;
mod trace;
mod workspace;

use failure::{Doing, Failure, Result, Verdict};
use install::Tool;
use machine::Machine;
use options::{Options, VARIABLES};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use workspace::{Build, Workspace};

/// Time for `make run` where nobody is there to see that the kernel hangs.
const RUN_LIMIT: Duration = Duration::from_secs(60);

/// The verbs and what they do, in the order in which they are printed.
const VERBS: &[(&str, &str)] = &[
    ("help", "prints this; so does make alone"),
    (
        "run",
        "installs what is missing, builds, boots, plays the tour; then the monitor, on a terminal",
    ),
    ("test", "everything that must hold, on the host and in QEMU"),
    (
        "matrix",
        "the tour under every combination of the variables that are not set (hours)",
    ),
    (
        "bugs",
        "every planted bug in a machine of its own: was it caught, and by whom",
    ),
    (
        "trace",
        "plays the tour and saves every event to target/mmu.trace",
    ),
    (
        "trace-check",
        "judges target/mmu.trace by the architecture's rules",
    ),
    (
        "stress",
        "random operation under the oracle, seed by seed, for DURATION= or OPS= and SEEDS=",
    ),
    (
        "bench",
        "what the kernel's work costs, in instructions and barriers, beside Linux; CASE=, BASE=",
    ),
    ("profile", "the instructions of CASE= by function"),
    (
        "litmus",
        "the oracle on the litmus tests of DIR=: is the bad outcome of each ruled out?",
    ),
    (
        "gdb",
        "QEMU stopped at reset with gdb attached, symbols and commands loaded",
    ),
    (
        "check",
        "format, lints, docs, packaging, circles: what review would refuse",
    ),
    (
        "doctor",
        "what is installed, in which version, what is missing and how to install it",
    ),
    (
        "miri",
        "the tests of what executes no instruction, under Miri (nightly)",
    ),
    ("fuzz", "DURATION= seconds of fuzzing the oracle (nightly)"),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match verb(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if failure.verdict == Verdict::Refused {
                eprintln!("lull: {}", failure.reason);
            }
            eprintln!("lull: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Does what the arguments ask for.
fn verb(arguments: &[String]) -> Result {
    let name = arguments.first().map_or("help", String::as_str);
    // Before anything is built.
    let options = Options::from_environment()?;
    bugs::check(name, &options)?;
    process::catch_signals()?;
    match name {
        "help" => {
            help();
            Ok(())
        }
        "run" if options.get("BUG") == "list" => {
            bugs::list();
            Ok(())
        }
        "run" => {
            let workspace = Workspace::find()?;
            install::ensure(&workspace, &[Tool::Qemu])?;
            let image = workspace.build(build(&options))?;
            bugs::hint(&options);
            let tour_expected = judge::tour_expected(options.get("APPEND"));
            run(
                &workspace,
                &Machine::new(&options, &image),
                RUN_LIMIT,
                tour_expected,
            )
        }
        "test" => {
            let workspace = Workspace::find()?;
            install::ensure(&workspace, &[Tool::Qemu, Tool::Gdb])?;
            suite::run(&workspace, &options, build(&options))
        }
        "matrix" => {
            let workspace = Workspace::find()?;
            install::ensure(&workspace, &[Tool::Qemu])?;
            suite::matrix(&workspace, &options, build(&options))
        }
        "bugs" => {
            let workspace = Workspace::find()?;
            install::ensure(&workspace, &[Tool::Qemu])?;
            bugs::run(&workspace, &options)
        }
        "trace" => {
            let workspace = Workspace::find()?;
            install::ensure(&workspace, &[Tool::Qemu])?;
            trace::record(&workspace, &options)
        }
        "trace-check" => trace::check(&Workspace::find()?),
        "stress" => {
            stress::check(&options)?;
            let workspace = Workspace::find()?;
            install::ensure(&workspace, &[Tool::Qemu])?;
            stress::run(&workspace, &options)
        }
        "bench" | "profile" => {
            bench::check(&options)?;
            let workspace = Workspace::find()?;
            install::ensure(&workspace, &[Tool::Qemu])?;
            match name {
                "bench" => bench::bench(&workspace, &options),
                _ => bench::profile(&workspace, &options),
            }
        }
        "litmus" => litmus::run(&litmus_folder(&options)?),
        "gdb" => {
            let workspace = Workspace::find()?;
            install::ensure(&workspace, &[Tool::Qemu, Tool::Gdb])?;
            let image = workspace.build(build(&options))?;
            gdb::run(&workspace, &Machine::new(&options, &image))
        }
        "check" => check::run(&Workspace::find()?),
        "doctor" => doctor::run(&Workspace::find()?),
        "miri" => miri::run(&Workspace::find()?),
        "fuzz" => fuzz::run(&Workspace::find()?, &options),
        "boot" => boot(&options, arguments),
        // No verb of make either.
        "mm-code" => mm_code::run(&arguments[1..]),
        _ => {
            let known: Vec<_> = VERBS.iter().map(|(name, _)| *name).collect();
            let known = known.join(" ");
            Err(Failure::refused(format!(
                "unknown verb '{name}'; known: {known}"
            )))
        }
    }
}

/// The build that the options ask for.
fn build(options: &Options) -> Build {
    match (options.get("BUG"), options.get("ORACLE")) {
        ("", "1") => Build::Oracle,
        ("", _) => Build::Plain,
        _ => Build::Bugs,
    }
}

/// The folder of litmus tests that the options name: the project's own if they name none.
fn litmus_folder(options: &Options) -> Result<PathBuf> {
    match options.get("DIR") {
        "" => Ok(Workspace::find()?.root.join("tests").join("litmus")),
        folder => Ok(PathBuf::from(folder)),
    }
}

/// Boots an image for a person and judges it.
fn run(workspace: &Workspace, machine: &Machine, limit: Duration, tour_expected: bool) -> Result {
    let boot = machine.boot_shown(limit, &workspace.root)?;
    judge::run(&boot, &machine.options, tour_expected)
}

/// `boot IMAGE SECONDS [QEMU ARGUMENT...]`: judges an image that is not the kernel.
/// It is no verb of make; the tests of this program use it.
fn boot(options: &Options, arguments: &[String]) -> Result {
    let [_, image, seconds, extra @ ..] = arguments else {
        return Err(Failure::refused(
            "boot needs an image and a number of seconds",
        ));
    };
    let seconds = seconds.parse().doing("read the number of seconds")?;
    let mut machine = Machine::new(options, &PathBuf::from(image));
    machine.extra.extend(extra.iter().cloned());
    run(
        &Workspace::find()?,
        &machine,
        Duration::from_secs(seconds),
        false,
    )
}

/// Prints every verb and every variable, a line each.
fn help() {
    for (name, what) in VERBS {
        println!("make {name:11} {what}");
    }
    for variable in VARIABLES {
        let setting = format!("{}={}", variable.name, variable.default);
        println!(
            "{setting:19} {}; known: {}",
            variable.help,
            variable.known_values()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_makefile_has_every_verb_and_no_other() {
        let makefile = include_str!("../../Makefile");
        let line = makefile
            .lines()
            .find_map(|line| line.strip_prefix("VERBS = "))
            .unwrap();
        let verbs: Vec<_> = VERBS.iter().map(|(name, _)| *name).collect();
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), verbs);
    }

    #[test]
    fn an_unknown_verb_is_refused() {
        let failure = verb(&["nonsuch".to_owned()]).unwrap_err();
        assert_eq!(failure.verdict, Verdict::Refused);
        assert!(failure.reason.ends_with(
            "known: help run test matrix bugs trace trace-check stress bench profile litmus gdb check doctor miri fuzz"
        ));
    }
}
