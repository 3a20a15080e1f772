//! What is remembered of an entry, of a stale translation and of a task.

use crate::{
    clock::{Class, Fact},
    event::{Entry, Event, Window},
    pool::{Link, Record},
};
use bytemuck::{Pod, Zeroable};
use vmsa::{Descriptor, Level, PhysAddr, VirtAddr};

/// The key of what maps `va` at `level`: never 0.
pub(crate) fn address_key(va: VirtAddr, level: Level) -> u64 {
    va.align_down(level.bytes()).as_u64() | 1 << 2 | u64::from(level.as_u8())
}

/// The key of what leads to `output` at `level`; a table is told from a leaf. Never 0.
pub(crate) fn frame_key(output: PhysAddr, kind: Output) -> u64 {
    let (tag, bytes) = match kind {
        Output::Table => (4, vmsa::PAGE_SIZE),
        Output::Leaf(level) => (u64::from(level.as_u8()), level.bytes()),
    };
    output.align_down(bytes).as_u64() | 1 << 3 | tag
}

/// What an entry leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Table,
    Leaf(Level),
}

/// Whether a TLB may hold what the entry says: it is valid, and its access flag is set if it is a
/// leaf (DDI 0487, D8.5.1: an entry with AF clear is not cached).
pub(crate) fn is_cacheable(value: Descriptor, level: Level) -> bool {
    match value.kind(level) {
        vmsa::Kind::Table(_) => true,
        vmsa::Kind::Block(_) | vmsa::Kind::Page(_) => {
            value.attributes().contains(vmsa::Attributes::AF)
        }
        vmsa::Kind::Invalid | vmsa::Kind::Reserved => false,
    }
}

fn output_of(value: Descriptor, level: Level) -> u64 {
    match value.kind(level) {
        vmsa::Kind::Table(pa) => frame_key(pa, Output::Table),
        vmsa::Kind::Block(pa) | vmsa::Kind::Page(pa) => frame_key(pa, Output::Leaf(level)),
        vmsa::Kind::Invalid | vmsa::Kind::Reserved => 1,
    }
}

fn level_of(key: u64) -> Level {
    match key & 0b11 {
        0 => Level::L0,
        1 => Level::L1,
        2 => Level::L2,
        _ => Level::L3,
    }
}

fn va_of(key: u64) -> VirtAddr {
    VirtAddr::new(key).map_or(VirtAddr::literal(0), |va| va.align_down(vmsa::PAGE_SIZE))
}

/// When, where and by whom something was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Stamp {
    pub time: u64,
    pub number: u64,
    pub task: u32,
    pub cpu: u8,
    class: u8,
    _pad: [u8; 2],
}

impl Stamp {
    pub fn new(event: &Event, fact: Fact) -> Self {
        Self {
            time: event.time,
            number: fact.number,
            task: event.task,
            cpu: fact.cpu,
            class: fact.class as u8,
            _pad: [0; 2],
        }
    }

    pub fn fact(&self) -> Fact {
        let class = match self.class {
            0 => Class::Store,
            1 => Class::Broadcast,
            _ => Class::Local,
        };
        Fact {
            cpu: self.cpu,
            class,
            number: self.number,
        }
    }
}

/// A valid entry, as it was last stored.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Live {
    key: u64,
    value: u64,
    /// The store that made it valid.
    pub made_valid: Stamp,
    pub space: u16,
    /// The levels, a bit each, of the links that its task had read, and whose tables so led it to
    /// this entry: the store comes after the stores of those links.
    pub found_by: u8,
    _pad: [u8; 5],
    links: [Link; 2],
}

impl Live {
    pub fn new(entry: Entry, made_valid: Stamp) -> Self {
        Self {
            key: address_key(entry.va, entry.level),
            value: entry.value.bits(),
            made_valid,
            space: entry.space,
            found_by: 0,
            _pad: [0; 5],
            links: Zeroable::zeroed(),
        }
    }

    pub fn va(&self) -> VirtAddr {
        va_of(self.key)
    }

