//! Areas in a chain, linked through their records: those that wait for something, once somebody has
//! taken them all.

use core::{fmt, iter, ptr};

use vmsa::PageRange;

use super::{AreaKind, Link, OwnedArea, VmapArea, range};

/// Areas that nobody else can reach, the one that came last first. Holding one allocates nothing.
#[derive(Default)]
#[must_use = "dropping it loses the addresses of every area for ever"]
pub struct Chain {
    /// The rest hangs on its `child[1]`.
    first: Link,
}

// SAFETY: the records of the chain are reached through it only, so that they move with it.
unsafe impl Send for Chain {}

impl Chain {
    /// No areas.
    pub const fn new() -> Self {
        Self { first: None }
    }

    /// Adds an area in front.
    pub fn push(&mut self, area: OwnedArea) {
        area.0.child[1].set(self.first);
        self.first = Some(area.0);
    }

    /// Takes the first area out.
    pub fn pop(&mut self) -> Option<OwnedArea> {
        let first = self.first?;
        self.first = first.child[1].get();
        Some(OwnedArea(first))
    }

    /// The areas, the first first.
    pub fn iter(&self) -> impl Iterator<Item = &VmapArea> {
        following(self.first)
    }

    /// The areas as *runs*: neighbours that follow one another in the chain are one range, if `what`
    /// is the same of both. In page numbers up to the end of a run, so that an area of it costs no
    /// more than a comparison: areas that were freed one after the other mostly are neighbours.
    pub fn runs<W: Copy + PartialEq>(
        &self,
        what: impl Fn(AreaKind) -> W,
    ) -> impl Iterator<Item = (PageRange, W)> {
        let mut next = self.first;
        iter::from_fn(move || {
            let area = next?;
            let of_run = what(area.info.get().kind);
            let (mut first, mut end) = (area.first.get(), area.end());
            next = area.child[1].get();
            while let Some(area) = next
                && what(area.info.get().kind) == of_run
            {
                if area.first.get() == end {
                    end = area.end();
                } else if area.end() == first {
                    first = area.first.get();
                } else {
                    break;
                }
                next = area.child[1].get();
            }
            Some((range(first, end - first), of_run))
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The chain whose first record this is: see [`link_before`].
    ///
    /// # Safety
    /// Nobody else can reach any record of it.
    pub unsafe fn from_raw(first: *mut VmapArea) -> Self {
        Self {
            // SAFETY: records live for ever.
            first: unsafe { first.as_ref() },
        }
    }
}

/// The areas of a chain that others hold, by its first record.
///
/// # Safety
/// Nobody takes an area out of the chain as long as the references are used.
pub unsafe fn iter_raw<'a>(first: *mut VmapArea) -> impl Iterator<Item = &'a VmapArea> {
    // SAFETY: records live for ever.
    following(unsafe { first.as_ref() })
}

/// A record and those behind it.
fn following<'a>(first: Link) -> impl Iterator<Item = &'a VmapArea> {
    let first: Option<&VmapArea> = first;
    iter::successors(first, |area| area.child[1].get())
}

/// Puts `next`, the first record of a chain or null, behind `area`, which can then be made the
/// chain's new first record.
///
/// # Safety
/// `area` is from [`OwnedArea::into_raw`], and nobody else has been given it since.
#[inline]
pub unsafe fn link_before(area: *mut VmapArea, next: *mut VmapArea) {
    // SAFETY: records live for ever; the first is the caller's.
    unsafe { (*area).child[1].set(next.as_ref()) };
}

impl OwnedArea {
    /// The record, for a chain that is shared by its first record alone.
    #[inline]
    pub fn into_raw(self) -> *mut VmapArea {
        ptr::from_ref(self.0).cast_mut()
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
