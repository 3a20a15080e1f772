//! Commands: what a person, or `autorun=` on the kernel command line, can tell the kernel to do.
//! The table of them; what they do is in the files below.
//!
//! An argument that is not right is refused before anything has changed, with what is known.

pub mod arguments;
pub mod bench;
pub mod complete;
pub mod keys;

mod change;
mod command;
mod crash;
#[cfg(feature = "ktests")]
mod ktests;
mod line;
mod memory;
mod programs;
mod state;
#[cfg(feature = "ktests")]
mod stress;
mod tables;
mod test;
mod user;

pub use command::Failed;

/// Random operation is a test, and is where the tests are.
#[cfg(not(feature = "ktests"))]
mod stress {
    use super::command::{Failed, refuse};

    /// Says where.
    pub(super) fn stress(_: &[&str]) -> Result<(), Failed> {
        refuse!(
            "this image has no random operation; make stress builds the one that has, ORACLE=1 too"
        )
    }
}

use crate::{arch::exit, oracle::Boundary, println, tour, verdict};
use alloc::format;
use command::{Command, List, command, refuse};
use core::fmt;

/// Every command, as `help` lists them.
const COMMANDS: [Command; 25] = [
    command("help", "", &[], "lists the commands", help),
    command(
        "tour",
        "[SCENE]",
        &SCENES,
        "plays the tour, or one scene of it",
        play,
    ),
    command(
        "lazy",
        "",
        &[],
        "the lazy MMU mode of this task: state, barriers owed, flushes pending, stores queued",
        state::lazy,
    ),
    command(
        "model",
        "[NAME]",
        &state::MODELS,
        "shows or chooses the nesting rules",
        state::model,
    ),
    command(
        "backend",
        "[NAME]",
        &state::BACKENDS,
        "shows or chooses what a lazy section defers",
        state::backend,
    ),
    command(
        "ptlock",
        "[NAME]",
        &state::LOCKS,
        "shows or chooses what keeps others out of a lazy section",
        state::ptlock,
    ),
    command(
        "ps",
        "",
        &[],
        "the tasks: who runs where, what each is up to, its lazy MMU counters",
        state::ps,
    ),
    command(
        "ptdump",
        "[PART|START-END|START+BYTES]",
        &tables::PARTS,
        "what is mapped, and whether any frame is writable and executable",
        tables::ptdump,
    ),
    command(
        "pt",
        "ADDRESS",
        &[],
        "the walk for an address, each level decoded",
        tables::pt,
    ),
    command(
        "vmallocinfo",
        "",
        &[],
        "the areas of vmalloc, and those that wait for the purge",
        memory::vmallocinfo,
    ),
    command(
        "pages",
        "",
        &[],
        "the free lists of the page allocator",
        memory::pages,
    ),
    command(
        "owner",
        "PAGE|ADDRESS",
        &[],
        "who allocated and who freed a page last; PAGE is a frame number",
        memory::owner,
    ),
    command(
        "shadow",
        "ADDRESS",
        &[],
        "the shadow around an address, and what it says",
        memory::shadow,
    ),
    command(
        "stats",
        "",
        &[],
        "what was counted since reset",
        state::stats,
    ),
    command(
        "asids",
        "[NUMBER|all]",
        &["all"],
        "ASIDs, faults and gathers; gives out no more than so many ASIDs from now on",
        programs::asids,
    ),
    command(
        "flushcost",
        "[operation=N] [walk=N] [live=N]",
        &["operation=", "walk=", "live="],
        "Linux's rule for TLB flushes of a program, against a model of what they cost",
        programs::flush_cost,
    ),
    command(
        "vmalloc",
        "BYTES",
        &[],
        "makes an area; K and M may follow the number",
        change::vmalloc,
    ),
    command(
        "vfree",
        "ADDRESS",
        &[],
        "frees an area that vmalloc made here",
        change::vfree,
    ),
    command(
        "set_memory",
        "ro|rw|x|nx|valid|invalid ADDRESS PAGES",
        &change::KINDS,
        "changes pages of an area that vmalloc made here",
        change::set_memory,
    ),
    command(
        "user",
        "[CASE]",
        user::CASES,
        "runs the program at EL0, which exercises all that it may do, or misbehaves as CASE says",
        user::user,
    ),
    command(
        "crash",
        "KIND",
        &crash::WORDS,
        "ends the machine with a report of KIND; known: see 'crash'",
        crash::crash,
    ),
    command(
        "test",
        "list|GROUP|GROUP.NAME",
        &["list"],
        "runs the kernel tests, reported as KTAP; list: a line of JSON a test",
        test::test,
    ),
    command(
        "stress",
        "seed=N ops=N [tasks=N]",
        &["seed=", "ops=", "tasks="],
        "N random operations that the seed decides, each checked; by default a task a CPU",
        stress::stress,
    ),
    command(
        "bench",
        "CASE [NAME=VALUE ...]",
        &bench::NAMES,
        "what something costs: instructions, barriers, TLBIs (see 'make bench')",
        bench::bench,
    ),
    command(
        "exit",
        "[STATUS]",
        &[],
        "ends QEMU with this status (0 to 255; 16 is success, to make every other is a failure)",
        leave,
    ),
];

