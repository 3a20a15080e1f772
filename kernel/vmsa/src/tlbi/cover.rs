//! Which operations invalidate a range of pages.

use super::{MAX_TLBI_RANGE_PAGES, Operand, Operation, RangeOperand, SCALE_MAX, range_op_pages};
use crate::addr::{PAGE_SHIFT, VirtAddr};
use crate::level::Level;
use crate::range::PageRange;

/// The most operations by address that [`cover`] gives, less one: what Linux calls
/// `MAX_DVM_OPS`, one operation for each entry of a table.
pub const MAX_DVM_OPS: u64 = 512;

/// The operations that invalidate the pages of `range` for all ASIDs, on all CPUs.
///
/// - `last_level_only`: leave cached table entries alone; enough unless a table was
///   removed or replaced.
/// - `ttl`: the level of all leaf entries in the range if that is known, as a hint; the range is
///   then rounded outwards to whole entries of that level and walked in steps of them. A wrong
///   hint may invalidate nothing. Only with `last_level_only`; without it, and at level 0, no
///   hint is given.
/// - `have_range`: FEAT_TLBIRANGE (`ID_AA64ISAR0_EL1.TLB >= 0b0010`).
///
/// A range that would take [`MAX_DVM_OPS`] operations or more, or with FEAT_TLBIRANGE has more than
/// [`MAX_TLBI_RANGE_PAGES`] pages, is covered by one [`Operation::Vmalle1is`]: Linux's cut-off
/// in `flush_tlb_kernel_range`. Below it exactly the pages of the range are invalidated: range
/// operations in descending order of scale, and a single one for the last page of an odd count.
///
/// The caller issues a DSB ISHST before the first operation and a DSB ISH after the last.
///
/// ```
/// use vmsa::{PageRange, VirtAddr, tlbi};
///
/// let range = PageRange::new(VirtAddr::literal(0xffff_8000_8000_0000), 67).unwrap();
/// assert_eq!(tlbi::cover(range, true, None, false).count(), 67);
/// // 64 pages, 2 pages, and the odd one
/// assert_eq!(tlbi::cover(range, true, None, true).count(), 3);
/// ```
pub fn cover(
    range: PageRange,
    last_level_only: bool,
    ttl: Option<Level>,
    have_range: bool,
) -> impl Iterator<Item = Operation> {
    Cover::new(range, None, last_level_only, ttl, have_range)
}

/// As [`cover`](fn@cover), for entries of level 3, as `hint` says if it may: calls `each` with every
/// operation. A flush of a few pages is as long as what finds its operation, and here that is some
/// fifteen instructions, a fifth of what the iterator takes.
///
/// ```
/// use vmsa::{Level, PageRange, VirtAddr, tlbi};
///
/// let range = PageRange::new(VirtAddr::literal(0xffff_8000_8000_0000), 67).unwrap();
/// let mut operations = Vec::new();
/// tlbi::cover_pages(range, true, true, true, |operation| operations.push(operation));
/// assert!(operations.into_iter().eq(tlbi::cover(range, true, Some(Level::L3), true)));
/// ```
#[inline]
pub fn cover_pages(
    range: PageRange,
    last_level_only: bool,
    hint: bool,
    have_range: bool,
    mut each: impl FnMut(Operation),
) {
    let ttl = match hint && last_level_only {
        true => Some(Level::L3),
        false => None,
    };
    let mut pages = range.pages();
    if !have_range || pages > MAX_TLBI_RANGE_PAGES {
        return cover_each(range, last_level_only, ttl, have_range, each);
    }
    // How far the rest is from the start.
    let mut done = 0;
    while pages > 1 {
        // The largest that fits. Where 32 times a scale would fit the next one does.
        let scale = match pages {
            0..64 => 0,
            64..2048 => 1,
            2048..65536 => 2,
            _ => SCALE_MAX,
        };
        let num = pages / range_op_pages(scale, 0) - 1;
        let base = range.start().within_half(done << PAGE_SHIFT);
        let operand = RangeOperand::of_pages(base, ttl, scale, num);
        each(match last_level_only {
            true => Operation::Rvaale1is(operand),
            false => Operation::Rvaae1is(operand),
        });
        done += range_op_pages(scale, num);
        pages -= range_op_pages(scale, num);
    }
    if pages == 1 {
        let last = range.start().within_half(done << PAGE_SHIFT);
        let operand = Operand::new(last, 0, ttl);
        each(match last_level_only {
            true => Operation::Vaale1is(operand),
            false => Operation::Vaae1is(operand),
        });
    }
}

#[cold]
#[inline(never)]
fn cover_each(
    range: PageRange,
    last_level_only: bool,
    ttl: Option<Level>,
    have_range: bool,
    each: impl FnMut(Operation),
) {
    cover(range, last_level_only, ttl, have_range).for_each(each);
}

