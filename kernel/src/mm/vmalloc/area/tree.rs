//! The balanced tree that holds free and busy areas, in address order.
//!
//! A weak AVL tree (Haeupler, Sen, Tarjan: "Rank-Balanced Trees", 2015). Every record has a rank;
//! a missing child has rank -1, a record without children rank 0, and a child is one or two ranks
//! below its parent. So the height is at most 2 log2(n), as in the red-black tree of Linux, and
//! at most 1.45 log2(n) as long as nothing was removed, as in an AVL tree. No pattern of
//! allocations can make a search long. Insertion and removal cost O(1) rank changes and rotations
//! amortised, in any mixture: an AVL tree has no such bound, and the mixture that shows it is the
//! one that matters here, `vmalloc` and `vfree` of one area among many. Nothing recurses.
//!
//! A tree can carry a summary of each subtree in its root ([`Augment`]).

use core::marker::PhantomData;
use core::ptr;

use super::augment::Augment;
use super::{Link, VmapArea};

/// One side of a record in the tree.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Lower addresses.
    Left = 0,
    /// Higher addresses.
    Right = 1,
}

impl Side {
    /// The opposite side.
    fn other(self) -> Self {
        match self {
            Side::Left => Side::Right,
            Side::Right => Side::Left,
        }
    }
}

/// Where a record is to be linked: below `parent`, or as the root.
#[derive(Clone, Copy)]
pub struct Place {
    /// Record that has no child on this side yet.
    parent: Option<(&'static VmapArea, Side)>,
}

/// What [`Tree::locate`] finds around an address.
pub struct Surroundings {
    /// The last area that starts below the address, or at it.
    pub below: Link,
    /// The first area that starts above the address.
    pub above: Link,
    /// Where an area that starts there belongs.
    pub place: Place,
}

/// Areas in order of their addresses.
pub struct Tree<A: Augment> {
    /// The topmost record.
    root: Link,
    /// The summary that is kept.
    augment: PhantomData<A>,
}

// SAFETY: a record is linked into one container at a time, and containers lend records only for
// as long as they are borrowed; so the cells of all records in a tree move with the tree.
unsafe impl<A: Augment> Send for Tree<A> {}

impl<A: Augment> Tree<A> {
    /// A tree of nothing.
    pub const fn new() -> Self {
        Self {
            root: None,
            augment: PhantomData,
        }
    }

    /// The topmost record.
    pub fn root(&self) -> Link {
        self.root
    }

    /// The area that starts at page `first`.
    pub fn find(&self, first: u64) -> Link {
        let mut next = self.root;
        while let Some(area) = next {
            let here = area.first.get();
            if here == first {
                break;
            }
            next = area.child[usize::from(here < first)].get();
        }
        next
    }

    /// The last area that starts at page `page` or below it.
    pub fn find_last_from(&self, page: u64) -> Link {
        let mut found = None;
        let mut next = self.root;
        while let Some(area) = next {
            let side = if area.first.get() <= page {
                found = next;
                Side::Right
            } else {
                Side::Left
            };
            next = area.child[side as usize].get();
        }
        found
    }

    /// The areas around page `first`, and where one that starts there belongs.
    #[inline]
    pub fn locate(&self, first: u64) -> Surroundings {
        let (mut below, mut above, mut parent) = (None, None, None);
        let mut next = self.root;
        while let Some(area) = next {
            let side = if area.first.get() <= first {
                below = next;
                Side::Right
            } else {
                above = next;
                Side::Left
            };
            parent = Some((area, side));
            next = area.child[side as usize].get();
        }
        Surroundings {
            below,
            above,
            place: Place { parent },
        }
    }

    /// Where an area that starts at page `first` belongs. Cheaper than [`locate`](Self::locate).
    #[inline]
    pub fn place_of(&self, first: u64) -> Place {
        let mut parent = None;
        let mut next = self.root;
        while let Some(area) = next {
            let side = if area.first.get() <= first {
                Side::Right
            } else {
                Side::Left
            };
            parent = Some((area, side));
            next = area.child[side as usize].get();
        }
        Place { parent }
    }

