//! Addresses that are unmapped and not flushed, as a value that must be.
//!
//! With DEBUG_PAGEALLOC a freed area may be in no TLB when its pages are free, and a freed page not in
//! the linear map: two flushes, one right behind the other. `vfree` makes one of them, by handing its
//! addresses to whoever makes the other: through the page allocator, which does nothing with them but
//! give them to its hook along with the pages. That is why the value has a file of its own: the page
//! allocator may know that there is something to be flushed, but not how.

use vmsa::{PageRange, VirtAddr};

/// Addresses whose leaves have been cleared and which a TLB may know still.
///
/// It is no debt of the task: no section has to be open for it, and no end of a section pays for it.
/// Who has it owes the flush before anybody hears that the addresses are unmapped, or that their pages
/// are free. It ends where a flush takes it in, `mm::tlb`'s `Flush::add_unflushed`; one that is dropped
/// instead was forgotten, and that is a panic.
#[derive(Debug)]
#[must_use = "a TLB may know these addresses: they are to be handed to a flush"]
pub struct Unflushed(PageRange);

impl Unflushed {
    /// The `pages` pages from `start` on, all of whose leaves are cleared; `None` for what is no range.
    pub fn new(start: VirtAddr, pages: u64) -> Option<Self> {
        PageRange::new(start, pages).map(Self)
    }

    /// How many pages.
    pub fn pages(&self) -> u64 {
        self.0.pages()
    }

    /// The addresses, for the flush that takes them in.
    pub(super) fn into_range(self) -> PageRange {
        let range = self.0;
        core::mem::forget(self);
        range
    }
}

impl Drop for Unflushed {
    #[cold]
    fn drop(&mut self) {
        panic!("addresses from {} on were never flushed", self.0.start());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(pages: u64) -> Unflushed {
        Unflushed::new(VirtAddr::literal(0xffff_a000_0000_0000), pages).expect("a range")
    }

    #[test]
    fn a_flush_gets_the_addresses() {
        let unflushed = pages(3);
        assert_eq!(unflushed.pages(), 3);
        let range = unflushed.into_range();
        assert_eq!(range.start().as_u64(), 0xffff_a000_0000_0000);
        assert_eq!(range.pages(), 3);
    }

    #[test]
    #[should_panic(expected = "never flushed")]
    fn who_forgets_them_is_told() {
        drop(pages(1));
    }
}
