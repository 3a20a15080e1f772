//! `make bench CASE=scaling`: the same work on one CPU and on two at a time, as a ratio.
//!
//! What two CPUs of one machine do together is set beside what two machines of one CPU do side by
//! side: the host has no more to give than that. Each ratio is of times that were taken in turns; the
//! medians of several are compared. Nothing else should be busy on the host; against what is so all the
//! same, a time is the shortest of a few.

use super::Setting;
use crate::failure::{Doing, Failure, Result};
use serde_json::Value;

/// How often each ratio is taken; odd, for its median.
const RUNS: usize = 5;
/// How often each time is taken for a ratio.
const TURNS: usize = 4;
/// Pairs of vmalloc and vfree that each worker does.
const PAIRS: u64 = 100_000;
/// What one machine must reach of what two reach.
const NEEDED: f64 = 0.9;

/// What a worker took, the slowest if there are several, and how often one waited for a lock.
#[derive(Clone, Copy)]
struct Timed {
    nanoseconds: f64,
    contended: u64,
}

impl Timed {
    /// Takes the place of a time that was longer.
    fn shorten(best: &mut Option<Self>, other: Self) {
        if best.is_none_or(|best| other.nanoseconds < best.nanoseconds) {
            *best = Some(other);
        }
    }
}

/// What is timed: workers, and what for.
#[derive(Clone, Copy)]
enum Work {
    /// One machine of one CPU.
    Alone,
    /// Two such machines, side by side: the slower one.
    Machines,
    /// One worker on a machine of two CPUs.
    One(&'static str),
    /// Two workers on it.
    Two(&'static str),
}

impl Work {
    /// Each `One` is followed by its `Two`.
    const ALL: [Self; 6] = [
        Self::Alone,
        Self::Machines,
        Self::One("none"),
        Self::Two("none"),
        Self::One("global"),
        Self::Two("global"),
    ];

    fn time(self, setting: &Setting<'_>) -> Result<Timed> {
        match self {
            Self::Alone => timed(setting, 1, 1, "none"),
            Self::One(lock) => timed(setting, 2, 1, lock),
            Self::Two(lock) => timed(setting, 2, 2, lock),
            Self::Machines => std::thread::scope(|scope| {
                let other = scope.spawn(|| timed(setting, 1, 1, "none"));
                let one = timed(setting, 1, 1, "none");
                let other = other
                    .join()
                    .unwrap_or_else(|_| Err(Failure::error("a measurement ended in a panic")));
                let (one, other) = (one?, other?);
                Ok(if one.nanoseconds > other.nanoseconds {
                    one
                } else {
                    other
                })
            }),
        }
    }
}

/// Runs and judges.
///
/// # Errors
/// If a machine fails, or if the ratio is too low.
pub fn run(setting: &Setting<'_>) -> Result {
    let mut calibration = Vec::new();
    let mut together = Vec::new();
    let mut global = Vec::new();
    for run in 1..=RUNS {
        let mut best = [None; Work::ALL.len()];
        for _ in 0..TURNS {
            for (work, best) in Work::ALL.iter().zip(&mut best) {
                Timed::shorten(best, work.time(setting)?);
            }
        }
        let best = best.map(|best| best.expect("each was timed"));
        let [machines, none, locked] = [0, 2, 4].map(|one| {
            // Twice the work, in the time of the second.
            2.0 * best[one].nanoseconds / best[one + 1].nanoseconds
        });
        println!(
            "run {run}: two machines {machines:.2}, two CPUs {none:.2} ({} waits for locks), with \
             PTLOCK=global {locked:.2} ({} waits)",
            best[3].contended, best[5].contended
        );
        calibration.push(machines);
        together.push(none);
        global.push(locked);
    }
    let [calibration, together, global] = [calibration, together, global].map(median);
    let part = together / calibration;
    println!("work of two, as a multiple of the work of one; median of {RUNS} runs:");
    println!("  two machines of one CPU, side by side: {calibration:.2}");
    println!("  two CPUs of one machine:               {together:.2}, which is {part:.2} of that");
    println!(
        "  the same with PTLOCK=global:           {global:.2}: {:.0} % are lost by it",
        100.0 * (1.0 - global / together)
    );
    if part >= NEEDED {
        return Ok(());
    }
    Err(Failure::fail(format!(
        "two CPUs do {part:.2} of what two machines do; {NEEDED} is needed"
    )))
}

/// The middle one.
fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// Runs workers, each on a CPU of its own.
fn timed(setting: &Setting<'_>, cpus: u64, workers: u64, lock: &str) -> Result<Timed> {
    let mut machine = setting.machine(
        &format!("bench scaling threads={workers} loops={PAIRS}"),
        &[],
    )?;
    machine.options = machine
        .options
        .with("SMP", &cpus.to_string())?
        .with("PTLOCK", lock)?;
    let boot = setting.boot(&machine, &format!("scaling-{cpus}-{workers}-{lock}"))?;
    let line = boot
        .text
        .lines()
        .find(|line| line.starts_with('{'))
        .ok_or_else(|| Failure::fail("scaling: it printed no measurement"))?;
    let value: Value = serde_json::from_str(line).doing("read a measurement")?;
    match (value["ns"].as_f64(), value["contended"].as_u64()) {
        (Some(nanoseconds), Some(contended)) if nanoseconds > 0.0 => Ok(Timed {
            nanoseconds,
            contended,
        }),
        _ => Err(Failure::fail(format!("scaling: no measurement: {line}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        let of = median(vec![3.0, 1.0, 2.0, 9.0, 0.5]);
        assert!((of - 2.0).abs() < 1e-9);
    }

    #[test]
    fn the_shortest_time_is_kept() {
        let mut best = None;
        for (nanoseconds, contended) in [(3.0, 1), (1.0, 2), (2.0, 3)] {
            let other = Timed {
                nanoseconds,
                contended,
            };
            Timed::shorten(&mut best, other);
        }
        assert_eq!(best.map(|best| best.contended), Some(2));
    }
}
