//! A lazy section is preempted at one store and moved to another CPU at the next: what the task
//! owes goes with it, and is paid where it ends the section.
//!
//! The thread that asked for a lock around every section feared just this. With the state in the
//! task nothing has to be done about it: the neighbour that runs in between has a section of its
//! own, and neither pays what the other owes.

use super::{
    Trouble, ensure, failed, recorded,
    scratch::{self, Scratch},
    timeline,
};
use crate::{
    arch::{cpu, fixup},
    mm::{
        layout::SCRATCH,
        lazy::{self, Backend, PageTableLock},
        linear_map,
        stack::spawn_on,
    },
    println,
    task::{
        self,
        points::{self, Action},
        schedule,
    },
    trace::Barrier::{self, DsbIsh, DsbIshst, Isb},
};
use alloc::vec::Vec;
use vmsa::Frame;

/// The scratch addresses of the section, and the neighbour's.
const FIRST: u64 = 0;
const SECOND: u64 = 1;
const NEIGHBOURS: u64 = 2;

pub(super) fn run() -> Result<(), Trouble> {
    let scratch = Scratch::new()?;
    // Only what is asked for preempts, not the clock.
    let _slices = schedule::no_slices();
    task::migrate_to(0).map_err(failed)?;
    let there = cpu::others().next().unwrap_or(0);
    let stays =
        lazy::page_table_lock() != PageTableLock::None || lazy::backend() == Backend::StoresPerCpu;
    let result = if stays {
        kept(&scratch)
    } else {
        preempted(&scratch, there)
    };
    task::unpin();
    result
}

/// What the section found on its way.
struct Found {
    /// Whether it was preempted, and whether it was moved.
    done: [bool; 2],
    /// The CPU after each store.
    cpus: [usize; 2],
    /// Whether the task owed what it should after each store.
    owes: [bool; 2],
}

fn preempted(scratch: &Scratch, there: usize) -> Result<(), Trouble> {
    let me = task::current().id;
    let number = scratch.frame.number() as usize;
    let neighbour = spawn_on(0, "neighbour", neighbour, number).map_err(failed)?;
    let names = [(me, "this task"), (neighbour.id(), "neighbour")];
    let result = recorded(
        || {
            let section = lazy::section();
            let first = store(scratch, FIRST, Action::Preempt)?;
            let second = store(scratch, SECOND, Action::Migrate(there))?;
            drop(section);
            Ok(Found {
                done: [first.0, second.0],
                cpus: [first.1, second.1],
                owes: [first.2, second.2],
            })
        },
        |events, found| {
            timeline::print(events, &names, lazy::model());
            let issued = timeline::barriers(events, me);
            let expected = expected(lazy::backend(), there, lazy::ets2());
            println!("this task: {}", shown(&issued));
            ensure!(found.done[0], "it was not preempted at its first store");
            ensure!(
                found.done[1] && found.cpus == [0, there],
                "it was not moved at its second store: CPUs {:?}",
                found.cpus
            );
            ensure!(
                found.owes == [true, true],
                "what it owes did not stay with it: {:?}",
                found.owes
            );
            ensure!(
                issued == expected,
                "it issued {}, expected {}",
                shown(&issued),
                shown(&expected)
            );
            Ok(())
        },
    );
    neighbour.join();
    result?;
    for n in [FIRST, SECOND, NEIGHBOURS] {
        let read = fixup::probe_read_u8(scratch.va(n));
        ensure!(read.is_ok(), "page {n} can't be read: {read:?}");
    }
    if there == 0 {
        println!("There is one CPU: the section went on where it was. SMP=2 moves it.");
    } else {
        println!(
            "The section was moved to CPU {there}: it ends there, and its barriers are issued there."
        );
    }
    Ok(())
}

/// What `PTLOCK=global`, `PTLOCK=preempt` and `BACKEND=stores-percpu` have instead: nobody is preempted in a section, whatever
/// is due.
fn kept(scratch: &Scratch) -> Result<(), Trouble> {
    let section = lazy::section();
    let (preempted, ..) = store(scratch, FIRST, Action::Preempt)?;
    drop(section);
    ensure!(!preempted, "it was preempted in its section");
    println!(
        "PTLOCK={} BACKEND={} keeps the section on its CPU until it ends: whoever is due waits for \
         that.",
        lazy::page_table_lock(),
        lazy::backend()
    );
    Ok(())
}

/// Maps a page, with something to happen right after the store. Whether it did, the CPU after it,
/// and whether what is owed is what the backend puts off.
fn store(scratch: &Scratch, n: u64, action: Action) -> Result<(bool, usize, bool), Trouble> {
    let plan = points::plan(0, action).ok_or_else(|| failed("another plan exists"))?;
    linear_map::kernel()
        .set_leaf(scratch.va(n), |_| scratch.leaf())
        .map_err(failed)?;
    let deferred = &task::current().deferred;
    let owes = match lazy::backend() {
        Backend::Stores => deferred.stores.len() as u64 == n + 1,
        Backend::Barriers | Backend::Tlbi => deferred.barriers.get() != lazy::ets2(),
        // The switch has drained the queue of the CPU: barriers are owed.
        Backend::StoresPerCpuHooks => deferred.barriers.get() != lazy::ets2(),
        // There was no switch, and the stores wait on the CPU.
        Backend::Eager | Backend::StoresPerCpu => deferred.is_empty(),
    };
    Ok((plan.is_done(), cpu::id() as usize, owes))
}

/// Has a section of its own on the CPU that was taken from the other task.
fn neighbour(number: usize) -> usize {
    let section = lazy::section();
    let mapped = Frame::from_number(number as u64)
        .map(scratch::leaf)
        .map(|leaf| linear_map::kernel().set_leaf(SCRATCH.page(NEIGHBOURS), |_| leaf));
    drop(section);
    usize::from(matches!(mapped, Some(Ok(()))))
}

/// The barriers of the task: those of each switch from it on the CPU that it leaves, and those of
/// its stores where the backend puts them.
fn expected(backend: Backend, there: usize, ets2: bool) -> Vec<(u32, Barrier)> {
    let there = there as u32;
    let at_once = |cpu| {
        let pair = [(cpu, DsbIshst), (cpu, Isb)];
        (backend == Backend::Eager && !ets2).then_some(pair)
    };
    let switch = [(0, DsbIsh), (0, Isb)];
    let mut all: Vec<_> = switch.into();
    all.extend(at_once(0).into_iter().flatten());
    // To the CPU where it is already there is no switch.
    all.extend((there != 0).then_some(switch).into_iter().flatten());
    all.extend(at_once(there).into_iter().flatten());
    if backend != Backend::Eager && !ets2 {
        all.extend([(there, DsbIshst), (there, Isb)]);
    }
    all
}

/// Barriers with their CPUs, in a line.
fn shown(barriers: &[(u32, Barrier)]) -> alloc::string::String {
    let words: Vec<_> = barriers
        .iter()
        .map(|(cpu, barrier)| alloc::format!("{} on CPU {cpu}", timeline::name(*barrier)))
        .collect();
    words.join(", ")
}
