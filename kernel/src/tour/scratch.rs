//! Pages that scenes map by hand, at addresses of their own.

use super::{Trouble, failed};
use crate::mm::{
    layout::SCRATCH,
    linear_map, page_alloc,
    tlb::{Flush, Removed},
};
use vmsa::{Attributes, Descriptor, Frame, Level, PageRange, VirtAddr};

/// A page that is mapped nowhere but in the linear map, and the tables for scratch addresses.
/// Dropping it unmaps every scratch address and gives the page back.
pub(super) struct Scratch {
    /// The page.
    pub frame: Frame,
}

impl Scratch {
    pub(super) fn new() -> Result<Self, Trouble> {
        linear_map::kernel().prepare(SCRATCH).map_err(failed)?;
        let frame = page_alloc::allocate(0).map_err(failed)?;
        Ok(Self { frame })
    }

    /// The scratch address `n`, of 512.
    pub(super) fn va(&self, n: u64) -> VirtAddr {
        SCRATCH.page(n)
    }

    /// A leaf that maps the page.
    pub(super) fn leaf(&self) -> Descriptor {
        leaf(self.frame)
    }
}

/// A leaf that maps a page for data.
pub(super) fn leaf(frame: Frame) -> Descriptor {
    let leaf = Descriptor::leaf(Level::L3, frame.start(), Attributes::KERNEL_DATA);
    leaf.expect("a frame is aligned to pages")
}

impl Drop for Scratch {
    fn drop(&mut self) {
        clear(SCRATCH);
        // What can't be given back is reported there.
        let _ = page_alloc::free(self.frame, 0);
    }
}

/// Unmaps scratch addresses, and flushes them.
pub(super) fn clear(range: PageRange) {
    // Blocks are never mapped there.
    let _ = linear_map::kernel().apply_to_existing_page_range(range, |leaf| {
        if !leaf.get().is_none() {
            leaf.take();
        }
        Ok(())
    });
    let mut flush = Flush::begin(range.pages());
    flush.add(range, Removed::Leaves);
    flush.finish();
}
