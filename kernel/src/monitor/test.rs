//! `test`: the kernel tests, as KTAP.

use super::command::{Failed, refuse};
use crate::{
    ktest::{self, Expect, KernelTest},
    oracle::Boundary,
    println, task, verdict, warning,
};

/// `test list|GROUP|GROUP.NAME`. There is no way to run them all in one boot: a group may use the
/// machine up (`heap_full` does), so each has one of its own. The host program sees to that.
pub(super) fn test(arguments: &[&str]) -> Result<(), Failed> {
    // A constant of the build: nothing of what follows is in an image without tests.
    if !cfg!(feature = "ktests") {
        return refuse!(
            "this image has no kernel tests; make test builds the one that has, ORACLE=1 another"
        );
    }
    let passed = match arguments {
        ["list"] => {
            ktest::all().iter().for_each(|test| println!("{test}"));
            true
        }
        [name] => {
            let chosen = |test: &KernelTest| {
                test.group == *name
                    || name
                        .strip_prefix(test.group)
                        .and_then(|rest| rest.strip_prefix('.'))
                        == Some(test.name)
            };
            if !ktest::all().iter().any(chosen) {
                return refuse!("unknown test '{name}'; known: see 'test list'");
            }
            run_tests(chosen)
        }
        _ => return Err(Failed::Usage),
    };
    passed.then_some(()).ok_or(Failed::Told)
}

/// Runs the chosen tests as one KTAP report. Tests that end the machine run only when they are
/// named alone.
fn run_tests(chosen: impl Fn(&KernelTest) -> bool) -> bool {
    let alone = ktest::all().iter().filter(|test| chosen(test)).count() == 1;
    let tests = || {
        ktest::all()
            .iter()
            .filter(|test| chosen(test) && (alone || test.expect == Expect::Pass))
    };
    // Where the boot task was when boot was over, wherever it has got to since.
    if task::migrate_to(0).is_ok() {
        task::unpin();
    }
    println!("KTAP version 1");
    println!("1..{}", tests().count());
    let mut passed = true;
    for (number, test) in (1..).zip(tests()) {
        warning::print_again();
        let result = (test.run)();
        let judged = verdict::at(Boundary::Scene);
        match result {
            Ok(()) if judged.is_err() => {
                passed = false;
                println!("# {}", verdict::Broken);
                println!("not ok {number} {}.{}", test.group, test.name);
            }
            Ok(()) => println!("ok {number} {}.{}", test.group, test.name),
            Err(failure) => {
                passed = false;
                println!("# {failure}");
                println!("not ok {number} {}.{}", test.group, test.name);
            }
        }
    }
    passed
}
