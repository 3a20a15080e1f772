//! Who complained first, from what a machine printed. It is found without knowing who ought to.

use crate::judge::ktap;
use std::collections::HashMap;
use std::fmt;

/// Something that a machine said is wrong, by its identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complaint<'a> {
    /// The oracle, of a rule.
    Oracle(&'a str),
    /// A kernel test that did not hold, by group and name.
    Test(&'a str),
    /// An access that nobody survived.
    Fault,
    /// The kernel gave up on itself.
    Panic,
    /// A report of the shadow.
    Kasan,
    /// A warning that the same machine without the bug does not print.
    Warning(&'a str),
    /// A scene whose count of barriers was not what it expects.
    Count(&'a str),
    /// A scene that failed for another reason.
    Scene(&'a str),
    /// An error message.
    Error(&'a str),
}

impl fmt::Display for Complaint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oracle(rule) => write!(f, "oracle:{rule}"),
            Self::Test(name) => write!(f, "test:{name}"),
            Self::Fault => f.write_str("fault"),
            Self::Panic => f.write_str("panic"),
            Self::Kasan => f.write_str("kasan"),
            Self::Warning(text) => write!(f, "warning:{text}"),
            Self::Count(scene) => write!(f, "count:{scene}"),
            Self::Scene(scene) => write!(f, "scene:{scene}"),
            Self::Error(text) => write!(f, "error:{text}"),
        }
    }
}

/// The first complaint in `text` that is not in `without`, which the same machine printed without
/// the bug: messages that tests and scenes provoke are in both.
pub fn first<'a>(text: &'a str, without: &str) -> Option<Complaint<'a>> {
    // How often each message may come, whatever its numbers are.
    let mut usual: HashMap<String, usize> = HashMap::new();
    for message in without.lines().filter_map(message) {
        *usual.entry(shape(message)).or_default() += 1;
    }
    let mut is_usual = |message: &str| {
        let left = usual.get_mut(&shape(message));
        left.is_some_and(|left| {
            let some = *left > 0;
            *left = left.saturating_sub(1);
            some
        })
    };
    text.lines().map(str::trim_end).find_map(|line| {
        let complaint = complaint(line)?;
        let provoked = message(line).is_some_and(&mut is_usual);
        (!provoked).then_some(complaint)
    })
}

/// What a line complains of.
fn complaint(line: &str) -> Option<Complaint<'_>> {
    if let Some(violation) = line.strip_prefix("oracle: VIOLATION ") {
        let rule = violation.split([' ', ':', ',']).next()?;
        return Some(Complaint::Oracle(rule));
    }
    if let Some((false, rest)) = ktap::result_line(line) {
        let (_, name) = rest.split_once(' ')?;
        return Some(Complaint::Test(name.trim_start_matches("- ").trim()));
    }
    if let Some(rest) = line.strip_prefix("scene ")
        && let Some((scene, why)) = rest.split_once(": FAILED (")
    {
        // A count of barriers is printed by the names of its fields.
        let counted = why.contains("dsb:") && why.contains("expected");
        return Some(if counted {
            Complaint::Count(scene)
        } else {
            Complaint::Scene(scene)
        });
    }
    // A report that was survived is indented; one that ends the machine is not.
    let fatal = [
        "Unable to handle kernel ",
        "Kernel stack overflow",
        "SP is not in its stack",
        "Misaligned ",
        "Undefined instruction",
        "Unexpected ",
    ];
    if fatal.iter().any(|title| line.starts_with(title)) {
        return Some(Complaint::Fault);
    }
    if line.starts_with("Kernel panic: ") {
        return Some(Complaint::Panic);
    }
    if line.starts_with("BUG: KASAN: ") {
        return Some(Complaint::Kasan);
    }
    let warning = line.strip_prefix("WARN: ").map(Complaint::Warning);
    warning.or_else(|| line.strip_prefix("ERROR: BUG: ").map(Complaint::Error))
}

/// A line that tests and scenes may provoke.
fn message(line: &str) -> Option<&str> {
    let line = line.trim_end();
    ["WARN: ", "ERROR: BUG: ", "BUG: KASAN: "]
        .iter()
        .any(|prefix| line.starts_with(prefix))
        .then_some(line)
}

/// A message without its numbers: addresses differ from boot to boot.
fn shape(message: &str) -> String {
    let mut shape = String::with_capacity(message.len());
    for word in message.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        if word.starts_with(|c: char| c.is_ascii_digit()) || word.len() > 12 {
            shape.push('#');
        } else {
            shape.push_str(word);
        }
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Option<String> {
        first(text, "").map(|complaint| complaint.to_string())
    }

    #[test]
    fn each_kind_of_complaint_has_its_identifier() {
        for (line, identifier) in [
            (
                "oracle: VIOLATION not-visible at ffff8000",
                "oracle:not-visible",
            ),
            ("oracle: VIOLATION unflushed", "oracle:unflushed"),
            (
                "not ok 3 vmalloc.an_area_is_memory",
                "test:vmalloc.an_area_is_memory",
            ),
            (
                "Unable to handle kernel paging request at virtual address 1",
                "fault",
            ),
            ("Kernel panic: oh", "panic"),
            ("BUG: KASAN: vmalloc-out-of-bounds in f", "kasan"),
            ("WARN: nested", "warning:nested"),
            (
                "scene history: FAILED (Cell { warnings: 0, dsb: 33 }, expected Cell { dsb: 2 })",
                "count:history",
            ),
            (
                "scene catch: FAILED (ffff could be accessed)",
                "scene:catch",
            ),
            ("ERROR: BUG: vfree(0) at x", "error:vfree(0) at x"),
        ] {
            assert_eq!(named(line).as_deref(), Some(identifier), "{line}");
        }
    }

    #[test]
    fn what_is_no_complaint_has_none() {
        for line in [
            "",
            "ok 1 a.b",
            "scene catch: ok",
            "scene catch: skipped (needs KASAN=on)",
            "    Unable to handle kernel paging request at virtual address 1",
            "oracle: 3 events, 0 violations",
            "INFO: BUG",
            "# the first VIOLATION",
        ] {
            assert_eq!(named(line), None, "{line}");
        }
    }

    #[test]
    fn the_first_counts() {
        let text = "ok 1 a.a\r\nnot ok 2 a.b\r\noracle: VIOLATION unflushed\r\n";
        assert_eq!(named(text).as_deref(), Some("test:a.b"));
    }

    #[test]
    fn a_message_that_comes_anyway_is_no_complaint_and_one_more_is() {
        let once = "WARN: a spurious fault at ffff800040001000\n";
        let again = "WARN: a spurious fault at ffff800040002000\n";
        assert_eq!(first(again, once), None);
        let twice = format!("{once}{again}");
        let text = "a spurious fault at ffff800040002000";
        assert_eq!(first(&twice, once), Some(Complaint::Warning(text)));
        assert!(first("WARN: something else\n", once).is_some());
        // What is never provoked is a complaint even if it always comes.
        assert!(first("not ok 1 a.b\n", "not ok 1 a.b\n").is_some());
    }
}
