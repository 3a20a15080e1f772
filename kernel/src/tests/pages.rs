//! Kernel tests of the page allocator between CPUs, and between tasks and interrupt handlers.

use super::cpus::{Installed, PerCpu, all, comes, me, on, on_every};
use crate::{
    arch::{interrupt::Handlers, time, timer},
    check, check_eq, kernel_test,
    ktest::TestResult,
    mm::{
        lazy::{self, Backend, Model},
        linear_map,
        page_alloc::{
            MAX_ORDER, OutOfMemory, allocate, allocate_list, drain, empty_list, free, free_blocks,
            free_list, give_up, is_free, stats,
        },
        testing::{Chosen, Scratch, make_room, must},
    },
    park,
};
use alloc::string::String;
use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use vmsa::Frame;

/// Pages that one CPU hands to another, by number.
static PAGES: [AtomicU64; 200] = [const { AtomicU64::new(0) }; 200];
/// What a CPU has to say.
static SAID: PerCpu = PerCpu::new();

/// Allocates all of [`PAGES`]; those for which there is no memory are 0.
fn fill() {
    for slot in &PAGES {
        slot.store(allocate(0).map_or(0, Frame::number), Release);
    }
}

/// Frees all of [`PAGES`]: how many.
fn empty() -> u64 {
    let frames = PAGES.iter().map(|slot| slot.swap(0, Acquire));
    let frames = frames.filter(|number| *number != 0);
    let freed = frames.filter_map(Frame::from_number);
    freed.filter(|frame| free(*frame, 0).is_ok()).count() as u64
}

kernel_test! { "pages", what_one_cpu_allocates_another_frees, {
    make_room()?;
    drain();
    let before = (stats(), free_blocks());
    for cpu in all() {
        fill();
        let first = Frame::from_number(PAGES[0].load(Relaxed));
        check_eq!(stats().free, before.0.free - PAGES.len() as u64);
        on(cpu, |cpu| SAID.set(cpu, empty()))?;
        check_eq!(SAID.get(cpu), PAGES.len() as u64);
        check!(first.is_some_and(is_free));
        check_eq!(stats(), before.0);
        // And the other way round.
        on(cpu, |_| fill())?;
        check_eq!(empty(), PAGES.len() as u64);
        check_eq!(stats(), before.0);
    }
    // All of it is one piece again.
    drain();
    check_eq!((stats(), free_blocks()), before);
    Ok(())
} }

/// Every CPU allocates some pages and frees them, and so keeps some.
fn keep(_: usize) {
    let pages = [(); 40].map(|()| allocate(0));
    pages
        .into_iter()
        .flatten()
        .for_each(|page| free(page, 0).unwrap_or(()));
}

kernel_test! { "pages", memory_runs_out_when_no_cpu_keeps_any, {
    make_room()?;
    let before = stats();
    // In bulk: all of it, or one more.
    on_every(keep)?;
    check_eq!(stats(), before);
    check_eq!(allocate_list(before.free + 1).err(), Some(OutOfMemory));
    on_every(keep)?;
    let everything = allocate_list(before.free);
    on_every(|cpu| SAID.set(cpu, u64::from(allocate(0) == Err(OutOfMemory))))?;
    let left = stats().free;
    let all_of_it = everything.is_ok();
    everything.into_iter().for_each(free_list);
    check!(all_of_it);
    check_eq!(left, 0);
    check_eq!(SAID.sum(), all().len() as u64);
    check_eq!(stats(), before);
    // One by one, the last thousand.
    let most = must!(allocate_list(before.free - 1000));
    on_every(keep)?;
    let mut pages = must!(empty_list().ok_or("not open"));
    while let Ok(page) = allocate(0) {
        let _ = give_up(&mut pages, page);
    }
    let count = pages.count();
    free_list(pages);
    free_list(most);
    check_eq!(count, 1000);
    check_eq!(stats(), before);
    Ok(())
} }

