//! A machine that runs a program in one of the ways that the architecture allows, chosen at random,
//! and tells when something went wrong.
//!
//! Each step of each CPU is performed at a moment of its own. [`waits`] says which of the earlier
//! steps of its CPU it comes after; nothing else holds it back. Its *event* is told in program
//! order, when the step can't be undone any more. Table walks are done ahead at any time that an
//! ISB allows; a TLB may take in whatever the tables say at any time, used or not, and keeps it until
//! a TLBI, which takes effect on each CPU at a time of its own. A store is seen by everybody when
//! it is performed, which may be long after its event.
//!
//! Something is wrong when an access faults, or uses a frame or a permission, other than the entry
//! says by the events told before the access; when an access reaches a frame, or a walker a table,
//! that has been given back since; when a walker reads a table that is not zeroed yet.
//!
//! The machine does less than the architecture allows. It leaves out: stores and writes to
//! variables that are performed before their event (so none overtakes an earlier load); walks that
//! stop between two levels; TLBs that mix translations or break when break-before-make was not
//! kept; ASIDs, blocks, instruction fetches, the access flag; several owners of one variable.

use super::{CPUS, FRAMES, Leaf, PAGES, PAGES_A_TABLE, Program, REGIONS, Step, TABLES, Told, va};
use mmu_oracle::{
    Event,
    event::{Access, Barrier, Domain, Orders, Scope, SyncAccess, Tlbi},
};
use std::collections::BTreeMap;
use vmsa::{
    Level, PAGE_SIZE,
    tlbi::{Operand, RangeOperand},
};

/// One run: what was told, and what went wrong.
#[derive(Debug)]
pub struct Run {
    pub events: Vec<Event>,
    pub wrong: Vec<Wrong>,
    /// Every step was performed.
    pub whole: bool,
}

/// Something went wrong that a violation in the first `by` events had to announce.
#[derive(Clone, Copy, Debug)]
pub struct Wrong {
    pub by: usize,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// An access faulted, though the entry permits it.
    Fault,
    /// An access used another frame or permission, or none was there any more.
    OldTranslation,
    /// An access reached a frame that had been given back.
    LostFrame,
    /// A walker read a table that had been given back.
    LostTable,
    /// A walker read a table that was not zeroed yet.
    NotZeroed,
}

/// A random number generator (splitmix64).
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// A frame as it was when an entry was made to lead there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Page {
    frame: u8,
    generation: u32,
    read_only: bool,
}

/// What a walk found; `None` is a fault.
type Translation = Option<Page>;

/// What a step is to the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Walk,
    Read,
    Write { release: bool },
    Dsb(Domain, Orders),
    Dmb(Orders),
    Isb,
    Tlbi { broadcast: bool },
    Branch,
    Nothing,
}

/// What has become of a step.
#[derive(Clone, Debug, Default)]
struct State {
    done: bool,
    /// A TLBI has been issued.
    issued: bool,
    /// The CPUs where it has taken effect.
    effects: u8,
    /// The accesses that had been translated by what it invalidated.
    users: Vec<(usize, usize)>,
    /// What an access was translated to.
    walked: Option<Translation>,
    /// An access has gone wrong; told when its event is.
    lost: bool,
    /// The generation of what a store makes an entry lead to.
    generation: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    Tell(usize),
    Perform(usize, usize),
    Walk(usize, usize),
    Effect(usize, usize, usize),
}

#[derive(Clone, Copy, Debug)]
struct Table {
    generation: u32,
    freed: bool,
    zeroed: bool,
}

struct Machine<'p> {
    program: &'p Program,
    steps: Vec<Vec<Step>>,
    state: Vec<Vec<State>>,
    /// For a read of a variable: how many writes come before it.
    awaits: BTreeMap<(usize, usize), usize>,
    /// Writes to each variable that have been performed, and that have been told.
    written: BTreeMap<u64, usize>,
    told_writes: BTreeMap<u64, usize>,
    told: Vec<usize>,
    first_open: Vec<usize>,
    entries: Told,
    leaves: [[Translation; PAGES_A_TABLE as usize]; TABLES as usize],
    links: [Option<(u8, u32)>; REGIONS as usize],
    tables: [Table; TABLES as usize],
    frames: [u32; FRAMES as usize],
    tlbs: Vec<Vec<(u8, Page)>>,
    walk_caches: Vec<Vec<(u8, u8, u32)>>,
    run: Run,
}

