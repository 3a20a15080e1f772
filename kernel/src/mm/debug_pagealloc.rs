//! DEBUG_PAGEALLOC: a free page is not there. And page poisoning: a free page holds 0xAA, and still
//! does when it is allocated.
//!
//! The hooks of the page allocator end up here, inside whatever lazy section their caller has open:
//! this is the other end of the circle. Freed pages are filled, then taken out of the linear map,
//! then flushed from every TLB, and only then free; allocated pages are put back, which needs
//! barriers but no TLBI, then checked. All pages of one call share one section; one page by itself,
//! where nobody watches, needs none (`linear_map::SingleLeaf`).
//!
//! Interrupt handlers allocate and free, too, and come here inside whatever the task under them has
//! open. What they store is never queued, and they leave the queue of the task alone. That is sound
//! because no entry that they can reach is in it: a queued store of the linear map is about pages on
//! their way from or to a list, in this very task (the end of the section here, or the flush, makes
//! it before the pages are anywhere else), or about pages that somebody owns. The pages of a handler
//! are neither: it took them from a list.

#[cfg(all(feature = "ktests", target_os = "none"))]
mod ktests;

use super::{
    linear_map,
    page_alloc::{self, Hooks, OutOfMemory, Pages},
    tlb::flush_unflushed,
    unflushed::Unflushed,
};
use crate::{
    arch::{backtrace, record::span},
    event, task,
    unusual::{self, Tool},
    warning,
};
use core::{
    cell::UnsafeCell,
    fmt,
    panic::Location,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering},
};
use vmsa::{Frame, PAGE_SIZE, VirtAddr};

/// What a freed page is filled with (PAGE_POISON in Linux).
pub const POISON: u8 = 0xaa;
const POISON_WORD: u64 = u64::from_ne_bytes([POISON; 8]);

/// How many return addresses the history of a page keeps.
const CALLERS: usize = 4;

/// What happened to a page last, and who did it: 64 bytes, kept with DEBUG_PAGEALLOC alone.
///
/// No lock guards it: a page whose history is written is on its way from a free list to its owner or
/// back, and belongs to the call that takes it there. A report may read at any time, and may then
/// find half of an event and half of the next.
#[derive(Debug)]
#[repr(C)]
pub struct History {
    allocated: Slot,
    freed: Slot,
}

/// An [`Event`] in a history. Zeros are none.
#[derive(Debug)]
#[repr(C)]
struct Slot {
    at: AtomicPtr<Location<'static>>,
    /// Two in a word.
    callers: [AtomicU64; CALLERS / 2],
    task: AtomicU64,
}

impl Slot {
    #[expect(
        clippy::declare_interior_mutable_const,
        reason = "an initial value, copied into each history"
    )]
    const EMPTY: Self = Self {
        at: AtomicPtr::new(core::ptr::null_mut()),
        callers: [const { AtomicU64::new(0) }; CALLERS / 2],
        task: AtomicU64::new(0),
    };

    #[inline]
    fn enter(&self, event: &Event) {
        let at = event.at.map_or(core::ptr::null(), core::ptr::from_ref);
        self.at.store(at.cast_mut(), Ordering::Relaxed);
        for (slot, two) in self.callers.iter().zip(event.callers.as_chunks::<2>().0) {
            let two = two[0] & u64::from(u32::MAX) | two[1] << 32;
            slot.store(two, Ordering::Relaxed);
        }
        self.task.store(u64::from(event.task), Ordering::Relaxed);
    }

    fn read(&self) -> Event {
        let mut callers = [0; CALLERS];
        for (two, slot) in callers.as_chunks_mut::<2>().0.iter_mut().zip(&self.callers) {
            let word = slot.load(Ordering::Relaxed);
            *two = [word & u64::from(u32::MAX), word >> 32];
        }
        Event {
            // SAFETY: null, or what `enter` was given: a reference to a static.
            at: unsafe { self.at.load(Ordering::Relaxed).as_ref() },
            callers,
            task: self.task.load(Ordering::Relaxed) as u32,
        }
    }
}

/// What happened to a page, and who did it.
#[derive(Clone, Copy, Debug)]
struct Event {
    at: Option<&'static Location<'static>>,
    /// Return addresses; 0 ends them. Only their lower halves mean anything.
    callers: [u64; CALLERS],
    task: u32,
}

impl Event {
    fn now(at: &'static Location<'static>) -> Self {
        Self {
            at: Some(at),
            callers: backtrace::callers().map(u64::from),
            task: task::current().id,
        }
    }

    fn describe(&self, what: &str, out: &mut dyn fmt::Write) -> fmt::Result {
        let Some(at) = self.at else {
            return writeln!(out, "  never {what} since boot");
        };
        writeln!(out, "  {what} by task {} at {at}", self.task)?;
        self.callers
            .iter()
            .take_while(|caller| **caller != 0)
            .try_for_each(|caller| {
                writeln!(
                    out,
                    "    [<{:016x}>]",
                    backtrace::caller_address(*caller as u32)
                )
            })
    }
}

