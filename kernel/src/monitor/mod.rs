//! Commands: what a person, or `autorun=` on the kernel command line, can tell the kernel to do.

use crate::{arch::exit, ktest, println, tour, warning};
use core::fmt;

/// A command.
struct Command {
    name: &'static str,
    /// What may follow the name.
    arguments: &'static str,
    /// What it does, for `help`.
    what: &'static str,
    run: fn(&[&str]) -> Result<(), Failed>,
}

/// A command that did not do what it was told, and has said why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

/// Every command, as `help` lists them.
const COMMANDS: [Command; 4] = [
    Command {
        name: "help",
        arguments: "",
        what: "lists the commands",
        run: help,
    },
    Command {
        name: "tour",
        arguments: "[SCENE]",
        what: "plays the tour, or one scene of it",
        run: play,
    },
    Command {
        name: "test",
        arguments: "[list|GROUP|GROUP.NAME]",
        what: "runs the kernel tests, reported as KTAP; list: a line of JSON a test",
        run: test,
    },
    Command {
        name: "exit",
        arguments: "[STATUS]",
        what: "ends QEMU with this status (0 to 255; 16 is success)",
        run: leave,
    },
];

/// Arguments that a command can have.
const MAX_WORDS: usize = 8;

/// Runs the commands of `autorun=`, separated by semicolons, up to the first that fails.
///
/// # Errors
/// [`Failed`].
pub fn run_all(commands: &str) -> Result<(), Failed> {
    commands
        .split(';')
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .try_for_each(run)
}

/// Runs one command.
///
/// # Errors
/// [`Failed`].
pub fn run(line: &str) -> Result<(), Failed> {
    let mut words = [""; MAX_WORDS];
    let mut count = 0;
    for word in line.split_whitespace() {
        let Some(slot) = words.get_mut(count) else {
            return refuse(format_args!("more than {MAX_WORDS} words in '{line}'"));
        };
        *slot = word;
        count += 1;
    }
    let Some((name, arguments)) = words[..count].split_first() else {
        return Ok(());
    };
    match COMMANDS.iter().find(|command| command.name == *name) {
        Some(command) => (command.run)(arguments),
        None => refuse(format_args!("unknown command '{name}'; known: {}", Names)),
    }
}

/// The names of all commands.
struct Names;

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, COMMANDS.iter().map(|command| command.name))
    }
}

/// Writes words with spaces between them.
fn list<'a>(f: &mut fmt::Formatter<'_>, words: impl Iterator<Item = &'a str>) -> fmt::Result {
    words
        .enumerate()
        .try_for_each(|(i, word)| write!(f, "{}{word}", if i == 0 { "" } else { " " }))
}

fn refuse(why: fmt::Arguments<'_>) -> Result<(), Failed> {
    println!("lull: {why}");
    Err(Failed)
}

fn help(arguments: &[&str]) -> Result<(), Failed> {
    if let Some(extra) = arguments.first() {
        return refuse(format_args!("help takes no '{extra}'"));
    }
    for command in &COMMANDS {
        println!("{} {:24} {}", command.name, command.arguments, command.what);
    }
    Ok(())
}

fn play(arguments: &[&str]) -> Result<(), Failed> {
    match arguments {
        [] => tour::play().then_some(()).ok_or(Failed),
        [name] => match tour::SCENES.iter().find(|scene| scene.name == *name) {
            Some(scene) => tour::play_one(scene).then_some(()).ok_or(Failed),
            None => refuse(format_args!(
                "unknown scene '{name}'; known: {}",
                tour::Names
            )),
        },
        _ => refuse(format_args!("tour takes one scene; known: {}", tour::Names)),
    }
}

fn leave(arguments: &[&str]) -> Result<(), Failed> {
    match arguments {
        [] => exit::success(),
        [status] => match status.parse() {
            Ok(status) => exit::with_status(status),
            Err(_) => refuse(format_args!("unknown status '{status}'; known: 0 to 255")),
        },
        _ => refuse(format_args!("exit takes one status")),
    }
}

fn test(arguments: &[&str]) -> Result<(), Failed> {
    let passed = match arguments {
        [] => run_tests(|_| true),
        ["list"] => {
            ktest::all().iter().for_each(|test| println!("{test}"));
            true
        }
        [name] => {
            let chosen = |test: &ktest::KernelTest| {
                test.group == *name
                    || name
                        .strip_prefix(test.group)
                        .and_then(|rest| rest.strip_prefix('.'))
                        == Some(test.name)
            };
            if !ktest::all().iter().any(chosen) {
                return refuse(format_args!(
                    "unknown test '{name}'; known: see 'test list'"
                ));
            }
            run_tests(chosen)
        }
        _ => return refuse(format_args!("test takes one group or test")),
    };
    passed.then_some(()).ok_or(Failed)
}

/// Runs the chosen tests as one KTAP report. Tests that end the machine run only when they are
/// named alone.
fn run_tests(chosen: impl Fn(&ktest::KernelTest) -> bool) -> bool {
    let alone = ktest::all().iter().filter(|test| chosen(test)).count() == 1;
    let tests = || {
        ktest::all()
            .iter()
            .filter(|test| chosen(test) && (alone || test.expect == ktest::Expect::Pass))
    };
    println!("KTAP version 1");
    println!("1..{}", tests().count());
    let mut passed = true;
    for (number, test) in (1..).zip(tests()) {
        warning::print_again();
        match (test.run)() {
            Ok(()) => println!("ok {number} {}.{}", test.group, test.name),
            Err(failure) => {
                passed = false;
                println!("# {failure}");
                println!("not ok {number} {}.{}", test.group, test.name);
            }
        }
    }
    passed
}
