//! `mmu_gather`: pages and tables that were unmapped from an address space, gathered until the TLB
//! flush after which they may be freed.
//!
//! As in Linux: the first few pages are kept in the gather itself, further ones in batches of one
//! page each, which the page allocator is asked for in the middle of the walk, inside its lazy
//! section: the chain of calls that the history begins with ([`next_batch`](Gather::next_batch)).
//! Where a batch can't be had, or there are enough, the walk stops, flushes, frees and goes on.
//!
//! The order is: lock the tables, enable, clear, disable, flush, unlock, free.

#[cfg(feature = "ktests")]
mod ktests;

use super::{
    lazy,
    linear_map::virt,
    page_alloc, shares,
    user_tlb::{self, Changed},
    zap_cost::{BATCH, BATCH_HEADER, LOCAL, MAX_BATCHES},
};
use crate::{
    arch::record::span,
    bug::{Bug, planted},
    event, warning,
};
use core::{
    ptr::NonNull,
    sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
};
use vmsa::{Frame, PAGE_SIZE, PageRange, PhysAddr, VirtAddr};

/// How the page of a batch is asked for inside a lazy section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Asking {
    /// As the model has it: inside the section, or, under `avoid`, outside.
    #[default]
    Model = 0,
    /// In a pause.
    Paused = 1,
}

static ASKING: AtomicU8 = AtomicU8::new(Asking::Model as u8);

/// Chooses how batches are asked for from now on.
pub fn ask(how: Asking) {
    ASKING.store(how as u8, Relaxed);
}

/// What gathers have done since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Flushes.
    pub flushes: u64,
    /// Batches allocated.
    pub batches: u64,
    /// Of those, inside a lazy section.
    pub batches_in_section: u64,
    /// Batches that could not be had.
    pub failures: u64,
    /// Bulk frees.
    pub frees: u64,
}

struct Counters {
    flushes: AtomicU64,
    batches: AtomicU64,
    batches_in_section: AtomicU64,
    failures: AtomicU64,
    frees: AtomicU64,
}

static COUNTERS: Counters = Counters {
    flushes: AtomicU64::new(0),
    batches: AtomicU64::new(0),
    batches_in_section: AtomicU64::new(0),
    failures: AtomicU64::new(0),
    frees: AtomicU64::new(0),
};

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// What gathers have done since boot.
pub fn stats() -> Stats {
    Stats {
        flushes: COUNTERS.flushes.load(Relaxed),
        batches: COUNTERS.batches.load(Relaxed),
        batches_in_section: COUNTERS.batches_in_section.load(Relaxed),
        failures: COUNTERS.failures.load(Relaxed),
        frees: COUNTERS.frees.load(Relaxed),
    }
}

/// What precedes the slots of a batch.
#[repr(C)]
struct Header {
    next: Option<NonNull<Batch>>,
    used: u32,
    _reserved: u32,
}

/// A page full of pages.
#[repr(C)]
struct Batch {
    header: Header,
    slots: [Gathered; BATCH],
}

const _: () = {
    assert!(size_of::<Header>() == BATCH_HEADER);
    assert!(size_of::<Batch>() == PAGE_SIZE as usize);
};

/// A page that waits for the flush, and whether it was a table: bit 0, where an address has none.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
struct Gathered(u64);

impl Gathered {
    fn frame(self) -> Frame {
        let address = PhysAddr::new(self.0 & !1).expect("it was the address of a frame");
        Frame::containing(address)
    }

    fn is_table(self) -> bool {
        self.0 & 1 != 0
    }
}

/// The gather has no more room: the walk is to stop, and flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what is gathered behind this has no room"]
pub struct Full(pub bool);

/// Pages that wait for a flush.
#[derive(Debug)]
#[must_use = "what was gathered is freed by `finish`"]
pub struct Gather<'a> {
    /// Where the ASID is that they were mapped in.
    id: &'a AtomicU64,
    /// The whole address space goes: whatever is flushed, all of the ASID is.
    whole: bool,
    /// What has been changed since the last flush, and whether a table was unlinked.
    changed: Option<(VirtAddr, VirtAddr)>,
    tables: bool,
    local: [Gathered; LOCAL],
    local_used: usize,
    /// The first batch, and the one in use; `None` for the local slots.
    first: Option<NonNull<Batch>>,
    active: Option<NonNull<Batch>>,
    batches: usize,
}

