//! Kernel tests of random operation: the seed decides all of it, under every model and backend, and
//! what goes wrong is found, at the same step each time.

use super::{
    claims,
    crowd::run_many,
    run::{Stopped, run},
};
use crate::{
    arch::fixup::probe_write_u64,
    check, check_eq, kernel_test,
    ktest::TestResult,
    mm::{
        lazy::{self, Backend, Model},
        linear_map, page_alloc,
        testing::{must, trouble},
        vmalloc::{self, AreaKind},
    },
    monitor::{Failed, run as command},
};
use alloc::{format, string::ToString, vec::Vec};
use vmsa::{Frame, PAGE_SIZE, VirtAddr};

kernel_test! { "stress", a_seed_decides_every_operation, {
    let first = must!(run(7, 600, |_| ()));
    check_eq!(must!(run(7, 600, |_| ())), first);
    check!(must!(run(8, 600, |_| ())).digest != first.digest);
    check!(must!(run(7, 601, |_| ())).digest != first.digest);
    Ok(())
} }

kernel_test! { "stress", holds_under_every_model_and_backend, {
    let before = (lazy::model(), lazy::backend());
    let mut seed = 0;
    for model in Model::ALL {
        for backend in Backend::ALL {
            seed += 1;
            check_eq!(lazy::choose(model, backend), Ok(()));
            let done = run(seed, 250, |_| ());
            check_eq!(lazy::choose(before.0, before.1), Ok(()));
            if let Err(Stopped { step, why }) = done {
                log::error!("{model}, {backend}, seed {seed}, step {step}: {why}");
                return Err(trouble("a run under every model and backend"));
            }
        }
    }
    Ok(())
} }

/// Runs seed 11 twice, with `spoil` called before a step until it has spoilt something, which
/// `mend` then makes good. Both must fail at the same step, and not before it, with a reason that
/// holds `why`.
fn found<T>(
    why: &str,
    spoil: impl Fn() -> Option<T>,
    mend: impl Fn(T) -> TestResult,
) -> TestResult {
    let mut first = None;
    for _ in 0..2 {
        let mut spoilt = None;
        let result = run(11, 1500, |step| {
            if step > 150 && spoilt.is_none() {
                spoilt = spoil().map(|what| (step, what));
            }
        });
        let (at, what) = spoilt.ok_or(trouble("nothing was spoilt"))?;
        mend(what)?;
        let Err(stopped) = result else {
            return Err(trouble("nothing was found"));
        };
        log::info!(
            "spoilt before step {at}; step {}: {}",
            stopped.step,
            stopped.why
        );
        check!(at <= stopped.step);
        check!(stopped.why.to_string().contains(why));
        check_eq!(first.get_or_insert(stopped.step), &stopped.step);
    }
    Ok(())
}

/// The alias of the first page of some area of pages that a task has: there is a mark in it.
fn page_in_use() -> Option<VirtAddr> {
    let mut starts = Vec::new();
    claims::each(|range| starts.push(range.start()));
    starts
        .into_iter()
        .filter(|va| vmalloc::find(*va).is_some_and(|a| a.kind == AreaKind::Vmalloc))
        .filter_map(|va| linear_map::kernel().leaf(va))
        .filter_map(|(entry, level)| entry.output(level))
        .map(|pa| linear_map::virt(Frame::containing(pa).start()))
        // The area may be read-only, and its alias then is.
        // SAFETY: it is spoilt on purpose: there is nothing in it that anyone relies on.
        .find(|alias| unsafe { probe_write_u64(*alias, 0) }.is_ok())
}

/// Writes over a page of an area.
fn write_over() -> Option<()> {
    let page = page_in_use()?;
    for word in (0..PAGE_SIZE).step_by(8) {
        // SAFETY: as above.
        let _ = unsafe { probe_write_u64(page + word, 0x0bad) };
    }
    Some(())
}

kernel_test! { "stress", a_page_that_somebody_else_wrote_to_is_found, {
    found("0x0000000000000bad, and ", write_over, |()| Ok(()))
} }

kernel_test! { "stress", a_page_that_is_not_given_back_is_found, {
    found("are accounted for", || page_alloc::allocate(0).ok(), |frame| {
        must!(page_alloc::free(frame, 0));
        Ok(())
    })
} }

