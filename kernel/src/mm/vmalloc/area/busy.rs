//! Areas in use, by address.

use core::fmt;

use vmsa::{PAGE_SHIFT, PAGE_SIZE, VirtAddr};

use super::augment::Plain;
use super::tree::Tree;
use super::{AreaKind, Link, OwnedArea, VmapArea};

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

    /// The first area that starts at `address` or above it.
    pub fn next_from(&self, address: VirtAddr) -> Option<&VmapArea> {
        let page = address.as_u64().div_ceil(PAGE_SIZE);
        self.tree
            .find(page)
            .or_else(|| self.tree.locate(page).above)
    }

    /// Takes the area that starts at `start` out, if `right` says so of its kind.
    pub fn remove_if(
        &mut self,
        start: VirtAddr,
        right: impl FnOnce(AreaKind) -> bool,
    ) -> Option<OwnedArea> {
        let area = self.starting_at(start)?;
        if !right(area.info.get().kind) {
            return None;
        }
        Some(self.take_out(area))
    }

    /// Takes an area out.
    pub(super) fn take_out(&mut self, area: &'static VmapArea) -> OwnedArea {
        if self.is_latest(area.first.get()) {
            self.latest = None;
        }
        self.tree.remove(area);
        self.count -= 1;
        OwnedArea(area)
    }

    /// The tree.
    pub(super) fn tree(&self) -> &Tree<Plain> {
        &self.tree
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
