//! Kernel tests of the subject: which store is made good when, and who pays. Under QEMU a barrier
//! that is missing would not be missed, so the barriers themselves are counted.

use super::{
    ArchCall, Backend, Busy, Call, LazyMmuState, Model, choose, is_active,
    lazy_mmu_mode_disable as disable, lazy_mmu_mode_enable as enable, lazy_mmu_mode_pause as pause,
    lazy_mmu_mode_resume as resume, paused, section,
};
use crate::{
    arch::fixup::{probe_read_u64, probe_write_u64},
    check, check_eq, kernel_test,
    ktest::TestResult,
    mm::{
        testing::{Chosen, Scratch, logged, make_room, must, recorded},
        tlb::{Removed, flush_kernel_range},
    },
    task::{self, enter_interrupt},
    trace::{Barrier, Counts, Kind},
    warning,
};
use alloc::{format, vec::Vec};

/// The backends that differ in their barriers alone.
const BACKENDS: [Backend; 2] = [Backend::Eager, Backend::Barriers];

/// Barriers that were issued while `action` ran, as pairs of DSB and ISB; `None` where they were not
/// pairs, or a TLBI was among them.
fn pairs<R>(action: impl FnOnce() -> R) -> (Option<usize>, R) {
    let counts = Counts::now();
    let result = action();
    let Counts { dsb, isb, tlbi, .. } = counts.since();
    ((dsb == isb && tlbi == 0).then_some(dsb), result)
}

/// The barriers of `action` alone.
fn barriers<R>(action: impl FnOnce() -> R) -> Option<usize> {
    pairs(action).0
}

fn owed() -> bool {
    task::current().deferred.barriers.get()
}

fn state() -> LazyMmuState {
    task::current().lazy_mmu_state.get()
}

/// The number of pairs at each step of: enable, store, enable, store, disable, store, disable, store.
fn nested_steps(scratch: &Scratch) -> [Option<usize>; 8] {
    let (at_first, outer) = pairs(enable);
    let store = |i: usize| barriers(|| scratch.map(i));
    let one = store(0);
    let (at_second, inner) = pairs(enable);
    let two = store(1);
    let at_inner = barriers(|| disable(inner));
    let three = store(2);
    let at_outer = barriers(|| disable(outer));
    scratch.clear();
    [
        at_first,
        one,
        at_second,
        two,
        at_inner,
        three,
        at_outer,
        store(0),
    ]
}

kernel_test! { "lazy", every_disable_pays_whatever_the_model, {
    for model in Model::ALL {
        for backend in BACKENDS {
            let _chosen = Chosen::new(model, backend)?;
            let scratch = Scratch::new()?;
            let expected = match (backend, model) {
                (Backend::Eager, _) => [0, 1, 0, 1, 0, 1, 0, 1],
                // One flag: the inner disable ends the mode for the outer section too.
                (_, Model::Strict | Model::Tolerant | Model::Avoid) => [0, 0, 0, 0, 1, 1, 0, 1],
                _ => [0, 0, 0, 0, 1, 0, 1, 1],
            };
            let steps = nested_steps(&scratch);
            check_eq!((model, backend, steps), (model, backend, expected.map(Some)));
            check!(state() == LazyMmuState::new() && !owed());
        }
    }
    Ok(())
} }

kernel_test! { "lazy", an_invalid_entry_owes_nothing, {
    for backend in BACKENDS {
        let _chosen = Chosen::new(Model::TwoCounters, backend)?;
        let scratch = Scratch::new()?;
        scratch.map(0);
        let section = section();
        check_eq!(barriers(|| scratch.unmap(0)), Some(0));
        check!(!owed());
        check_eq!(barriers(|| drop(section)), Some(0));
    }
    Ok(())
} }

kernel_test! { "lazy", one_debt_for_many_stores, {
    let _chosen = Chosen::new(Model::TwoCounters, Backend::Barriers)?;
    let scratch = Scratch::new()?;
    let (events, ()) = recorded(|| {
        let section = section();
        (0..Scratch::LEAVES).for_each(|i| scratch.map(i));
        drop(section);
    })?;
    let barriers: Vec<Barrier> = events
        .iter()
        .filter_map(|event| match event.kind {
            Kind::Barrier(barrier) => Some(barrier),
            _ => None,
        })
        .collect();
    // In this order, and behind the last store.
    check_eq!(barriers, [Barrier::DsbIshst, Barrier::Isb]);
    let position = |wanted: fn(&Kind) -> bool| events.iter().rposition(|e| wanted(&e.kind));
    let last_store = position(|kind| matches!(kind, Kind::Store { .. }));
    let dsb = position(|kind| matches!(kind, Kind::Barrier(Barrier::DsbIshst)));
    check!(last_store < dsb);
    Ok(())
} }

