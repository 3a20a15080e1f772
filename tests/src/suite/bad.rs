//! This program itself, judged on kernels that go wrong. It is started as make
//! starts it; what counts is that it fails, and the last line that it prints.

use super::{Job, Suite};
use crate::failure::{Doing, Failure, Result};
use crate::judge;
use crate::machine::write_log;
use crate::process::{self, Ending};
use crate::workspace::TARGET;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Time for this program to come to a verdict; it gives the kernel far less.
const LIMIT: Duration = Duration::from_secs(60);

/// A way to go wrong.
struct Case {
    /// The source file in `tests/bad-kernels`, without `.s`.
    kernel: &'static str,
    /// The seconds that the kernel has.
    seconds: &'static str,
    /// Further arguments of QEMU.
    qemu: &'static [&'static str],
    /// What the last line says after `lull: `; `None` where it must pass.
    verdict: Option<&'static str>,
}

/// A case that needs no arguments of QEMU and no shorter time.
const fn case(kernel: &'static str, verdict: Option<&'static str>) -> Case {
    Case {
        kernel,
        seconds: "30",
        qemu: &[],
        verdict,
    }
}

/// All of them, and one that goes right: else nothing would show that the others
/// fail for their reason.
const CASES: &[Case] = &[
    case("good", None),
    Case {
        seconds: "2",
        ..case(
            "hang",
            Some("TIMEOUT: the kernel was still running after 2s"),
        )
    },
    case(
        "power-off",
        Some("FAIL: the machine was powered off or reset"),
    ),
    case("reset", Some("FAIL: the machine was powered off or reset")),
    case(
        "panic",
        Some("FAIL: the kernel reported failure (status 32)"),
    ),
    case("short-plan", Some("FAIL: test plan: 2 results of 3")),
    case(
        "status-0",
        Some("FAIL: the machine was powered off or reset, or the kernel gave status 0"),
    ),
    Case {
        qemu: &["-M", "nonsuch"],
        ..case("good", Some("ERROR: QEMU gave up (status 1)"))
    },
    case("not-there", Some("ERROR: QEMU gave up (status 1)")),
];

impl Suite<'_> {
    /// A job a case, and one for a value that is not known.
    pub(super) fn bad_kernel_jobs(&self) -> Vec<Job<'_>> {
        let mut jobs: Vec<Job<'_>> = Vec::new();
        for case in CASES {
            jobs.push(Box::new(move || {
                let how = if case.qemu.is_empty() {
                    case.kernel
                } else {
                    "bad-qemu-option"
                };
                let name = format!("judge-{how}");
                let verdict = self.bad_kernel(&name, case);
                self.verdict(&name, &verdict);
            }));
        }
        jobs.push(Box::new(|| {
            let name = "judge-unknown-value";
            let verdict = this_program(&["run"]).and_then(|mut command| {
                command.env("CPU", "foo");
                self.last_line(
                    name,
                    command,
                    Some("REFUSED: unknown CPU 'foo'; known: cortex-a53 "),
                )
            });
            self.verdict(name, &verdict);
        }));
        jobs
    }

    /// Builds a bad kernel and has this program judge it.
    fn bad_kernel(&self, name: &str, case: &Case) -> Result {
        let image = self.build_bad_kernel(case.kernel)?;
        let mut arguments = vec!["boot", image.to_str().unwrap_or_default(), case.seconds];
        arguments.extend(case.qemu);
        self.last_line(name, this_program(&arguments)?, case.verdict)
    }

    /// Passes if this program ends as expected.
    fn last_line(&self, name: &str, command: Command, expected: Option<&str>) -> Result {
        let mut text = Vec::new();
        let ending = process::run(command, LIMIT, |bytes| text.extend_from_slice(bytes))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        write_log(&self.log(name), &format!("{text}\n[lull: {ending}]\n"))?;
        let last = judge::last_line(&text);
        match (expected, ending) {
            (None, Ending::Status(0)) => Ok(()),
            (Some(start), Ending::Status(1))
                if last
                    .strip_prefix("lull: ")
                    .is_some_and(|line| line.starts_with(start)) =>
            {
                Ok(())
            }
            (_, ending) => Err(Failure::fail(format!("{ending}, last line: {last}"))),
        }
    }

    /// Builds a kernel from one file of assembly. One whose source is not there is
    /// an image that is not there.
    fn build_bad_kernel(&self, kernel: &str) -> Result<PathBuf> {
        let sources = self.workspace.root.join("tests/bad-kernels");
        let directory = self.workspace.target.join("bad-kernels");
        std::fs::create_dir_all(&directory).doing("make a directory")?;
        let source = sources.join(format!("{kernel}.s"));
        let image = directory.join(kernel);
        if !source.exists() {
            let _ = std::fs::remove_file(&image);
            return Ok(image);
        }
        let output = Command::new("rustc")
            .args([
                "--edition",
                "2024",
                "--target",
                TARGET,
                "--crate-type",
                "bin",
            ])
            .args(["--crate-name", "bad_kernel", "-C", "panic=abort"])
            .arg(format!("-Clink-arg=-T{}", sources.join("bad.ld").display()))
            .arg("-o")
            .arg(&image)
            .arg(sources.join("bad.rs"))
            .env("BAD_KERNEL", &source)
            .current_dir(&self.workspace.root)
            .stdin(Stdio::null())
            .output()
            .doing("run rustc")?;
        if !output.status.success() {
            return Err(Failure::error(String::from_utf8_lossy(&output.stderr)));
        }
        Ok(image)
    }
}

/// This program, with these arguments.
fn this_program(arguments: &[&str]) -> Result<Command> {
    let program = std::env::current_exe().doing("find this program")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    Ok(command)
}
