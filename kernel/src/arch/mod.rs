//! Every instruction that Rust can't say, and every device register.
//!
//! What is above calls down into here by function. Where something here has to call up (a fault
//! that no one survives, a fault that a scene wants to show) it calls a function that bring-up
//! installed.
//!
//! Host tests get what executes no instruction, and stand-ins for the little that the modules
//! above ask of the CPU.

pub mod barrier;
pub mod cache;
pub mod entry;
pub mod lock;
#[cfg(target_os = "none")]
pub mod one_page;
pub mod record;
pub mod tlbi;
#[cfg(target_os = "none")]
pub mod user_table;
pub mod zero;

#[cfg(target_os = "none")]
mod abort;
#[cfg(target_os = "none")]
mod counters;
#[cfg(target_os = "none")]
pub mod cpu;
#[cfg(target_os = "none")]
pub mod device_tree;
#[cfg(target_os = "none")]
pub mod el0;
#[cfg(target_os = "none")]
pub mod exception;
#[cfg(target_os = "none")]
pub mod exit;
#[cfg(target_os = "none")]
pub mod fatal;
#[cfg(target_os = "none")]
pub mod fault;
#[cfg(target_os = "none")]
pub mod fixup;
#[cfg(target_os = "none")]
pub mod frame;
#[cfg(target_os = "none")]
pub mod gic;
#[cfg(target_os = "none")]
pub mod image;
#[cfg(target_os = "none")]
pub mod interrupt;
#[cfg(target_os = "none")]
mod psci;
#[cfg(target_os = "none")]
pub mod semihosting;
#[cfg(target_os = "none")]
pub mod smp;
#[cfg(target_os = "none")]
pub mod stop;
#[cfg(target_os = "none")]
pub mod time;
#[cfg(target_os = "none")]
pub mod timer;
#[cfg(target_os = "none")]
pub mod uart;

pub mod backtrace;
pub mod switch;
pub mod user_copy;

#[cfg(not(target_os = "none"))]
pub mod host;
#[cfg(not(target_os = "none"))]
pub use host::{counters, cpu, time};
