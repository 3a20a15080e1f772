//! Programs that are correct, by the recipes of which docs/barriers.md and the litmus tests say that
//! they are enough: each CPU changes what is its own, and hands it over in one of the right ways.

use super::{Choices, FRAMES, Leaf, PAGES, PAGES_A_TABLE, Program, REGIONS, Step, TABLES, va};
use mmu_oracle::event::{Access, Barrier, Domain, Orders, Scope, SyncAccess, Tlbi};
use vmsa::{
    Level, PageRange,
    tlbi::{Operand, Operation, cover},
};

/// What is known of a page.
#[derive(Clone, Copy, Debug)]
struct Page {
    owner: u8,
    mapped: Option<(u8, bool)>,
    /// Its owner's walks are guaranteed to see the entry.
    visible: bool,
    /// Changed, and not flushed: the frame that it led to, if it is to be freed.
    stale: Option<Option<u8>>,
}

struct Author<'c, 'b> {
    choices: &'c mut Choices<'b>,
    program: Program,
    pages: [Page; PAGES as usize],
    frames: [Option<u8>; FRAMES as usize],
    links: [u8; REGIONS as usize],
    spare_tables: Vec<(u8, u8)>,
    /// The table has been replaced: that a page is not mapped is no news to a CPU, but its table is.
    relinked: [bool; REGIONS as usize],
    flags: u64,
    /// What the CPU flushed itself it may still use, until an ISB.
    ahead: [bool; 3],
    /// TLBIs may name more than what is stale; then nothing stale is handed over. Of two TLBIs on
    /// two CPUs for the same change the oracle knows but one.
    broad: bool,
    /// The CPU took something over by a load-acquire, which a DSB ISHST does not wait for.
    unwaited: [bool; 3],
}

/// A correct program. It ends when the choices do.
pub fn correct(choices: &mut Choices<'_>) -> Program {
    let cpus = 1 + choices.below(3) as u8;
    let ets2 = choices.below(4) == 1;
    let mut author = Author {
        program: Program {
            cpus,
            ets2,
            steps: Vec::new(),
        },
        pages: std::array::from_fn(|page| Page {
            owner: page as u8 / 2 % cpus,
            mapped: None,
            visible: true,
            stale: None,
        }),
        frames: std::array::from_fn(|frame| Some(frame as u8 % cpus)),
        links: std::array::from_fn(|region| region as u8),
        spare_tables: (REGIONS..TABLES).map(|table| (table, 0)).collect(),
        relinked: [false; REGIONS as usize],
        flags: 0,
        ahead: [false; 3],
        broad: choices.below(2) == 0,
        unwaited: [false; 3],
        choices,
    };
    while !author.choices.is_empty() {
        author.recipe();
    }
    for cpu in 0..cpus {
        author.access_all(cpu);
    }
    author.program
}

const fn dsb(orders: Orders) -> Step {
    Step::Barrier(Barrier::Dsb(Domain::InnerShareable, orders))
}

const fn sync(variable: u64, access: SyncAccess) -> Step {
    Step::Sync { variable, access }
}

/// The event of an operation by `vmsa`.
pub fn event_of(operation: Operation) -> Tlbi {
    let (scope, last_level) = match operation {
        Operation::Vaale1is(_) => (Scope::VaAllAsids, true),
        Operation::Vaae1is(_) => (Scope::VaAllAsids, false),
        Operation::Vale1is(_) => (Scope::Va, true),
        Operation::Vae1is(_) => (Scope::Va, false),
        Operation::Rvaale1is(_) => (Scope::RangeAllAsids, true),
        Operation::Rvaae1is(_) => (Scope::RangeAllAsids, false),
        Operation::Rvale1is(_) => (Scope::Range, true),
        Operation::Rvae1is(_) => (Scope::Range, false),
        Operation::Aside1is(_) => (Scope::Asid, false),
        Operation::Vmalle1is | Operation::Vmalle1 => (Scope::All, false),
    };
    Tlbi {
        scope,
        last_level,
        broadcast: operation != Operation::Vmalle1,
        operand: operation.operand_bits().unwrap_or(0),
    }
}

impl Author<'_, '_> {
    fn step(&mut self, cpu: u8, step: Step) {
        self.program.steps.push((cpu, step));
    }

    fn owned(&self, cpu: u8, is: impl Fn(&Page) -> bool) -> Vec<u8> {
        (0..PAGES)
            .filter(|page| {
                let page = &self.pages[usize::from(*page)];
                page.owner == cpu && is(page)
            })
            .collect()
    }

