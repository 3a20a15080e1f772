//! `set_memory_*` on areas: each call gives what is right, and its effect can be seen.

use super::{
    areas::Area,
    contents::{alias, readable, store, writable},
    dice::Dice,
    permissions::{Change, KEPT, Permissions, mask},
    wrong::{Wrong, ensure, wrong},
};
use crate::{
    arch::{
        cache::publish_instructions,
        fixup::{probe_execute, probe_read_u64},
    },
    mm::{
        linear_map,
        set_memory::{
            Error, set_memory_nx, set_memory_ro, set_memory_rw, set_memory_valid, set_memory_x,
        },
    },
};
use vmsa::{PAGE_SIZE, VirtAddr};

/// Changes pages of an area, and looks whether it is as the call says.
pub(super) fn change(area: &mut Area, dice: &mut Dice) -> Result<(), Wrong> {
    let (start, pages) = (area.start, area.pages());
    let call = dice.pick(&[
        Change::ReadOnly,
        Change::ReadOnly,
        Change::Writable,
        Change::Executable,
        Change::NotExecutable,
        Change::Valid,
        Change::Invalid,
    ]);
    let first = dice.below(pages.min(KEPT));
    let count = dice.between(1, pages.min(KEPT) - first);
    let page = start + first * PAGE_SIZE;
    let done = match call {
        Change::ReadOnly => set_memory_ro(page, count),
        Change::Writable => set_memory_rw(page, count),
        Change::Executable => set_memory_x(page, count),
        Change::NotExecutable => set_memory_nx(page, count),
        Change::Valid => set_memory_valid(page, count, true),
        Change::Invalid => set_memory_valid(page, count, false),
    };
    dice.note(page.as_u64());
    dice.note(call as u64 | count << 8 | u64::from(done.is_ok()) << 16);

    let expected = match &mut area.permissions {
        None => Err(Error::Huge),
        Some(of) => of.apply(call, mask(first, count)),
    };
    // Pages of an area in blocks whose blocks have been split, or that is too small for any, can be
    // made invalid one by one.
    if area.permissions.is_none() && done != expected {
        ensure!(
            matches!(call, Change::Valid | Change::Invalid) && done == Ok(()),
            "{call:?} of an area in blocks at {page} gave {done:?}"
        );
        return set_memory_valid(page, count, true)
            .map_err(|error| wrong!("making {page} valid again: {error}"));
    }
    ensure!(
        done == expected,
        "{call:?} of {count} pages at {page} gave {done:?}, and {expected:?} is right"
    );
    look(area, first + dice.below(count))
}

/// Whether page `n` of an area can be used as its permissions say, and its alias too.
fn look(area: &Area, n: u64) -> Result<(), Wrong> {
    let (Some(of), Some((va, value))) = (area.permissions, area.marks.of_page(n)) else {
        return Ok(());
    };
    // A page without a mark holds anything, so it is given one; the alias is read-only along with
    // the page, and valid whatever the page is.
    let read_only = of.is_read_only(n);
    let valid = of.is_valid(n);
    let alias = alias(va)?;
    if !read_only {
        store(alias, value)?;
    }
    let can = [readable(va), writes(va), readable(alias), writes(alias)];
    let alias_writable = !read_only || !linear_map::is_page_granular();
    let must = [valid, valid && !read_only, true, alias_writable];
    ensure!(
        can == must,
        "page {n} of the area at {} can be [read, written, and by its alias] {can:?}; {must:?} is \
         right",
        area.start
    );
    Ok(())
}

/// Whether what is at `va` can be written.
fn writes(va: VirtAddr) -> bool {
    let held = probe_read_u64(va).unwrap_or_default();
    writable(va, held)
}

/// Puts a function into a page of an area, runs it, and makes the page data again.
pub(super) fn execute(area: &mut Area, dice: &mut Dice) -> Result<(), Wrong> {
    let n = dice.below(area.pages().min(KEPT));
    let untouched = |of: Permissions| of.is_valid(n) && !of.is_read_only(n);
    if !area.permissions.is_some_and(untouched) || !linear_map::is_page_granular() {
        return Ok(());
    }
    let page = area.start + n * PAGE_SIZE;
    // In the last words of the page, where no mark is. Of the area's last page they may not be in
    // what was asked for, so they are written by the alias, which the shadow does not forbid.
    let code = page + (PAGE_SIZE - 16);
    let number = dice.below(1 << 16);
    dice.note(number);
    // MOVZ X0, #number; RET (DDI 0487, C6.2).
    let function = 0xd65f_03c0_d280_0000 | number << 5;
    store(alias(code)?, function)?;
    // SAFETY: the page is of an area, valid, and nobody else's.
    unsafe { publish_instructions(page) };
    let wrong = |error| wrong!("{page} can't be made code, or data again: {error}");
    set_memory_ro(page, 1).map_err(wrong)?;
    set_memory_x(page, 1).map_err(wrong)?;
    // SAFETY: a function of this signature is there, and has been published.
    let result = unsafe { probe_execute(code) };
    set_memory_nx(page, 1).map_err(wrong)?;
    set_memory_rw(page, 1).map_err(wrong)?;
    let result = result.map_err(|fault| wrong!("{code} can't be executed: {fault:?}"))?;
    ensure!(
        result == number,
        "the function at {code} gave {result}, and {number} is right"
    );
    // SAFETY: it can't be executed any more; if it can, it is what it was.
    let again = unsafe { probe_execute(code) };
    ensure!(again.is_err(), "{code} is data and can be executed");
    Ok(())
}
