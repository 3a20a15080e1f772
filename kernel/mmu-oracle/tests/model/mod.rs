//! Small programs that change translation tables on up to three CPUs: what they are made of, and
//! the events that they are to the oracle. [`machine`] runs them, [`recipes`] writes correct ones,
//! and [`edits`] breaks those.

pub mod edits;
pub mod machine;
pub mod narrow;
pub mod recipes;

use mmu_oracle::{
    Config, Event, Kind, Memory, Oracle, Violation,
    event::{Access, Barrier, Entry, Frames, SyncAccess, Tlbi},
};
use vmsa::{Attributes, Descriptor, Level, PAGE_SIZE, PhysAddr, VirtAddr};

/// Pages that a table of the last level maps here.
pub const PAGES_A_TABLE: u8 = 3;
/// Entries of the level above, each of which leads to a table.
pub const REGIONS: u8 = 2;
/// Pages.
pub const PAGES: u8 = REGIONS * PAGES_A_TABLE;
/// Frames of data.
pub const FRAMES: u8 = 8;
/// Tables of the last level; the first of them are linked at the start.
pub const TABLES: u8 = 4;
/// The most CPUs.
pub const CPUS: u8 = 3;

/// What an entry of the last level says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    Invalid,
    Page { frame: u8, read_only: bool },
}

/// One step of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A store to the entry of a page in a table.
    Leaf { table: u8, page: u8, value: Leaf },
    /// A store to the entry that leads to a table.
    Link { region: u8, table: Option<u8> },
    /// A table is zeroed.
    ZeroTable(u8),
    /// A table is given back.
    FreeTable(u8),
    /// A frame is given back.
    FreeFrame(u8),
    /// A frame is written by its owner, through the linear map.
    WriteFrame(u8),
    /// DSB, DMB, ISB.
    Barrier(Barrier),
    /// An exception is taken.
    Exception,
    /// TLBI.
    Tlbi(Tlbi),
    /// A flag or a lock.
    Sync { variable: u64, access: SyncAccess },
    /// An access through a translation.
    Access { page: u8, access: Access },
}

/// A program: its steps, each with its CPU, in one order. What a CPU does is what is its own in
/// there; a read of a variable waits until the writes that are before it have been made.
#[derive(Clone, Debug)]
pub struct Program {
    pub cpus: u8,
    pub ets2: bool,
    pub steps: Vec<(u8, Step)>,
}

/// The address of a page.
pub fn va(page: u8) -> VirtAddr {
    let region = u64::from(page / PAGES_A_TABLE) * Level::L2.bytes();
    let offset = region + u64::from(page % PAGES_A_TABLE) * PAGE_SIZE;
    VirtAddr::literal(0xffff_8000_8000_0000 + offset)
}

fn frame(number: u8) -> PhysAddr {
    PhysAddr::literal(0x4800_0000 + u64::from(number) * PAGE_SIZE)
}

fn table(number: u8) -> PhysAddr {
    PhysAddr::literal(0x4a00_0000 + u64::from(number) * PAGE_SIZE)
}

fn leaf_descriptor(leaf: Leaf) -> Descriptor {
    match leaf {
        Leaf::Invalid => Descriptor::INVALID,
        Leaf::Page {
            frame: number,
            read_only,
        } => {
            let attributes = if read_only {
                Attributes::KERNEL_DATA | Attributes::AP_READ_ONLY
            } else {
                Attributes::KERNEL_DATA
            };
            Descriptor::leaf(Level::L3, frame(number), attributes).expect("an aligned frame")
        }
    }
}

fn link_descriptor(link: Option<u8>) -> Descriptor {
    link.map_or(Descriptor::INVALID, |number| {
        Descriptor::table(table(number))
    })
}

fn link_entry(region: u8, value: Option<u8>) -> Entry {
    Entry {
        address: PhysAddr::literal(0x4b00_0000 + u64::from(region) * 8),
        va: va(region * PAGES_A_TABLE),
        level: Level::L2,
        space: 0,
        value: link_descriptor(value),
    }
}

