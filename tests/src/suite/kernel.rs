//! The kernel's own tests: a list of them, then a QEMU a group, and one of its own
//! for each test that is to end in a panic. All of it runs on one CPU and on four; the groups run once
//! more on a lean machine, and those about CPUs on one with another interrupt controller.

use super::{Job, LIMIT, Suite};
use crate::failure::{Failure, Result};
use crate::judge::{self, ktap};
use crate::machine::Machine;
use crate::workspace::Build;
use std::collections::BTreeMap;

/// A second machine for the groups: nothing of the debugging tools, a linear map of blocks, and a
/// CPU that has none of the newer features.
const LEAN: &[(&str, &str)] = &[
    ("CPU", "cortex-a53"),
    ("DEBUG_PAGEALLOC", "off"),
    ("PAGE_POISON", "off"),
    ("KASAN", "off"),
    ("RODATA", "on"),
];

/// What `test` says in the image that `make run` boots.
const NO_TESTS: &str = "this image has no kernel tests; make test builds the one that has";

/// The groups that are about CPUs and who runs on them.
const ABOUT_CPUS: &[&str] = &["interrupt", "smp", "task", "timer"];

/// The groups in which programs run, or what stands for them.
const ABOUT_ASIDS: &[&str] = &["address_space", "address_space_random", "user"];

/// A name for tests there, and what differs.
type Other = (&'static str, &'static [(&'static str, &'static str)]);

/// What every group runs on besides.
const FOUR_CPUS: Other = ("kernel-4-cpus", &[("SMP", "4")]);
/// What those about CPUs run on besides.
const OTHER_CONTROLLER: Other = (
    "kernel-4-cpus-gic2-el2",
    &[("SMP", "4"), ("GIC", "2"), ("EL", "2")],
);

/// What those about ASIDs run on besides.
const FEW_ASIDS: Other = (
    "kernel-8-bit-asids",
    &[("SMP", "4"), ("APPEND", "asid_bits=8")],
);

/// One test, as the kernel's `test list` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// Its group.
    pub(super) group: String,
    /// Its name in the group.
    name: String,
    /// The text that it must print as it ends in failure; `None` for a test that
    /// must pass.
    pub(super) panics: Option<String>,
}

impl Listed {
    /// The name that is unique in the kernel.
    fn full_name(&self) -> String {
        format!("{}.{}", self.group, self.name)
    }
}

