//! What is ordered before what, CPU by CPU: the Arm memory model as far as barriers, TLBIs, table
//! walks and synchronisation variables go.
//!
//! For each CPU there is a set of facts for each kind of thing that it may do next: the facts that
//! are ordered before *any later* load, store, ISB, TLBI or table walk of it. A barrier moves facts
//! from one set to others; reading a variable brings in the facts that were ordered before the write
//! which it read. Names and rules are those of DDI 0487, B2.3 ("Ordering relations", "Barrier-ordered-
//! before", "Dependency-ordered-before") and D8.2.6; each is held against the litmus tests.
//!
//! What it does not see makes it say less, never more: address and data dependencies, reads of
//! entries, DSB NSH towards other CPUs.

use crate::{
    MAX_CPUS,
    clock::{Class, Clock, Fact},
    event::{Access, Barrier, Domain, Orders, SyncAccess},
};
use bytemuck::{Pod, Zeroable};

/// Reads whose branch may still come, a CPU.
const RECENT: usize = 4;

/// What one CPU knows. All zero: nothing.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Cpu {
    /// How many facts of each class it has made.
    made: [u64; 3],
    /// Ordered before some read that it has done.
    reads: Clock,
    /// Ordered before some store that it has done, and these stores.
    stores: Clock,
    /// Ordered before every later load.
    to_loads: Clock,
    /// Ordered before every later store.
    to_stores: Clock,
    /// Ordered before every later ISB.
    to_isb: Clock,
    /// Ordered before every later ISB, as far as this CPU's own walks go: by a DSB NSH.
    to_own_isb: Clock,
    /// Ordered before every branch that came later: a DSB behind it is one that a TLBI comes after.
    controlled: Clock,
    /// Stores that every later broadcast TLBI is for.
    to_tlbi: Clock,
    /// Stores that every later TLBI of this CPU alone is for.
    to_local_tlbi: Clock,
    /// Ordered before every later table walk.
    to_walks: Clock,
    /// Its last reads.
    recent: [Recent; RECENT],
    next_recent: u64,
}

/// A read: the variable, and the facts ordered before what depends on it.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Recent {
    variable: u64,
    facts: Clock,
}

impl Cpu {
    fn make(&mut self, cpu: u8, class: Class) -> Fact {
        let number = &mut self.made[class as usize];
        *number += 1;
        Fact {
            cpu,
            class,
            number: *number,
        }
    }

    fn last(&self, cpu: u8, class: Class) -> Fact {
        Fact {
            cpu,
            class,
            number: self.made[class as usize],
        }
    }

    /// Completed by a DSB: ordered before everything that comes later.
    fn complete(&mut self, facts: &Clock) {
        self.to_loads.join(facts);
        self.to_stores.join(facts);
        self.to_isb.join(facts);
        self.to_tlbi.join(facts);
        self.to_local_tlbi.join(facts);
    }

    fn remember(&mut self, variable: u64, facts: Clock) {
        // One slot a variable: the branch is on what was read last.
        let slot = self
            .recent
            .iter()
            .position(|known| known.variable == variable)
            .unwrap_or_else(|| {
                self.next_recent = (self.next_recent + 1) % RECENT as u64;
                self.next_recent as usize
            });
        self.recent[slot] = Recent { variable, facts };
    }
}

/// A synchronisation variable: what is ordered before the write that it holds, and before the
/// reads since.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Variable {
    /// Its address.
    id: u64,
    /// Whether there is one in the slot.
    used: u64,
    /// Who wrote last, and who alone has read since: a CPU plus 1, 0 for nobody, [`MANY`].
    writer: u32,
    reader: u32,
    written: Clock,
    read: Clock,
}

/// More than one CPU has read.
const MANY: u32 = u32::MAX;

/// The order of events on all CPUs.
#[derive(Debug)]
pub(crate) struct Ordering<'m> {
    /// As many as there can be, unless there was no memory for them.
    cpus: &'m mut [Cpu],
    variables: &'m mut [Variable],
    ets2: bool,
}

/// There is no room for another variable.
#[derive(Debug)]
pub(crate) struct Full;

impl<'m> Ordering<'m> {
    pub fn new(cpus: &'m mut [Cpu], variables: &'m mut [Variable], ets2: bool) -> Self {
        cpus.fill(Zeroable::zeroed());
        variables.fill(Zeroable::zeroed());
        Self {
            cpus,
            variables,
            ets2,
        }
    }

    /// Whether there was memory for every CPU; if not, nothing else may be asked.
    pub fn is_whole(&self) -> bool {
        self.cpus.len() >= MAX_CPUS
    }

    fn cpu(&mut self, cpu: u8) -> &mut Cpu {
        &mut self.cpus[usize::from(cpu)]
    }

