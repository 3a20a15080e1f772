//! A trace in the format that `casemate-check` of rems-project/casemate reads: an S-expression a
//! line, numbers in hexadecimal without `0x`, `id` and `tid` in decimal.
//!
//! Casemate watches the stage 1 tables of EL2, which have one root and no upper half, and knows for
//! each entry whether it is valid, invalid, or invalid and still to be flushed (*unclean*). So the
//! tables of the kernel's half become those of EL2, and what it can't be told is left out by name.
//!
//! Its checker has room for ten unclean entries ([`GROUP`]), and a vmalloc area or a DEBUG_PAGEALLOC
//! block has more. Since it follows each entry for itself, an invalidation is written when it is
//! complete, and many are written as several flushes. Each entry has before its line and behind it
//! the barriers and the TLBI that the kernel issued for it, in that order, and no other: one that
//! the kernel left out is not there either, and the entry stays unclean.

mod pending;
mod tables;
mod write;

use super::file::Trace;
use crate::failure::{Doing, Failure, Result};
use mmu_oracle::{
    Event, Kind,
    event::{Barrier, Domain, Entry, Orders, Tlbi},
    format::{Expected, Record},
};
use pending::{Changed, Pending, Progress, Why, covers};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use tables::Tables;
use vmsa::{Descriptor, live_change};
use write::Lines;

/// Invalidations that are written as one flush. The checker has room for ten.
const GROUP: usize = 8;

/// What was written, and what was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Lines.
    pub records: u64,
    /// Stores that change permissions or the like of a valid entry.
    pub attributes: u64,
    /// Links to a table that another entry leads to already.
    pub shared: u64,
    /// Stores that a scene makes in breach of the rules on purpose.
    pub on_purpose: u64,
    /// Stores, TLBIs of the lower half, and of address spaces.
    pub lower_half: u64,
    /// Barriers that it has no name for, or that order less than it takes them to.
    pub barriers: u64,
    /// TLBIs for one CPU.
    pub local: u64,
    /// Invalidations that were not complete when the trace ended.
    pub unfinished: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (
                self.attributes,
                "changes of the attributes of a valid entry",
            ),
            (self.shared, "further links to a table that is linked"),
            (self.on_purpose, "stores that break a rule on purpose"),
            (self.lower_half, "stores and TLBIs of the lower half"),
            (self.barriers, "DMBs, and DSBs of loads or of one CPU alone"),
            (self.local, "TLBIs for one CPU alone"),
            (self.unfinished, "invalidations not flushed at the end"),
        ];
        f.write_str("trace: not told to Casemate (docs/trace.md says why):")?;
        for (at, (count, what)) in counts.into_iter().enumerate() {
            write!(f, "{} {count} {what}", if at == 0 { "" } else { ";" })?;
        }
        Ok(())
    }
}

/// Writes a trace for Casemate.
///
/// # Errors
/// If the trace can't be read, has no tables, or the lines can't be written.
pub fn convert<R: Read, W: Write>(mut trace: Trace<R>, out: W) -> Result<Summary> {
    let mut casemate = Casemate::new(out);
    while let Some(record) = trace.next()? {
        match record {
            Record::Event(event) => casemate.event(&event, trace.records()).doing("write")?,
            Record::Expected(expected) => casemate.expected = expected,
            Record::End(_) => {}
        }
    }
    if !casemate.begun {
        return Err(Failure::fail(format!(
            "{} has no tables that Casemate could be told of",
            trace.name()
        )));
    }
    casemate.finish().doing("write")
}

/// What Casemate has been told, and what it is still to be told.
struct Casemate<W> {
    lines: Lines<W>,
    /// The tables as it knows them.
    tables: Tables,
    /// The initial tables have been written.
    begun: bool,
    /// Invalidations that it has not been told of, by address.
    pending: BTreeMap<u64, Pending>,
    /// Valid entries whose attributes changed, until a TLBI.
    changed: Vec<Changed>,
    expected: Expected,
    summary: Summary,
}

impl<W: Write> Casemate<W> {
    fn new(out: W) -> Self {
        Self {
            lines: Lines::new(out),
            tables: Tables::default(),
            begun: false,
            pending: BTreeMap::new(),
            changed: Vec::new(),
            expected: Expected::NONE,
            summary: Summary::default(),
        }
    }

    fn event(&mut self, event: &Event, record: u64) -> std::io::Result<()> {
        let why = Why {
            cpu: event.cpu,
            record,
        };
        if let Kind::Snapshot(entry) = event.kind {
            if is_kernels(&entry) {
                let entry = self.alone(entry);
                self.tables.set(&entry);
            }
            return Ok(());
        }
        let known = matches!(
            event.kind,
            Kind::TableAllocated(_) | Kind::Store { .. } | Kind::Barrier(_) | Kind::Tlbi(_)
        );
        if known && !self.begun && !self.tables.is_empty() {
            self.begun = true;
            self.tables.link_root();
            self.lines.initial(why, &self.tables)?;
        }
        if !self.begun {
            return Ok(());
        }
        match event.kind {
            Kind::Ttbr1(value) => self.lines.ttbr(why, value),
            Kind::TableAllocated(table) => {
                let left = self.tables.allocated(table.as_u64());
                let root = self.tables.root();
                self.lines.new_table(why, table.as_u64(), root, &left)
            }
            Kind::Store { entry, .. } if is_kernels(&entry) => {
                let entry = self.alone(entry);
                self.store(why, &entry)
            }
            Kind::Store { .. } => {
                self.summary.lower_half += 1;
                Ok(())
            }
            Kind::Barrier(barrier) => self.barrier(why, barrier),
            Kind::Tlbi(tlbi) => self.tlbi(why, &tlbi),
            _ => Ok(()),
        }
    }

