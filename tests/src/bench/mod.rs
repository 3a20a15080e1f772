//! `make bench` and `make profile`: what the kernel's work costs in executed instructions, barriers
//! and TLBIs, beside Linux and beside an earlier run, and where in the kernel it is spent.

mod calls;
mod compare;
mod exec_log;
mod limits;
mod linux;
mod measurement;
mod memory;
mod plan;
mod profile;
mod scaling;
mod stub;
mod table;

use crate::failure::{Doing, Failure, Result};
use crate::judge;
use crate::machine::{Boot, Machine};
use crate::options::Options;
use crate::workspace::{Build, Workspace};
use measurement::Measurement;
use plan::{Changes, ENTRIES, Entry};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Time for one machine. It finds what hangs; it is no measure of speed.
const LIMIT: Duration = Duration::from_secs(240);
/// How many machines run at a time.
const AT_A_TIME: usize = 2;
/// What is the same for all, unless a person or an entry says otherwise: the debugging tools are off,
/// and there is as much RAM as Linux had.
const USUAL: Changes = &[
    ("DEBUG_PAGEALLOC", "off"),
    ("PAGE_POISON", "off"),
    ("KASAN", "off"),
    ("MEM", "2G"),
];
/// The case that measures time.
const SCALING: &str = "scaling";
/// `BASE=` for a new baseline.
const NEW: &str = "new";

/// The names that `CASE` can have.
fn known() -> String {
    format!("{} {} {SCALING}", plan::cases().join(" "), memory::CASE)
}

/// Whether the options make sense, before anything is installed or built.
///
/// # Errors
/// If they ask for things that do not go together, or a case that is not known.
pub fn check(options: &Options) -> Result {
    if !judge::tour_expected(options.get("APPEND")) {
        return Err(Failure::refused(
            "a measurement has an autorun= of its own; APPEND has another",
        ));
    }
    let case = plan::case_of(options.get("CASE"));
    if !case.is_empty() && !known().split(' ').any(|name| name == case) {
        return Err(Failure::refused(format!(
            "unknown CASE '{case}'; known: {}",
            known()
        )));
    }
    if options.get("SMP") != "1" {
        return Err(Failure::refused(
            "bench decides how many CPUs there are; known: SMP=1",
        ));
    }
    Ok(())
}

/// What all measurements have in common.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// Where things are.
    pub workspace: &'a Workspace,
    /// What a person chose.
    pub options: &'a Options,
    /// The kernel.
    pub image: &'a Path,
}

impl Setting<'_> {
    /// A machine with what is usual, what a person chose, and what an entry says: the last counts.
    fn machine(&self, commands: &str, changes: Changes) -> Result<Machine> {
        let mut options = self.options.clone();
        for (name, value) in USUAL {
            if std::env::var(name).is_ok_and(|value| !value.is_empty()) {
                continue;
            }
            options = options.with(name, value)?;
        }
        for (name, value) in changes {
            options = options.with(name, value)?;
        }
        Ok(Machine::new(&options, self.image).autorun(commands))
    }

    /// Boots a machine that measures, to its end.
    fn boot(&self, machine: &Machine, name: &str) -> Result<Boot> {
        let log = self.workspace.log(&format!("bench-{name}"));
        let boot = machine.boot_logged(LIMIT, &self.workspace.root, &log)?;
        let refusal = boot
            .text
            .lines()
            .find_map(|line| line.strip_prefix("lull: "));
        if let Some(why) = refusal {
            return Err(Failure::fail(format!("{name}: {why}")));
        }
        judge::success(&boot)
            .map_err(|failure| Failure {
                reason: format!("{name}: {}", failure.reason),
                ..failure
            })
            .map(|()| boot)
    }

    /// Measures in a machine of its own.
    fn measure(&self, words: &str, changes: Changes) -> Result<Vec<Measurement>> {
        let machine = self
            .machine(&format!("bench {words}"), changes)?
            .counting_instructions();
        let cpu = machine.options.get("CPU").to_owned();
        let differs: Vec<_> = changes.iter().map(|(_, value)| *value).collect();
        let name = format!("{words} {}", differs.join(" "));
        let boot = self.boot(&machine, name.trim())?;
        let measured: Vec<_> = boot
            .text
            .lines()
            .filter(|line| line.starts_with('{'))
            .map(|line| Measurement::parse(line, &cpu))
            .collect::<Result<_>>()?;
        if measured.is_empty() {
            return Err(Failure::fail(format!("{name}: it printed no measurement")));
        }
        Ok(measured)
    }

    /// Measures in several machines, a few at a time; the measurements are in the order of the list.
    fn measure_all(&self, list: &[(String, Changes)]) -> Result<Vec<Measurement>> {
        let results: Vec<_> = list.iter().map(|_| Mutex::new(None)).collect();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..AT_A_TIME {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some((words, changes)) = list.get(index) else {
                            break;
                        };
                        let measured = self.measure(words, changes);
                        if let Ok(mut slot) = results[index].lock() {
                            *slot = Some(measured);
                        }
                    }
                });
            }
        });
        let mut measured = Vec::new();
        for result in results {
            let result = result.into_inner().ok().flatten();
            measured.extend(
                result.unwrap_or_else(|| Err(Failure::error("a measurement ended in a panic")))?,
            );
        }
        Ok(measured)
    }
}

