//! What [`space`](super::space) synchronises CPUs with: here the kernel's, in the tests of
//! `model` the model checker's.

/// Arenas that there can be: one a CPU.
pub const MOST_ARENAS: usize = crate::arch::cpu::MAX_CPUS;

pub use crate::{
    arch::lock::{acquired, releases},
    task::lock::IrqLock as Lock,
};
pub use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
