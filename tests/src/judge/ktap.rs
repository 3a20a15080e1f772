//! Reads KTAP version 1 as Linux's kernel documentation has it: a version line, a
//! plan, then one line a test. Whatever breaks the form is a problem, because a
//! kernel that goes wrong may print half of it.

/// One test of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
    /// The diagnostic lines (`# ...`) before its result.
    pub notes: Vec<String>,
}

/// What became of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `ok`.
    Passed,
    /// `not ok`.
    Failed,
    /// `ok ... # SKIP reason`.
    Skipped(String),
}

/// One version line and what follows it, up to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// N of `1..N`.
    pub planned: Option<usize>,
    /// The results, in order.
    pub tests: Vec<Test>,
    /// What is wrong with the form.
    pub problems: Vec<String>,
}

/// The line that a plan starts with.
pub const VERSION: &str = "KTAP version 1";

/// Every plan in what a console printed. Other lines are skipped.
pub fn parse(text: &str) -> Vec<Plan> {
    let mut plans: Vec<Plan> = Vec::new();
    let mut notes = Vec::new();
    for line in text.lines().map(str::trim_end) {
        if line == VERSION {
            plans.push(Plan::default());
            notes.clear();
            continue;
        }
        let Some(plan) = plans.last_mut() else {
            continue;
        };
        if let Some(count) = line.strip_prefix("1..") {
            match (count.parse(), plan.planned) {
                (Ok(count), None) => plan.planned = Some(count),
                (Ok(_), Some(_)) => plan.problems.push("a second plan".to_owned()),
                (Err(_), _) => plan.problems.push(format!("a plan that is none: {line}")),
            }
        } else if let Some(note) = line.strip_prefix("# ") {
            notes.push(note.to_owned());
        } else if let Some(passed) = result_line(line) {
            plan.result(line, passed, std::mem::take(&mut notes));
        }
    }
    for plan in &mut plans {
        plan.close();
    }
    plans
}

/// The rest of a result line, and whether it says `ok`.
pub fn result_line(line: &str) -> Option<(bool, &str)> {
    let (passed, rest) = match line.strip_prefix("not ok ") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok ")?),
    };
    // "ok then" is no result.
    rest.starts_with(|c: char| c.is_ascii_digit())
        .then_some((passed, rest))
}

impl Plan {
    /// Adds a result line.
    fn result(&mut self, line: &str, (passed, rest): (bool, &str), notes: Vec<String>) {
        let (number, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let (name, directive) = rest.split_once('#').unwrap_or((rest, ""));
        let name = name.trim().trim_start_matches("- ").to_owned();
        let expected = self.tests.len() + 1;
        if self.planned.is_none() {
            self.problems
                .push(format!("a result before the plan: {line}"));
        }
        if number.parse() != Ok(expected) {
            self.problems
                .push(format!("result {number} where {expected} was due: {line}"));
        }
        if self.tests.iter().any(|test| test.name == name) {
            self.problems.push(format!("a second result of {name}"));
        }
        let skipped = directive.trim().strip_prefix("SKIP");
        let outcome = match (passed, skipped) {
            (true, Some(reason)) => Outcome::Skipped(reason.trim().to_owned()),
            (true, None) => Outcome::Passed,
            (false, _) => Outcome::Failed,
        };
        self.tests.push(Test {
            name,
            outcome,
            notes,
        });
    }

    /// Compares the results with the plan, at the end.
    fn close(&mut self) {
        match self.planned {
            None => self.problems.push("no plan".to_owned()),
            Some(0) => self.problems.push("a plan of no tests".to_owned()),
            Some(count) if count != self.tests.len() => {
                self.problems
                    .push(format!("{} results of {count}", self.tests.len()));
            }
            Some(_) => {}
        }
    }

    /// The first thing that is wrong: with the form, or a test that failed.
    pub fn first_problem(&self) -> Option<String> {
        let failed = self
            .tests
            .iter()
            .find(|test| test.outcome == Outcome::Failed);
        let form = self
            .problems
            .first()
            .map(|problem| format!("test plan: {problem}"));
        failed
            .map(|test| format!("test {} failed", test.name))
            .or(form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The one plan of a text.
    fn plan(text: &str) -> Plan {
        let mut plans = parse(text);
        assert_eq!(plans.len(), 1);
        plans.remove(0)
    }

    #[test]
    fn a_whole_plan_has_no_problem() {
        let plan = plan(
            "boot\r\nKTAP version 1\r\n1..3\r\nok 1 a\r\n# a note\r\nlog line\r\nok 2 - b\r\n\
             ok 3 c # SKIP needs X\r\n",
        );
        assert_eq!(plan.first_problem(), None);
        let outcomes: Vec<_> = plan.tests.iter().map(|test| test.outcome.clone()).collect();
        let skipped = Outcome::Skipped("needs X".to_owned());
        assert_eq!(outcomes, [Outcome::Passed, Outcome::Passed, skipped]);
        assert_eq!(plan.tests[1].name, "b");
        assert_eq!(plan.tests[1].notes, ["a note"]);
    }

    #[test]
    fn a_test_that_failed_is_named() {
        let plan = plan("KTAP version 1\n1..2\nok 1 a\n# left: 1\nnot ok 2 b\n");
        assert_eq!(plan.first_problem().unwrap(), "test b failed");
        assert_eq!(plan.tests[1].notes, ["left: 1"]);
    }

    #[test]
    fn every_broken_form_is_a_problem() {
        for (text, problem) in [
            ("1..2\nok 1 a\n", "1 results of 2"),
            ("1..1\nok 1 a\nok 2 b\n", "2 results of 1"),
            ("1..0\n", "a plan of no tests"),
            ("", "no plan"),
            ("ok 1 a\n1..1\n", "a result before the plan: ok 1 a"),
            ("1..2\nok 1 a\nok 3 b\n", "result 3 where 2 was due: ok 3 b"),
            ("1..2\nok 1 a\nok 2 a\n", "a second result of a"),
            ("1..1\n1..1\nok 1 a\n", "a second plan"),
            ("1..x\n", "a plan that is none: 1..x"),
        ] {
            let plan = plan(&format!("KTAP version 1\n{text}"));
            assert_eq!(
                plan.problems.first().map(String::as_str),
                Some(problem),
                "{text}"
            );
        }
    }

    #[test]
    fn a_failed_test_is_not_saved_by_a_directive() {
        let plan = plan("KTAP version 1\n1..1\nnot ok 1 a # SKIP\n");
        assert_eq!(plan.tests[0].outcome, Outcome::Failed);
    }

    #[test]
    fn plans_follow_one_another_and_need_their_version_line() {
        assert_eq!(parse("1..1\nok 1 a\n"), []);
        let plans = parse("KTAP version 1\n1..1\nok 1 a\nKTAP version 1\n1..2\nok 1 b\n");
        assert_eq!(plans[0].first_problem(), None);
        assert!(plans[1].first_problem().is_some());
    }
}
