//! What a command is, how it fails, and what all of them say it with.

use super::arguments::Wrong;
use crate::print;
use alloc::{format, string::String};
use core::fmt;

/// A command.
pub(super) struct Command {
    pub(super) name: &'static str,
    /// What may follow the name; empty if nothing may.
    pub(super) arguments: &'static str,
    /// Words that can stand there, for completion.
    pub(super) words: &'static [&'static str],
    /// What it does, for `help`.
    pub(super) what: &'static str,
    pub(super) run: fn(&[&str]) -> Result<(), Failed>,
}

/// Why a command did not do what it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// It was given what it can't take, and has done nothing.
    Refused(String),
    /// It was given more or less than it takes, and has done nothing.
    Usage,
    /// It has said why.
    Told,
}

impl Failed {
    /// The refusal of somebody below.
    pub(super) fn because(why: impl fmt::Display) -> Self {
        Self::Refused(format!("{why}"))
    }
}

impl From<Wrong<'_>> for Failed {
    fn from(wrong: Wrong<'_>) -> Self {
        Self::because(wrong)
    }
}

/// Refuses with a formatted reason.
macro_rules! refuse {
    ($($why:tt)+) => { Err($crate::monitor::command::Failed::Refused(alloc::format!($($why)+))) };
}
pub(super) use refuse;

/// Shortens the table of commands.
pub(super) const fn command(
    name: &'static str,
    arguments: &'static str,
    words: &'static [&'static str],
    what: &'static str,
    run: fn(&[&str]) -> Result<(), Failed>,
) -> Command {
    Command {
        name,
        arguments,
        words,
        what,
        run,
    }
}

/// Words with blanks between them.
pub(super) struct List<'a>(pub(super) &'a [&'a str]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .enumerate()
            .try_for_each(|(i, word)| write!(f, "{}{word}", if i == 0 { "" } else { " " }))
    }
}

/// The console, for what writes to a writer.
struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        print!("{text}");
        Ok(())
    }
}

/// Prints what writes to a writer; the console has no errors to give.
pub(super) fn show(what: impl FnOnce(&mut dyn fmt::Write) -> fmt::Result) {
    let _ = what(&mut Console);
}