    /// A store to a table.
    pub fn store(&mut self, cpu: u8) -> Fact {
        let this = self.cpu(cpu);
        let fact = this.make(cpu, Class::Store);
        let before = this.to_stores;
        this.stores.join(&before);
        this.stores.add(fact);
        fact
    }

    /// What came before the first event.
    pub fn before_everything(&self, cpu: u8) -> Fact {
        Fact {
            cpu,
            class: Class::Store,
            number: 0,
        }
    }

    /// How many stores to tables the CPU has made.
    pub fn stores_made(&self, cpu: u8) -> u64 {
        self.cpus[usize::from(cpu)].made[Class::Store as usize]
    }

    /// A TLBI.
    pub fn tlbi(&mut self, cpu: u8, broadcast: bool) -> Fact {
        let class = if broadcast {
            Class::Broadcast
        } else {
            Class::Local
        };
        self.cpu(cpu).make(cpu, class)
    }

    pub fn barrier(&mut self, cpu: u8, barrier: Barrier) {
        let this = self.cpu(cpu);
        match barrier {
            Barrier::Isb => self.isb(cpu),
            // DDI 0487, B2.3.11: what comes after a DSB comes after the accesses before it that it
            // names are complete.
            Barrier::Dsb(domain, orders) => {
                let mut facts = match orders {
                    Orders::Stores => this.stores,
                    Orders::Loads => this.reads,
                    Orders::All => this
                        .reads
                        .with(&this.stores)
                        .with(&this.to_loads)
                        .with(&this.to_stores),
                };
                // A TLBI comes after the branch on a read that a DSB stands behind (`10-MIGR-V2I-
                // STLR--LDAR+ctrl--DSB.ISHST`).
                let controlled = this.controlled;
                this.to_tlbi.join(&controlled);
                this.to_local_tlbi.join(&controlled);
                if orders == Orders::All {
                    facts.add(this.last(cpu, Class::Local));
                }
                if domain == Domain::NonShareable {
                    // Complete as far as this CPU is concerned. Others, and broadcast TLBIs, are
                    // not in its domain.
                    this.to_own_isb.join(&facts);
                    this.to_local_tlbi.join(&facts);
                } else {
                    if orders == Orders::All {
                        facts.add(this.last(cpu, Class::Broadcast));
                    }
                    this.complete(&facts);
                }
            }
            // A DMB orders accesses, and nothing else: no TLBI, no ISB (B2.3.11,
            // `2-BATCH-DMB.ST+ISB`, `4-V2I-DMB.ST+VAALE1IS+DSB.ISH+ISB`).
            Barrier::Dmb(Domain::NonShareable, _) => {}
            Barrier::Dmb(_, orders) => {
                let facts = match orders {
                    Orders::Stores => this.stores,
                    Orders::Loads => this.reads,
                    Orders::All => this.reads.with(&this.stores),
                };
                this.to_stores.join(&facts);
                if orders != Orders::Stores {
                    this.to_loads.join(&facts);
                }
            }
        }
    }

    /// A context synchronisation event: an ISB, an exception, a return from one.
    pub fn isb(&mut self, cpu: u8) {
        let this = self.cpu(cpu);
        let facts = this.to_isb;
        let own = this.to_own_isb;
        this.to_walks.join(&facts);
        this.to_walks.join(&own);
        this.to_loads.join(&facts);
        this.to_stores.join(&facts);
    }

    pub fn sync(&mut self, cpu: u8, id: u64, access: SyncAccess) -> Result<(), Full> {
        let slot = self.variable(id)?;
        let this = &mut self.cpus[usize::from(cpu)];
        let variable = &mut self.variables[slot];
        let me = u32::from(cpu) + 1;
        // Order between CPUs comes from external reads-from, coherence and from-read alone: a CPU's
        // own write tells it nothing (B2.3, "Observed-by").
        let external = if variable.writer == me {
            Clock::default()
        } else {
            variable.written
        };
        let read_before = if variable.reader == me {
            Clock::default()
        } else {
            variable.read
        };
        match access {
            SyncAccess::Branch => {
                // Dependency-ordered-before: a control dependency orders the read before later
                // stores, and before an ISB that follows the branch.
                if let Some(Recent { facts, .. }) =
                    this.recent.iter().find(|known| known.variable == id)
                {
                    let facts = *facts;
                    this.to_stores.join(&facts);
                    this.to_isb.join(&facts);
                    this.controlled.join(&facts);
                }
            }
            SyncAccess::Read { acquire } => {
                let facts = this.to_loads.with(&external);
                this.reads.join(&facts);
                if acquire {
                    this.to_loads.join(&facts);
                    this.to_stores.join(&facts);
                }
                this.remember(id, facts);
                variable.read.join(&this.to_loads);
                variable.reader = match variable.reader {
                    0 => me,
                    reader if reader == me => me,
                    _ => {
                        // Whose order is whose can't be told any more: none is claimed.
                        variable.read = Clock::default();
                        MANY
                    }
                };
            }
            SyncAccess::Write { release } => {
                let mut facts = this.to_stores.with(&external).with(&read_before);
                if release {
                    facts.join(&this.reads);
                    facts.join(&this.stores);
                }
                this.stores.join(&facts);
                variable.write(me, facts);
            }
            SyncAccess::ReadModifyWrite { acquire, release } => {
                let read = this.to_loads.with(&external);
                this.reads.join(&read);
                // Atomic-ordered-before: the write comes after its own read.
                let mut facts = this.to_stores.with(&read).with(&read_before);
                if release {
                    facts.join(&this.reads);
                    facts.join(&this.stores);
                }
                if acquire {
                    this.to_loads.join(&read);
                    this.to_stores.join(&read);
                }
                this.stores.join(&facts);
                this.remember(id, read);
                variable.write(me, facts);
            }
        }
        Ok(())
    }

