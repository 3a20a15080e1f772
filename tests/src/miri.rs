//! `make miri`: the tests of everything that executes no instruction, under Miri,
//! which needs a nightly toolchain. It is pinned by its date, here and nowhere else.

use crate::failure::{Failure, Result};
use crate::tools;
use crate::workspace::Workspace;
use std::process::{Command, Stdio};

/// The nightly that Miri is taken from, and that builds the fuzz targets.
pub const NIGHTLY: &str = "nightly-2026-05-20";

/// The packages whose tests run under Miri: those that execute no instruction.
/// The host program starts processes, which Miri does not.
const PACKAGES: &[&str] = &["vmsa", "lazy-mmu", "mmu-oracle", "kernel"];

/// The command that installs the pinned nightly.
pub fn install_command() -> Vec<&'static str> {
    let words = [
        "rustup",
        "toolchain",
        "install",
        NIGHTLY,
        "--no-self-update",
    ];
    let more = ["--profile", "minimal", "--component", "miri,rust-src"];
    words.into_iter().chain(more).collect()
}

/// The name of an installed toolchain that has Miri: the pinned one, or whatever
/// `nightly` is.
pub fn toolchain() -> Option<String> {
    [NIGHTLY, "nightly"].into_iter().find_map(|name| {
        tools::first_line("rustup", &["run", name, "cargo", "miri", "--version"])?;
        Some(name.to_owned())
    })
}

/// Tries to install the pinned nightly. Whether it came is for the caller to ask; what it prints
/// says why not.
fn install() {
    let command = install_command();
    eprintln!("lull: installing: {}", command.join(" "));
    let _ = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .status();
}

/// Whether the pinned nightly is there, after an attempt to install it if it is not.
pub fn ensure_nightly() -> bool {
    let is_there =
        || tools::first_line("rustup", &["run", NIGHTLY, "rustc", "--version"]).is_some();
    if !is_there() {
        install();
    }
    is_there()
}

/// Runs the tests under Miri, or says why they are skipped.
///
/// # Errors
/// If a test fails.
pub fn run(workspace: &Workspace) -> Result {
    let mut found = toolchain();
    if found.as_deref() != Some(NIGHTLY) {
        install();
        found = toolchain();
    }
    let Some(toolchain) = found else {
        let command = install_command().join(" ");
        println!("miri: skipped (no toolchain has it; tried: {command})");
        return Ok(());
    };
    if toolchain != NIGHTLY {
        println!("miri: {NIGHTLY} cannot be had; using the installed {toolchain}");
    }
    let mut failed = Vec::new();
    for package in PACKAGES {
        let status = Command::new("rustup")
            .args([
                "run", &toolchain, "cargo", "miri", "test", "-q", "-p", package,
            ])
            .current_dir(&workspace.root)
            // What Miri builds is of no use to the pinned toolchain.
            .env("CARGO_TARGET_DIR", workspace.target.join("miri"))
            // Property tests ask for the directory that they are in, addresses are made
            // from numbers with their provenance exposed, and what takes
            // them a second takes Miri minutes.
            .env(
                "MIRIFLAGS",
                "-Zmiri-disable-isolation -Zmiri-permissive-provenance",
            )
            .env("PROPTEST_CASES", "8")
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("CARGO")
            .env_remove("MAKEFLAGS")
            .stdin(Stdio::null())
            .status();
        let passed = status.is_ok_and(|status| status.success());
        println!("miri: {package}: {}", if passed { "ok" } else { "FAILED" });
        if !passed {
            failed.push(*package);
        }
    }
    if failed.is_empty() {
        println!("miri: {} packages, {toolchain}: ok", PACKAGES.len());
        return Ok(());
    }
    Err(Failure::fail(format!("under Miri: {}", failed.join(", "))))
}
