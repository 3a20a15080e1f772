//! What holds of every sequence: the oracle judges any without panic, complains of none that is
//! correct, and of each that a machine makes go wrong.

mod common;
mod model;

use mmu_oracle::{Config, Event, Kind, Memory, Oracle, Rule, Stats};
use model::{Choices, Program, edits, machine, narrow::narrow, recipes};
use proptest::{collection::vec, prelude::*};
use std::collections::BTreeMap;

/// Ways in which each program is run.
const RUNS: u64 = 16;

fn config(cases: u32) -> ProptestConfig {
    // PROPTEST_CASES still has its say.
    let asked = ProptestConfig::default();
    ProptestConfig {
        failure_persistence: None,
        cases: if std::env::var_os("PROPTEST_CASES").is_some() {
            asked.cases
        } else {
            cases
        },
        max_shrink_iters: 4096,
        ..asked
    }
}

/// Judges a sequence in that many words of memory: which event broke which rule.
fn rules_broken(events: &[Event], ets2: bool, words: usize) -> (Vec<(usize, Rule)>, Stats) {
    let mut words = vec![0x5555_5555_5555_5555; words];
    let mut oracle = Oracle::new(Memory::new(&mut words), Config { ets2 });
    let broken = events
        .iter()
        .enumerate()
        .filter_map(|(n, event)| {
            let violation = oracle.judge(event)?;
            // What is told must not panic either.
            assert!(violation.to_string().starts_with(violation.rule.name()));
            Some((n, violation.rule))
        })
        .collect();
    (broken, oracle.stats())
}

/// Any events, half of them of few addresses.
fn any_events() -> impl Strategy<Value = Vec<Event>> {
    let narrow = common::event().prop_map(narrow);
    prop_oneof![1 => vec(common::event(), 0..20), 4 => vec(narrow, 0..120)]
}

/// What a broken program tells in one of its runs: events that have to do with each other.
fn told_events() -> impl Strategy<Value = Vec<Event>> {
    let bytes = |n| vec(any::<u8>(), 0..n);
    (bytes(200), bytes(20), any::<u64>()).prop_map(|(choices, edits, seed)| {
        let program = broken(&choices, &edits);
        let run = machine::run(&program, seed);
        let mut events = model::preamble(&program);
        events.extend(run.events);
        events
    })
}

proptest! {
    #![proptest_config(config(400))]

    /// Nothing panics, everything is counted, and time is for reports alone.
    #[test]
    fn any_sequence_is_judged(events in any_events(), ets2: bool, pages in 0..64_usize) {
        let words = Memory::words_for(pages);
        let (rules, stats) = rules_broken(&events, ets2, words);
        prop_assert_eq!(stats.events, events.len() as u64);
        prop_assert_eq!(stats.violations, rules.len() as u64);
        let faults = events.iter().filter(|e| matches!(e.kind, Kind::SpuriousFault(_))).count();
        prop_assert_eq!(stats.spurious_faults, faults as u64);
        let at_other_times: Vec<_> = events
            .iter()
            .map(|event| Event { time: event.time.rotate_left(7) ^ 5, ..*event })
            .collect();
        prop_assert_eq!(rules_broken(&at_other_times, ets2, words), (rules, stats));
    }

    /// The digest is of the events: all of them, in their order.
    #[test]
    fn the_digest_tells_sequences_apart(
        events in any_events(),
        other in common::event(),
        at: prop::sample::Index,
    ) {
        let digest = |events: &[Event]| rules_broken(events, false, 4096).1.digest;
        let mut changed = events.clone();
        changed.insert(at.index(events.len() + 1), other);
        prop_assert_ne!(digest(&changed), digest(&events));
        if let [first, second, ..] = changed[..] {
            let same = Event { time: 0, ..first } == Event { time: 0, ..second };
            let before = digest(&changed);
            changed.swap(0, 1);
            prop_assert_eq!(digest(&changed) == before, same);
        }
    }

    /// With too little memory the oracle says so, once, before it misses anything.
    #[test]
    fn little_memory_is_no_silence(
        events in prop_oneof![any_events(), told_events()],
        words in 0..Memory::words_for(6),
    ) {
        let (whole, _) = rules_broken(&events, false, Memory::words_for(4096));
        let (little, _) = rules_broken(&events, false, words);
        let full: Vec<_> = little.iter().filter(|(_, rule)| *rule == Rule::MemoryFull).collect();
        prop_assert!(full.len() <= 1, "said more than once");
        let until = full.first().map_or(events.len(), |(n, _)| *n);
        let before = |(n, _): &&(usize, Rule)| *n < until;
        let expected: Vec<_> = whole.iter().filter(before).collect();
        prop_assert_eq!(little.iter().filter(before).collect::<Vec<_>>(), expected);
    }
}