impl<'a> Gather<'a> {
    /// A gather for pages of the address space whose ASID is in `id`; `whole` if all of them go
    /// (`fullmm`).
    pub fn new(id: &'a AtomicU64, whole: bool) -> Self {
        Self {
            id,
            whole,
            changed: None,
            tables: false,
            local: [Gathered(0); LOCAL],
            local_used: 0,
            first: None,
            active: None,
            batches: 0,
        }
    }

    /// The leaf of a page was changed or cleared, and has to be flushed.
    pub fn note(&mut self, page: VirtAddr) {
        self.extend(page, page + (PAGE_SIZE - 1));
    }

    fn extend(&mut self, first: VirtAddr, last: VirtAddr) {
        self.changed = Some(match self.changed {
            None => (first, last),
            Some((from, to)) => (from.min(first), to.max(last)),
        });
    }

    /// A page was unmapped from `page`: it is freed, or the share in it given back, after the flush.
    pub fn remove_page(&mut self, frame: Frame, page: VirtAddr) -> Full {
        self.note(page);
        self.push(frame.start().as_u64())
    }

    /// A table was unlinked that led to `bytes` bytes from `start` on.
    pub fn remove_table(&mut self, table: Frame, start: VirtAddr, bytes: u64) -> Full {
        outside_of_sections("tlb_remove_table");
        self.extend(start, start + (bytes - 1));
        self.tables = true;
        if planted(Bug::UserTableFreedEarly) {
            event!(TableFreed(table.start()));
            let _ = page_alloc::free(table, 0);
            return Full(false);
        }
        self.push(table.start().as_u64() | 1)
    }

    fn push(&mut self, gathered: u64) -> Full {
        let (used, capacity) = match self.active {
            None => {
                self.local[self.local_used] = Gathered(gathered);
                self.local_used += 1;
                (self.local_used, LOCAL)
            }
            Some(mut batch) => {
                // SAFETY: the batches are this gather's alone, and mapped.
                let batch = unsafe { batch.as_mut() };
                let used = batch.header.used as usize;
                batch.slots[used] = Gathered(gathered);
                batch.header.used += 1;
                (used + 1, BATCH)
            }
        };
        // One slot early, as in Linux, where a page may come with a count of its own.
        if used < capacity - 1 {
            return Full(false);
        }
        let _span = span("__tlb_remove_folio_pages_size");
        if self.next_batch() {
            return Full(false);
        }
        if planted(Bug::BatchLost) {
            self.forget_last();
            return Full(false);
        }
        Full(true)
    }

    /// Takes the page that was pushed last out again: for a planted bug.
    fn forget_last(&mut self) {
        match self.active {
            None => self.local_used -= 1,
            // SAFETY: as in `push`.
            Some(mut batch) => unsafe { batch.as_mut() }.header.used -= 1,
        }
    }

    /// Goes on to the next batch, which is asked of the page allocator if there is none yet. `false`
    /// where there is none to be had.
    ///
    /// A walk is in a lazy section here. With DEBUG_PAGEALLOC the allocator puts the page back into
    /// the linear map, in a section of its own.
    fn next_batch(&mut self) -> bool {
        let _span = span("tlb_next_batch");
        let next = match self.active {
            None => self.first,
            // SAFETY: as in `push`.
            Some(batch) => unsafe { batch.as_ref() }.header.next,
        };
        if next.is_some() {
            self.active = next;
            return true;
        }
        if self.batches == MAX_BATCHES {
            return false;
        }
        let Some(new) = Self::new_batch() else {
            count(&COUNTERS.failures);
            return false;
        };
        match self.active {
            None => self.first = Some(new),
            // SAFETY: as in `push`.
            Some(mut batch) => unsafe { batch.as_mut() }.header.next = Some(new),
        }
        self.active = Some(new);
        self.batches += 1;
        true
    }

