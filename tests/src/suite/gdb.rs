//! gdb tests, in batch: gdb finds the kernel, steps through the nested enable, and the project's
//! commands show what the kernel shows, after a crash too.

mod commands;

use super::{Job, Suite};
use crate::failure::{Doing, Failure, Result};
use crate::gdb;
use crate::machine::{Machine, write_log};

impl Suite<'_> {
    /// A job a script.
    pub(super) fn gdb_jobs(&self) -> Vec<Job<'_>> {
        let smoke = || {
            self.gdb(
                "gdb-smoke",
                &self.machine(),
                "smoke.gdb",
                gdb::smoke_verdict,
            );
        };
        let nesting = || {
            let machine = self.machine().autorun("tour nesting");
            self.gdb("gdb-nesting", &machine, "nesting.gdb", nesting_verdict);
        };
        let lazy = || {
            let machine = self.machine().autorun("tour nesting; tour hazards");
            self.gdb_and_console("gdb-lazy", &machine, "lazy.gdb", commands::lazy);
        };
        let crash = || {
            let machine = self.machine().autorun("tour pause");
            self.gdb_and_console("gdb-crash", &machine, "crash.gdb", commands::crash);
        };
        let tasks = || {
            let machine = self
                .machine_with_tests()
                .autorun("test task.lazy_state_is_the_tasks_own");
            self.gdb("gdb-tasks", &machine, "tasks.gdb", commands::tasks);
        };
        vec![
            Box::new(smoke),
            Box::new(nesting),
            Box::new(lazy),
            Box::new(crash),
            Box::new(tasks),
        ]
    }

    /// Runs a script and judges what gdb printed beside what the kernel did.
    fn gdb_and_console(
        &self,
        name: &str,
        machine: &Machine,
        script: &str,
        verdict: fn(&str, &str) -> Result,
    ) {
        self.gdb(name, machine, script, |text| {
            let console = std::fs::read(gdb::console(self.workspace, script))
                .doing("read what the kernel printed")?;
            verdict(text, &String::from_utf8_lossy(&console))
        });
    }

    /// Runs a script and judges what gdb printed.
    fn gdb(&self, name: &str, machine: &Machine, script: &str, verdict: impl Fn(&str) -> Result) {
        let verdict = gdb::batch(self.workspace, machine, script).and_then(|text| {
            write_log(&self.log(name), &text)?;
            verdict(&text)
        });
        self.verdict(name, &verdict);
    }
}

/// Passes if the last two calls of enable were an outer and a nested one, made by
/// the scene, and both counters were as `two-counters` has them.
fn nesting_verdict(text: &str) -> Result {
    let lines: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("lull: "))
        .collect();
    let expected = [
        "lull: before: enable_count=0 pause_count=0",
        "lull: after: enable_count=1 pause_count=0",
        "lull: before: enable_count=1 pause_count=0",
        "lull: after: enable_count=2 pause_count=0",
        "lull: end of the script",
    ];
    if !lines.ends_with(&expected) {
        let (got, last) = (lines.join("; "), crate::judge::last_line(text));
        return Err(Failure::fail(format!(
            "the counters did not go 0, 1, 2: {got}; gdb: {last}"
        )));
    }
    let callers: Vec<_> = text.lines().filter(|line| line.starts_with("#1")).collect();
    // Two calls, each from the scene.
    if callers.len() < 2
        || !callers[callers.len() - 2..]
            .iter()
            .all(|line| line.contains("nesting"))
    {
        return Err(Failure::fail(format!(
            "not called by the scene: {}",
            callers.join("; ")
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
Breakpoint 1, lazy_mmu_mode_enable ()
#0  lazy_mmu_mode_enable () at kernel/src/mm/lazy.rs:167
#1  0xffff800040210000 in kernel::tour::nesting::play () at kernel/src/tour/nesting.rs:20
lull: before: enable_count=0 pause_count=0
lull: after: enable_count=1 pause_count=0
#0  lazy_mmu_mode_enable () at kernel/src/mm/lazy.rs:167
#1  0xffff800040210010 in kernel::tour::nesting::play () at kernel/src/tour/nesting.rs:21
lull: before: enable_count=1 pause_count=0
lull: after: enable_count=2 pause_count=0
lull: end of the script
";

    #[test]
    fn the_nested_enable_must_be_seen() {
        assert_eq!(nesting_verdict(GOOD), Ok(()));
        // Sections that were opened and closed before the scene do not matter.
        let before = "#1  in kernel::mm\nlull: before: enable_count=0 pause_count=0\n\
                      lull: after: enable_count=1 pause_count=0\n";
        assert_eq!(nesting_verdict(&format!("{before}{GOOD}")), Ok(()));
        for (from, to) in [
            ("before: enable_count=1", "before: enable_count=0"),
            ("after: enable_count=2", "after: enable_count=1"),
            ("before: enable_count=0", "before: enable_count=1"),
            ("pause_count=0", "pause_count=1"),
            ("tour::nesting", "mm::vmalloc"),
            ("#1", "#2"),
            ("lull: end of the script", "The program is not being run."),
        ] {
            let bad = GOOD.replace(from, to).replace("nesting.rs", "scene.rs");
            assert!(nesting_verdict(&bad).is_err(), "{to}");
        }
    }
}
