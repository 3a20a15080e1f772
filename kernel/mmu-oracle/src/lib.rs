#![doc = include_str!("../README.md")]
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod clock;
pub mod event;
pub mod format;
mod operand;
mod oracle;
mod ordering;
mod pool;
mod record;
mod rule;
mod violation;

pub use event::{Event, Kind};
pub use oracle::{Config, Memory, Oracle, Stats};
pub use rule::Rule;
pub use violation::Violation;

/// How many CPUs can be told apart.
pub const MAX_CPUS: usize = 8;
