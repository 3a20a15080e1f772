//! Instruction caches: what was written as data is executed only after it has been seen to.

use super::barrier;
use core::arch::asm;
use vmsa::{PAGE_SIZE, VirtAddr};

/// The smallest cache line that an implementation may have, in bytes (`CTR_EL0.DminLine` and
/// `IminLine` count words of 4 bytes; 16 is the least that any of the known CPUs has).
const LEAST_LINE: u64 = 16;

/// Makes the instructions that were stored in the page at `page` the ones that are fetched there
/// (DDI 0487, B2.7.4.2: clean by VA to the point of unification, DSB, invalidate, DSB, ISB). The
/// caches of every CPU have seen to it, but the ISB is this CPU's: another needs one of its own
/// before it executes the page.
///
/// # Safety
///
/// The page is mapped and may be read.
pub unsafe fn publish_instructions(page: VirtAddr) {
    let lines = || (0..PAGE_SIZE).step_by(LEAST_LINE as usize);
    for offset in lines() {
        // SAFETY: cleaning a line that is mapped changes no data.
        unsafe { asm!("dc cvau, {}", in(reg) (page + offset).as_u64(), options(nostack)) };
    }
    barrier::dsb_ish();
    for offset in lines() {
        // SAFETY: what is invalidated is fetched anew.
        unsafe { asm!("ic ivau, {}", in(reg) (page + offset).as_u64(), options(nostack)) };
    }
    barrier::dsb_ish();
    barrier::isb();
}
