//! The generic timer of each CPU: one deadline, by the virtual count.
//!
//! An interrupt of the timer stays signalled for as long as the deadline is past and the timer is
//! on (DDI 0487, D12.2.4); [`interrupt`](super::interrupt) turns it off before it calls the handler.

pub use super::time::{frequency, now};
use aarch64_cpu::registers::{CNTV_CTL_EL0, CNTV_CVAL_EL0, Readable, Writeable};
use core::arch::asm;

/// Turns this CPU's timer off: out of reset it may be on.
pub fn init_cpu() {
    cancel();
}

/// Has the timer of this CPU interrupt it once [`now`] has reached `ticks`; at once if it has already.
/// A deadline that was set before is replaced. If there was one, interrupts are masked: one that came
/// between the two writes would turn the timer off, and the second write would turn it on again, for a
/// deadline that has been dealt with.
pub fn set_deadline(ticks: u64) {
    CNTV_CVAL_EL0.set(ticks);
    CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::SET);
    synchronise();
}

/// Takes the deadline of this CPU back. An interrupt that is pending is no longer.
pub fn cancel() {
    CNTV_CTL_EL0.set(0);
    synchronise();
}

/// The deadline of this CPU, if one is set.
#[must_use]
pub fn deadline() -> Option<u64> {
    CNTV_CTL_EL0
        .is_set(CNTV_CTL_EL0::ENABLE)
        .then(|| CNTV_CVAL_EL0.get())
}

/// What was written to the timer holds from here on: a CPU that waits for an interrupt next has to
/// wait for this one.
fn synchronise() {
    // SAFETY: a barrier. Not counted: it is about no table.
    unsafe { asm!("isb", options(nostack, preserves_flags)) };
}
