//! The kernel heap: `linked_list_allocator` behind a spin lock, for small and rare objects.
//!
//! It lives in an address range of its own and grows there page by page, so that it stays one
//! piece. It is never made smaller.

#[cfg(all(feature = "ktests", target_os = "none"))]
mod ktests;

use super::{
    layout::HEAP,
    lazy, linear_map,
    page_alloc::{self, OutOfMemory},
    page_table,
};
use crate::{event, task::lock::SpinLock};
use core::{
    alloc::{GlobalAlloc, Layout},
    ptr::NonNull,
};
use linked_list_allocator::Heap;
use vmsa::{Attributes, Descriptor, Level, PAGE_SIZE, PageRange};

/// The heap grows by at least so many pages.
const STEP: u64 = 16;

struct KernelHeap(SpinLock<Growing>);

struct Growing {
    heap: Heap,
    /// Pages that are mapped, from the start of HEAP on.
    mapped: u64,
}

#[global_allocator]
static HEAP_ALLOCATOR: KernelHeap = KernelHeap(SpinLock::new(Growing {
    heap: Heap::empty(),
    mapped: 0,
}));

/// Bytes in use and bytes mapped.
pub fn stats() -> (usize, u64) {
    let growing = HEAP_ALLOCATOR.0.lock();
    (growing.heap.used(), growing.mapped * PAGE_SIZE)
}

impl KernelHeap {
    /// Allocates what did not fit; the heap grows if it still does not.
    ///
    /// # Errors
    /// How many bytes are mapped, where that is not possible.
    #[cold]
    fn allocate_in_more(&self, layout: Layout) -> Result<NonNull<u8>, u64> {
        // The caller may be in a section, or not: those who map pages wait for each other in one
        // order, first for the page tables and then for the heap.
        let _others = lazy::keep_others_out();
        let mut growing = self.0.lock();
        let mut block = growing.heap.allocate_first_fit(layout);
        if block.is_err() && growing.grow(layout).is_ok() {
            block = growing.heap.allocate_first_fit(layout);
        }
        block.map_err(|()| growing.mapped * PAGE_SIZE)
    }
}

impl Growing {
    /// Maps enough more pages for `layout`.
    fn grow(&mut self, layout: Layout) -> Result<(), OutOfMemory> {
        // The list allocator may need a header, and alignment may cost as much again.
        let bytes = layout
            .size()
            .checked_add(layout.align() + 64)
            .ok_or(OutOfMemory)? as u64;
        let (needed, left) = (bytes.div_ceil(PAGE_SIZE), HEAP.pages() - self.mapped);
        // What can't be met must take nothing: the heap never gets smaller again.
        if needed > left {
            return Err(OutOfMemory);
        }
        let pages = needed.max(STEP).min(left);
        let range = PageRange::new(HEAP.page(self.mapped), pages).ok_or(OutOfMemory)?;
        let mut kernel = linear_map::kernel();
        kernel.prepare(range).map_err(|_| OutOfMemory)?;
        let list = page_alloc::allocate_list(pages)?;
        let mut frames = list.into_frames();
        let mapped = kernel.apply_to_existing_page_range(range, |leaf| {
            let frame = frames.next().ok_or(page_table::Error::OutOfMemory)?;
            let new = Descriptor::leaf(Level::L3, frame.start(), Attributes::KERNEL_DATA);
            leaf.set(leaf.get(), new.ok_or(page_table::Error::OutOfMemory)?);
            Ok(())
        });
        mapped.unwrap_or_else(|error| unreachable!("the heap's tables were prepared: {error}"));
        // Whoever uses these pages on another CPU gets to them by way of the lock or of a pointer that
        // was handed over, so its access comes after the stores of the entries. It may fault all the
        // same, without FEAT_ETS2: the CPU may have looked the address up ahead of time, and hold on
        // to that until it synchronises (`ISB`). There is none behind the lock: a pointer may come
        // another way than through here, so one would have to stand wherever a CPU takes anything
        // from another. The fault is tolerated instead (`arch/abort.rs`: it looks again, issues the
        // DSB ISHST, and the exception return is the ISB). It needs a stack to do so, and no stack
        // lies in the heap.
        event!(Access {
            va: range.start(),
            access: event::Access::Write,
        });
        let bytes = range.bytes() as usize;
        if self.mapped == 0 {
            // SAFETY: the range is mapped, nobody else's, and stays so.
            unsafe { self.heap.init(range.start().as_mut_ptr(), bytes) };
        } else {
            // SAFETY: the range adjoins the heap's end, and is as above.
            unsafe { self.heap.extend(bytes) };
        }
        self.mapped += pages;
        Ok(())
    }
}

// SAFETY: blocks come from the list allocator, which never gives the same memory twice; the lock
// serialises it.
//
// Neither function is inlined: there are hundreds of places that make or drop something, each would
// have the list allocator in it, and the heap is not for what has to be fast.
unsafe impl GlobalAlloc for KernelHeap {
    #[inline(never)]
    #[track_caller]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = self.0.lock().heap.allocate_first_fit(layout);
        block
            .or_else(|()| self.allocate_in_more(layout))
            .map_or_else(
                |mapped| {
                    let callers: [u32; 8] = crate::arch::backtrace::callers();
                    log::error!(
                        "heap: no room for {} bytes; {mapped} of {} bytes are mapped; asked for by",
                        layout.size(),
                        HEAP.bytes(),
                    );
                    for caller in callers.into_iter().take_while(|caller| *caller != 0) {
                        let address = crate::arch::backtrace::caller_address(caller);
                        log::error!("  [<{:016x}>]", address.as_u64());
                    }
                    core::ptr::null_mut()
                },
                NonNull::as_ptr,
            )
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(block) = NonNull::new(block) else {
            return;
        };
        // SAFETY: the caller's promise: `block` came from `alloc` with this layout.
        unsafe { self.0.lock().heap.deallocate(block, layout) };
    }
}
