//! Kernel tests of sections in which a task stays where it is, and of the report of one that sleeps
//! there.

use super::{
    WaitQueue, atomic, current,
    ktests::{Pinned, milliseconds, soon, twice, warm_up},
    lazy_ktests::Neighbour,
    lock::SpinLock,
    preempt, sleep_until, yield_now,
};
use crate::{
    arch::{cpu, time, timer},
    check, check_eq, kernel_test,
    ktest::TestResult,
    mm::{
        stack::spawn,
        testing::{logged, must, trouble},
    },
    warning,
};
use alloc::vec::Vec;
use core::{hint::black_box, sync::atomic::Ordering::Relaxed};

kernel_test! { "task", nobody_is_preempted_in_a_section_that_forbids_it, {
    let _here = Pinned::to(0)?;
    let other = Neighbour::start()?;
    let switches = current().switches.get();
    let due = || current().need_resched.load(Relaxed);
    let guard = preempt::disable();
    // The slice ends, and nothing comes of it.
    check!(soon(due));
    check_eq!(current().switches.get(), switches);
    // But at the end of the section, at once.
    drop(guard);
    check!(current().switches.get() > switches && !due());
    let switches = current().switches.get();
    let masked = preempt::mask_interrupts();
    let waited = time::now() + milliseconds(30);
    while time::now() < waited {}
    check!(timer::deadline().is_some() && current().switches.get() == switches);
    drop(masked);
    other.end();
    Ok(())
} }

/// What a report of `action` has to say.
fn reported(what: &str, action: impl FnOnce()) -> TestResult {
    let before = warning::count();
    let (report, ()) = logged(action);
    let wrong = |what| {
        log::error!("{report}");
        Err(trouble(what))
    };
    if warning::count() != before + 1 {
        return wrong("it was reported more than once, or not at all");
    }
    if !report.contains(&alloc::format!(
        "BUG: {what} in an atomic section: task boot (0)"
    )) {
        return wrong("the report has the wrong head");
    }
    // Two traces, both of this file, and with callers.
    let parts: Vec<_> = report.split("The section began at ").collect();
    let traced =
        |part: &&&str| part.contains("ktests.rs:") && part.matches("[<ffff8000").count() > 3;
    if parts.len() != 2 || parts.iter().filter(traced).count() != 2 {
        return wrong("the report lacks a trace");
    }
    Ok(())
}

kernel_test! { "task", sleeping_in_an_atomic_section_is_reported, {
    static LOCK: SpinLock<u32> = SpinLock::new(0);
    static QUEUE: WaitQueue = WaitQueue::new();
    warm_up()?;
    reported("sleep", || {
        let _guard = preempt::disable();
        sleep_until(time::now() + milliseconds(1));
    })?;
    reported("yield", || {
        let _held = LOCK.lock();
        yield_now();
    })?;
    reported("wait", || {
        let _masked = preempt::mask_interrupts();
        QUEUE.wait_until(|| true);
    })?;
    let task = must!(spawn("twice", twice, 4));
    let mut value = 0;
    reported("join", || {
        let _guard = preempt::disable();
        value = task.join();
    })?;
    // It went on all the same.
    check_eq!((value, preempt::is_enabled()), (8, true));
    // Nothing is said where nothing is wrong.
    let before = warning::count();
    drop(LOCK.lock());
    sleep_until(time::now() + milliseconds(1));
    check!(atomic::may_sleep("nothing"));
    check_eq!(warning::count(), before);
    Ok(())
} }

kernel_test! { "task", where_a_section_began_is_told_if_its_function_returned, {
    #[inline(never)]
    fn begin() -> preempt::Disabled {
        preempt::disable()
    }
    let (report, ()) = logged(|| {
        let _guard = black_box(begin());
        yield_now();
    });
    check!(report.contains("in a function that has returned"));
    let (report, ()) = logged(|| {
        let _masked = cpu::mask_interrupts();
        yield_now();
    });
    check!(report.contains("interrupts masked") && report.contains("was not noted"));
    Ok(())
} }

kernel_test! { "task", sleep_in_a_handler, panics "sleep in an interrupt handler", {
    let _handler = super::enter_interrupt();
    sleep_until(time::now() + 1);
    Ok(())
} }
