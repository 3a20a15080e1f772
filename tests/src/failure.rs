//! How a verb fails: a verdict, which is one word, and the reason for it.
//!
//! `main` prints both as the last line on standard error: `lull: VERDICT: reason`.

use std::fmt;

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Something was run and was found wrong.
    Fail,
    /// Something was run and did not end within its time limit.
    Timeout,
    /// Something could not be run at all, so nothing is known about it.
    Error,
    /// A value was not known; nothing was built or run.
    Refused,
    /// A tool is not installed and cannot be installed from here.
    Missing,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fail => "FAIL",
            Self::Timeout => "TIMEOUT",
            Self::Error => "ERROR",
            Self::Refused => "REFUSED",
            Self::Missing => "MISSING",
        })
    }
}

/// A verdict other than a pass, with its reason in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind of failure.
    pub verdict: Verdict,
    /// Why, in one line.
    pub reason: String,
}

impl Failure {
    /// Something was run and was found wrong.
    pub fn fail(reason: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Fail,
            reason: reason.into(),
        }
    }

    /// Something was still running when its time was over.
    pub fn timeout(reason: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Timeout,
            reason: reason.into(),
        }
    }

    /// Something could not be run.
    pub fn error(reason: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Error,
            reason: reason.into(),
        }
    }

    /// A value is not known.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Refused,
            reason: reason.into(),
        }
    }

    /// A tool is not there.
    pub fn missing(reason: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Missing,
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The last line on standard error is one line, whatever the reason holds.
        write!(
            f,
            "{}: {}",
            self.verdict,
            self.reason.trim().replace('\n', " | ")
        )
    }
}

/// The result of anything that can end a verb.
pub type Result<T = ()> = std::result::Result<T, Failure>;

/// Turns any error into [`Verdict::Error`], saying what was being done.
pub trait Doing<T> {
    /// `what` completes the sentence "cannot ...".
    fn doing(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure::error(format!("cannot {what}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_prints_as_one_line() {
        let failure = Failure::fail("first\nsecond\n");
        assert_eq!(failure.to_string(), "FAIL: first | second");
    }
}
