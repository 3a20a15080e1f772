//! `make fuzz`: the fuzz targets of the oracle, each for its part of `DURATION`. They need the
//! nightly toolchain that Miri is taken from, and a C++ compiler for libFuzzer; cargo-fuzz is not
//! needed.

use crate::failure::{Doing, Failure, Result};
use crate::miri;
use crate::options::Options;
use crate::tools;
use crate::workspace::Workspace;
use std::fs;
use std::process::{Command, Stdio};

/// The targets, in `kernel/mmu-oracle/fuzz/fuzz_targets`.
const TARGETS: &[&str] = &["judge", "recipes", "machine"];
/// Seconds for all of them, where `DURATION` does not say.
const SECONDS: u64 = 60;
/// The longest input: what a target makes of more takes longer, and says nothing else.
const MAX_BYTES: usize = 4096;
/// What cargo-fuzz would give the compiler: counters at every edge and at comparisons.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    --cfg fuzzing -Ccodegen-units=1";

/// Fuzzes, or says why that is skipped.
///
/// # Errors
/// If a target does not build or finds something.
pub fn run(workspace: &Workspace, options: &Options) -> Result {
    if let Some(reason) = missing() {
        println!("fuzz: skipped ({reason})");
        return Ok(());
    }
    let seconds = match options.get("DURATION") {
        "" => SECONDS,
        given => given.parse().doing("read DURATION")?,
    };
    let each = (seconds / TARGETS.len() as u64).max(1);
    let mut inputs = 0;
    let mut failed = Vec::new();
    for target in TARGETS {
        match fuzz(workspace, target, each)? {
            Some(ran) => {
                println!("fuzz: {target}: ok, {ran} inputs in {each} s");
                inputs += ran;
            }
            None => failed.push(*target),
        }
    }
    if !failed.is_empty() {
        return Err(Failure::fail(format!("fuzz: {}", failed.join(", "))));
    }
    println!("fuzz: {} targets, {inputs} inputs, 0 failed", TARGETS.len());
    Ok(())
}

/// What cannot be had, after an attempt to install it.
fn missing() -> Option<String> {
    if tools::first_line("c++", &["--version"]).is_none() {
        return Some("libFuzzer needs a C++ compiler, and there is no c++".to_owned());
    }
    (!miri::ensure_nightly()).then(|| {
        let command = miri::install_command().join(" ");
        format!("{} cannot be had; tried: {command}", miri::NIGHTLY)
    })
}

/// Fuzzes one target: how many inputs it ran, or `None` if it failed, which has then been shown.
fn fuzz(workspace: &Workspace, target: &str, seconds: u64) -> Result<Option<u64>> {
    let directory = workspace.target.join("fuzz");
    let corpus = directory.join("corpus").join(target);
    let found = directory.join("found").join(target);
    for directory in [&corpus, &found] {
        fs::create_dir_all(directory).doing(format!("make {}", directory.display()))?;
    }
    let manifest = workspace.root.join("kernel/mmu-oracle/fuzz/Cargo.toml");
    let mut command = Command::new("rustup");
    command
        .args(["run", miri::NIGHTLY, "cargo", "run", "-q", "--release"])
        // Named, so that build scripts are built without these flags.
        .args(["--target", &host()?, "--bin", target, "--manifest-path"])
        .arg(&manifest)
        .arg("--")
        .arg(&corpus)
        .arg(format!("-artifact_prefix={}/", found.display()))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={MAX_BYTES}"))
        .arg("-print_final_stats=1")
        .current_dir(&workspace.root)
        .env("CARGO_TARGET_DIR", &directory)
        .env("RUSTFLAGS", FLAGS)
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO")
        .env_remove("MAKEFLAGS")
        .stdin(Stdio::null());
    let output = command.output().doing("run rustup")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let log = workspace.log(&format!("fuzz-{target}"));
    if let Some(parent) = log.parent() {
        fs::create_dir_all(parent).doing(format!("make {}", parent.display()))?;
    }
    fs::write(&log, said.as_bytes()).doing(format!("write {}", log.display()))?;
    if let (true, Some(inputs)) = (output.status.success(), inputs_run(&said)) {
        return Ok(Some(inputs));
    }
    println!("fuzz: {target}: FAILED");
    for line in telling(&said) {
        println!("    {line}");
    }
    eprintln!(
        "lull: all of it is in {}",
        workspace.relative(&log).display()
    );
    Ok(None)
}

/// How many inputs libFuzzer says it ran.
fn inputs_run(said: &str) -> Option<u64> {
    said.lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))
        .and_then(|number| number.trim().parse().ok())
}

/// The lines that say what was found, or why it does not build.
fn telling(said: &str) -> Vec<&str> {
    let from = said
        .lines()
        .position(|line| line.contains("panicked at") || line.starts_with("error"))
        .unwrap_or(0);
    let end =
        |line: &&str| !line.starts_with("stack backtrace") && !line.starts_with("note: run with");
    let input = said
        .lines()
        .find(|line| line.contains("Test unit written to"));
    said.lines()
        .skip(from)
        .take_while(end)
        .take(20)
        .chain(input)
        .collect()
}

/// The host, as a compiler names it.
fn host() -> Result<String> {
    let output = Command::new("rustup")
        .args(["run", miri::NIGHTLY, "rustc", "-vV"])
        .output()
        .doing("run rustc")?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .ok_or_else(|| Failure::error("rustc does not say what its host is"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inputs_are_counted_by_the_fuzzer() {
        let said = "#2 INITED\nstat::number_of_executed_units: 91822\nstat::new_units_added: 3\n";
        assert_eq!(inputs_run(said), Some(91822));
        assert_eq!(inputs_run("error: could not compile"), None);
    }

    #[test]
    fn what_was_found_is_told_and_no_more() {
        let said = "#2 INITED\nthread '<unnamed>' panicked at src/a.rs:1:2:\nno\n\
                    stack backtrace:\n 0: x\nartifact_prefix='/f/'; Test unit written to /f/crash-1\n";
        assert_eq!(
            telling(said),
            [
                "thread '<unnamed>' panicked at src/a.rs:1:2:",
                "no",
                "artifact_prefix='/f/'; Test unit written to /f/crash-1"
            ]
        );
    }

    #[test]
    fn every_target_is_run() {
        let manifest = include_str!("../../kernel/mmu-oracle/fuzz/Cargo.toml");
        let targets: Vec<_> = manifest
            .split("[[bin]]")
            .skip(1)
            .filter_map(|bin| bin.lines().find_map(|line| line.strip_prefix("name = ")))
            .map(|name| name.trim_matches('"'))
            .collect();
        assert_eq!(targets, TARGETS);
    }
}
