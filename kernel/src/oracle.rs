//! The oracle, online: every event is judged as it happens.
//!
//! `arch::record` stamps events and passes them on ([`event!`](crate::event!) is how the rest of
//! the kernel tells one); `online` judges them, keeps what was found, and prints nothing: who comes
//! to a place where no lock is held reports it (`verdict`). All of it is there with the feature
//! `oracle` alone. Without it nothing is told, and what callers name is in `off`, empty.

#[cfg(not(feature = "oracle"))]
mod off;
#[cfg(feature = "oracle")]
mod online;
#[cfg(all(feature = "oracle", target_os = "none"))]
mod sink;

#[cfg(not(feature = "oracle"))]
pub use off::{Boundary, Rule, expect};
#[cfg(feature = "oracle")]
pub use online::{
    Boundary, Config, Found, Rule, begin, end, expect, heard, is_watching, judge, memory_for,
    stats, take,
};
