//! Objects of one size in pages that the pool is given and keeps.
//!
//! Allocation and release are a few instructions each. The pool asks for a page when it has run
//! out, in [`Pool::reserve`] and nowhere else: an operation that reserves what it may need before
//! it changes anything cannot fail half way.

use core::cell::Cell;
use core::fmt;
use core::ptr::NonNull;

use vmsa::PAGE_SIZE;

/// [`PAGE_SIZE`], as a size in memory.
const PAGE_BYTES: usize = PAGE_SIZE as usize;

/// Gives a pool one more page, or `None` where there is no memory.
pub type Grow = fn() -> Option<NonNull<u8>>;

/// The pool needed a page and was given none. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// An object that can lie in a [`Pool`].
pub trait Pooled: Sized + 'static {
    /// An object nobody uses. All objects of a new page start as this.
    const UNUSED: Self;

    /// Where the pool keeps the next unused object while this one is unused.
    fn next_unused(&self) -> &Cell<Option<&'static Self>>;
}

/// Objects of one size, in whole pages.
///
/// Objects are handed out as `&'static`: pages never go back, so a reference that is kept too
/// long is a mistake, but never a dangling one. The price is that a pool keeps its peak size:
/// 36 records of [`VmapArea`](super::VmapArea) to a page. For the same reason a pool is not `Send`
/// by itself; the container that lets no reference out can be.
pub struct Pool<T: Pooled> {
    /// Unused objects.
    unused: Option<&'static T>,
    /// How many there are in `unused`.
    spare: usize,
    /// Pages that the pool holds.
    pages: usize,
    /// Where more come from.
    grow: Grow,
}

impl<T: Pooled> Pool<T> {
    /// Objects in a page.
    pub const PER_PAGE: usize = {
        assert!(size_of::<T>() > 0 && align_of::<T>() <= PAGE_BYTES);
        PAGE_BYTES / size_of::<T>()
    };

    /// A pool without pages.
    ///
    /// # Safety
    ///
    /// Whatever `grow` returns must be the address of 4 KiB of memory, aligned to 4 KiB, readable
    /// and writable, that nothing else uses from then on and for ever. What it holds is of no
    /// consequence.
    pub const unsafe fn new(grow: Grow) -> Self {
        Self {
            unused: None,
            spare: 0,
            pages: 0,
            grow,
        }
    }

    /// Sees to it that the next `count` calls of [`allocate`](Self::allocate) succeed.
    ///
    /// Pages that were added before a failure stay in the pool, unused.
    pub fn reserve(&mut self, count: usize) -> Result<(), NoMemory> {
        while self.spare < count {
            self.add_page()?;
        }
        Ok(())
    }

    /// An unused object, in the state in which it was released. `None` where
    /// [`reserve`](Self::reserve) would have asked for a page.
    #[inline]
    pub fn allocate(&mut self) -> Option<&'static T> {
        let object = self.unused?;
        self.unused = object.next_unused().get();
        self.spare -= 1;
        Some(object)
    }

    /// As [`allocate`](Self::allocate), where it had nothing.
    #[cold]
    #[inline(never)]
    pub fn grow_and_allocate(&mut self) -> Result<&'static T, NoMemory> {
        self.reserve(1)?;
        self.allocate().ok_or(NoMemory)
    }

    /// Takes back an object, which the caller must not use any more.
    #[inline]
    pub fn release(&mut self, object: &'static T) {
        object.next_unused().set(self.unused);
        self.unused = Some(object);
        self.spare += 1;
    }

    /// Takes back `count` objects that are linked already, from `first` to `last`.
    pub fn release_linked(&mut self, first: &'static T, last: &'static T, count: usize) {
        last.next_unused().set(self.unused);
        self.unused = Some(first);
        self.spare += count;
    }

    /// How many pages the pool has been given.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// One page more, cut into unused objects that come in address order.
    #[cold]
    fn add_page(&mut self) -> Result<(), NoMemory> {
        let page: NonNull<T> = (self.grow)().ok_or(NoMemory)?.cast();
        for index in (0..Self::PER_PAGE).rev() {
            // SAFETY: by the contract of `new` the page is ours alone, aligned and writable, and
            // PER_PAGE objects fit in it. The object is initialised before it is referred to, and
            // is only ever shared from here on, for as long as the page lives: for ever.
            let object = unsafe {
                let slot = page.add(index);
                slot.write(T::UNUSED);
                slot.as_ref()
            };
            self.release(object);
        }
        self.pages += 1;
        Ok(())
    }
}

impl<T: Pooled> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("spare", &self.spare)
            .field("pages", &self.pages)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
impl<T: Pooled> Pool<T> {
    /// How many objects can be allocated without another page.
    pub(super) fn spare(&self) -> usize {
        self.spare
    }
}