/// A run that takes more is broken off.
const MOVES: usize = 20_000;
/// How far ahead of what has been told a CPU works.
const WINDOW: usize = 16;

/// Whether a step of class `later` comes after the earlier `step` of its CPU: DDI 0487, B2.3 and
/// D8.2.6, for each pair by itself.
fn waits(earlier: Class, step: Step, later: Class, ets2: bool) -> bool {
    let is_read = matches!(
        step,
        Step::Sync {
            access: SyncAccess::Read { .. } | SyncAccess::ReadModifyWrite { .. },
            ..
        } | Step::Access {
            access: Access::Read | Access::Execute,
            ..
        }
    );
    let is_write = matches!(earlier, Class::Write { .. });
    let acquires = matches!(
        step,
        Step::Sync {
            access: SyncAccess::Read { acquire: true }
                | SyncAccess::ReadModifyWrite { acquire: true, .. },
            ..
        }
    );
    let later_accesses = matches!(later, Class::Read | Class::Write { .. });
    let by_earlier = match earlier {
        Class::Isb => return true,
        Class::Dsb(Domain::NonShareable, _) => {
            matches!(later, Class::Isb | Class::Tlbi { broadcast: false })
        }
        Class::Dsb(..) => later != Class::Walk || ets2,
        Class::Dmb(Orders::Stores) => matches!(later, Class::Write { .. }),
        Class::Dmb(_) => later_accesses,
        Class::Branch => matches!(later, Class::Write { .. } | Class::Isb | Class::Dsb(..)),
        _ => acquires && later_accesses,
    };
    let by_later = match later {
        Class::Dsb(domain, Orders::All) => match earlier {
            Class::Tlbi { broadcast } => domain != Domain::NonShareable || !broadcast,
            _ => true,
        },
        Class::Dsb(_, Orders::Stores) | Class::Dmb(Orders::Stores) => is_write,
        Class::Dsb(_, Orders::Loads) | Class::Dmb(Orders::Loads) => is_read,
        Class::Dmb(Orders::All) => is_read || is_write,
        Class::Write { release: true } => is_read || is_write,
        _ => false,
    };
    by_earlier || by_later
}

fn class(step: Step) -> Class {
    let write = |release| Class::Write { release };
    match step {
        Step::Leaf { .. } | Step::Link { .. } | Step::ZeroTable(_) | Step::WriteFrame(_) => {
            write(false)
        }
        Step::FreeTable(_) | Step::FreeFrame(_) => Class::Nothing,
        Step::Barrier(Barrier::Dsb(domain, orders)) => Class::Dsb(domain, orders),
        Step::Barrier(Barrier::Dmb(Domain::NonShareable, _)) => Class::Nothing,
        Step::Barrier(Barrier::Dmb(_, orders)) => Class::Dmb(orders),
        Step::Barrier(Barrier::Isb) | Step::Exception => Class::Isb,
        Step::Tlbi(Tlbi { broadcast, .. }) => Class::Tlbi { broadcast },
        Step::Sync { access, .. } => match access {
            SyncAccess::Write { release } | SyncAccess::ReadModifyWrite { release, .. } => {
                write(release)
            }
            SyncAccess::Read { .. } => Class::Read,
            SyncAccess::Branch => Class::Branch,
        },
        Step::Access { access, .. } => match access {
            Access::Write => write(false),
            Access::Read | Access::Execute => Class::Read,
        },
    }
}

/// Whether two steps store to the same place.
fn same_place(a: Step, b: Step) -> bool {
    match (a, b) {
        (
            Step::Leaf { table, page, .. },
            Step::Leaf {
                table: t, page: p, ..
            },
        ) => table == t && page == p,
        (Step::Link { region, .. }, Step::Link { region: r, .. }) => region == r,
        (Step::ZeroTable(table), Step::Leaf { table: t, .. })
        | (Step::Leaf { table, .. }, Step::ZeroTable(t)) => table == t,
        (Step::ZeroTable(table), Step::ZeroTable(t)) => table == t,
        (Step::Sync { variable, .. }, Step::Sync { variable: v, .. }) => variable == v,
        _ => false,
    }
}

