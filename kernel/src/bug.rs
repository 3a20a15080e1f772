//! Planted bugs: mistakes that were made, or nearly, in code like this kernel's, each of them one
//! `if` at the place where it would be made. `grep -rn Bug::NoDsb kernel/src` finds it.
//!
//! They exist in builds with the feature `bugs` alone, where the kernel parameter `bug=` picks one.
//! Without the feature [`planted`] is false when it is compiled, and not an instruction of them is
//! left. `docs/bugs.md` says of each what it breaks, what it was in Linux, and who finds it.

macro_rules! bugs {
    ($($(#[$doc:meta])+ $bug:ident = $name:literal,)+) => {
        /// A mistake that can be put in.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        // The host builds a part of the kernel, and so of the places.
        #[cfg_attr(not(target_os = "none"), allow(dead_code))]
        pub enum Bug {
            $($(#[$doc])+ $bug,)+
        }

        #[cfg(feature = "bugs")]
        impl Bug {
            /// Every bug.
            pub const ALL: &[Self] = &[$(Self::$bug),+];

            /// The names of all of them, in the same order.
            pub const NAMES: &[&str] = &[$($name),+];

            /// As `bug=` knows it.
            pub const fn name(self) -> &'static str {
                Self::NAMES[self as usize]
            }
        }
    };
}

bugs! {
    /// `DSB ISHST; ISB` without the DSB.
    NoDsb = "no-dsb",
    /// `DSB ISHST; ISB` without the ISB.
    NoIsb = "no-isb",
    /// A store that gets its barriers at once gets them before it is made.
    BarrierBeforeStore = "barrier-before-store",
    /// The end of a section makes nothing good of what was put off.
    NeverFlushed = "never-flushed",
    /// The end of a nested section does not.
    NoInnerFlush = "no-inner-flush",
    /// A return in mid-callback leaves the pause without a resume.
    NoResume = "no-resume",
    /// A walk that stops at an error leaves its section open.
    NoDisable = "no-disable",
    /// The end of a nested section ends the mode for the section around it, too.
    InnerLeaveEnds = "inner-leave-ends",
    /// The purge gives addresses back without a TLB flush.
    NoTlbiUnmap = "no-tlbi-unmap",
    /// `set_memory_*` changes permissions without a TLB flush.
    NoTlbiProtect = "no-tlbi-protect",
    /// Pages that leave the linear map are flushed first and cleared afterwards.
    TlbiBeforeStore = "tlbi-before-store",
    /// A TLB flush without its DSB ISHST.
    NoDsbBeforeTlbi = "no-dsb-before-tlbi",
    /// A TLB flush without its DSB ISH.
    NoDsbAfterTlbi = "no-dsb-after-tlbi",
    /// The operand of a TLBI is the address, not its page number.
    TlbiUnshifted = "tlbi-unshifted",
    /// The sign bits of the address are left in the operand, where TTL and ASID are.
    TlbiUnmasked = "tlbi-unmasked",
    /// A range of TLBIs stops a page early.
    TlbiShort = "tlbi-short",
    /// The last page of an odd range is left out, since range operations come in pairs of pages.
    TlbiRangeOdd = "tlbi-range-odd",
    /// A TLBI of last-level entries where a table was removed.
    TlbiLeafOnly = "tlbi-leaf-only",
    /// A table goes back to the allocator before the TLBI for its link.
    TableFreedEarly = "table-freed-early",
    /// A TLBI for pages says that the entries were of level 2.
    TlbiWrongLevel = "tlbi-wrong-level",
    /// The frames of an area are freed as its leaves are cleared, the flush still to come.
    FrameFreedEarly = "frame-freed-early",
    /// The addresses of a freed area do not wait for the purge.
    VaReusedEarly = "va-reused-early",
    /// The purge takes shadow away that a neighbour shares.
    ShadowTooFar = "shadow-too-far",
    /// The shadow pages of a purged area are freed and stay mapped.
    ShadowLeft = "shadow-left",
    /// An address whose flush is pending gets another frame.
    OaChange = "oa-change",
    /// A block is replaced by a table in one store.
    SplitNoBbm = "split-no-bbm",
    /// Unmapping an area misses its last page.
    PageLeftMapped = "page-left-mapped",
    /// Pages come back to the linear map without a section, and so without barriers of their own.
    RemapNoBarrier = "remap-no-barrier",
    /// An entry is read while a store to it is in the queue.
    StaleReadback = "stale-readback",
    /// The guard page of an area is mapped.
    GuardMapped = "guard-mapped",
    /// A frame becomes executable without the cache sequence for what was written to it.
    NoCacheSequence = "no-cache-sequence",
    /// Under `stores-percpu-hooks`, the arch hook enters a CPU that the context switch has entered.
    LateEnter = "late-enter",
    /// The calls are no no-ops in interrupt context: a handler's stores wait on the task's account.
    EnableInIrq = "enable-in-irq",
    /// Under `stores-percpu-hooks`, there are no hooks in the context switch.
    PercpuPending = "percpu-pending",
    /// A TLBI is for this CPU alone.
    TlbiLocal = "tlbi-local",
    /// Pages of a program are freed before the TLB flush for them.
    PageFreedBeforeFlush = "page-freed-before-flush",
    /// The gather is flushed in the lazy section in which it was filled.
    FlushInSection = "flush-in-section",
    /// Where the page allocator has no page for a batch, the page that should have gone there is
    /// lost.
    BatchLost = "batch-lost",
    /// A table of a program is freed before the TLBI for its link.
    UserTableFreedEarly = "user-table-freed-early",
    /// A CPU goes on with what its TLB holds when ASIDs are given out anew.
    RolloverNoFlush = "rollover-no-flush",
    /// The copy of a shared page is mapped before the translation to the page is flushed.
    CowBeforeFlush = "cow-before-flush",
    /// `mprotect` without a TLB flush.
    ProtectNoTlbi = "protect-no-tlbi",
    /// `fork` makes the pages of the parent read-only without a TLB flush.
    ForkNoTlbi = "fork-no-tlbi",
}

/// Whether this boot has that bug.
#[cfg(not(feature = "bugs"))]
#[inline(always)]
pub const fn planted(_: Bug) -> bool {
    false
}

#[cfg(feature = "bugs")]
pub use planting::{plant, planted};

#[cfg(feature = "bugs")]
mod planting {
    use super::Bug;
    use core::sync::atomic::{AtomicU8, Ordering};

    const NONE: u8 = u8::MAX;

    /// A [`Bug`] as u8, or NONE.
    static PLANTED: AtomicU8 = AtomicU8::new(NONE);

    /// Puts a bug in, or none, from here on.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.store(bug.map_or(NONE, |bug| bug as u8), Ordering::Relaxed);
    }

    /// Whether this boot has that bug.
    #[inline]
    pub fn planted(bug: Bug) -> bool {
        PLANTED.load(Ordering::Relaxed) == bug as u8
    }
}
