//! The judge of this machine, and what it found.
//!
//! One lock orders the events of all CPUs. It is a raw one, taken with interrupts masked: whatever
//! the kernel's own locks would tell of themselves would have to be judged here. For the same
//! reason nothing in here may cause an event, not even print. The memory is lent by bring-up, and
//! the page allocator never hears of it.

#[cfg(target_os = "none")]
use super::sink::Sink;
#[cfg(target_os = "none")]
use crate::arch::cpu;
use core::{
    cell::UnsafeCell,
    mem::MaybeUninit,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};
use mmu_oracle::{Event, Memory, Oracle, Stats, Violation};

pub use mmu_oracle::{Config, Rule, event::Boundary};

/// Violations that are kept word for word between two reports; more are counted.
const KEPT: usize = 4;

/// All that the lock guards.
struct State {
    oracle: Oracle<'static>,
    config: Config,
    #[cfg(target_os = "none")]
    sink: Option<Sink>,
    /// What no report has told yet.
    found: Found,
    /// Rules that the code now running breaks on purpose, a bit each.
    expected: u32,
    /// Of those, the ones that it broke.
    came: u32,
    /// How often a rule was broken on purpose since the start.
    on_purpose: u64,
    /// Whether anything was found that no report has called expected.
    failed: bool,
    /// Who hears of events beside the judge: room, and how many came.
    hearer: Option<(*mut Event, usize, usize)>,
}

/// What was found since the last report.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The first violations.
    pub violations: [Option<Violation>; KEPT],
    /// All of them.
    pub count: u64,
    /// Rules that were to be broken and were not, a bit each.
    missing: u32,
    /// Events came while one was judged, and were lost.
    pub lost: bool,
}

impl Found {
    const NOTHING: Self = Self {
        violations: [const { None }; KEPT],
        count: 0,
        missing: 0,
        lost: false,
    };

    /// Whether there is nothing to report.
    pub fn is_nothing(&self) -> bool {
        self.count == 0 && self.missing == 0 && !self.lost
    }

    /// The rules that were to be broken and were not.
    pub fn missing(&self) -> impl Iterator<Item = Rule> {
        let missing = self.missing;
        Rule::ALL
            .into_iter()
            .filter(move |rule| missing & bit(*rule) != 0)
    }
}

fn bit(rule: Rule) -> u32 {
    1 << rule as u32
}

struct Watch {
    /// Events are judged.
    on: AtomicBool,
    /// The CPU that holds the lock, plus one; 0 for none.
    holder: AtomicU32,
    /// See [`Found::lost`].
    lost: AtomicBool,
    state: UnsafeCell<Option<State>>,
}

// SAFETY: `state` is reached in `with` alone, by whoever holds the lock.
unsafe impl Sync for Watch {}

static WATCH: Watch = Watch {
    on: AtomicBool::new(false),
    holder: AtomicU32::new(0),
    lost: AtomicBool::new(false),
    state: UnsafeCell::new(None),
};

/// Calls `action` with the lock held; `None` where this CPU holds it already.
fn with_slot<R>(action: impl FnOnce(&mut Option<State>) -> R) -> Option<R> {
    #[cfg(target_os = "none")]
    let (_masked, me) = (cpu::mask_interrupts(), cpu::id() + 1);
    #[cfg(not(target_os = "none"))]
    let me = 1;
    if WATCH.holder.load(Ordering::Relaxed) == me {
        WATCH.lost.store(true, Ordering::Relaxed);
        return None;
    }
    while WATCH
        .holder
        .compare_exchange_weak(0, me, Ordering::Acquire, Ordering::Relaxed)
        .is_err()
    {
        #[cfg(target_os = "none")]
        if is_orphaned() {
            WATCH.lost.store(true, Ordering::Relaxed);
            return None;
        }
        core::hint::spin_loop();
    }
    // SAFETY: the lock is held, by this call alone.
    let result = action(unsafe { &mut *WATCH.state.get() });
    WATCH.holder.store(0, Ordering::Release);
    Some(result)
}

/// Whether the CPU that holds the lock has stopped for good: it panicked in the judge, and another
/// one had called the end already. No IPI stops a CPU in here: interrupts are masked.
#[cfg(target_os = "none")]
fn is_orphaned() -> bool {
    let holder = WATCH.holder.load(Ordering::Relaxed);
    holder
        .checked_sub(1)
        .and_then(|holder| cpu::per_cpu(holder as usize))
        .is_some_and(cpu::PerCpu::has_stopped)
        // It may have given the lock back in between, and stopped after that: then the acquire in
        // `has_stopped` has this load see it.
        && WATCH.holder.load(Ordering::Relaxed) == holder
}

/// The same where a judge is there.
fn with<R>(action: impl FnOnce(&mut State) -> R) -> Option<R> {
    with_slot(|slot| slot.as_mut().map(action)).flatten()
}

/// Words that an oracle needs for a machine of so many pages: each may be mapped in the linear map
/// and once more, and all of them may leave the linear map at once.
pub fn memory_for(pages: u64) -> u64 {
    /// Entries beside those: shadow, scratch, pages that are mapped again and again.
    const FURTHER: usize = 16 << 10;
    #[cfg(target_os = "none")]
    let buffer = Sink::WORDS;
    #[cfg(not(target_os = "none"))]
    let buffer = 0;
    (Memory::words_for(2 * pages as usize + FURTHER) + buffer) as u64
}

