//! What `make test` prints: a line a test as it ends, and the count at the end.

use crate::failure::{Failure, Result};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The count so far, shared by the threads that test.
#[derive(Debug, Default)]
pub struct Report {
    /// Behind a lock, so that lines stay whole.
    counts: Mutex<Counts>,
}

/// How many tests came to what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counts {
    /// Tests that passed.
    passed: usize,
    /// The names of those that failed.
    failed: Vec<String>,
    /// Tests that were skipped.
    skipped: usize,
}

impl Report {
    /// The counts; a thread that panicked leaves them as good as they were.
    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A test passed.
    pub fn passed(&self, name: &str) {
        let mut counts = self.counts();
        counts.passed += 1;
        println!("pass {name}");
    }

    /// A test failed; the log says more.
    pub fn failed(&self, name: &str, reason: &str, log: Option<&Path>) {
        let mut counts = self.counts();
        counts.failed.push(name.to_owned());
        let log = log
            .map(|log| format!(" (log: {})", log.display()))
            .unwrap_or_default();
        println!("FAIL {name}: {}{log}", reason.trim().replace('\n', " | "));
    }

    /// A test was skipped.
    pub fn skipped(&self, name: &str, reason: &str) {
        let mut counts = self.counts();
        counts.skipped += 1;
        println!("skip {name}: {reason}");
    }

    /// A test that came to a verdict.
    pub fn verdict(&self, name: &str, verdict: &Result, log: &Path) {
        match verdict {
            Ok(()) => self.passed(name),
            Err(failure) => self.failed(name, &failure.to_string(), Some(log)),
        }
    }

    /// Prints the last line.
    ///
    /// # Errors
    /// If a test failed, or none was run.
    pub fn finish(&self) -> Result {
        let counts = self.counts();
        println!("{}", counts.last_line());
        counts.verdict()
    }
}

impl Counts {
    /// The last line of `make test`.
    fn last_line(&self) -> String {
        let mut line = format!("{} passed, {} failed", self.passed, self.failed.len());
        if self.skipped > 0 {
            line += &format!(", {} skipped", self.skipped);
        }
        line
    }

    /// Passes if something passed and nothing failed.
    fn verdict(&self) -> Result {
        match self.failed.as_slice() {
            [] if self.passed == 0 => Err(Failure::fail("no test was run")),
            [] => Ok(()),
            [one] => Err(Failure::fail(format!("1 test failed: {one}"))),
            [first, ..] => {
                let count = self.failed.len();
                Err(Failure::fail(format!(
                    "{count} tests failed, the first: {first}"
                )))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts_everything() {
        let report = Report::default();
        report.passed("a");
        assert_eq!(report.counts().last_line(), "1 passed, 0 failed");
        assert_eq!(report.finish(), Ok(()));
        report.skipped("b", "no reason");
        assert_eq!(report.counts().last_line(), "1 passed, 0 failed, 1 skipped");
        assert_eq!(report.finish(), Ok(()));
        report.failed("c", "a reason\nin two lines", None);
        assert_eq!(report.counts().last_line(), "1 passed, 1 failed, 1 skipped");
        assert_eq!(report.finish().unwrap_err().reason, "1 test failed: c");
        report.failed("d", "", None);
        assert!(
            report
                .finish()
                .unwrap_err()
                .reason
                .starts_with("2 tests failed, the first: c")
        );
    }

    #[test]
    fn no_test_at_all_is_no_pass() {
        assert!(Report::default().finish().is_err());
    }
}