    /// Some of these, as many as there are choices for.
    fn some(&mut self, among: &[u8]) -> Vec<u8> {
        let bits = self.choices.below(63) + 1;
        let chosen = (0..among.len()).filter(|n| bits & 1 << n != 0);
        chosen.map(|n| among[n]).collect()
    }

    fn recipe(&mut self) {
        let cpu = self.choices.below(usize::from(self.program.cpus)) as u8;
        match self.choices.below(10) {
            0 | 1 => self.map(cpu),
            2 => self.unmap(cpu),
            3 => self.protect(cpu),
            4 => self.remap(cpu),
            5 => self.replace_table(cpu),
            6 if self.program.cpus > 1 => self.hand_over(cpu),
            7 => self.flush(cpu),
            8 => self.replace_table(cpu),
            _ => self.access(cpu),
        }
    }

    fn store(&mut self, cpu: u8, page: u8, value: Leaf) {
        let table = self.links[usize::from(page / PAGES_A_TABLE)];
        self.step(cpu, Step::Leaf { table, page, value });
    }

    fn make_valid(&mut self, cpu: u8, page: u8, frame: u8, read_only: bool) {
        self.store(cpu, page, Leaf::Page { frame, read_only });
        let known = &mut self.pages[usize::from(page)];
        known.mapped = Some((frame, read_only));
        known.visible = self.program.ets2;
    }

    fn clear(&mut self, cpu: u8, page: u8) {
        self.store(cpu, page, Leaf::Invalid);
        let known = &mut self.pages[usize::from(page)];
        known.stale = Some(known.mapped.take().map(|(frame, _)| frame));
    }

    fn frame(&mut self, cpu: u8) -> Option<u8> {
        let free = (0..FRAMES).filter(|f| self.frames[usize::from(*f)] == Some(cpu));
        let frame = self.choices.of(&free.collect::<Vec<_>>())?;
        self.frames[usize::from(frame)] = None;
        Some(frame)
    }

    /// DSB and ISB: what the CPU has stored, and what it knows of, its walks see from now on.
    fn barriers(&mut self, cpu: u8) {
        let full = self.unwaited[usize::from(cpu)] || self.choices.below(4) == 1;
        self.step(cpu, dsb(if full { Orders::All } else { Orders::Stores }));
        self.synchronise(cpu);
    }

    /// ISB, behind a DSB.
    fn synchronise(&mut self, cpu: u8) {
        let exception = self.choices.below(4) == 1;
        self.step(
            cpu,
            if exception {
                Step::Exception
            } else {
                Step::Barrier(Barrier::Isb)
            },
        );
        self.ahead[usize::from(cpu)] = false;
        for page in self.owned(cpu, |_| true) {
            self.pages[usize::from(page)].visible = true;
        }
    }

    fn map(&mut self, cpu: u8) {
        let pages = self.owned(cpu, |page| page.mapped.is_none() && page.stale.is_none());
        for page in self.some(&pages) {
            let Some(frame) = self.frame(cpu) else { break };
            if self.choices.below(2) == 1 {
                self.step(cpu, Step::WriteFrame(frame));
            }
            let read_only = self.choices.below(3) == 1;
            self.make_valid(cpu, page, frame, read_only);
        }
        // Or later: a lazy section.
        if self.choices.below(3) != 1 {
            self.barriers(cpu);
            self.access(cpu);
        }
    }

    fn unmap(&mut self, cpu: u8) {
        let pages = self.owned(cpu, |page| page.mapped.is_some() && page.stale.is_none());
        for page in self.some(&pages) {
            self.clear(cpu, page);
        }
        if self.choices.below(3) != 1 {
            self.flush(cpu);
        }
    }

    /// DSB ISHST, a TLBI for all that is stale, DSB ISH, ISB; what was unmapped is freed.
    fn flush(&mut self, cpu: u8) {
        let stale = self.owned(cpu, |page| page.stale.is_some());
        if stale.is_empty() {
            return;
        }
        let full = self.unwaited[usize::from(cpu)];
        self.step(cpu, dsb(if full { Orders::All } else { Orders::Stores }));
        self.invalidate(cpu, &stale);
        let domain = self.choices.of(&[
            Domain::InnerShareable,
            Domain::InnerShareable,
            Domain::OuterShareable,
            Domain::FullSystem,
        ]);
        let domain = domain.expect("there are four");
        self.step(cpu, Step::Barrier(Barrier::Dsb(domain, Orders::All)));
        self.unwaited[usize::from(cpu)] = false;
        self.ahead[usize::from(cpu)] = true;
        let early = self.choices.below(2) == 1;
        if !early {
            self.synchronise(cpu);
        }
        for page in stale {
            let known = &mut self.pages[usize::from(page)];
            if let Some(Some(frame)) = known.stale.take() {
                // Or its owner keeps it.
                if self.choices.below(2) == 1 {
                    self.step(cpu, Step::FreeFrame(frame));
                }
                self.frames[usize::from(frame)] = Some(cpu);
            }
        }
        if early && self.choices.below(2) == 1 {
            self.synchronise(cpu);
        }
        self.access(cpu);
    }

