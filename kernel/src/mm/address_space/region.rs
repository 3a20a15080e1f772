//! The regions of an address space: which addresses may be used, and how.
//!
//! A sorted list without gaps in memory that it is lent, so that a change allocates nothing and is
//! either made whole or refused.

use bitflags::bitflags;
use core::fmt;
use vmsa::{Attributes, PAGE_SIZE, PageRange, VirtAddr};

bitflags! {
    /// What a program may do with its pages.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Protection: u8 {
        /// Load from them.
        const READ = 1;
        /// Store to them.
        const WRITE = 2;
        /// Execute them.
        const EXECUTE = 4;
    }
}

impl Protection {
    /// Whether pages can be mapped so: readable if anything at all, and never writable and
    /// executable at once, which is W^X.
    #[must_use]
    pub fn is_possible(self) -> bool {
        let read = self.contains(Self::READ) || self.is_empty();
        read && !self.contains(Self::WRITE | Self::EXECUTE)
    }

    /// Whether it permits an access.
    #[must_use]
    pub fn permits(self, access: Access) -> bool {
        self.contains(match access {
            Access::Read => Self::READ,
            Access::Write => Self::WRITE,
            Access::Execute => Self::EXECUTE,
        })
    }

    /// The attributes of a page that is mapped so. Non-global: it is of one ASID; PXN always: the
    /// kernel executes nothing of a program's; AF: Lull does not ask which pages are used, and a leaf
    /// without it would fault.
    #[must_use]
    pub fn attributes(self) -> Attributes {
        let mut attributes = Attributes::NORMAL
            | Attributes::SH_INNER
            | Attributes::AF
            | Attributes::NG
            | Attributes::AP_EL0
            | Attributes::PXN;
        if !self.contains(Self::WRITE) {
            attributes |= Attributes::AP_READ_ONLY;
        }
        if !self.contains(Self::EXECUTE) {
            attributes |= Attributes::UXN;
        }
        attributes
    }
}

impl fmt::Display for Protection {
    /// As in `/proc/PID/maps`: `rw-`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = [(Self::READ, 'r'), (Self::WRITE, 'w'), (Self::EXECUTE, 'x')];
        letters.into_iter().try_for_each(|(flag, letter)| {
            write!(f, "{}", if self.contains(flag) { letter } else { '-' })
        })
    }
}

/// How memory is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

/// Consecutive pages of one protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Region {
    /// The number of the first page.
    first: u64,
    /// The number of the page behind the last.
    end: u64,
    protection: Protection,
}

impl Region {
    /// A slot of a list that nobody uses.
    pub const UNUSED: Self = Self {
        first: 0,
        end: 0,
        protection: Protection::empty(),
    };

    /// Its pages.
    ///
    /// # Panics
    ///
    /// If it is [`UNUSED`](Self::UNUSED).
    #[must_use]
    pub fn range(&self) -> PageRange {
        VirtAddr::new(self.first * PAGE_SIZE)
            .and_then(|start| PageRange::new(start, self.end - self.first))
            .expect("a region was a range")
    }

    /// How they may be used.
    #[must_use]
    pub fn protection(&self) -> Protection {
        self.protection
    }
}

/// The list is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The regions, lowest first. None touches another of the same protection.
#[derive(Debug)]
pub struct Regions<'m> {
    slots: &'m mut [Region],
    used: usize,
}

fn pages_of(range: PageRange) -> (u64, u64) {
    let first = range.start().as_u64() / PAGE_SIZE;
    (first, first + range.pages())
}

impl<'m> Regions<'m> {
    /// No regions, and room for as many as there are slots.
    pub fn new(slots: &'m mut [Region]) -> Self {
        Self { slots, used: 0 }
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Region] {
        &self.slots[..self.used]
    }

    /// The region that an address is in.
    #[must_use]
    pub fn find(&self, va: VirtAddr) -> Option<&Region> {
        let page = va.as_u64() / PAGE_SIZE;
        let after = self.all().partition_point(|region| region.end <= page);
        self.all().get(after).filter(|region| region.first <= page)
    }

    /// The regions that have pages in a range, cut to it.
    pub fn within(&self, range: PageRange) -> impl Iterator<Item = Region> {
        let (first, end) = pages_of(range);
        let from = self.all().partition_point(|region| region.end <= first);
        self.all()[from..]
            .iter()
            .take_while(move |region| region.first < end)
            .map(move |region| Region {
                first: region.first.max(first),
                end: region.end.min(end),
                protection: region.protection,
            })
    }

    /// Whether every page of a range is in a region.
    #[must_use]
    pub fn covers(&self, range: PageRange) -> bool {
        let pages: u64 = self
            .within(range)
            .map(|region| region.end - region.first)
            .sum();
        pages == range.pages()
    }

