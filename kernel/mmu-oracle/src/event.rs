//! What happened: the events that the oracle is fed.
//!
//! The order of the events is the order in which they are fed. Where two CPUs race, any order that
//! the machine could have shown will do: the oracle asks not what happened but what was guaranteed.

use vmsa::{Descriptor, Level, PageRange, PhysAddr, VirtAddr};

/// One event, with where and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// In whatever unit the source has; for reports alone.
    pub time: u64,
    /// The CPU that executed it, below [`MAX_CPUS`](crate::MAX_CPUS).
    pub cpu: u8,
    /// The task that executed it.
    pub task: u32,
    /// What happened.
    pub kind: Kind,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The CPU begins to take part, with no translation cached. The first CPU need not say so.
    Online,
    /// An entry as it is when the first event comes, and seen by every CPU. The tables that boot
    /// made enter so.
    Snapshot(Entry),
    /// Addresses that map frames for as long as the machine runs, whoever owns them: the linear
    /// map. A frame may be freed while it is mapped there.
    LinearMap(PageRange),
    /// A zeroed page becomes a translation table. Comes after the stores that zeroed it.
    TableAllocated(PhysAddr),
    /// A table goes back to whoever hands out frames.
    TableFreed(PhysAddr),
    /// An entry was stored.
    Store {
        /// Which, and what it holds now.
        entry: Entry,
        /// What it held before.
        old: Descriptor,
    },
    /// An entry was read. If it is a link, the task has the address of the table from this read,
    /// and so of the entries that it stores there: each comes after what the read saw. (An address
    /// dependency; it goes with the task, through registers and memory, to other CPUs.)
    EntryRead(Entry),
    /// A barrier.
    Barrier(Barrier),
    /// A TLB invalidation.
    Tlbi(Tlbi),
    /// An address space is used with an ASID from now on, on whichever CPU. An ASID is one space's
    /// at a time: another that had it has none now.
    Asid {
        /// The space, as in [`Entry::space`].
        space: u16,
        /// Its ASID.
        asid: u16,
    },
    /// TTBR0_EL1 was written: the table, and the ASID in bits `[63:48]` (TCR_EL1.A1 is 0). ASID 0
    /// is for tables that map nothing.
    Ttbr0(u64),
    /// TTBR1_EL1 was written.
    Ttbr1(u64),
    /// TCR_EL1 was written.
    Tcr(u64),
    /// An exception was taken to EL1: a context synchronisation event.
    ExceptionEntry,
    /// ERET: a context synchronisation event.
    ExceptionReturn {
        /// Whether the task is at EL0 from now on.
        to_el0: bool,
    },
    /// The CPU goes on with another task. The event carries the one that it leaves.
    ContextSwitch {
        /// The task that runs from now on.
        to: u32,
    },
    /// A synchronisation variable was accessed: a lock, a flag.
    Sync {
        /// What tells it from other variables: its address.
        variable: u64,
        /// How.
        access: SyncAccess,
    },
    /// Memory was accessed through a translation, or is about to be.
    Access {
        /// The address.
        va: VirtAddr,
        /// How.
        access: Access,
    },
    /// A fault whose entry was found to be in order: the handler let the access be tried again.
    SpuriousFault(VirtAddr),
    /// Frames are handed out.
    FramesAllocated(Frames),
    /// Frames go back, to be handed out again.
    FramesFreed(Frames),
    /// Data was written to a frame by its owner.
    FrameWritten(PhysAddr),
    /// Addresses are handed out.
    VaAllocated(PageRange),
    /// A lazy MMU call returned.
    Lazy {
        /// Which.
        call: LazyCall,
        /// Sections that the task has open after it; 1 for a model that knows but a flag.
        sections: u8,
        /// Pauses that the task has open after it.
        pauses: u8,
        /// Whether the call owed it to its caller that what was put off is done: it made an arch
        /// leave or flush.
        flushed: bool,
    },
    /// From here on the addresses may have stale translations although their frames are handed out
    /// again: one of the windows that Linux accepts.
    WindowOpened {
        /// Which.
        window: Window,
        /// The addresses. Their entries have been changed.
        range: PageRange,
    },
    /// The window is closed: nothing stale may be left.
    WindowClosed {
        /// Which.
        window: Window,
        /// The addresses.
        range: PageRange,
    },
    /// The task is where nothing may be left open.
    Boundary(Boundary),
}