    fn new_batch() -> Option<NonNull<Batch>> {
        let allocate = || {
            let _span = span("__get_free_page");
            if lazy::is_active() {
                count(&COUNTERS.batches_in_section);
            }
            page_alloc::allocate(0)
        };
        let frame = if ASKING.load(Relaxed) == Asking::Paused as u8 {
            let _pause = lazy::paused();
            allocate()
        } else {
            lazy::call_page_allocator(allocate)
        };
        let frame = frame.ok()?;
        count(&COUNTERS.batches);
        #[cfg(feature = "oracle")]
        super::linear_map::tell_written(frame);
        let batch = NonNull::new(virt(frame.start()).as_mut_ptr::<Batch>())?;
        // SAFETY: the page is new, this gather's, and mapped in the linear map; slots are written
        // before they are read, and any bits are a slot.
        unsafe {
            batch.cast::<Header>().write(Header {
                next: None,
                used: 0,
                _reserved: 0,
            });
        }
        Some(batch)
    }

    /// Flushes what has changed; nothing is freed (`tlb_flush_mmu_tlbonly`). Its changes were made
    /// with the lock of the tables held, and it has not been given back since.
    pub fn flush_tlb(&mut self) {
        outside_of_sections("tlb_flush_mmu_tlbonly");
        let _span = span("tlb_flush_mmu_tlbonly");
        let Some((first, last)) = self.changed.take() else {
            return;
        };
        let tables = core::mem::take(&mut self.tables);
        if planted(Bug::PageFreedBeforeFlush) {
            self.free();
        }
        let range = PageRange::covering(first, last - first + 1);
        count(&COUNTERS.flushes);
        user_tlb::flush(
            self.id,
            match range {
                Some(range) if !self.whole => {
                    if tables {
                        Changed::Tables(range)
                    } else {
                        Changed::Pages(range)
                    }
                }
                _ => Changed::All,
            },
        );
    }

    /// Frees what was gathered before the last flush (`tlb_batch_pages_flush`), all at once.
    pub fn free(&mut self) {
        outside_of_sections("tlb_batch_pages_flush");
        assert!(
            self.changed.is_none(),
            "pages would be freed before their flush"
        );
        if self.local_used == 0 {
            return;
        }
        let _span = span("tlb_batch_pages_flush");
        let Some(mut list) = page_alloc::empty_list() else {
            return;
        };
        let mut give = |gathered: &[Gathered]| {
            for gathered in gathered {
                let frame = gathered.frame();
                if gathered.is_table() {
                    event!(TableFreed(frame.start()));
                } else if !shares::give_back(frame) {
                    continue;
                }
                // What can't be given up is reported there.
                let _ = page_alloc::give_up(&mut list, frame);
            }
        };
        give(&self.local[..self.local_used]);
        self.local_used = 0;
        let mut next = self.first;
        while let Some(mut batch) = next {
            // SAFETY: as in `push`.
            let batch = unsafe { batch.as_mut() };
            if batch.header.used == 0 {
                break;
            }
            give(&batch.slots[..batch.header.used as usize]);
            batch.header.used = 0;
            next = batch.header.next;
        }
        self.active = None;
        if list.count() > 0 {
            count(&COUNTERS.frees);
        }
        page_alloc::free_list(list);
    }

    /// Ends it: the pages of the batches are freed, at once (`tlb_batch_list_free`). All that was
    /// gathered has been flushed and freed.
    pub fn finish(mut self) {
        assert!(
            self.changed.is_none() && self.local_used == 0,
            "what was gathered has not been freed"
        );
        outside_of_sections("tlb_batch_list_free");
        let mut next = self.first.take();
        if next.is_none() {
            return;
        }
        let _span = span("tlb_batch_list_free");
        let Some(mut list) = page_alloc::empty_list() else {
            return;
        };
        while let Some(batch) = next {
            // SAFETY: as in `push`; it is read before it is given up.
            next = unsafe { batch.as_ref() }.header.next;
            if let Some(frame) = super::linear_map::frame_of(VirtAddr::from_ptr(batch.as_ptr())) {
                let _ = page_alloc::give_up(&mut list, frame);
            }
        }
        count(&COUNTERS.frees);
        page_alloc::free_list(list);
    }
}

/// The assertion of the RFC (thread 000): who flushes or frees must have left the lazy MMU mode, or
/// what was put off has not been made good. It holds under every model.
fn outside_of_sections(function: &str) {
    if lazy::is_active() {
        warning!("{function} in a lazy section");
    }
}