kernel_test! { "pages", a_block_is_put_together_from_what_cpus_keep, {
    make_room()?;
    let before = stats();
    for cpu in all() {
        // With all else taken, single pages can come from this block alone.
        let block = must!(allocate(MAX_ORDER));
        let others = must!(allocate_list(stats().free));
        must!(free(block, MAX_ORDER));
        let kept = on(cpu, keep);
        let whole = allocate(MAX_ORDER);
        let freed = free(block, MAX_ORDER);
        free_list(others);
        kept?;
        check_eq!((cpu, whole, freed), (cpu, Ok(block), Ok(())));
        check_eq!(stats(), before);
    }
    Ok(())
} }

/// Allocations by handlers, and those that went wrong, by CPU.
static HANDLED: PerCpu = PerCpu::new();
static WRONG: PerCpu = PerCpu::new();

/// Allocates some pages, uses them, frees them; whether all was well.
fn use_some() -> bool {
    let pages = [(); 5].map(|()| allocate(0));
    let mut well = true;
    let word = |frame: Frame| linear_map::virt(frame.start()).as_mut_ptr::<u64>();
    let tag = |frame: Frame| frame.number() << 8 | me() as u64;
    for frame in pages.iter().flatten() {
        // SAFETY: the page is ours, and in the linear map.
        unsafe { word(*frame).write_volatile(tag(*frame)) };
    }
    for frame in pages {
        let Ok(frame) = frame else {
            well = false;
            continue;
        };
        // SAFETY: as above.
        well &= unsafe { word(frame).read_volatile() } == tag(frame);
        well &= free(frame, 0).is_ok();
    }
    // More than a CPU's list is for.
    let list = allocate_list(9);
    well &= list.is_ok();
    list.into_iter().for_each(free_list);
    well
}

/// The timer's handler: allocates, and comes again soon.
fn handle() {
    WRONG.add(me(), u64::from(!use_some()));
    HANDLED.add(me(), 1);
    timer::set_deadline(time::now() + time::frequency() / 5_000);
}

static ALLOCATING: Handlers = Handlers {
    timer: handle,
    ..park::HANDLERS
};

fn allocating() -> Installed {
    HANDLED.clear();
    WRONG.clear();
    Installed::new(&ALLOCATING)
}

kernel_test! { "pages", handlers_allocate_while_tasks_do, {
    make_room()?;
    let before = stats();
    let _allocating = allocating();
    for backend in Backend::ALL {
        let _chosen = Chosen::new(Model::TwoCounters, backend)?;
        HANDLED.clear();
        on_every(|cpu| {
            timer::set_deadline(time::now());
            let section = lazy::section();
            while HANDLED.get(cpu) < 20 {
                WRONG.add(cpu, u64::from(!use_some()));
            }
            drop(section);
            timer::cancel();
        })?;
        check_eq!((backend, WRONG.sum()), (backend, 0));
        check_eq!(stats(), before);
    }
    Ok(())
} }

/// What the running task has put off.
fn debt() -> Result<String, core::fmt::Error> {
    let mut text = String::with_capacity(1024);
    lazy::describe(&mut text).map(|()| text)
}

/// With a change of its own put off, the task waits for a handler that allocates: what it has put
/// off stays so.
fn interrupted(backend: Backend) -> TestResult {
    let _chosen = Chosen::new(Model::TwoCounters, backend)?;
    let scratch = Scratch::new()?;
    let _allocating = allocating();
    let section = lazy::section();
    scratch.map(1);
    let before = must!(debt());
    timer::set_deadline(time::now());
    let came = comes(|| HANDLED.get(me()) != 0);
    timer::cancel();
    let after = must!(debt());
    drop(section);
    // SAFETY: the test has mapped a page of its own there.
    let word = unsafe { scratch.address(1).as_ptr::<u64>().read_volatile() };
    core::hint::black_box(word);
    check!(came);
    check_eq!(WRONG.sum(), 0);
    check_eq!(before, after);
    let (owes, queues) = match backend {
        Backend::Eager => (false, false),
        Backend::Barriers | Backend::Tlbi => (true, false),
        Backend::Stores | Backend::StoresPerCpu | Backend::StoresPerCpuHooks => (false, true),
    };
    check_eq!(before.contains("owed=0"), !owes);
    check_eq!(before.contains("store queued"), queues);
    Ok(())
}

kernel_test! { "pages", a_handler_that_allocates_leaves_the_tasks_section_alone, {
    Backend::ALL.into_iter().try_for_each(interrupted)
} }
