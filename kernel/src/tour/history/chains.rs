//! The chains: call paths that end in a lazy section inside another, or in none where there should
//! be one.
//!
//! A chain prepares what it needs, then runs; only the run is counted. It makes the accesses that a
//! caller would make and says how many of them faulted.

use super::super::{
    Trouble, failed,
    scratch::{Scratch, leaf},
};
use crate::{
    arch::fixup,
    mm::{
        address_space::{Access, AddressSpace, InUse, Protection},
        kasan,
        lazy::{self, Backend, Model, lazy_mmu_mode_disable, lazy_mmu_mode_enable},
        linear_map::{self, set_direct_map_valid},
        page_alloc, page_table,
        set_memory::{set_memory_ro, set_memory_rw},
        vmalloc, zap_cost,
    },
    oracle::{self, Rule},
};
use vmsa::{Frame, PAGE_SIZE, PageRange, VirtAddr};

/// A chain of calls.
pub(super) struct Chain {
    pub name: &'static str,
    /// Makes what it needs.
    pub prepare: fn() -> Result<Run, Trouble>,
    /// Runs it: how many accesses faulted.
    pub run: fn(&mut Run) -> Result<usize, Trouble>,
    /// What its cost depends on, after the run.
    pub units: fn(&Run) -> usize,
    /// The least that makes each access of the run safe on the CPU at hand, for so many units.
    pub least: fn(usize) -> Least,
}

/// The least that a chain needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Least {
    /// DSBs.
    pub dsb: usize,
    /// ISBs.
    pub isb: usize,
}

impl Least {
    /// `DSB ISHST; ISB`, so many times: for entries made valid. With FEAT_ETS2 a CPU's own data
    /// accesses need none of it (`1-I2V-STRx-none`).
    fn pairs(count: usize) -> Self {
        let count = if lazy::ets2() { 0 } else { count };
        Self {
            dsb: count,
            isb: count,
        }
    }

    /// TLBI sequences. With FEAT_ETS2 the ISB at their end is not needed for data
    /// (`4-V2I-DSB.ISHST+VAALE1IS+DSB.ISH`).
    fn flushes(count: usize) -> Self {
        let isb = if lazy::ets2() { 0 } else { count };
        Self {
            dsb: 2 * count,
            isb,
        }
    }
}

/// Every chain, in the order of the threads.
pub(super) const CHAINS: [Chain; 6] = [
    // Thread 000. One pair before the new page is written, one at the end of the section.
    Chain {
        name: "alloc",
        prepare: prepare_alloc,
        run: alloc,
        units: |_| 0,
        least: |_| Least::pairs(2),
    },
    // Thread 000, in its own words. A flush of the pages, two batches, and two bulk frees.
    Chain {
        name: "zap",
        prepare: prepare_zap,
        run: zap,
        units: |_| ZAPPED as usize,
        least: |pages| {
            let least = zap_cost::least(pages, lazy::ets2());
            Least {
                dsb: least.dsb,
                isb: least.isb,
            }
        },
    },
    // Thread 001. Three flushes (the purged area, its shadow, the area made read-only), and one for
    // each shadow page that leaves the linear map; each is DSB ISHST, TLBI, DSB ISH, ISB.
    Chain {
        name: "pause",
        prepare: prepare_pause,
        run: pause,
        units: |run| run.shadow_pages,
        least: |pages| Least::flushes(3 + pages),
    },
    // Thread 002: the section of 44562c71e2cf, before fea18c686320. One pair before the page is
    // used.
    Chain {
        name: "error-path-raw",
        prepare: prepare_error,
        run: error_path_raw,
        units: |_| 0,
        least: |_| Least::pairs(1),
    },
    Chain {
        name: "error-path-guard",
        prepare: prepare_error,
        run: error_path_guard,
        units: |_| 0,
        least: |_| Least::pairs(1),
    },
    // Thread 000, the first of its two possibilities. One pair before the page is written, one at
    // the end.
    Chain {
        name: "no-section",
        prepare: prepare_no_section,
        run: no_section,
        units: |_| 0,
        least: |_| Least::pairs(2),
    },
];

