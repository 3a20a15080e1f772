//! Areas in use, by address, and areas that were freed but not purged yet.

use core::fmt;

use vmsa::{PAGE_SHIFT, VirtAddr};

use super::augment::Plain;
use super::tree::Tree;
use super::{Link, OwnedArea, VmapArea};

/// The areas that are in use. Never allocates: an area brings its record along.
pub struct BusyAreas {
    /// The areas.
    tree: Tree<Plain>,
    /// The area that came last, while it is here: the one most likely to be looked for.
    latest: Link,
    /// How many they are.
    count: usize,
}

// SAFETY: `latest` is a record of the tree, and the tree is `Send`.
unsafe impl Send for BusyAreas {}

impl Default for BusyAreas {
    fn default() -> Self {
        Self::new()
    }
}

impl BusyAreas {
    /// No areas.
    pub const fn new() -> Self {
        Self {
            tree: Tree::new(),
            latest: None,
            count: 0,
        }
    }

    /// Puts an area in use. It cannot overlap another one: both were taken from free space.
    pub fn insert(&mut self, area: OwnedArea) {
        let place = self.tree.place_of(area.0.first.get());
        self.tree.insert(area.0, place);
        self.latest = Some(area.0);
        self.count += 1;
    }

    /// The area that starts at `start`.
    pub fn find(&self, start: VirtAddr) -> Option<&VmapArea> {
        self.starting_at(start)
    }

    /// The area with `address` in it, in its guard page included.
    pub fn find_containing(&self, address: VirtAddr) -> Option<&VmapArea> {
        let page = address.as_u64() >> PAGE_SHIFT;
        self.tree
            .find_last_from(page)
            .filter(|area| page < area.end())
    }

    /// Takes the area that starts at `start` out.
    pub fn remove(&mut self, start: VirtAddr) -> Option<OwnedArea> {
        let area = self.starting_at(start)?;
        if self.is_latest(area.first.get()) {
            self.latest = None;
        }
        self.tree.remove(area);
        self.count -= 1;
        Some(OwnedArea(area))
    }

    /// The areas, lowest address first.
    pub fn iter(&self) -> impl Iterator<Item = &VmapArea> {
        self.tree.iter()
    }

    /// How many areas are in use.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The record of the area that starts at `start`.
    fn starting_at(&self, start: VirtAddr) -> Link {
        if !start.is_page_aligned() {
            return None;
        }
        let page = start.as_u64() >> PAGE_SHIFT;
        if self.is_latest(page) {
            return self.latest;
        }
        self.tree.find(page)
    }

    /// Whether the area that came last is still here, and starts at `page`.
    fn is_latest(&self, page: u64) -> bool {
        self.latest.is_some_and(|area| area.first.get() == page)
    }
}

impl fmt::Debug for BusyAreas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
impl BusyAreas {
    /// The tree, for the tests that check its balance.
    pub(super) fn tree(&self) -> &Tree<Plain> {
        &self.tree
    }
}

/// Areas that were unmapped but may still be in a TLB: no address of them is given out before
/// they are purged. First in, first out.
pub struct LazyAreas {
    /// First and last; the rest is linked between them.
    ends: Option<(&'static VmapArea, &'static VmapArea)>,
    /// How many areas there are.
    count: usize,
    /// Their total length in pages, which decides when to purge.
    pages: u64,
}

// SAFETY: the records of the list are reached through it only, so that they move with it.
unsafe impl Send for LazyAreas {}

impl Default for LazyAreas {
    fn default() -> Self {
        Self::new()
    }
}

impl LazyAreas {
    /// No areas.
    pub const fn new() -> Self {
        Self {
            ends: None,
            count: 0,
            pages: 0,
        }
    }

    /// Adds an area at the end.
    pub fn push(&mut self, area: OwnedArea) {
        let area = area.0;
        area.child[1].set(None);
        self.ends = Some(match self.ends {
            Some((first, last)) => {
                last.child[1].set(Some(area));
                (first, area)
            }
            None => (area, area),
        });
        self.count += 1;
        self.pages += area.pages.get();
    }

    /// Takes the first area out.
    pub fn pop(&mut self) -> Option<OwnedArea> {
        let (first, last) = self.ends?;
        self.ends = first.child[1].get().map(|next| (next, last));
        self.count -= 1;
        self.pages -= first.pages.get();
        Some(OwnedArea(first))
    }

    /// Takes all areas out at once, as a purge does while it holds the lock.
    pub fn take_all(&mut self) -> Self {
        core::mem::take(self)
    }

    /// The areas in the order in which they were freed.
    pub fn iter(&self) -> impl Iterator<Item = &VmapArea> {
        let first: Option<&VmapArea> = self.ends.map(|(first, _)| first);
        core::iter::successors(first, |area| area.child[1].get())
    }

    /// How many areas wait.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many pages they span, guard pages included.
    pub fn pages(&self) -> u64 {
        self.pages
    }
}

impl fmt::Debug for LazyAreas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