    /// TLBIs that name these pages.
    fn invalidate(&mut self, cpu: u8, pages: &[u8]) {
        let (first, last) = (pages[0], pages[pages.len() - 1]);
        let one_table = first / PAGES_A_TABLE == last / PAGES_A_TABLE;
        match self.choices.below(5) {
            1 if one_table && self.broad => {
                let range = PageRange::new(va(first), u64::from(last - first) + 1);
                let hint = [None, Some(Level::L3)][self.choices.below(2)];
                for operation in cover(range.expect("few pages"), true, hint, true) {
                    self.step(cpu, Step::Tlbi(event_of(operation)));
                }
            }
            2 if self.broad => self.step(cpu, Step::Tlbi(event_of(Operation::Vmalle1is))),
            3 if self.program.cpus == 1 => {
                self.step(cpu, Step::Tlbi(event_of(Operation::Vmalle1)));
            }
            form => {
                for page in pages {
                    let hint = [None, Some(Level::L3)][form % 2];
                    let operand = Operand::new(va(*page), 0, hint);
                    let operation = match (self.choices.below(3), hint) {
                        (1, _) => Operation::Vale1is(operand),
                        (2, None) => Operation::Vaae1is(operand),
                        _ => Operation::Vaale1is(operand),
                    };
                    self.step(cpu, Step::Tlbi(event_of(operation)));
                }
            }
        }
    }

    fn protect(&mut self, cpu: u8) {
        let pages = self.owned(cpu, |page| page.mapped.is_some() && page.stale.is_none());
        for page in self.some(&pages) {
            let (frame, read_only) = self.pages[usize::from(page)].mapped.expect("it is mapped");
            let visible = self.pages[usize::from(page)].visible;
            self.make_valid(cpu, page, frame, !read_only);
            self.pages[usize::from(page)].visible = visible;
            self.pages[usize::from(page)].stale = Some(None);
        }
        self.flush(cpu);
    }

    /// Break-before-make, or the same mapping again.
    fn remap(&mut self, cpu: u8) {
        let pages = self.owned(cpu, |page| page.mapped.is_some() && page.stale.is_none());
        let Some(page) = self.choices.of(&pages) else {
            return;
        };
        let (frame, read_only) = self.pages[usize::from(page)].mapped.expect("it is mapped");
        if self.choices.below(4) == 1 {
            self.store(cpu, page, Leaf::Invalid);
            self.make_valid(cpu, page, frame, read_only);
            self.barriers(cpu);
        } else {
            self.clear(cpu, page);
            self.flush(cpu);
            if let Some(frame) = self.frame(cpu) {
                self.make_valid(cpu, page, frame, read_only);
                self.barriers(cpu);
            }
        }
        self.access(cpu);
    }

    /// A table without a valid entry gives way to another.
    fn replace_table(&mut self, cpu: u8) {
        let empty = |region: &u8| {
            (0..PAGES_A_TABLE).all(|n| {
                let page = &self.pages[usize::from(region * PAGES_A_TABLE + n)];
                page.owner == cpu && page.mapped.is_none() && page.stale.is_none()
            })
        };
        let regions: Vec<_> = (0..REGIONS).filter(empty).collect();
        let spare = self
            .spare_tables
            .iter()
            .position(|(_, owner)| *owner == cpu);
        let (Some(region), Some(spare)) = (self.choices.of(&regions), spare) else {
            return;
        };
        let (new, _) = self.spare_tables.remove(spare);
        let old = self.links[usize::from(region)];
        let first = region * PAGES_A_TABLE;
        self.step(
            cpu,
            Step::Link {
                region,
                table: None,
            },
        );
        self.step(cpu, dsb(Orders::Stores));
        let page = first + self.choices.below(usize::from(PAGES_A_TABLE)) as u8;
        let operand = Operand::new(va(page), 0, None);
        let all = self.broad && self.choices.below(2) == 1;
        let operation = if all {
            Operation::Vmalle1is
        } else {
            Operation::Vaae1is(operand)
        };
        self.step(cpu, Step::Tlbi(event_of(operation)));
        self.step(cpu, dsb(Orders::All));
        self.unwaited[usize::from(cpu)] = false;
        self.step(cpu, Step::FreeTable(old));
        self.spare_tables.push((old, cpu));
        self.step(cpu, Step::ZeroTable(new));
        let zeroed = Barrier::Dmb(Domain::InnerShareable, Orders::Stores);
        let zeroed = [dsb(Orders::Stores), Step::Barrier(zeroed)][self.choices.below(2)];
        self.step(cpu, zeroed);
        self.step(
            cpu,
            Step::Link {
                region,
                table: Some(new),
            },
        );
        self.links[usize::from(region)] = new;
        self.relinked[usize::from(region)] = true;
        self.barriers(cpu);
        self.map(cpu);
    }

