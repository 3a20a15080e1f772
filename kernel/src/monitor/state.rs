//! The lazy MMU mode, the tasks and the counters: `lazy`, `model`, `backend`, `ptlock`, `ps`, `stats`.

use super::command::{Failed, List, refuse, show};
use crate::{
    arch::{
        cpu, fault,
        interrupt::{self, Stray},
    },
    mm::{
        heap, kasan,
        lazy::{self, Backend, Busy, Model, PageTableLock},
        page_alloc, vmalloc,
    },
    println,
    task::list,
    trace::Counts,
    warning,
};
use alloc::vec::Vec;

/// The names of the models.
pub(super) const MODELS: [&str; Model::ALL.len()] = {
    let mut names = [""; Model::ALL.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = Model::ALL[i].name();
        i += 1;
    }
    names
};

/// The names of the backends.
pub(super) const BACKENDS: [&str; Backend::ALL.len()] = {
    let mut names = [""; Backend::ALL.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = Backend::ALL[i].name();
        i += 1;
    }
    names
};

/// The names of what keeps others out of a section.
pub(super) const LOCKS: [&str; PageTableLock::ALL.len()] = {
    let mut names = [""; PageTableLock::ALL.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = PageTableLock::ALL[i].name();
        i += 1;
    }
    names
};

/// `lazy`.
pub(super) fn lazy(_: &[&str]) -> Result<(), Failed> {
    show(lazy::describe);
    Ok(())
}

/// `model [NAME]`.
pub(super) fn model(arguments: &[&str]) -> Result<(), Failed> {
    match arguments {
        [] => println!("{} (known: {})", lazy::model(), List(&MODELS)),
        [name] => match Model::ALL.into_iter().find(|model| model.name() == *name) {
            Some(model) => may_change("model", lazy::choose(model, lazy::backend()))?,
            None => return refuse!("unknown model '{name}'; known: {}", List(&MODELS)),
        },
        _ => return Err(Failed::Usage),
    }
    Ok(())
}

/// `backend [NAME]`.
pub(super) fn backend(arguments: &[&str]) -> Result<(), Failed> {
    match arguments {
        [] => println!("{} (known: {})", lazy::backend(), List(&BACKENDS)),
        [name] => match Backend::ALL.into_iter().find(|b| b.name() == *name) {
            Some(backend) => may_change("backend", lazy::choose(lazy::model(), backend))?,
            None => return refuse!("unknown backend '{name}'; known: {}", List(&BACKENDS)),
        },
        _ => return Err(Failed::Usage),
    }
    Ok(())
}

/// `ptlock [NAME]`.
pub(super) fn ptlock(arguments: &[&str]) -> Result<(), Failed> {
    match arguments {
        [] => println!("{} (known: {})", lazy::page_table_lock(), List(&LOCKS)),
        [name] => match PageTableLock::ALL.into_iter().find(|l| l.name() == *name) {
            Some(lock) => may_change("ptlock", lazy::choose_page_table_lock(lock))?,
            None => return refuse!("unknown ptlock '{name}'; known: {}", List(&LOCKS)),
        },
        _ => return Err(Failed::Usage),
    }
    Ok(())
}

fn may_change(what: &str, changed: Result<(), Busy>) -> Result<(), Failed> {
    match changed {
        Ok(()) => Ok(()),
        Err(Busy) => refuse!(
            "the {what} can't be changed now: a lazy section is open or paused, or something is \
             still put off; see 'lazy' and 'ps'"
        ),
    }
}

/// `ps`.
pub(super) fn ps(_: &[&str]) -> Result<(), Failed> {
    let mut count = 0;
    list::for_each(|_| count += 1);
    // Nothing may be allocated while they are looked at: tasks that started since have no room.
    let mut tasks = Vec::with_capacity(count);
    list::for_each(|task| {
        if tasks.len() < count {
            tasks.push(task);
        }
    });
    println!("{}", list::HEAD);
    tasks.iter().for_each(|task| println!("{task}"));
    println!("{} tasks, {} CPUs online", tasks.len(), cpu::count());
    Ok(())
}

/// `stats`.
pub(super) fn stats(_: &[&str]) -> Result<(), Failed> {
    let Counts {
        stores,
        dsb,
        isb,
        tlbi,
    } = Counts::now();
    println!("entries stored {stores}, DSB {dsb}, ISB {isb}, TLBI {tlbi}");
    println!(
        "spurious faults {}, warnings {}, KASAN reports {}, full queues of stores {}",
        fault::spurious_count(),
        warning::count(),
        kasan::report::count(),
        lazy::queue_full_count(),
    );
    println!(
        "waits for the page-table lock: {} (ptlock={})",
        lazy::page_table_lock_contended(),
        lazy::page_table_lock()
    );
    let Stray { spurious, unknown } = interrupt::stray();
    println!("interrupts nobody asked for: {spurious} spurious, {unknown} without a handler");
    let pages = page_alloc::stats();
    println!("pages: {} of {} free", pages.free, pages.managed);
    let (used, mapped) = heap::stats();
    println!("heap: {used} of {mapped} bytes in use");
    let (lazy_areas, lazy_pages, purges) = vmalloc::unpurged();
    println!(
        "vmalloc: {} areas, {purges} purges; window 'freed, not purged': {lazy_areas} areas, \
         {lazy_pages} pages",
        vmalloc::stats().areas
    );
    if kasan::is_on() {
        let shadow = kasan::populate::stats();
        println!(
            "shadow: {} pages mapped since reset, {} freed; window 'freed, not flushed': {} pages",
            shadow.populated, shadow.depopulated, shadow.before_flush
        );
    } else {
        println!("shadow: none (KASAN=off)");
    }
    Ok(())
}
