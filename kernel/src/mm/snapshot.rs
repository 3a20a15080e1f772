//! The tables that bring-up made, told to the oracle; and the memory that it works in.

use super::{
    layout::{LINEAR, UPPER_HALF},
    linear_map::{self, Linear},
    page_table::{PageTable, TableMemory},
};
use crate::{event, oracle};
use aarch64_cpu::registers::{Readable, TCR_EL1, TTBR0_EL1, TTBR1_EL1};
use vmsa::{Frame, Kind, Level, PAGE_SIZE, PTRS_PER_TABLE, VirtAddr};

/// Pages that the oracle needs in a machine with so many.
pub(super) fn pages(ram: u64) -> u64 {
    oracle::memory_for(ram).div_ceil(PAGE_SIZE / 8)
}

/// Has the oracle begin, in `count` pages from `at` on, which are kept for it and mapped; and tells
/// it what is mapped.
///
/// # Errors
/// Why the file for the trace could not be made.
pub(super) fn begin(
    at: Frame,
    count: u64,
    config: oracle::Config,
    trace: Option<&str>,
) -> Result<(), &'static str> {
    let words = linear_map::virt(at.start()).as_mut_ptr::<u64>();
    // SAFETY: the frames are kept for this, are mapped, and nobody else knows of them; zeroes are
    // valid.
    let memory = unsafe {
        words.write_bytes(0, (count * PAGE_SIZE / 8) as usize);
        core::slice::from_raw_parts_mut(words, (count * PAGE_SIZE / 8) as usize)
    };
    oracle::begin(memory, config, trace)?;
    event!(Online);
    event!(Tcr(TCR_EL1.get()));
    event!(Ttbr0(TTBR0_EL1.get()));
    event!(Ttbr1(TTBR1_EL1.get()));
    event!(LinearMap(LINEAR));
    entries();
    Ok(())
}

/// Tells of every valid entry of the live tables. A table that is linked again and again, as those
/// of the shared shadow are, is told of the first time: an entry is one, wherever it is reached
/// from.
fn entries() {
    let kernel = linear_map::kernel();
    let mut last = [None; 4];
    table(
        &kernel,
        kernel.root(),
        Level::L0,
        UPPER_HALF.start(),
        &mut last,
    );
}

/// Tells of the entries of a table, whose first maps `base`, and of the tables below. `last` is
/// where the last link of each level led.
fn table(
    kernel: &PageTable<Linear>,
    frame: Frame,
    level: Level,
    base: VirtAddr,
    last: &mut [Option<Frame>; 4],
) {
    for index in 0..PTRS_PER_TABLE {
        let va = base + index as u64 * level.bytes();
        let entry = kernel.memory().entry(frame, index);
        let value = entry.load();
        if !value.is_valid() {
            continue;
        }
        event!(Snapshot(entry.told(va, level, value)));
        if let (Kind::Table(next), Some(below)) = (value.kind(level), level.next()) {
            let next = Frame::containing(next);
            if last[level as usize].replace(next) != Some(next) {
                table(kernel, next, below, va, last);
            }
        }
    }
}
