//! The saved form of a trace: a header, events as records of one size, and a record that says that
//! the trace is whole.
//!
//! Numbers are little-endian. [`Header`] comes first, [`HEADER_BYTES`]:
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | [`MAGIC`] |
//! | 8..12 | size of a record, [`RECORD_BYTES`] |
//! | 12..16 | flags: bit 0, the CPUs have FEAT_ETS2; the others are zero |
//! | 16..24 | units of [`Event::time`] in a second; 0 where that is not known |
//! | 24..48 | zero |
//!
//! A record:
//!
//! | bytes | name | what |
//! |---|---|---|
//! | 0..8 | `time` | |
//! | 8..12 | `task` | |
//! | 12 | `cpu` | below [`MAX_CPUS`] |
//! | 13 | `kind` | the number in the table below |
//! | 14, 15 | `a`, `b` | small fields |
//! | 16..24, 24..32, 32..40, 40..48 | `w0` to `w3` | wide fields |
//!
//! What a kind does not use is zero. Enumerations count from 0 in the order in which
//! [`event`](crate::event) declares them; an *entry* is `a` = level, `w0` = address in bits 47:0 and
//! address space in bits 63:48, `w1` = VA, `w2` = value.
//!
//! | `kind` | event | fields |
//! |---|---|---|
//! | 1 | [`Online`](Kind::Online) | |
//! | 2 | [`Snapshot`](Kind::Snapshot) | an entry |
//! | 3 | [`LinearMap`](Kind::LinearMap) | `w0` first address, `w1` pages |
//! | 4 | [`TableAllocated`](Kind::TableAllocated) | `w0` physical address |
//! | 5 | [`TableFreed`](Kind::TableFreed) | `w0` physical address |
//! | 6 | [`Store`](Kind::Store) | an entry, `w3` old value |
//! | 7 | [`EntryRead`](Kind::EntryRead) | an entry |
//! | 8 | [`Barrier`](Kind::Barrier) | `a`: DSB, DMB or ISB; `b`: domain in bits 3:0, what it orders in 7:4; zero for ISB |
//! | 9 | [`Tlbi`](Kind::Tlbi) | `a` scope; `b`: bit 0 last level, bit 1 broadcast; `w0` operand |
//! | 10 | [`Ttbr0`](Kind::Ttbr0) | `w0` value |
//! | 11 | [`Ttbr1`](Kind::Ttbr1) | `w0` value |
//! | 12 | [`Tcr`](Kind::Tcr) | `w0` value |
//! | 13 | [`ExceptionEntry`](Kind::ExceptionEntry) | |
//! | 14 | [`ExceptionReturn`](Kind::ExceptionReturn) | `a` 1 to EL0 |
//! | 15 | [`ContextSwitch`](Kind::ContextSwitch) | `w0` the next task |
//! | 16 | [`Sync`](Kind::Sync) | `a` access; `b`: bit 0 acquire, bit 1 release; `w0` variable |
//! | 17 | [`Access`](Kind::Access) | `a` access; `w0` address |
//! | 18 | [`SpuriousFault`](Kind::SpuriousFault) | `w0` address |
//! | 19 | [`FramesAllocated`](Kind::FramesAllocated) | `w0` first, `w1` count |
//! | 20 | [`FramesFreed`](Kind::FramesFreed) | `w0` first, `w1` count |
//! | 21 | [`FrameWritten`](Kind::FrameWritten) | `w0` physical address |
//! | 22 | [`VaAllocated`](Kind::VaAllocated) | `w0` first address, `w1` pages |
//! | 23 | [`Lazy`](Kind::Lazy) | `a` call; `b` 1 flushed; `w0` sections, `w1` pauses |
//! | 24 | [`WindowOpened`](Kind::WindowOpened) | `a` window; `w0` first address, `w1` pages |
//! | 25 | [`WindowClosed`](Kind::WindowClosed) | as 24 |
//! | 26 | [`Boundary`](Kind::Boundary) | `a` boundary |
//! | 27 | [`Asid`](Kind::Asid) | `w0` space, `w1` ASID |
//! | 254 | [`Expected`] | `w0` rules, bit n for the n-th of [`Rule::ALL`] |
//! | 255 | [`End`] | `w0` events before it, `w1` events lost |
//!
//! ```
//! use mmu_oracle::{Event, Kind, event::Barrier, format::{self, Record}};
//!
//! let event = Event { time: 7, cpu: 0, task: 1, kind: Kind::Barrier(Barrier::Isb) };
//! assert_eq!(format::decode(&format::encode(&event)), Ok(Record::Event(event)));
//! ```