    pub fn level(&self) -> Level {
        level_of(self.key)
    }

    pub fn value(&self) -> Descriptor {
        Descriptor::from_bits(self.value)
    }
}

impl Record for Live {
    fn address_key(&self) -> u64 {
        self.key
    }

    fn frame_key(&self) -> u64 {
        output_of(self.value(), self.level())
    }

    fn links(&mut self) -> &mut [Link; 2] {
        &mut self.links
    }
}

/// Why a TLBI that came did not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Miss {
    /// None came near.
    None = 0,
    /// It ended just before this address, or began just behind it.
    Beside = 1,
    /// Its level hint was another.
    Level = 2,
    /// It was for last-level entries, and this is a table.
    LastLevel = 3,
    /// It was for the CPU that issued it, and there are others.
    Local = 4,
    /// It was for another ASID, or for non-global entries.
    Asid = 5,
    /// The store was not complete when it was issued.
    NoDsbBefore = 6,
}

/// A translation that was valid, and that a TLB may still hold.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Stale {
    key: u64,
    old: u64,
    /// The store that changed the entry.
    pub changed: Stamp,
    /// TLBIs that are for it, of two CPUs at most; number 0 for none.
    covers: [Stamp; 2],
    pub space: u16,
    miss: u8,
    window: u8,
    pub reported: u8,
    _pad: [u8; 3],
    links: [Link; 2],
}

impl Stale {
    pub fn new(entry: Entry, old: Descriptor, changed: Stamp) -> Self {
        Self {
            key: address_key(entry.va, entry.level),
            old: old.bits(),
            changed,
            covers: Zeroable::zeroed(),
            space: entry.space,
            miss: Miss::None as u8,
            window: 0,
            reported: 0,
            _pad: [0; 3],
            links: Zeroable::zeroed(),
        }
    }

    pub fn va(&self) -> VirtAddr {
        va_of(self.key)
    }

    pub fn level(&self) -> Level {
        level_of(self.key)
    }

    pub fn old(&self) -> Descriptor {
        Descriptor::from_bits(self.old)
    }

    pub fn is_table(&self) -> bool {
        matches!(self.old().kind(self.level()), vmsa::Kind::Table(_))
    }

    /// Whether it is for every ASID: an entry of the kernel's tables, or a leaf without nG.
    pub fn is_global(&self) -> bool {
        let global = !self.old().attributes().contains(vmsa::Attributes::NG);
        self.space == 0 || !self.is_table() && global
    }

    /// The TLBIs that are for it.
    pub fn covers(&self) -> impl Iterator<Item = &Stamp> {
        self.covers.iter().filter(|cover| cover.number != 0)
    }

    /// Takes a TLBI in: in the place of an earlier one of the same CPU, or where there is room, or in
    /// the place of the one that `gives_way`.
    pub fn add_cover(&mut self, cover: Stamp, gives_way: Option<Fact>) {
        let free = |slot: &Stamp| slot.number == 0;
        let slot = self
            .covers
            .iter()
            .position(|slot| !free(slot) && slot.cpu == cover.cpu)
            .or_else(|| self.covers.iter().position(free))
            .or_else(|| {
                self.covers
                    .iter()
                    .position(|slot| Some(slot.fact()) == gives_way)
            });
        if let Some(slot) = slot {
            self.covers[slot] = cover;
        }
    }

    pub fn miss(&self) -> Miss {
        match self.miss {
            1 => Miss::Beside,
            2 => Miss::Level,
            3 => Miss::LastLevel,
            4 => Miss::Local,
            5 => Miss::Asid,
            6 => Miss::NoDsbBefore,
            _ => Miss::None,
        }
    }

    pub fn set_miss(&mut self, miss: Miss) {
        self.miss = miss as u8;
    }

    pub fn set_window(&mut self, window: Option<Window>) {
        self.window = match window {
            None => 0,
            Some(Window::LazyPurge) => 1,
            Some(Window::Shadow) => 2,
        };
    }

    pub fn in_window(&self) -> bool {
        self.window != 0
    }
}

