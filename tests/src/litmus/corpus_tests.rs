//! The project's own litmus tests, held against the verdicts of Arm's memory model.
//!
//! Where the model allows the bad outcome the oracle must complain, always. Where the model
//! forbids it the oracle may complain in the groups of tests that are listed here, and nowhere
//! else; and it must do so, lest the list say more than is so.

use super::judge::{Answer, Trial};
use super::text::name;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Without FEAT_ETS2, with it, or both.
#[derive(Clone, Copy)]
enum Variants {
    Without,
    With,
    Both,
}
use Variants::{Both, With, Without};

/// Tests in which the oracle complains of what the model forbids, for one reason.
struct Group {
    name: &'static str,
    why: &'static str,
    members: &'static [(&'static str, Variants)],
}

const GROUPS: &[Group] = &[
    Group {
        name: "address dependency",
        why: "the address of the access depends on the flag that was read, which orders it and its \
              walks after that read; events carry no dependencies through registers",
        members: &[
            ("3-MP-STLR--LDR+addr", Without),
            ("3-MP-DMB.ST--LDR+addr", Without),
            ("3-MP-DMB.ST+STLR--LDR+addr", Without),
            ("3-MP-DSB.ISHST--LDR+addr", Without),
            ("3-MP-DSB.ISHST+ISB--LDR+addr", Without),
            ("3-MP-DSB.ISHST+STLR--LDR+addr", Without),
        ],
    },
    Group {
        name: "entry read",
        why: "what an entry was read as is no synchronisation: the oracle concludes nothing from it",
        members: &[("3b-PTEREAD-ctrl+ISB", Both), ("3b-PTEREAD-DSB.ISH", With)],
    },
    Group {
        name: "shoot-down publishes",
        why: "a TLBI that other CPUs have completed orders what they do next after the stores \
              before it, acquire and ISB being enough; to the oracle a TLBI only takes away",
        members: &[("3-MP-shoot--LDAR+ISB", Without)],
    },
    Group {
        name: "DSB NSH",
        why: "the model counts a DSB NSH as completing a broadcast TLBI, though the architecture \
              asks for the domain of the TLBI; these verdicts are not to be trusted",
        members: &[
            ("4-V2I-DSB.ISHST+VAALE1IS+DSB.NSH+ISB", Both),
            ("4b-V2I-MP-DSBNSHpost--LDAR", Both),
            ("4b-V2I-MP-DSBNSHpost--LDAR+DSB.ISH", Both),
            ("4b-V2I-MP-DSBNSHpost--LDAR+DSB.ISH+ISB", Both),
        ],
    },
    Group {
        name: "BBM flagged",
        why: "a valid entry is replaced by one that maps another frame: break-before-make, which \
              the model flags and does not simulate",
        members: &[("6-OA-noBBM-self", Both)],
    },
    Group {
        name: "racy first use",
        why: "an access that did not fault shows that the entry was seen, and an ISB orders the \
              next one after it; the oracle concludes nothing from an access that might have failed",
        members: &[("8-RACY-two-ISB", Both)],
    },
];

/// What the kernel itself does: no group may have these.
const OWN_SEQUENCES: &[&str] = &[
    "1-I2V-DSB.ISHST+ISB",
    "2-BATCH-DSB.ISHST+ISB",
    "4-V2I-DSB.ISHST+VAALE1IS+DSB.ISH+ISB",
    "4b-V2I-MP-shoot--LDAR",
    "5-REUSE-R-full",
    "5-REUSE-R-full-DSBISH",
    "5-REUSE-W-full",
    "6-OA-BBM-self",
    "6-OA-BBM-P1",
    "6-RW2RO-full",
    "6-RO2RW-full",
    "7-BATCH2-full-y",
    "7d-DEFER-full",
];
/// And those whose names begin so, where the model forbids the outcome.
const OWN_FAMILIES: &[&str] = &["9-PF-install-", "10-MIGR-"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("litmus")
}

/// The text of every test, by the name in it.
fn corpus() -> BTreeMap<String, String> {
    let paths = super::tests_in(&folder()).unwrap();
    let texts = paths
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap());
    texts.map(|text| (name(&text).to_owned(), text)).collect()
}

/// Whether the model allows the outcome, by test and FEAT_ETS2.
fn verdicts() -> BTreeMap<(String, bool), bool> {
    let table = std::fs::read_to_string(folder().join("verdicts.tsv")).unwrap();
    let mut verdicts = BTreeMap::new();
    for row in table.lines().skip(1) {
        let fields: Vec<_> = row.split('\t').collect();
        for (ets2, field) in [(false, fields[1]), (true, fields[2])] {
            let allowed = match field {
                "Allowed" => true,
                "Forbidden" => false,
                other => panic!("{row}: {other}"),
            };
            verdicts.insert((fields[0].to_owned(), ets2), allowed);
        }
    }
    verdicts
}

