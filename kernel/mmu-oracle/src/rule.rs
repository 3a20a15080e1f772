//! The rules, each with its section of the manual.

use core::fmt;

/// What an event broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// An access through an entry that was made valid by a store which this CPU's walks are not
    /// yet guaranteed to see.
    NotVisible,
    /// An access that may still use a translation that was changed or taken away.
    StaleAccess,
    /// A valid entry was replaced by one that may not be there beside it.
    BreakBeforeMake,
    /// A frame was freed, handed out or written while a stale translation to it may exist.
    FrameReuse,
    /// A frame was freed although an entry still maps it.
    MappedFrameFreed,
    /// Addresses were handed out while a stale translation of them may exist, or while they are
    /// mapped.
    VaReuse,
    /// A table was freed while a walker may still read it.
    TableReuse,
    /// A change was left without a TLBI where it had to be complete.
    Unflushed,
    /// A TLBI named another address, level or kind of entry than was changed, or another CPU.
    TlbiCoverage,
    /// A TLBI was issued before the stores that it is for were complete.
    TlbiWithoutDsbBefore,
    /// A TLBI was relied on before a DSB on the CPU that issued it.
    TlbiWithoutDsbAfter,
    /// A task left its CPU with a TLBI in flight there.
    TlbiInFlight,
    /// A lazy section ended with changes in it that are not guaranteed visible.
    LeaveWithoutBarriers,
    /// A lazy section was left open.
    SectionLeftOpen,
    /// A pause was not resumed.
    PauseLeft,
    /// A table was linked before its zeroes were ordered before the link.
    TableNotZeroed,
    /// An entry held something else than the last store put there: stores went unreported.
    UnreportedStore,
    /// A CPU was given the ASID of an address space while its TLB may hold translations that another
    /// space left there under that ASID.
    AsidReuse,
    /// The oracle's memory is full: from here on it can't vouch for anything.
    MemoryFull,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 19] = [
        Self::NotVisible,
        Self::StaleAccess,
        Self::BreakBeforeMake,
        Self::FrameReuse,
        Self::MappedFrameFreed,
        Self::VaReuse,
        Self::TableReuse,
        Self::Unflushed,
        Self::TlbiCoverage,
        Self::TlbiWithoutDsbBefore,
        Self::TlbiWithoutDsbAfter,
        Self::TlbiInFlight,
        Self::LeaveWithoutBarriers,
        Self::SectionLeftOpen,
        Self::PauseLeft,
        Self::TableNotZeroed,
        Self::UnreportedStore,
        Self::AsidReuse,
        Self::MemoryFull,
    ];

    /// Its identifier: what a list of known violations would use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotVisible => "not-visible",
            Self::StaleAccess => "stale-access",
            Self::BreakBeforeMake => "break-before-make",
            Self::FrameReuse => "frame-reuse",
            Self::MappedFrameFreed => "mapped-frame-freed",
            Self::VaReuse => "va-reuse",
            Self::TableReuse => "table-reuse",
            Self::Unflushed => "unflushed",
            Self::TlbiCoverage => "tlbi-coverage",
            Self::TlbiWithoutDsbBefore => "tlbi-without-dsb-before",
            Self::TlbiWithoutDsbAfter => "tlbi-without-dsb-after",
            Self::TlbiInFlight => "tlbi-in-flight",
            Self::LeaveWithoutBarriers => "leave-without-barriers",
            Self::SectionLeftOpen => "section-left-open",
            Self::PauseLeft => "pause-left",
            Self::TableNotZeroed => "table-not-zeroed",
            Self::UnreportedStore => "unreported-store",
            Self::AsidReuse => "asid-reuse",
            Self::MemoryFull => "memory-full",
        }
    }

    /// Where the rule comes from.
    #[must_use]
    pub const fn source(self) -> &'static str {
        match self {
            Self::NotVisible => {
                "DDI 0487, D8.2.6 \"Ordering of memory accesses from translation table walks\": a walk is guaranteed to see a store to a descriptor after a DSB that completes the store and a context synchronisation event on the walking CPU"
            }
            Self::StaleAccess => {
                "DDI 0487, D8.16 \"TLB maintenance\": a valid descriptor may be cached in a TLB, and used from there, until a TLBI for it is complete"
            }
            Self::BreakBeforeMake => {
                "DDI 0487, D8.16.1 \"Using break-before-make when updating translation table entries\""
            }
            Self::FrameReuse | Self::TableReuse => {
                "DDI 0487, D8.16.1: an access that used what a TLBI invalidated is complete when a DSB after the TLBI is; before that the memory is not its new owner's alone"
            }
            Self::MappedFrameFreed => "a frame is its owner's alone only when nobody else maps it",
            Self::VaReuse => {
                "DDI 0487, D8.16.1: the old translation and a new one of the same address may not exist side by side"
            }
            Self::Unflushed => {
                "DDI 0487, D8.16 \"TLB maintenance\": a TLB may hold what a descriptor said until it is told otherwise"
            }
            Self::TlbiCoverage => {
                "DDI 0487, C5.5 \"A64 System instructions for TLB maintenance\": which entries each operation names, by operand, TTL, last level and shareability"
            }
            Self::TlbiWithoutDsbBefore => {
                "DDI 0487, D8.16 \"TLB maintenance\": a TLBI is for what a walk after it may read, and a store that is not complete is not read: DSB ISHST"
            }
            Self::TlbiWithoutDsbAfter | Self::TlbiInFlight => {
                "DDI 0487, D8.16.1 \"Completion of TLB maintenance\": a TLBI is complete only after a DSB ISH that the same CPU executes"
            }
            Self::LeaveWithoutBarriers => {
                "DDI 0487, D8.2.6, and Linux's lazy MMU mode: when a section ends, what was stored in it is guaranteed visible to the CPU that ends it"
            }
            Self::SectionLeftOpen | Self::PauseLeft => {
                "Linux's lazy MMU mode: enable and disable, pause and resume come in pairs"
            }
            Self::TableNotZeroed => {
                "DDI 0487, D8.2.6: a walker may read a table as soon as it can read the entry that leads there"
            }
            Self::AsidReuse => {
                "DDI 0487, D8.16 \"TLB maintenance\": a non-global translation is used wherever its ASID is the current one; it is gone only when a TLBI for it is complete on that CPU"
            }
            Self::UnreportedStore | Self::MemoryFull => {
                "the oracle's own: a judgement needs every event"
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