/// What a run uses, given back when it is dropped.
pub(super) struct Run {
    scratch: Scratch,
    /// A page that was allocated in the section.
    allocated: Option<Frame>,
    /// An area that becomes read-only.
    area: Option<VirtAddr>,
    /// Shadow pages that the run freed.
    shadow_pages: usize,
    /// An address space with pages in it.
    program: Option<InUse>,
}

impl Run {
    fn new() -> Result<Self, Trouble> {
        Ok(Self {
            scratch: Scratch::new()?,
            allocated: None,
            area: None,
            shadow_pages: 0,
            program: None,
        })
    }

    /// Maps the scratch address `n` in the section that the caller has open, unless something is
    /// there.
    fn map(&self, n: u64) -> Result<(), page_table::Error> {
        let va = self.scratch.va(n);
        let kernel = linear_map::kernel();
        if kernel.leaf(va).is_some_and(|(entry, _)| entry.is_valid()) {
            return Err(page_table::Error::Occupied(va));
        }
        kernel.set_leaf(va, |_| self.scratch.leaf())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(frame) = self.allocated {
            set_direct_map_valid(page_alloc::Pages::Block(frame, 0), true);
            // What can't be given back is reported there.
            let _ = page_alloc::free(frame, 0);
        }
        if let Some(area) = self.area {
            let _ = set_memory_rw(area, 1);
            let _ = vmalloc::vfree(area);
            vmalloc::vm_unmap_aliases();
        }
    }
}

/// Writes to an address, and says whether that faulted.
fn write_faults(va: VirtAddr) -> usize {
    // SAFETY: every address that is written here is that of a page of the run's own.
    usize::from(unsafe { fixup::probe_write_u8(va, 1) }.is_err())
}

/// The same, where `owed` says that the barriers of the mapping are still owed. Under the backend
/// `stores` that is no violation: nothing is mapped yet.
fn write_faults_before_barriers(va: VirtAddr, owed: bool) -> usize {
    let broken: &[Rule] = if owed && lazy::backend() == Backend::Barriers {
        &[Rule::NotVisible]
    } else {
        &[]
    };
    oracle::expect(broken, || write_faults(va))
}

/// Leaves that the section of `alloc` maps.
const LEAVES: u64 = 64;

fn prepare_alloc() -> Result<Run, Trouble> {
    Run::new()
}

/// One section maps 64 leaves. After the 32nd a page is allocated, which DEBUG_PAGEALLOC puts back
/// into the linear map, and written.
fn alloc(run: &mut Run) -> Result<usize, Trouble> {
    let mut faults = 0;
    let section = lazy::section();
    for n in 0..LEAVES {
        run.map(n).map_err(failed)?;
        if n == LEAVES / 2 - 1 {
            let frame = lazy::call_page_allocator(|| page_alloc::allocate(0)).map_err(failed)?;
            run.allocated = Some(frame);
            faults += write_faults(linear_map::virt(frame.start()));
        }
    }
    drop(section);
    Ok(faults
        + (0..LEAVES)
            .map(|n| write_faults(run.scratch.va(n)))
            .sum::<usize>())
}

/// Pages of a program that are unmapped: two batches are asked for.
const ZAPPED: u64 = 600;

/// Where they are.
fn zapped() -> Result<PageRange, Trouble> {
    PageRange::new(VirtAddr::literal(0x4000_0000), ZAPPED).ok_or_else(|| failed("no such range"))
}

fn prepare_zap() -> Result<Run, Trouble> {
    let mut run = Run::new()?;
    let space = AddressSpace::create().map_err(failed)?;
    let data = Protection::READ | Protection::WRITE;
    space.map(zapped()?, data).map_err(failed)?;
    let used = space.use_here();
    for page in zapped()?.pages_iter() {
        space.handle_fault(page, Access::Write).map_err(failed)?;
    }
    run.program = Some(used);
    Ok(run)
}

/// The chain of the scene `zap`.
fn zap(run: &mut Run) -> Result<usize, Trouble> {
    let program = run.program.as_ref();
    let program = program.ok_or_else(|| failed("no program was prepared"))?;
    program.space().zap(zapped()?).map_err(failed)?;
    Ok(0)
}

