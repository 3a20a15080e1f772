//! Reads what `cargo test` prints on both its streams: which package, which test,
//! and whether every test that a binary announced was heard of.

use super::ktap::Outcome;

/// What came of one `cargo test`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tests {
    /// Name, with the package before it, and outcome.
    pub tests: Vec<(String, Outcome)>,
    /// Binaries that did not report all their tests, or that failed otherwise.
    pub problems: Vec<String>,
}

/// Reads one run's output as it comes, line by line.
#[derive(Debug, Default)]
pub struct Reader {
    /// What was read.
    seen: Tests,
    /// The package whose tests are running.
    package: String,
    /// How many tests the running binary announced and has not reported.
    outstanding: usize,
}

impl Reader {
    /// Takes a line. Gives the test that it reports, if it reports one.
    pub fn line(&mut self, line: &str) -> Option<&(String, Outcome)> {
        let line = line.trim_end();
        if let Some(binary) = line.trim_start().strip_prefix("Running ") {
            self.close();
            // "unittests src/lib.rs (target/debug/deps/vmsa-0123456789abcdef)"
            let file = binary
                .trim_end_matches(')')
                .rsplit('/')
                .next()
                .unwrap_or(binary);
            self.package = file
                .rsplit_once('-')
                .map_or(file, |(name, _)| name)
                .to_owned();
        } else if let Some(package) = line.trim_start().strip_prefix("Doc-tests ") {
            self.close();
            self.package = format!("{package} (doc)");
        } else if let Some(count) = announced(line) {
            self.close();
            self.outstanding = count;
        } else if let Some((name, outcome)) = result(line).filter(|_| self.outstanding > 0) {
            self.outstanding -= 1;
            self.seen
                .tests
                .push((format!("{}: {name}", self.package), outcome));
            return self.seen.tests.last();
        }
        None
    }

    /// A binary has ended: what it announced must have been reported.
    fn close(&mut self) {
        if self.outstanding > 0 {
            let (package, missing) = (&self.package, self.outstanding);
            self.seen
                .problems
                .push(format!("{package}: {missing} tests were not reported"));
        }
        self.outstanding = 0;
    }

    /// The end of the run, with cargo's word on it.
    pub fn finish(mut self, passed: bool) -> Tests {
        self.close();
        let failed = self
            .seen
            .tests
            .iter()
            .any(|(_, outcome)| *outcome == Outcome::Failed);
        if !passed && !failed && self.seen.problems.is_empty() {
            self.seen
                .problems
                .push("cargo test failed, and no test did".to_owned());
        }
        if passed && failed {
            self.seen
                .problems
                .push("cargo test passed, and a test failed".to_owned());
        }
        self.seen
    }
}

/// N of `running N tests`.
fn announced(line: &str) -> Option<usize> {
    let rest = line.strip_prefix("running ")?;
    rest.strip_suffix(" tests")
        .or_else(|| rest.strip_suffix(" test"))?
        .parse()
        .ok()
}

/// A line `test NAME ... ok`.
fn result(line: &str) -> Option<(String, Outcome)> {
    let (name, verdict) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    // Nothing that was printed beside it can stand for a verdict.
    let outcome = match verdict.split([',', ' ', '<']).next()? {
        "ok" => Outcome::Passed,
        "FAILED" => Outcome::Failed,
        "ignored" => Outcome::Skipped(verdict.to_owned()),
        _ => return None,
    };
    Some((name.to_owned(), outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, passed: bool) -> Tests {
        let mut reader = Reader::default();
        for line in text.lines() {
            reader.line(line);
        }
        reader.finish(passed)
    }

    const GOOD: &str = "\
     Running unittests src/lib.rs (target/debug/deps/lazy_mmu-0123456789abcdef)

running 2 tests
test guard::tests::nests ... ok
test slow ... ignored, under Miri only

test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

   Doc-tests lazy_mmu

running 1 test
test kernel/lazy-mmu/src/lib.rs - Guard (line 12) ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.20s
";

    #[test]
    fn unit_and_doc_tests_are_counted_one_by_one() {
        let tests = read(GOOD, true);
        let names: Vec<_> = tests.tests.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "lazy_mmu: guard::tests::nests",
                "lazy_mmu: slow",
                "lazy_mmu (doc): kernel/lazy-mmu/src/lib.rs - Guard (line 12)"
            ]
        );
        assert!(matches!(tests.tests[1].1, Outcome::Skipped(_)));
        assert!(tests.problems.is_empty());
    }

    #[test]
    fn a_failure_is_the_tests_own() {
        let tests = read(&GOOD.replace("nests ... ok", "nests ... FAILED"), false);
        assert_eq!(tests.tests[0].1, Outcome::Failed);
        assert!(tests.problems.is_empty());
    }

    #[test]
    fn a_binary_that_dies_is_a_problem() {
        let tests = read(
            "running 3 tests\ntest a ... ok\nerror: test failed\n",
            false,
        );
        assert_eq!(tests.problems, [": 2 tests were not reported"]);
    }

    #[test]
    fn what_does_not_compile_is_a_problem() {
        let tests = read("error[E0425]: cannot find value\n", false);
        assert_eq!(tests.problems, ["cargo test failed, and no test did"]);
    }

    #[test]
    fn a_closing_line_is_not_believed() {
        let tests = read(
            "running 2 tests\ntest result: ok. 2 passed; 0 failed;\n",
            true,
        );
        assert_eq!(tests.problems, [": 2 tests were not reported"]);
        // Nor a line that looks like a test after the last one.
        let tests = read("running 1 test\ntest a ... ok\ntest b ... ok\n", true);
        assert_eq!(tests.tests.len(), 1);
    }
}
