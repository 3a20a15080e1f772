//! What was invalidated beyond what had changed: pages of which a TLB had to forget a translation that
//! was still good, or that had never been.
//!
//! Counted from a recording of one more cycle, which is not measured: so no store pays for it.

use super::meter::{Measured, Trouble, until_purge};
use crate::{
    mm::vmalloc,
    trace::{self, Event, Incomplete, Kind},
};
use alloc::vec::Vec;
use core::{mem::MaybeUninit, slice};
use vmsa::{PAGE_SIZE, VirtAddr, tlbi::Operation};

/// Bytes for a recording: some hundred thousand events.
const ROOM: u64 = 24 << 20;

/// What a cycle invalidated, and how many rounds it had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Beyond {
    /// Rounds of the cycle.
    pub(super) rounds: u64,
    /// Pages that a TLBI named and that had not changed since they were last named.
    pub(super) pages: u64,
    /// TLBIs that name no page: all of the TLB goes, whatever had changed.
    pub(super) everything: u64,
}

/// Memory for a recording, given back at the end.
struct Room(VirtAddr);

impl Room {
    fn events(&mut self) -> &mut [MaybeUninit<Event>] {
        let count = ROOM as usize / size_of::<Event>();
        // SAFETY: the area is this value's own, mapped for as many bytes, and aligned to a page.
        unsafe { slice::from_raw_parts_mut(self.0.as_mut_ptr(), count) }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // It is an area: there is nothing to fail.
        let _ = vmalloc::vfree(self.0);
    }
}

/// Counts over the rounds of `body` from one purge to the next, or over one round if it makes none.
/// `None` where the recording had no room for them.
pub(super) fn count(
    purges: bool,
    body: &mut impl FnMut(u64) -> Result<(), Trouble>,
) -> Measured<Option<Beyond>> {
    let mut room = Room(vmalloc::vmalloc(ROOM)?);
    if purges {
        // What was freed before is not in the recording: it must not be purged there.
        until_purge(body)?;
    }
    let Some(mut recording) = trace::start(room.events()) else {
        return Ok(None);
    };
    let rounds = if purges {
        until_purge(body)?.unwrap_or(1)
    } else {
        body(0)?;
        1
    };
    match recording.events() {
        Ok(events) => Ok(Some(of(rounds, events))),
        Err(Incomplete { .. }) => Ok(None),
    }
}

/// Counts in a recording.
fn of(rounds: u64, events: &[Event]) -> Beyond {
    let mut beyond = Beyond {
        rounds,
        ..Beyond::default()
    };
    let mut changed = Changed::default();
    for event in events {
        match event.kind {
            Kind::Store {
                va,
                level,
                old,
                new,
                ..
            } if old.is_valid() && new != old => {
                changed.add(va.as_u64(), level.bytes());
            }
            Kind::Tlbi(operation) => match named(operation) {
                Some((start, pages)) => {
                    beyond.pages += pages - changed.forget(start, pages * PAGE_SIZE) / PAGE_SIZE;
                }
                None => {
                    beyond.everything += 1;
                    changed = Changed::default();
                }
            },
            _ => {}
        }
    }
    beyond
}

/// The pages that a TLBI names, by the first address and their number.
fn named(operation: Operation) -> Option<(u64, u64)> {
    match operation {
        Operation::Vaale1is(operand)
        | Operation::Vaae1is(operand)
        | Operation::Vale1is(operand)
        | Operation::Vae1is(operand) => Some((operand.va()?.as_u64(), 1)),
        Operation::Rvaale1is(operand)
        | Operation::Rvaae1is(operand)
        | Operation::Rvale1is(operand)
        | Operation::Rvae1is(operand) => Some((operand.base().as_u64(), operand.pages())),
        Operation::Aside1is(_) | Operation::Vmalle1is | Operation::Vmalle1 => None,
    }
}

/// What entries that were changed map, as ranges: start and bytes. Sorted when asked.
#[derive(Debug, Default)]
struct Changed {
    ranges: Vec<(u64, u64)>,
    sorted: bool,
}

impl Changed {
    fn add(&mut self, start: u64, bytes: u64) {
        self.ranges.push((start, bytes));
        self.sorted = false;
    }

    /// Forgets what was changed in a range, and says how many bytes of the range that was.
    fn forget(&mut self, start: u64, bytes: u64) -> u64 {
        if !self.sorted {
            self.ranges.sort_unstable();
            self.ranges.dedup();
            self.sorted = true;
        }
        let end = start + bytes;
        // Pages and blocks do not overlap each other, so their ends are in order as well.
        let first = self.ranges.partition_point(|(at, size)| at + size <= start);
        let last = self.ranges.partition_point(|(at, _)| *at < end);
        let inside = self.ranges.drain(first..last);
        inside
            .map(|(at, size)| (at + size).min(end) - at.max(start))
            .sum()
    }
}
