//! Reports: what they say of a fault that was survived, and how the machine ends where it was not.

use super::{Area, NOWHERE, faulted};
use crate::{
    arch::{backtrace, cpu, fault, fixup::*, image},
    check, check_eq, kernel_test,
    ktest::Failure,
    mm::{
        lazy, linear_map,
        page_table::Leaf,
        set_memory::set_memory_valid,
        testing::{must, trouble},
    },
    oops::Survived,
};
use alloc::{format, string::String, vec::Vec};
use core::{
    arch::asm,
    hint::black_box,
    ptr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};
use vmsa::{Descriptor, Level, PageRange, VirtAddr};

/// The entries on the way to `va`, from the live tables.
fn entries(va: VirtAddr) -> Result<Vec<(Level, Descriptor)>, Failure> {
    let page = PageRange::covering(va, 1).ok_or(trouble("a page"))?;
    let mut entries = Vec::new();
    linear_map::kernel().visit_tables(page, &mut |_, level, entry, _| {
        entries.push((level, entry));
        true
    });
    Ok(entries)
}

/// Whether the report has a line that starts and ends so.
fn has_line(report: &str, start: &str, end: &str) -> bool {
    report
        .lines()
        .any(|line| line.starts_with(start) && line.ends_with(end))
}

kernel_test! { "oops", the_walk_is_told_level_by_level, {
    let area = Area::new(1)?;
    let va = area.page(0);
    must!(set_memory_valid(va, 1, false));
    let report = format!("{}", Survived(&faulted(probe_read_u64(va + 0x18))?));
    let entries = entries(va)?;
    must!(set_memory_valid(va, 1, true));
    let address = format!("virtual address {:016x}", va + 0x18);
    check!(has_line(&report, "Unable to handle kernel paging request at ", &address));
    check!(has_line(&report, "  FSC = 0x07: level 3 translation fault", ""));
    check!(has_line(&report, "  CM = 0, WnR = 0", ""));
    check!(has_line(&report, "TTBR1_EL1: 4k pages, 48-bit VAs, root at ", ""));
    check_eq!(entries.len(), 4);
    for (level, entry) in entries {
        let start = format!("  {level} [{:3}] at ", level.index(va));
        let bits = format!(" = {:016x} ", entry.bits());
        let line = report.lines().find(|line| line.starts_with(&start));
        check!(line.is_some_and(|line| line.contains(&bits)));
    }
    check!(has_line(&report, "  level 3 ", "not valid, other bits set"));
    check!(report.contains("table at "));
    check!(!report.contains("now translates"));
    Ok(())
} }

kernel_test! { "oops", a_walk_that_ends_early_says_where, {
    // SAFETY: nothing is there to be written.
    let fault = faulted(unsafe { probe_write_u8(NOWHERE, 0) })?;
    let report = format!("{}", Survived(&fault));
    check!(has_line(&report, "  level 0 [400] at ", " = 0000000000000000 nothing"));
    check!(!report.contains("level 1"));
    check!(has_line(&report, "  CM = 0, WnR = 1", ""));
    check!(report.contains("is in no part of the kernel's address space"));
    Ok(())
} }

kernel_test! { "oops", a_permission_fault_shows_what_the_entry_allows, {
    let rodata = image::rodata().start();
    // SAFETY: nothing is written there.
    let report = format!("{}", Survived(&faulted(unsafe { probe_write_u8(rodata, 0) })?));
    check!(has_line(&report, "Unable to handle kernel write to read-only memory at ", ""));
    check!(has_line(&report, "  level 3 ", ", ro NX"));
    let pa = image::physical_address(rodata).ok_or(trouble("an address of the image"))?;
    check!(has_line(&report, "  now translates to ", &format!("{pa}")));
    let text = image::text().start();
    // SAFETY: as above.
    let report = format!("{}", Survived(&faulted(unsafe { probe_write_u8(text, 0) })?));
    check!(has_line(&report, "  level 3 ", ", ro x"));
    let stack = image::boot_stack().start();
    // SAFETY: a stack cannot be executed.
    let report = format!("{}", Survived(&faulted(unsafe { probe_execute(stack) })?));
    check!(has_line(&report, "Unable to handle kernel execute from non-executable memory", ""));
    check!(has_line(&report, "  level 3 ", ", RW NX"));
    Ok(())
} }

