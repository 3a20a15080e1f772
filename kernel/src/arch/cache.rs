//! The cache sequence: what was written as data is executed only after it has been seen to.
//!
//! Instruction caches need not see stores (DDI 0487, B2.7.4.2): what is in memory may be in a data
//! cache alone, and what was there before in an instruction cache still. The sequence: clean the
//! data to the point of unification (DC CVAU), wait (DSB), invalidate the instructions (IC), wait
//! (DSB), and have the CPU that executes fetch anew (a context synchronisation event). CTR_EL0 says
//! what of it a CPU can do without; a DSB and the last step are for all.
//!
//! QEMU shows nothing of a sequence that is missing, so each instruction is told, and tests look
//! for them in the recording.

use crate::trace::CacheOp;
use vmsa::{PAGE_SIZE, VirtAddr};

#[cfg(target_os = "none")]
pub use machine::{cache_type, publish, publish_instructions};

/// What CTR_EL0 says of the caches (DDI 0487, D24.2.34).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(any(test, target_os = "none")),
    allow(dead_code, reason = "the host has caches of its own")
)]
pub struct CacheType {
    /// Bytes of the smallest line of a data cache (DminLine).
    pub data_line: u64,
    /// Bytes of the smallest line of an instruction cache (IminLine).
    pub instruction_line: u64,
    /// IDC: data need not be cleaned for instructions to see them.
    pub data_coherent: bool,
    /// DIC: instructions need not be invalidated for data to become them.
    pub instructions_coherent: bool,
    /// L1Ip says PIPT: an instruction cache does not tell one address of a frame from another.
    /// Where it does, IC IVAU through an alias may miss lines (D7.5.9).
    pub physically_indexed: bool,
}

impl CacheType {
    /// Decodes the register.
    #[must_use]
    pub const fn new(ctr: u64) -> Self {
        /// `CTR_EL0.L1Ip` of a cache that is physically indexed and tagged.
        const PIPT: u64 = 0b11;
        // Lines are given as the logarithm of their words of four bytes.
        Self {
            data_line: 4 << (ctr >> 16 & 0xf),
            instruction_line: 4 << (ctr & 0xf),
            data_coherent: ctr >> 28 & 1 != 0,
            instructions_coherent: ctr >> 29 & 1 != 0,
            physically_indexed: ctr >> 14 & 0b11 == PIPT,
        }
    }

    /// The cache maintenance that a page at `page` needs between the stores and the fetch: what
    /// comes before the first DSB.
    pub fn cleans(self, page: VirtAddr) -> impl Iterator<Item = CacheOp> {
        let needed = if self.data_coherent { 0 } else { PAGE_SIZE };
        lines(page, needed, self.data_line).map(CacheOp::DcCvau)
    }

    /// What comes between the first DSB and the second, which waits for it. `page` may be any
    /// address of the frame.
    pub fn invalidates(self, page: VirtAddr) -> impl Iterator<Item = CacheOp> {
        let all = !self.instructions_coherent && !self.physically_indexed;
        let by_line = !self.instructions_coherent && self.physically_indexed;
        let needed = if by_line { PAGE_SIZE } else { 0 };
        lines(page, needed, self.instruction_line)
            .map(CacheOp::IcIvau)
            .chain(all.then_some(CacheOp::IcIalluis))
    }
}

/// The first address of each line of `bytes` bytes from `page` on.
fn lines(page: VirtAddr, bytes: u64, line: u64) -> impl Iterator<Item = VirtAddr> {
    (0..bytes / line).map(move |n| page + n * line)
}

#[cfg(target_os = "none")]
mod machine {
    use super::CacheType;
    use crate::{
        arch::{barrier, record::emit},
        bug::{Bug, planted},
        trace::{CacheOp, Kind},
    };
    use core::arch::asm;
    use vmsa::VirtAddr;

