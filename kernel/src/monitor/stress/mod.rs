//! `stress`: random operation. A seed decides every operation, so what fails once fails again.

mod areas;
mod books;
mod claims;
mod contents;
mod crowd;
mod dice;
mod exchange;
mod interrupts;
mod judge;
#[cfg(feature = "ktests")]
mod ktests;
mod leaves;
mod mappings;
mod messages;
mod pages;
mod permissions;
mod protect;
mod room;
mod run;
mod sections;
mod wrong;

use super::{
    arguments::number,
    command::{Failed, refuse},
};
use crate::{arch::cpu, println};
use crowd::run_many;
use room::MAX_TASKS;
use run::{Done, Stopped, run};

/// `stress seed=N ops=N [tasks=N]`.
pub(super) fn stress(arguments: &[&str]) -> Result<(), Failed> {
    let (mut seed, mut operations, mut tasks) = (None, None, None);
    for argument in arguments {
        let Some((name, value)) = argument.split_once('=') else {
            return Err(Failed::Usage);
        };
        let slot = match name {
            "seed" => &mut seed,
            "ops" => &mut operations,
            "tasks" => &mut tasks,
            _ => return refuse!("unknown argument '{name}'; known: seed ops tasks"),
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
    let tasks = tasks.unwrap_or(cpu::count() as u64);
    if !(1..=MAX_TASKS as u64).contains(&tasks) {
        return refuse!("{tasks} tasks are no run; known: 1 to {MAX_TASKS}");
    }
    let result = if tasks == 1 {
        run(seed, operations, |_| ())
    } else {
        run_many(seed, operations, tasks as usize, |_| ()).map(|(done, happened)| {
            println!("stress: seed {seed}: {tasks} tasks, {happened}");
            done
        })
    };
    match result {
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
