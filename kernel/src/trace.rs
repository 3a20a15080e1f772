//! Counts and records what `arch/` does to page tables: every entry store, barrier and TLBI, and
//! the lazy MMU calls around them.
//!
//! It executes no instruction of interest itself, prints nothing and allocates nothing: each CPU has its
//! counters, and the memory for a recording is lent by whoever starts it. `arch` passes CPU, task and
//! time with each event, so that this file needs to know none of them.

use crate::unusual::{self, Reason};
use core::{
    cell::UnsafeCell,
    fmt,
    marker::PhantomData,
    mem::MaybeUninit,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering},
};
use lazy_mmu::{ArchCall, Call, LazyMmuState, Warning};
use vmsa::{Descriptor, Level, PhysAddr, VirtAddr, tlbi::Operation};

/// A barrier instruction that `arch::barrier` can issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// `DSB ISHST`: earlier stores are complete, also for the walkers of the inner-shareable
    /// domain.
    DsbIshst,
    /// `DSB ISH`: earlier accesses and TLBIs are complete in the inner-shareable domain.
    DsbIsh,
    /// `DSB NSH`: the same for this CPU alone.
    DsbNsh,
    /// `ISB`: what follows is fetched and translated anew.
    Isb,
}

/// An instruction of cache maintenance that `arch::cache` can issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheOp {
    /// `DC CVAU`: the line of this address is clean to the point of unification.
    DcCvau(VirtAddr),
    /// `IC IVAU`: the line of this address is gone from the instruction caches of the inner-shareable
    /// domain.
    IcIvau(VirtAddr),
    /// `IC IALLUIS`: so are all lines.
    IcIalluis,
}

impl fmt::Display for CacheOp {
    /// As the manual writes it, with the address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DcCvau(va) => write!(f, "DC CVAU {va}"),
            Self::IcIvau(va) => write!(f, "IC IVAU {va}"),
            Self::IcIalluis => f.write_str("IC IALLUIS"),
        }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A page-table entry was stored.
    Store {
        /// Where the entry is.
        entry: PhysAddr,
        /// The first address that it maps.
        va: VirtAddr,
        /// The level of its table.
        level: Level,
        /// The address space whose tables it is in; 0 for the kernel's.
        space: u16,
        /// What it held.
        old: Descriptor,
        /// What it holds now.
        new: Descriptor,
    },
    /// A barrier was issued.
    Barrier(Barrier),
    /// A TLB invalidation was issued.
    Tlbi(Operation),
    /// An instruction of cache maintenance was issued. It is not counted.
    Cache(CacheOp),
    /// A lazy MMU call returned: the state it left, what it asked of the architecture, what it
    /// complained of.
    Lazy {
        /// Which call.
        call: Call,
        /// The task's state after it.
        state: LazyMmuState,
        /// The arch call that it made.
        arch: Option<ArchCall>,
        /// The warning that it fired.
        warning: Option<Warning>,
    },
    /// A function that a scene names in its call tree was entered.
    Enter(&'static str),
    /// It returned.
    Leave(&'static str),
}

/// An event, with where and when.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Ticks of CNTVCT_EL0.
    pub time: u64,
    /// The CPU that executed it.
    pub cpu: u32,
    /// The task that it executed.
    pub task: u32,
    /// What happened.
    pub kind: Kind,
}

/// How often each thing happened on one CPU since reset. `arch` keeps one for each CPU, and counts in
/// it; here they are added up.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Counters {
    /// Entry stores.
    pub stores: AtomicUsize,
    /// DSBs of every kind.
    pub dsb: AtomicUsize,
    /// ISBs.
    pub isb: AtomicUsize,
    /// TLBIs of every kind.
    pub tlbi: AtomicUsize,
    /// Pages that appeared, with a store, a DSB and an ISB each that are counted nowhere else.
    pub appearances: AtomicUsize,
    /// Pages that went, with a store, two DSBs, a TLBI and an ISB each that are counted nowhere else.
    pub departures: AtomicUsize,
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

