//! Verdicts on what a kernel did, from how QEMU ended and what was printed. All of
//! it is without side effects, so that every way to go wrong has a test.

pub mod ktap;
pub mod libtest;
pub mod tour;

use crate::failure::{Failure, Result};
use crate::machine::Boot;
use crate::options::Options;
use crate::process::Ending;

/// The status with which the kernel reports success. It is neither 0, which a
/// power-off has, nor 1, which QEMU has when it cannot start.
pub const SUCCESS: i32 = 16;
/// The status with which the kernel reports failure.
pub const FAILURE: i32 = 32;

/// Passes if the kernel reported success.
///
/// # Errors
/// For every other ending, whatever was printed.
pub fn success(boot: &Boot) -> Result {
    match &boot.ending {
        Ending::Status(SUCCESS) => Ok(()),
        Ending::Status(FAILURE) => Err(Failure::fail(format!(
            "the kernel reported failure (status {FAILURE})"
        ))),
        Ending::Status(0) => Err(Failure::fail(
            "the machine was powered off or reset, or the kernel gave status 0, which is no pass",
        )),
        Ending::Status(1) => Err(Failure::error(format!(
            "QEMU gave up (status 1): {}",
            last_line(&boot.text)
        ))),
        Ending::TimeLimit(limit) => Err(Failure::timeout(format!(
            "the kernel was still running after {limit:?}"
        ))),
        ending => Err(Failure::fail(format!("QEMU ended with {ending}"))),
    }
}

/// Passes if the kernel reported failure and printed that text: so ends a test
/// that expects a panic.
///
/// # Errors
/// If it ended otherwise, or did not print it.
pub fn expected_failure(boot: &Boot, text: &str) -> Result {
    match boot.ending {
        Ending::Status(FAILURE) if boot.text.contains(text) => Ok(()),
        Ending::Status(FAILURE) => Err(Failure::fail(format!("'{text}' was not printed"))),
        Ending::Status(SUCCESS) => Err(Failure::fail(format!(
            "the kernel reported success; '{text}' was expected"
        ))),
        _ => success(boot),
    }
}

/// Passes if the kernel reported success and every tour and test plan that it
/// printed is whole and good.
///
/// # Errors
/// For the first of them that is not; an ending that explains it comes first.
pub fn run(boot: &Boot, options: &Options, tour_expected: bool) -> Result {
    let plans = ktap::parse(&boot.text);
    let tours = tour::parse(&boot.text);
    let mut problem = plans.iter().find_map(ktap::Plan::first_problem);
    // A scene played alone, by `autorun=`, need not close a tour.
    let closed = |tour: &&tour::Tour| tour_expected || tour.closing.is_some() || failed(tour);
    let tour_problem = tours
        .iter()
        .filter(closed)
        .find_map(|tour| tour.first_problem(options));
    problem = problem.or(tour_problem);
    match (success(boot), problem) {
        (Ok(()), Some(problem)) => Err(Failure::fail(problem)),
        (Ok(()), None) if tour_expected && tours.is_empty() => {
            Err(Failure::fail("the tour was not played"))
        }
        // The kernel's own verdict is true, but which scene it was says more.
        (Err(_), Some(problem)) if boot.ending == Ending::Status(FAILURE) => {
            Err(Failure::fail(problem))
        }
        (verdict, _) => verdict,
    }
}

/// Whether a scene of that tour failed.
fn failed(tour: &tour::Tour) -> bool {
    tour.scenes
        .iter()
        .any(|(_, scene)| matches!(scene, tour::Scene::Failed(_)))
}

/// Whether the tour takes place: it does unless `autorun=` takes its place.
pub fn tour_expected(append: &str) -> bool {
    !append
        .split_whitespace()
        .any(|word| word.starts_with("autorun="))
}

