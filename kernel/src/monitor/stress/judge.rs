//! What the oracle says of a run, where it is built in.

#[cfg(feature = "oracle")]
use crate::oracle;

/// Violations since boot, but for those on purpose.
#[cfg(feature = "oracle")]
pub(super) fn violations() -> u64 {
    oracle::stats().map_or(0, |(stats, on_purpose)| stats.violations - on_purpose)
}

/// There is nobody to find one.
#[cfg(not(feature = "oracle"))]
pub(super) fn violations() -> u64 {
    0
}

/// The digest over every event that was judged since boot, if any was.
#[cfg(feature = "oracle")]
pub(super) fn digest() -> Option<u64> {
    oracle::stats().map(|(stats, _)| stats.digest)
}

/// Nothing is judged.
#[cfg(not(feature = "oracle"))]
pub(super) fn digest() -> Option<u64> {
    None
}
