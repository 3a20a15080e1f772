//! What the tests of CPUs, interrupts and timers share: running something on another CPU, handlers of
//! their own.

use crate::{
    arch::{
        cpu::{self, MAX_CPUS},
        interrupt::{self, Handlers},
        time,
    },
    ktest::Failure,
    mm::testing::trouble,
    park,
};
use core::sync::atomic::{AtomicU64, Ordering};

/// Runs `function` on CPU `cpu`, with its number, and waits for it.
///
/// # Errors
/// The CPU does not run, or has not come back.
pub(crate) fn on(cpu: usize, function: fn(usize)) -> Result<(), Failure> {
    if cpu == me() {
        function(cpu);
        return Ok(());
    }
    let call = park::call(cpu, function).map_err(hung)?;
    call.wait().map_err(hung)
}

/// Runs `function` on all CPUs at the same time, and waits for them.
///
/// # Errors
/// As [`on`].
pub(crate) fn on_every(function: fn(usize)) -> Result<(), Failure> {
    let mut calls = [const { None }; MAX_CPUS];
    for cpu in cpu::others() {
        calls[cpu] = Some(park::call(cpu, function).map_err(hung)?);
    }
    function(me());
    calls
        .into_iter()
        .flatten()
        .try_for_each(|call| call.wait().map_err(hung))
}

fn hung(park::Hung(cpu): park::Hung) -> Failure {
    log::error!("CPU {cpu} does not answer");
    trouble("a CPU does not answer")
}

/// The number of this CPU.
pub(crate) fn me() -> usize {
    cpu::id() as usize
}

/// Every CPU of the machine.
pub(crate) fn all() -> core::ops::Range<usize> {
    0..cpu::count()
}

/// Waits for a condition; whether it came within 20 seconds.
pub(crate) fn comes(condition: impl Fn() -> bool) -> bool {
    let limit = time::now() + 20 * time::frequency();
    while !condition() {
        if time::now() > limit {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// Waits for some milliseconds.
pub(crate) fn pass_time(milliseconds: u64) {
    let limit = time::now() + milliseconds * time::frequency() / 1000;
    while time::now() < limit {
        core::hint::spin_loop();
    }
}

/// A number for each CPU.
pub(crate) struct PerCpu([AtomicU64; MAX_CPUS]);

impl PerCpu {
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; MAX_CPUS])
    }

    pub(crate) fn get(&self, cpu: usize) -> u64 {
        self.0[cpu].load(Ordering::Acquire)
    }

    pub(crate) fn set(&self, cpu: usize, value: u64) {
        self.0[cpu].store(value, Ordering::Release);
    }

    pub(crate) fn add(&self, cpu: usize, n: u64) -> u64 {
        self.0[cpu].fetch_add(n, Ordering::AcqRel)
    }

    /// Sets all to 0.
    pub(crate) fn clear(&self) {
        (0..MAX_CPUS).for_each(|cpu| self.set(cpu, 0));
    }

    pub(crate) fn sum(&self) -> u64 {
        (0..MAX_CPUS).map(|cpu| self.get(cpu)).sum()
    }
}

/// Other handlers, until the value is dropped.
pub(crate) struct Installed(&'static Handlers);

impl Installed {
    pub(crate) fn new(handlers: &'static Handlers) -> Self {
        Self(interrupt::set_handlers(handlers).unwrap_or(&park::HANDLERS))
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        interrupt::set_handlers(self.0);
    }
}
