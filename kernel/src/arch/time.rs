//! The generic timer's counter as a clock.

use aarch64_cpu::registers::{CNTFRQ_EL0, CNTVCT_EL0, Readable};

/// The virtual count, in ticks since some moment before boot. Reads of it are not ordered with
/// the instructions around them (DDI 0487 D12.2.1): whoever times a sequence puts an ISB first.
#[must_use]
pub fn now() -> u64 {
    CNTVCT_EL0.get()
}

/// Ticks a second. Firmware, here QEMU, has set it; never 0 on the `virt` board.
#[must_use]
pub fn frequency() -> u64 {
    CNTFRQ_EL0.get()
}

/// `ticks` in nanoseconds, rounded down; the largest value there is where it does not fit (after
/// 584 years).
#[must_use]
pub fn nanoseconds(ticks: u64) -> u64 {
    let frequency = u128::from(frequency().max(1));
    u64::try_from(u128::from(ticks) * 1_000_000_000 / frequency).unwrap_or(u64::MAX)
}