/// The machines for an entry.
fn machines(entry: &Entry) -> Vec<(String, Changes)> {
    let mut machines = vec![(entry.words.to_owned(), entry.changes)];
    if entry.fragmented {
        machines.push((format!("{} memory=fragmented", entry.words), entry.changes));
    }
    machines
}

/// The machines that a case asks for: all of its entries, or, with parameters, one.
fn asked_for(case: &str) -> Vec<(String, Changes)> {
    if case.contains(' ') {
        return vec![(case.to_owned(), &[])];
    }
    ENTRIES
        .iter()
        .filter(|entry| case.is_empty() || plan::case_of(entry.words) == case)
        .flat_map(machines)
        .collect()
}

/// The kernel that `make run` boots.
fn image(workspace: &Workspace) -> Result<PathBuf> {
    let image = workspace.build(Build::Plain)?;
    if let Some(name) = other_profile() {
        eprintln!("lull: {name} is set: this is not the image that make run boots");
    }
    Ok(image)
}

/// A variable by which cargo builds another image than the one that the project ships.
pub fn other_profile() -> Option<String> {
    std::env::vars()
        .map(|(name, _)| name)
        .find(|name| name.starts_with("CARGO_PROFILE_RELEASE_"))
}

/// Where the numbers of the landed kernel are kept.
fn baseline(workspace: &Workspace) -> PathBuf {
    workspace.root.join("tests").join("bench-baseline.json")
}

fn read(file: &Path) -> Result<Vec<Measurement>> {
    let text = std::fs::read_to_string(file).doing(format!("read {}", file.display()))?;
    measurement::read(&text)
}

/// `make bench`.
///
/// # Errors
/// If a case fails, or if it is worse than `BASE`.
pub fn bench(workspace: &Workspace, options: &Options) -> Result {
    let (case, base) = (options.get("CASE"), options.get("BASE"));
    let before = match base {
        "" | NEW => None,
        file => Some(read(&workspace.root.join(file))?),
    };
    let image = image(workspace)?;
    let setting = Setting {
        workspace,
        options,
        image: &image,
    };
    if plan::case_of(case) == SCALING {
        return scaling::run(&setting);
    }
    let measured = if case == memory::CASE {
        Vec::new()
    } else {
        setting.measure_all(&asked_for(case))?
    };
    let figures = linux::figures()?;
    let mut summary = table::print(&measured, &figures);
    let mut lines: Vec<_> = measured.iter().map(|it| it.line(None)).collect();
    if case.is_empty() || case == memory::CASE {
        lines.extend(memory::print(&setting, &mut summary)?);
    }
    println!("{} limits met, {} over", summary.met, summary.over);
    if base == NEW {
        write(&baseline(workspace), &lines)?;
    }
    lines.extend(linux_lines(&measured, &figures));
    write(&workspace.target.join("bench.json"), &lines)?;
    match before {
        Some(before) => compare::compare(&before, &measured, base),
        None => Ok(()),
    }
}

