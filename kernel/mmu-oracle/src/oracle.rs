//! The judge: what each event means for what is known, and which rule it breaks.

mod entries;
mod frames;
mod memory;
mod spaces;
mod tasks;
mod tlb;

pub use memory::Memory;
use spaces::Spaces;

use crate::{
    MAX_CPUS,
    event::{Event, Frames, Kind},
    ordering::Ordering,
    pool::Pool,
    record::{Live, NewTable, Stale, Stamp, Task},
    rule::Rule,
    violation::Violation,
};
use core::hash::{Hash, Hasher};
use vmsa::{PAGE_SIZE, PageRange, PhysAddr};

/// What the oracle must know of the machine before the first event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Config {
    /// The CPUs have FEAT_ETS2 (ID_AA64MMFR1_EL1.ETS >= 2).
    pub ets2: bool,
}

/// What has been judged so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events.
    pub events: u64,
    /// Violations.
    pub violations: u64,
    /// Frames that were freed or handed out with a stale translation to them in an accepted window.
    pub frames_in_window: u64,
    /// Spurious faults that a handler tolerated.
    pub spurious_faults: u64,
    /// A digest over every event judged, without its time.
    pub digest: u64,
}

/// The judge of a sequence of events.
#[derive(Debug)]
pub struct Oracle<'m> {
    order: Ordering<'m>,
    /// Valid entries that were stored since the first event, by address and by output.
    live: Pool<'m, Live>,
    /// Translations that a TLB may still hold, by address and by output.
    stale: Pool<'m, Stale>,
    tasks: &'m mut [Task],
    /// Tables that were zeroed and are not linked yet.
    new_tables: &'m mut [NewTable],
    linear_map: Option<PageRange>,
    /// A bit for each CPU that takes part.
    online: u32,
    spaces: Spaces<'m>,
    /// How many stores a CPU had made when it last issued a TLBI that named nothing that changed.
    stray: [u64; MAX_CPUS],
    /// The stale translations that are gone for all are dropped when there are so many.
    sweep_at: usize,
    full: bool,
    full_said: bool,
    stats: Stats,
}

impl<'m> Oracle<'m> {
    /// A judge that has seen nothing.
    #[must_use]
    pub fn new(memory: Memory<'m>, config: Config) -> Self {
        let memory::Parts {
            cpus,
            variables,
            tasks,
            new_tables,
            live,
            live_heads,
            stale,
            stale_heads,
            asids,
            held,
        } = memory.split();
        Self {
            order: Ordering::new(cpus, variables, config.ets2),
            live: Pool::new(live, live_heads),
            stale: Pool::new(stale, stale_heads),
            tasks,
            new_tables,
            linear_map: None,
            online: 0,
            spaces: Spaces::new(asids, held),
            stray: [0; MAX_CPUS],
            sweep_at: 256,
            full: false,
            full_said: false,
            stats: Stats {
                digest: Digest::START,
                ..Stats::default()
            },
        }
    }

    /// Judges the next event: the first rule that it broke, if any. The oracle goes on as if the
    /// rule had been kept, so that one mistake is reported once.
    ///
    /// # Panics
    /// If the event's CPU is not below [`MAX_CPUS`].
    pub fn judge(&mut self, event: &Event) -> Option<Violation> {
        assert!(
            usize::from(event.cpu) < MAX_CPUS,
            "CPU {} of {MAX_CPUS}",
            event.cpu
        );
        self.stats.events += 1;
        let mut digest = Digest(self.stats.digest);
        (event.cpu, event.task, event.kind).hash(&mut digest);
        self.stats.digest = digest.finish();
        self.online |= 1 << event.cpu;

        let was_full = self.full;
        let mut violation = self.judge_kind(event);
        if self.full && !self.full_said && (was_full || violation.is_none()) {
            self.full_said = true;
            violation = Some(Violation::new(Rule::MemoryFull, event));
        }
        self.stats.violations += u64::from(violation.is_some());
        violation
    }