    /// Links `area` at its place, which must have been found since the tree last changed.
    pub fn insert(&mut self, area: &'static VmapArea, place: Place) {
        area.child[0].set(None);
        area.child[1].set(None);
        area.rank.set(0);
        A::refresh(area);
        let Some((mut parent, mut side)) = place.parent else {
            area.parent.set(None);
            self.root = Some(area);
            return;
        };
        set_child(parent, side, Some(area));
        self.absorb_upwards(area);
        // Promote parents as long as the child has reached their rank.
        let mut child = area;
        while child.rank.get() == parent.rank.get() {
            if parent.rank_above(side.other()) != 1 {
                self.mend_insertion(parent, child, side);
                return;
            }
            parent.rank.set(parent.rank.get() + 1);
            child = parent;
            let Some(up) = child.parent.get() else { return };
            side = side_of(up, child);
            parent = up;
        }
    }

    /// Unlinks `area`, which must be in this tree.
    pub fn remove(&mut self, area: &'static VmapArea) {
        let [left, right] = [area.child[0].get(), area.child[1].get()];
        // The record that lost rank on one side, and the side.
        let (mut parent, mut side);
        if let (Some(left), Some(right)) = (left, right) {
            // Two children: the next area in order takes the place.
            let heir = lowest(right);
            if ptr::eq(heir, right) {
                (parent, side) = (heir, Side::Right);
            } else {
                let above = heir.parent.get().expect("it is below `right`");
                set_child(above, Side::Left, heir.child[1].get());
                set_child(heir, Side::Right, Some(right));
                (parent, side) = (above, Side::Left);
            }
            set_child(heir, Side::Left, Some(left));
            heir.rank.set(area.rank.get());
            // As the ancestors know it, so that `refresh` can tell them of a change.
            heir.largest.set(area.largest.get());
            self.replace(area, Some(heir));
            self.refresh_upwards(parent);
            self.refresh_upwards(heir);
        } else {
            let child = left.or(right);
            let Some(up) = area.parent.get() else {
                self.replace(area, child);
                return;
            };
            (parent, side) = (up, side_of(up, area));
            set_child(up, side, child);
            self.refresh_upwards(up);
        }
        if parent.rank.get() == 1 && parent.is_childless() {
            parent.rank.set(0);
            let Some(up) = parent.parent.get() else {
                return;
            };
            side = side_of(up, parent);
            parent = up;
        }
        // Demote parents as long as the child is three ranks below.
        while parent.rank_above(side) == 3 {
            if !self.demote(parent, side) {
                return;
            }
            let Some(up) = parent.parent.get() else {
                return;
            };
            side = side_of(up, parent);
            parent = up;
        }
    }

    /// Brings the summaries up to date after the length of `area` or its children changed.
    #[inline]
    pub fn refresh_upwards(&self, area: &'static VmapArea) {
        let mut next = Some(area);
        while let Some(area) = next
            && A::refresh(area)
        {
            next = area.parent.get();
        }
    }

    /// The same after the length of `area` or what it is made of grew.
    #[inline]
    pub fn absorb_upwards(&self, mut area: &'static VmapArea) {
        while let Some(parent) = area.parent.get()
            && A::absorb(parent, area)
        {
            area = parent;
        }
    }

    /// The areas from the lowest to the highest address.
    pub fn iter(&self) -> Iter<'_> {
        Iter {
            next: self.root.map(lowest),
            tree: PhantomData,
        }
    }

    /// Puts `new` where `old` hangs: below its parent, or at the root.
    fn replace(&mut self, old: &VmapArea, new: Link) {
        match old.parent.get() {
            Some(parent) => set_child(parent, side_of(parent, old), new),
            None => {
                self.root = new;
                if let Some(new) = new {
                    new.parent.set(None);
                }
            }
        }
    }

