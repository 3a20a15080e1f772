//! Backing the shadow of vmalloc areas with pages, and taking them away again.
//!
//! The callbacks run in the lazy section of the walk that calls them, and each pauses it: they fill
//! a page and map it, or unmap a page and free it, and both must hold before they go on (Linux
//! `c519c3c0a113`). Freeing the page inside the pause is what ended the model `nesting-level`:
//! DEBUG_PAGEALLOC takes the page out of the linear map, in a section of its own.

use super::shadow::{SPAN, VMALLOC_INVALID, shadow_of};
use crate::{
    arch::{barrier, cpu, record::span},
    bug::{Bug, planted},
    event,
    mm::{
        layout::{HEAP, IMAGE, LINEAR, SHADOW, VMALLOC},
        lazy, linear_map,
        page_alloc::{self, OutOfMemory},
        page_table::{self, PageTable, TableMemory},
        tlb::{Flush, Removed},
    },
    task::lock::SpinLock,
    unusual::{self, Tool},
};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vmsa::{Attributes, Descriptor, Frame, Level, PAGE_SIZE, PageRange, VirtAddr};

/// Held while a page of shadow is mapped that the areas of two CPUs may need (`init_mm.page_table_lock`
/// in Linux).
static PAGES: SpinLock<()> = SpinLock::new(());
static ON: AtomicBool = AtomicBool::new(false);
static POPULATED: AtomicU64 = AtomicU64::new(0);
static DEPOPULATED: AtomicU64 = AtomicU64::new(0);
static BEFORE_FLUSH: AtomicU64 = AtomicU64::new(0);

/// Whether vmalloc areas get a shadow.
#[inline]
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Gives every area from now on a shadow; the shared one has been mapped.
pub fn enable() {
    unusual::has(Tool::Kasan);
    ON.store(true, Ordering::Relaxed);
}

/// Shadow pages since reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Mapped.
    pub populated: u64,
    /// Unmapped and freed.
    pub depopulated: u64,
    /// Of those, still freed with their TLB flush outstanding: the accepted window "shadow between
    /// depopulate and flush" is open for them.
    pub before_flush: u64,
}

/// The counts.
pub fn stats() -> Stats {
    Stats {
        populated: POPULATED.load(Ordering::Relaxed),
        depopulated: DEPOPULATED.load(Ordering::Relaxed),
        before_flush: BEFORE_FLUSH.load(Ordering::Relaxed),
    }
}

/// Maps the shadow of the linear map, of the image and of the heap, in tables that no walker reads yet:
/// everywhere the same page of zeroes, read-only, through the same three tables.
///
/// # Errors
/// [`page_table::Error::OutOfMemory`].
pub fn map_shared_shadow<M: TableMemory>(
    tables: &mut PageTable<M>,
) -> Result<(), page_table::Error> {
    let zeroes = tables.new_table()?;
    let leaves = tables.new_table()?;
    let middle = tables.new_table()?;
    let top = tables.new_table()?;
    tables.fill_offline(leaves, zeroes, Attributes::KERNEL_RODATA);
    tables.fill_with_table_offline(middle, Level::L2, leaves);
    tables.fill_with_table_offline(top, Level::L1, middle);
    let parts = [
        (LINEAR, Level::L0, top),
        (IMAGE, Level::L2, leaves),
        (HEAP, Level::L2, leaves),
    ];
    for (part, level, below) in parts {
        if let Some(shadow) = shadow_range(part) {
            tables.link_offline(shadow, level, below)?;
        }
    }
    Ok(())
}

/// The shadow of a range that starts and ends at multiples of 32 KiB.
fn shadow_range(range: PageRange) -> Option<PageRange> {
    let start = shadow_of(range.start())?;
    PageRange::new(start, range.bytes() / SPAN)
}

/// The pages that hold any shadow of `range`.
fn shadow_pages(range: PageRange) -> Option<PageRange> {
    let first = shadow_of(range.start())?.align_down(PAGE_SIZE);
    let last = shadow_of(range.last_byte())?.align_down(PAGE_SIZE);
    PageRange::new(first, (last - first) / PAGE_SIZE + 1)
}

