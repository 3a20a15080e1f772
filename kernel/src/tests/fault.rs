//! Faults that are survived: probes, the hooks around them, and faults that turn out to be spurious.

use super::{Area, NOWHERE, faulted};
use crate::{
    arch::{
        fault::{self, Fault},
        fixup::{
            probe_execute, probe_read_u8, probe_read_u16, probe_read_u32, probe_read_u64,
            probe_write_u8, probe_write_u16, probe_write_u32, probe_write_u64,
        },
        image,
    },
    check, check_eq, kernel_test,
    ktest::TestResult,
    mm::{
        lazy, linear_map,
        set_memory::{set_memory_ro, set_memory_rw, set_memory_valid},
        testing::{Chosen, logged, must, trouble},
    },
    warning,
};
use core::{
    hint::black_box,
    ptr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};
use vmsa::{Level, PAGE_SIZE, VirtAddr};

/// Tries `address` with a load and a store of every size, and gives each fault to `judge`.
fn refused(address: VirtAddr, stores_only: bool, judge: fn(&Fault) -> bool) -> TestResult {
    let loads = [
        probe_read_u8(address).err(),
        probe_read_u16(address).err(),
        probe_read_u32(address).err(),
        probe_read_u64(address).err(),
    ];
    for fault in loads {
        check_eq!(fault.is_none(), stores_only);
        let Some(fault) = fault else { continue };
        check_eq!(fault.address(), Some(address));
        check!(!fault.is_write() && !fault.is_fetch());
        check!(judge(&fault));
    }
    // SAFETY: whoever calls this expects each store to be refused, and fails if one is not.
    let stores = unsafe {
        [
            probe_write_u8(address, 0x5a).err(),
            probe_write_u16(address, 0x5a).err(),
            probe_write_u32(address, 0x5a).err(),
            probe_write_u64(address, 0x5a).err(),
        ]
    };
    for fault in stores {
        let fault = fault.ok_or(trouble("a store was let through"))?;
        check_eq!(fault.address(), Some(address));
        check!(fault.is_write() && !fault.is_fetch());
        check!(judge(&fault));
    }
    Ok(())
}

kernel_test! { "fault", probes_access_what_is_there_in_every_size, {
    let area = Area::new(1)?;
    let at = area.page(0) + 8;
    let whole = |offset| probe_read_u64(at + offset);
    // SAFETY: the page is the test's own.
    unsafe {
        must!(probe_write_u64(at, 0x8877_6655_4433_2211));
        check_eq!(must!(probe_read_u8(at)), 0x11);
        check_eq!(must!(probe_read_u16(at)), 0x2211);
        check_eq!(must!(probe_read_u32(at)), 0x4433_2211);
        check_eq!(must!(probe_read_u64(at)), 0x8877_6655_4433_2211);
        must!(probe_write_u32(at, 0xdddd_cccc));
        check_eq!(must!(whole(0)), 0x8877_6655_dddd_cccc);
        must!(probe_write_u16(at, 0xbbbb));
        check_eq!(must!(whole(0)), 0x8877_6655_dddd_bbbb);
        must!(probe_write_u8(at, 0xaa));
        check_eq!(must!(whole(0)), 0x8877_6655_dddd_bbaa);
    }
    check_eq!(must!(probe_read_u64(at - 8)), 0);
    check_eq!(must!(whole(8)), 0);
    Ok(())
} }

kernel_test! { "fault", what_is_not_mapped_is_refused, {
    let status = |fault: &Fault| fault.esr.fault_status().and_then(vmsa::esr::FaultStatus::level);
    for (address, level) in [(NOWHERE, Level::L0), (VirtAddr::MAX - 7, Level::L0)] {
        refused(address, false, Fault::is_translation_fault)?;
        check_eq!(status(&faulted(probe_read_u64(address))?), Some(level));
    }
    // The lower half: nothing walks for it any more, whether the first page or where boot ran.
    for address in [0, 0x10, 0x4020_0000, 0x0000_ffff_ffff_fff8] {
        refused(VirtAddr::literal(address), false, Fault::is_translation_fault)?;
    }
    // Below the boot stack.
    refused(image::boot_stack_guard().start(), false, Fault::is_translation_fault)?;
    // An entry that is there, and is not valid; and the page behind an area.
    let area = Area::new(2)?;
    must!(set_memory_valid(area.page(1), 1, false));
    refused(area.page(1), false, Fault::is_translation_fault)?;
    check_eq!(status(&faulted(probe_read_u8(area.page(1)))?), Some(Level::L3));
    must!(set_memory_valid(area.page(1), 1, true));
    check_eq!(must!(probe_read_u64(area.page(1))), 0);
    refused(area.page(2), false, Fault::is_translation_fault)
} }

kernel_test! { "fault", an_access_across_the_end_of_a_page_says_where_it_stopped, {
    let area = Area::new(1)?;
    let fault = faulted(probe_read_u64(area.page(1) - 4))?;
    check!(fault.is_translation_fault());
    check_eq!(fault.address(), Some(area.page(1)));
    Ok(())
} }