/// The names of the scenes.
const SCENES: [&str; tour::SCENES.len()] = {
    let mut names = [""; tour::SCENES.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = tour::SCENES[i].name;
        i += 1;
    }
    names
};

/// Words that a command can have.
const MAX_WORDS: usize = 8;

/// Lets a person give commands, until one of them, or Ctrl-D, ends the machine.
pub fn interact() -> ! {
    // A command has said what was wrong, and there is no script to stop.
    line::interact(const { &COMMANDS }, |line| drop(run_all(line)))
}

/// Runs commands that are separated by semicolons, up to the first that fails, and says why it
/// did.
///
/// # Errors
/// The failure, which has been told.
pub fn run_all(commands: &str) -> Result<(), Failed> {
    commands
        .split(';')
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .try_for_each(|line| {
            run(line).inspect_err(|failed| match failed {
                Failed::Refused(why) => println!("lull: {why}"),
                Failed::Usage => println!("lull: {}", Usage(line)),
                Failed::Told => {}
            })
        })
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
            return refuse!("more than {MAX_WORDS} words in '{line}'");
        };
        *slot = word;
        count += 1;
    }
    let Some((name, arguments)) = words[..count].split_first() else {
        return Ok(());
    };
    match find(name) {
        Some(command) if command.arguments.is_empty() && !arguments.is_empty() => {
            Err(Failed::Usage)
        }
        Some(command) => {
            let result = (command.run)(arguments);
            let judged = verdict::at(Boundary::Command).map_err(|verdict::Broken| Failed::Told);
            result.and(judged)
        }
        None => {
            let names = List(&COMMANDS.each_ref().map(|command| command.name));
            refuse!("unknown command '{name}'; known: {names}")
        }
    }
}

fn find(name: &str) -> Option<&'static Command> {
    const { &COMMANDS }
        .iter()
        .find(|command| command.name == name)
}

/// What the command of a line takes.
struct Usage<'a>(&'a str);

impl fmt::Display for Usage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.split_whitespace().next().unwrap_or_default();
        match find(name).map_or("", |command| command.arguments) {
            "" => write!(f, "{name} takes nothing"),
            arguments => write!(f, "{name} takes {arguments}"),
        }
    }
}

fn help(_: &[&str]) -> Result<(), Failed> {
    for Command {
        name,
        arguments,
        what,
        ..
    } in &COMMANDS
    {
        println!("{:50} {what}", format!("{name} {arguments}"));
    }
    Ok(())
}

fn play(arguments: &[&str]) -> Result<(), Failed> {
    let passed = match arguments {
        [] => tour::play(),
        [name] => match tour::SCENES.iter().find(|scene| scene.name == *name) {
            Some(scene) => tour::play_one(scene),
            None => return refuse!("unknown scene '{name}'; known: {}", List(&SCENES)),
        },
        _ => return Err(Failed::Usage),
    };
    passed.then_some(()).ok_or(Failed::Told)
}

fn leave(arguments: &[&str]) -> Result<(), Failed> {
    match arguments {
        [] => exit::success(),
        [status] => match status.parse() {
            Ok(status) => exit::with_status(status),
            Err(_) => refuse!("unknown status '{status}'; known: 0 to 255"),
        },
        _ => Err(Failed::Usage),
    }
}