kernel_test! { "oops", the_first_page_is_a_null_pointer, {
    let said = |address| -> Result<bool, Failure> {
        let fault = faulted(probe_read_u8(VirtAddr::literal(address)))?;
        let report = format!("{}", Survived(&fault));
        check!(report.contains("TTBR0_EL1: "));
        Ok(report.contains("NULL pointer dereference"))
    };
    check!(said(0)? && said(0xfff)? && !said(0x1000)?);
    Ok(())
} }

kernel_test! { "oops", a_guard_page_is_called_one, {
    let area = Area::new(1)?;
    let report = format!("{}", Survived(&faulted(probe_read_u8(area.page(1)))?));
    check!(report.contains("is in the guard page behind") && report.contains("tests.rs"));
    let guard = image::boot_stack_guard().start();
    let report = format!("{}", Survived(&faulted(probe_read_u8(guard))?));
    check!(report.contains("is in the guard page below the boot stack"));
    Ok(())
} }

/// Places that a hook saw, the number of them, and how many of them an exception interrupted.
static PLACES: AtomicU64 = AtomicU64::new(0);
/// See [`PLACES`].
static INTERRUPTED: AtomicU64 = AtomicU64::new(0);
/// Places that are not in the kernel's code.
static OUTSIDE: AtomicU64 = AtomicU64::new(0);

fn look_back(_: &fault::Fault) {
    for place in backtrace::from_here() {
        PLACES.fetch_add(1, Relaxed);
        INTERRUPTED.fetch_add(u64::from(place.interrupted), Relaxed);
        OUTSIDE.fetch_add(u64::from(!image::is_text(place.pc)), Relaxed);
    }
}

kernel_test! { "oops", a_backtrace_goes_through_an_exception, {
    let here = backtrace::from_here().count();
    fault::set_survived(Some(look_back));
    let result = probe_read_u8(NOWHERE);
    fault::set_survived(None);
    check!(result.is_err());
    check_eq!(INTERRUPTED.load(Relaxed), 1);
    check_eq!(OUTSIDE.load(Relaxed), 0);
    check!(PLACES.load(Relaxed) as usize > here);
    Ok(())
} }

/// Reads what is not there.
fn read(address: u64) -> Result<(), Failure> {
    let address = ptr::with_exposed_provenance::<u64>(address as usize);
    // SAFETY: none: the machine is to end here.
    black_box(unsafe { ptr::read_volatile(address) });
    Ok(())
}

/// Writes where nothing may be written.
fn write(address: VirtAddr) -> Result<(), Failure> {
    // SAFETY: none: the machine is to end here.
    unsafe { ptr::write_volatile(address.as_mut_ptr::<u64>(), 1) };
    Ok(())
}

/// Goes to where there is no code.
fn jump(address: u64) -> Result<(), Failure> {
    // SAFETY: none: the machine is to end here.
    unsafe { asm!("blr {}", in(reg) address, clobber_abi("C")) };
    Ok(())
}

kernel_test! { "oops", null_dereference,
panics "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000018",
{ read(0x18) } }

kernel_test! { "oops", nothing_mapped,
panics "Unable to handle kernel paging request at virtual address ffffc80000000000",
{ read(NOWHERE.as_u64()) } }

kernel_test! { "oops", not_canonical,
panics "The address is not canonical: neither half translates it",
{ read(0xdead_beef_0000_0000) } }

kernel_test! { "oops", write_to_code,
panics "Unable to handle kernel write to read-only memory at virtual address ffff80004",
{ write(image::text().start()) } }

kernel_test! { "oops", write_to_constants,
panics "Unable to handle kernel write to read-only memory at virtual address ffff80004",
{ write(image::rodata().start()) } }

kernel_test! { "oops", execute_data,
panics "Unable to handle kernel execute from non-executable memory at virtual address ffff80004",
{ jump(image::data().start().as_u64()) } }

kernel_test! { "oops", wild_jump,
panics "Unable to handle kernel paging request at virtual address ffffc80000000000",
{ jump(NOWHERE.as_u64()) } }

kernel_test! { "oops", null_jump,
panics "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000000",
{ jump(0) } }

kernel_test! { "oops", misaligned_jump, panics "Misaligned PC: ffff80004",
{ jump(image::text().start().as_u64() + 2) } }

/// Never comes back.
#[inline(never)]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 32]);
    if depth == u64::MAX {
        return frame[0];
    }
    recurse(depth + 1) + frame[1]
}

kernel_test! { "oops", stack_overflow, panics "Kernel stack overflow: SP ffff80004", {
    black_box(recurse(0));
    Ok(())
} }

