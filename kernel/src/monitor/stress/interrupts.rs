//! What handlers do while tasks do the rest: at whatever moment an interrupt comes, in whatever
//! section it finds open, a handler changes leaves of addresses of its CPU's own, allocates and frees
//! pages, and frees areas that tasks have left to it; what it did holds when its call returns.

use super::{
    contents::{readable, store},
    dice::mix,
    leaves::LEAVES,
    room::MAX_TASKS,
    wrong::{Wrong, wrong},
};
use crate::{
    arch::{
        cpu::{self, MAX_CPUS},
        fixup::{probe_read_u64, probe_write_u64},
        interrupt::{self, Handlers},
        lock::{self, Mutex},
    },
    mm::{
        layout::SCRATCH,
        lazy, linear_map,
        page_alloc::{self, OutOfMemory},
        tlb::{Flush, Removed, flush_kernel_range},
        vmalloc,
    },
    task::{self, preempt, schedule},
};
use core::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use vmsa::{Attributes, Descriptor, Frame, Level, PageRange, VirtAddr};

/// Leaves of a CPU, behind those of the tasks.
const OWN: usize = 8;
/// Pages that the handlers of a CPU hold, at most.
const PAGES: usize = 6;
const _: () = assert!((MAX_TASKS * LEAVES + MAX_CPUS * OWN) as u64 <= SCRATCH.pages());

/// What the handlers of one CPU have in their hands.
struct Hands {
    random: u64,
    /// Mapped at each of the leaves that are mapped.
    frame: Option<Frame>,
    mark: u64,
    mapped: [bool; OWN],
    /// Pages that it allocated, each with a mark in its first word.
    pages: [Option<Frame>; PAGES],
    /// What was found wrong first, and where. A handler can't make a text of it: the heap's lock
    /// may be held by whom it interrupted.
    wrong: Option<(&'static str, VirtAddr)>,
}

/// A lock of its own for each CPU; a handler that finds it held does nothing.
static ALL: [Mutex<Hands>; MAX_CPUS] = [const {
    Mutex::new(Hands {
        random: 0,
        frame: None,
        mark: 0,
        mapped: [false; OWN],
        pages: [None; PAGES],
        wrong: None,
    })
}; MAX_CPUS];

/// Whether handlers do anything.
static ON: AtomicBool = AtomicBool::new(false);
/// How often one did, and how often inside a section of the task that it interrupted.
static HANDLED: AtomicU64 = AtomicU64::new(0);
static IN_SECTION: AtomicU64 = AtomicU64::new(0);

/// As they always are, with something to do besides.
static HANDLERS: Handlers = Handlers {
    context: |handle| (schedule::HANDLERS.context)(handle),
    timer: || {
        handle();
        (schedule::HANDLERS.timer)();
    },
    reschedule: || {
        handle();
        (schedule::HANDLERS.reschedule)();
    },
    call: || {
        handle();
        (schedule::HANDLERS.call)();
    },
    exit: || (schedule::HANDLERS.exit)(),
};

/// Called for each interrupt, with IRQ masked.
fn handle() {
    let here = cpu::id() as usize;
    if !ON.load(Acquire) {
        return;
    }
    let Some(mut hands) = ALL[here].try_lock() else {
        return;
    };
    // Under the first model a handler that changes page tables is wrong, and is warned of: what it
    // stores is put off with what the task has put off that it interrupted.
    if lazy::model().store_in_interrupt_warns() || hands.wrong.is_some() {
        return;
    }
    HANDLED.fetch_add(1, Relaxed);
    let interrupted = task::current().lazy_mmu_state.get();
    if interrupted.is_active(lazy::model(), false) {
        IN_SECTION.fetch_add(1, Relaxed);
    }
    let done = match hands.draw() % 4 {
        0 => hands.change_a_leaf(here),
        1 => hands.change_a_page(),
        _ => free_an_area(here),
    };
    hands.wrong = done.err();
}

/// Areas that tasks have left to the handlers of each CPU, by their addresses; 0 for none.
static LEFT: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
/// How many they have freed.
static FREED: AtomicU64 = AtomicU64::new(0);

/// Leaves an area to the handlers of a CPU. `false` if they have one.
pub(super) fn leave(cpu: usize, area: VirtAddr) -> bool {
    // What was stored in the area, and in its entries, is the handler's to know.
    lock::releases(&LEFT[cpu]);
    LEFT[cpu]
        .compare_exchange(0, area.as_u64(), Release, Relaxed)
        .is_ok()
}

/// Takes what was left to the handlers of a CPU.
fn take_left(cpu: usize) -> Option<VirtAddr> {
    let area = LEFT[cpu].swap(0, Acquire);
    lock::acquired(&LEFT[cpu]);
    VirtAddr::new(area).filter(|_| area != 0)
}

/// Frees an area, if one was left.
fn free_an_area(cpu: usize) -> Result<(), (&'static str, VirtAddr)> {
    let Some(area) = take_left(cpu) else {
        return Ok(());
    };
    FREED.fetch_add(1, Relaxed);
    vmalloc::vfree(area).map_err(|_| ("an area can't be freed", area))
}

fn leaf(cpu: usize, n: usize) -> VirtAddr {
    SCRATCH.page((MAX_TASKS * LEAVES + cpu * OWN + n) as u64)
}

impl Hands {
    fn draw(&mut self) -> u64 {
        // The increment of SplitMix64; `mix` is the rest of it.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.random)
    }

