//! What a task has put off in a lazy section: data alone. `mm::lazy` decides what is put off, and
//! when it is made good.
//!
//! All of it is per task, so that it migrates with the task and nobody else has to be asked. Every
//! container has a fixed size: putting work off must not allocate.

use crate::arch::entry::Entry;
use core::cell::Cell;
use vmsa::{Descriptor, PageRange, VirtAddr};

/// Stores that a queue holds, as many as a multicall buffer of Xen PV in Linux does.
pub const QUEUE: usize = 32;
/// Ranges that a list of pending flushes holds.
pub const PENDING: usize = 16;

/// A store of a leaf that has not been made.
#[derive(Clone, Copy, Debug)]
pub struct QueuedStore {
    /// Where it goes.
    pub entry: Entry,
    /// What the entry maps.
    pub va: VirtAddr,
    /// What it held when the store was queued.
    pub old: Descriptor,
    /// What it will hold.
    pub new: Descriptor,
}

/// A range that has to be flushed from the TLBs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingFlush {
    /// The addresses.
    pub range: PageRange,
    /// Whether tables were removed, and not leaves alone.
    pub tables: bool,
}

/// A list of fixed size. No room is an answer, never a loss.
#[derive(Debug)]
pub struct List<T: Copy, const N: usize> {
    items: Cell<[Option<T>; N]>,
    len: Cell<usize>,
}

/// The list has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl<T: Copy, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Copy, const N: usize> List<T, N> {
    /// An empty list.
    pub const fn new() -> Self {
        Self {
            items: Cell::new([None; N]),
            len: Cell::new(0),
        }
    }

    /// How many items.
    #[inline]
    pub fn len(&self) -> usize {
        self.len.get()
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len.get() == 0
    }

    /// Appends an item.
    ///
    /// # Errors
    /// [`Full`].
    pub fn push(&self, item: T) -> Result<(), Full> {
        let slot = self
            .items
            .as_array_of_cells()
            .get(self.len.get())
            .ok_or(Full)?;
        slot.set(Some(item));
        self.len.set(self.len.get() + 1);
        Ok(())
    }

    /// The items, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.items
            .as_array_of_cells()
            .iter()
            .take(self.len.get())
            .filter_map(Cell::get)
    }

    /// Empties the list.
    pub fn clear(&self) {
        self.len.set(0);
    }
}

/// Everything that a task has put off.
#[derive(Debug, Default)]
pub struct Deferred {
    /// Whether a valid entry was stored since the last `DSB ISHST; ISB`
    /// (TIF_LAZY_MMU_PENDING in Linux).
    pub barriers: Cell<bool>,
    /// Whether the end of a section may have more to see to: a flush or a store that waits, or
    /// something that is held for the section. It is set with each of them, and so one byte tells that
    /// there is none.
    pub more: Cell<bool>,
    /// Flushes: the backend `tlbi`.
    pub flushes: List<PendingFlush, PENDING>,
    /// Stores: the backend `stores`.
    pub stores: List<QueuedStore, QUEUE>,
}

impl Deferred {
    /// Nothing.
    pub const fn new() -> Self {
        Self {
            barriers: Cell::new(false),
            more: Cell::new(false),
            flushes: List::new(),
            stores: List::new(),
        }
    }

    /// Whether nothing was put off.
    pub fn is_empty(&self) -> bool {
        !self.barriers.get() && self.flushes.is_empty() && self.stores.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_list_says_so_and_loses_nothing() {
        let list = List::<u32, 3>::new();
        for n in 0..3 {
            assert_eq!(list.push(n), Ok(()));
        }
        assert_eq!(list.push(3), Err(Full));
        assert_eq!(list.iter().collect::<Vec<_>>(), [0, 1, 2]);
        list.clear();
        assert!(list.is_empty());
        assert_eq!(list.push(4), Ok(()));
        assert_eq!(list.iter().collect::<Vec<_>>(), [4]);
    }
}
