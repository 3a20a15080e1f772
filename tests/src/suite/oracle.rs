//! The kernel that judges itself: every group of tests and the tour under each backend, on the
//! build with the oracle, without one violation that is not meant.

use super::{Job, Suite};
use crate::failure::{Failure, Result};
use crate::machine::Boot;

/// The tests that only this build has. Of all others, those that end the machine say nothing here
/// that they do not say without the oracle.
const OWN_GROUP: &str = "oracle";

/// What differs from the defaults in each tour.
const TOURS: &[&[(&str, &str)]] = &[
    &[],
    &[("BACKEND", "eager")],
    &[("BACKEND", "tlbi")],
    &[("BACKEND", "stores")],
    &[("BACKEND", "stores-percpu")],
    &[("BACKEND", "stores-percpu-hooks")],
    &[("ETS2", "assume")],
    // Without it frames wait in the window until the purge.
    &[("DEBUG_PAGEALLOC", "off")],
    // No ranges, no level hints.
    &[("CPU", "cortex-a53")],
];

impl Suite<'_> {
    /// A job a group, a job for each test of the oracle's own that ends the machine, a job a tour.
    pub(super) fn oracle_jobs(&self) -> Vec<Job<'_>> {
        let mut jobs = self.kernel_jobs_of(|test| test.panics.is_none() || test.group == OWN_GROUP);
        let tours = TOURS.iter().map(|changes| {
            let change = |(name, value): &(&'static str, &str)| (*name, (*value).to_owned());
            changes.iter().map(change).collect()
        });
        jobs.extend(self.tours_of(tours.collect()));
        jobs
    }
}

/// Passes if the oracle judged what the machine did, and found nothing that was not meant.
///
/// # Errors
/// If it did not say so.
pub(super) fn watched(boot: &Boot) -> Result {
    let line = boot
        .text
        .lines()
        .rfind(|line| line.starts_with("oracle: ") && line.contains(" events judged, "))
        .ok_or_else(|| Failure::fail("the oracle did not say what it judged"))?;
    let mut words = line.split_whitespace().skip(1);
    let events: Option<u64> = words.next().and_then(|word| word.parse().ok());
    if events.is_none_or(|events| events == 0) || !line.contains(" judged, 0 violations, ") {
        return Err(Failure::fail(line.trim()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use crate::process::Ending;

    fn said(text: &str) -> Result {
        watched(&Boot {
            ending: Ending::Status(16),
            text: text.to_owned(),
        })
    }

    #[test]
    fn the_oracle_must_have_judged_and_found_nothing() {
        assert_eq!(
            said("x\noracle: 12 events judged, 0 violations, 3 on purpose\r\n"),
            Ok(())
        );
        for bad in [
            "",
            "oracle: 0 events judged, 0 violations, 0 on purpose\n",
            "oracle: 12 events judged, 1 violations, 0 on purpose\n",
            "oracle: 12 events judged, 10 violations, 0 on purpose\n",
            "oracle: VIOLATION stale-access\n",
        ] {
            assert!(said(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_tours_are_those_of_known_values() {
        let options = Options::from(|_| None).unwrap();
        for (name, value) in TOURS.concat() {
            assert!(options.with(name, value).is_ok(), "{name}={value}");
        }
    }
}
