//! The live tables as text, in the layout of Linux's `kernel_page_tables` (facts on Linux,
//! section 10): a row for adjacent entries that are alike, wherever they lead.

use super::dump::{Run, for_each_run};
use core::fmt;
use vmsa::{Attributes, Descriptor, Level, PageRange, VirtAddr};

/// A part of the address space, with its header lines.
#[derive(Clone, Copy, Debug)]
pub struct Dump<'a> {
    /// The part's name.
    pub name: &'a str,
    /// All of it.
    pub part: PageRange,
    /// What of it is shown.
    pub shown: PageRange,
}

impl fmt::Display for Dump<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.part == self.shown;
        let (start, end) = titles(self.name);
        if whole {
            writeln!(f, "---[ {start} ]---")?;
        } else {
            writeln!(f, "---[ part of {} ]---", self.name)?;
        }
        let mut row: Option<Row> = None;
        let mut result = Ok(());
        for_each_run(self.shown, &mut |run| {
            if row.as_mut().is_some_and(|row| row.takes(run)) {
                return;
            }
            if let Some(row) = row.replace(Row::of(run)) {
                result = result.and_then(|()| writeln!(f, "{row}"));
            }
        });
        result?;
        if let Some(row) = row {
            writeln!(f, "{row}")?;
        }
        if whole {
            writeln!(f, "---[ {end} ]---")?;
        }
        Ok(())
    }
}

/// The header lines of a part: Linux's, where it has the part.
fn titles(name: &str) -> (&str, &str) {
    match name {
        "linear map" => ("Linear Mapping start", "Linear Mapping end"),
        "shadow" => ("Kasan shadow start", "Kasan shadow end"),
        "image" => ("Kernel image start", "Kernel image end"),
        "vmalloc" => ("vmalloc() area", "vmalloc() end"),
        "heap" => ("Kernel heap start", "Kernel heap end"),
        "scratch" => ("Scratch start", "Scratch end"),
        "devices" => ("Devices start", "Devices end"),
        other => (other, other),
    }
}

/// A row: adjacent entries of one level with the same attributes.
#[derive(Clone, Copy, Debug)]
struct Row {
    start: VirtAddr,
    bytes: u64,
    level: Level,
    /// One of the entries.
    entry: Descriptor,
}

impl Row {
    fn of(run: &Run) -> Self {
        // An output that every level can have; the row does not tell it.
        let entry = Descriptor::leaf(run.level, vmsa::PhysAddr::literal(0), run.attributes)
            .unwrap_or(Descriptor::INVALID);
        Self {
            start: run.start,
            bytes: run.bytes,
            level: run.level,
            entry: entry.with_valid(run.valid),
        }
    }

    /// Whether `run` goes on where this ends, and is like it.
    fn takes(&mut self, run: &Run) -> bool {
        let next = Self::of(run);
        let takes = (self.level, self.entry) == (next.level, next.entry)
            && self.start.checked_add(self.bytes) == Some(next.start);
        if takes {
            self.bytes += next.bytes;
        }
        takes
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The largest unit in which it is a whole number.
        let (mut size, mut units) = (self.bytes >> 10, "KMGTPE".chars());
        let mut unit = units.next();
        while size.is_multiple_of(1024)
            && let Some(next) = units.next()
        {
            size >>= 10;
            unit = Some(next);
        }
        let start = self.start.as_u64();
        // The end of the last row can be 2^64.
        write!(
            f,
            "{start:#018x}-{:#018x}   ",
            start.wrapping_add(self.bytes)
        )?;
        write!(f, "{size:9}{} ", unit.unwrap_or('K'))?;
        write!(
            f,
            "{}{}",
            level_name(self.level),
            Columns(self.entry, self.level)
        )
    }
}

/// What Linux calls the entries of a level. (Its P4D is not there with four levels.)
pub const fn level_name(level: Level) -> &'static str {
    match level {
        Level::L0 => "PGD",
        Level::L1 => "PUD",
        Level::L2 => "PMD",
        Level::L3 => "PTE",
    }
}

/// The attributes of a block or page, a column each with a blank before it.
#[derive(Clone, Copy, Debug)]
pub struct Columns(pub Descriptor, pub Level);

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(entry, level) = *self;
        let attributes = entry.attributes();
        let has = |flags| attributes.contains(flags);
        // Whether the bits are set, and what is shown then, and otherwise.
        let columns = [
            (entry.is_valid(), " ", "F"),
            (has(Attributes::AP_EL0), "USR", "   "),
            (has(Attributes::AP_READ_ONLY), "ro", "RW"),
            (has(Attributes::PXN), "NX", "x "),
            (has(Attributes::SH_INNER), "SHD", "   "),
            (has(Attributes::AF), "AF", "  "),
            (has(Attributes::NG), "NG", "  "),
            (has(Attributes::CONTIGUOUS), "CON", "   "),
            (level < Level::L3, "BLK", "   "),
            (has(Attributes::UXN), "UXN", "   "),
            (has(Attributes::GP), "GP", "  "),
        ];
        for (set, if_set, otherwise) in columns {
            write!(f, " {}", if set { if_set } else { otherwise })?;
        }
        // By its place in MAIR_EL1.
        f.write_str(match attributes & Attributes::ATTR_INDEX {
            Attributes::DEVICE_NGNRE => " DEVICE/nGnRE",
            Attributes::NORMAL_NC => " MEM/NORMAL-NC",
            index if index.is_empty() => " MEM/NORMAL",
            _ => " MEM/?",
        })
    }
}