/// What a TLBI names: the pages, and whether entries of tables, and of pages, are among it.
fn names(tlbi: Tlbi, page: u8) -> (bool, bool) {
    let va = va(page);
    let block = va.align_down(Level::L2.bytes());
    let (first, pages, hint) = match tlbi.scope {
        Scope::All => return (true, !tlbi.last_level),
        Scope::Asid => return (false, false),
        Scope::Va | Scope::VaAllAsids => {
            let operand = Operand::from_bits(tlbi.operand);
            let Some(va) = operand.va() else {
                return (false, false);
            };
            // A hint for another granule names nothing.
            let other = tlbi.operand >> 46 & 0b11 != 0 && operand.ttl().is_none();
            (va, u64::from(!other), operand.ttl())
        }
        Scope::Range | Scope::RangeAllAsids => {
            let operand = RangeOperand::from_bits(tlbi.operand);
            (operand.base(), operand.pages(), operand.ttl())
        }
    };
    if pages == 0 {
        return (false, false);
    }
    let first = first.as_u64();
    let last = first + (pages * PAGE_SIZE - 1);
    let leaf = first <= va.as_u64() && va.as_u64() <= last && hint.is_none_or(|h| h == Level::L3);
    let meets = first < block.as_u64() + Level::L2.bytes() && block.as_u64() <= last;
    (leaf, meets && hint.is_none() && !tlbi.last_level)
}

fn permits(page: Page, access: Access) -> bool {
    access == Access::Read || access == Access::Write && !page.read_only
}

impl<'p> Machine<'p> {
    fn new(program: &'p Program) -> Self {
        let cpus = usize::from(program.cpus.min(CPUS));
        let mut steps = vec![Vec::new(); cpus];
        let mut awaits = BTreeMap::new();
        let mut writes = BTreeMap::<u64, usize>::new();
        for &(cpu, step) in &program.steps {
            let own = &mut steps[usize::from(cpu)];
            if let Step::Sync { variable, .. } = step {
                let before = writes.entry(variable).or_default();
                awaits.insert((usize::from(cpu), own.len()), *before);
                *before += usize::from(matches!(class(step), Class::Write { .. }));
            }
            own.push(step);
        }
        let state = steps
            .iter()
            .map(|own| vec![State::default(); own.len()])
            .collect();
        Self {
            program,
            state,
            steps,
            awaits,
            written: BTreeMap::new(),
            told_writes: BTreeMap::new(),
            told: vec![0; cpus],
            first_open: vec![0; cpus],
            entries: Told::new(),
            leaves: Default::default(),
            links: std::array::from_fn(|region| Some((region as u8, 0))),
            tables: [Table {
                generation: 0,
                freed: false,
                zeroed: true,
            }; TABLES as usize],
            frames: [0; FRAMES as usize],
            tlbs: vec![Vec::new(); cpus],
            walk_caches: vec![Vec::new(); cpus],
            run: Run {
                events: Vec::new(),
                wrong: Vec::new(),
                whole: false,
            },
        }
    }

    fn wrong(&mut self, what: What) {
        let by = self.run.events.len();
        self.run.wrong.push(Wrong { by, what });
    }

    fn is_ready(&self, cpu: usize, step: usize, later: Class) -> bool {
        let ets2 = self.program.ets2;
        let this = self.steps[cpu][step];
        (self.first_open[cpu]..step).all(|before| {
            let earlier = self.steps[cpu][before];
            self.state[cpu][before].done
                || !(waits(class(earlier), earlier, later, ets2) || same_place(earlier, this))
        })
    }

    /// The writes to a variable that come before have been performed, and none is on its way: by the
    /// order of the events, a read reads the last.
    fn is_written(&self, cpu: usize, step: usize) -> bool {
        let Step::Sync { variable, .. } = self.steps[cpu][step] else {
            return true;
        };
        let written = self.written.get(&variable).copied().unwrap_or(0);
        let told = self.told_writes.get(&variable).copied().unwrap_or(0);
        written >= self.awaits[&(cpu, step)] && written == told
    }