mod decode;
mod header;

pub use decode::{DecodeError, Record, decode};
pub use header::{HEADER_BYTES, Header, HeaderError, MAGIC};

#[cfg(doc)]
use crate::MAX_CPUS;
use crate::event::{
    Access, Barrier, Boundary, Domain, Entry, Event, Kind, LazyCall, Orders, Scope, SyncAccess,
    Window,
};
use crate::rule::Rule;
use vmsa::PageRange;

/// Bytes of a saved event.
pub const RECORD_BYTES: usize = 48;

/// The last record of a trace: without it a trace was cut short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// How many events come before it.
    pub events: u64,
    /// How many more there were, for which there was no room.
    pub lost: u64,
}

impl End {
    /// Its saved form.
    #[must_use]
    pub fn encode(self) -> [u8; RECORD_BYTES] {
        Fields {
            kind: number::END,
            w: [self.events, self.lost, 0, 0],
            ..Fields::default()
        }
        .to_bytes()
    }
}

/// From here on these rules are broken on purpose, by code that shows what breaking them does. A
/// later one takes its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Bit n stands for the n-th of [`Rule::ALL`].
    rules: u64,
}

impl Expected {
    /// No rule.
    pub const NONE: Self = Self { rules: 0 };

    /// These rules.
    #[must_use]
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        let bits = rules.into_iter().map(Self::bit);
        Self {
            rules: bits.fold(0, |rules, bit| rules | bit),
        }
    }

    /// Whether the rule is one of them.
    #[must_use]
    pub fn contains(self, rule: Rule) -> bool {
        self.rules & Self::bit(rule) != 0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.rules == 0
    }

    /// Its saved form.
    #[must_use]
    pub fn encode(self) -> [u8; RECORD_BYTES] {
        Fields {
            kind: number::EXPECTED,
            w: [self.rules, 0, 0, 0],
            ..Fields::default()
        }
        .to_bytes()
    }

    fn bit(rule: Rule) -> u64 {
        let at = Rule::ALL.iter().position(|known| *known == rule);
        at.map_or(0, |at| 1 << at)
    }
}

/// The numbers of the kinds.
mod number {
    pub(super) const ONLINE: u8 = 1;
    pub(super) const SNAPSHOT: u8 = 2;
    pub(super) const LINEAR_MAP: u8 = 3;
    pub(super) const TABLE_ALLOCATED: u8 = 4;
    pub(super) const TABLE_FREED: u8 = 5;
    pub(super) const STORE: u8 = 6;
    pub(super) const ENTRY_READ: u8 = 7;
    pub(super) const BARRIER: u8 = 8;
    pub(super) const TLBI: u8 = 9;
    pub(super) const TTBR0: u8 = 10;
    pub(super) const TTBR1: u8 = 11;
    pub(super) const TCR: u8 = 12;
    pub(super) const EXCEPTION_ENTRY: u8 = 13;
    pub(super) const EXCEPTION_RETURN: u8 = 14;
    pub(super) const CONTEXT_SWITCH: u8 = 15;
    pub(super) const SYNC: u8 = 16;
    pub(super) const ACCESS: u8 = 17;
    pub(super) const SPURIOUS_FAULT: u8 = 18;
    pub(super) const FRAMES_ALLOCATED: u8 = 19;
    pub(super) const FRAMES_FREED: u8 = 20;
    pub(super) const FRAME_WRITTEN: u8 = 21;
    pub(super) const VA_ALLOCATED: u8 = 22;
    pub(super) const LAZY: u8 = 23;
    pub(super) const WINDOW_OPENED: u8 = 24;
    pub(super) const WINDOW_CLOSED: u8 = 25;
    pub(super) const BOUNDARY: u8 = 26;
    pub(super) const ASID: u8 = 27;
    pub(super) const EXPECTED: u8 = 254;
    pub(super) const END: u8 = 255;
}