impl History {
    /// Of a page that nothing has happened to.
    #[expect(
        clippy::declare_interior_mutable_const,
        reason = "an initial value, copied into each history"
    )]
    pub const NONE: Self = Self {
        allocated: Slot::EMPTY,
        freed: Slot::EMPTY,
    };
}

const _: () = assert!(size_of::<History>() <= 64);

/// The histories of the frames from the first on.
#[derive(Clone, Copy)]
struct Histories {
    base: u64,
    of: &'static [History],
}

impl Histories {
    /// That of a frame, if one is kept.
    #[inline(always)]
    fn get(self, frame: Frame) -> Option<&'static History> {
        // A frame below the base becomes an index beyond all.
        let index = frame.number().wrapping_sub(self.base);
        self.of.get(index as usize)
    }
}

/// [`Histories`] that are written once, and read as any other data.
struct Published(UnsafeCell<Histories>);

// SAFETY: written in `install` alone, when nobody else is there.
unsafe impl Sync for Published {}

static HISTORIES: Published = Published(UnsafeCell::new(Histories { base: 0, of: &[] }));

/// The histories that are kept: of no frame without DEBUG_PAGEALLOC.
#[inline(always)]
fn histories() -> Histories {
    // SAFETY: nobody writes it: `install` does so when nobody else is there.
    unsafe { *HISTORIES.0.get() }
}

static UNMAPS: AtomicBool = AtomicBool::new(false);
static POISONS: AtomicBool = AtomicBool::new(false);