/// An entry of a translation table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Where it is.
    pub address: PhysAddr,
    /// The first address that it maps.
    pub va: VirtAddr,
    /// The level of its table.
    pub level: Level,
    /// The address space whose tables it is in; 0 for those of the kernel. Its ASID is the same
    /// number, unless [`Kind::Asid`] says otherwise.
    pub space: u16,
    /// What it holds.
    pub value: Descriptor,
}

/// A barrier instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Barrier {
    /// DSB.
    Dsb(Domain, Orders),
    /// DMB.
    Dmb(Domain, Orders),
    /// ISB.
    Isb,
}

/// The observers that a barrier speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Domain {
    /// NSH: this CPU alone.
    NonShareable,
    /// ISH.
    InnerShareable,
    /// OSH.
    OuterShareable,
    /// SY.
    FullSystem,
}

/// The accesses before a barrier that it orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Orders {
    /// ST: stores, before stores.
    Stores,
    /// LD: loads, before everything.
    Loads,
    /// All, before everything.
    All,
}

/// A TLB invalidation of the EL1&0 regime: the instruction as it was executed. The operand is
/// what the register held, and is decoded here: a wrong one is a bug worth finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tlbi {
    /// What it names.
    pub scope: Scope,
    /// Only entries that end a walk (VALE1 and the like).
    pub last_level: bool,
    /// Broadcast to the inner-shareable domain (the IS forms).
    pub broadcast: bool,
    /// The register; ignored for [`Scope::All`].
    pub operand: u64,
}

/// What a TLB invalidation names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// VMALLE1: everything.
    All,
    /// ASIDE1: everything non-global of an ASID.
    Asid,
    /// VAE1, VALE1: an address, in an ASID or global.
    Va,
    /// VAAE1, VAALE1: an address, in every ASID.
    VaAllAsids,
    /// RVAE1, RVALE1: a range of addresses, in an ASID or global.
    Range,
    /// RVAAE1, RVAALE1: a range of addresses, in every ASID.
    RangeAllAsids,
}

/// How a synchronisation variable was accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SyncAccess {
    /// STR, or STLR.
    Write {
        /// STLR.
        release: bool,
    },
    /// LDR, or LDAR.
    Read {
        /// LDAR.
        acquire: bool,
    },
    /// SWP, CAS, or LDXR and the STXR that succeeded.
    ReadModifyWrite {
        /// With acquire semantics.
        acquire: bool,
        /// With release semantics.
        release: bool,
    },
    /// A conditional branch whose condition depends on what the CPU last read from the variable.
    Branch,
}

/// How memory was accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

/// Consecutive frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frames {
    /// Where the first begins.
    pub first: PhysAddr,
    /// How many of 4 KiB.
    pub count: u64,
}

/// A lazy MMU call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LazyCall {
    /// `lazy_mmu_mode_enable`.
    Enable,
    /// `lazy_mmu_mode_disable`.
    Disable,
    /// `lazy_mmu_mode_pause`.
    Pause,
    /// `lazy_mmu_mode_resume`.
    Resume,
}

/// A time in which frames may be reused while stale translations to them may exist, because Linux
/// accepts that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// A lazily freed vmalloc area, until its purge.
    LazyPurge,
    /// Shadow of such an area, between depopulate and its flush.
    Shadow,
}

/// Where a task may have no lazy section open and no pause unfinished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Boundary {
    /// The task ends.
    TaskExit,
    /// The task returns to EL0.
    ReturnToEl0,
    /// A scene of the tour, or a test, ends.
    Scene,
    /// A monitor command ends.
    Command,
}
