//! `make bench CASE=scaling`: the same work on one CPU and on two at a time, as a ratio.
//!
//! What two CPUs of one machine do together is set beside what two machines of one CPU do side by
//! side: the host has no more to give than that. Each ratio is of runs that follow each other; the
//! medians of several are compared. Nothing else may be busy on the host.

use super::Setting;
use crate::failure::{Doing, Failure, Result};
use serde_json::Value;

/// How often each ratio is taken; odd, for its median.
const RUNS: usize = 5;
/// Pairs of vmalloc and vfree that each worker does.
const PAIRS: u64 = 200_000;
/// What one machine must reach of what two reach.
const NEEDED: f64 = 0.9;

/// What a worker took, the slowest if there are several, and how often one waited for a lock.
struct Timed {
    nanoseconds: f64,
    contended: u64,
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
        // One alone, then two side by side.
        let alone = timed(setting, 1, 1, "none")?;
        let (first, second) = std::thread::scope(|scope| {
            let other = scope.spawn(|| timed(setting, 1, 1, "none"));
            let one = timed(setting, 1, 1, "none");
            let other = other
                .join()
                .unwrap_or_else(|_| Err(Failure::error("a measurement ended in a panic")));
            (one, other)
        });
        let slower = first?.nanoseconds.max(second?.nanoseconds);
        calibration.push(2.0 * alone.nanoseconds / slower);
        // One worker, then two, on a machine with two CPUs.
        let (ratio, contended) = ratio(setting, "none")?;
        together.push(ratio);
        let (locked, waited) = self::ratio(setting, "global")?;
        global.push(locked);
        println!(
            "run {run}: two machines {:.2}, two CPUs {ratio:.2} ({contended} waits for locks), with \
             PTLOCK=global {locked:.2} ({waited} waits)",
            calibration[run - 1]
        );
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

/// Two workers as a multiple of one, on two CPUs, and how often one of the two waited.
fn ratio(setting: &Setting<'_>, lock: &'static str) -> Result<(f64, u64)> {
    let one = timed(setting, 2, 1, lock)?;
    let two = timed(setting, 2, 2, lock)?;
    Ok((2.0 * one.nanoseconds / two.nanoseconds, two.contended))
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
}