/// Linux's figures for what was measured, with how many times ours they are.
fn linux_lines(measured: &[Measurement], figures: &[Measurement]) -> Vec<String> {
    let mut lines = Vec::new();
    for measurement in measured {
        for kernel in linux::kernels(&measurement.key) {
            lines.extend(
                linux::like(figures, kernel, &measurement.key).map(|figure| {
                    let mut figure = figure.clone();
                    figure.key.memory.clone_from(&measurement.key.memory);
                    figure.line(Some(figure.insn / measurement.comparable().max(0.01)))
                }),
            );
        }
    }
    lines
}

fn write(file: &Path, lines: &[String]) -> Result {
    std::fs::write(file, lines.join("\n") + "\n").doing(format!("write {}", file.display()))?;
    println!("written: {}", file.display());
    Ok(())
}

/// The short form, for `make test`: no measurement of it is worse than the baseline.
///
/// # Errors
/// If one is, or fails.
pub fn short(setting: &Setting<'_>) -> Result {
    let entries = ENTRIES.iter().filter(|entry| entry.short);
    let machines: Vec<_> = entries
        .map(|entry| (entry.words.to_owned(), entry.changes))
        .collect();
    let file = baseline(setting.workspace);
    let measured = setting.measure_all(&machines)?;
    compare::compare(&read(&file)?, &measured, "tests/bench-baseline.json")
}

/// Two runs of the same give the same numbers, to the last digit.
///
/// # Errors
/// If they do not.
pub fn twice(setting: &Setting<'_>) -> Result {
    const WORDS: &str = "vmalloc_pair n=64";
    let lines = || -> Result<Vec<String>> {
        let measured = setting.measure(WORDS, &[])?;
        Ok(measured.iter().map(|it| it.line(None)).collect())
    };
    let (first, second) = (lines()?, lines()?);
    if first == second {
        return Ok(());
    }
    let differs = first.iter().zip(&second).find(|(a, b)| a != b);
    let (a, b) = differs.unwrap_or((&first[0], &second[0]));
    Err(Failure::fail(format!("two runs differ: {a} and {b}")))
}

/// `make profile`.
///
/// # Errors
/// If there is no case, or it fails.
pub fn profile(workspace: &Workspace, options: &Options) -> Result {
    let case = options.get("CASE");
    if matches!(plan::case_of(case), "" | SCALING) || case == memory::CASE {
        return Err(Failure::refused(format!(
            "there is no CASE to profile; known: {}",
            plan::cases().join(" ")
        )));
    }
    let setting = Setting {
        workspace,
        options,
        image: &image(workspace)?,
    };
    profile::profile(&setting, case)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(set: &[(&str, &str)]) -> Options {
        let get = |name: &str| {
            set.iter()
                .find(|(other, _)| *other == name)
                .map(|(_, value)| (*value).to_owned())
        };
        Options::from(get).unwrap()
    }

    #[test]
    fn a_case_that_is_not_known_is_refused_with_those_that_are() {
        let failure = check(&options(&[("CASE", "nonsuch n=1")])).unwrap_err();
        let text = failure.to_string();
        assert!(
            text.starts_with("REFUSED: unknown CASE 'nonsuch'; known: vmalloc_pair vmap"),
            "{text}"
        );
        assert!(text.ends_with("memory scaling"), "{text}");
        for good in ["", "vmap", "vmalloc_pair n=64 loops=1", "scaling", "memory"] {
            assert_eq!(check(&options(&[("CASE", good)])), Ok(()), "{good}");
        }
        for bad in [("SMP", "2"), ("APPEND", "autorun=tour")] {
            assert!(check(&options(&[bad])).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_case_with_parameters_is_one_machine() {
        assert_eq!(
            asked_for("page order=2"),
            [("page order=2".to_owned(), &[][..])]
        );
        let all = asked_for("vmalloc_pair");
        assert!(
            all.len() > 8
                && all
                    .iter()
                    .all(|(words, _)| words.starts_with("vmalloc_pair "))
        );
        assert!(asked_for("").len() > all.len());
    }

    #[test]
    fn the_baseline_has_the_short_form() {
        let baseline = include_str!("../../bench-baseline.json");
        let baseline = measurement::read(baseline).unwrap();
        for (words, debug) in [
            ("vmalloc_pair", false),
            ("vmalloc_pair", true),
            ("lazy", false),
        ] {
            let has = |it: &Measurement| it.key.case == words && it.key.debug_pagealloc == debug;
            assert!(baseline.iter().any(has), "{words}");
        }
    }
}
