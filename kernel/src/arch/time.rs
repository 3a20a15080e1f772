//! The generic timer's counter as a clock.

use aarch64_cpu::registers::{CNTFRQ_EL0, CNTVCT_EL0, Readable};
use core::arch::asm;

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

/// Whether a tick of the counter is an instruction that was executed: QEMU with
/// `-icount shift=0,align=off,sleep=off`, a counter of 1 GHz and one CPU. On a machine that tells time
/// it is not.
#[must_use]
pub fn counts_instructions() -> bool {
    // The difference of two loops: what is around them falls out.
    (0..3).all(|_| {
        let (short, long) = (ticks_of_loop(10_000), ticks_of_loop(30_000));
        long.checked_sub(short) == Some(40_000)
    })
}

/// What a loop of two instructions takes. Out of line, so that every call is the same code.
#[inline(never)]
fn ticks_of_loop(rounds: u64) -> u64 {
    let before = now();
    // SAFETY: it counts a register down.
    unsafe {
        asm!(
            "2: subs {n}, {n}, #1",
            "b.ne 2b",
            n = inout(reg) rounds => _,
            options(nostack, nomem),
        );
    }
    now() - before
}
