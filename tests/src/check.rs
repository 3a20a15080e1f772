//! `make check`: format, lints, docs, packaging and circles between modules, which is
//! what review would refuse. Every step is taken even if one before it fails.

use crate::circles;
use crate::failure::{Failure, Result};
use crate::workspace::{TARGET, Workspace};
use std::process::Command;

/// The packages that are built for the kernel's target.
fn for_target(workspace: &Workspace) -> Vec<&str> {
    workspace
        .packages
        .iter()
        .map(|p| p.name.as_str())
        .filter(|name| *name != "lull")
        .collect()
}

/// The steps: what each is called and the arguments of its cargo.
fn steps(workspace: &Workspace) -> Vec<(&'static str, Vec<String>)> {
    let words = |text: &str| {
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let with_packages = |text: &str, packages: &[&str], end: &str| {
        let mut arguments = words(text);
        for package in packages {
            arguments.extend(["-p".to_owned(), (*package).to_owned()]);
        }
        arguments.extend(words(end));
        arguments
    };
    let target = for_target(workspace);
    let publishable: Vec<_> = workspace
        .packages
        .iter()
        .filter(|p| p.publishable)
        .map(|p| p.name.as_str())
        .collect();
    let for_it = format!("--target {TARGET}");
    // `boot` is instructions from end to end, and is nothing on the host.
    vec![
        ("format", words("fmt --all --check")),
        (
            "lints, host",
            words("clippy -q --workspace --exclude boot --all-targets -- -D warnings"),
        ),
        (
            "lints, kernel",
            with_packages("clippy -q", &target, &format!("{for_it} -- -D warnings")),
        ),
        (
            "lints, kernel with the oracle and the planted bugs",
            with_packages(
                "clippy -q",
                &["kernel"],
                &format!("{for_it} --features bugs -- -D warnings"),
            ),
        ),
        (
            "docs, host",
            words("doc -q --no-deps --workspace --exclude boot --exclude kernel"),
        ),
        (
            "docs, kernel",
            with_packages(
                "doc -q --no-deps --document-private-items",
                &["boot", "kernel"],
                &format!("{for_it} --features kernel/ktests"),
            ),
        ),
        (
            "packaging",
            with_packages("package -q --allow-dirty", &publishable, ""),
        ),
    ]
}

/// Takes every step.
///
/// # Errors
/// If one of them fails.
pub fn run(workspace: &Workspace) -> Result {
    let mut failed = Vec::new();
    for (name, arguments) in steps(workspace) {
        let mut command: Command = workspace.cargo();
        command.args(&arguments).env("RUSTDOCFLAGS", "-D warnings");
        let passed = command.status().is_ok_and(|status| status.success());
        println!("check: {name}: {}", if passed { "ok" } else { "FAILED" });
        if !passed {
            failed.push(name);
            eprintln!("lull: that was: cargo {}", arguments.join(" "));
        }
    }
    let circles = circles::check(workspace);
    let passed = if circles.is_ok() { "ok" } else { "FAILED" };
    println!("check: circles: {passed}");
    if let Err(failure) = circles {
        failed.push("circles");
        eprintln!("lull: that was: {failure}");
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::fail(format!("make check: {}", failed.join("; "))))
}
