//! Kernel tests of `ptlock=`: who is kept out, for how long, and that it is given back whatever
//! happens in between.

use super::{
    Backend, Busy, LazyMmuState, Model, PageTableLock, choose_page_table_lock,
    lazy_mmu_mode_disable as disable, lazy_mmu_mode_enable as enable, lazy_mmu_mode_pause as pause,
    lazy_mmu_mode_resume as resume, page_table_lock_contended, page_table_lock_is_held, paused,
    section,
};
use crate::{
    arch::{cpu, time},
    check, check_eq, kernel_test,
    ktest::{Failure, TestResult},
    mm::{
        page_alloc,
        stack::{spawn, spawn_on},
        testing::{Chosen, Scratch, logged, make_room, must},
    },
    task::{self, enter_interrupt, preempt, schedule, yield_now},
    warning,
};
use core::{
    hint,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

/// Those that keep anybody out.
const LOCKS: [PageTableLock; 2] = [PageTableLock::Global, PageTableLock::Preempt];

/// Whether others are kept out by `lock`, now, and by nothing else.
fn is_kept_out(lock: PageTableLock) -> bool {
    page_table_lock_is_held() == (lock == PageTableLock::Global)
        && preempt::count() == u32::from(lock != PageTableLock::None)
}

/// Whether everything is as outside of any section.
fn is_free() -> bool {
    !page_table_lock_is_held()
        && preempt::count() == 0
        && task::current().lazy_mmu_state.get() == LazyMmuState::new()
}

/// A page comes and goes, which with DEBUG_PAGEALLOC is a section of its own each time.
fn allocate_a_page() -> TestResult {
    let frame = must!(page_alloc::allocate(0));
    must!(page_alloc::free(frame, 0));
    Ok(())
}

/// A section, one inside, and a pause: the first holds the lock from its enable to its disable.
fn outermost(model: Model, backend: Backend, lock: PageTableLock) -> TestResult {
    let _chosen = Chosen::with_lock(model, backend, lock)?;
    let scratch = Scratch::new()?;
    let outer = section();
    check!(is_kept_out(lock));
    scratch.map(0);
    allocate_a_page()?;
    check!(is_kept_out(lock));
    let inner = section();
    check!(is_kept_out(lock));
    drop(inner);
    check!(is_kept_out(lock));
    {
        let _pause = paused();
        check!(is_kept_out(lock));
        allocate_a_page()?;
        let _ignored_or_not = section();
        check!(is_kept_out(lock));
    }
    check!(is_kept_out(lock));
    scratch.clear();
    drop(outer);
    check!(is_free());
    Ok(())
}

kernel_test! { "ptlock", the_outermost_section_holds_it_until_it_is_disabled, {
    make_room()?;
    for model in Model::ALL {
        // One of them disables preemption itself, which is not what is counted here.
        let others = |backend: &Backend| *backend != Backend::StoresPerCpu;
        for backend in Backend::ALL.into_iter().filter(others) {
            for lock in PageTableLock::ALL {
                outermost(model, backend, lock)?;
            }
        }
    }
    Ok(())
} }

kernel_test! { "ptlock", the_raw_calls_take_it_and_give_it_back, {
    for model in Model::ALL {
        for lock in LOCKS {
            let _chosen = Chosen::with_lock(model, Backend::Barriers, lock)?;
            let outer = enable();
            let inner = enable();
            disable(inner);
            check!(is_kept_out(lock));
            let token = pause();
            check!(is_kept_out(lock));
            resume(token);
            check!(is_kept_out(lock));
            disable(outer);
            check!(is_free());
            // One too many gives nothing back that is not held. It warns where sections are counted.
            disable(outer);
            check!(is_free());
        }
    }
    Ok(())
} }

kernel_test! { "ptlock", a_walk_that_stops_at_an_error_gives_it_back, {
    for lock in LOCKS {
        let _chosen = Chosen::with_lock(Model::TwoCounters, Backend::Barriers, lock)?;
        let stops = || -> Result<(), u32> {
            let _section = section();
            Err(1)
        };
        check_eq!(stops(), Err(1));
        check!(is_free());
    }
    Ok(())
} }

kernel_test! { "ptlock", handlers_do_not_take_it, {
    for lock in LOCKS {
        let _chosen = Chosen::with_lock(Model::TwoCounters, Backend::Barriers, lock)?;
        {
            let _handler = enter_interrupt();
            let _section = section();
            check!(!page_table_lock_is_held() && preempt::count() == 0);
        }
        // Nor do they give it back for whom they have interrupted.
        let outer = enable();
        {
            let _handler = enter_interrupt();
            let token = enable();
            check!(is_kept_out(lock));
            disable(token);
            disable(outer);
            check!(is_kept_out(lock));
        }
        disable(outer);
        check!(is_free());
        // A guard that is dropped under a handler ends its section all the same.
        let guard = section();
        let handler = enter_interrupt();
        drop(guard);
        drop(handler);
        check!(is_free());
    }
    Ok(())
} }

kernel_test! { "ptlock", a_full_counter_and_a_reset_give_it_back, {
    for lock in LOCKS {
        let _chosen = Chosen::with_lock(Model::TwoCounters, Backend::Barriers, lock)?;
        let warned = warning::count();
        let mut last = enable();
        for _ in 1..256 {
            last = enable();
        }
        check_eq!(warning::count(), warned + 1);
        for _ in 0..254 {
            disable(last);
        }
        check!(is_kept_out(lock));
        disable(last);
        check!(is_free());
        // What is left open is closed by a reset.
        let _open = [enable(), enable(), pause()];
        check!(!super::reset() && is_free() && super::reset());
    }
    Ok(())
} }

/// Stays on the CPU that this runs on, until it is unpinned; which one that is.
fn stay() -> Result<usize, Failure> {
    // The boot CPU can be stayed on once there has been another task.
    must!(spawn("first", |_| 0, 0)).join();
    let here = cpu::id() as usize;
    must!(task::migrate_to(here));
    Ok(here)
}

/// Opens a section, lets others run, and closes it.
fn opener(_: usize) -> usize {
    let _section = section();
    yield_now();
    0
}

kernel_test! { "ptlock", it_changes_only_while_no_task_has_a_section_open, {
    let _chosen = Chosen::new(Model::TwoCounters, Backend::Barriers)?;
    {
        let _open = section();
        check_eq!(choose_page_table_lock(PageTableLock::Global), Err(Busy));
    }
    let here = stay()?;
    // Only what yields is switched from.
    let _slices = schedule::no_slices();
    let other = must!(spawn_on(here, "opener", opener, 0));
    yield_now();
    // It has been switched from in its section.
    let while_open = choose_page_table_lock(PageTableLock::Global);
    other.join();
    task::unpin();
    check_eq!(while_open, Err(Busy));
    check_eq!(super::page_table_lock(), PageTableLock::None);
    check_eq!(choose_page_table_lock(PageTableLock::Preempt), Ok(()));
    check_eq!(choose_page_table_lock(PageTableLock::None), Ok(()));
    Ok(())
} }

kernel_test! { "ptlock", who_sleeps_in_a_section_is_reported_with_who_opened_it, {
    #[inline(never)]
    fn sleeper() {
        let _section = section();
        yield_now();
    }
    for lock in PageTableLock::ALL {
        let _chosen = Chosen::with_lock(Model::TwoCounters, Backend::Barriers, lock)?;
        let before = warning::count();
        let (report, ()) = logged(sleeper);
        let reports = usize::from(lock != PageTableLock::None);
        check_eq!((lock, warning::count()), (lock, before + reports));
        if reports == 0 {
            continue;
        }
        check!(report.contains("BUG: yield in an atomic section: task boot (0), preempt_count 1"));
        // The chain from whoever opened it, who is still there.
        check!(report.contains("The section began at ") && report.contains("(end of both traces)"));
    }
    Ok(())
} }

/// How many sections each task of [`contender`] opens.
const TURNS: usize = 200;
/// Who is in a section, as they count it themselves; and whether there was ever another.
static INSIDE: AtomicUsize = AtomicUsize::new(0);
static MET: AtomicBool = AtomicBool::new(false);

fn contender(_: usize) -> usize {
    for _ in 0..TURNS {
        let _section = section();
        if INSIDE.fetch_add(1, Relaxed) != 0 {
            MET.store(true, Relaxed);
        }
        (0..100).for_each(|_| hint::spin_loop());
        INSIDE.fetch_sub(1, Relaxed);
    }
    0
}

kernel_test! { "ptlock", one_section_at_a_time_in_the_whole_machine, {
    let _chosen = Chosen::with_lock(Model::TwoCounters, Backend::Barriers, PageTableLock::Global)?;
    INSIDE.store(0, Relaxed);
    MET.store(false, Relaxed);
    let tasks = [(); 4].map(|()| spawn("contender", contender, 0));
    for task in tasks {
        must!(task).join();
    }
    check!(!MET.load(Relaxed));
    check!(is_free());
    Ok(())
} }

/// Lets [`waiter`] open its section.
static GO: AtomicBool = AtomicBool::new(false);

fn waiter(_: usize) -> usize {
    while !GO.load(Relaxed) {
        hint::spin_loop();
    }
    drop(section());
    0
}

kernel_test! { "ptlock", who_waits_for_it_is_counted, {
    let _chosen = Chosen::with_lock(Model::TwoCounters, Backend::Barriers, PageTableLock::Global)?;
    let before = page_table_lock_contended();
    // Alone, nobody ever waits: the holder is not preempted.
    (0..10).for_each(|_| drop(section()));
    check_eq!(page_table_lock_contended(), before);
    stay()?;
    let Some(there) = cpu::others().next() else {
        task::unpin();
        return Ok(());
    };
    GO.store(false, Relaxed);
    let other = must!(spawn_on(there, "waiter", waiter, 0));
    let open = section();
    GO.store(true, Relaxed);
    let end = time::now() + 5 * time::frequency();
    while page_table_lock_contended() == before && time::now() < end {
        hint::spin_loop();
    }
    let waited = page_table_lock_contended() - before;
    drop(open);
    other.join();
    task::unpin();
    check_eq!(waited, 1);
    Ok(())
} }
