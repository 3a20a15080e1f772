//! `set_memory_ro` and its like: changing the permissions of kernel pages that are mapped.
//!
//! A vmalloc area's frames have a second address, in the linear map; with `RODATA=full` that alias
//! becomes read-only along with the area. And they may have a third, in TLBs: areas that were freed
//! but not purged yet. So the purge comes first (`vm_unmap_aliases`), then alias and area change in
//! one section, and both are flushed before it ends. Linux changes alias, purges, changes range,
//! with a section and a flush of its own each; the result is the same.

#[cfg(all(feature = "ktests", target_os = "none"))]
mod ktests;

use super::{
    layout::{LINEAR, VMALLOC},
    lazy::{self, Edit},
    linear_map,
    tlb::{Flush, Removed},
    vmalloc::{self, AreaKind},
};
use crate::{
    arch::record::span,
    bug::{Bug, planted},
};
use core::fmt;
use vmsa::{Attributes, Descriptor, Frame, Level, PAGE_SIZE, PageRange, PhysAddr, VirtAddr};

/// Why the permissions were not changed. Nothing was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The address is not page-aligned, or the pages are none.
    Misaligned,
    /// The pages are not all in one area made by vmalloc (-EINVAL in Linux).
    NoArea,
    /// Blocks or contiguous sets may map the pages, of which no part can be changed alone (-EINVAL
    /// in Linux for every area with VM_ALLOW_HUGE_VMAP).
    Huge,
    /// The pages would be writable and executable, here or through their alias.
    WritableAndExecutable,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Misaligned => "the range is not made of whole pages",
            Self::NoArea => "the range is not within one vmalloc area",
            Self::Huge => "the range may be mapped by blocks or contiguous sets",
            Self::WritableAndExecutable => "the range would be writable and executable",
        })
    }
}

/// Makes `pages` pages from `start` on read-only, and their linear alias.
///
/// # Errors
/// [`Error`]; nothing has changed.
pub fn set_memory_ro(start: VirtAddr, pages: u64) -> Result<(), Error> {
    let _span = span("set_memory_ro");
    change_memory_common(start, pages, Attributes::AP_READ_ONLY, Attributes::empty())
}

/// Makes them writable, and their linear alias.
///
/// # Errors
/// [`Error`]; nothing has changed.
pub fn set_memory_rw(start: VirtAddr, pages: u64) -> Result<(), Error> {
    let _span = span("set_memory_rw");
    change_memory_common(start, pages, Attributes::empty(), Attributes::AP_READ_ONLY)
}

/// Makes them not executable.
///
/// # Errors
/// [`Error`]; nothing has changed.
pub fn set_memory_nx(start: VirtAddr, pages: u64) -> Result<(), Error> {
    let _span = span("set_memory_nx");
    change_memory_common(start, pages, Attributes::PXN, Attributes::empty())
}

/// Makes them executable. They must be read-only, here and in the linear map.
///
/// # Errors
/// [`Error`]; nothing has changed.
pub fn set_memory_x(start: VirtAddr, pages: u64) -> Result<(), Error> {
    let _span = span("set_memory_x");
    change_memory_common(start, pages, Attributes::empty(), Attributes::PXN)
}

fn change_memory_common(
    start: VirtAddr,
    pages: u64,
    set: Attributes,
    clear: Attributes,
) -> Result<(), Error> {
    let _span = span("change_memory_common");
    let range = PageRange::new(start, pages)
        .filter(|range| range.pages() > 0)
        .ok_or(Error::Misaligned)?;
    let area = vmalloc::find(start).ok_or(Error::NoArea)?;
    if area.kind == AreaKind::VmallocHuge {
        return Err(Error::Huge);
    }
    if area.kind != AreaKind::Vmalloc || !area.mapped.contains(range.last_byte()) {
        return Err(Error::NoArea);
    }
    let protection = (set | clear).contains(Attributes::AP_READ_ONLY);
    let alias = protection && linear_map::is_page_granular();
    refuse_writable_and_executable(range, set, clear)?;
    if protection && !alias {
        log::info!(
            "set_memory: the linear map is made of blocks (RODATA=on): the alias stays writable"
        );
    }

    vmalloc::vm_unmap_aliases();

    let kernel = linear_map::kernel();
    let section = lazy::section();
    let edit = Edit::attributes(set, clear);
    // The area has been checked to be mapped by pages, and so has the linear map: nothing here can
    // fail. Where the alias is comes with the leaves of the area as they are changed: they are read
    // once.
    let mut aliases = Aliases::new();
    if alias {
        kernel
            .edit_and_note_pages(&section, range, edit, |leaf| aliases.note(leaf))
            .unwrap_or_else(broken);
        aliases.each(range, |linear| {
            kernel
                .edit_pages(&section, linear, edit)
                .unwrap_or_else(broken);
        });
    } else {
        kernel
            .edit_pages(&section, range, edit)
            .unwrap_or_else(broken);
    }

    // Nobody may believe that the pages are read-only before this is through, whatever the backend:
    // the flush is made here, at once, rather than left to the end of the section. It pays what the
    // section owes as well.
    if planted(Bug::NoTlbiProtect) {
        return Ok(());
    }
    let mut flush = Flush::begin(if alias { 2 * pages } else { pages });
    if alias {
        aliases.each(range, |linear| flush.add(linear, Removed::Leaves));
    }
    flush.add(range, Removed::Leaves);
    flush.finish();
    drop(section);
    Ok(())
}

