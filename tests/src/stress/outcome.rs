//! What one seed came to, from how its machine ended and what it printed.

use super::plan::Seed;
use crate::failure::{Failure, Result};
use crate::judge;
use crate::machine::Boot;

/// What one seed came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Operations that it got to.
    pub operations: u64,
    /// Violations that the oracle found.
    pub violations: u64,
    /// Events that it judged.
    pub events: u64,
    /// The digest, or what was wrong.
    pub verdict: Result<String>,
}

impl Outcome {
    /// Of a machine that played this seed alone, with the oracle.
    pub fn of(boot: &Boot, seed: &Seed) -> Self {
        let judged = events_and_violations(&boot.text);
        let (events, violations) = judged.unwrap_or_default();
        let finished = finished(&boot.text, seed);
        let failed = failed(&boot.text, seed);
        let operations = match (&finished, failed) {
            (Some(_), _) => seed.operations,
            // The step after the last is the giving back.
            (None, Some((step, _))) => step.min(seed.operations),
            (None, None) => 0,
        };
        let verdict = match (failed, judge::success(boot), finished, judged) {
            (Some((step, why)), Err(_), ..) if violations > 0 => {
                let rule = first_violation(&boot.text).unwrap_or("which the machine did not tell");
                Err(Failure::fail(format!("step {step}: {why}: {rule}")))
            }
            (Some((step, why)), ..) => Err(Failure::fail(format!("step {step}: {why}"))),
            (None, Err(failure), ..) => match first_violation(&boot.text) {
                Some(rule) => Err(Failure::fail(rule)),
                None => Err(Failure {
                    reason: format!("{}; {}", failure.reason, judge::last_line(&boot.text)),
                    ..failure
                }),
            },
            (None, Ok(()), None, _) => Err(Failure::fail("it did not say that it was through")),
            (None, Ok(()), Some(_), None | Some((0, _))) => {
                Err(Failure::fail("the oracle judged nothing"))
            }
            (None, Ok(()), Some(_), Some((_, 1..))) => Err(Failure::fail(
                "the oracle complained, and the machine passed",
            )),
            (None, Ok(()), Some(digest), Some(_)) => Ok(digest),
        };
        Self {
            operations,
            violations,
            events,
            verdict,
        }
    }
}

/// The digest, if the text says that the seed came to its end.
pub fn finished(text: &str, seed: &Seed) -> Option<String> {
    let head = format!(
        "stress: seed {}, {} operations, digest ",
        seed.number, seed.operations
    );
    let digest = lines(text).find_map(|line| line.strip_prefix(&head))?;
    let hexadecimal = digest.len() == 16 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    hexadecimal.then(|| digest.to_owned())
}

/// The step at which the seed failed, and why.
fn failed<'a>(text: &'a str, seed: &Seed) -> Option<(u64, &'a str)> {
    let head = format!("stress: seed {}: step ", seed.number);
    let (step, why) = lines(text)
        .find_map(|line| line.strip_prefix(&head))?
        .split_once(": ")?;
    Some((step.parse().ok()?, why))
}

/// What the oracle says at the end of the machine: `oracle: N events judged, N violations, ...`.
fn events_and_violations(text: &str) -> Option<(u64, u64)> {
    let of = |line: &str| -> Option<(u64, u64)> {
        let (events, rest) = line
            .strip_prefix("oracle: ")?
            .split_once(" events judged, ")?;
        let (violations, _) = rest.split_once(" violations")?;
        Some((events.parse().ok()?, violations.parse().ok()?))
    };
    lines(text).find_map(of)
}

/// The first violation, in the oracle's words.
fn first_violation(text: &str) -> Option<&str> {
    lines(text).find_map(|line| line.strip_prefix("oracle: VIOLATION "))
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim_end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Verdict;
    use crate::options::Options;
    use crate::process::Ending;
    use crate::stress::plan::Plan;
    use std::time::Duration;

    const DONE: &str = "stress: seed 1, 10000 operations, digest 0123456789abcdef\r\n";
    const CLEAN: &str = "oracle: 5000 events judged, 0 violations, 3 on purpose, digest 1\r\n";

    fn outcome(ending: Ending, text: &str) -> Outcome {
        let options = Options::from(|_| None).unwrap();
        let seed = Plan::new(&options).unwrap().seeds().next().unwrap();
        let text = text.to_owned();
        Outcome::of(&Boot { ending, text }, &seed)
    }

    fn reason(status: i32, text: &str) -> String {
        outcome(Ending::Status(status), text)
            .verdict
            .unwrap_err()
            .reason
    }

    #[test]
    fn a_seed_passes_if_all_of_it_ran_and_was_judged() {
        let good = outcome(Ending::Status(judge::SUCCESS), &format!("{DONE}{CLEAN}"));
        assert_eq!(good.verdict, Ok("0123456789abcdef".to_owned()));
        assert_eq!(
            (good.operations, good.events, good.violations),
            (10_000, 5000, 0)
        );
    }

    #[test]
    fn what_is_missing_fails_it() {
        let through = "it did not say that it was through";
        assert_eq!(reason(judge::SUCCESS, CLEAN), through);
        for other in [
            DONE.replace("seed 1", "seed 11"),
            DONE.replace("10000", "1000"),
            DONE.replace("abcdef", "abcde"),
            DONE.replace("abcdef", "abcdeg"),
        ] {
            assert_eq!(reason(judge::SUCCESS, &format!("{other}{CLEAN}")), through);
        }
        assert_eq!(reason(judge::SUCCESS, DONE), "the oracle judged nothing");
        let nothing = CLEAN.replace("5000", "0");
        assert_eq!(
            reason(judge::SUCCESS, &format!("{DONE}{nothing}")),
            "the oracle judged nothing"
        );
        let violated = CLEAN.replace(" 0 viol", " 2 viol");
        assert!(reason(judge::SUCCESS, &format!("{DONE}{violated}")).contains("complained"));
    }

    #[test]
    fn a_failure_is_told_with_its_step() {
        let text = format!("stress: seed 1: step 812: 1 page is missing\r\n{CLEAN}");
        assert_eq!(reason(judge::FAILURE, &text), "step 812: 1 page is missing");
        let outcome = outcome(Ending::Status(judge::FAILURE), &text);
        assert_eq!((outcome.operations, outcome.violations), (812, 0));
        // Even if the machine should call it success.
        assert_eq!(reason(judge::SUCCESS, &text), "step 812: 1 page is missing");
    }

    #[test]
    fn a_violation_is_told_with_its_rule() {
        let text = "stress: seed 1: step 5: 1 violations\noracle: VIOLATION va-reuse: an address\n\
                    oracle: 50 events judged, 1 violations, 0 on purpose\n";
        assert_eq!(
            reason(judge::FAILURE, text),
            "step 5: 1 violations: va-reuse: an address"
        );
        assert_eq!(outcome(Ending::Status(judge::FAILURE), text).violations, 1);
        // At the end of the command: the seed itself came to its end.
        let text = format!("{DONE}oracle: VIOLATION unflushed: an entry\n");
        assert_eq!(reason(judge::FAILURE, &text), "unflushed: an entry");
    }

    #[test]
    fn a_time_limit_and_a_panic_are_failures() {
        let hung = outcome(Ending::TimeLimit(Duration::from_secs(1)), "");
        assert_eq!(hung.verdict.unwrap_err().verdict, Verdict::Timeout);
        assert_eq!(hung.operations, 0);
        let why = reason(judge::FAILURE, "panicked at x\n");
        assert!(why.ends_with("(status 32); panicked at x"), "{why}");
    }
}
