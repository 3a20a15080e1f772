//! A rule that was broken, with the events that led to it, in words.

use crate::{
    event::{Event, Kind},
    record::{Miss, Stamp},
    rule::Rule,
};
use core::fmt;
use vmsa::{Descriptor, Level, Reason, VirtAddr};

/// A rule that an event broke, with the events that led to it. [`Display`](fmt::Display) tells the
/// story in lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// The event that broke it.
    pub event: Event,
    past: [Option<Past>; 2],
    miss: Option<Miss>,
    reason: Option<Reason>,
}

/// An earlier event that led to the violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Past {
    time: u64,
    cpu: u8,
    task: u32,
    what: What,
}

/// What it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// An entry was made valid.
    MadeValid(VirtAddr, Level, Descriptor),
    /// A valid entry was changed or cleared: what it held.
    Changed(VirtAddr, Level, Descriptor),
    /// A TLBI named it.
    Invalidated,
    /// A TLBI of which it is not known that it is complete.
    NotCompleted,
}

impl Past {
    pub fn of(stamp: Stamp, what: What) -> Self {
        Self {
            time: stamp.time,
            cpu: stamp.cpu,
            task: stamp.task,
            what,
        }
    }
}

impl Violation {
    pub(crate) fn new(rule: Rule, event: &Event) -> Self {
        Self {
            rule,
            event: *event,
            past: [None; 2],
            miss: None,
            reason: None,
        }
    }

    pub(crate) fn because(self, past: Past) -> Self {
        self.because_some(Some(past))
    }

    pub(crate) fn because_some(mut self, past: Option<Past>) -> Self {
        if let Some(free) = self.past.iter_mut().find(|past| past.is_none()) {
            *free = past;
        }
        self
    }

    pub(crate) fn missed(mut self, miss: Miss) -> Self {
        self.miss = Some(miss);
        self
    }

    pub(crate) fn reason(mut self, reason: Reason) -> Self {
        self.reason = Some(reason);
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event {
            time,
            cpu,
            task,
            ref kind,
        } = self.event;
        writeln!(
            f,
            "{} at time {time}, CPU {cpu}, task {task}: {}",
            self.rule,
            Words(kind)
        )?;
        for past in self.past.iter().flatten() {
            writeln!(f, "  before: {past}")?;
        }
        if let Some(miss) = self.miss.and_then(miss_in_words) {
            writeln!(f, "  {miss}")?;
        }
        if let Some(reason) = self.reason {
            writeln!(f, "  {reason}")?;
        }
        write!(f, "  {}", self.rule.source())
    }
}

impl fmt::Display for Past {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            time,
            cpu,
            task,
            what,
        } = self;
        write!(f, "time {time}, CPU {cpu}, task {task}: ")?;
        match what {
            What::MadeValid(va, level, value) => {
                write!(
                    f,
                    "{level:?} entry of {va} was made valid: {:#018x}",
                    value.bits()
                )
            }
            What::Changed(va, level, old) => {
                write!(
                    f,
                    "{level:?} entry of {va} was changed; it held {:#018x}",
                    old.bits()
                )
            }
            What::Invalidated => f.write_str("a TLBI named it"),
            What::NotCompleted => f.write_str("a TLBI, and no DSB by its CPU since"),
        }
    }
}

fn miss_in_words(miss: Miss) -> Option<&'static str> {
    Some(match miss {
        Miss::None => return None,
        Miss::Beside => "a TLBI came after the change, and named other addresses",
        Miss::Level => "the TLBI's level hint is not the level of the entry",
        Miss::LastLevel => "the TLBI was for last-level entries alone, and this was a table",
        Miss::Local => "the TLBI was not broadcast, and other CPUs take part",
        Miss::Asid => "the TLBI was for another ASID, or for non-global entries alone",
        Miss::NoDsbBefore => "the change was not completed by a DSB before the TLBI",
    })
}

/// An event in a few words.
struct Words<'a>(&'a Kind);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Store { entry, old } => write!(
                f,
                "{:?} entry of {} at {} stored: {:#018x} -> {:#018x}",
                entry.level,
                entry.va,
                entry.address,
                old.bits(),
                entry.value.bits()
            ),
            Kind::Access { va, access } => write!(f, "{access:?} at {va}"),
            Kind::FramesAllocated(frames) => {
                write!(
                    f,
                    "{} frames from {} handed out",
                    frames.count, frames.first
                )
            }
            Kind::FramesFreed(frames) => {
                write!(f, "{} frames from {} freed", frames.count, frames.first)
            }
            Kind::FrameWritten(frame) => write!(f, "frame {frame} written by its owner"),
            Kind::TableFreed(table) => write!(f, "table {table} freed"),
            Kind::VaAllocated(range) => {
                write!(
                    f,
                    "{} pages from {} handed out",
                    range.pages(),
                    range.start()
                )
            }
            Kind::WindowClosed { window, range } => write!(
                f,
                "window {window:?} over {} pages from {} closed",
                range.pages(),
                range.start()
            ),
            Kind::Lazy {
                call,
                sections,
                pauses,
                ..
            } => {
                write!(
                    f,
                    "{call:?}, then {sections} sections and {pauses} pauses open"
                )
            }
            Kind::Boundary(boundary) => write!(f, "{boundary:?}"),
            other => write!(f, "{other:?}"),
        }
    }
}