/// Enough for whole spans of 32 KiB, wherever the area lies.
const PURGED: u64 = 20 * PAGE_SIZE;

fn prepare_pause() -> Result<Run, Trouble> {
    let mut run = Run::new()?;
    vmalloc::vm_unmap_aliases();
    run.area = Some(vmalloc::vmalloc(PAGE_SIZE).map_err(failed)?);
    let purged = vmalloc::vmalloc(PURGED).map_err(failed)?;
    vmalloc::vfree(purged).map_err(failed)?;
    Ok(run)
}

/// The chain of the scene `pause`.
fn pause(run: &mut Run) -> Result<usize, Trouble> {
    let before = kasan::populate::stats().depopulated;
    let area = run.area.ok_or_else(|| failed("no area was prepared"))?;
    set_memory_ro(area, 1).map_err(failed)?;
    run.shadow_pages = (kasan::populate::stats().depopulated - before) as usize;
    // Without one the chain would end before what it is about, and cost what that costs.
    if run.shadow_pages == 0 {
        return Err(failed("no shadow page was freed"));
    }
    Ok(0)
}

/// Leaves that the section of the error path would map, and the one that is mapped already.
const WANTED: u64 = 8;
const OCCUPIED: u64 = 4;

fn prepare_error() -> Result<Run, Trouble> {
    let run = Run::new()?;
    let page =
        PageRange::new(run.scratch.va(OCCUPIED), 1).ok_or_else(|| failed("no scratch address"))?;
    let mapped = linear_map::kernel().apply_to_page_range(page, |entry| {
        entry.set(entry.get(), run.scratch.leaf());
        Ok(())
    });
    mapped.map_err(failed)?;
    Ok(run)
}

/// An error in the middle of the section returns without closing it. The caller then uses what was
/// mapped before the error.
fn error_path_raw(run: &mut Run) -> Result<usize, Trouble> {
    let map_all = || {
        let token = lazy_mmu_mode_enable();
        for n in 0..WANTED {
            run.map(n)?;
        }
        lazy_mmu_mode_disable(token);
        Ok(())
    };
    used_after_the_error(run, map_all(), true)
}

/// The same with a guard.
fn error_path_guard(run: &mut Run) -> Result<usize, Trouble> {
    let map_all = || {
        let _section = lazy::section();
        (0..WANTED).try_for_each(|n| run.map(n))
    };
    used_after_the_error(run, map_all(), false)
}

fn used_after_the_error(
    run: &Run,
    result: Result<(), page_table::Error>,
    owed: bool,
) -> Result<usize, Trouble> {
    match result {
        Err(page_table::Error::Occupied(va)) if va == run.scratch.va(OCCUPIED) => {
            Ok(write_faults_before_barriers(run.scratch.va(0), owed))
        }
        other => Err(failed(alloc::format!(
            "{other:?}, expected that leaf {OCCUPIED} is occupied"
        ))),
    }
}

fn prepare_no_section() -> Result<Run, Trouble> {
    let mut run = Run::new()?;
    let frame = page_alloc::allocate(0).map_err(failed)?;
    run.allocated = Some(frame);
    set_direct_map_valid(page_alloc::Pages::Block(frame, 0), false);
    Ok(run)
}

/// As `alloc`, but whoever puts the page back into the linear map opens no section for that.
fn no_section(run: &mut Run) -> Result<usize, Trouble> {
    let frame = run
        .allocated
        .ok_or_else(|| failed("no page was prepared"))?;
    let va = linear_map::virt(frame.start());
    let section = lazy::section();
    (0..WANTED / 2)
        .try_for_each(|n| run.map(n))
        .map_err(failed)?;
    let made_valid =
        lazy::call_page_allocator(|| linear_map::kernel().set_leaf(va, |_| leaf(frame)));
    made_valid.map_err(failed)?;
    // `avoid` has left the mode.
    let faults = write_faults_before_barriers(va, lazy::model() != Model::Avoid);
    (WANTED / 2..WANTED)
        .try_for_each(|n| run.map(n))
        .map_err(failed)?;
    drop(section);
    Ok(faults)
}