impl Record for Stale {
    fn address_key(&self) -> u64 {
        self.key
    }

    fn frame_key(&self) -> u64 {
        output_of(self.old(), self.level())
    }

    fn links(&mut self) -> &mut [Link; 2] {
        &mut self.links
    }
}

/// A table that was zeroed and is not linked yet.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct NewTable {
    pub address: u64,
    /// When; number 0 where there is no table.
    pub zeroed: Stamp,
}

impl NewTable {
    /// No table.
    pub const NONE: Self = Self {
        address: 0,
        zeroed: Stamp {
            time: 0,
            number: 0,
            task: 0,
            cpu: 0,
            class: 0,
            _pad: [0; 2],
        },
    };

    pub fn new(table: PhysAddr, zeroed: Stamp) -> Self {
        let address = table.as_u64();
        Self { address, zeroed }
    }

    pub fn is_none(&self) -> bool {
        self.zeroed.number == 0
    }

    pub fn is(&self, table: PhysAddr) -> bool {
        !self.is_none() && self.address == table.as_u64()
    }
}

/// A link that a task has read, and whose store its CPU knows of by that alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct LinkRead {
    /// Its [`address_key`]; 0 for none.
    pub key: u64,
    pub value: u64,
    pub space: u64,
}

/// Links that a task may have read and not stored behind yet: those of a few walks.
pub(crate) const LINKS_READ: usize = 8;

/// That the TLB of a CPU may hold translations of an address space under an ASID.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Held {
    /// The TLBI that did away with them, if one has come since the CPU last used the space.
    flushed: Stamp,
    pub space: u16,
    pub asid: u16,
    pub cpu: u8,
    used: u8,
    is_flushed: u8,
    _pad: u8,
}

impl Held {
    pub fn new(cpu: u8, space: u16, asid: u16) -> Self {
        Self {
            space,
            asid,
            cpu,
            used: 1,
            ..Self::zeroed()
        }
    }

    pub fn is_free(&self) -> bool {
        self.used == 0
    }

    pub fn flushed(&self) -> Option<&Stamp> {
        (self.is_flushed != 0).then_some(&self.flushed)
    }

    pub fn set_flushed(&mut self, tlbi: Option<Stamp>) {
        self.is_flushed = u8::from(tlbi.is_some());
        self.flushed = tlbi.unwrap_or(Stamp::zeroed());
    }
}

/// What a task has open, and what it stored since it was last guaranteed visible.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Task {
    pub id: u32,
    pub sections: u8,
    pub pauses: u8,
    used: u8,
    next_link: u8,
    /// The links that it has read last.
    links_read: [LinkRead; LINKS_READ],
    /// The last store of the task that made a leaf valid, by CPU; number 0 for none.
    pub stored: [u64; crate::MAX_CPUS],
    /// The same for leaves that can be executed.
    pub stored_executable: [u64; crate::MAX_CPUS],
    /// The last of them, for reports.
    pub last: Live,
}

impl Task {
    pub fn new(id: u32) -> Self {
        Self {
            id,
            used: 1,
            ..Self::zeroed()
        }
    }

    pub fn is_free(&self) -> bool {
        self.used == 0
    }

    /// The last read of the link at `key`.
    pub fn link_read(&self, key: u64, space: u16) -> Option<&LinkRead> {
        self.links_read
            .iter()
            .find(|read| read.key == key && read.space == u64::from(space))
    }

    /// Remembers a read in the place of an earlier one of the same link, or of the oldest.
    pub fn remember_link(&mut self, read: LinkRead) {
        self.forget_link(read.key, read.space as u16);
        let slot = usize::from(self.next_link) % LINKS_READ;
        self.links_read[slot] = read;
        self.next_link = self.next_link.wrapping_add(1);
    }

    /// Forgets what the task knew of the link at `key`.
    pub fn forget_link(&mut self, key: u64, space: u16) {
        for read in &mut self.links_read {
            if read.key == key && read.space == u64::from(space) {
                *read = Zeroable::zeroed();
            }
        }
    }
}