    /// A write to a variable is told after the reads that have been performed without it.
    fn is_read_by_nobody(&self, cpu: usize, step: usize) -> bool {
        let Step::Sync { variable, .. } = self.steps[cpu][step] else {
            return true;
        };
        let reads = |step: Step| matches!(step, Step::Sync { variable: v, access: SyncAccess::Read { .. } } if v == variable);
        (0..self.steps.len()).all(|other| {
            let ahead = self.told[other]..self.steps[other].len();
            ahead
                .into_iter()
                .all(|n| !(reads(self.steps[other][n]) && self.state[other][n].done))
        })
    }

    /// The accesses that a TLBI waits for are over, or can be translated anew.
    fn is_over(&self, tlbi: &State) -> bool {
        tlbi.users
            .iter()
            .all(|&(cpu, step)| self.state[cpu][step].done || step >= self.told[cpu])
    }

    fn moves(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        for cpu in 0..self.steps.len() {
            let told = self.told[cpu];
            if told < self.steps[cpu].len() && self.can_tell(cpu, told) {
                moves.push(Move::Tell(cpu));
            }
            let end = (told + WINDOW).min(self.steps[cpu].len());
            for step in self.first_open[cpu]..end {
                let state = &self.state[cpu][step];
                if state.done {
                    continue;
                }
                if let Step::Tlbi(tlbi) = self.steps[cpu][step]
                    && state.issued
                {
                    let own = |target| tlbi.broadcast || target == cpu;
                    let targets = (0..self.steps.len())
                        .filter(|target| own(*target) && state.effects & 1 << target == 0);
                    moves.extend(targets.map(|target| Move::Effect(cpu, step, target)));
                    continue;
                }
                if matches!(self.steps[cpu][step], Step::Access { .. }) && state.walked.is_none() {
                    if self.is_ready(cpu, step, Class::Walk) {
                        moves.push(Move::Walk(cpu, step));
                    }
                } else if self.can_perform(cpu, step) {
                    moves.push(Move::Perform(cpu, step));
                }
            }
        }
        moves
    }

    fn can_tell(&self, cpu: usize, step: usize) -> bool {
        let state = &self.state[cpu][step];
        match self.steps[cpu][step] {
            this @ (Step::Leaf { .. } | Step::Link { .. } | Step::ZeroTable(_)) => {
                self.is_stored_by_nobody(cpu, this)
            }
            Step::FreeTable(_)
            | Step::FreeFrame(_)
            | Step::WriteFrame(_)
            | Step::Barrier(Barrier::Dmb(..)) => true,
            Step::Tlbi(_) => state.issued,
            Step::Access {
                access: Access::Write,
                ..
            } => state.walked.is_some(),
            Step::Sync { access, .. } => match access {
                SyncAccess::Write { .. } => self.is_read_by_nobody(cpu, step),
                SyncAccess::ReadModifyWrite { .. } => {
                    self.is_ready(cpu, step, Class::Read)
                        && self.is_ready(cpu, step, class(self.steps[cpu][step]))
                        && self.is_written(cpu, step)
                        && self.is_read_by_nobody(cpu, step)
                }
                _ => state.done,
            },
            Step::Barrier(_) | Step::Exception | Step::Access { .. } => state.done,
        }
    }

    /// No other CPU's store to the place is on its way: the order of the events of stores to one entry
    /// is the order in which memory has them.
    fn is_stored_by_nobody(&self, cpu: usize, step: Step) -> bool {
        (0..self.steps.len())
            .filter(|other| *other != cpu)
            .all(|other| {
                let told = self.first_open[other]..self.told[other];
                told.into_iter()
                    .all(|n| self.state[other][n].done || !same_place(self.steps[other][n], step))
            })
    }