    /// Pages, frames and tables go to another CPU, with what is not finished about them.
    fn hand_over(&mut self, from: u8) {
        let cpus = self.program.cpus;
        let to = (from + 1 + self.choices.below(usize::from(cpus) - 1) as u8) % cpus;
        let broad = self.broad;
        let pages = self.owned(from, |page| page.stale.is_none() || !broad);
        let given = self.some(&pages);
        for page in &given {
            self.pages[usize::from(*page)].owner = to;
        }
        for (n, owner) in self.frames.iter_mut().enumerate() {
            if *owner == Some(from) && n % 2 == 0 {
                *owner = Some(to);
            }
        }
        for (_, owner) in &mut self.spare_tables {
            *owner = if *owner == from { to } else { *owner };
        }
        self.flags += 1;
        let flag = self.flags;
        let write = |release| SyncAccess::Write { release };
        let acquire = SyncAccess::Read { acquire: true };
        let way = self.choices.below(6);
        match way {
            // An ordered store of the flag, by a barrier or a release.
            0 => self.step(from, dsb(Orders::Stores)),
            1 => {
                let dmb = Barrier::Dmb(Domain::InnerShareable, Orders::All);
                self.step(from, Step::Barrier(dmb));
            }
            _ => {}
        }
        self.step(from, sync(flag, write(way > 1)));
        match way {
            // The pages are used as they are: what is valid may not be seen yet, what was flushed
            // is gone.
            4 => {
                self.step(to, sync(flag, acquire));
                self.unwaited[usize::from(to)] = true;
                for page in given {
                    self.pages[usize::from(page)].visible = self.program.ets2;
                }
                return;
            }
            5 => {
                let swap = SyncAccess::ReadModifyWrite {
                    acquire: true,
                    release: false,
                };
                self.step(to, sync(flag, swap));
                self.step(to, dsb(Orders::Stores));
            }
            3 => {
                self.step(to, sync(flag, acquire));
                self.step(to, dsb(Orders::All));
                self.unwaited[usize::from(to)] = false;
            }
            _ => {
                self.step(to, sync(flag, acquire));
                self.step(to, sync(flag, SyncAccess::Branch));
                if self.choices.below(2) == 1 {
                    self.step(to, dsb(Orders::Stores));
                }
            }
        }
        if self.unwaited[usize::from(to)] {
            self.step(to, dsb(Orders::All));
            self.unwaited[usize::from(to)] = false;
        }
        self.step(to, Step::Barrier(Barrier::Isb));
        self.ahead[usize::from(to)] = false;
        for page in self.owned(to, |_| true) {
            let seen = given.contains(&page) || self.pages[usize::from(page)].visible;
            self.pages[usize::from(page)].visible = seen;
        }
        self.access(to);
    }

    /// Accesses of which the outcome is certain, faults among them.
    fn access(&mut self, cpu: u8) {
        let certain = self.certain(cpu);
        for page in self.some(&certain) {
            let access = [Access::Read, Access::Write][self.choices.below(2)];
            self.step(cpu, Step::Access { page, access });
        }
    }

    fn access_all(&mut self, cpu: u8) {
        for page in self.certain(cpu) {
            let access = Access::Write;
            self.step(cpu, Step::Access { page, access });
        }
    }

    fn certain(&self, cpu: u8) -> Vec<u8> {
        if self.ahead[usize::from(cpu)] && !self.program.ets2 {
            return Vec::new();
        }
        let mut certain = self.owned(cpu, |page| page.stale.is_none());
        certain.retain(|page| {
            let known = &self.pages[usize::from(*page)];
            let relinked = self.relinked[usize::from(*page / PAGES_A_TABLE)];
            known.visible || known.mapped.is_none() && !relinked
        });
        certain
    }
}
