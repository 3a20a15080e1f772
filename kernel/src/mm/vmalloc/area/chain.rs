//! Areas in a chain, linked through their records: those that wait for something, once somebody has
//! taken them all.

use core::{fmt, iter, ptr};

use super::{Link, OwnedArea, VmapArea};

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

    /// Makes one area of neighbours that follow one another and have no blocks: areas that were freed one
    /// after the other mostly are neighbours. Returns the records that stand
    /// for nothing any more.
    ///
    /// Some thousand areas go through here between two purges, for some ten instructions each; the
    /// flush and the free space then see few.
    pub fn join_neighbours(&mut self) -> Spare {
        let mut spare = Spare::NONE;
        let mut rest = self.first;
        while let Some(run) = rest {
            let (mut first, mut end) = (run.first.get(), run.end());
            let joined = run.child[1].get();
            let (mut next, mut last, mut count) = (joined, run, 0);
            // Blocks are flushed otherwise, and are few.
            let joins = !run.kind.get().has_blocks();
            while let Some(area) = next
                && !area.kind.get().has_blocks()
                && joins
            {
                if area.end() == first {
                    first = area.first.get();
                } else if area.first.get() == end {
                    end = area.end();
                } else {
                    break;
                }
                last = area;
                count += 1;
                next = area.child[1].get();
            }
            if count > 0 {
                run.first.set(first);
                run.pages.set(end - first);
                run.child[1].set(next);
                spare.add(joined, last, count);
            }
            rest = next;
        }
        spare
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

/// Records of areas whose addresses others stand for.
#[must_use = "dropping it loses the records for ever"]
pub struct Spare {
    /// Linked as in a [`Chain`].
    first: Link,
    /// The last one, if there is a first.
    last: Link,
    /// How many.
    count: usize,
}

// SAFETY: as for `Chain`.
unsafe impl Send for Spare {}

impl Spare {
    /// No records.
    pub const NONE: Self = Self {
        first: None,
        last: None,
        count: 0,
    };

    /// Adds `count` records that are linked, from `first` to `last`.
    fn add(&mut self, first: Link, last: &'static VmapArea, count: usize) {
        last.child[1].set(self.first);
        if self.last.is_none() {
            self.last = Some(last);
        }
        self.first = first;
        self.count += count;
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The first record, the last and how many they are; `None` where there are none.
    pub(super) fn into_linked(self) -> Option<(&'static VmapArea, &'static VmapArea, usize)> {
        Some((self.first?, self.last?, self.count))
    }
}

impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records", self.count)
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
