//! `stress`: random operation. A seed decides every operation, so what fails once fails again.

mod areas;
mod books;
mod contents;
mod dice;
mod judge;
mod ktests;
mod leaves;
mod mappings;
mod messages;
mod pages;
mod permissions;
mod protect;
mod run;
mod sections;
mod wrong;

use super::{
    arguments::number,
    command::{Failed, refuse},
};
use crate::println;
use run::{Done, Stopped, run};

/// `stress seed=N ops=N`.
pub(super) fn stress(arguments: &[&str]) -> Result<(), Failed> {
    let (mut seed, mut operations) = (None, None);
    for argument in arguments {
        let Some((name, value)) = argument.split_once('=') else {
            return Err(Failed::Usage);
        };
        let slot = match name {
            "seed" => &mut seed,
            "ops" => &mut operations,
            _ => return refuse!("unknown argument '{name}'; known: seed ops"),
        };
        if slot.replace(number(value)?).is_some() {
            return refuse!("'{name}' is there twice");
        }
    }
    let (Some(seed), Some(operations)) = (seed, operations) else {
        return Err(Failed::Usage);
    };
    if operations == 0 {
        return refuse!("no operations are no run; known: 1 and more");
    }
    match run(seed, operations, |_| ()) {
        Ok(Done { digest, warnings }) => {
            if warnings > 0 {
                println!("stress: seed {seed}: {warnings} warnings of models that warn of nesting");
            }
            let digest = judge::digest().unwrap_or(digest);
            println!("stress: seed {seed}, {operations} operations, digest {digest:016x}");
            Ok(())
        }
        Err(Stopped { step, why }) => {
            println!("stress: seed {seed}: step {step}: {why}");
            Err(Failed::Told)
        }
    }
}
