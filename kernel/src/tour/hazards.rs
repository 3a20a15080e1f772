//! What each deferral costs when its rule is not kept: done on purpose, survived, and reported as
//! Linux would.

use super::{Trouble, ensure, failed, scratch::Scratch};
use crate::{
    arch::{fault, fixup},
    event,
    mm::{
        lazy::{self, Backend},
        linear_map,
        tlb::{Removed, flush_kernel_range},
    },
    oops::Survived,
    oracle::{self, Rule},
    print, println, task, warning,
};
use alloc::{format, string::String};
use vmsa::{Descriptor, PageRange, VirtAddr};

pub(super) fn run() -> Result<(), Trouble> {
    // Under the models in which a section that nests loses the mode nothing is different: these
    // sections do not nest.
    let model = lazy::model();
    let under = |backend, hazard: fn(&Scratch) -> Result<(), Trouble>| {
        println!("{backend}:");
        let scratch = Scratch::new()?;
        lazy::with(model, backend, || hazard(&scratch))
            .map_err(|lazy::Busy| failed("a section was left open"))?
    };
    under(Backend::Eager, eager)?;
    under(Backend::Barriers, barriers)?;
    under(Backend::Tlbi, stale_translation)?;
    under(Backend::Tlbi, frame_in_another_use)?;
    under(Backend::Stores, not_stored_yet)?;
    under(Backend::Stores, spurious_fault)
}

/// The page `n` of the scratch range.
fn page(scratch: &Scratch, n: u64) -> Result<PageRange, Trouble> {
    PageRange::new(scratch.va(n), 1).ok_or_else(|| failed("no scratch address"))
}

/// Maps the scratch page in the section that the caller has open, or in none.
fn map(scratch: &Scratch, n: u64) -> Result<VirtAddr, Trouble> {
    let va = scratch.va(n);
    linear_map::kernel()
        .set_leaf(va, |_| scratch.leaf())
        .map_err(failed)?;
    Ok(va)
}

/// What the task owes, as `lazy` prints it.
fn owed() -> Result<String, Trouble> {
    let mut text = String::new();
    lazy::describe(&mut text).map_err(failed)?;
    text.lines().for_each(|line| println!("    {line}"));
    Ok(text)
}

/// A fault's report, printed and returned.
fn report(fault: &fault::Fault) -> String {
    let report = format!("{}", Survived(fault));
    report.lines().for_each(|line| println!("    {line}"));
    report
}

fn eager(scratch: &Scratch) -> Result<(), Trouble> {
    let section = lazy::section();
    let va = map(scratch, 0)?;
    ensure!(
        fixup::probe_read_u8(va).is_ok(),
        "an eager mapping could not be used at once"
    );
    ensure!(
        !task::current().deferred.barriers.get(),
        "an eager store owes barriers"
    );
    drop(section);
    println!(
        "  a page is mapped and used inside one section: nothing is put off, so no rule can be broken"
    );
    Ok(())
}

fn barriers(scratch: &Scratch) -> Result<(), Trouble> {
    println!("  a page is mapped inside a section, and used before its end:");
    let section = lazy::section();
    let va = map(scratch, 0)?;
    let used = oracle::expect(&[Rule::NotVisible], || fixup::probe_read_u8(va));
    let record = owed()?;
    drop(section);
    ensure!(used.is_ok(), "QEMU's walker missed a store: {used:?}");
    if lazy::ets2() {
        ensure!(record.contains("owed=0"), "a barrier is owed for data");
        println!(
            "  With FEAT_ETS2 nothing is wrong with that, and nothing is owed: see docs/barriers.md."
        );
        return Ok(());
    }
    ensure!(record.contains("owed=1"), "no barrier was owed");
    println!(
        "  QEMU can't show what is wrong with that: its walker sees every store at once. The line above is"
    );
    println!(
        "  the record of the DSB ISHST and ISB that were still owed when the page was used. Other machines may"
    );
    println!("  fault there; Linux then warns of a spurious fault, and tries again.");
    Ok(())
}

