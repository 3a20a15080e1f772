//! What the oracle found, reported where no lock is held: at the end of a scene, of a test, of a
//! command, and of the machine.

use crate::oracle::Boundary;
#[cfg(feature = "oracle")]
use crate::{arch::exit, event, oracle, println};
use core::fmt;

/// The oracle found what it should not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the oracle found a violation, see above")
    }
}

/// The task is at a boundary: nothing may be open, nothing unflushed, and nothing else may have
/// been found since the last one. Prints what was.
///
/// # Errors
/// [`Broken`].
#[cfg(feature = "oracle")]
pub fn at(boundary: Boundary) -> Result<(), Broken> {
    event!(Boundary(boundary));
    report()
}

/// There is no oracle to ask.
///
/// # Errors
/// None.
#[cfg(not(feature = "oracle"))]
#[inline(always)]
pub fn at(_: Boundary) -> Result<(), Broken> {
    Ok(())
}

/// Prints what was found since it was asked last.
#[cfg(feature = "oracle")]
fn report() -> Result<(), Broken> {
    let found = oracle::take();
    if found.is_nothing() {
        return Ok(());
    }
    for violation in found.violations.iter().flatten() {
        println!("oracle: VIOLATION {violation}");
    }
    let kept = found.violations.iter().flatten().count() as u64;
    if found.count > kept {
        println!("oracle: and {} more", found.count - kept);
    }
    for rule in found.missing() {
        println!(
            "oracle: the expected violation {} did not come",
            rule.name()
        );
    }
    if found.lost {
        println!("oracle: an event came while one was judged, and was not judged");
    }
    Err(Broken)
}

/// Has every end of the machine report, and fail if the oracle found anything.
#[cfg(feature = "oracle")]
pub fn install() {
    exit::set_last(last);
}

#[cfg(feature = "oracle")]
fn last(status: u8) -> u8 {
    let clean = report().is_ok();
    let stats = oracle::stats();
    let Some(failed) = oracle::end() else {
        return status;
    };
    if let Some((stats, on_purpose)) = stats {
        let violations = stats.violations - on_purpose;
        println!(
            "oracle: {} events judged, {violations} violations, {on_purpose} on purpose, \
             {} frames freed in a window, {} spurious faults, digest {:016x}",
            stats.events, stats.frames_in_window, stats.spurious_faults, stats.digest,
        );
    }
    if status == exit::SUCCESS && (failed || !clean) {
        return exit::FAILURE;
    }
    status
}