kernel_test! { "fault", code_and_constants_are_written_at_no_address, {
    for region in [image::text(), image::rodata()] {
        for page in [region.start(), region.last_byte().align_down(PAGE_SIZE)] {
            let pa = image::physical_address(page).ok_or(trouble("an address of the image"))?;
            for address in [page, linear_map::virt(pa)] {
                let before = must!(probe_read_u64(address));
                refused(address, true, Fault::is_permission_fault)?;
                check_eq!(must!(probe_read_u64(address)), before);
            }
        }
    }
    let boot = linear_map::virt(image::boot_text().start);
    refused(boot, true, Fault::is_permission_fault)
} }

kernel_test! { "fault", a_page_made_read_only_is_read_and_not_written, {
    let area = Area::new(2)?;
    must!(set_memory_ro(area.page(1), 1));
    refused(area.page(1) + 8, true, Fault::is_permission_fault)?;
    check_eq!(must!(probe_read_u64(area.page(1) + 8)), 0);
    // SAFETY: the page is the test's own.
    must!(unsafe { probe_write_u64(area.page(0), 1) });
    must!(set_memory_rw(area.page(1), 1));
    // SAFETY: as above.
    must!(unsafe { probe_write_u64(area.page(1) + 8, 2) });
    check_eq!(must!(probe_read_u64(area.page(1) + 8)), 2);
    Ok(())
} }

/// Something to call.
#[inline(never)]
extern "C" fn answer() -> u64 {
    black_box(42)
}

kernel_test! { "fault", only_code_is_executed, {
    // Which fault a fetch from a page of data takes is certain after its barriers alone.
    let _chosen = Chosen::new(lazy::model(), lazy::backend())?;
    let code = VirtAddr::from_ptr(answer as *const u8);
    // SAFETY: it is a function of this type.
    check_eq!(must!(unsafe { probe_execute(code) }), 42);
    let area = Area::new(1)?;
    let alias = image::physical_address(code).ok_or(trouble("an address of the image"))?;
    let data = [
        area.page(0),
        linear_map::virt(alias),
        image::rodata().start(),
        image::data().start(),
        image::boot_stack().start(),
    ];
    for address in data {
        // SAFETY: nothing there can be executed, or the test fails.
        let fault = faulted(unsafe { probe_execute(address) })?;
        check!(fault.is_fetch() && !fault.is_write() && fault.is_permission_fault());
        check_eq!(fault.address(), Some(address));
    }
    for address in [NOWHERE, VirtAddr::literal(0), VirtAddr::literal(0x4020_0000)] {
        // SAFETY: as above.
        let fault = faulted(unsafe { probe_execute(address) })?;
        check!(fault.is_fetch() && fault.is_translation_fault());
        check_eq!(fault.address(), Some(address));
    }
    Ok(())
} }

/// How often a hook was called, and with which address last.
static CALLS: AtomicU64 = AtomicU64::new(0);
/// See [`CALLS`].
static LAST: AtomicU64 = AtomicU64::new(0);

fn remember(fault: &Fault) {
    CALLS.fetch_add(1, Relaxed);
    LAST.store(fault.address_bits(), Relaxed);
}

/// A hook that faults itself.
fn fault_again(fault: &Fault) {
    remember(fault);
    assert!(probe_read_u64(NOWHERE + 0x1000).is_err());
}

kernel_test! { "fault", the_hook_of_survived_faults_hears_of_each_once, {
    CALLS.store(0, Relaxed);
    check!(fault::set_survived(Some(remember)).is_none());
    let first = probe_read_u8(NOWHERE);
    // SAFETY: nothing is there to be written.
    let second = unsafe { probe_write_u32(NOWHERE + 8, 0) };
    let fine = probe_read_u64(image::rodata().start());
    check!(fault::set_survived(None).is_some());
    check!(first.is_err() && second.is_err() && fine.is_ok());
    check_eq!(CALLS.load(Relaxed), 2);
    check_eq!(LAST.load(Relaxed), (NOWHERE + 8).as_u64());
    check!(probe_read_u8(NOWHERE).is_err());
    check_eq!(CALLS.load(Relaxed), 2);
    Ok(())
} }

kernel_test! { "fault", a_hook_that_faults_is_not_called_for_that, {
    for (set, both) in [
        (fault::set_survived as fn(_) -> _, false),
        (fault::set_before, false),
        (fault::set_before, true),
    ] {
        CALLS.store(0, Relaxed);
        set(Some(fault_again as fault::Hook));
        if both {
            fault::set_survived(Some(fault_again));
        }
        let result = probe_read_u64(NOWHERE);
        fault::set_before(None);
        fault::set_survived(None);
        check_eq!(faulted(result)?.address(), Some(NOWHERE));
        check_eq!(CALLS.load(Relaxed), if both { 2 } else { 1 });
        check_eq!(LAST.load(Relaxed), NOWHERE.as_u64());
    }
    Ok(())
} }

/// Makes the faulting page valid, as another CPU might between the fault and its handling.
fn make_valid(fault: &Fault) {
    if let Some(address) = fault.address() {
        let made = set_memory_valid(address.align_down(PAGE_SIZE), 1, true);
        assert!(made.is_ok() || !fault.is_translation_fault());
    }
}

