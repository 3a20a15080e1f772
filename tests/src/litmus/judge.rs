//! What the oracle says of a litmus test.
//!
//! It complains of a run if it finds a violation in what all threads do whatever an access ends
//! in, or if it finds one in every access that deviates: the outcome needs all of them. Each of
//! these is judged without the others, for the oracle reports a mistake once.

use super::machine::{Deviation, Told};
use super::schedule::{Run, runs};
use super::test::Test;
use super::text::{Read, Unsupported};
use mmu_oracle::{Config, Memory, Oracle, Rule};

/// What the oracle says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The outcome is not ruled out: this rule was broken.
    Complains(Rule),
    /// The outcome is ruled out.
    Accepts,
}

/// Words of memory for an oracle: more than a litmus test needs.
const WORDS: usize = Memory::words_for(64);

/// The runs of a test, ready to be judged.
#[derive(Debug)]
pub struct Trial {
    runs: Vec<Run>,
}

impl Trial {
    /// Reads a test and runs it.
    ///
    /// # Errors
    /// If it can't be read, or does what has no counterpart.
    pub fn of(text: &str) -> Read<Self> {
        let runs = runs(&Test::read(text)?)?;
        Ok(Self { runs })
    }

    /// The events of each run, in words: the accesses that deviate are marked.
    #[cfg(test)]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Lets the oracle judge.
    ///
    /// # Errors
    /// If the outcome has nothing that the oracle knows of.
    pub fn judge(&self, ets2: bool) -> Read<Answer> {
        let mut words = vec![0; WORDS];
        for run in &self.runs {
            if let Some(rule) = complaint(&run.told, ets2, &mut words)? {
                return Ok(Answer::Complains(rule));
            }
        }
        if self.runs.iter().any(|run| run.is_ordinary) {
            let why = "the condition holds on a machine on which every store is seen at once";
            return Err(Unsupported::at(0, why));
        }
        if !self.runs.iter().any(|run| run.is_judged) {
            let why = "the condition is not about translations";
            return Err(Unsupported::at(0, why));
        }
        Ok(Answer::Accepts)
    }
}

/// What the oracle complains of in a run.
fn complaint(told: &[Told], ets2: bool, words: &mut [u64]) -> Read<Option<Rule>> {
    if let Some(rule) = feed(told, None, ets2, words)? {
        return Ok(Some(rule));
    }
    let mut first = None;
    for (n, _) in told
        .iter()
        .enumerate()
        .filter(|(_, told)| told.deviates.is_some())
    {
        let Some(rule) = feed(told, Some(n), ets2, words)? else {
            return Ok(None);
        };
        first = first.or(Some(rule));
    }
    Ok(first)
}

/// Feeds an oracle everything but the accesses that deviate, and one of them: what it complains
/// of.
fn feed(told: &[Told], one: Option<usize>, ets2: bool, words: &mut [u64]) -> Read<Option<Rule>> {
    let mut oracle = Oracle::new(Memory::new(words), Config { ets2 });
    for (n, told) in told.iter().enumerate() {
        if told.deviates.is_some() && one != Some(n) {
            continue;
        }
        while let Some(violation) = oracle.judge(&told.event) {
            match (violation.rule, told.deviates) {
                (Rule::MemoryFull | Rule::UnreportedStore, _) => {
                    return Err(Unsupported::at(0, violation.rule.name()));
                }
                // An access that read something did not fault: asked again, the oracle says what
                // else is wrong with it.
                (Rule::NotVisible, Some(Deviation::Value)) => {}
                (rule, _) => return Ok(Some(rule)),
            }
        }
    }
    Ok(None)
}
