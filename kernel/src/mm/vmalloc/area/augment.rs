//! What the root of a subtree says about all areas in it.

use super::VmapArea;

/// What the root of every subtree knows about the whole of it.
pub trait Augment {
    /// Computes the summary in `area` from its own value and those of its children, and says
    /// whether it changed.
    fn refresh(area: &VmapArea) -> bool;

    /// The same where all that happened is that the summary of a child grew, or a child came.
    fn absorb(area: &VmapArea, child: &VmapArea) -> bool;

    /// The same for `new`, which becomes the root of the subtree in the place of `old`: what is said of
    /// that stays true.
    fn take_over(new: &VmapArea, old: &VmapArea);
}

/// No summary.
#[derive(Debug)]
pub struct Plain;

impl Augment for Plain {
    fn refresh(_: &VmapArea) -> bool {
        false
    }

    fn absorb(_: &VmapArea, _: &VmapArea) -> bool {
        false
    }

    fn take_over(_: &VmapArea, _: &VmapArea) {}
}

/// The length of the longest area in the subtree.
#[derive(Debug)]
pub struct Largest;

impl Augment for Largest {
    fn refresh(area: &VmapArea) -> bool {
        let mut largest = area.pages.get();
        for child in &area.child {
            if let Some(child) = child.get() {
                largest = largest.max(child.largest.get());
            }
        }
        area.largest.replace(largest) != largest
    }

    fn absorb(area: &VmapArea, child: &VmapArea) -> bool {
        let grows = area.largest.get() < child.largest.get();
        if grows {
            area.largest.set(child.largest.get());
        }
        grows
    }

    fn take_over(new: &VmapArea, old: &VmapArea) {
        new.largest.set(old.largest.get());
    }
}
