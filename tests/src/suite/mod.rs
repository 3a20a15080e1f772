//! `make test`: everything that must hold, on the host and in QEMU.

mod bad;
mod bench;
mod gdb;
mod host;
mod kernel;
mod oracle;
mod report;
mod stress;
mod tour;

use crate::failure::{Failure, Result};
use crate::judge;
use crate::machine::{Boot, Machine};
use crate::options::{Options, VARIABLES};
use crate::workspace::{Build, Workspace};
use report::Report;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Time for one QEMU. It finds what hangs; it is no measure of speed, and leaves
/// room for a busy host.
const LIMIT: Duration = Duration::from_secs(120);
/// How many QEMUs run at a time.
const AT_A_TIME: usize = 2;

/// What every part of the suite needs.
struct Suite<'a> {
    /// Where things are.
    workspace: &'a Workspace,
    /// What all tests start from: the defaults, unless a person chose otherwise.
    options: &'a Options,
    /// The kernel.
    image: PathBuf,
    /// What the image is; the names of its tests begin with it, unless it is the plain kernel.
    build: Build,
    /// Where verdicts go.
    report: &'a Report,
}

/// Something to do in a QEMU of its own.
type Job<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Runs all tests and prints the count as the last line.
///
/// # Errors
/// If one of them fails.
pub fn run(workspace: &Workspace, options: &Options, build: Build) -> Result {
    if !judge::tour_expected(options.get("APPEND")) {
        return Err(Failure::refused(
            "the tests have an autorun= of their own; APPEND has another",
        ));
    }
    let logs = workspace.target.join("test-logs");
    // What is there afterwards is from this run.
    let _ = std::fs::remove_dir_all(&logs);
    let report = Report::default();
    // The kernel that judges itself is tried as well, unless it is the one that all is tried on.
    let (built, judging) = std::thread::scope(|scope| {
        let judging =
            (build != Build::Oracle).then(|| scope.spawn(|| workspace.build(Build::Oracle)));
        // One after the other: each has cargo to itself in its directory, and one CPU here.
        let tests = workspace.build(build.with_tests());
        let built = workspace.build(build).and(tests);
        let gone = || Err(Failure::error("the build ended in a panic"));
        let judging = judging.map(|judging| judging.join().unwrap_or_else(|_| gone()));
        (built, judging)
    });
    let with = |build| Suite {
        workspace,
        options,
        image: workspace.image_of(build),
        build,
        report: &report,
    };
    let (suite, watched) = (with(build), with(Build::Oracle));
    suite.host();
    if let Some(Err(failure)) = &judging {
        report.failed("kernel with oracle: build", &failure.to_string(), None);
    }
    match built {
        Ok(_) => {
            let mut jobs = suite.kernel_jobs();
            // Early, since some of them are long.
            if judging.is_some_and(|built| built.is_ok()) {
                jobs.extend(watched.oracle_jobs());
                jobs.extend(watched.stress_jobs());
            }
            jobs.extend(suite.gdb_jobs());
            jobs.extend(suite.bench_jobs());
            jobs.extend(suite.bad_kernel_jobs());
            jobs.extend(suite.stress_jobs());
            // The tours last: they compare with the first of them.
            jobs.extend(suite.tour_jobs());
            in_parallel(jobs);
        }
        Err(failure) => suite
            .report
            .failed("kernel: build", &failure.to_string(), None),
    }
    suite.report.finish()
}

/// Plays the tour under every combination of values, but for the variables that are set.
///
/// # Errors
/// If one of the tours fails.
pub fn matrix(workspace: &Workspace, options: &Options, build: Build) -> Result {
    let fixed: Vec<_> = VARIABLES
        .iter()
        .map(|variable| variable.name)
        .filter(|name| std::env::var(name).is_ok_and(|value| !value.is_empty()))
        .collect();
    let suite = Suite {
        workspace,
        options,
        image: workspace.build(build)?,
        build,
        report: &Report::default(),
    };
    in_parallel(suite.matrix_jobs(&fixed));
    suite.report.finish()
}

impl Suite<'_> {
    /// The kernel under the options that all tests start from.
    fn machine(&self) -> Machine {
        Machine::new(self.options, &self.image)
    }

    /// The same with the kernel that has the kernel's own tests.
    fn machine_with_tests(&self) -> Machine {
        Machine::new(self.options, &self.image_with_tests())
    }

    /// The kernel that has the tests of this build.
    fn image_with_tests(&self) -> PathBuf {
        self.workspace.image_of(self.build.with_tests())
    }

    /// What a test of this build is called.
    fn name(&self, name: &str) -> String {
        match self.build {
            Build::Plain => name.to_owned(),
            build => format!("{}-{name}", build.name()),
        }
    }

    /// Whether the oracle, where there is one, judged what that machine did.
    fn watched(&self, boot: &Boot) -> Result {
        match self.build {
            Build::Plain | Build::Tests => Ok(()),
            Build::Oracle | Build::Bugs => oracle::watched(boot),
        }
    }

    /// The log of a test, as a path for the test and as one for a person.
    fn log(&self, name: &str) -> PathBuf {
        self.workspace.log(name)
    }

    /// Notes the verdict of a test whose log is kept under its name.
    fn verdict(&self, name: &str, verdict: &Result) {
        self.report
            .verdict(name, verdict, self.workspace.relative(&self.log(name)));
    }
}

/// Runs the jobs in order, a few at a time.
fn in_parallel(jobs: Vec<Job<'_>>) {
    let queue = Mutex::new(VecDeque::from(jobs));
    // The lock is held to take a job, not to do it.
    let next = || {
        queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(job) = next() {
                    job();
                }
            });
        }
    });
}
