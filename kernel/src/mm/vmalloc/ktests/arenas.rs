//! Kernel tests of arenas, and of what is freed in interrupt context. With one CPU they hold, too.

use super::warmed;
use crate::{
    arch::{interrupt::Handlers, time, timer},
    check, check_eq, kernel_test,
    mm::{
        debug_pagealloc, kasan,
        layout::VMALLOC,
        testing::{Usage, bytes, logged, must},
        vmalloc::{
            Error, arena, deferred, find, stats, unpurged, vfree, vm_unmap_aliases, vmalloc,
            vmalloc_aligned, vmalloc_huge, wait_for_deferred,
        },
    },
    park,
    task::schedule::{migrate_to, unpin},
    tests::cpus::{Installed, PerCpu, all, comes, me, on, on_every},
    trace::Counts,
};
use core::sync::atomic::{AtomicU64, Ordering};
use vmsa::{PAGE_SIZE, PageRange, VirtAddr};

/// An area that is passed on.
static AREA: AtomicU64 = AtomicU64::new(0);

fn area() -> VirtAddr {
    VirtAddr::literal(AREA.load(Ordering::Acquire))
}

kernel_test! { "arena", every_cpu_has_one_and_takes_from_it, {
    static STARTS: PerCpu = PerCpu::new();
    STARTS.clear();
    on_every(|cpu| {
        if let Ok(start) = vmalloc(1) {
            STARTS.set(cpu, start.as_u64());
        }
    })?;
    let mut end = None;
    for cpu in all() {
        let own = must!(arena(cpu).ok_or("it has an arena"));
        check!(own.contains(VirtAddr::literal(STARTS.get(cpu))));
        check_eq!(end.unwrap_or(own.start()), own.start());
        end = own.last_byte().checked_add(1);
        must!(vfree(VirtAddr::literal(STARTS.get(cpu))));
    }
    // All of the space is in one.
    let count = all().len().next_power_of_two();
    check_eq!(arena(count - 1).map(PageRange::last_byte), Some(VMALLOC.last_byte()));
    check!(arena(count).is_none());
    Ok(())
} }

kernel_test! { "arena", an_area_is_freed_on_any_cpu, {
    static DONE: PerCpu = PerCpu::new();
    let before = warmed()?;
    for cpu in all() {
        AREA.store(must!(vmalloc(bytes(3))).as_u64(), Ordering::Release);
        DONE.clear();
        on(cpu, |cpu| DONE.set(cpu, u64::from(vfree(area()).is_ok())))?;
        check_eq!((cpu, DONE.sum()), (cpu, 1));
        check!(find(area()).is_none());
    }
    check_eq!(Usage::now(), before);
    Ok(())
} }

kernel_test! { "arena", one_that_is_full_takes_from_the_others, {
    let own = must!(arena(me()).ok_or("this CPU has an arena"));
    must!(migrate_to(me()));
    // Two areas of more than half of it do not fit, whatever else is there: none is mapped, so it
    // needs no pages.
    let align = own.pages().next_power_of_two() / 2 * PAGE_SIZE;
    let mut areas = alloc::vec::Vec::new();
    // As many as there are multiples in all of the space.
    let in_all = 2 * all().len().next_power_of_two();
    while let Ok(start) = vmalloc_aligned(1, align) {
        areas.push(start);
        check!(areas.len() <= in_all);
    }
    unpin();
    check_eq!(vmalloc_aligned(1, align), Err(Error::NoSpace));
    let count = areas.len();
    // The space begins 2 GiB after a multiple, where no area can begin; where another arena begins
    // there may be one already.
    check!((in_all / 2..in_all).contains(&count));
    check!(areas.iter().filter(|start| own.contains(**start)).count() <= 2);
    check!(all().len() == 1 || areas.iter().any(|start| !own.contains(*start)));
    for start in areas {
        must!(vfree(start));
    }
    vm_unmap_aliases();
    Ok(())
} }

