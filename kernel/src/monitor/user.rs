//! `user`: runs the program at EL0.

use super::command::{Failed, List, refuse};
use crate::{
    println,
    process::{
        abi::Case,
        cases::{is_expected, run},
    },
};

/// The names of the cases.
pub(super) const CASES: &[&str] = Case::NAMES;

/// `user [CASE]`. It passes if the case ends as it must: a program that misbehaves is to be
/// stopped, for what it did and nothing else.
pub(super) fn user(arguments: &[&str]) -> Result<(), Failed> {
    let case = match arguments {
        [] => Case::Normal,
        [name] => match Case::ALL.iter().find(|case| case.name() == *name) {
            Some(case) => *case,
            None => return refuse!("unknown case '{name}'; known: {}", List(CASES)),
        },
        _ => return Err(Failed::Usage),
    };
    let outcome = match run(case) {
        Ok(outcome) => outcome,
        Err(error) => return refuse!("{error}"),
    };
    let name = case.name();
    if is_expected(case, outcome) {
        println!("user {name}: {outcome}, as it must");
        Ok(())
    } else {
        println!("lull: user {name}: {outcome}");
        Err(Failed::Told)
    }
}
