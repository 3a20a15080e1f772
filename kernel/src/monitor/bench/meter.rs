//! The meter: executed instructions, barriers and TLBIs of so many rounds of something.
//!
//! The virtual counter counts instructions where QEMU is told to ([`time::counts_instructions`]); the
//! kernel's own counters say the rest. What the loop and the readings take is measured, by the same
//! code around nothing, and taken off. No barrier orders the readings: one instruction is one tick
//! here, and an ISB would be among those that are counted.

use crate::{
    arch::time,
    mm::{address_space, set_memory, vmalloc},
    trace::Counts,
};
use core::{arch::asm, fmt, hint::black_box};

/// Why a case came to no end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trouble {
    /// No pages.
    OutOfMemory,
    /// No area, or none to free.
    Area(vmalloc::Error),
    /// Permissions were not changed.
    Permissions(set_memory::Error),
    /// A program's memory was not there, or was not changed.
    Space(address_space::Error),
    /// A page did not come.
    Fault(address_space::FaultError),
}

impl From<crate::mm::page_alloc::OutOfMemory> for Trouble {
    fn from(_: crate::mm::page_alloc::OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl From<vmalloc::Error> for Trouble {
    fn from(error: vmalloc::Error) -> Self {
        Self::Area(error)
    }
}

impl From<set_memory::Error> for Trouble {
    fn from(error: set_memory::Error) -> Self {
        Self::Permissions(error)
    }
}

impl From<address_space::Error> for Trouble {
    fn from(error: address_space::Error) -> Self {
        Self::Space(error)
    }
}

impl From<address_space::FaultError> for Trouble {
    fn from(error: address_space::FaultError) -> Self {
        Self::Fault(error)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::Area(error) => write!(f, "vmalloc: {error}"),
            Self::Permissions(error) => write!(f, "set_memory: {error}"),
            Self::Space(error) => write!(f, "address space: {error}"),
            Self::Fault(error) => write!(f, "fault: {error}"),
        }
    }
}

/// What something took, or did not come to.
pub(super) type Measured<T = Cost> = Result<T, Trouble>;

/// What so many rounds of something took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) rounds: u64,
    pub(super) instructions: u64,
    pub(super) dsb: u64,
    pub(super) isb: u64,
    pub(super) tlbi: u64,
}

impl Cost {
    /// Takes off what the measuring took; that has no barriers.
    fn less(self, overhead: Self) -> Self {
        Self {
            instructions: self.instructions.saturating_sub(overhead.instructions),
            ..self
        }
    }

    /// As many rounds of one thing and of what followed.
    pub(super) fn and(self, next: Self) -> Self {
        Self {
            rounds: self.rounds + next.rounds,
            instructions: self.instructions + next.instructions,
            dsb: self.dsb + next.dsb,
            isb: self.isb + next.isb,
            tlbi: self.tlbi + next.tlbi,
        }
    }
}

/// A reading of everything.
struct Reading {
    counts: Counts,
    ticks: u64,
}

impl Reading {
    #[inline(always)]
    fn begin() -> Self {
        // The ticks last: what the other reading takes is not between the two.
        let counts = Counts::now();
        Self {
            counts,
            ticks: time::now(),
        }
    }

    #[inline(always)]
    fn end(self, rounds: u64) -> Cost {
        let instructions = time::now() - self.ticks;
        let counts = self.counts.since();
        Cost {
            rounds,
            instructions,
            dsb: counts.dsb as u64,
            isb: counts.isb as u64,
            tlbi: counts.tlbi as u64,
        }
    }
}

/// `body`, `rounds` times, with the number of the round.
#[inline(never)]
fn timed(rounds: u64, mut body: impl FnMut(u64) -> Result<(), Trouble>) -> Measured {
    let reading = Reading::begin();
    for round in 0..rounds {
        body(black_box(round))?;
    }
    Ok(reading.end(rounds))
}

/// Where a measured stretch begins, and where it ends: `make profile` counts what QEMU executes
/// between the first two.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bench_begin() {
    // SAFETY: it does nothing. The comments differ so that the two functions are not made one.
    unsafe { asm!("nop // begin", options(nostack, preserves_flags)) };
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bench_end() {
    // SAFETY: as above.
    unsafe { asm!("nop // end", options(nostack, preserves_flags)) };
}

/// A stretch, with a mark at either end.
fn marked<R>(stretch: impl FnOnce() -> R) -> R {
    bench_begin();
    let result = stretch();
    bench_end();
    result
}

/// Rounds before those that are measured: lists are filled, tables are there.
pub(super) fn warm_up(
    rounds: u64,
    mut body: impl FnMut(u64) -> Result<(), Trouble>,
) -> Measured<()> {
    (0..rounds).try_for_each(&mut body)
}

/// What `rounds` rounds of `body` take, all of them together.
pub(super) fn measure(rounds: u64, body: impl FnMut(u64) -> Result<(), Trouble>) -> Measured {
    let cost = marked(|| timed(rounds, body))?;
    Ok(cost.less(timed(rounds, |_| Ok(()))?))
}

/// Two things in turns, each on its own.
#[inline(never)]
fn timed_in_turns(
    rounds: u64,
    mut first: impl FnMut(u64) -> Result<(), Trouble>,
    mut second: impl FnMut(u64) -> Result<(), Trouble>,
) -> Measured<[Cost; 2]> {
    let mut costs = [Cost::default(); 2];
    for round in 0..rounds {
        let reading = Reading::begin();
        first(black_box(round))?;
        costs[0] = costs[0].and(reading.end(1));
        let reading = Reading::begin();
        second(black_box(round))?;
        costs[1] = costs[1].and(reading.end(1));
    }
    Ok(costs)
}

/// What `rounds` rounds of `first` and `second`, in turns, take.
pub(super) fn measure_in_turns(
    rounds: u64,
    first: impl FnMut(u64) -> Result<(), Trouble>,
    second: impl FnMut(u64) -> Result<(), Trouble>,
) -> Measured<[Cost; 2]> {
    let costs = marked(|| timed_in_turns(rounds, first, second))?;
    let overhead = timed_in_turns(rounds, |_| Ok(()), |_| Ok(()))?;
    Ok([costs[0].less(overhead[0]), costs[1].less(overhead[1])])
}

/// No purge comes later than after so many rounds that free an area: 8,192 pages may wait, and each has
/// two with its guard page.
const LONGEST_CYCLE: u64 = 5000;

/// Does `body` until there is a purge, and says after how many rounds; `None` where it makes none.
pub(super) fn until_purge(
    body: &mut impl FnMut(u64) -> Result<(), Trouble>,
) -> Measured<Option<u64>> {
    let purges = || vmalloc::unpurged().2;
    let before = purges();
    for round in 1..=LONGEST_CYCLE {
        body(round)?;
        if purges() != before {
            return Ok(Some(round));
        }
    }
    Ok(None)
}
