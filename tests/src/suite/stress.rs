//! Random operation, briefly: a few seeds under the oracle, and the same seed twice, which must do
//! the same twice.

use super::{Job, Suite};
use crate::failure::{Failure, Result};
use crate::judge;
use crate::machine::Machine;
use crate::stress::{Outcome, Seed, finished};
use crate::workspace::Build;

/// Seeds under the oracle, each on a machine of its own: what differs from the one that all tests
/// start from. Without DEBUG_PAGEALLOC the window between a vfree and its purge is open as long as
/// it can be.
const MACHINES: &[&[(&str, &str)]] = &[
    &[],
    &[("BACKEND", "tlbi"), ("CPU", "cortex-a53")],
    &[("BACKEND", "stores"), ("DEBUG_PAGEALLOC", "off")],
    &[
        ("MODEL", "nesting-level"),
        ("BACKEND", "eager"),
        ("MEM", "64M"),
    ],
    &[
        ("BACKEND", "tlbi"),
        ("DEBUG_PAGEALLOC", "off"),
        ("KASAN", "off"),
        ("RODATA", "on"),
    ],
    // A task a CPU.
    &[("SMP", "2"), ("BACKEND", "stores")],
    &[("SMP", "4")],
    &[
        ("SMP", "4"),
        ("BACKEND", "tlbi"),
        ("DEBUG_PAGEALLOC", "off"),
    ],
    &[("SMP", "8"), ("MODEL", "nesting-level")],
    // One lock around every section, and what is put off by CPU.
    &[
        ("SMP", "4"),
        ("BACKEND", "stores-percpu-hooks"),
        ("PTLOCK", "global"),
    ],
];
/// Operations of each: a second or two.
const OPERATIONS: u64 = 4000;
/// Of each with several CPUs, which the host has to take turns at.
const OF_MANY: u64 = 1000;

impl Suite<'_> {
    /// A job for the seed that is played twice and, where the oracle is built in, for each machine.
    pub(super) fn stress_jobs(&self) -> Vec<Job<'_>> {
        let mut jobs: Vec<Job<'_>> = vec![Box::new(|| self.twice())];
        if self.build == Build::Plain {
            return jobs;
        }
        for (number, changes) in (1..).zip(MACHINES) {
            let several = changes.iter().any(|(name, _)| *name == "SMP");
            let operations = if several { OF_MANY } else { OPERATIONS };
            let seed = Seed::new(number, operations, changes.to_vec());
            jobs.push(Box::new(move || {
                let name = self.name(&format!("stress-seed-{number}"));
                self.verdict(&name, &self.play(&name, &seed).map(drop));
            }));
        }
        jobs
    }

    /// Plays a seed, and gives its digest.
    fn play(&self, name: &str, seed: &Seed) -> Result<String> {
        let boot = Machine::new(&seed.options(self.options)?, &self.image_with_tests())
            .autorun(&seed.command())
            .boot_logged(seed.limit(), &self.workspace.root, &self.log(name))?;
        if self.build != Build::Plain {
            return Outcome::of(&boot, seed).verdict;
        }
        judge::success(&boot)?;
        finished(&boot.text, seed)
            .ok_or_else(|| Failure::fail("it did not say that it was through"))
    }

    /// Plays a seed in two boots.
    fn twice(&self) {
        let name = self.name("stress-twice");
        let seed = Seed::new(17, OPERATIONS / 2, Vec::new());
        let play = || self.play(&name, &seed);
        let verdict = play().and_then(|first| same(&first, &play()?));
        self.verdict(&name, &verdict);
    }
}

/// Passes if the digests are the same.
fn same(first: &str, second: &str) -> Result {
    if first == second {
        return Ok(());
    }
    Err(Failure::fail(format!(
        "the same seed gave the digests {first} and {second}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    #[test]
    fn every_machine_is_known() {
        let options = Options::from(|_| None).unwrap();
        for changes in MACHINES {
            let seed = Seed::new(1, OPERATIONS, changes.to_vec());
            assert!(seed.options(&options).is_ok(), "{changes:?}");
        }
    }

    #[test]
    fn two_digests_are_one() {
        assert_eq!(same("12", "12"), Ok(()));
        assert!(same("12", "13").is_err());
    }
}