/// As [`cover`](fn@cover), for one ASID (and global entries): the operations that invalidate a range
/// of user addresses. Above the cut-off it is one [`Operation::Aside1is`], Linux's rule in
/// `flush_tlb_range`.
///
/// ```
/// use vmsa::{PageRange, VirtAddr, tlbi};
///
/// let range = PageRange::new(VirtAddr::literal(0x40_0000), 512).unwrap();
/// let by_page = tlbi::cover_asid(range, 7, true, None, false);
/// assert_eq!(by_page.map(|op| op.name()).collect::<Vec<_>>(), ["aside1is"]);
/// assert_eq!(tlbi::cover_asid(range, 7, true, None, true).count(), 1);
/// ```
pub fn cover_asid(
    range: PageRange,
    asid: u16,
    last_level_only: bool,
    ttl: Option<Level>,
    have_range: bool,
) -> impl Iterator<Item = Operation> {
    Cover::new(range, Some(asid), last_level_only, ttl, have_range)
}

/// The rest of a range that [`cover`] has yet to invalidate.
#[derive(Clone, Debug)]
struct Cover {
    /// First page of the rest.
    next: VirtAddr,
    /// Pages of the rest.
    pages: u64,
    /// Pages that one operation by address is taken to cover.
    stride: u64,
    /// Larger scales have been used already, or were too large.
    scale: u32,
    /// The ASID that it is for; all of them without.
    asid: Option<u16>,
    /// The rest is all there is: one operation for everything.
    all: bool,
    /// See [`cover`].
    last_level_only: bool,
    /// See [`cover`].
    ttl: Option<Level>,
    /// See [`cover`].
    have_range: bool,
}

impl Cover {
    /// Decides between pages and everything.
    fn new(
        range: PageRange,
        asid: Option<u16>,
        last_level_only: bool,
        ttl: Option<Level>,
        have_range: bool,
    ) -> Self {
        let ttl = ttl.filter(|level| last_level_only && *level != Level::L0);
        let unit = ttl.unwrap_or(Level::L3).bytes();
        let next = range.start().align_down(unit);
        // Halves are whole numbers of units, so rounding up at the top cannot leave one.
        let last = range.last_byte().as_u64() | (unit - 1);
        let pages = ((last - next.as_u64()) >> PAGE_SHIFT) + 1;
        let stride = unit >> PAGE_SHIFT;
        let all = if have_range {
            pages > MAX_TLBI_RANGE_PAGES
        } else {
            pages / stride >= MAX_DVM_OPS
        };
        Self {
            next,
            pages,
            stride,
            scale: SCALE_MAX,
            asid,
            all,
            last_level_only,
            ttl,
            have_range,
        }
    }

    /// Takes `pages` pages off the front.
    fn advance(&mut self, pages: u64) {
        self.pages -= pages;
        // At the very end of a half there is no next address, and none is needed.
        if let Some(next) = self.next.checked_add(pages << PAGE_SHIFT) {
            self.next = next;
        }
    }
}

impl Iterator for Cover {
    type Item = Operation;

    fn next(&mut self) -> Option<Operation> {
        if self.pages == 0 {
            return None;
        }
        if self.all {
            self.pages = 0;
            return Some(match self.asid {
                None => Operation::Vmalle1is,
                Some(asid) => Operation::Aside1is(Operand::asid_only(asid)),
            });
        }
        if !self.have_range || self.pages == 1 {
            let operand = Operand::new(self.next, self.asid.unwrap_or(0), self.ttl);
            self.advance(self.stride);
            return Some(match (self.asid, self.last_level_only) {
                (None, true) => Operation::Vaale1is(operand),
                (None, false) => Operation::Vaae1is(operand),
                (Some(_), true) => Operation::Vale1is(operand),
                (Some(_), false) => Operation::Vae1is(operand),
            });
        }
        // Two pages or more: the largest scale that still fits, as often as it fits.
        while range_op_pages(self.scale, 0) > self.pages {
            self.scale -= 1;
        }
        let num = self.pages / range_op_pages(self.scale, 0) - 1;
        let operand =
            RangeOperand::new(self.next, self.asid.unwrap_or(0), self.ttl, self.scale, num)?;
        self.advance(range_op_pages(self.scale, num));
        Some(match (self.asid, self.last_level_only) {
            (None, true) => Operation::Rvaale1is(operand),
            (None, false) => Operation::Rvaae1is(operand),
            (Some(_), true) => Operation::Rvale1is(operand),
            (Some(_), false) => Operation::Rvae1is(operand),
        })
    }
}
