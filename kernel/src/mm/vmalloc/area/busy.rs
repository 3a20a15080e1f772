//! Areas in use, by address.

use core::{fmt, iter, ptr};

use vmsa::{PAGE_SHIFT, PAGE_SIZE, VirtAddr};

use super::augment::Plain;
use super::tree::{self, Tree};
use super::{AreaKind, Link, OwnedArea, VmapArea};

/// The areas that are in use. Never allocates: an area brings its record along.
pub struct BusyAreas {
    /// The areas, but for one.
    tree: Tree<Plain>,
    /// The area that came last, while it is here. It comes into the tree when the next one does: most
    /// areas are gone by then, and never cost a search.
    newest: Link,
    /// The last one in the tree.
    highest: Link,
    /// How many they are.
    count: usize,
}

// SAFETY: `newest` and `highest` are reached through this value only, and the tree is `Send`.
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
            newest: None,
            highest: None,
            count: 0,
        }
    }

    /// Puts an area in use. It cannot overlap another one: both were taken from free space.
    #[inline(always)]
    pub fn insert(&mut self, area: OwnedArea) {
        if let Some(before) = self.newest.replace(area.0) {
            self.insert_in_tree(before);
        }
        self.count += 1;
    }

    #[inline(never)]
    fn insert_in_tree(&mut self, area: &'static VmapArea) {
        let first = area.first.get();
        let place = match self.highest {
            // As long as nothing has been purged each area lies above those before it.
            Some(highest) if highest.first.get() < first => {
                self.highest = Some(area);
                tree::place_after(highest)
            }
            highest => {
                self.highest = highest.or(Some(area));
                self.tree.place_of(first)
            }
        };
        self.tree.insert(area, place);
    }

    /// The area that starts at `start`.
    pub fn find(&self, start: VirtAddr) -> Option<&VmapArea> {
        self.starting_at(start)
    }

    /// The area with `address` in it, in its guard page included.
    pub fn find_containing(&self, address: VirtAddr) -> Option<&VmapArea> {
        self.containing(address.as_u64() >> PAGE_SHIFT)
    }

    /// The area that a page lies in.
    pub(super) fn containing(&self, page: u64) -> Link {
        let contains = |area: &&VmapArea| page.wrapping_sub(area.first.get()) < area.pages.get();
        self.newest
            .filter(contains)
            .or_else(|| self.tree.find_last_from(page).filter(contains))
    }

    /// The first area that starts at `address` or above it.
    pub fn next_from(&self, address: VirtAddr) -> Option<&VmapArea> {
        let page = address.as_u64().div_ceil(PAGE_SIZE);
        let in_tree = self
            .tree
            .find(page)
            .or_else(|| self.tree.locate(page).above);
        let newest = self.newest.filter(|area| area.first.get() >= page);
        [in_tree, newest]
            .into_iter()
            .flatten()
            .min_by_key(|area| area.first.get())
    }

    /// Takes the area that starts at `start` out, if `right` says so of its kind.
    #[inline(always)]
    pub fn remove_if(
        &mut self,
        start: VirtAddr,
        right: impl FnOnce(AreaKind) -> bool,
    ) -> Option<OwnedArea> {
        let area = self.starting_at(start)?;
        if !right(area.kind.get()) {
            return None;
        }
        Some(self.take_out(area))
    }

    /// Takes an area out.
    #[inline(always)]
    pub(super) fn take_out(&mut self, area: &'static VmapArea) -> OwnedArea {
        if self.newest.is_some_and(|newest| ptr::eq(newest, area)) {
            self.newest = None;
        } else {
            if self.highest.is_some_and(|highest| ptr::eq(highest, area)) {
                self.highest = tree::preceding(area);
            }
            self.tree.remove(area);
        }
        self.count -= 1;
        OwnedArea(area)
    }

    /// The areas, lowest address first.
    pub fn iter(&self) -> impl Iterator<Item = &VmapArea> {
        let mut at = Some(VirtAddr::literal(0));
        iter::from_fn(move || {
            let area = self.next_from(at?)?;
            at = area.range().end();
            Some(area)
        })
    }

    /// How many areas are in use.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The record of the area that starts at `start`.
    #[inline(always)]
    pub(super) fn starting_at(&self, start: VirtAddr) -> Link {
        if !start.is_page_aligned() {
            return None;
        }
        let page = start.as_u64() >> PAGE_SHIFT;
        let newest = self.newest.filter(|area| area.first.get() == page);
        newest.or_else(|| self.tree.find(page))
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

    /// The last one in the tree.
    pub(super) fn highest(&self) -> Link {
        self.highest
    }

    /// The area that is not in the tree.
    pub(super) fn newest(&self) -> Link {
        self.newest
    }
}