    /// Turns the subtree of `area` towards `side`: the child on the other side becomes its root,
    /// and is returned. Ranks stay as they are.
    #[inline(always)]
    fn rotate(&mut self, area: &'static VmapArea, side: Side) -> &'static VmapArea {
        let up = area.child[side.other() as usize]
            .get()
            .expect("the higher side has a child");
        let inner = up.child[side as usize].get();
        self.replace(area, Some(up));
        set_child(area, side.other(), inner);
        set_child(up, side, Some(area));
        A::take_over(up, area);
        A::refresh(area);
        up
    }

    /// Mends `parent`, whose child on `side` has the same rank, by moving that or its inner child
    /// up. The subtree then has the rank it had before the insertion.
    fn mend_insertion(&mut self, parent: &'static VmapArea, child: &'static VmapArea, side: Side) {
        parent.rank.set(parent.rank.get() - 1);
        if child.rank_above(side.other()) == 1 {
            let inner = self.rotate(child, side);
            inner.rank.set(inner.rank.get() + 1);
            child.rank.set(child.rank.get() - 1);
        }
        self.rotate(parent, side.other());
    }

    /// Mends `parent`, whose child on `side` is three ranks below, after a removal. Returns
    /// whether the rank of the subtree went down, so that the one above may need the same.
    fn demote(&mut self, parent: &'static VmapArea, side: Side) -> bool {
        let sibling = parent.child[side.other() as usize]
            .get()
            .expect("its rank is not -1");
        let two_below = parent.rank_above(side.other()) == 2;
        if two_below || sibling.rank_above(side) == 2 && sibling.rank_above(side.other()) == 2 {
            parent.rank.set(parent.rank.get() - 1);
            if !two_below {
                sibling.rank.set(sibling.rank.get() - 1);
            }
            return true;
        }
        if sibling.rank_above(side.other()) == 1 {
            self.rotate(parent, side);
            sibling.rank.set(sibling.rank.get() + 1);
            let rank = if parent.is_childless() {
                0
            } else {
                parent.rank.get() - 1
            };
            parent.rank.set(rank);
        } else {
            let inner = self.rotate(sibling, side.other());
            self.rotate(parent, side);
            inner.rank.set(inner.rank.get() + 2);
            sibling.rank.set(sibling.rank.get() - 1);
            parent.rank.set(parent.rank.get() - 2);
        }
        false
    }
}

impl VmapArea {
    /// How many ranks the child on `side` is below this record.
    fn rank_above(&self, side: Side) -> i8 {
        let child = self.child[side as usize].get();
        self.rank.get() - child.map_or(-1, |child| child.rank.get())
    }

    /// Whether there is nothing below.
    fn is_childless(&self) -> bool {
        self.child[0].get().is_none() && self.child[1].get().is_none()
    }
}

/// Areas of a tree in the order of their addresses.
#[derive(Debug)]
pub struct Iter<'a> {
    /// What comes next.
    next: Link,
    /// The tree, which must not change meanwhile.
    tree: PhantomData<&'a VmapArea>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a VmapArea;

    fn next(&mut self) -> Option<&'a VmapArea> {
        let area = self.next?;
        self.next = following(area);
        Some(area)
    }
}

/// Links `child`, if any, below `parent`.
fn set_child(parent: &'static VmapArea, side: Side, child: Link) {
    parent.child[side as usize].set(child);
    if let Some(child) = child {
        child.parent.set(Some(parent));
    }
}

/// The side of `parent` on which `child` hangs.
fn side_of(parent: &VmapArea, child: &VmapArea) -> Side {
    match parent.child[0].get() {
        Some(left) if ptr::eq(left, child) => Side::Left,
        _ => Side::Right,
    }
}

/// The lowest area in the subtree of `area`.
fn lowest(mut area: &'static VmapArea) -> &'static VmapArea {
    while let Some(left) = area.child[0].get() {
        area = left;
    }
    area
}

/// The area after `area` in its tree.
pub fn following(area: &'static VmapArea) -> Link {
    match area.child[1].get() {
        Some(right) => Some(lowest(right)),
        None => parent_to_the_right(area),
    }
}

/// The area before `area` in its tree.
pub fn preceding(mut area: &'static VmapArea) -> Link {
    if let Some(mut left) = area.child[0].get() {
        while let Some(right) = left.child[1].get() {
            left = right;
        }
        return Some(left);
    }
    loop {
        let parent = area.parent.get()?;
        if side_of(parent, area) == Side::Right {
            return Some(parent);
        }
        area = parent;
    }
}

/// The closest ancestor that has `area` in its left subtree.
pub fn parent_to_the_right(mut area: &'static VmapArea) -> Link {
    loop {
        let parent = area.parent.get()?;
        if side_of(parent, area) == Side::Left {
            return Some(parent);
        }
        area = parent;
    }
}

/// Where the area that follows `area` directly belongs.
pub fn place_after(area: &'static VmapArea) -> Place {
    let parent = match area.child[1].get() {
        Some(right) => (lowest(right), Side::Left),
        None => (area, Side::Right),
    };
    Place {
        parent: Some(parent),
    }
}

/// Where an area belongs that lies below `above` and above `below`, which is the one before it, or
/// none.
#[inline]
pub fn place_between(below: Link, above: &'static VmapArea) -> Place {
    // Of two that follow one another one is below the other in the tree: that one has room.
    let parent = match below {
        Some(below) if above.child[0].get().is_some() => (below, Side::Right),
        _ => (above, Side::Left),
    };
    Place {
        parent: Some(parent),
    }
}