    /// Gives the pages of a range, in regions or not, a protection; `None` takes them out.
    ///
    /// # Errors
    /// [`Full`]; nothing has changed.
    pub fn set(&mut self, range: PageRange, protection: Option<Protection>) -> Result<(), Full> {
        let (mut first, mut end) = pages_of(range);
        let all = self.all();
        let from = all.partition_point(|region| region.end <= first);
        let to = from + all[from..].partition_point(|region| region.first < end);

        // What replaces `from..to`: what is left of the first, the new one, what is left of the last.
        let mut new = [Region::UNUSED; 3];
        let mut count = 0;
        let mut push = |region: Region| {
            if region.first < region.end {
                new[count] = region;
                count += 1;
            }
        };
        let (mut from, mut to) = (from, to);
        let left = (from < to).then(|| all[from]);
        let right = (from < to).then(|| all[to - 1]);
        // What joins it is taken in.
        let mut joins = |region: Option<Region>| {
            let Some(region) = region.filter(|region| Some(region.protection) == protection) else {
                return false;
            };
            let touches = region.first <= end && first <= region.end;
            if touches {
                first = first.min(region.first);
                end = end.max(region.end);
            }
            touches
        };
        let left_joined = joins(left);
        let right_joined = joins(right);
        if from > 0 && joins(Some(all[from - 1])) {
            from -= 1;
        }
        if to < all.len() && joins(Some(all[to])) {
            to += 1;
        }
        if let Some(left) = left.filter(|_| !left_joined) {
            push(Region {
                end: left.end.min(first),
                ..left
            });
        }
        if let Some(protection) = protection {
            push(Region {
                first,
                end,
                protection,
            });
        }
        if let Some(right) = right.filter(|_| !right_joined) {
            push(Region {
                first: right.first.max(end),
                ..right
            });
        }

        let after = self.used - (to - from) + count;
        if after > self.slots.len() {
            return Err(Full);
        }
        self.slots.copy_within(to..self.used, from + count);
        self.slots[from..from + count].copy_from_slice(&new[..count]);
        self.used = after;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn range(first: u64, pages: u64) -> PageRange {
        PageRange::new(VirtAddr::new(first * PAGE_SIZE).unwrap(), pages).unwrap()
    }

    const RW: Protection = Protection::READ.union(Protection::WRITE);

    #[test]
    fn a_hole_makes_two_of_one_and_filling_it_makes_one_of_two() {
        let mut slots = [Region::UNUSED; 3];
        let mut regions = Regions::new(&mut slots);
        regions.set(range(10, 10), Some(RW)).unwrap();
        regions.set(range(14, 2), None).unwrap();
        let found: Vec<_> = regions.all().iter().map(|r| (r.first, r.end)).collect();
        assert_eq!(found, [(10, 14), (16, 20)]);
        assert!(!regions.covers(range(10, 10)) && regions.covers(range(16, 4)));
        regions.set(range(14, 2), Some(RW)).unwrap();
        assert_eq!(regions.all().len(), 1);
    }

    #[test]
    fn a_change_that_has_no_room_changes_nothing() {
        let mut slots = [Region::UNUSED; 2];
        let mut regions = Regions::new(&mut slots);
        regions.set(range(10, 10), Some(RW)).unwrap();
        let before = regions.all().to_vec();
        assert_eq!(regions.set(range(14, 2), Some(Protection::READ)), Err(Full));
        assert_eq!(regions.all(), before);
        regions.set(range(14, 6), Some(Protection::READ)).unwrap();
    }

    #[test]
    fn writable_code_and_write_only_pages_are_not_possible() {
        let possible: Vec<_> = (0..8)
            .filter(|bits| Protection::from_bits_retain(*bits).is_possible())
            .collect();
        assert_eq!(possible, [0b000, 0b001, 0b011, 0b101]);
        assert_eq!(RW.to_string(), "rw-");
    }

    proptest! {
        #[test]
        fn it_is_a_map_from_pages_to_protections(
            steps in prop::collection::vec((1u64..60, 1u64..20, prop::option::of(0u8..4)), 0..60),
        ) {
            let mut slots = [Region::UNUSED; 12];
            let mut regions = Regions::new(&mut slots);
            let mut map = BTreeMap::new();
            for (first, pages, bits) in steps {
                let protection = bits.map(Protection::from_bits_retain);
                let mut changed = map.clone();
                for page in first..first + pages {
                    match protection {
                        Some(protection) => changed.insert(page, protection),
                        None => changed.remove(&page),
                    };
                }
                // As few regions as there are runs.
                let runs = changed
                    .iter()
                    .filter(|(page, p)| changed.get(&(*page - 1)) != Some(*p))
                    .count();
                let result = regions.set(range(first, pages), protection);
                prop_assert_eq!(result.is_ok(), runs <= 12);
                if result.is_ok() {
                    map = changed;
                    prop_assert_eq!(regions.all().len(), runs);
                }
                for page in 1..90 {
                    let found = regions.find(VirtAddr::new(page * PAGE_SIZE).unwrap());
                    prop_assert_eq!(found.map(Region::protection), map.get(&page).copied());
                }
                let (lo, n) = (first.saturating_sub(3).max(1), pages + 3);
                let whole = (lo..lo + n).all(|page| map.contains_key(&page));
                prop_assert_eq!(regions.covers(range(lo, n)), whole);
            }
        }
    }
}