/// A walk over leaves that are known to be there found that they are not.
fn broken(error: super::page_table::Error) {
    unreachable!("a mapped area lost its leaves: {error}")
}

/// W^X is by frame: a page that is executable at one address is writable at none.
fn refuse_writable_and_executable(
    range: PageRange,
    set: Attributes,
    clear: Attributes,
) -> Result<(), Error> {
    // With an alias in blocks every frame is writable, there.
    let alias_writable = !linear_map::is_page_granular();
    if set.contains(Attributes::AP_READ_ONLY) && !alias_writable {
        // Whatever is executable, it is not writable.
        return Ok(());
    }
    let edit = Edit::attributes(set, clear);
    let mut refused = false;
    linear_map::kernel()
        .read_pages(range, |entry| {
            let new = edit.apply(entry).attributes();
            let writable = new.is_writable_el1() || alias_writable;
            refused |= writable && new.is_executable_el1();
        })
        .unwrap_or_else(broken);
    if refused {
        Err(Error::WritableAndExecutable)
    } else {
        Ok(())
    }
}

/// The linear aliases of pages, as runs of adjacent frames.
struct Aliases {
    /// First frames, and how many; of the last run that is not noted yet.
    runs: [(Frame, u64); Self::MOST],
    count: usize,
    /// The first leaf of the last run, and what the next one has to be to belong to it.
    first: u64,
    next: u64,
}

impl Aliases {
    /// So many runs are noted; where there are more, the leaves are read again. On fresh memory there
    /// is one.
    const MOST: usize = 4;

    fn new() -> Self {
        Self {
            runs: [(Frame::containing(PhysAddr::literal(0)), 0); Self::MOST],
            count: 0,
            first: 0,
            next: 0,
        }
    }

    /// Adds the page of the next leaf.
    #[inline(always)]
    fn note(&mut self, leaf: Descriptor) {
        // Adjacent leaves of one run differ by a page, and in nothing else. An empty run, in which no
        // leaf has been yet, ends at 0, which is no leaf.
        if leaf.bits() != self.next {
            self.end_run();
            self.first = leaf.bits();
        }
        self.next = leaf.bits() + PAGE_SIZE;
    }

    fn end_run(&mut self) {
        let first = Descriptor::from_bits(self.first);
        if self.next == 0 {
            return;
        }
        if let Some(run) = self.runs.get_mut(self.count)
            && let Some(frame) = first.output_ignoring_valid(Level::L3)
        {
            *run = (
                Frame::containing(frame),
                (self.next - self.first) / PAGE_SIZE,
            );
        }
        self.count += 1;
        self.next = 0;
    }

    /// Calls `each` for every run; they are those of `range`, all of whose leaves have been noted.
    fn each(&mut self, range: PageRange, mut each: impl FnMut(PageRange)) {
        self.end_run();
        let Some(runs) = self.runs.get(..self.count) else {
            return for_each_run(range, each);
        };
        for (first, count) in runs {
            PageRange::new(linear_map::virt(first.start()), *count)
                .into_iter()
                .for_each(&mut each);
        }
    }
}

/// As [`Aliases::each`], read from the leaves of `range`.
#[cold]
fn for_each_run(range: PageRange, mut each: impl FnMut(PageRange)) {
    // The first frame of the run, and how many it has.
    let (mut first, mut count) = (Frame::containing(PhysAddr::literal(0)), 0);
    let mut end = |first: Frame, count| {
        PageRange::new(linear_map::virt(first.start()), count)
            .into_iter()
            .for_each(&mut each);
    };
    linear_map::kernel()
        .read_pages(range, |entry| {
            let Some(frame) = entry.output_ignoring_valid(Level::L3) else {
                return;
            };
            let frame = Frame::containing(frame);
            if frame.number() != first.number() + count {
                end(first, count);
                (first, count) = (frame, 0);
            }
            count += 1;
        })
        .unwrap_or_else(broken);
    end(first, count);
}

/// Makes pages of a vmalloc area or of the linear map valid or invalid, leaving their aliases
/// alone.
///
/// # Errors
/// [`Error::Misaligned`]; [`Error::NoArea`] where some page is neither mapped nor was it;
/// [`Error::Huge`]; nothing has changed.
pub fn set_memory_valid(start: VirtAddr, pages: u64, valid: bool) -> Result<(), Error> {
    let range = PageRange::new(start, pages)
        .filter(|range| range.pages() > 0)
        .ok_or(Error::Misaligned)?;
    let within = |part: &PageRange| part.contains(start) && part.contains(range.last_byte());
    if ![VMALLOC, LINEAR].iter().any(within) {
        return Err(Error::NoArea);
    }
    let kernel = linear_map::kernel();
    let (mut leaves, mut huge) = (0, false);
    kernel.visit(range, &mut |_, level, entry| {
        leaves += u64::from(level == Level::L3);
        huge |= level < Level::L3 || entry.attributes().contains(Attributes::CONTIGUOUS);
    });
    if huge {
        return Err(Error::Huge);
    }
    if leaves != pages {
        return Err(Error::NoArea);
    }
    linear_map::set_valid(core::iter::once(range), pages, valid, None);
    Ok(())
}
