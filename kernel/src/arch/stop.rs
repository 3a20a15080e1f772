//! The end, where there are several CPUs: one goes on, the others stop.
//!
//! A report is printed by one CPU alone, and shows a machine in which nothing moves any more.

use super::{cpu, gic, time};
use core::arch::asm;
use core::sync::atomic::{
    AtomicU32,
    Ordering::{AcqRel, Acquire, Release},
};

/// The SGI that has a CPU stop.
pub(super) const SGI: u32 = 2;

/// The CPU that ends the machine, plus one; 0 for none.
static LAST: AtomicU32 = AtomicU32::new(0);

/// How long a CPU has to stop, as a part of a second: a longer section with interrupts masked is
/// taken for a hang.
const PATIENCE: u64 = 4;

/// Stops every other CPU for good, and waits until they have stopped; gives back how many have not,
/// which have interrupts masked and hang. This CPU's interrupts are masked from here on.
///
/// If another CPU has called it first, this one is among those that stop: it does not return. The
/// CPU that has called it may call it again.
pub fn stop_others() -> usize {
    // SAFETY: masking can't break anything; this CPU takes no interrupt again.
    unsafe { asm!("msr daifset, #0b0011", options(nostack, preserves_flags)) };
    let me = cpu::id() + 1;
    match LAST.compare_exchange(0, me, AcqRel, Acquire) {
        Ok(_) => {}
        Err(last) if last == me => return still_running(),
        Err(_) => this_cpu(),
    }
    cpu::others().for_each(|cpu| gic::send_at_the_end(cpu, SGI));
    let limit = time::now() + time::frequency() / PATIENCE;
    while still_running() != 0 && time::now() < limit {
        core::hint::spin_loop();
    }
    still_running()
}

/// How many other CPUs have not stopped.
fn still_running() -> usize {
    cpu::others()
        .filter_map(cpu::per_cpu)
        .filter(|cpu| !cpu.stopped.load(Acquire))
        .count()
}

/// Stops this CPU for good.
pub(super) fn this_cpu() -> ! {
    let _masked = cpu::mask_interrupts();
    cpu::this_cpu().stopped.store(true, Release);
    loop {
        cpu::wait_for_interrupt();
    }
}