/// `a` of a barrier.
mod barrier {
    pub(super) const DSB: u8 = 0;
    pub(super) const DMB: u8 = 1;
    pub(super) const ISB: u8 = 2;
}

/// `a` of an access to a synchronisation variable.
mod sync {
    pub(super) const WRITE: u8 = 0;
    pub(super) const READ: u8 = 1;
    pub(super) const READ_MODIFY_WRITE: u8 = 2;
    pub(super) const BRANCH: u8 = 3;
}

// The code of a value is its index in these.
const DOMAINS: [Domain; 4] = [
    Domain::NonShareable,
    Domain::InnerShareable,
    Domain::OuterShareable,
    Domain::FullSystem,
];
const ORDERS: [Orders; 3] = [Orders::Stores, Orders::Loads, Orders::All];
const SCOPES: [Scope; 6] = [
    Scope::All,
    Scope::Asid,
    Scope::Va,
    Scope::VaAllAsids,
    Scope::Range,
    Scope::RangeAllAsids,
];
const ACCESSES: [Access; 3] = [Access::Read, Access::Write, Access::Execute];
const LAZY_CALLS: [LazyCall; 4] = [
    LazyCall::Enable,
    LazyCall::Disable,
    LazyCall::Pause,
    LazyCall::Resume,
];
const WINDOWS: [Window; 2] = [Window::LazyPurge, Window::Shadow];
const BOUNDARIES: [Boundary; 4] = [
    Boundary::TaskExit,
    Boundary::ReturnToEl0,
    Boundary::Scene,
    Boundary::Command,
];

/// Where the address space is beside the address of an entry, which has 48 bits.
const SPACE_SHIFT: u32 = vmsa::addr::ADDRESS_BITS;

/// A record taken apart, its numbers not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fields {
    time: u64,
    task: u32,
    cpu: u8,
    kind: u8,
    a: u8,
    b: u8,
    w: [u64; 4],
}

impl Fields {
    fn to_bytes(self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[0..8].copy_from_slice(&self.time.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.task.to_le_bytes());
        bytes[12..16].copy_from_slice(&[self.cpu, self.kind, self.a, self.b]);
        for (slot, word) in bytes[16..].chunks_exact_mut(8).zip(self.w) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; RECORD_BYTES]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        Self {
            time: word(0),
            task: u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]),
            cpu: bytes[12],
            kind: bytes[13],
            a: bytes[14],
            b: bytes[15],
            w: [word(16), word(24), word(32), word(40)],
        }
    }
}

/// The saved form of an event. It says all that the event says.
#[must_use]
pub fn encode(event: &Event) -> [u8; RECORD_BYTES] {
    let (kind, a, b, w) = fields_of(event.kind);
    Fields {
        time: event.time,
        task: event.task,
        cpu: event.cpu,
        kind,
        a,
        b,
        w,
    }
    .to_bytes()
}

/// `kind`, `a`, `b` and the wide fields.
type KindFields = (u8, u8, u8, [u64; 4]);