    fn variable(&mut self, id: u64) -> Result<usize, Full> {
        let len = self.variables.len();
        let start = (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
        for i in 0..len {
            let slot = (start + i) % len;
            let variable = &mut self.variables[slot];
            if variable.used == 0 {
                variable.used = 1;
                variable.id = id;
            }
            if variable.id == id {
                return Ok(slot);
            }
        }
        Err(Full)
    }

    /// Whether the table walks of `cpu` are guaranteed to see the store.
    pub fn is_visible(&self, cpu: u8, store: Fact, access: Access) -> bool {
        let this = &self.cpus[usize::from(cpu)];
        this.to_walks.has(store)
            // FEAT_ETS2: what comes before the access in program order, and what is ordered before
            // that, comes before a translation fault of it. Instruction fetches are not meant
            // (DDI 0487, D8.2.6 "Enhanced Translation Synchronization").
            || self.ets2
                && access != Access::Execute
                && [this.reads, this.stores, this.to_loads, this.to_stores]
                    .iter()
                    .any(|facts| facts.has(store))
    }

    /// Whether an access by `cpu` is guaranteed not to use what the TLBI invalidated. `faults` says
    /// that by the old translation it would fault: a fault is no store, and what is ordered before
    /// later stores alone (by a branch, say) is not before it.
    pub fn is_gone(&self, cpu: u8, tlbi: Fact, access: Access, faults: bool) -> bool {
        let this = &self.cpus[usize::from(cpu)];
        if tlbi.class == Class::Local && tlbi.cpu != cpu {
            return false;
        }
        // The CPU itself may have translated ahead, unless it has FEAT_ETS2; the accesses of others
        // that used the old translation are complete when the TLBI is (D8.16.1; `4-V2I-*`, `4b-*`).
        let own = tlbi.cpu == cpu && !self.ets2;
        match access {
            Access::Read if !own => this.to_loads.has(tlbi),
            Access::Write if !own => {
                this.to_stores.has(tlbi) && (!faults || this.to_loads.has(tlbi))
            }
            _ => this.to_walks.has(tlbi),
        }
    }

    /// Whether what `cpu` loads from now on comes after the fact.
    pub fn is_before_loads(&self, cpu: u8, fact: Fact) -> bool {
        self.cpus[usize::from(cpu)].to_loads.has(fact)
    }

    /// Whether what `cpu` stores from now on comes after the fact.
    pub fn is_before_stores(&self, cpu: u8, fact: Fact) -> bool {
        self.cpus[usize::from(cpu)].to_stores.has(fact)
    }

    /// Whether a TLBI that `cpu` issues now is for the store.
    pub fn is_before_tlbi(&self, cpu: u8, store: Fact, broadcast: bool) -> bool {
        let this = &self.cpus[usize::from(cpu)];
        let facts = if broadcast {
            &this.to_tlbi
        } else {
            &this.to_local_tlbi
        };
        facts.has(store)
    }

    /// Whether the CPU that issued the TLBI has completed it by a DSB.
    pub fn is_completed(&self, tlbi: Fact) -> bool {
        let this = &self.cpus[usize::from(tlbi.cpu)];
        match tlbi.class {
            Class::Local => this.to_own_isb.has(tlbi) || this.to_isb.has(tlbi),
            _ => this.to_stores.has(tlbi),
        }
    }

    /// Whether every TLBI that `cpu` issued is complete.
    pub fn all_completed(&self, cpu: u8) -> bool {
        [Class::Broadcast, Class::Local]
            .iter()
            .all(|class| self.is_completed(self.cpus[usize::from(cpu)].last(cpu, *class)))
    }
}

impl Variable {
    fn write(&mut self, writer: u32, facts: Clock) {
        self.writer = writer;
        self.written = facts;
        self.reader = 0;
        self.read = Clock::default();
    }
}