impl Suite<'_> {
    /// Asks the kernel for its tests, and makes a job of each group and of each
    /// test that is to end in a panic.
    pub(super) fn kernel_jobs(&self) -> Vec<Job<'_>> {
        self.kernel_jobs_of(|_| true)
    }

    /// The same for the tests that are chosen.
    pub(super) fn kernel_jobs_of(&self, chosen: impl Fn(&Listed) -> bool) -> Vec<Job<'_>> {
        let name = &*self.name("kernel-list");
        let listed = self
            .machine_with_tests()
            .autorun("test list")
            .boot_logged(LIMIT, &self.workspace.root, &self.log(name))
            .and_then(|boot| judge::success(&boot).and_then(|()| list(&boot.text)));
        let listed = match listed {
            Ok(listed) => listed,
            Err(failure) => {
                self.verdict(name, &Err(failure));
                return Vec::new();
            }
        };
        let mut groups: BTreeMap<String, Vec<Listed>> = BTreeMap::new();
        let mut jobs: Vec<Job<'_>> = Vec::new();
        if self.build == Build::Plain {
            jobs.push(Box::new(|| self.none()));
        }
        for test in listed.into_iter().filter(chosen) {
            if test.panics.is_some() {
                for (kind, changes) in self.other_machines(&test.group) {
                    let test = test.clone();
                    jobs.push(Box::new(move || self.panic_test(kind, changes, &test)));
                }
                jobs.push(Box::new(move || self.panic_test("kernel", &[], &test)));
            } else {
                groups.entry(test.group.clone()).or_default().push(test);
            }
        }
        for (group, tests) in groups {
            for (kind, changes) in self.other_machines(&group) {
                let (group, tests) = (group.clone(), tests.clone());
                jobs.push(Box::new(move || {
                    self.group(kind, changes, &group, &tests);
                }));
            }
            let again = (group.clone(), tests.clone());
            jobs.push(Box::new(move || self.group("kernel", &[], &group, &tests)));
            // Of a lean machine there is little to judge.
            if self.build == Build::Plain {
                jobs.push(Box::new(move || {
                    self.group("kernel-lean", LEAN, &again.0, &again.1);
                }));
            }
        }
        jobs
    }

    /// Runs a group, on a machine that differs in `changes` from the one that all tests start from.
    fn group(&self, kind: &str, changes: &[(&'static str, &str)], group: &str, tests: &[Listed]) {
        let kind = &*self.name(kind);
        let name = format!("{kind}-{group}");
        let log = self.log(&name);
        let boot = self.changed(changes).and_then(|machine| {
            machine
                .autorun(&format!("test {group}"))
                .boot_logged(LIMIT, &self.workspace.root, &log)
        });
        let verdicts = match boot {
            Ok(boot) => {
                let ending = judge::success(&boot).and_then(|()| self.watched(&boot));
                group_verdicts(kind, group, tests, &boot.text, ending)
            }
            Err(failure) => vec![(name, Err(failure))],
        };
        let log = self.workspace.relative(&log);
        for (name, verdict) in verdicts {
            match verdict {
                Ok(ktap::Outcome::Skipped(why)) => self.report.skipped(&name, &why),
                Ok(_) => self.report.passed(&name),
                Err(failure) => self.report.failed(&name, &failure.reason, Some(log)),
            }
        }
    }

    /// The machine that all tests start from, with some options changed.
    fn changed(&self, changes: &[(&'static str, &str)]) -> Result<Machine> {
        let options = changes
            .iter()
            .try_fold(self.options.clone(), |options, (name, value)| {
                options.with(name, value)
            })?;
        Ok(Machine::new(&options, &self.image_with_tests()))
    }

    /// Passes if the image without tests says that it has none, and who has.
    fn none(&self) {
        let name = "kernel-without-tests";
        let boot = self.machine().autorun("test list").boot_logged(
            LIMIT,
            &self.workspace.root,
            &self.log(name),
        );
        let verdict = boot.and_then(|boot| judge::expected_failure(&boot, NO_TESTS));
        self.verdict(name, &verdict);
    }

    /// The machines that a group runs on besides, with several CPUs.
    fn other_machines(&self, group: &str) -> impl Iterator<Item = Other> + use<> {
        // Another interrupt controller is nothing to judge.
        let controller = self.build == Build::Plain && ABOUT_CPUS.contains(&group);
        let also = controller.then_some(OTHER_CONTROLLER);
        let few = ABOUT_ASIDS.contains(&group).then_some(FEW_ASIDS);
        core::iter::once(FOUR_CPUS).chain(also).chain(few)
    }

    /// Runs a test that is to end in a panic.
    fn panic_test(&self, kind: &str, changes: &[(&'static str, &str)], test: &Listed) {
        let name = self.name(&format!("{kind}-{}", test.full_name()));
        let text = test.panics.as_deref().unwrap_or_default();
        let boot = self.changed(changes).and_then(|machine| {
            machine
                .autorun(&format!("test {}", test.full_name()))
                .boot_logged(LIMIT, &self.workspace.root, &self.log(&name))
        });
        let verdict = boot.and_then(|boot| judge::expected_failure(&boot, text));
        self.verdict(&name, &verdict);
    }
}

/// The tests that a console lists, a line of JSON each.
fn list(text: &str) -> Result<Vec<Listed>> {
    let mut tests: Vec<Listed> = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("{\"test\"")) {
        let test = listed(line).ok_or_else(|| Failure::fail(format!("not a test: {line}")))?;
        if tests
            .iter()
            .any(|other| other.full_name() == test.full_name())
        {
            return Err(Failure::fail(format!(
                "{} is listed twice",
                test.full_name()
            )));
        }
        tests.push(test);
    }
    if tests.is_empty() {
        return Err(Failure::fail("the kernel lists no tests"));
    }
    Ok(tests)
}

/// One line: `{"test":"name","group":"g","expect":"pass"}`, or with an
/// expectation of `panic: text`.
fn listed(line: &str) -> Option<Listed> {
    let value: serde_json::Value = serde_json::from_str(line.trim_end()).ok()?;
    let field = |name: &str| value[name].as_str().map(str::to_owned);
    let panics = match field("expect")?.as_str() {
        "pass" => None,
        other => Some(
            other
                .split_once(": ")
                .map_or(other, |(_, text)| text)
                .to_owned(),
        ),
    };
    Some(Listed {
        group: field("group")?,
        name: field("test")?,
        panics,
    })
}

/// A name and what came of it.
type Verdict = (String, Result<ktap::Outcome>);

/// What came of each test of a group, and of the group itself where something is
/// wrong that is no test's.
fn group_verdicts(
    kind: &str,
    group: &str,
    tests: &[Listed],
    text: &str,
    ending: Result,
) -> Vec<Verdict> {
    let plans = ktap::parse(text);
    let mut verdicts = Vec::new();
    let reported = |listed: &Listed| {
        let tests = plans.iter().flat_map(|plan| &plan.tests);
        let full = listed.full_name();
        tests
            .rev()
            .find(|test| test.name == listed.name || test.name == full)
    };
    for listed in tests {
        let verdict = match (reported(listed), &ending) {
            (Some(test), _) if test.outcome == ktap::Outcome::Failed => {
                Err(Failure::fail(test.notes.join("; ")))
            }
            (Some(test), _) => Ok(test.outcome.clone()),
            (None, Err(why)) => Err(Failure::fail(format!("it did not end: {why}"))),
            (None, Ok(())) => Err(Failure::fail("it did not run")),
        };
        verdicts.push((format!("{kind}-{}", listed.full_name()), verdict));
    }
    let failed = verdicts.iter().any(|(_, verdict)| verdict.is_err());
    // The form of the plan, unless what went wrong is told above.
    let problem = match (&plans[..], ending) {
        ([plan], Ok(())) if failed => plan.problems.first().cloned(),
        ([plan], Ok(())) => plan.problems.first().cloned().or_else(|| {
            let extra = plan.tests.len() - tests.len();
            (extra > 0).then(|| format!("{extra} tests were run that are not listed"))
        }),
        (_, Err(why)) if !failed => Some(why.to_string()),
        (_, Err(_)) => None,
        ([], Ok(())) => Some("no test plan".to_owned()),
        (_, Ok(())) => Some("more than one test plan".to_owned()),
    };
    if let Some(problem) = problem {
        verdicts.push((format!("{kind}-{group}"), Err(Failure::fail(problem))));
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(name: &str) -> Listed {
        Listed {
            group: "g".to_owned(),
            name: name.to_owned(),
            panics: None,
        }
    }

    /// The names of what failed.
    fn failed(text: &str, ending: Result) -> Vec<String> {
        let verdicts = group_verdicts("kernel", "g", &[pass("a"), pass("b")], text, ending);
        verdicts
            .into_iter()
            .filter(|(_, v)| v.is_err())
            .map(|(name, _)| name)
            .collect()
    }

    const GOOD: &str = "KTAP version 1\r\n1..2\r\nok 1 a\r\nok 2 g.b\r\n";

    #[test]
    fn the_list_is_read_line_by_line() {
        let text = "hello\r\n{\"test\":\"a\",\"group\":\"g\",\"expect\":\"pass\"}\r\n\
                    {\"test\":\"b\",\"group\":\"g\",\"expect\":\"panic: guard page\"}\r\n{\"x\":1}\r\n";
        let panics = Listed {
            panics: Some("guard page".to_owned()),
            ..pass("b")
        };
        assert_eq!(list(text).unwrap(), [pass("a"), panics]);
        assert!(list("hello\n").is_err(), "no tests");
        assert!(list("{\"test\":\"a\"}\n").is_err(), "half a test");
        let twice = "{\"test\":\"a\",\"group\":\"g\",\"expect\":\"pass\"}\n".repeat(2);
        assert!(list(&twice).is_err());
    }

    #[test]
    fn a_whole_group_passes() {
        assert!(failed(GOOD, Ok(())).is_empty());
    }

    #[test]
    fn each_test_of_a_group_fails_by_itself() {
        assert_eq!(
            failed(&GOOD.replace("ok 1", "not ok 1"), Ok(())),
            ["kernel-g.a"]
        );
        let dead = Err(Failure::fail("status 32"));
        assert_eq!(
            failed("KTAP version 1\n1..2\nok 1 a\n", dead.clone()),
            ["kernel-g.b"]
        );
        assert_eq!(failed("", dead), ["kernel-g.a", "kernel-g.b"]);
    }

    #[test]
    fn a_group_that_ends_badly_fails_even_if_all_its_tests_passed() {
        assert_eq!(failed(GOOD, Err(Failure::fail("status 0"))), ["kernel-g"]);
    }

    #[test]
    fn a_short_or_a_long_plan_fails_the_group() {
        assert_eq!(
            failed("KTAP version 1\n1..2\nok 1 a\n", Ok(())),
            ["kernel-g.b", "kernel-g"]
        );
        assert_eq!(failed(&GOOD.replace("1..2", "1..3"), Ok(())), ["kernel-g"]);
        let more = GOOD.replace("1..2", "1..3") + "ok 3 c\n";
        assert_eq!(failed(&more, Ok(())), ["kernel-g"]);
        assert_eq!(failed(&GOOD.repeat(2), Ok(())), ["kernel-g"]);
    }

    #[test]
    fn a_group_without_a_plan_fails() {
        let verdicts = group_verdicts("kernel", "g", &[], "", Ok(()));
        assert_eq!(verdicts.len(), 1);
        assert!(verdicts[0].1.is_err());
    }
}
