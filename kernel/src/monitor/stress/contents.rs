//! What is in memory, and how it is looked at: by checked accesses, which the shadow and the page
//! tables may refuse, and never by a plain load.

use super::{
    dice::mix,
    wrong::{Wrong, ensure, wrong},
};
use crate::{
    arch::fixup::{probe_read_u64, probe_write_u64},
    mm::{
        kasan::{self, access, populate::read_shadow, shadow},
        linear_map,
    },
};
use vmsa::{Frame, PAGE_SIZE, VirtAddr};

/// The word at `va`.
pub(super) fn load(va: VirtAddr) -> Result<u64, Wrong> {
    access::load_u64(va).map_err(|error| wrong!("{va} can't be read: {error:?}"))
}

/// Makes `value` the word at `va`, which is the caller's.
pub(super) fn store(va: VirtAddr, value: u64) -> Result<(), Wrong> {
    // SAFETY: every address that this room writes to is of memory that it allocated.
    unsafe { access::store_u64(va, value) }
        .map_err(|error| wrong!("{va} can't be written: {error:?}"))
}

/// Whether the word at `va` can be read, whatever the shadow says.
pub(super) fn readable(va: VirtAddr) -> bool {
    probe_read_u64(va).is_ok()
}

/// Whether the word at `va`, which is the caller's and holds `value`, can be written.
pub(super) fn writable(va: VirtAddr, value: u64) -> bool {
    // SAFETY: it is the caller's, and what is written is what it holds.
    unsafe { probe_write_u64(va, value) }.is_ok()
}

/// Whether the shadow forbids the byte at `va`; true of every byte without KASAN.
pub(super) fn shadow_forbids(va: VirtAddr) -> bool {
    !kasan::is_on() || shadow::first_bad_byte(va, 1, read_shadow).is_some()
}

/// The frame behind `va`, mapped by a page or a block, valid or not.
pub(super) fn frame_behind(va: VirtAddr) -> Result<Frame, Wrong> {
    let leaf = linear_map::kernel().leaf(va);
    let first = leaf.and_then(|(entry, level)| {
        let within = va.as_u64() & (level.bytes() - 1);
        entry.output_ignoring_valid(level)?.checked_add(within)
    });
    first
        .map(Frame::containing)
        .ok_or_else(|| wrong!("{va} is of an area and mapped to nothing"))
}

/// The address of the byte at `va` in the linear map.
pub(super) fn alias(va: VirtAddr) -> Result<VirtAddr, Wrong> {
    Ok(linear_map::virt(frame_behind(va)?.start()) + va.page_offset())
}

/// The marks of an area: a word in each of a few of its pages, which tells the area and the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    start: VirtAddr,
    size: u64,
    tag: u64,
}

/// Pages of an area that have a mark, at most.
const MARKED: u64 = 6;

impl Marks {
    pub(super) fn new(start: VirtAddr, size: u64, tag: u64) -> Self {
        Self { start, size, tag }
    }

    /// The mark of page `n`: where, and what. `None` where the area ends before its first word.
    pub(super) fn of_page(&self, n: u64) -> Option<(VirtAddr, u64)> {
        // The last words of a page are left to those who put code there.
        let words = (self.size - n * PAGE_SIZE).min(PAGE_SIZE - 64) / 8;
        let value = mix(self.tag ^ n);
        let word = (words > 0).then(|| value % words)?;
        Some((self.start + n * PAGE_SIZE + word * 8, value))
    }

    /// The pages that have one: all of a small area, and of others some, the first and the last
    /// among them.
    pub(super) fn pages(&self) -> impl Iterator<Item = u64> + use<> {
        let last = self.size.div_ceil(PAGE_SIZE) - 1;
        let step = last.div_ceil(MARKED).max(1);
        (0..last).step_by(step as usize).chain([last])
    }

    /// Writes all of them.
    pub(super) fn write(&self) -> Result<(), Wrong> {
        self.pages()
            .filter_map(|n| self.of_page(n))
            .try_for_each(|(va, value)| store(va, value))
    }

    /// Whether all of them are there, in the pages that `valid` holds of.
    pub(super) fn check(&self, valid: impl Fn(u64) -> bool) -> Result<(), Wrong> {
        for (va, value) in self
            .pages()
            .filter(|n| valid(*n))
            .filter_map(|n| self.of_page(n))
        {
            let found = load(va)?;
            ensure!(
                found == value,
                "{va} holds {found:#018x}, and {value:#018x} was written"
            );
        }
        Ok(())
    }
}