impl Counters {
    /// All 0.
    pub const fn new() -> Self {
        Self {
            stores: AtomicUsize::new(0),
            dsb: AtomicUsize::new(0),
            isb: AtomicUsize::new(0),
            tlbi: AtomicUsize::new(0),
            appearances: AtomicUsize::new(0),
            departures: AtomicUsize::new(0),
        }
    }

    /// Where an event is counted, if it is.
    #[inline]
    pub fn counter(&self, kind: &Kind) -> Option<&AtomicUsize> {
        match kind {
            Kind::Store { .. } => Some(&self.stores),
            Kind::Barrier(Barrier::Isb) => Some(&self.isb),
            Kind::Barrier(_) => Some(&self.dsb),
            Kind::Tlbi(_) => Some(&self.tlbi),
            Kind::Cache(_) | Kind::Lazy { .. } | Kind::Enter(_) | Kind::Leave(_) => None,
        }
    }
}

/// The most CPUs whose counters are added up.
const MAX_CPUS: usize = 8;

/// The counters of every CPU that has come so far.
static COUNTERS: [AtomicPtr<Counters>; MAX_CPUS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];

/// Adds the counters of CPU `cpu` to those that are added up.
///
/// # Panics
/// If `cpu` is not below 8.
pub fn register(cpu: usize, counters: &'static Counters) {
    COUNTERS[cpu].store(core::ptr::from_ref(counters).cast_mut(), Ordering::Release);
}

/// One counter of all CPUs together. Another CPU may be about to count; what it did before something
/// that this CPU has seen of it is in the sum.
fn sum(counter: impl Fn(&Counters) -> &AtomicUsize) -> usize {
    COUNTERS
        .iter()
        // SAFETY: null, or stored by `register`, from a reference that is good for ever.
        .filter_map(|counters| unsafe { counters.load(Ordering::Acquire).as_ref() })
        .map(|counters| counter(counters).load(Ordering::Relaxed))
        .fold(0, usize::wrapping_add)
}

/// A reading of the counters, or the difference of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entry stores.
    pub stores: usize,
    /// DSBs of every kind.
    pub dsb: usize,
    /// ISBs.
    pub isb: usize,
    /// TLBIs of every kind.
    pub tlbi: usize,
}

impl Counts {
    /// What the machine has done since reset, on all its CPUs.
    pub fn now() -> Self {
        let appearances = sum(|counters| &counters.appearances);
        let departures = sum(|counters| &counters.departures);
        let pages = appearances.wrapping_add(departures);
        Self {
            stores: pages.wrapping_add(sum(|counters| &counters.stores)),
            dsb: pages
                .wrapping_add(departures)
                .wrapping_add(sum(|counters| &counters.dsb)),
            isb: pages.wrapping_add(sum(|counters| &counters.isb)),
            tlbi: departures.wrapping_add(sum(|counters| &counters.tlbi)),
        }
    }

    /// What it has done since `self` was read.
    pub fn since(self) -> Self {
        let now = Self::now();
        Self {
            stores: now.stores - self.stores,
            dsb: now.dsb - self.dsb,
            isb: now.isb - self.isb,
            tlbi: now.tlbi - self.tlbi,
        }
    }

    /// Counts the events of a recording instead.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut counts = Self::default();
        for event in events {
            match event.kind {
                Kind::Store { .. } => counts.stores += 1,
                Kind::Barrier(Barrier::Isb) => counts.isb += 1,
                Kind::Barrier(_) => counts.dsb += 1,
                Kind::Tlbi(_) => counts.tlbi += 1,
                Kind::Cache(_) | Kind::Lazy { .. } | Kind::Enter(_) | Kind::Leave(_) => {}
            }
        }
        counts
    }
}

/// The recording under way, if any.
struct Recorder {
    on: AtomicBool,
    /// How many events came; more than there is room for means that some were lost.
    arrived: AtomicUsize,
    /// How many CPUs are inside of `push`.
    writers: AtomicUsize,
    /// The lent memory. Written by `start` while `on` is false, and slot by slot by `push` while it
    /// is true.
    memory: UnsafeCell<(*mut Event, usize)>,
}