kernel_test! { "lazy", a_pause_pays_and_nothing_is_put_off_in_it, {
    let _chosen = Chosen::new(Model::TwoCounters, Backend::Barriers)?;
    let scratch = Scratch::new()?;
    let outer = enable();
    check_eq!(barriers(|| scratch.map(0)), Some(0));
    let (at_pause, token) = pairs(pause);
    check_eq!(at_pause, Some(1));
    check!(!is_active() && !owed());
    check_eq!(barriers(|| scratch.map(1)), Some(1));
    // A page that was mapped in the pause can be used in the pause.
    // SAFETY: the page is ours.
    must!(unsafe { probe_write_u64(scratch.address(1), 1) });
    // A section inside does nothing: its store is paid at once, its disable pays nothing.
    let inside = enable();
    check_eq!(barriers(|| scratch.map(2)), Some(1));
    check_eq!(barriers(|| disable(inside)), Some(0));
    // A pause inside counts, and its resume does not end the outer one.
    let second = pause();
    check_eq!(barriers(|| resume(second)), Some(0));
    check!(!is_active());
    check_eq!(barriers(|| resume(token)), Some(0));
    check!(is_active());
    scratch.clear();
    check_eq!(barriers(|| scratch.map(0)), Some(0));
    check!(owed());
    check_eq!(barriers(|| disable(outer)), Some(1));
    check!(state() == LazyMmuState::new());
    Ok(())
} }

kernel_test! { "lazy", a_pause_outside_of_a_section_changes_nothing, {
    for backend in BACKENDS {
        let _chosen = Chosen::new(Model::TwoCounters, backend)?;
        let scratch = Scratch::new()?;
        let paused = paused();
        check_eq!(barriers(|| scratch.map(0)), Some(1));
        let inside = section();
        check!(inside.is_no_op());
        check_eq!(barriers(|| scratch.map(1)), Some(1));
        drop(inside);
        check_eq!(barriers(|| drop(paused)), Some(0));
        check!(state() == LazyMmuState::new());
    }
    Ok(())
} }

/// What the handler of an interrupt sees that hits an open section with a debt.
fn in_interrupt(model: Model) -> TestResult {
    let _chosen = Chosen::new(model, Backend::Barriers)?;
    let scratch = Scratch::new()?;
    make_room()?;
    let outer = enable();
    scratch.map(0);
    check!(owed());
    let before = state();
    let (events, result) = recorded(|| -> TestResult {
        let _handler = enter_interrupt();
        check!(!is_active());
        let token = enable();
        check_eq!(barriers(|| scratch.map(1)), Some(1));
        check_eq!(barriers(|| disable(token)), Some(0));
        let token = pause();
        check_eq!(barriers(|| scratch.map(2)), Some(1));
        check_eq!(barriers(|| resume(token)), Some(0));
        check!(state() == before && owed());
        // Nor does a flush of the handler's own settle what the task owes.
        let Counts { dsb, isb, tlbi, .. } = {
            let counts = Counts::now();
            flush_kernel_range(scratch.range(), Removed::Leaves);
            counts.since()
        };
        check!((dsb, isb) == (2, 1) && tlbi > 0);
        check!(state() == before && owed());
        Ok(())
    })?;
    result?;
    let calls: Vec<(Call, Option<ArchCall>)> = events
        .iter()
        .filter_map(|event| match event.kind {
            Kind::Lazy { call, arch, .. } => Some((call, arch)),
            _ => None,
        })
        .collect();
    let all = [Call::Enable, Call::Disable, Call::Pause, Call::Resume];
    check_eq!(calls, all.map(|call| (call, None)));
    check!(is_active());
    check_eq!(barriers(|| disable(outer)), Some(1));
    check!(state() == LazyMmuState::new());
    Ok(())
}

kernel_test! { "lazy", an_interrupt_leaves_section_and_debt_alone, {
    let warned = warning::count();
    for model in Model::ALL {
        if model != Model::Strict {
            in_interrupt(model)?;
        }
    }
    check_eq!(warning::count(), warned);
    Ok(())
} }

kernel_test! { "lazy", the_first_model_warned_in_interrupts, {
    let _chosen = Chosen::new(Model::Strict, Backend::Barriers)?;
    // A heap that grew in the handler would enter the mode again.
    make_room()?;
    let warned = warning::count();
    let (text, token) = logged(|| {
        let _handler = enter_interrupt();
        let token = enable();
        // The mode is on in the handler: its stores would be put off.
        (is_active(), token)
    });
    check!(text.contains("WARN: lazy MMU mode, model strict: "));
    check_eq!(warning::count(), warned + 1);
    check!(token.0);
    disable(token.1);
    check!(state() == LazyMmuState::new());
    Ok(())
} }