fn fields_of(kind: Kind) -> KindFields {
    match kind {
        Kind::Online => plain(number::ONLINE),
        Kind::Snapshot(entry) => with_entry(number::SNAPSHOT, entry, 0),
        Kind::LinearMap(range) => with_range(number::LINEAR_MAP, 0, range),
        Kind::TableAllocated(table) => with_word(number::TABLE_ALLOCATED, 0, table.as_u64()),
        Kind::TableFreed(table) => with_word(number::TABLE_FREED, 0, table.as_u64()),
        Kind::Store { entry, old } => with_entry(number::STORE, entry, old.bits()),
        Kind::EntryRead(entry) => with_entry(number::ENTRY_READ, entry, 0),
        Kind::Barrier(barrier) => {
            let (a, b) = match barrier {
                Barrier::Dsb(domain, orders) => (barrier::DSB, barrier_code(domain, orders)),
                Barrier::Dmb(domain, orders) => (barrier::DMB, barrier_code(domain, orders)),
                Barrier::Isb => (barrier::ISB, 0),
            };
            (number::BARRIER, a, b, [0; 4])
        }
        Kind::Tlbi(tlbi) => (
            number::TLBI,
            code(&SCOPES, tlbi.scope),
            u8::from(tlbi.last_level) | u8::from(tlbi.broadcast) << 1,
            [tlbi.operand, 0, 0, 0],
        ),
        Kind::Asid { space, asid } => (
            number::ASID,
            0,
            0,
            [u64::from(space), u64::from(asid), 0, 0],
        ),
        Kind::Ttbr0(value) => with_word(number::TTBR0, 0, value),
        Kind::Ttbr1(value) => with_word(number::TTBR1, 0, value),
        Kind::Tcr(value) => with_word(number::TCR, 0, value),
        Kind::ExceptionEntry => plain(number::EXCEPTION_ENTRY),
        Kind::ExceptionReturn { to_el0 } => {
            with_word(number::EXCEPTION_RETURN, u8::from(to_el0), 0)
        }
        Kind::ContextSwitch { to } => with_word(number::CONTEXT_SWITCH, 0, u64::from(to)),
        Kind::Sync { variable, access } => {
            let (a, acquire, release) = match access {
                SyncAccess::Write { release } => (sync::WRITE, false, release),
                SyncAccess::Read { acquire } => (sync::READ, acquire, false),
                SyncAccess::ReadModifyWrite { acquire, release } => {
                    (sync::READ_MODIFY_WRITE, acquire, release)
                }
                SyncAccess::Branch => (sync::BRANCH, false, false),
            };
            let b = u8::from(acquire) | u8::from(release) << 1;
            (number::SYNC, a, b, [variable, 0, 0, 0])
        }
        Kind::Access { va, access } => {
            with_word(number::ACCESS, code(&ACCESSES, access), va.as_u64())
        }
        Kind::SpuriousFault(va) => with_word(number::SPURIOUS_FAULT, 0, va.as_u64()),
        Kind::FramesAllocated(frames) => (
            number::FRAMES_ALLOCATED,
            0,
            0,
            [frames.first.as_u64(), frames.count, 0, 0],
        ),
        Kind::FramesFreed(frames) => (
            number::FRAMES_FREED,
            0,
            0,
            [frames.first.as_u64(), frames.count, 0, 0],
        ),
        Kind::FrameWritten(frame) => with_word(number::FRAME_WRITTEN, 0, frame.as_u64()),
        Kind::VaAllocated(range) => with_range(number::VA_ALLOCATED, 0, range),
        Kind::Lazy {
            call,
            sections,
            pauses,
            flushed,
        } => (
            number::LAZY,
            code(&LAZY_CALLS, call),
            u8::from(flushed),
            [u64::from(sections), u64::from(pauses), 0, 0],
        ),
        Kind::WindowOpened { window, range } => {
            with_range(number::WINDOW_OPENED, code(&WINDOWS, window), range)
        }
        Kind::WindowClosed { window, range } => {
            with_range(number::WINDOW_CLOSED, code(&WINDOWS, window), range)
        }
        Kind::Boundary(boundary) => with_word(number::BOUNDARY, code(&BOUNDARIES, boundary), 0),
    }
}

const fn plain(kind: u8) -> KindFields {
    (kind, 0, 0, [0; 4])
}

const fn with_word(kind: u8, a: u8, word: u64) -> KindFields {
    (kind, a, 0, [word, 0, 0, 0])
}

const fn with_range(kind: u8, a: u8, range: PageRange) -> KindFields {
    (kind, a, 0, [range.start().as_u64(), range.pages(), 0, 0])
}

const fn with_entry(kind: u8, entry: Entry, old: u64) -> KindFields {
    let place = entry.address.as_u64() | (entry.space as u64) << SPACE_SHIFT;
    let wide = [place, entry.va.as_u64(), entry.value.bits(), old];
    (kind, entry.level.as_u8(), 0, wide)
}

fn barrier_code(domain: Domain, orders: Orders) -> u8 {
    code(&DOMAINS, domain) | code(&ORDERS, orders) << 4
}

/// Where `value` is in a table of this file.
fn code<T: PartialEq>(table: &[T], value: T) -> u8 {
    let at = table.iter().position(|known| *known == value);
    // A value that were missing would be found by the round trip of every kind in the tests.
    at.map_or(u8::MAX, |at| at as u8)
}
