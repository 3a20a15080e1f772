//! The runs of a litmus test: in which order its threads go, and which accesses deviate.
//!
//! Every order of priority of the threads is tried. The outcome constrains it: a load whose value
//! the outcome says waits until memory holds that value, and a store that would take it away waits
//! for the load. What is judged comes as late as it can.

use super::instruction::Instruction;
use super::layout::Layout;
use super::machine::{Machine, Standing, Stepped, Told};
use super::test::Test;
use super::text::{Read, Unsupported};
use std::collections::HashSet;

/// A run that ends as an outcome has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What happened.
    pub told: Vec<Told>,
    /// Whether the outcome is so without any deviation: any machine may show it.
    pub is_ordinary: bool,
    /// Whether the outcome depends on what the oracle knows of.
    pub is_judged: bool,
}

/// With how many threads all orders are tried: 6! is 720.
const MOST_THREADS: usize = 6;
/// How many steps a run may have: a loop that nothing ends is no outcome.
const MOST_STEPS: usize = 500;
/// How many runs a test may have.
const MOST_RUNS: usize = 5000;

/// All runs that end as one of the outcomes has it.
///
/// # Errors
/// If there are none, or too many, or the test does what has no counterpart.
pub fn runs(test: &Test) -> Read<Vec<Run>> {
    let layout = Layout::of(test)?;
    if test.threads.is_empty() || test.threads.len() > MOST_THREADS {
        return Err(Unsupported::at(0, "there are too many threads"));
    }
    let mut orders = Vec::new();
    permute(&mut (0..test.threads.len()).collect(), 0, &mut orders);
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut tried = 0;
    for outcome in &test.outcomes {
        for order in &orders {
            let mut choices = Some(Vec::new());
            while let Some(chosen) = choices.take() {
                tried += 1;
                if tried > MOST_RUNS {
                    return Err(Unsupported::at(0, "the test has too many runs"));
                }
                let mut machine = Machine::new(test, &layout, outcome, chosen)?;
                let ends = play(&mut machine, order.clone())?;
                choices = next(machine.choices());
                if ends && let Some(run) = run(machine) {
                    // Events hold types of others that are not hashed; their texts are.
                    if seen.insert(format!("{run:?}")) {
                        found.push(run);
                    }
                }
            }
        }
    }
    if found.is_empty() {
        let why = "no order of the threads ends as the condition has it";
        return Err(Unsupported::at(0, why));
    }
    Ok(found)
}

/// What a machine that is through has shown; none if that is not the outcome.
fn run(mut machine: Machine<'_>) -> Option<Run> {
    machine.finish();
    let standings = &machine.standings;
    if standings.contains(&Standing::NotSo) {
        return None;
    }
    let deviates = machine.told.iter().any(|told| told.deviates.is_some());
    let decided = |standing: &Standing| match standing {
        Standing::About(variable) => machine.is_decided(*variable),
        _ => false,
    };
    let is_judged = deviates || standings.iter().any(decided);
    let is_ordinary = !deviates && standings.iter().all(|s| *s == Standing::So);
    Some(Run {
        told: machine.told,
        is_ordinary,
        is_judged,
    })
}

/// Every order of the threads.
fn permute(order: &mut Vec<usize>, from: usize, orders: &mut Vec<Vec<usize>>) {
    if from + 1 >= order.len() {
        orders.push(order.clone());
        return;
    }
    for other in from..order.len() {
        order.swap(from, other);
        permute(order, from + 1, orders);
        order.swap(from, other);
    }
}

/// The choices of the next run, after those of one: as a number in binary is counted up.
fn next(choices: &[bool]) -> Option<Vec<bool>> {
    let last = choices.iter().rposition(|choice| !choice)?;
    let mut next = choices[..last].to_vec();
    next.push(true);
    Some(next)
}

/// When a thread may take its next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum When {
    /// At once.
    Now,
    /// It would be judged: when the others have done what they can.
    Late,
    /// It would take away what another thread is to read: when nothing else can go on.
    Held,
    /// Not before another thread has stored what it is to read.
    Never,
}

/// Runs all threads; false if they can't all get to their ends.
fn play(machine: &mut Machine<'_>, mut order: Vec<usize>) -> Read<bool> {
    for _ in 0..MOST_STEPS {
        let left = order.iter().filter(|thread| !machine.is_over(**thread));
        let first = left.min_by_key(|thread| when(machine, **thread));
        let Some(thread) = first.copied() else {
            return Ok(true);
        };
        if when(machine, thread) == When::Never {
            return Ok(false);
        }
        if machine.step(thread)? == Stepped::Back {
            order.retain(|other| *other != thread);
            order.push(thread);
        }
    }
    Ok(false)
}

/// When a thread may take its next step.
fn when(machine: &Machine<'_>, thread: usize) -> When {
    let pc = machine.cpus[thread].pc;
    if let Some((place, size)) = machine.load_at(thread, pc)
        && let Some(value) = machine.current(place, size)
        && !machine.suits(thread, pc, value)
    {
        return When::Never;
    }
    if let Some((place, new)) = machine.about_to_write(thread) {
        let takes_away = |other: usize| {
            machine.loads_to_come(other).any(|pc| {
                machine.load_at(other, pc).is_some_and(|(read, size)| {
                    let now = machine.current(read, size);
                    read == place
                        && now.is_some_and(|now| machine.suits(other, pc, now))
                        && !machine.suits(other, pc, new)
                })
            })
        };
        let mut others = (0..machine.cpus.len()).filter(|other| *other != thread);
        if others.any(takes_away) {
            return When::Held;
        }
    }
    if matches!(machine.instruction(thread), Instruction::End) || !machine.is_judged_next(thread) {
        When::Now
    } else {
        When::Late
    }
}
