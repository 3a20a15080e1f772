//! Reads a saved record, of which nothing is taken for granted.

use super::{
    ACCESSES, BOUNDARIES, DOMAINS, End, Expected, Fields, LAZY_CALLS, ORDERS, RECORD_BYTES, SCOPES,
    SPACE_SHIFT, WINDOWS, barrier, number, sync,
};
use crate::{
    MAX_CPUS,
    event::{Barrier, Entry, Event, Frames, Kind, SyncAccess, Tlbi},
    rule::Rule,
};
use core::fmt;
use vmsa::{Descriptor, Level, PAGE_SHIFT, PageRange, PhysAddr, VirtAddr};

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// An event.
    Event(Event),
    /// Rules that what follows breaks on purpose.
    Expected(Expected),
    /// The end of the trace.
    End(End),
}

/// Why a record could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// No kind of record has this number.
    Kind(u8),
    /// A small field, `a` or `b`, holds a value that this kind of event does not know.
    Code {
        /// What the field says.
        of: &'static str,
        /// What it holds.
        code: u8,
    },
    /// A wide field holds a number that is too large.
    Number {
        /// What the field says.
        of: &'static str,
        /// What it holds.
        number: u64,
    },
    /// The CPU is not below [`MAX_CPUS`].
    Cpu(u8),
    /// A virtual address is not canonical.
    VirtAddr(u64),
    /// A physical address has more than 48 bits.
    PhysAddr(u64),
    /// Pages that are none, do not begin at a page, or leave their half of the address space.
    Pages {
        /// The first address.
        start: u64,
        /// How many.
        pages: u64,
    },
    /// Frames that do not begin at a frame or end above 2^48.
    Frames {
        /// The first address.
        first: u64,
        /// How many.
        count: u64,
    },
    /// A field that this kind of event does not use is not zero.
    Unused(u8),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Kind(kind) => write!(
                f,
                "unknown kind of record {kind}; known: {} to {}, {}, {}",
                number::ONLINE,
                number::ASID,
                number::EXPECTED,
                number::END
            ),
            Self::Code { of, code } => write!(f, "unknown {of} {code}"),
            Self::Number { of, number } => write!(f, "{number} is too large for the {of}"),
            Self::Cpu(cpu) => write!(f, "CPU {cpu}; known: 0 to {}", MAX_CPUS - 1),
            Self::VirtAddr(address) => write!(f, "{address:#x} is no canonical virtual address"),
            Self::PhysAddr(address) => write!(f, "{address:#x} is no 48-bit physical address"),
            Self::Pages { start, pages } => {
                write!(f, "{pages} pages from {start:#x} are no range of addresses")
            }
            Self::Frames { first, count } => {
                write!(f, "{count} frames from {first:#x} are no range of frames")
            }
            Self::Unused(kind) => {
                write!(f, "a field that kind {kind} does not use is not zero")
            }
        }
    }
}

impl core::error::Error for DecodeError {}

/// Reads a saved record.
///
/// What it accepts is what [`encode`](super::encode), [`Expected::encode`] and [`End::encode`]
/// write, byte for byte.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn decode(bytes: &[u8; RECORD_BYTES]) -> Result<Record, DecodeError> {
    let fields = Fields::from_bytes(bytes);
    let record = match fields.kind {
        number::END => Record::End(End {
            events: fields.w[0],
            lost: fields.w[1],
        }),
        number::EXPECTED => {
            let rules = fields.w[0];
            if rules >> Rule::ALL.len() != 0 {
                let (of, number) = ("set of rules", rules);
                return Err(DecodeError::Number { of, number });
            }
            Record::Expected(Expected { rules })
        }
        _ if usize::from(fields.cpu) >= MAX_CPUS => return Err(DecodeError::Cpu(fields.cpu)),
        _ => Record::Event(Event {
            time: fields.time,
            cpu: fields.cpu,
            task: fields.task,
            kind: kind(&fields)?,
        }),
    };
    // One question for every field that a kind leaves out: is this how it would be written?
    let written = match &record {
        Record::Event(event) => super::encode(event),
        Record::Expected(expected) => expected.encode(),
        Record::End(end) => end.encode(),
    };
    if written == *bytes {
        Ok(record)
    } else {
        Err(DecodeError::Unused(fields.kind))
    }
}