/// Whether the spurious fault of that number, from 1, is warned of.
fn is_warned_of(number: u64) -> bool {
    number <= 10 || number.is_power_of_two()
}

/// Makes one access whose fault is spurious, and returns its value.
fn spurious_read(address: VirtAddr) -> Result<u64, crate::ktest::Failure> {
    must!(set_memory_valid(address.align_down(PAGE_SIZE), 1, false));
    fault::set_before(Some(make_valid));
    // SAFETY: the address is the caller's own, and the hook makes it valid.
    let value = unsafe { ptr::read_volatile(address.as_ptr::<u64>()) };
    fault::set_before(None);
    Ok(value)
}

kernel_test! { "fault", a_spurious_fault_is_warned_of_counted_and_retried, {
    let area = Area::new(1)?;
    let at = area.page(0) + 0x128;
    // SAFETY: the page is the test's own.
    must!(unsafe { probe_write_u64(at, 0x1234_5678_9abc_def0) });
    // One that is warned of, however many there have been in other tests.
    while fault::spurious_count() >= 10 && !(fault::spurious_count() + 1).is_power_of_two() {
        spurious_read(at)?;
    }
    let (spurious, warned) = (fault::spurious_count(), warning::count());
    let (text, value) = logged(|| spurious_read(at));
    check_eq!(value?, 0x1234_5678_9abc_def0);
    check_eq!(fault::spurious_count() - spurious, 1);
    // After the first ten, whichever test took them, not each is warned of.
    let warns = is_warned_of(spurious + 1);
    check_eq!(warning::count() - warned, usize::from(warns));
    let words = alloc::format!("Ignoring spurious kernel translation fault at virtual address {at:016x}");
    check_eq!(text.contains(&words), warns);
    // A store is retried as well.
    must!(set_memory_valid(area.page(0), 1, false));
    fault::set_before(Some(make_valid));
    // SAFETY: the page is the test's own, and the hook makes it valid.
    unsafe { ptr::write_volatile(at.as_mut_ptr::<u64>(), 77) };
    fault::set_before(None);
    check_eq!(must!(probe_read_u64(at)), 77);
    check_eq!(fault::spurious_count() - spurious, 2);
    Ok(())
} }

kernel_test! { "fault", a_spurious_fault_needs_no_fixup_and_calls_no_survivor, {
    let area = Area::new(1)?;
    let spurious = fault::spurious_count();
    must!(set_memory_valid(area.page(0), 1, false));
    CALLS.store(0, Relaxed);
    fault::set_survived(Some(remember));
    fault::set_before(Some(make_valid));
    let value = probe_read_u32(area.page(0));
    fault::set_before(None);
    fault::set_survived(None);
    check_eq!(must!(value), 0);
    check_eq!(CALLS.load(Relaxed), 0);
    check_eq!(fault::spurious_count() - spurious, 1);
    Ok(())
} }

kernel_test! { "fault", a_retry_may_fault_for_another_reason, {
    let area = Area::new(1)?;
    must!(set_memory_ro(area.page(0), 1));
    must!(set_memory_valid(area.page(0), 1, false));
    let spurious = fault::spurious_count();
    fault::set_before(Some(make_valid));
    // SAFETY: the page is the test's own.
    let result = unsafe { probe_write_u8(area.page(0), 1) };
    fault::set_before(None);
    check!(faulted(result)?.is_permission_fault());
    check_eq!(fault::spurious_count() - spurious, 1);
    must!(set_memory_rw(area.page(0), 1));
    Ok(())
} }

kernel_test! { "fault", what_is_still_not_there_is_not_spurious, {
    let _chosen = Chosen::new(lazy::model(), lazy::backend())?;
    let area = Area::new(1)?;
    must!(set_memory_valid(area.page(0), 1, false));
    let (spurious, warned) = (fault::spurious_count(), warning::count());
    fault::set_before(Some(remember));
    let result = probe_read_u64(area.page(0));
    fault::set_before(None);
    must!(set_memory_valid(area.page(0), 1, true));
    check!(faulted(result)?.is_translation_fault());
    // A permission fault is never spurious, nor is a fetch.
    // SAFETY: neither can succeed.
    unsafe {
        check!(probe_write_u8(image::rodata().start(), 0).is_err());
        check!(probe_execute(area.page(0)).is_err());
    }
    check_eq!(fault::spurious_count(), spurious);
    check_eq!(warning::count(), warned);
    Ok(())
} }

kernel_test! { "fault", many_spurious_faults_warn_ever_more_rarely, {
    let area = Area::new(1)?;
    let (spurious, warned) = (fault::spurious_count(), warning::count());
    for _ in 0..40 {
        check_eq!(spurious_read(area.page(0))?, 0);
    }
    let counts = spurious + 1..=spurious + 40;
    check_eq!(fault::spurious_count(), spurious + 40);
    let expected = counts.filter(|n| is_warned_of(*n)).count();
    check_eq!(warning::count() - warned, expected);
    Ok(())
} }