    /// The entry, without the table that it shares with another.
    fn alone(&mut self, mut entry: Entry) -> Entry {
        if self.tables.is_shared(&entry) {
            self.summary.shared += 1;
            entry.value = Descriptor::INVALID;
        }
        entry
    }

    fn store(&mut self, why: Why, entry: &Entry) -> std::io::Result<()> {
        let (address, level) = (entry.address.as_u64(), entry.level);
        let (old, new) = (self.tables.value(address), entry.value);
        for page in self.tables.unknown_pages(entry) {
            let root = self.tables.root();
            self.lines.new_table(why, page, root, &[])?;
        }
        if !self.tables.is_linked(address) {
            return self.told(why, entry);
        }
        let unclean = self.pending.contains_key(&address);
        match (old.is_valid(), new.is_valid()) {
            // For Casemate an entry goes from invalid to invalid without a step.
            (false, false) if unclean => Ok(()),
            (false, true) if unclean && !self.expected.is_empty() => {
                self.summary.on_purpose += 1;
                Ok(())
            }
            (false, _) => {
                // Made valid before it was flushed: Casemate is to see how far it had come.
                if let Some(pending) = self.pending.remove(&address) {
                    self.lines.unfinished(&pending)?;
                }
                self.told(why, entry)
            }
            (true, false) => {
                self.tables.set(entry);
                let pending = Pending::new(*entry, old, why);
                self.pending.insert(address, pending);
                Ok(())
            }
            (true, true) if differ_for_software_alone(old, new) => self.told(why, entry),
            (true, true) if live_change(old, new, level).is_one_store() => {
                self.summary.attributes += 1;
                let changed = Changed { entry: *entry, old };
                self.changed.push(changed);
                Ok(())
            }
            (true, true) if !self.expected.is_empty() => {
                self.summary.on_purpose += 1;
                Ok(())
            }
            (true, true) => self.told(why, entry),
        }
    }

    /// Tells Casemate of a store.
    fn told(&mut self, why: Why, entry: &Entry) -> std::io::Result<()> {
        self.tables.set(entry);
        self.lines.store(why, entry.address.as_u64(), entry.value)
    }

    fn barrier(&mut self, why: Why, barrier: Barrier) -> std::io::Result<()> {
        let orders = match barrier {
            Barrier::Isb => return self.lines.isb(why),
            Barrier::Dmb(..)
            | Barrier::Dsb(Domain::NonShareable, _)
            | Barrier::Dsb(_, Orders::Loads) => {
                self.summary.barriers += 1;
                return Ok(());
            }
            Barrier::Dsb(_, orders) => orders,
        };
        let mut complete = Vec::new();
        let mut is_first = false;
        self.pending.retain(|_, pending| {
            if pending.why.cpu != why.cpu {
                return true;
            }
            match pending.dsb(why, orders) {
                Progress::None => true,
                // Written with the store that it is for.
                Progress::Ordered => {
                    is_first = true;
                    true
                }
                Progress::Complete => {
                    complete.push(*pending);
                    false
                }
            }
        });
        if complete.is_empty() && !is_first {
            return self.lines.dsb(why, orders);
        }
        complete.sort_by_key(|pending| pending.why.record);
        // Leaves before the tables that led to them, and each table alone: its TLBI is for all.
        let (tables, leaves): (Vec<_>, Vec<_>) = complete.into_iter().partition(Pending::is_table);
        for group in leaves.chunks(GROUP) {
            self.lines.flush(group, why)?;
        }
        for table in tables {
            self.lines.flush(&[table], why)?;
            self.tables.unlink(table.old);
        }
        Ok(())
    }

    fn tlbi(&mut self, why: Why, tlbi: &Tlbi) -> std::io::Result<()> {
        if !tlbi.broadcast {
            self.summary.local += 1;
            return Ok(());
        }
        let mut names_any = false;
        for pending in self.pending.values_mut() {
            if pending.why.cpu == why.cpu && covers(tlbi, &pending.entry, pending.old) {
                pending.tlbi(why, tlbi);
                names_any = true;
            }
        }
        let covered = |changed: &Changed| covers(tlbi, &changed.entry, changed.old);
        let (now, later): (Vec<_>, Vec<_>) = self.changed.drain(..).partition(covered);
        self.changed = later;
        for Changed { entry, old } in &now {
            self.lines.tlbi_of(why, entry, *old, tlbi.last_level)?;
        }
        if names_any || !now.is_empty() {
            return Ok(());
        }
        match pending::page_of(tlbi) {
            Some(page) if page.is_upper() => self.lines.tlbi_of_page(why, page, tlbi.last_level),
            Some(_) => {
                self.summary.lower_half += 1;
                Ok(())
            }
            // A range, or everything, in which nothing changed.
            None => Ok(()),
        }
    }

    fn finish(mut self) -> std::io::Result<Summary> {
        self.summary.unfinished = self.pending.len() as u64;
        self.summary.records = self.lines.finish()?;
        Ok(self.summary)
    }
}

/// Whether the entry is of the kernel's half.
fn is_kernels(entry: &Entry) -> bool {
    entry.va.is_upper() && entry.space == 0
}

/// Bits 58:55, which the hardware ignores and software may use (DDI 0487, D8.3): a change of them
/// alone is none for Casemate either.
fn differ_for_software_alone(old: Descriptor, new: Descriptor) -> bool {
    const SOFTWARE: u64 = 0b1111 << 55;
    (old.bits() ^ new.bits()) & !SOFTWARE == 0
}

#[cfg(test)]
mod tests;