// SAFETY: `memory` changes only while `on` is false and nobody writes, which `start` and `stop` see to
// (they hold `STARTER`); while it is true each slot is written once, by whoever took its number from
// `arrived`.
unsafe impl Sync for Recorder {}

static RECORDER: Recorder = Recorder {
    on: AtomicBool::new(false),
    arrived: AtomicUsize::new(0),
    writers: AtomicUsize::new(0),
    memory: UnsafeCell::new((core::ptr::null_mut(), 0)),
};

/// Held for as long as a recording exists.
static STARTER: AtomicBool = AtomicBool::new(false);

/// Whether events are being recorded. One load and a branch on every path that could record.
#[inline]
pub fn recording() -> bool {
    RECORDER.on.load(Ordering::Relaxed)
}

/// Takes one event into the recording; without room it is counted as lost. Interrupts are masked: who
/// ends the recording waits for it.
pub fn push(event: Event) {
    // Asked again: the memory may have gone back to its owner since the caller asked.
    // `stop` first says that it is over, then looks for writers; a writer does the reverse, and one
    // of the two sees the other: SeqCst has all four in one order.
    RECORDER.writers.fetch_add(1, Ordering::SeqCst);
    if RECORDER.on.load(Ordering::SeqCst) {
        let slot = RECORDER.arrived.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the recording is on, so `start` has set `memory`; `Recording` borrows it until there
        // is no writer.
        let (base, len) = unsafe { *RECORDER.memory.get() };
        if slot < len {
            // SAFETY: slot is inside the lent memory, and `fetch_add` gave its number to this caller
            // alone.
            unsafe { base.add(slot).write(event) };
        }
    }
    RECORDER.writers.fetch_sub(1, Ordering::Release);
}

/// A recording under way. Dropping it ends it.
///
/// It holds the lent memory by the pointer that [`push`] writes through, not by the reference: that
/// would claim to be the only way to it.
#[derive(Debug)]
pub struct Recording<'a> {
    base: *const Event,
    len: usize,
    lent: PhantomData<&'a mut [MaybeUninit<Event>]>,
}

/// A recording that lost events: a conclusion drawn from it would be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incomplete {
    /// Events for which there was no room.
    pub lost: usize,
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the recording had no room for {} events", self.lost)
    }
}

/// Starts a recording into `memory`, or returns `None` while another one is under way.
pub fn start(memory: &mut [MaybeUninit<Event>]) -> Option<Recording<'_>> {
    if STARTER.swap(true, Ordering::Acquire) {
        return None;
    }
    RECORDER.arrived.store(0, Ordering::Relaxed);
    let (base, len) = (memory.as_mut_ptr().cast::<Event>(), memory.len());
    // SAFETY: STARTER is ours and `on` is false, so nobody else reads or writes `memory`.
    unsafe { *RECORDER.memory.get() = (base, len) };
    unusual::set(Reason::Recording, true);
    RECORDER.on.store(true, Ordering::Release);
    Some(Recording {
        base,
        len,
        lent: PhantomData,
    })
}

impl Recording<'_> {
    /// Stops recording; what comes later is not in it.
    pub fn stop(&mut self) {
        RECORDER.on.store(false, Ordering::SeqCst);
        unusual::set(Reason::Recording, false);
        // Another CPU may be writing an event.
        while RECORDER.writers.load(Ordering::SeqCst) != 0 {
            core::hint::spin_loop();
        }
    }

    /// The events so far, in the order in which they were taken.
    ///
    /// # Errors
    /// [`Incomplete`] when the memory was too small.
    pub fn events(&mut self) -> Result<&[Event], Incomplete> {
        self.stop();
        let arrived = RECORDER.arrived.load(Ordering::Acquire);
        if arrived > self.len {
            return Err(Incomplete {
                lost: arrived - self.len,
            });
        }
        // SAFETY: `push` has written each of the first `arrived` slots, and recording has stopped.
        Ok(unsafe { core::slice::from_raw_parts(self.base, arrived) })
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        self.stop();
        STARTER.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