/// The members of all groups.
fn members() -> BTreeSet<(String, bool)> {
    let all = GROUPS.iter().flat_map(|group| group.members);
    let mut members = BTreeSet::new();
    for (name, variants) in all {
        let variants: &[bool] = match variants {
            Without => &[false],
            With => &[true],
            Both => &[false, true],
        };
        for ets2 in variants {
            assert!(members.insert(((*name).to_owned(), *ets2)), "{name} twice");
        }
    }
    members
}

/// Whether the oracle complains, by test and FEAT_ETS2. All tests must be supported.
fn complaints() -> BTreeMap<(String, bool), bool> {
    let mut complaints = BTreeMap::new();
    for (name, text) in corpus() {
        let trial = Trial::of(&text).unwrap_or_else(|why| panic!("{name}: {why}"));
        for ets2 in [false, true] {
            let answer = trial.judge(ets2);
            let answer = answer.unwrap_or_else(|why| panic!("{name}: {why}"));
            let complains = answer != Answer::Accepts;
            complaints.insert((name.clone(), ets2), complains);
        }
    }
    complaints
}

#[test]
fn every_test_has_a_verdict_and_every_verdict_a_test() {
    let tests: Vec<_> = corpus()
        .into_keys()
        .flat_map(|name| [(name.clone(), false), (name, true)])
        .collect();
    assert_eq!(tests.len(), 2 * 251);
    assert!(verdicts().into_keys().eq(tests));
}

#[test]
fn what_the_model_allows_is_complained_of_always() {
    let verdicts = verdicts();
    let accepted: Vec<_> = complaints()
        .into_iter()
        .filter(|(test, complains)| verdicts[test] && !complains)
        .collect();
    assert!(accepted.is_empty(), "{accepted:#?}");
}

#[test]
fn what_the_model_forbids_is_complained_of_in_the_groups_alone() {
    let verdicts = verdicts();
    let found: BTreeSet<_> = complaints()
        .into_iter()
        .filter(|(test, complains)| !verdicts[test] && *complains)
        .map(|(test, _)| test)
        .collect();
    let listed = members();
    let unlisted: Vec<_> = found.difference(&listed).collect();
    assert!(unlisted.is_empty(), "in no group: {unlisted:#?}");
    let needless: Vec<_> = listed.difference(&found).collect();
    assert!(
        needless.is_empty(),
        "in a group without need: {needless:#?}"
    );
    for group in GROUPS {
        assert!(
            !group.why.is_empty() && !group.members.is_empty(),
            "{}",
            group.name
        );
    }
}

#[test]
fn the_sequences_of_the_kernel_are_in_no_group() {
    let (verdicts, members) = (verdicts(), members());
    for test in verdicts.keys() {
        let is_own = OWN_SEQUENCES.contains(&test.0.as_str())
            || OWN_FAMILIES.iter().any(|family| test.0.starts_with(family));
        assert!(!is_own || !members.contains(test), "{test:?}");
    }
    for own in OWN_SEQUENCES {
        assert_eq!(
            verdicts.get(&((*own).to_owned(), false)),
            Some(&false),
            "{own}"
        );
    }
    for family in OWN_FAMILIES {
        let has = |(name, _): &(String, bool)| name.starts_with(family);
        assert!(verdicts.keys().any(has), "{family}");
    }
}

/// The same test with another name, another description, other variables and labels, and a
/// register renamed.
fn disguised(text: &str) -> String {
    let (before, after) = text.split_once("\n{").unwrap();
    assert!(before.starts_with("AArch64 "));
    let mut words = String::from("AArch64 other\n\"exists (0:X1=1)\"\n(* P0 ; *)\n{");
    let mut word = String::new();
    for c in after.chars().chain([' ']) {
        if c.is_ascii_alphanumeric() || c == '_' {
            word.push(c);
            continue;
        }
        words.push_str(match word.as_str() {
            "x" => "vmalloc",
            "y" => "X_",
            "z" => "lock",
            "w" => "x",
            "L0" => "here",
            "LC" => "L0",
            "W7" => "W27",
            "X7" => "X27",
            other => other,
        });
        word.clear();
        words.push(c);
    }
    words
}

#[test]
fn nothing_is_concluded_from_names() {
    for (name, text) in corpus() {
        let (plain, other) = (
            Trial::of(&text).unwrap(),
            Trial::of(&disguised(&text)).unwrap(),
        );
        for ets2 in [false, true] {
            assert_eq!(plain.judge(ets2), other.judge(ets2), "{name}");
        }
    }
}
