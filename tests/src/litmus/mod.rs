//! `make litmus`: tests in herd7's litmus format, AArch64 with virtual memory, judged by the
//! oracle from their text alone.
//!
//! A test is a few threads and a condition, which describes an outcome that would be bad. Its
//! threads are run in the orders that the condition leaves open, every step is told to the oracle
//! as an event, and the oracle says whether the outcome was ruled out. What can't be read or has
//! no counterpart among the events is `unsupported`.

mod condition;
#[cfg(test)]
mod corpus_tests;
mod decode;
#[cfg(test)]
mod event_tests;
mod instruction;
mod judge;
mod layout;
mod machine;
#[cfg(test)]
mod reader_tests;
mod register;
mod schedule;
mod state;
mod test;
mod text;
mod words;

use crate::failure::{Doing, Failure, Result};
use judge::{Answer, Trial};
use std::path::{Path, PathBuf};

/// Judges every test of a folder and prints a line for each, without and with FEAT_ETS2.
///
/// # Errors
/// If there is no such folder, or no test in it.
pub fn run(folder: &Path) -> Result {
    for path in tests_in(folder)? {
        let bytes = std::fs::read(&path).doing(format_args!("read {}", path.display()))?;
        let text = String::from_utf8_lossy(&bytes);
        for line in lines(&text, &path.display().to_string()) {
            println!("{line}");
        }
    }
    Ok(())
}

/// The tests of a folder, sorted by their paths.
fn tests_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let shown = folder.display();
    let refused = |why| Failure::refused(format!("DIR '{shown}' {why}"));
    if !folder.is_dir() {
        return Err(refused("is no folder"));
    }
    let mut tests = Vec::new();
    for entry in folder.read_dir().doing(format_args!("list {shown}"))? {
        let path = entry.doing(format_args!("list {shown}"))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "litmus")
            && path.is_file()
        {
            tests.push(path);
        }
    }
    tests.sort();
    if tests.is_empty() {
        return Err(refused(
            "holds no test; known: files whose names end in .litmus",
        ));
    }
    Ok(tests)
}

/// The lines for a test. Why it is unsupported goes to standard error, with the file that it is in.
fn lines(text: &str, file: &str) -> [String; 2] {
    let name = text::name(text);
    let trial = Trial::of(text);
    let mut said = None;
    [false, true].map(|ets2| {
        let answer = trial.as_ref().map_err(Clone::clone);
        let oracle = match answer.and_then(|trial| trial.judge(ets2)) {
            Ok(Answer::Complains(_)) => "complains",
            Ok(Answer::Accepts) => "accepts",
            Err(why) => {
                let why = why.to_string();
                if said.as_ref() != Some(&why) {
                    eprintln!("lull: {file}: {why}");
                    said = Some(why);
                }
                "unsupported"
            }
        };
        let name = serde_json::Value::from(name);
        format!("{{\"litmus\":{name},\"ets2\":{ets2},\"oracle\":\"{oracle}\"}}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Verdict;

    #[test]
    fn a_folder_that_is_not_there_or_holds_no_test_is_refused() {
        let folder = std::env::temp_dir().join(format!("lull-litmus-{}", std::process::id()));
        let missing = run(&folder).unwrap_err();
        assert_eq!(missing.verdict, Verdict::Refused);
        assert!(missing.reason.ends_with("is no folder"), "{missing}");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("verdicts.tsv"), "").unwrap();
        let empty = run(&folder).unwrap_err();
        std::fs::write(folder.join("b.litmus"), "").unwrap();
        std::fs::write(folder.join("a.litmus"), [0xFF, b'\n']).unwrap();
        let tests = tests_in(&folder).unwrap();
        let judged = run(&folder);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(empty.verdict, Verdict::Refused);
        assert!(empty.reason.contains("holds no test"), "{empty}");
        assert_eq!(tests, [folder.join("a.litmus"), folder.join("b.litmus")]);
        assert_eq!(judged, Ok(()));
    }

    #[test]
    fn a_line_is_json_with_the_name_from_the_text() {
        assert_eq!(
            lines("AArch64 \"a\\b\"\n", "a.litmus"),
            [false, true].map(|ets2| format!(
                r#"{{"litmus":"\"a\\b\"","ets2":{ets2},"oracle":"unsupported"}}"#
            ))
        );
        let test = "AArch64 T+1\n{ [PTE(x)]=(oa:PA(x), valid:0); 0:X1=(oa:PA(x)); 0:X0=PTE(x);\n\
                    0:X2=x; }\n P0 ;\n STR X1,[X0] ;\n L0: LDR W3,[X2] ;\nexists fault(P0:L0,x)";
        assert_eq!(
            lines(test, "t.litmus"),
            [
                r#"{"litmus":"T+1","ets2":false,"oracle":"complains"}"#,
                r#"{"litmus":"T+1","ets2":true,"oracle":"accepts"}"#
            ]
        );
    }
}