    fn can_perform(&self, cpu: usize, step: usize) -> bool {
        let class = class(self.steps[cpu][step]);
        let told = step < self.told[cpu];
        let alone = match self.steps[cpu][step] {
            // Performed as it is told.
            Step::FreeTable(_)
            | Step::FreeFrame(_)
            | Step::Sync {
                access: SyncAccess::ReadModifyWrite { .. },
                ..
            } => false,
            Step::Sync { .. } => {
                let is_write = matches!(class, Class::Write { .. });
                if is_write {
                    told
                } else {
                    self.is_written(cpu, step)
                }
            }
            _ => told || !matches!(class, Class::Write { .. }),
        };
        let tlbis_over = !matches!(class, Class::Dsb(_, Orders::All))
            // A TLBI that has taken effect everywhere may still wait for those who used what it named.
            || (0..step)
                .filter(|before| {
                    matches!(self.steps[cpu][*before], Step::Tlbi(_))
                        && self.state[cpu][*before].issued
                })
                .all(|before| self.is_over(&self.state[cpu][before]));
        alone && tlbis_over && self.is_ready(cpu, step, class)
    }

    /// Reads the tables, by way of the walk cache or not, and may put what it finds into the TLB.
    fn walk(&mut self, cpu: usize, page: u8, random: &mut Random) -> Translation {
        let region = page / PAGES_A_TABLE;
        let mut links: Vec<_> = self.walk_caches[cpu]
            .iter()
            .filter(|(r, ..)| *r == region)
            .map(|(_, table, generation)| (*table, *generation))
            .collect();
        let now = self.links[usize::from(region)];
        links.extend(now);
        if links.is_empty() || now.is_none() && random.below(2) == 0 {
            return None;
        }
        let (number, generation) = links[random.below(links.len())];
        let table = self.tables[usize::from(number)];
        if table.freed || table.generation != generation {
            self.wrong(What::LostTable);
            return None;
        }
        if !table.zeroed {
            self.wrong(What::NotZeroed);
            return None;
        }
        let cached = (region, number, generation);
        if !self.walk_caches[cpu].contains(&cached) {
            self.walk_caches[cpu].push(cached);
        }
        let found = self.leaves[usize::from(number)][usize::from(page % PAGES_A_TABLE)];
        if let Some(found) = found
            && !self.tlbs[cpu].contains(&(page, found))
        {
            self.tlbs[cpu].push((page, found));
        }
        found
    }

    fn translate(&mut self, cpu: usize, page: u8, random: &mut Random) -> Translation {
        let mut all: Vec<_> = self.tlbs[cpu]
            .iter()
            .filter(|(p, _)| *p == page)
            .map(|(_, found)| Some(*found))
            .collect();
        // A TLB may have lost what it held.
        if all.is_empty() || random.below(3) == 0 {
            all.push(self.walk(cpu, page, random));
        }
        all[random.below(all.len())]
    }

    fn make(&mut self, chosen: Move, random: &mut Random) {
        match chosen {
            Move::Tell(cpu) => self.tell(cpu),
            Move::Perform(cpu, step) => self.perform(cpu, step),
            Move::Walk(cpu, step) => self.walk_ahead(cpu, step, random),
            Move::Effect(cpu, step, target) => self.effect(cpu, step, target),
        }
        for cpu in 0..self.steps.len() {
            while self.state[cpu]
                .get(self.first_open[cpu])
                .is_some_and(|state| state.done)
            {
                self.first_open[cpu] += 1;
            }
        }
    }

    fn walk_ahead(&mut self, cpu: usize, step: usize, random: &mut Random) {
        let Step::Access { page, access } = self.steps[cpu][step] else {
            unreachable!("only accesses are translated");
        };
        let found = self.translate(cpu, page, random);
        // FEAT_ETS2: a translation fault is taken on what the tables say when all that is before
        // it in program order has been performed.
        if found.is_none() && self.program.ets2 && access != Access::Execute {
            let alone = step == self.told[cpu] && self.first_open[cpu] == step;
            if !alone {
                return;
            }
        }
        let state = &mut self.state[cpu][step];
        state.walked = Some(found);
        // A fault has nothing left to perform.
        state.done = found.is_none_or(|page| !permits(page, access));
    }

