//! `make trace` and `make trace-check`: the events of a tour, saved and judged afterwards.
//!
//! The format is that of `mmu_oracle::format`; docs/trace.md describes it, and what the other
//! format, Casemate's, leaves out.

mod casemate;
mod file;
mod verdict;

use crate::failure::{Doing, Failure, Result};
use crate::judge;
use crate::machine::Machine;
use crate::options::Options;
use crate::workspace::{Build, Workspace};
use file::Trace;
use mmu_oracle::format::RECORD_BYTES;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time for the tour while every event is judged and written.
const LIMIT: Duration = Duration::from_secs(240);
/// The CPU whose tour Casemate is given, where none is asked for.
const CASEMATE_CPU: &str = "cortex-a72";

/// Plays the tour on the oracle build and saves its events.
///
/// # Errors
/// If the tour fails, the oracle finds a violation, or the trace is not whole.
pub fn record(workspace: &Workspace, options: &Options) -> Result {
    if !judge::tour_expected(options.get("APPEND")) {
        return Err(Failure::refused(
            "trace plays the tour; APPEND has an autorun= of its own",
        ));
    }
    let casemate = options.get("FORMAT") == "casemate";
    let cpu_is_chosen = std::env::var_os("CPU").is_some_and(|cpu| !cpu.is_empty());
    let options = if casemate {
        for_casemate(options, cpu_is_chosen)?
    } else {
        options.clone()
    };
    let image = workspace.build(Build::Oracle)?;
    let path = saved(workspace);
    // What is there afterwards is of this run.
    let _ = fs::remove_file(&path);
    let _ = fs::remove_file(path.with_extension("casemate"));
    let mut machine = Machine::new(&options, &image);
    machine.append = format!("{} trace={}", machine.append, for_the_kernel(&path)?)
        .trim()
        .to_owned();
    let log = workspace.log("trace");
    let boot = machine.boot_logged(LIMIT, &workspace.root, &log)?;
    let log = workspace.relative(&log).display();
    let played = judge::run(&boot, &options, true).map_err(|mut failure| {
        failure.reason = format!("{} (log: {log})", failure.reason.trim());
        failure
    });
    // A tour that failed may have left a whole trace, and then it is worth reading.
    let written = written(workspace, &path, casemate);
    played.and(written)
}

/// Says what was written, and writes it for Casemate.
fn written(workspace: &Workspace, path: &Path, casemate: bool) -> Result {
    let shown = workspace.relative(path).display().to_string();
    let events = Trace::open(path, &shown)?.count()?;
    println!("trace: {events} events in {shown}");
    if casemate {
        let other = path.with_extension("casemate");
        let summary = convert(path, &shown, &other)?;
        println!("{summary}");
        let other = workspace.relative(&other).display();
        println!("trace: {} records in {other}", summary.records);
    }
    Ok(())
}

/// Judges the saved trace.
///
/// # Errors
/// If there is a violation that was not made on purpose, or the trace can't be read.
pub fn check(workspace: &Workspace) -> Result {
    let path = saved(workspace);
    let shown = workspace.relative(&path).display().to_string();
    let trace = Trace::open(&path, &shown)?;
    let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
    let records = bytes / RECORD_BYTES as u64;
    verdict::judge(trace, records, &mut std::io::stdout().lock())
}

/// Where the trace is.
fn saved(workspace: &Workspace) -> PathBuf {
    workspace.target.join("mmu.trace")
}

/// The options for a tour that Casemate can be told of.
fn for_casemate(options: &Options, cpu_is_chosen: bool) -> Result<Options> {
    if !cpu_is_chosen {
        return options.with("CPU", CASEMATE_CPU);
    }
    // Of the CPUs that are known it alone has FEAT_TLBIRANGE.
    if options.get("CPU") == "max" {
        return Err(Failure::refused(
            "CPU=max has FEAT_TLBIRANGE, and Casemate knows no range; with FORMAT=casemate any \
             other CPU will do, cortex-a72 is the default",
        ));
    }
    Ok(options.clone())
}

/// The path as the kernel, which has it from a word of its command line, gives it back to QEMU.
fn for_the_kernel(path: &Path) -> Result<String> {
    // QEMU runs where this program does.
    let here = std::env::current_dir().doing("find the current directory")?;
    let near = path.strip_prefix(&here).unwrap_or(path);
    match near.to_str() {
        Some(text) if text.len() < 250 && !text.contains([' ', '\t', '"', '\'']) => {
            Ok(text.to_owned())
        }
        _ => Err(Failure::error(format!(
            "the kernel's command line can't hold the path {}",
            near.display()
        ))),
    }
}

/// Writes the trace for Casemate.
fn convert(from: &Path, shown: &str, to: &Path) -> Result<casemate::Summary> {
    let doing = format!("write {}", to.display());
    let file = fs::File::create(to).doing(&doing)?;
    let mut out = BufWriter::new(file);
    let summary = casemate::convert(Trace::open(from, shown)?, &mut out)?;
    out.flush().doing(&doing)?;
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Verdict;

    #[test]
    fn casemate_gets_a_cpu_that_knows_no_range() {
        let options = |cpu: &str| {
            let cpu = cpu.to_owned();
            Options::from(move |name| (name == "CPU").then(|| cpu.clone())).unwrap()
        };
        let chosen = for_casemate(&options(""), false).unwrap();
        assert_eq!(chosen.get("CPU"), "cortex-a72");
        let kept = for_casemate(&options("neoverse-n1"), true).unwrap();
        assert_eq!(kept.get("CPU"), "neoverse-n1");
        let refused = for_casemate(&options("max"), true).unwrap_err();
        assert_eq!(refused.verdict, Verdict::Refused);
        assert!(refused.reason.starts_with("CPU=max has FEAT_TLBIRANGE"));
    }

    #[test]
    fn the_kernel_is_told_a_path_that_is_one_word() {
        let here = std::env::current_dir().unwrap();
        let near = for_the_kernel(&here.join("target/mmu.trace")).unwrap();
        assert_eq!(near, "target/mmu.trace");
        let far = for_the_kernel(Path::new("/elsewhere/mmu.trace")).unwrap();
        assert_eq!(far, "/elsewhere/mmu.trace");
        assert!(for_the_kernel(Path::new("/else where/mmu.trace")).is_err());
    }
}
