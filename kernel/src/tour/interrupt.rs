//! A timer interrupt maps a page inside a section that the interrupted task has open.
//!
//! The handler touches its page at once, so its barriers may not wait for the end of a section that
//! it knows nothing of: in interrupt context the four calls are no-ops, and stores get their
//! barriers where they are. What the task owes, it owes afterwards still. The first rules warned
//! instead, and then put the handler's barriers off on the task's account; KFENCE and
//! DEBUG_PAGEALLOC do change page tables in interrupts, and so they were mended within weeks.

use super::{
    Trouble, ensure, failed, recorded,
    scratch::{self, Scratch},
    timeline,
};
use crate::{
    arch::{
        fixup,
        interrupt::{self, Handlers},
        record::span,
        time, timer,
    },
    mm::{
        layout::SCRATCH,
        lazy::{self, Model},
        linear_map,
    },
    println, task,
    trace::{Barrier, Event, Kind},
    warning,
};
use core::sync::atomic::{
    AtomicU8, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use vmsa::Frame;

/// The scratch addresses: the task's and the handler's.
const TASKS: u64 = 0;
const HANDLERS: u64 = 1;

/// As it stands in the recording.
const HANDLER: &str = "timer interrupt";

/// The number of the frame that the handler is to map; 0 for none.
static FRAME: AtomicU64 = AtomicU64::new(0);
/// What came of it: 0 nothing yet, 1 its page could be read, 2 it could not.
static READ: AtomicU8 = AtomicU8::new(0);

/// The scheduler's handlers, with one in front of the timer's.
static IN_FRONT: Handlers = Handlers {
    timer: || {
        map_a_page();
        (task::schedule::HANDLERS.timer)();
    },
    ..task::schedule::HANDLERS
};

/// The handler: maps a page in a section, as it would anywhere, and uses it.
fn map_a_page() {
    let Some(frame) = Frame::from_number(FRAME.swap(0, Acquire)).filter(|f| f.number() != 0) else {
        return;
    };
    let _span = span(HANDLER);
    let va = SCRATCH.page(HANDLERS);
    {
        let _section = lazy::section();
        // The table is there: whoever asked for this has made it.
        let _ = linear_map::kernel().set_leaf(va, |_| scratch::leaf(frame));
    }
    let read = fixup::probe_read_u8(va);
    READ.store(if read.is_ok() { 1 } else { 2 }, Release);
}

pub(super) fn run() -> Result<(), Trouble> {
    let scratch = Scratch::new()?;
    let (model, backend) = (lazy::model(), lazy::backend());
    let me = task::current().id;
    let warned = warning::count();
    recorded(
        || {
            let section = lazy::section();
            linear_map::kernel()
                .set_leaf(scratch.va(TASKS), |_| scratch.leaf())
                .map_err(failed)?;
            let before = (task::current().lazy_mmu_state.get(), owed());
            interrupted(&scratch);
            let after = (task::current().lazy_mmu_state.get(), owed());
            drop(section);
            Ok(before == after)
        },
        |events, unchanged| {
            timeline::print(events, &[(me, "this task")], model);
            let strict = model == Model::Strict;
            ensure!(
                unchanged != strict,
                "the handler {} what the task has open and owes",
                if unchanged { "left alone" } else { "changed" }
            );
            let inside = handlers_barriers(events);
            let expected: &[Barrier] = match backend {
                // Data needs none.
                _ if lazy::ets2() => &[],
                // The store itself waits in the task's queue.
                backend if strict && backend.defers_stores() => &[],
                // At the handler's own disable, or at its store: there is no difference to see.
                _ => &[Barrier::DsbIshst, Barrier::Isb],
            };
            ensure!(
                inside == expected,
                "the handler issued {inside:?}, expected {expected:?}"
            );
            Ok(())
        },
    )?;
    let strict = model == Model::Strict;
    // A queue of the CPU is drained by whoever leaves the mode there, handlers too.
    let usable = !(strict && backend == lazy::Backend::Stores);
    let read = READ.load(Acquire);
    ensure!(
        read == if usable { 1 } else { 2 },
        "the handler's read of its page: {read}"
    );
    let warned = warning::count() - warned;
    // The enable in interrupt context.
    let expected = usize::from(strict);
    ensure!(warned == expected, "{warned} warnings, expected {expected}");
    for n in [TASKS, HANDLERS] {
        let read = fixup::probe_read_u8(scratch.va(n));
        ensure!(read.is_ok(), "page {n} can't be read: {read:?}");
    }
    println!(
        "{}",
        match (strict, usable) {
            (false, _) =>
                "The handler had its barriers at once; the task's state and debt are as they were.",
            (true, true) =>
                "The handler's disable ended the task's section: what follows in it is not put off.",
            (true, false) =>
                "The handler's store went into the task's queue: it could not use the page it had mapped.",
        }
    );
    Ok(())
}

/// Whether the task owes barriers, and how many stores it has queued.
fn owed() -> (bool, usize) {
    let deferred = &task::current().deferred;
    (deferred.barriers.get(), deferred.stores.len())
}

/// Has the handler run, and waits for it.
fn interrupted(scratch: &Scratch) {
    READ.store(0, Relaxed);
    let before = interrupt::set_handlers(&IN_FRONT);
    FRAME.store(scratch.frame.number(), Release);
    timer::set_deadline(time::now());
    while READ.load(Acquire) == 0 {
        core::hint::spin_loop();
    }
    interrupt::set_handlers(before.unwrap_or(&task::schedule::HANDLERS));
}

/// The barriers between the handler's beginning and its end.
fn handlers_barriers(events: &[Event]) -> alloc::vec::Vec<Barrier> {
    let is_begin = |event: &&Event| !matches!(event.kind, Kind::Enter(HANDLER));
    let is_end = |event: &&Event| !matches!(event.kind, Kind::Leave(HANDLER));
    events
        .iter()
        .skip_while(is_begin)
        .take_while(is_end)
        .filter_map(|event| match event.kind {
            Kind::Barrier(barrier) => Some(barrier),
            _ => None,
        })
        .collect()
}