    fn effect(&mut self, cpu: usize, step: usize, target: usize) {
        let Step::Tlbi(tlbi) = self.steps[cpu][step] else {
            unreachable!("only a TLBI has effects");
        };
        self.tlbs[target].retain(|(page, _)| !names(tlbi, *page).0);
        self.walk_caches[target].retain(|(region, ..)| !names(tlbi, region * PAGES_A_TABLE).1);
        let mut users = Vec::new();
        for (n, state) in self.state[target].iter().enumerate() {
            let Step::Access { page, .. } = self.steps[target][n] else {
                continue;
            };
            let translated = state.walked.is_some_and(|found| found.is_some());
            // What the CPU itself has translated ahead is an ISB's business.
            let ahead = target == cpu && n > step;
            let open = !state.done || n >= self.told[target];
            if translated && open && !ahead && names(tlbi, page).0 {
                users.push((target, n));
            }
        }
        let targets = self.steps.len();
        let state = &mut self.state[cpu][step];
        state.users.extend(users);
        state.effects |= 1 << target;
        let all = if tlbi.broadcast {
            (1 << targets) - 1
        } else {
            1 << cpu
        };
        state.done = state.effects & all == all;
    }

    fn perform(&mut self, cpu: usize, step: usize) {
        let generation = self.state[cpu][step].generation;
        match self.steps[cpu][step] {
            Step::Leaf { table, page, value } => {
                let (t, index) = (usize::from(table), usize::from(page % PAGES_A_TABLE));
                self.leaves[t][index] = match value {
                    Leaf::Invalid => None,
                    Leaf::Page { frame, read_only } => Some(Page {
                        frame,
                        generation,
                        read_only,
                    }),
                };
            }
            Step::Link { region, table } => {
                self.links[usize::from(region)] = table.map(|table| (table, generation));
            }
            Step::ZeroTable(table) => {
                self.leaves[usize::from(table)] = Default::default();
                self.tables[usize::from(table)].zeroed = true;
            }
            Step::Tlbi(_) => {
                self.state[cpu][step].issued = true;
                return;
            }
            Step::Sync { variable, .. } => {
                if matches!(class(self.steps[cpu][step]), Class::Write { .. }) {
                    *self.written.entry(variable).or_default() += 1;
                }
            }
            Step::Access { .. } => self.reach(cpu, step),
            Step::Barrier(Barrier::Dsb(domain, Orders::All)) => {
                for before in 0..step {
                    if matches!(self.steps[cpu][before], Step::Tlbi(Tlbi { broadcast, .. })
                        if domain != Domain::NonShareable || !broadcast)
                    {
                        self.translate_anew(cpu, before);
                    }
                }
            }
            _ => {}
        }
        self.state[cpu][step].done = true;
    }

    /// What was translated by what a TLBI invalidated, and has not been performed, is translated
    /// again.
    fn translate_anew(&mut self, cpu: usize, tlbi: usize) {
        for (target, n) in std::mem::take(&mut self.state[cpu][tlbi].users) {
            let reached_memory = self.state[target][n].done && self.was_permitted(target, n);
            if n >= self.told[target] && !reached_memory {
                let state = &mut self.state[target][n];
                state.walked = None;
                state.done = false;
                self.first_open[target] = self.first_open[target].min(n);
            }
        }
    }

    /// Whether the translation of an access permitted it, so that it reached memory.
    fn was_permitted(&self, cpu: usize, step: usize) -> bool {
        let Step::Access { access, .. } = self.steps[cpu][step] else {
            return false;
        };
        let walked = self.state[cpu][step].walked.flatten();
        walked.is_some_and(|page| permits(page, access))
    }

    /// An access reaches memory.
    fn reach(&mut self, cpu: usize, step: usize) {
        let walked = self.state[cpu][step].walked.flatten();
        let lost =
            walked.is_some_and(|page| self.frames[usize::from(page.frame)] != page.generation);
        if !lost {
            return;
        }
        if step < self.told[cpu] {
            self.wrong(What::LostFrame);
        } else {
            self.state[cpu][step].lost = true;
        }
    }