kernel_test! { "stress", an_area_that_is_not_given_back_is_found, {
    found("are accounted for", || vmalloc::vmalloc(1).ok(), |start| {
        must!(vmalloc::vfree(start));
        Ok(())
    })
} }

kernel_test! { "stress", a_message_that_nothing_led_to_is_found, {
    let complain = || {
        log::error!("somebody complains");
        Some(())
    };
    found("the first: somebody complains", complain, |()| Ok(()))
} }

/// The tasks of a run of several.
const TASKS: usize = 4;

kernel_test! { "stress", several_tasks_and_handlers_share_the_machine, {
    match run_many(21, 2000, TASKS, |_| ()) {
        // All that one task alone can't do was done.
        Ok((_, happened)) => {
            log::info!("{happened}");
            check!(happened.migrations > 0 && happened.sleeps > 0);
            check!(happened.handed_over > 0 && happened.in_section > 0);
            check!(happened.handled.0 > 0 && happened.freed > 0);
            Ok(())
        }
        Err(Stopped { step, why }) => {
            log::error!("step {step}: {why}");
            Err(trouble("a run of several tasks"))
        }
    }
} }

/// Runs a seed with several tasks, with `spoil` called between any two of their orders, for who has
/// what was spoilt may free it unseen; `mend` makes it good. It must be found, for a reason that holds
/// `why`.
fn found_of_many<T>(
    why: &str,
    spoil: impl Fn() -> Option<T>,
    mend: impl Fn(T) -> TestResult,
) -> TestResult {
    let areas = vmalloc::stats().areas;
    let mut spoilt = Vec::new();
    let result = run_many(23, 4000, TASKS, |done| {
        if done > 300 {
            spoilt.extend(spoil());
        }
    });
    check!(!spoilt.is_empty());
    spoilt.into_iter().try_for_each(mend)?;
    let Err(stopped) = result else {
        return Err(trouble("nothing was found"));
    };
    log::info!("step {}: {}", stopped.step, stopped.why);
    check!(stopped.why.to_string().contains(why));
    // Whoever stops gives everything back, also what was spoilt.
    check_eq!(vmalloc::stats().areas, areas);
    Ok(())
}

kernel_test! { "stress", what_one_of_several_tasks_finds_stops_all, {
    found_of_many("0x0000000000000bad, and ", write_over, |()| Ok(()))
} }

kernel_test! { "stress", a_page_that_none_of_several_tasks_has_is_found, {
    found_of_many("are accounted for", || page_alloc::allocate(0).ok(), |frame| {
        must!(page_alloc::free(frame, 0));
        Ok(())
    })
} }

kernel_test! { "stress", an_area_that_none_of_several_tasks_has_is_found, {
    found_of_many("are accounted for", || vmalloc::vmalloc(1).ok(), |start| {
        must!(vmalloc::vfree(start));
        Ok(())
    })
} }

kernel_test! { "stress", arguments_are_refused, {
    for (arguments, why) in [
        ("seed=1 ops=0", Some("no operations are no run")),
        ("seed=1 ops=1 tasks=0", Some("0 tasks are no run; known: 1 to 8")),
        ("seed=1 ops=1 tasks=9", Some("9 tasks are no run; known: 1 to 8")),
        ("seed=x ops=1", Some("'x' is no number")),
        ("seed=1 ops=1 steps=1", Some("unknown argument 'steps'; known: seed ops tasks")),
        ("seed=1 seed=2 ops=1", Some("'seed' is there twice")),
        ("seed=1 ops=0x1_0000_0000_0000_0000", Some("more than 64 bits hold")),
        ("seed=1", None),
        ("ops=1", None),
        ("1 2", None),
        ("", None),
    ] {
        match (command(&format!("stress {arguments}")), why) {
            (Err(Failed::Refused(said)), Some(why)) if said.contains(why) => {}
            (Err(Failed::Usage), None) => {}
            (other, _) => {
                log::error!("stress {arguments}: {other:?}");
                return Err(trouble("it is refused"));
            }
        }
    }
    check_eq!(command("stress seed=0 ops=1"), Ok(()));
    check_eq!(command("stress ops=9 seed=1 tasks=3"), Ok(()));
    check_eq!(command("stress ops=2 seed=0xffff_ffff_ffff_ffff"), Ok(()));
    Ok(())
} }