kernel_test! { "oops", misaligned_stack, panics "Misaligned SP: ", {
    // SAFETY: none: the machine is to end here.
    unsafe { asm!("sub sp, sp, #8", "ldr xzr, [sp]") };
    Ok(())
} }

kernel_test! { "oops", stack_pointer_gone, panics "SP is not in its stack: ffffc80000000000", {
    // SAFETY: none: the machine is to end here.
    unsafe { asm!("mov sp, {}", "str xzr, [sp, #-16]!", in(reg) NOWHERE.as_u64()) };
    Ok(())
} }

kernel_test! { "oops", a_panic, panics "Kernel panic: a test panics", { panic!("a test panics") } }

kernel_test! { "oops", undefined_instruction, panics "Undefined instruction at ffff80004", {
    // SAFETY: none: the machine is to end here.
    unsafe { asm!("udf #0") };
    Ok(())
} }

kernel_test! { "oops", breakpoint, panics "Unexpected BRK at ffff80004", {
    // SAFETY: none: the machine is to end here.
    unsafe { asm!("brk #1") };
    Ok(())
} }

kernel_test! { "oops", a_class_that_nobody_handles,
    panics "Unexpected SVC (AArch64) exception at ffff80004", {
    // SAFETY: none: the machine is to end here.
    unsafe { asm!("svc #0") };
    Ok(())
} }

kernel_test! { "oops", misaligned_exclusive, panics "FSC = 0x21: alignment fault", {
    let words = [0u64; 4];
    let address = (&raw const words).addr().next_multiple_of(16) + 15;
    // SAFETY: the eight bytes are in the array, across a boundary of 16: an exclusive load must be
    // aligned (FEAT_LSE2 lets go of that only inside of 16 bytes).
    unsafe { asm!("ldxr {value}, [{address}]", value = out(reg) _, address = in(reg) address) };
    black_box(&words);
    Ok(())
} }

kernel_test! { "oops", tells_the_registers, panics "x20: 0123456789abcdef", {
    // SAFETY: none: the machine is to end here.
    unsafe {
        asm!(
            "ldr xzr, [x0]",
            in("x0") NOWHERE.as_u64(),
            in("x20") 0x0123_4567_89ab_cdef_u64,
        );
    }
    Ok(())
} }

/// The host program names it in the call trace.
#[inline(never)]
fn function_that_faults() -> Result<(), Failure> {
    read(black_box(0x18))?;
    black_box(Ok(()))
}

kernel_test! { "oops", tells_who_called, panics "function_that_faults", { function_that_faults() } }

kernel_test! { "oops", tells_where_it_was_interrupted, panics " <- exception", { read(0x18) } }

/// A leaf that is stored as it is: a barrier is owed.
fn store_again(leaf: &Leaf) -> Result<(), crate::mm::page_table::Error> {
    let old = leaf.get();
    leaf.set(old, old);
    Ok(())
}

kernel_test! { "oops", tells_the_state_of_the_task, panics "enable=2 pause=1 owed=1 in_interrupt=0", {
    must!(lazy::choose(lazy::Model::TwoCounters, lazy::Backend::Barriers).map_err(|_| "busy"));
    let area = Area::new(1)?;
    let page = PageRange::new(area.page(0), 1).ok_or(trouble("a page"))?;
    let outer = lazy::section();
    let _inner = lazy::section();
    let changed = linear_map::kernel().change_leaves(&outer, page, store_again);
    must!(changed);
    // What is owed is paid by the pause, so the debt is made anew as an unpaired call would.
    let _paused = lazy::lazy_mmu_mode_pause();
    crate::task::current().deferred.barriers.set(true);
    read(0x18)
} }

kernel_test! { "oops", a_fault_while_it_reports, panics "while reporting that: Synchronous from Kernel", {
    // The report asks the current task for its state.
    cpu::set_current_task(ptr::with_exposed_provenance(NOWHERE.as_u64() as usize), 0);
    read(0x18)
} }

kernel_test! { "oops", a_panic_while_it_reports, panics "while reporting that: panic: ", {
    // A state that the task cannot have: what formats it panics.
    let name: &'static str = ABSURD;
    panic!("{}", Absurd(name))
} }

/// Panics where it is formatted.
struct Absurd(&'static str);

/// What it says first.
const ABSURD: &str = "this is not printed";

impl core::fmt::Display for Absurd {
    fn fmt(&self, _: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let _: String = self.0.into();
        panic!("formatted")
    }
}
