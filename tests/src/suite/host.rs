//! Host and doc tests: whatever executes no instruction, and this program.

use super::Suite;
use crate::judge::ktap::Outcome;
use crate::judge::libtest::Reader;
use crate::machine::write_log;
use crate::process::{self, Ending};
use std::time::Duration;

/// Time for all host tests together, building included.
const HOST_LIMIT: Duration = Duration::from_secs(280);
/// What the log is called.
const NAME: &str = "host";

impl Suite<'_> {
    /// Builds and runs the host tests of every package that is built for the host.
    pub(super) fn host(&self) {
        let mut command = self.workspace.cargo();
        // `boot` is instructions from end to end.
        command.args(["test", "--workspace", "--exclude", "boot", "--no-fail-fast"]);
        // Progress bars and colours would be in the way of reading.
        command
            .env("CARGO_TERM_COLOR", "never")
            .env("CARGO_TERM_PROGRESS_WHEN", "never");
        let mut reader = Reader::default();
        let (mut text, mut read) = (Vec::new(), 0);
        let ending = process::run(command, HOST_LIMIT, |bytes| {
            text.extend_from_slice(bytes);
            while let Some(length) = text[read..].iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&text[read..read + length]).into_owned();
                read += length + 1;
                match reader.line(&line) {
                    Some((name, Outcome::Passed)) => self.report.passed(name),
                    Some((name, Outcome::Skipped(why))) => self.report.skipped(name, why),
                    Some((_, Outcome::Failed)) | None => {}
                }
            }
        });
        let log = self.log(NAME);
        let log_name = self.workspace.relative(&log);
        let mut end = String::new();
        match &ending {
            Ok(Ending::Status(_)) => {}
            Ok(ending) => end = format!("cargo test: {ending}"),
            Err(failure) => end = failure.to_string(),
        }
        if let Err(failure) = write_log(&log, &format!("{}\n{end}", String::from_utf8_lossy(&text)))
        {
            self.report.failed(NAME, &failure.to_string(), None);
        }
        let tests = reader.finish(matches!(ending, Ok(Ending::Status(0))));
        for (name, outcome) in &tests.tests {
            if *outcome == Outcome::Failed {
                self.report.failed(name, "see the log", Some(log_name));
            }
        }
        for problem in &tests.problems {
            self.report
                .failed(NAME, &format!("{problem} {end}"), Some(log_name));
        }
    }
}