/// Begins to judge, in `memory`, and to save every event to a file on the host, if one is named.
///
/// # Errors
/// Why the file could not be made.
// Not in the frame of whoever goes on from here: the judge is some 6 KiB, and moved.
#[inline(never)]
pub fn begin(
    memory: &'static mut [u64],
    config: Config,
    trace: Option<&str>,
) -> Result<(), &'static str> {
    #[cfg(target_os = "none")]
    let (memory, sink) = match trace {
        Some(path) => {
            let (sink, rest) = Sink::open(path, config.ets2, memory)?;
            (rest, Some(sink))
        }
        None => (memory, None),
    };
    #[cfg(not(target_os = "none"))]
    let _ = trace;
    with_slot(|slot| {
        *slot = Some(State {
            oracle: Oracle::new(Memory::new(memory), config),
            config,
            #[cfg(target_os = "none")]
            sink,
            found: Found::NOTHING,
            expected: 0,
            came: 0,
            on_purpose: 0,
            failed: false,
            hearer: None,
        });
    });
    WATCH.on.store(true, Ordering::Relaxed);
    Ok(())
}

/// Whether events are judged.
#[inline]
pub fn is_watching() -> bool {
    WATCH.on.load(Ordering::Relaxed)
}

/// Judges an event.
pub fn judge(event: &Event) {
    with(|state| {
        #[cfg(target_os = "none")]
        if let Some(sink) = &mut state.sink {
            sink.push(event);
        }
        if let Some((memory, room, came)) = &mut state.hearer {
            if came < room {
                // SAFETY: `heard` lent room for so many, and waits.
                unsafe { memory.add(*came).write(*event) };
            }
            *came += 1;
        }
        if let Some(violation) = state.oracle.judge(event) {
            state.take(violation);
        }
    });
}

/// Runs `action`, and puts what was told meanwhile into `memory`: how many events came, room for
/// them or not. For tests; one at a time.
pub fn heard(memory: &mut [MaybeUninit<Event>], action: impl FnOnce()) -> usize {
    let (start, room) = (memory.as_mut_ptr().cast(), memory.len());
    with(|state| state.hearer = Some((start, room, 0)));
    action();
    with(|state| state.hearer.take())
        .flatten()
        .map_or(0, |(_, _, came)| came)
}

impl State {
    fn expect(&mut self, rules: u32) {
        self.expected = rules;
        #[cfg(target_os = "none")]
        if let Some(sink) = &mut self.sink {
            sink.expect(Rule::ALL.into_iter().filter(|rule| rules & bit(*rule) != 0));
        }
    }

    fn take(&mut self, violation: Violation) {
        let bit = bit(violation.rule);
        if self.expected & bit != 0 {
            self.came |= bit;
            self.on_purpose += 1;
            return;
        }
        if let Some(slot) = self.found.violations.get_mut(self.found.count as usize) {
            *slot = Some(violation);
        }
        self.found.count += 1;
        self.failed = true;
    }
}

/// Runs `action`, which breaks `rules` on purpose: those are counted and not reported. Each must be
/// broken at least once, or that is what is reported.
///
/// With FEAT_ETS2 nothing can be not visible that holds data, so nothing is expected to be.
pub fn expect<R>(rules: &[Rule], action: impl FnOnce() -> R) -> R {
    let before = with(|state| {
        let needs_none = if state.config.ets2 {
            bit(Rule::NotVisible) | bit(Rule::LeaveWithoutBarriers)
        } else {
            0
        };
        let wanted = rules.iter().fold(0, |set, rule| set | bit(*rule)) & !needs_none;
        let before = (state.expected, state.came, wanted);
        state.came = 0;
        state.expect(state.expected | wanted);
        before
    });
    let result = action();
    if let Some((expected, came, wanted)) = before {
        with(|state| {
            let missing = wanted & !state.came;
            state.found.missing |= missing;
            state.failed |= missing != 0;
            state.expect(expected);
            state.came |= came;
        });
    }
    result
}

/// What was found since this was asked last.
pub fn take() -> Found {
    let lost = WATCH.lost.swap(false, Ordering::Relaxed);
    with(|state| {
        state.failed |= lost;
        let found = core::mem::replace(&mut state.found, Found::NOTHING);
        Found { lost, ..found }
    })
    .unwrap_or(Found {
        lost,
        ..Found::NOTHING
    })
}

/// What was judged so far, and how often a rule was broken on purpose.
pub fn stats() -> Option<(Stats, u64)> {
    with(|state| (state.oracle.stats(), state.on_purpose))
}

/// Ends it: what comes later is not judged, and the file is complete. Returns whether anything was
/// ever found that was not expected, or `None` where nothing was watched.
pub fn end() -> Option<bool> {
    WATCH.on.store(false, Ordering::Relaxed);
    with(|state| {
        #[cfg(target_os = "none")]
        if let Some(sink) = state.sink.take()
            && sink.close().is_err()
        {
            state.failed = true;
        }
        state.failed
    })
}