fn kind(fields: &Fields) -> Result<Kind, DecodeError> {
    let w = fields.w;
    Ok(match fields.kind {
        number::ONLINE => Kind::Online,
        number::SNAPSHOT => Kind::Snapshot(entry(fields)?),
        number::LINEAR_MAP => Kind::LinearMap(pages(fields)?),
        number::TABLE_ALLOCATED => Kind::TableAllocated(phys_addr(w[0])?),
        number::TABLE_FREED => Kind::TableFreed(phys_addr(w[0])?),
        number::STORE => Kind::Store {
            entry: entry(fields)?,
            old: Descriptor::from_bits(w[3]),
        },
        number::ENTRY_READ => Kind::EntryRead(entry(fields)?),
        number::BARRIER => Kind::Barrier(read_barrier(fields)?),
        number::TLBI => {
            let [last_level, broadcast] = two_flags("flags of a TLBI", fields.b)?;
            Kind::Tlbi(Tlbi {
                scope: known("scope of a TLBI", &SCOPES, fields.a)?,
                last_level,
                broadcast,
                operand: w[0],
            })
        }
        number::ASID => Kind::Asid {
            space: narrow("number of the address space", w[0])?,
            asid: narrow("ASID", w[1])?,
        },
        number::TTBR0 => Kind::Ttbr0(w[0]),
        number::TTBR1 => Kind::Ttbr1(w[0]),
        number::TCR => Kind::Tcr(w[0]),
        number::EXCEPTION_ENTRY => Kind::ExceptionEntry,
        number::EXCEPTION_RETURN => Kind::ExceptionReturn {
            to_el0: known("exception return", &[false, true], fields.a)?,
        },
        number::CONTEXT_SWITCH => Kind::ContextSwitch {
            to: narrow("number of the next task", w[0])?,
        },
        number::SYNC => Kind::Sync {
            variable: w[0],
            access: sync_access(fields)?,
        },
        number::ACCESS => Kind::Access {
            va: virt_addr(w[0])?,
            access: known("access", &ACCESSES, fields.a)?,
        },
        number::SPURIOUS_FAULT => Kind::SpuriousFault(virt_addr(w[0])?),
        number::FRAMES_ALLOCATED => Kind::FramesAllocated(frames(fields)?),
        number::FRAMES_FREED => Kind::FramesFreed(frames(fields)?),
        number::FRAME_WRITTEN => Kind::FrameWritten(phys_addr(w[0])?),
        number::VA_ALLOCATED => Kind::VaAllocated(pages(fields)?),
        number::LAZY => Kind::Lazy {
            call: known("lazy MMU call", &LAZY_CALLS, fields.a)?,
            sections: narrow("number of sections", w[0])?,
            pauses: narrow("number of pauses", w[1])?,
            flushed: known("flush of a lazy MMU call", &[false, true], fields.b)?,
        },
        number::WINDOW_OPENED => Kind::WindowOpened {
            window: known("window", &WINDOWS, fields.a)?,
            range: pages(fields)?,
        },
        number::WINDOW_CLOSED => Kind::WindowClosed {
            window: known("window", &WINDOWS, fields.a)?,
            range: pages(fields)?,
        },
        number::BOUNDARY => Kind::Boundary(known("boundary", &BOUNDARIES, fields.a)?),
        unknown => return Err(DecodeError::Kind(unknown)),
    })
}

fn entry(fields: &Fields) -> Result<Entry, DecodeError> {
    let [place, va, value, _] = fields.w;
    Ok(Entry {
        address: phys_addr(place & ((1 << SPACE_SHIFT) - 1))?,
        va: virt_addr(va)?,
        level: known("level", &Level::ALL, fields.a)?,
        space: (place >> SPACE_SHIFT) as u16,
        value: Descriptor::from_bits(value),
    })
}

fn read_barrier(fields: &Fields) -> Result<Barrier, DecodeError> {
    let domain = || known("domain of a barrier", &DOMAINS, fields.b & 0xf);
    let orders = || known("order of a barrier", &ORDERS, fields.b >> 4);
    match fields.a {
        barrier::DSB => Ok(Barrier::Dsb(domain()?, orders()?)),
        barrier::DMB => Ok(Barrier::Dmb(domain()?, orders()?)),
        barrier::ISB => Ok(Barrier::Isb),
        code => Err(DecodeError::Code {
            of: "barrier",
            code,
        }),
    }
}

fn sync_access(fields: &Fields) -> Result<SyncAccess, DecodeError> {
    let [acquire, release] = two_flags("flags of a synchronisation", fields.b)?;
    match fields.a {
        sync::WRITE => Ok(SyncAccess::Write { release }),
        sync::READ => Ok(SyncAccess::Read { acquire }),
        sync::READ_MODIFY_WRITE => Ok(SyncAccess::ReadModifyWrite { acquire, release }),
        sync::BRANCH => Ok(SyncAccess::Branch),
        code => {
            let of = "access to a synchronisation variable";
            Err(DecodeError::Code { of, code })
        }
    }
}

fn virt_addr(address: u64) -> Result<VirtAddr, DecodeError> {
    VirtAddr::new(address).ok_or(DecodeError::VirtAddr(address))
}

fn phys_addr(address: u64) -> Result<PhysAddr, DecodeError> {
    PhysAddr::new(address).ok_or(DecodeError::PhysAddr(address))
}

fn pages(fields: &Fields) -> Result<PageRange, DecodeError> {
    let [start, pages, ..] = fields.w;
    PageRange::new(virt_addr(start)?, pages).ok_or(DecodeError::Pages { start, pages })
}

/// Frames: a judge that walks them must come to an end.
fn frames(fields: &Fields) -> Result<Frames, DecodeError> {
    let [address, count, ..] = fields.w;
    let first = phys_addr(address)?;
    let room = ((1 << vmsa::addr::ADDRESS_BITS) - address) >> PAGE_SHIFT;
    if first.is_page_aligned() && count <= room {
        Ok(Frames { first, count })
    } else {
        let first = address;
        Err(DecodeError::Frames { first, count })
    }
}

fn known<T: Copy>(of: &'static str, table: &[T], code: u8) -> Result<T, DecodeError> {
    let value = table.get(usize::from(code)).copied();
    value.ok_or(DecodeError::Code { of, code })
}

fn two_flags(of: &'static str, code: u8) -> Result<[bool; 2], DecodeError> {
    let flags = [[false, false], [true, false], [false, true], [true, true]];
    known(of, &flags, code)
}

fn narrow<T: TryFrom<u64>>(of: &'static str, number: u64) -> Result<T, DecodeError> {
    T::try_from(number).map_err(|_| DecodeError::Number { of, number })
}
