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