kernel_test! { "lazy", a_flush_settles_the_debt, {
    let _chosen = Chosen::new(Model::TwoCounters, Backend::Barriers)?;
    let scratch = Scratch::new()?;
    let section = section();
    scratch.map(0);
    check!(owed());
    let counts = Counts::now();
    flush_kernel_range(scratch.range(), Removed::Leaves);
    let Counts { dsb, isb, tlbi, .. } = counts.since();
    check!((dsb, isb) == (2, 1) && tlbi > 0);
    check!(!owed());
    must!(probe_read_u64(scratch.address(0)));
    check_eq!(barriers(|| drop(section)), Some(0));
    // A debt that is made after it is not settled by it.
    let section = super::section();
    flush_kernel_range(scratch.range(), Removed::Leaves);
    scratch.map(1);
    check!(owed());
    check_eq!(barriers(|| drop(section)), Some(1));
    Ok(())
} }

kernel_test! { "lazy", a_guard_remembers_what_its_enable_did, {
    let _chosen = Chosen::new(Model::TwoCounters, Backend::Barriers)?;
    let scratch = Scratch::new()?;
    // Opened by the task, closed under a handler (as under spin_lock_bh): it closes all the same.
    let opened = section();
    scratch.map(0);
    let handler = enter_interrupt();
    check_eq!(barriers(|| drop(opened)), Some(1));
    drop(handler);
    check!(state() == LazyMmuState::new() && !owed());
    // Opened under a handler, where it was a no-op, and closed later: nothing is counted down.
    let outer = section();
    let handler = enter_interrupt();
    let ignored = section();
    let not_paused = paused();
    check!(ignored.is_no_op() && not_paused.is_no_op());
    drop(handler);
    drop(not_paused);
    drop(ignored);
    check!(is_active());
    // The same for a section that was opened in a pause and outlives it.
    let pause = paused();
    let ignored = section();
    drop(pause);
    check!(is_active());
    drop(ignored);
    check!(is_active());
    drop(outer);
    check!(state() == LazyMmuState::new());
    Ok(())
} }

kernel_test! { "lazy", the_raw_calls_leak_as_in_linux, {
    let model = Model::TwoCounters;
    let _chosen = Chosen::new(model, Backend::Barriers)?;
    let scratch = Scratch::new()?;
    // enable(); spin_lock_bh(); disable(): the disable is ignored, and the section never ends.
    let token = enable();
    scratch.map(0);
    {
        let _handler = enter_interrupt();
        check_eq!(barriers(|| disable(token)), Some(0));
    }
    check_eq!(state().leaked(model), 1);
    check!(is_active() && owed());
    check_eq!(format!("{}", state().display(model)), "enable=1 pause=0");
    check_eq!(choose(model, Backend::Eager), Err(Busy));
    check!(!super::reset());
    check!(state() == LazyMmuState::new() && !owed());
    Ok(())
} }

kernel_test! { "lazy", a_full_counter_warns_and_stays, {
    let model = Model::TwoCounters;
    let _chosen = Chosen::new(model, Backend::Barriers)?;
    let scratch = Scratch::new()?;
    let warned = warning::count();
    let tokens: Vec<_> = (0..256).map(|_| enable()).collect();
    check_eq!(warning::count(), warned + 1);
    // The one too many still pays at its end.
    scratch.map(0);
    let mut paid = Vec::with_capacity(256);
    for token in tokens {
        paid.push(barriers(|| disable(token)));
    }
    check_eq!(paid[0], Some(1));
    // One more disable than was counted: an underflow, which warns too.
    check_eq!(warning::count(), warned + 2);
    check!(state() == LazyMmuState::new() && !owed());
    Ok(())
} }

kernel_test! { "lazy", model_and_backend_change_only_between_sections, {
    let (model, backend) = (super::model(), super::backend());
    let other = |b| if b == Backend::Eager { Backend::Barriers } else { Backend::Eager };
    {
        let _open = section();
        check_eq!(choose(model, other(backend)), Err(Busy));
        check_eq!(choose(Model::Token, backend), Err(Busy));
    }
    {
        let _chosen = Chosen::new(Model::TwoCounters, Backend::Barriers)?;
        let pause = paused();
        check_eq!(choose(Model::Strict, Backend::Eager), Err(Busy));
        drop(pause);
        task::current().deferred.barriers.set(true);
        check_eq!(choose(Model::Strict, Backend::Eager), Err(Busy));
        check!(!super::reset());
        check_eq!((super::model(), super::backend()), (Model::TwoCounters, Backend::Barriers));
    }
    check_eq!((super::model(), super::backend()), (model, backend));
    Ok(())
} }