/// A correct program, broken.
fn broken(choices: &[u8], edits: &[u8]) -> Program {
    let mut program = recipes::correct(&mut Choices(choices));
    edits::break_it(&mut program, &mut Choices(edits));
    program
}

proptest! {
    #![proptest_config(config(2000))]

    /// A program that is correct never goes wrong, and is never complained of.
    #[test]
    fn what_is_correct_is_accepted(choices in vec(any::<u8>(), 0..120), seed: u64) {
        let program = recipes::correct(&mut Choices(&choices));
        for n in 0..RUNS / 2 {
            let run = machine::run(&program, seed.wrapping_add(n));
            prop_assert!(run.whole, "{:#?}", program.steps);
            prop_assert!(run.wrong.is_empty(), "{:?}\n{}", run.wrong, story(&program, &run));
            if let Some((by, violation)) = model::judge(&program, &run.events) {
                prop_assert!(false, "event {by}: {violation}\n{}", story(&program, &run));
            }
        }
    }
}

proptest! {
    #![proptest_config(config(6000))]

    /// What goes wrong was complained of.
    #[test]
    fn what_goes_wrong_is_complained_of(
        choices in vec(any::<u8>(), 8..60),
        edits in vec(any::<u8>(), 0..20),
        seed: u64,
    ) {
        let program = broken(&choices, &edits);
        for n in 0..RUNS {
            let run = machine::run(&program, seed.wrapping_add(n));
            let Some(first) = run.wrong.iter().map(|wrong| wrong.by).min() else { continue };
            let complaint = model::judge(&program, &run.events[..first]);
            prop_assert!(
                complaint.is_some(),
                "{:?}\n{}",
                run.wrong,
                story(&program, &run)
            );
        }
    }
}

/// The events of a run, for the report of a failure.
fn story(program: &Program, run: &machine::Run) -> String {
    let events = run.events.iter().enumerate();
    let lines =
        events.map(|(n, event)| format!("{:3} CPU {} {:?}\n", n + 1, event.cpu, event.kind));
    format!(
        "{} CPUs, ets2 {}\n{}",
        program.cpus,
        program.ets2,
        lines.collect::<String>()
    )
}

/// The machine shows each thing that can go wrong, often enough that the property above means
/// something.
#[test]
fn the_machine_goes_wrong_in_every_way() {
    let mut random = machine::Random(1);
    let mut seen = BTreeMap::new();
    let mut runs = 0;
    let mut steps = 0;
    let mut bad = 0;
    let mut bytes = |n| (0..n).map(|_| random.next() as u8).collect::<Vec<_>>();
    for seed in 0..4000 {
        let program = broken(&bytes(50), &bytes(20));
        for n in 0..4 {
            runs += 1;
            steps += program.steps.len();
            let r = machine::run(&program, seed * 4 + n);
            bad += usize::from(!r.wrong.is_empty());
            for wrong in r.wrong {
                *seen.entry(wrong.what).or_insert(0) += 1;
            }
        }
    }
    println!("{runs} runs, {steps} steps: {seen:?}, {bad}");
    assert_eq!(seen.len(), 5, "{seen:?}");
}