/// Turns on what is asked for. With `histories` (one for each frame from `base` on) free pages
/// leave the linear map, which they must have left already; with `poison` they are filled.
///
/// # Safety
/// Only once, in bring-up, before there are other CPUs and handlers.
pub unsafe fn install(histories: Option<(Frame, &'static [History])>, poison: bool) {
    if histories.is_some() {
        unusual::has(Tool::DebugPagealloc);
    }
    UNMAPS.store(histories.is_some(), Ordering::Relaxed);
    POISONS.store(poison, Ordering::Relaxed);
    let unmaps = histories.is_some();
    if let Some((base, of)) = histories {
        let base = base.number();
        // SAFETY: the caller's promise: nobody reads it now.
        unsafe { *HISTORIES.0.get() = Histories { base, of } };
    }
    match (unmaps, poison) {
        (true, false) => page_alloc::install(&UNMAPPING),
        (_, true) => page_alloc::install(&HOOKS),
        (false, false) => {}
    }
}

/// Whether free pages are filled.
#[cfg(feature = "ktests")]
pub fn poisons() -> bool {
    POISONS.load(Ordering::Relaxed)
}

/// Whether free pages leave the linear map.
#[inline]
pub fn is_on() -> bool {
    UNMAPS.load(Ordering::Relaxed)
}

/// A page is about to be handed out.
fn page_allocated(at: &'static Location<'static>, page: Frame) -> Result<Frame, OutOfMemory> {
    // Where it is to be mapped, no more, and nobody watches that, there is a short way. It calls
    // nothing, but for the long one at its end, and so keeps nothing on the stack.
    let Some(leaf) = linear_map::single_leaf(page).filter(|_| !unusual::anything()) else {
        return page_allocated_in_full(at, page);
    };
    remember_one(page, at, |history| &history.allocated);
    leaf.appear();
    Ok(page)
}

/// A page has come back; nobody can get it before this returns.
fn page_freed(page: Frame, at: &'static Location<'static>) {
    let Some(leaf) = linear_map::single_leaf(page).filter(|_| !unusual::anything()) else {
        return page_freed_in_full(page, at);
    };
    remember_one(page, at, |history| &history.freed);
    leaf.go();
}

#[cold]
#[inline(never)]
fn page_allocated_in_full(
    at: &'static Location<'static>,
    page: Frame,
) -> Result<Frame, OutOfMemory> {
    linear_map::look_up_leaf(page);
    allocated(Pages::Block(page, 0), at);
    Ok(page)
}

#[cold]
#[inline(never)]
fn page_freed_in_full(page: Frame, at: &'static Location<'static>) {
    linear_map::look_up_leaf(page);
    freed(Pages::Block(page, 0), None, at);
}

/// What is called where pages are filled, or stay mapped.
static HOOKS: Hooks = Hooks {
    allocated,
    freed,
    page_allocated: page_allocated_in_full,
    page_freed: page_freed_in_full,
};

/// What is called where free pages leave the linear map, no more.
static UNMAPPING: Hooks = Hooks {
    page_allocated,
    page_freed,
    ..HOOKS
};

/// Pages are about to be handed out.
#[inline(never)]
fn allocated(pages: Pages<'_>, at: &'static Location<'static>) {
    if UNMAPS.load(Ordering::Relaxed) {
        let _span = span("debug_pagealloc_map_pages");
        remember(pages, |history| &history.allocated, at);
        linear_map::set_direct_map_valid(pages, true);
    }
    // A page that was never freed holds whatever memory held at reset: nothing to check.
    if POISONS.load(Ordering::Relaxed) {
        check_poisoned(pages);
    }
}

/// Pages have come back; nobody can get them before this returns.
#[inline(never)]
fn freed(pages: Pages<'_>, mut unflushed: Option<Unflushed>, at: &'static Location<'static>) {
    let (poisons, none) = (POISONS.load(Ordering::Relaxed), pages.count() == 0);
    // Who fills a page has it alone: then the addresses can't wait for the pages. And no pages, no
    // flush.
    if (poisons || none)
        && let Some(unflushed) = unflushed.take()
    {
        flush_unflushed(unflushed);
    }
    if none {
        return;
    }
    if poisons {
        poison(pages);
    }
    if UNMAPS.load(Ordering::Relaxed) {
        let _span = span("debug_pagealloc_unmap_pages");
        remember(pages, |history| &history.freed, at);
        linear_map::set_direct_map_invalid(pages, unflushed);
    }
}

// Out of line, both: the hooks would save their registers for them where there is no poison.

#[inline(never)]
fn check_poisoned(pages: Pages<'_>) {
    page_alloc::for_each_poisoned(pages, check_poison);
}

#[inline(never)]
fn poison(pages: Pages<'_>) {
    for (first, count) in pages.runs() {
        #[cfg(feature = "oracle")]
        (0..count)
            .filter_map(|n| first.checked_add(n))
            .for_each(linear_map::tell_written);
        let start = linear_map::virt(first.start()).as_mut_ptr::<u8>();
        // SAFETY: the pages are in the linear map, and their user has given them up.
        unsafe { start.write_bytes(POISON, (count * PAGE_SIZE) as usize) };
    }
    page_alloc::mark_poisoned(pages);
}

/// Looks whether somebody wrote to a page while it was free (check_poison_mem in Linux).
fn check_poison(frame: Frame) {
    let start = linear_map::virt(frame.start());
    event!(Access {
        va: start,
        access: event::Access::Read,
    });
    // SAFETY: the page is in the linear map again, and its new user does not have it yet.
    let words =
        unsafe { core::slice::from_raw_parts(start.as_ptr::<u64>(), PAGE_SIZE as usize / 8) };
    let Some(index) = words.iter().position(|word| *word != POISON_WORD) else {
        return;
    };
    let wrong = words[index];
    let bits: u32 = words
        .iter()
        .map(|word| (word ^ POISON_WORD).count_ones())
        .sum();
    let what = if bits == 1 {
        "single bit error"
    } else {
        "memory corruption"
    };
    warning!(
        "pagealloc: {what} in free page {:#x}: {:#018x} at {}, {POISON_WORD:#018x} expected\n{}",
        frame.number(),
        wrong,
        start + index as u64 * 8,
        Described(frame),
    );
}

/// Enters an event into the history of a page.
#[inline(always)]
fn remember_one(page: Frame, at: &'static Location<'static>, slot: impl Fn(&History) -> &Slot) {
    if let Some(history) = histories().get(page) {
        slot(history).enter(&Event {
            at: Some(at),
            callers: backtrace::callers_of_this(),
            task: task::current().id,
        });
    }
}

/// Enters an event into the history of each page.
fn remember(pages: Pages<'_>, slot: impl Fn(&History) -> &Slot, at: &'static Location<'static>) {
    let histories = histories();
    let event = Event::now(at);
    for (first, count) in pages.runs() {
        // RAM and the histories of it begin and end at the same frames.
        let start = first.number().wrapping_sub(histories.base) as usize;
        let of = histories.of.get(start..).unwrap_or_default();
        of.iter()
            .take(count as usize)
            .for_each(|history| slot(history).enter(&event));
    }
}

/// The numbers of the frames whose history is kept, if any is.
pub fn known() -> Option<core::ops::Range<u64>> {
    let Histories { base, of } = histories();
    (!of.is_empty()).then(|| base..base + of.len() as u64)
}

/// Says what is known of a page: who allocated and who freed it last, and from where.
pub fn describe(frame: Frame, out: &mut dyn fmt::Write) -> fmt::Result {
    match histories().get(frame) {
        None => writeln!(out, "  no history is kept of page {:#x}", frame.number()),
        Some(history) => {
            history.allocated.read().describe("allocated", out)?;
            history.freed.read().describe("freed", out)
        }
    }
}

struct Described(Frame);

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(self.0, f)
    }
}

/// Says that an address of the linear map belongs to a free page, if it does: the reports of faults
/// ask. Returns whether it did.
pub fn explain(va: VirtAddr, out: &mut dyn fmt::Write) -> Result<bool, fmt::Error> {
    let Some(frame) = linear_map::frame_of(va) else {
        return Ok(false);
    };
    if !is_on() || !page_alloc::is_free(frame) {
        return Ok(false);
    }
    writeln!(
        out,
        "BUG: use after free: {va} is in page {:#x} of the linear map, which is free",
        frame.number()
    )?;
    describe(frame, out)?;
    Ok(true)
}