/// The entries as the events so far say that they are.
#[derive(Clone, Debug)]
pub struct Told {
    pub leaves: [[Leaf; PAGES_A_TABLE as usize]; TABLES as usize],
    pub links: [Option<u8>; REGIONS as usize],
}

impl Told {
    pub fn new() -> Self {
        Self {
            leaves: [[Leaf::Invalid; PAGES_A_TABLE as usize]; TABLES as usize],
            links: std::array::from_fn(|region| Some(region as u8)),
        }
    }

    /// What a walk of these entries ends in.
    pub fn walk(&self, page: u8) -> Leaf {
        self.links[usize::from(page / PAGES_A_TABLE)].map_or(Leaf::Invalid, |table| {
            self.leaves[usize::from(table)][usize::from(page % PAGES_A_TABLE)]
        })
    }

    pub fn maps(&self, frame: u8) -> bool {
        self.leaves
            .iter()
            .flatten()
            .any(|leaf| matches!(leaf, Leaf::Page { frame: f, .. } if *f == frame))
    }

    /// The event that a step is; a store changes the entries.
    pub fn tell(&mut self, step: Step) -> Kind {
        match step {
            Step::Leaf {
                table: number,
                page,
                value,
            } => {
                let index = page % PAGES_A_TABLE;
                let held = &mut self.leaves[usize::from(number)][usize::from(index)];
                let old = leaf_descriptor(std::mem::replace(held, value));
                let address = table(number).as_u64() + u64::from(index) * 8;
                let entry = Entry {
                    address: PhysAddr::literal(address),
                    va: va(page),
                    level: Level::L3,
                    space: 0,
                    value: leaf_descriptor(value),
                };
                Kind::Store { entry, old }
            }
            Step::Link { region, table } => {
                let held = &mut self.links[usize::from(region)];
                let old = link_descriptor(std::mem::replace(held, table));
                let entry = link_entry(region, table);
                Kind::Store { entry, old }
            }
            Step::ZeroTable(number) => {
                self.leaves[usize::from(number)] = [Leaf::Invalid; PAGES_A_TABLE as usize];
                Kind::TableAllocated(table(number))
            }
            Step::FreeTable(number) => Kind::TableFreed(table(number)),
            Step::FreeFrame(number) => Kind::FramesFreed(Frames {
                first: frame(number),
                count: 1,
            }),
            Step::WriteFrame(number) => Kind::FrameWritten(frame(number)),
            Step::Barrier(barrier) => Kind::Barrier(barrier),
            Step::Exception => Kind::ExceptionEntry,
            Step::Tlbi(tlbi) => Kind::Tlbi(tlbi),
            Step::Sync { variable, access } => Kind::Sync { variable, access },
            Step::Access { page, access } => Kind::Access {
                va: va(page),
                access,
            },
        }
    }
}

/// What comes before every program: the CPUs, and the tables that are linked.
pub fn preamble(program: &Program) -> Vec<Event> {
    let event = |cpu, kind| Event {
        time: 0,
        cpu,
        task: u32::from(cpu),
        kind,
    };
    let online = (0..program.cpus).map(|cpu| event(cpu, Kind::Online));
    let links = (0..REGIONS).map(|r| event(0, Kind::Snapshot(link_entry(r, Some(r)))));
    online.chain(links).collect()
}

/// The first violation of a sequence, and how many events it took.
pub fn judge(program: &Program, events: &[Event]) -> Option<(usize, Violation)> {
    let mut words = vec![0; Memory::words_for(64)];
    let config = Config { ets2: program.ets2 };
    let mut oracle = Oracle::new(Memory::new(&mut words), config);
    for event in preamble(program) {
        assert_eq!(oracle.judge(&event), None);
    }
    events
        .iter()
        .enumerate()
        .find_map(|(n, event)| Some((n + 1, oracle.judge(event)?)))
}

/// A stream of choices; when it is at its end, each is the first.
#[derive(Debug)]
pub struct Choices<'a>(pub &'a [u8]);

impl Choices<'_> {
    /// One of `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        usize::from(*first) % n.max(1)
    }

    pub fn of<T: Copy>(&mut self, among: &[T]) -> Option<T> {
        let n = among.len();
        (n > 0).then(|| among[self.below(n)])
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
