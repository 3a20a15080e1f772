//! Reports of bad accesses, laid out as Linux lays them out.

use super::{populate::read_shadow, shadow};
use crate::{
    arch::backtrace::{Backtrace, ThisCpu},
    arch::uart::REPORT,
    task,
};
use core::{
    fmt::{self, Write},
    sync::atomic::{AtomicU64, Ordering},
};
use spin::Once;
use vmsa::VirtAddr;

/// Says what an address belongs to; bring-up installs it, since who owns addresses is above this
/// room.
pub type Describe = fn(VirtAddr, &mut dyn Write) -> fmt::Result;

static DESCRIBE: Once<Describe> = Once::new();
static REPORTS: AtomicU64 = AtomicU64::new(0);

/// Installs what says what an address belongs to; the first call counts.
pub fn install(describe: Describe) {
    DESCRIBE.call_once(|| describe);
}

/// How many reports were printed since reset.
pub fn count() -> u64 {
    REPORTS.load(Ordering::Relaxed)
}

/// The kind of a bad access, in Linux's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(pub &'static str);

/// Shadow bytes in a row, and rows before and after the one that matters.
const ROW: u64 = 16;
const ROWS_AROUND: u64 = 2;

/// Prints the report of an access of `length` bytes at `va`, of which `bad` is the first that is
/// forbidden.
pub(super) fn print(
    va: VirtAddr,
    length: u64,
    write: bool,
    bad: VirtAddr,
    places: Backtrace<ThisCpu>,
) -> Kind {
    REPORTS.fetch_add(1, Ordering::Relaxed);
    let shadow = shadow::shadow_of(bad);
    let byte = shadow.and_then(read_shadow);
    let next = shadow
        .and_then(|at| at.checked_add(1))
        .and_then(read_shadow);
    let kind = match byte {
        Some(byte) => shadow::kind_of(byte, next),
        None => "wild-memory-access",
    };
    log::error!(
        target: REPORT,
        "{}",
        Report {
            kind,
            va,
            length,
            write,
            shadow,
            places,
        }
    );
    Kind(kind)
}

struct Report {
    kind: &'static str,
    va: VirtAddr,
    length: u64,
    write: bool,
    shadow: Option<VirtAddr>,
    places: Backtrace<ThisCpu>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const RULE: &str = "==================================================================";
        let task = task::current();
        let access = if self.write { "Write" } else { "Read" };
        let mut places = self.places.clone();
        writeln!(f, "{RULE}")?;
        match places.next() {
            Some(place) => writeln!(f, "BUG: KASAN: {} in {place}", self.kind)?,
            None => writeln!(f, "BUG: KASAN: {}", self.kind)?,
        }
        let address = self.va.as_u64();
        writeln!(
            f,
            "{access} of size {} at addr {address:016x} by task {}/{}",
            self.length, task.name, task.id
        )?;
        writeln!(f, "\nCall trace:")?;
        places.try_for_each(|place| writeln!(f, "  {place}"))?;
        writeln!(f)?;
        if let Some(describe) = DESCRIBE.get() {
            describe(self.va, f)?;
        }
        if let Some(shadow) = self.shadow {
            writeln!(f, "\nMemory state around the buggy address:")?;
            memory_state(shadow, f)?;
        }
        write!(f, "{RULE}")
    }
}

/// Writes the shadow around the shadow byte at `bad`, each row by the memory that it speaks of.
pub fn memory_state(bad: VirtAddr, f: &mut dyn Write) -> fmt::Result {
    let middle = bad.align_down(ROW);
    for row in 0..=2 * ROWS_AROUND {
        let Some(row) = middle
            .checked_sub(ROWS_AROUND * ROW)
            .and_then(|first| first.checked_add(row * ROW))
        else {
            continue;
        };
        let Some(memory) = shadow::memory_of(row) else {
            continue;
        };
        let mark = if row == middle { '>' } else { ' ' };
        write!(f, "{mark}{:016x}:", memory.as_u64())?;
        for at in 0..ROW {
            match row.checked_add(at).and_then(read_shadow) {
                Some(byte) => write!(f, " {byte:02x}")?,
                None => write!(f, " ..")?,
            }
        }
        writeln!(f)?;
        if row == middle {
            // Behind the mark, the address and its colon, three columns a byte.
            let column = 1 + 16 + 1 + 3 * (bad - middle) as usize + 1;
            writeln!(f, "{:column$}^", "")?;
        }
    }
    Ok(())
}