    /// What this CPU's caches are; all CPUs of a `virt` board are alike.
    #[must_use]
    pub fn cache_type() -> CacheType {
        let ctr: u64;
        // SAFETY: reads an identification register.
        unsafe { asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags)) };
        CacheType::new(ctr)
    }

    /// Issues one instruction of the sequence.
    ///
    /// # Safety
    ///
    /// Its address is mapped, and may be read.
    unsafe fn issue(op: CacheOp) {
        // SAFETY: cleaning a line changes no data, what is invalidated is fetched anew, and the
        // caller vouches that neither faults.
        unsafe {
            match op {
                CacheOp::DcCvau(va) => asm!("dc cvau, {}", in(reg) va.as_u64(), options(nostack)),
                CacheOp::IcIvau(va) => asm!("ic ivau, {}", in(reg) va.as_u64(), options(nostack)),
                CacheOp::IcIalluis => asm!("ic ialluis", options(nostack)),
            }
        }
        emit(|| Kind::Cache(op));
    }

    /// Makes the instructions that were stored in a frame the ones that every CPU fetches from it,
    /// but for the last step: each CPU that executes them needs a context synchronisation event
    /// after this. For EL0 the ERET that takes it there is one (`el0.s`). `page` is any address at
    /// which the frame is mapped and may be read: its address in the linear map.
    ///
    /// Call it before an entry is stored that lets anyone execute the frame, as Linux does in
    /// `set_pte` (`__sync_icache_dcache`): until then no CPU can have fetched from it at that
    /// address.
    ///
    /// # Safety
    ///
    /// The page is mapped and may be read.
    pub unsafe fn publish(page: VirtAddr) {
        if planted(Bug::NoCacheSequence) {
            return;
        }
        let caches = cache_type();
        // SAFETY: the caller's promise, for all of the page.
        caches.cleans(page).for_each(|op| unsafe { issue(op) });
        // The lines are clean, or, where nothing had to be cleaned, the stores themselves have come
        // to where instructions are fetched from, before anything is invalidated. Not only ISHST: a
        // DC is no store (B2.7.4.2 asks for a DSB that orders cache maintenance).
        barrier::dsb_ish();
        let mut invalidated = false;
        for op in caches.invalidates(page) {
            invalidated = true;
            // SAFETY: as above.
            unsafe { issue(op) };
        }
        if invalidated {
            // An IC is complete, for every CPU of the domain, after a DSB of the one that issued
            // it.
            barrier::dsb_ish();
        }
    }

    /// As [`publish`], for this CPU to execute at once: it ends in an ISB of its own. Another CPU
    /// needs one as well.
    ///
    /// # Safety
    ///
    /// The page is mapped and may be read.
    pub unsafe fn publish_instructions(page: VirtAddr) {
        // SAFETY: the caller's promise.
        unsafe { publish(page) };
        barrier::isb();
    }
}

#[cfg(all(feature = "ktests", target_os = "none"))]
pub(crate) mod ktests;

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: VirtAddr = VirtAddr::literal(0xffff_0000_4020_0000);

    /// How many cleans, by-line invalidates and whole invalidates a page needs on that CPU.
    fn counts(ctr: u64) -> (usize, usize, usize) {
        let caches = CacheType::new(ctr);
        let whole = |op: &CacheOp| *op == CacheOp::IcIalluis;
        let invalidates: Vec<_> = caches.invalidates(PAGE).collect();
        let all = invalidates.iter().filter(|op| whole(op)).count();
        (caches.cleans(PAGE).count(), invalidates.len() - all, all)
    }

    #[test]
    fn lines_are_those_of_the_register() {
        // QEMU's cortex-a57: lines of 64 bytes, PIPT. Its cortex-a53: the same, VIPT.
        assert_eq!(counts(0x8444_c004), (64, 64, 0));
        assert_eq!(counts(0x8444_8004), (64, 0, 1));
        // Lines of 32 bytes of data and 128 of instructions.
        assert_eq!(counts(0x8443_c005), (128, 32, 0));
    }

    #[test]
    fn coherent_caches_need_less() {
        const IDC: u64 = 1 << 28;
        const DIC: u64 = 1 << 29;
        assert_eq!(counts(0x8444_c004 | IDC), (0, 64, 0));
        assert_eq!(counts(0x8444_c004 | DIC), (64, 0, 0));
        assert_eq!(counts(0x8444_8004 | DIC), (64, 0, 0));
        assert_eq!(counts(0x8444_c004 | IDC | DIC), (0, 0, 0));
    }

    #[test]
    fn every_line_of_the_page_is_named_once() {
        let caches = CacheType::new(0x8444_c004);
        let expected: Vec<_> = (0..64).map(|n| PAGE + n * 64).collect();
        let clean = |op| match op {
            CacheOp::DcCvau(va) => va,
            other => panic!("{other:?}"),
        };
        let invalidate = |op| match op {
            CacheOp::IcIvau(va) => va,
            other => panic!("{other:?}"),
        };
        assert!(caches.cleans(PAGE).map(clean).eq(expected.iter().copied()));
        assert!(caches.invalidates(PAGE).map(invalidate).eq(expected));
    }
}