/// The last line that is not empty.
pub fn last_line(text: &str) -> &str {
    text.lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty())
        .unwrap_or("it printed nothing")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Verdict;
    use std::time::Duration;

    const TOUR: &str = "scene a: ok\ntour: 1 scenes, 1 ok\n";
    const PLAN: &str = "KTAP version 1\n1..1\nok 1 a\n";

    fn boot(ending: Ending, text: &str) -> Boot {
        Boot {
            ending,
            text: text.to_owned(),
        }
    }

    fn judged(ending: Ending, text: &str, tour_expected: bool) -> Result {
        run(
            &boot(ending, text),
            &Options::from(|_| None).unwrap(),
            tour_expected,
        )
    }

    fn verdict(ending: Ending) -> Verdict {
        // Whatever was printed: here all that a good run prints.
        judged(ending, &format!("{PLAN}{TOUR}"), true)
            .unwrap_err()
            .verdict
    }

    #[test]
    fn only_status_16_is_a_pass() {
        assert_eq!(judged(Ending::Status(SUCCESS), TOUR, true), Ok(()));
        for status in (0..256).filter(|status| *status != SUCCESS) {
            let expected = if status == 1 {
                Verdict::Error
            } else {
                Verdict::Fail
            };
            assert_eq!(verdict(Ending::Status(status)), expected, "{status}");
        }
        assert_eq!(verdict(Ending::Signal(11)), Verdict::Fail);
        assert_eq!(verdict(Ending::TooMuchOutput), Verdict::Fail);
        assert_eq!(
            verdict(Ending::TimeLimit(Duration::from_secs(1))),
            Verdict::Timeout
        );
    }

    #[test]
    fn a_pass_needs_the_tour_where_it_is_due() {
        let judged = |text, due| judged(Ending::Status(SUCCESS), text, due);
        assert_eq!(
            judged("", true).unwrap_err().reason,
            "the tour was not played"
        );
        assert_eq!(judged("", false), Ok(()));
        assert_eq!(judged("scene a: ok\n", false), Ok(()));
        assert!(judged("scene a: ok\n", true).is_err());
        assert!(judged("scene a: FAILED (x)\n", false).is_err());
    }

    #[test]
    fn a_pass_needs_every_plan_and_tour_whole() {
        let judged = |text: &str| judged(Ending::Status(SUCCESS), text, false);
        assert_eq!(judged(&format!("{PLAN}{TOUR}")), Ok(()));
        assert!(judged("KTAP version 1\n1..2\nok 1 a\n").is_err());
        assert!(judged(&format!("{TOUR}scene a: ok\ntour: 1 scenes, 2 ok\n")).is_err());
    }

    #[test]
    fn the_reason_is_the_scene_where_the_kernel_says_which() {
        let text = "scene a: FAILED (2 DSB)\ntour: 1 scenes, 0 ok\n";
        let failure = judged(Ending::Status(FAILURE), text, true).unwrap_err();
        assert_eq!(failure.to_string(), "FAIL: scene a failed: 2 DSB");
        let failure = judged(Ending::Status(FAILURE), "panicked", true).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "FAIL: the kernel reported failure (status 32)"
        );
        let failure = judged(Ending::Status(1), "qemu: bad option\n", true).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "ERROR: QEMU gave up (status 1): qemu: bad option"
        );
    }

    #[test]
    fn an_expected_panic_is_status_32_and_its_text() {
        let judged = |status, text| expected_failure(&boot(Ending::Status(status), text), "guard");
        assert_eq!(judged(FAILURE, "hit the guard page"), Ok(()));
        assert!(judged(FAILURE, "something else").is_err());
        assert!(judged(SUCCESS, "hit the guard page").is_err());
        assert_eq!(
            judged(1, "hit the guard page").unwrap_err().verdict,
            Verdict::Error
        );
        assert!(judged(0, "hit the guard page").is_err());
    }

    #[test]
    fn autorun_takes_the_tours_place() {
        assert!(tour_expected("model=strict"));
        assert!(!tour_expected("model=strict autorun=\"tour nesting\""));
    }
}