    fn judge_kind(&mut self, event: &Event) -> Option<Violation> {
        let cpu = event.cpu;
        if !self.order.is_whole() {
            return self.memory_full();
        }
        match event.kind {
            Kind::Online => None,
            Kind::Tcr(value) => {
                self.spaces.tcr(value);
                None
            }
            Kind::EntryRead(entry) => self.entry_read(event, entry),
            Kind::Snapshot(entry) => self.snapshot(event, entry),
            Kind::LinearMap(range) => {
                self.linear_map = Some(range);
                None
            }
            // It is linked already: walkers read it as it was before it was zeroed.
            Kind::TableAllocated(table) if self.is_linked(table) => {
                Some(Violation::new(Rule::TableNotZeroed, event))
            }
            Kind::TableAllocated(table) => {
                let zeroed = self.order.store(cpu);
                self.new_table(table, Stamp::new(event, zeroed))
            }
            Kind::TableFreed(table) => self.table_freed(event, table),
            Kind::Store { entry, old } => self.store(event, entry, old),
            Kind::Barrier(barrier) => {
                self.order.barrier(cpu, barrier);
                None
            }
            Kind::Tlbi(tlbi) => {
                self.tlbi(event, tlbi);
                None
            }
            Kind::Ttbr0(value) => {
                self.is_root(value);
                self.ttbr0(event, value)
            }
            Kind::Asid { space, asid } => self.new_asid(space, asid),
            Kind::Ttbr1(value) => {
                self.is_root(value);
                None
            }
            Kind::ExceptionEntry => {
                self.order.isb(cpu);
                None
            }
            Kind::ExceptionReturn { to_el0 } => {
                self.order.isb(cpu);
                if to_el0 {
                    self.nothing_open(event)
                } else {
                    None
                }
            }
            Kind::ContextSwitch { .. } => {
                (!self.order.all_completed(cpu)).then(|| Violation::new(Rule::TlbiInFlight, event))
            }
            Kind::Sync { variable, access } => match self.order.sync(cpu, variable, access) {
                Ok(()) => None,
                Err(_) => self.memory_full(),
            },
            Kind::Access { va, access } => self.access(event, va, access),
            Kind::SpuriousFault(_) => {
                self.stats.spurious_faults += 1;
                None
            }
            Kind::FramesAllocated(frames) => self.frames_allocated(event, frames),
            Kind::FramesFreed(frames) => self.frames_freed(event, frames),
            Kind::FrameWritten(address) => self.frame_written(event, address),
            Kind::VaAllocated(range) => self.va_allocated(event, range),
            Kind::Lazy {
                sections,
                pauses,
                flushed,
                ..
            } => self.lazy(event, sections, pauses, flushed),
            Kind::WindowOpened { window, range } => {
                self.window_opened(window, range);
                None
            }
            Kind::WindowClosed { range, .. } => self.window_closed(event, range),
            Kind::Boundary(_) => self.boundary(event),
        }
    }

    /// A table that is a root is linked by nothing.
    fn is_root(&mut self, ttbr: u64) {
        // BADDR is [47:1] (DDI 0487, D24.2, TTBR0_EL1); a root is a page here.
        if let Some(root) = PhysAddr::new(ttbr & ((1 << 48) - PAGE_SIZE)) {
            let count = 1;
            self.forget_new_tables(Frames { first: root, count });
        }
    }

    /// What has been judged so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// The oracle can't vouch for anything any more. That is said once: by this event, or by the next
    /// if this one breaks another rule.
    fn memory_full(&mut self) -> Option<Violation> {
        self.full = true;
        None
    }

    /// Whether CPUs beside `cpu` take part.
    fn others(&self, cpu: u8) -> bool {
        self.online & !(1 << cpu) != 0
    }
}

/// FNV-1a over words.
struct Digest(u64);

impl Digest {
    const START: u64 = 0xcbf2_9ce4_8422_2325;
}

impl Hasher for Digest {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, word: u64) {
        // The rotation brings high bits down, which multiplication alone never does.
        self.0 = (self.0 ^ word)
            .wrapping_mul(0x0100_0000_01b3)
            .rotate_left(23);
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(u64::from(word));
    }

    fn write_u16(&mut self, word: u16) {
        self.write_u64(u64::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as u64);
    }
}
