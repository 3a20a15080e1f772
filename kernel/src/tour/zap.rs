//! The chain that the history begins with, in its own place: pages of a program are unmapped in a
//! lazy section, the list of them needs another page, and with DEBUG_PAGEALLOC the page allocator
//! changes page tables itself, inside that section.
//!
//! Every model, with each answer that was given to it, on gathers that need no batch, one, two, and
//! more than they may have. What is counted is held against the least (`mm::zap_cost`).

use super::{Trouble, call_tree, ensure, failed, recorded_with_room};
use crate::{
    mm::{
        address_space::{Access, AddressSpace, Protection},
        debug_pagealloc,
        gather::{self, Asking},
        layout::USER,
        lazy::{self, Call, LazyMmuState, Model},
        page_alloc,
        zap_cost::{self, Least},
    },
    print, println, task,
    trace::{Counts, Event, Kind},
    warning,
};
use alloc::{format, string::String};
use core::fmt::Write;
use vmsa::{Level, PAGE_SIZE, PTRS_PER_TABLE, PageRange, VirtAddr};

/// A gather that needs no batch, one, two, and more than it may have.
const SIZES: [usize; 4] = [1, 500, 600, 12_000];

/// The fewest pages with which a batch is asked for.
const CHAIN: usize = zap_cost::asks_at(0) + 1;

/// Where the pages are: the first of a table of leaves.
const START: VirtAddr = VirtAddr::literal(0x4000_0000);

/// A model, and whether it asks for batches in a pause.
#[derive(Clone, Copy)]
struct Answer {
    model: Model,
    asking: Asking,
}

/// The answers of the threads: every model, and the pause that the last of them would allow.
fn answers() -> impl Iterator<Item = Answer> {
    let asking = Asking::Model;
    let models = Model::ALL.map(|model| Answer { model, asking });
    models.into_iter().chain([Answer {
        model: Model::TwoCounters,
        asking: Asking::Paused,
    }])
}

impl Answer {
    fn name(self) -> String {
        match self.asking {
            Asking::Model => format!("{}", self.model),
            Asking::Paused => format!("{}+pause", self.model),
        }
    }
}

/// What a zap showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cell {
    /// Batches that were allocated while the mode was active.
    batches_in_section: usize,
    /// Sections that were opened while the mode was active.
    nested: usize,
    dsb: usize,
    isb: usize,
    tlbi: usize,
    warnings: usize,
}

pub(super) fn run() -> Result<(), Trouble> {
    if !debug_pagealloc::is_on() {
        return Err(Trouble::Needs("DEBUG_PAGEALLOC=on"));
    }
    println!("{CHAIN} pages are unmapped, and the last of them asks for a batch:");
    let model = lazy::model();
    zapped(CHAIN, |events| call_tree::print(events, model))?;
    warning::print_no_more();
    let mut lines = String::new();
    let mut wrong = None;
    for pages in SIZES {
        size(pages, &mut lines, &mut wrong)?;
    }
    print!("{lines}");
    wrong.map_or(Ok(()), Err)
}

/// Every answer, with so many pages. A cell that is not as expected is noted, and the rest is run
/// all the same.
fn size(pages: usize, lines: &mut String, wrong: &mut Option<Trouble>) -> Result<(), Trouble> {
    let least = zap_cost::least(pages, lazy::ets2());
    let (needed, free) = (bytes_for(pages), page_alloc::stats().free * PAGE_SIZE);
    if free < needed {
        println!("zap of {pages} pages: skipped (needs {needed} bytes of RAM, {free} are free)");
        return Ok(());
    }
    println!(
        "{pages} pages: {} flushes, {} batches, {} bulk frees; the least is DSB {}, ISB {}",
        least.flushes, least.batches, least.frees, least.dsb, least.isb
    );
    println!("  in section  nested  DSB  ISB   TLBI  warnings");
    for answer in answers() {
        let cell = cell(answer, pages)?;
        let Cell {
            batches_in_section,
            nested,
            dsb,
            isb,
            tlbi,
            warnings,
        } = cell;
        let name = answer.name();
        println!(
            "  {batches_in_section:10}  {nested:6}  {dsb:3}  {isb:3}  {tlbi:5}  {warnings:8}  {name}"
        );
        // Writing to a string can't fail.
        let _ = writeln!(
            lines,
            "{{\"scene\":\"zap\",\"model\":\"{name}\",\"pages\":{pages},\"batches_in_section\":{batches_in_section},\
             \"nested\":{nested},\"dsb\":{dsb},\"isb\":{isb},\"tlbi\":{tlbi},\"least_dsb\":{},\"least_isb\":{},\
             \"warnings\":{warnings}}}",
            least.dsb, least.isb,
        );
        let expected = expected(answer, pages, least, tlbi);
        if cell != expected && wrong.is_none() {
            let what = format!("{name}, {pages} pages: {cell:?}, expected {expected:?}");
            *wrong = Some(Trouble::Failed(what));
        }
    }
    Ok(())
}