/// Backs the shadow of a new vmalloc area with pages, where neighbours have not done so already,
/// and says of all of it that nothing may be accessed yet.
///
/// # Errors
/// [`OutOfMemory`]; nothing has been mapped.
pub fn populate_vmalloc(area: PageRange) -> Result<(), OutOfMemory> {
    if !is_on() {
        return Ok(());
    }
    let _span = span("kasan_populate_vmalloc");
    let shadow = shadow_pages(area).ok_or(OutOfMemory)?;
    let mut kernel = linear_map::kernel();
    kernel.prepare(shadow).map_err(|_| OutOfMemory)?;
    // All pages come before the walk: nothing allocates in its section (Linux `b6ea95a34cbd` learnt
    // it from an allocation that slept there).
    let mut present = 0;
    kernel.visit(shadow, &mut |_, _, _| present += 1);
    let list = page_alloc::allocate_list(shadow.pages() - present)?;
    let mut frames = list.into_frames();
    kernel
        .apply_to_existing_page_range(shadow, |leaf| {
            let _span = span("kasan_populate_vmalloc_pte");
            let pause = lazy::paused();
            let lock = PAGES.lock();
            let old = leaf.get();
            if !old.is_none() {
                if planted(Bug::NoResume) {
                    core::mem::forget(pause);
                }
                return Ok(());
            }
            let Some(frame) = frames.next() else {
                return Ok(());
            };
            fill(frame, VMALLOC_INVALID);
            let new = Descriptor::leaf(Level::L3, frame.start(), Attributes::KERNEL_DATA);
            leaf.set(old, new.unwrap_or(Descriptor::INVALID));
            drop(lock);
            POPULATED.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
        .unwrap_or_else(|error| unreachable!("shadow is made of pages: {error}"));
    if cpu::count() > 1 {
        // A page that was there may be another CPU's work, whose store the lock has ordered before
        // this. The ISB does away with what this CPU may have found in its place before.
        barrier::isb();
    }
    // Somebody else may have mapped a page that both areas need between the count and the walk.
    frames.for_each(|frame| {
        // It has just been allocated, so it can be freed.
        let _ = page_alloc::free(frame, 0);
    });
    poison(area);
    Ok(())
}

fn fill(frame: Frame, byte: u8) {
    #[cfg(feature = "oracle")]
    linear_map::tell_written(frame);
    // SAFETY: the frame has just been allocated and is nobody else's; the linear map maps it.
    unsafe {
        linear_map::virt(frame.start())
            .as_mut_ptr::<u8>()
            .write_bytes(byte, PAGE_SIZE as usize);
    };
}

/// Frees the shadow pages whose whole 32 KiB lies in `free`, a range of vmalloc space that nobody
/// can be given meanwhile. Returns their range in the shadow, which the caller must flush before
/// anyone is given an address of `free`.
pub fn release_vmalloc(free: PageRange) -> Option<MustFlush> {
    if !is_on() {
        return None;
    }
    let _span = span("kasan_release_vmalloc");
    let mut first = free.start().align_up(SPAN)?;
    let mut end = free
        .start()
        .align_down(PAGE_SIZE)
        .checked_add(free.bytes())?
        .align_down(SPAN);
    if planted(Bug::ShadowTooFar) {
        first = free.start().align_down(SPAN);
        end = free.last_byte().align_up(SPAN)?;
    }
    if end <= first {
        return None;
    }
    let shadow = PageRange::new(shadow_of(first)?, (end - first) / SPAN)?;
    let mut freed = 0;
    linear_map::kernel()
        .apply_to_existing_page_range(shadow, |leaf| {
            if leaf.get().is_none() {
                return Ok(());
            }
            let _span = span("kasan_depopulate_vmalloc_pte");
            let _pause = lazy::paused();
            let old = if planted(Bug::ShadowLeft) {
                leaf.get()
            } else {
                leaf.take()
            };
            if let Some(pa) = old.output_ignoring_valid(Level::L3) {
                // While paused, and before the TLB flush: the accepted window opens here.
                #[cfg(feature = "oracle")]
                if let Some(range) = PageRange::new(leaf.va(), 1) {
                    event!(WindowOpened {
                        window: event::Window::Shadow,
                        range,
                    });
                }
                let _span = span("__free_page");
                freed += u64::from(page_alloc::free(Frame::containing(pa), 0).is_ok());
            }
            Ok(())
        })
        .unwrap_or_else(|error| unreachable!("shadow is made of pages: {error}"));
    DEPOPULATED.fetch_add(freed, Ordering::Relaxed);
    BEFORE_FLUSH.fetch_add(freed, Ordering::Relaxed);
    (freed > 0).then_some(MustFlush { shadow, freed })
}

/// Shadow pages that were freed while TLBs may still know them.
#[derive(Debug)]
#[must_use = "addresses that share this shadow may not be handed out before it is flushed"]
pub struct MustFlush {
    shadow: PageRange,
    freed: u64,
}

impl MustFlush {
    /// Flushes them; its end closes the window.
    pub fn flush(self) {
        let mut flush = Flush::begin(self.shadow.pages());
        flush.add(self.shadow, Removed::Leaves);
        flush.finish();
        event!(WindowClosed {
            window: event::Window::Shadow,
            range: self.shadow,
        });
        BEFORE_FLUSH.fetch_sub(self.freed, Ordering::Relaxed);
    }
}

/// Reads a shadow byte; `None` where no shadow is mapped.
pub fn read_shadow(at: VirtAddr) -> Option<u8> {
    let (entry, _) = linear_map::kernel().leaf(at)?;
    #[cfg(feature = "oracle")]
    if entry.is_valid() {
        event!(Access {
            va: at,
            access: event::Access::Read,
        });
    }
    // SAFETY: the page is mapped, and shadow bytes are plain data that only this CPU writes.
    entry
        .is_valid()
        .then(|| unsafe { at.as_ptr::<u8>().read_volatile() })
}

/// Tells the oracle that bytes of shadow are about to be written.
#[cfg(feature = "oracle")]
fn tell_written(start: VirtAddr, bytes: u64) {
    for va in PageRange::covering(start, bytes)
        .into_iter()
        .flat_map(PageRange::pages_iter)
    {
        event!(Access {
            va,
            access: event::Access::Write,
        });
    }
}

/// Says that the first `size` bytes of an area may be accessed, and the rest of the last granule
/// may not.
pub fn unpoison(start: VirtAddr, size: u64) {
    if !is_on() {
        return;
    }
    let Some(shadow) = shadow_of(start) else {
        return;
    };
    #[cfg(feature = "oracle")]
    tell_written(shadow, size.div_ceil(8));
    let shadow = shadow.as_mut_ptr::<u8>();
    let whole = (size / 8) as usize;
    // SAFETY: the area is the caller's, and so the shadow of it, which populate_vmalloc has mapped.
    unsafe {
        shadow.write_bytes(0, whole);
        if !size.is_multiple_of(8) {
            shadow.add(whole).write((size % 8) as u8);
        }
    }
}

/// Says that nothing of an area may be accessed.
pub fn poison(area: PageRange) {
    if !is_on() || !VMALLOC.contains(area.start()) {
        return;
    }
    let Some(shadow) = shadow_of(area.start()) else {
        return;
    };
    #[cfg(feature = "oracle")]
    tell_written(shadow, area.bytes() / 8);
    // SAFETY: as in `unpoison`.
    unsafe {
        shadow
            .as_mut_ptr::<u8>()
            .write_bytes(VMALLOC_INVALID, (area.bytes() / 8) as usize);
    };
}

const _: () = {
    // The shared tables are linked whole, so the parts must start and end where entries of these
    // levels do.
    assert!((LINEAR.bytes() / 8).is_multiple_of(Level::L0.bytes()));
    assert!((IMAGE.bytes() / 8).is_multiple_of(Level::L2.bytes()));
    assert!((HEAP.bytes() / 8).is_multiple_of(Level::L2.bytes()));
    assert!(SHADOW.start().is_aligned(Level::L0.bytes()));
};