    /// Allocates a page, or frees one.
    fn change_a_page(&mut self) -> Result<(), (&'static str, VirtAddr)> {
        let n = self.draw() as usize % PAGES;
        let Some(frame) = self.pages[n].take() else {
            // None left is nothing wrong: the tasks may have all of them.
            if let Ok(frame) = page_alloc::allocate(0) {
                let va = linear_map::virt(frame.start());
                // SAFETY: the page is this handler's.
                let written = unsafe { probe_write_u64(va, self.mark ^ frame.number()) };
                self.pages[n] = Some(frame);
                written.map_err(|_| ("a handler's page can't be written", va))?;
            }
            return Ok(());
        };
        let va = linear_map::virt(frame.start());
        let found = probe_read_u64(va);
        if page_alloc::free(frame, 0).is_err() {
            return Err(("a handler's page can't be freed", va));
        }
        if found != Ok(self.mark ^ frame.number()) {
            return Err(("a handler's page does not hold what was written", va));
        }
        Ok(())
    }

    /// Maps a leaf, or unmaps it.
    fn change_a_leaf(&mut self, cpu: usize) -> Result<(), (&'static str, VirtAddr)> {
        let n = self.draw() as usize % OWN;
        let va = leaf(cpu, n);
        let Some(frame) = self.frame else {
            return Ok(());
        };
        let mapped = Descriptor::leaf(Level::L3, frame.start(), Attributes::KERNEL_DATA)
            .ok_or(("a frame that is not aligned", va))?;
        let (expected, new) = if self.mapped[n] {
            // By another translation than the one that it was used by last.
            if probe_read_u64(va) != Ok(self.mark) {
                return Err(("a handler's mapped leaf does not lead to its page", va));
            }
            (mapped, Descriptor::INVALID)
        } else {
            if readable(va) {
                return Err(("a handler's unmapped leaf can be read", va));
            }
            (Descriptor::INVALID, mapped)
        };
        let mut old = expected;
        let stored = linear_map::kernel().set_leaf(va, |held| {
            old = held;
            new
        });
        if stored.is_err() || old != expected {
            return Err(("a handler's leaf does not hold what it stored there", va));
        }
        self.mapped[n] = !self.mapped[n];
        if !self.mapped[n] {
            let page = PageRange::new(va, 1).ok_or(("a page that is no range", va))?;
            flush_kernel_range(page, Removed::Leaves);
            if readable(va) {
                return Err(("a handler unmapped its leaf, and it can be read", va));
            }
        } else if probe_read_u64(va) != Ok(self.mark) {
            return Err(("a handler mapped its leaf, and it can't be read", va));
        }
        Ok(())
    }
}

/// How often a handler did something, how often of that inside a section, and how many areas they
/// freed.
pub(super) fn handled() -> (u64, u64, u64) {
    (
        HANDLED.load(Relaxed),
        IN_SECTION.load(Relaxed),
        FREED.load(Relaxed),
    )
}

/// Calls `look` with the hands of each CPU, with interrupts masked.
fn each(mut look: impl FnMut(usize, &mut Hands)) {
    for (cpu, hands) in ALL.iter().enumerate() {
        let _masked = preempt::mask_interrupts();
        look(cpu, &mut hands.lock());
    }
}

/// Has handlers do these things, until the value is dropped.
pub(super) struct Handling(Option<&'static Handlers>);

impl Handling {
    /// Makes what they need. They begin with [`go_on`].
    pub(super) fn start(seed: u64) -> Result<Self, Wrong> {
        HANDLED.store(0, Relaxed);
        IN_SECTION.store(0, Relaxed);
        FREED.store(0, Relaxed);
        let no_memory = |OutOfMemory| wrong!("no memory to begin with");
        linear_map::kernel()
            .prepare(SCRATCH)
            .map_err(|error| wrong!("the scratch addresses: {error}"))?;
        // The links may be looked through before any leaf is stored below them.
        Flush::begin(1).finish();
        let mut frames = [None; MAX_CPUS];
        for (cpu, frame) in frames.iter_mut().enumerate() {
            let got = page_alloc::allocate(0).map_err(no_memory)?;
            store(linear_map::virt(got.start()), mix(seed ^ cpu as u64))?;
            *frame = Some(got);
        }
        each(|cpu, hands| {
            *hands = Hands {
                random: mix(seed).wrapping_add(cpu as u64),
                frame: frames[cpu],
                mark: mix(seed ^ cpu as u64),
                mapped: [false; OWN],
                pages: [None; PAGES],
                wrong: None,
            };
        });
        Ok(Self(interrupt::set_handlers(&HANDLERS)))
    }
}

/// They do things from here on.
pub(super) fn go_on() {
    ON.store(true, Release);
}

/// They do nothing from here on, and what they did was right. How many pages they hold; areas none,
/// and what they freed is free.
pub(super) fn pause() -> Result<u64, Wrong> {
    ON.store(false, Release);
    let (mut wrong, mut pages) = (None, 0);
    // Behind whoever is in there still.
    each(|_, hands| {
        wrong = wrong.or(hands.wrong);
        pages += hands.pages.iter().flatten().count() as u64;
    });
    // Whatever was wrong, what they have is given back.
    let freed = (0..MAX_CPUS)
        .filter_map(take_left)
        .map(|area| vmalloc::vfree(area).map_err(|error| wrong!("vfree({area}): {error}")))
        .fold(Ok(()), Result::and);
    vmalloc::wait_for_deferred();
    if let Some((what, va)) = wrong {
        return Err(wrong!("in interrupt context: {what}: {va}"));
    }
    freed.map(|()| pages)
}

/// Frees the pages that they hold. They do nothing meanwhile.
pub(super) fn free_pages() -> Result<(), Wrong> {
    let mut frames = [None; MAX_CPUS * PAGES];
    each(|cpu, hands| {
        frames[cpu * PAGES..][..PAGES].copy_from_slice(&core::mem::take(&mut hands.pages));
    });
    frames.into_iter().flatten().try_for_each(|frame| {
        page_alloc::free(frame, 0).map_err(|error| wrong!("page {frame} of a handler: {error}"))
    })
}

impl Drop for Handling {
    fn drop(&mut self) {
        // What they found wrong has been asked for before.
        let _ = pause();
        let _ = free_pages();
        if let Some(before) = self.0 {
            interrupt::set_handlers(before);
        }
        let mut frames = [None; MAX_CPUS];
        each(|cpu, hands| {
            frames[cpu] = hands.frame.take();
            hands.mapped = [false; OWN];
        });
        // What was given up is unmapped everywhere before it is freed.
        if let Some(all) = PageRange::new(leaf(0, 0), (MAX_CPUS * OWN) as u64) {
            let cleared = linear_map::kernel().apply_to_existing_page_range(all, |leaf| {
                if !leaf.get().is_none() {
                    leaf.take();
                }
                Ok(())
            });
            let mut flush = Flush::begin(all.pages());
            flush.add(all, Removed::Leaves);
            flush.finish();
            if cleared.is_err() {
                // Then they stay where they are.
                log::error!("stress: the leaves of the handlers can't be cleared");
                return;
            }
        }
        for frame in frames.into_iter().flatten() {
            // What the page allocator refuses it has told.
            let _ = page_alloc::free(frame, 0);
        }
    }
}