    fn tell(&mut self, cpu: usize) {
        let number = self.told[cpu];
        let step = self.steps[cpu][number];
        let kind = self.entries.tell(step);
        self.run.events.push(Event {
            time: self.run.events.len() as u64,
            cpu: cpu as u8,
            task: cpu as u32,
            kind,
        });
        self.told[cpu] += 1;
        if let Step::Sync { variable, .. } = step
            && matches!(class(step), Class::Write { .. })
        {
            *self.told_writes.entry(variable).or_default() += 1;
        }
        match step {
            Step::Leaf {
                value: Leaf::Page { frame, .. },
                ..
            } => self.state[cpu][number].generation = self.frames[usize::from(frame)],
            Step::Link {
                table: Some(table), ..
            } => {
                self.state[cpu][number].generation = self.tables[usize::from(table)].generation;
            }
            // What a translation of before reaches from now on is somebody else's.
            Step::WriteFrame(frame) if !self.entries.maps(frame) => {
                self.frames[usize::from(frame)] += 1;
            }
            Step::ZeroTable(table) => {
                let table = &mut self.tables[usize::from(table)];
                table.generation += 1;
                table.freed = false;
                table.zeroed = false;
            }
            Step::FreeTable(table) => {
                self.tables[usize::from(table)].freed = true;
                self.state[cpu][number].done = true;
            }
            Step::FreeFrame(frame) => {
                self.frames[usize::from(frame)] += 1;
                self.state[cpu][number].done = true;
            }
            Step::Sync {
                access: SyncAccess::ReadModifyWrite { .. },
                ..
            } => self.perform(cpu, number),
            Step::Barrier(Barrier::Dmb(Domain::NonShareable, _)) => {
                self.state[cpu][number].done = true;
            }
            Step::Access { page, access } => self.compare(cpu, number, page, access),
            _ => {}
        }
    }

    /// Compares what an access was translated to with what the entries say.
    fn compare(&mut self, cpu: usize, step: usize, page: u8, access: Access) {
        if self.state[cpu][step].lost {
            self.wrong(What::LostFrame);
        }
        let used = self.state[cpu][step].walked.flatten();
        let used = used.filter(|page| permits(*page, access));
        let right = match self.entries.walk(page) {
            Leaf::Page { frame, read_only } => {
                let may = access == Access::Read || !read_only && access == Access::Write;
                may.then_some(frame)
            }
            Leaf::Invalid => None,
        };
        match (used.map(|page| page.frame), right) {
            (used, right) if used == right => {}
            (None, Some(_)) => self.wrong(What::Fault),
            _ => self.wrong(What::OldTranslation),
        }
    }
}

/// Runs the program in one of its ways.
pub fn run(program: &Program, seed: u64) -> Run {
    let mut random = Random(seed);
    let mut machine = Machine::new(program);
    // Either every choice by itself, or some steps always late and others always early.
    let stubborn = random.below(3) != 0;
    let salt = random.next();
    let urgency = |chosen: &Move| {
        let (kind, cpu, step) = match *chosen {
            // The one that is the same for many moments: no matter for the order.
            Move::Tell(cpu) => (0, cpu, 0),
            Move::Perform(cpu, step) => (1, cpu, step),
            Move::Walk(cpu, step) => (2, cpu, step),
            Move::Effect(cpu, step, target) => (3 + target, cpu, step),
        };
        Random(salt ^ (kind << 32 | cpu << 16 | step) as u64).next()
    };
    for _ in 0..MOVES {
        let moves = machine.moves();
        if random.below(6) == 0 {
            let cpu = random.below(machine.steps.len());
            let page = random.below(usize::from(PAGES)) as u8;
            machine.walk(cpu, page, &mut random);
        }
        let chosen = if stubborn && random.below(8) != 0 {
            moves.iter().min_by_key(|chosen| urgency(chosen)).copied()
        } else {
            (!moves.is_empty()).then(|| moves[random.below(moves.len())])
        };
        let Some(chosen) = chosen else { break };
        // A walk that must be repeated may be so for ever, if it is always the first.
        let chosen = match chosen {
            Move::Walk(..) if random.below(4) == 0 => moves[random.below(moves.len())],
            other => other,
        };
        machine.make(chosen, &mut random);
    }
    machine.run.whole =
        (0..machine.steps.len()).all(|cpu| machine.first_open[cpu] == machine.steps[cpu].len());
    machine.run
}