/// Rule: nobody may rely on an address being unmapped before the flush.
fn stale_translation(scratch: &Scratch) -> Result<(), Trouble> {
    println!(
        "  a page is unmapped inside a section, its flush put off; the address is read before the end and after:"
    );
    let va = map(scratch, 0)?;
    // SAFETY: the page is this scene's own.
    unsafe { fixup::probe_write_u8(va, 0x5a) }.map_err(|fault| failed(format!("{fault}")))?;
    let section = lazy::section();
    linear_map::kernel()
        .set_leaf(va, |_| Descriptor::INVALID)
        .map_err(failed)?;
    flush_kernel_range(page(scratch, 0)?, Removed::Leaves);
    let stale = oracle::expect(&[Rule::StaleAccess], || fixup::probe_read_u8(va));
    let record = owed()?;
    drop(section);
    ensure!(record.contains("flush pending"), "no flush is pending");
    let Ok(stale @ 0x5a) = stale else {
        return Err(failed(format!(
            "the stale translation was not used: {stale:?}"
        )));
    };
    println!("  before the end: read {stale:#x} through an address that is mapped by nothing");
    match fixup::probe_read_u8(va) {
        Ok(value) => Err(failed(format!("read {value:#x} after the flush"))),
        Err(fault) => {
            println!("  after it: {fault}");
            Ok(())
        }
    }
}

/// Rule: a frame that was unmapped reaches the allocator only after the flush. The frame stays this
/// scene's own: freeing it for real ends the hazard where DEBUG_PAGEALLOC is on, since the section
/// that takes the page out of the linear map flushes at its end.
fn frame_in_another_use(scratch: &Scratch) -> Result<(), Trouble> {
    println!(
        "  the same, and the page is written through the linear map, as its next owner would do:"
    );
    let alias = linear_map::virt(scratch.frame.start());
    let va = map(scratch, 1)?;
    ensure!(fixup::probe_read_u8(va).is_ok(), "the page can't be read");
    let section = lazy::section();
    linear_map::kernel()
        .set_leaf(va, |_| Descriptor::INVALID)
        .map_err(failed)?;
    flush_kernel_range(page(scratch, 1)?, Removed::Leaves);
    let written = oracle::expect(&[Rule::FrameReuse], || {
        event!(FrameWritten(scratch.frame.start()));
        // SAFETY: the page is this scene's own.
        unsafe { fixup::probe_write_u8(alias, 0x77) }
    });
    let seen = fixup::probe_read_u8(va);
    drop(section);
    written.map_err(|fault| failed(format!("{fault}")))?;
    let Ok(seen @ 0x77) = seen else {
        return Err(failed(format!(
            "the old address does not show what was written: {seen:?}"
        )));
    };
    println!("  the old address shows it: {seen:#x}");
    ensure!(
        fixup::probe_read_u8(va).is_err(),
        "the old address works after the flush"
    );
    Ok(())
}

/// Rule: an entry may not be used, nor read back, before the section ends.
fn not_stored_yet(scratch: &Scratch) -> Result<(), Trouble> {
    println!("  a page is mapped inside a section, the entry read back, and the page used:");
    let section = lazy::section();
    let va = map(scratch, 0)?;
    let back = linear_map::kernel().leaf(va).map(|(entry, _)| entry);
    let used = fixup::probe_read_u8(va);
    let record = owed()?;
    let text = used.as_ref().err().map(report).unwrap_or_default();
    drop(section);
    ensure!(record.contains("store queued"), "no store is in the queue");
    ensure!(
        back == Some(Descriptor::INVALID),
        "the entry reads back as {back:?}"
    );
    ensure!(
        text.contains("level 3 translation fault"),
        "no translation fault: {used:?}"
    );
    ensure!(
        fixup::probe_read_u8(va).is_ok(),
        "the page can't be used after the section either"
    );
    println!(
        "  the entry reads back as {:016x}, the value before; after the section the page can be used",
        0
    );
    Ok(())
}

/// The walker saw the entry invalid, and by the time that the handler looks it is valid: what other
/// machines do when a barrier is missing. Here the handler's first act is to make the queued
/// stores.
fn spurious_fault(scratch: &Scratch) -> Result<(), Trouble> {
    println!("  the same, but the store arrives while the fault is taken:");
    let (warned, spurious) = (warning::count(), fault::spurious_count());
    let section = lazy::section();
    let va = map(scratch, 0)?;
    let hook = fault::set_before(Some(|_| lazy::drain()));
    let used = fixup::probe_read_u8(va);
    fault::set_before(hook);
    drop(section);
    ensure!(used.is_ok(), "the access was not tried again: {used:?}");
    let (warned, spurious) = (
        warning::count() - warned,
        fault::spurious_count() - spurious,
    );
    print!(
        "  the handler asked the MMU again (AT S1E1R), found a translation, warned and returned: "
    );
    println!("{spurious} spurious fault, {warned} warning");
    ensure!(
        (spurious, warned) == (1, 1),
        "{spurious} spurious faults and {warned} warnings, expected one each"
    );
    Ok(())
}