/// What a cell is expected to show. The number of TLBIs depends on which frames the pages happen to
/// have, and is taken as it comes: at least one a flush and one a bulk free.
fn expected(answer: Answer, pages: usize, least: Least, tlbi: usize) -> Cell {
    let in_sections = match (answer.model, answer.asking) {
        // The mode is left before the call.
        (_, Asking::Paused) | (Model::Avoid, _) => 0,
        // The end of the inner section ends the mode: of the batches that are asked for in one
        // section the first alone finds it on (thread 000: "the remainder of the outer user is no
        // longer in lazy mmu mode").
        (Model::Strict | Model::Tolerant, _) => zap_cost::sections_that_allocate(pages),
        _ => least.batches,
    };
    let warnings = match answer.model {
        // VM_WARN_ON in arch_enter_lazy_mmu_mode, 5fdd05efa1cd.
        Model::Strict => in_sections,
        _ => 0,
    };
    Cell {
        batches_in_section: in_sections,
        nested: in_sections,
        // No user entry owes a barrier, so a section that ends early costs none: the models differ
        // in what they say, not in what they issue.
        dsb: least.dsb,
        // The sequence of a bulk free ends in an ISB whatever the CPU has.
        isb: if lazy::ets2() { least.frees } else { least.isb },
        tlbi: tlbi.max(least.flushes + least.frees),
        warnings,
    }
}

/// Zaps so many pages under an answer.
fn cell(answer: Answer, pages: usize) -> Result<Cell, Trouble> {
    let busy = |lazy::Busy| failed("a section is open");
    let before = gather::stats();
    let warned = warning::count();
    let mut cell = Cell::default();
    gather::ask(answer.asking);
    let result = lazy::with(answer.model, lazy::backend(), || {
        zapped(pages, |events| {
            let counts = Counts::of(events);
            cell.dsb = counts.dsb;
            cell.isb = counts.isb;
            cell.tlbi = counts.tlbi;
            cell.nested = nested(events, answer.model);
        })
    });
    gather::ask(Asking::Model);
    result.map_err(busy)??;
    let stats = gather::stats();
    cell.batches_in_section = (stats.batches_in_section - before.batches_in_section) as usize;
    cell.warnings = warning::count() - warned;
    Ok(cell)
}

/// Sections that were opened while the mode was active.
fn nested(events: &[Event], model: Model) -> usize {
    let mut active = false;
    let mut nested = 0;
    for event in events {
        if let Kind::Lazy { call, state, .. } = event.kind {
            nested += usize::from(call == Call::Enable && active);
            active = LazyMmuState::is_active(&state, model, false);
        }
    }
    nested
}

/// Maps so many pages in an address space of their own, has each come, zaps them, and gives the
/// events of that to `look`.
fn zapped(pages: usize, look: impl FnOnce(&[Event])) -> Result<(), Trouble> {
    let range = PageRange::new(START, pages as u64).ok_or_else(|| failed("no such range"))?;
    let space = AddressSpace::create().map_err(failed)?;
    space
        .map(range, Protection::READ | Protection::WRITE)
        .map_err(failed)?;
    let used = space.use_here();
    for page in range.pages_iter() {
        space.handle_fault(page, Access::Write).map_err(failed)?;
    }
    let me = task::current().id;
    // A store for each page, one for it in the linear map, and a TLBI if no two frames are adjacent.
    let room = 3 * pages + 8 * 1024;
    let result = recorded_with_room(
        room,
        || space.zap(range).map_err(failed),
        |events, ()| {
            let mine = events.iter().filter(|event| event.task == me).copied();
            look(&mine.collect::<alloc::vec::Vec<_>>());
            Ok(())
        },
    );
    drop(used);
    result?;
    ensure!(
        space
            .leaf(range.start())
            .is_none_or(vmsa::Descriptor::is_none),
        "the first page is still mapped"
    );
    Ok(())
}

/// RAM that so many pages take: the pages, their tables, the batches, the root and the regions, and
/// room for what is recorded.
fn bytes_for(pages: usize) -> u64 {
    let tables = pages.div_ceil(PTRS_PER_TABLE) + 2 + 2;
    let batches = zap_cost::least(pages, false).batches;
    let events = 2 * (3 * pages + 8 * 1024) * size_of::<Event>();
    (pages + tables + batches) as u64 * PAGE_SIZE + events as u64
}

const _: () = assert!(START.is_aligned(Level::L2.bytes()) && USER.contains(START));