kernel_test! { "arena", a_purge_comes_between_while_others_allocate, {
    /// Areas that each CPU makes and frees.
    const ROUNDS: u64 = 400;
    static READY: AtomicU64 = AtomicU64::new(0);
    static DONE: PerCpu = PerCpu::new();
    warmed()?;
    READY.store(0, Ordering::Release);
    DONE.clear();
    let before = (Usage::now().space, unpurged().2);
    on_every(|cpu| {
        READY.fetch_add(1, Ordering::AcqRel);
        comes(|| READY.load(Ordering::Acquire) == all().len() as u64);
        for round in 0..ROUNDS {
            // Every CPU purges now and then.
            if round % 16 == cpu as u64 {
                vm_unmap_aliases();
            }
            let Ok(start) = vmalloc(bytes(1 + round % 3)) else { return };
            // SAFETY: it is a new area, this CPU's alone.
            let own = unsafe {
                start.as_mut_ptr::<u64>().write(round ^ cpu as u64);
                start.as_ptr::<u64>().read() == round ^ cpu as u64
            };
            if !own || vfree(start).is_err() {
                return;
            }
            DONE.add(cpu, 1);
        }
    })?;
    for cpu in all() {
        check_eq!((cpu, DONE.get(cpu)), (cpu, ROUNDS));
    }
    let after = (Usage::now().space, unpurged().2);
    check_eq!(after.0, before.0);
    check!(after.1 > before.1);
    Ok(())
} }

/// What came of calls in a timer interrupt: 1 as it should be.
static IN_HANDLER: AtomicU64 = AtomicU64::new(0);

/// Does something in the first interrupt after [`interrupted`] began, and notes whether it went well.
fn once(action: fn() -> bool) {
    timer::cancel();
    if IN_HANDLER.load(Ordering::Acquire) == 0 {
        IN_HANDLER.store(if action() { 1 } else { 2 }, Ordering::Release);
    }
}

/// Takes the timer's next interrupt, with this handler.
fn interrupted(handlers: &'static Handlers) -> bool {
    IN_HANDLER.store(0, Ordering::Release);
    let _handlers = Installed::new(handlers);
    timer::set_deadline(time::now());
    comes(|| IN_HANDLER.load(Ordering::Acquire) != 0)
}

/// Frees [`area`] in the timer's interrupt.
static FREES: Handlers = Handlers {
    timer: || {
        once(|| {
            let before = deferred().0;
            let freed = vfree(area()).is_ok();
            // It is out of use at once: a second vfree finds nothing.
            let gone = find(area()).is_none();
            let put_off = deferred().0 == before + 1;
            freed && gone && put_off
        });
    },
    ..park::HANDLERS
};

kernel_test! { "arena", vfree_in_interrupt_context_is_put_off, {
    let before = warmed()?;
    for huge in [false, true] {
        let made = if huge { vmalloc_huge(2 << 20) } else { vmalloc(bytes(5)) };
        AREA.store(must!(made).as_u64(), Ordering::Release);
        check!(interrupted(&FREES));
        check_eq!((huge, IN_HANDLER.load(Ordering::Acquire)), (huge, 1));
        wait_for_deferred();
        check_eq!(deferred().1, 0);
        check!(stats().lazy > 0);
    }
    let after = Usage::now();
    check_eq!((after.space, after.shadow), (before.space, before.shadow));
    Ok(())
} }

kernel_test! { "arena", a_vfree_that_is_put_off_leaves_alone_what_alignment_passed_over, {
    const ALIGN: u64 = 16 * PAGE_SIZE;
    let before = warmed()?;
    // The first has what lies before it; each of the others comes after one, and cannot adjoin it.
    let mut areas = [must!(vmalloc_aligned(PAGE_SIZE, ALIGN)); 3];
    for area in &mut areas[1..] {
        *area = must!(vmalloc_aligned(PAGE_SIZE, ALIGN));
    }
    let in_use = stats().free;
    for area in areas {
        AREA.store(area.as_u64(), Ordering::Release);
        let counts = Counts::now();
        check!(interrupted(&FREES));
        check_eq!(IN_HANDLER.load(Ordering::Acquire), 1);
        wait_for_deferred();
        let counts = counts.since();
        // A leaf that is not as it was mapped would have all of the TLB flushed.
        if !kasan::is_on() && !debug_pagealloc::is_on() {
            check_eq!((counts.stores, counts.tlbi), (1, 0));
        }
    }
    vm_unmap_aliases();
    // More than their pages and those that guard them.
    check!(stats().free - in_use > 6);
    let after = Usage::now();
    check_eq!((after.space, after.shadow), (before.space, before.shadow));
    Ok(())
} }

kernel_test! { "arena", no_area_is_made_in_interrupt_context, {
    static MAKES: Handlers = Handlers {
        timer: || once(|| vmalloc(1) == Err(Error::InInterrupt)),
        ..park::HANDLERS
    };
    let before = warmed()?;
    let (text, came) = logged(|| interrupted(&MAKES));
    check!(came);
    check_eq!(IN_HANDLER.load(Ordering::Acquire), 1);
    check!(text.contains("ERROR: BUG: an area is made in interrupt context at "));
    check!(text.contains(file!()));
    check_eq!(Usage::now().space, before.space);
    Ok(())
} }
