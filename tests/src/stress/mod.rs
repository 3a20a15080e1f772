//! `make stress`: random operation under the oracle, seed by seed, each in a machine of its own, so
//! that what one seed finds is found again without the others.

mod outcome;
mod plan;

use crate::failure::{Failure, Result};
use crate::judge;
use crate::machine::Machine;
use crate::options::Options;
use crate::workspace::{Build, Workspace};
use plan::Plan;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use outcome::{Outcome, finished};
pub use plan::Seed;

/// How many machines run at a time.
const AT_A_TIME: usize = 2;

/// Whether the options make sense, before anything is installed or built.
///
/// # Errors
/// If they ask for things that do not go together.
pub fn check(options: &Options) -> Result {
    if !judge::tour_expected(options.get("APPEND")) {
        return Err(Failure::refused(
            "random operation has an autorun= of its own; APPEND has another",
        ));
    }
    if options.get("BUG") == "list" {
        return Err(Failure::refused("BUG=list is for make run"));
    }
    Plan::new(options).map(drop)
}

/// Plays seeds until there are no more, or until it is time to stop.
///
/// # Errors
/// As [`check`]; if a seed finds something, or does not come to its end.
pub fn run(workspace: &Workspace, options: &Options) -> Result {
    let plan = Plan::new(options)?;
    let build = match options.get("BUG") {
        "" => Build::Oracle,
        _ => Build::Bugs,
    };
    let image = workspace.build(build)?;
    let begin = Instant::now();
    let seeds = Mutex::new(plan.seeds());
    let total = Mutex::new(Total::default());
    // The lock is held to take a seed, not to play it.
    let next = || {
        let mut seeds = seeds.lock().unwrap_or_else(PoisonError::into_inner);
        plan.goes_on(begin.elapsed()).then(|| seeds.next())?
    };
    let play_all = || {
        while let Some(seed) = next() {
            let result = play(workspace, options, &image, &seed);
            let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
            let log = log(workspace, &seed);
            let log = workspace.relative(&log).display().to_string();
            total.add(options, &seed, &log, result);
        }
    };
    std::thread::scope(|scope| (0..AT_A_TIME).for_each(|_| drop(scope.spawn(play_all))));
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    total.finish(begin.elapsed())
}

/// Plays one seed.
fn play(
    workspace: &Workspace,
    options: &Options,
    image: &std::path::Path,
    seed: &Seed,
) -> Result<Outcome> {
    let log = log(workspace, seed);
    let boot = Machine::new(&seed.options(options)?, image)
        .autorun(&seed.command())
        .boot_logged(seed.limit(), &workspace.root, &log)?;
    Ok(Outcome::of(&boot, seed))
}

/// Where what the machine of a seed said is kept.
fn log(workspace: &Workspace, seed: &Seed) -> std::path::PathBuf {
    workspace.log(&format!("stress-{}", seed.number))
}

/// What all seeds came to.
#[derive(Debug, Default)]
struct Total {
    operations: u64,
    seeds: u64,
    violations: u64,
    events: u64,
    /// Seeds that failed, for whatever reason.
    failed: u64,
    /// The first failure.
    failure: Option<Failure>,
}

impl Total {
    /// Takes one seed in, and prints its line.
    fn add(&mut self, options: &Options, seed: &Seed, log: &str, result: Result<Outcome>) {
        self.seeds += 1;
        let name = format!("seed {} ({})", seed.number, seed.configuration());
        let verdict = result.and_then(|outcome| {
            self.operations += outcome.operations;
            self.violations += outcome.violations;
            self.events += outcome.events;
            outcome.verdict.map(|digest| {
                println!("{name}: {} operations, digest {digest}", outcome.operations);
            })
        });
        if let Err(failure) = verdict {
            println!("{name}: FAILED ({failure})");
            println!("  log:   {log}");
            println!("  again: {}", seed.again(options));
            self.failed += 1;
            self.failure.get_or_insert(Failure {
                reason: format!("{name}: {}", failure.reason),
                ..failure
            });
        }
    }

    /// Prints the count.
    fn finish(self, time: Duration) -> Result {
        println!(
            "{} events judged, {} seconds",
            self.events,
            time.as_secs_f64().round()
        );
        println!("{}", self.last_line());
        match self.failure {
            Some(failure) => Err(failure),
            None if self.seeds == 0 => Err(Failure::fail("no seed was played")),
            None => Ok(()),
        }
    }

    fn last_line(&self) -> String {
        let mut line = format!(
            "stress: {} operations, {} seeds, {} violations",
            self.operations, self.seeds, self.violations
        );
        if self.failed > 0 {
            // Not every failure is a violation.
            line += &format!(", {} seeds FAILED", self.failed);
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(violations: u64, verdict: Result<String>) -> Outcome {
        Outcome {
            operations: 10,
            violations,
            events: 100,
            verdict,
        }
    }

    #[test]
    fn the_last_line_counts_all_and_one_failure_is_enough() {
        let options = Options::from(|_| None).unwrap();
        let seed = Plan::new(&options).unwrap().seeds().next().unwrap();
        let mut total = Total::default();
        let mut add = |result| {
            total.add(&options, &seed, "log", result);
            total.last_line()
        };
        assert_eq!(
            add(Ok(outcome(0, Ok("0".to_owned())))),
            "stress: 10 operations, 1 seeds, 0 violations"
        );
        assert_eq!(
            add(Ok(outcome(0, Err(Failure::fail("x"))))),
            "stress: 20 operations, 2 seeds, 0 violations, 1 seeds FAILED"
        );
        add(Ok(outcome(2, Err(Failure::fail("y")))));
        add(Err(Failure::error("no QEMU")));
        assert_eq!(
            add(Ok(outcome(0, Ok("0".to_owned())))),
            "stress: 40 operations, 5 seeds, 2 violations, 3 seeds FAILED"
        );
        let failure = total.finish(Duration::ZERO).unwrap_err();
        assert_eq!(
            failure.to_string(),
            format!("FAIL: seed 1 ({}): x", seed.configuration())
        );
    }

    #[test]
    fn no_seed_is_no_pass() {
        assert!(Total::default().finish(Duration::ZERO).is_err());
    }
}
