//! Kernel tests of several CPUs. With one they hold, too.

use super::{
    Area,
    cpus::{Installed, PerCpu, all, comes, me, on, on_every, pass_time},
};
use crate::{
    arch::{
        barrier,
        cpu::{self, MAX_CPUS},
        fixup::{probe_read_u64, race_read_u64},
        interrupt::Handlers,
        smp::{self, StartError},
        time, timer,
    },
    check, check_eq, kernel_test,
    mm::{
        set_memory,
        testing::must,
        vmalloc::{vfree, vm_unmap_aliases, vmalloc},
    },
    park, task,
    trace::Counts,
};
use core::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};
use vmsa::VirtAddr;

kernel_test! { "smp", every_cpu_of_the_device_tree_runs, {
    static AFFINITY: PerCpu = PerCpu::new();
    static GOOD: PerCpu = PerCpu::new();
    check_eq!(cpu::count(), smp::present());
    on_every(|cpu| {
        AFFINITY.set(cpu, 1 + cpu::affinity());
        let here = VirtAddr::from_ptr(&raw const cpu);
        let me = cpu::this_cpu();
        let own = cpu::per_cpu(cpu).is_some_and(|block| core::ptr::eq(block, me));
        let good = own && me.stack().contains(here) && task::current().id == cpu::current_task_id();
        GOOD.set(cpu, u64::from(good && cpu == cpu::id() as usize));
    })?;
    check_eq!(GOOD.sum(), all().len() as u64);
    for cpu in all() {
        check!(AFFINITY.get(cpu) != 0);
        check!((0..cpu).all(|other| AFFINITY.get(other) != AFFINITY.get(cpu)));
    }
    Ok(())
} }

kernel_test! { "smp", no_two_cpus_share_a_stack, {
    for cpu in all() {
        let block = cpu::per_cpu(cpu).expect("it is online");
        for other in (0..cpu).filter_map(cpu::per_cpu) {
            check!(!block.stack().overlaps(&other.stack()));
            check!(!block.emergency_stack().overlaps(&other.emergency_stack()));
        }
        check!(!block.stack().overlaps(&block.emergency_stack()));
    }
    Ok(())
} }

kernel_test! { "smp", a_cpu_that_is_not_there_or_runs_is_not_started, {
    extern "C" fn never(_: usize) -> ! {
        panic!("it was not to be started")
    }
    let stack = cpu::this_cpu().stack().start();
    let present = smp::present();
    for (cpu, error) in [
        (0, StartError::Started),
        (present - 1, StartError::Started),
        (present, StartError::NoSuchCpu(present)),
        (MAX_CPUS, StartError::NoSuchCpu(present)),
        (usize::MAX, StartError::NoSuchCpu(present)),
    ] {
        // SAFETY: nothing is started, so nothing runs on this stack.
        check_eq!(unsafe { smp::start(cpu, never, stack) }, Err(error));
    }
    check_eq!(cpu::count(), present);
    Ok(())
} }

kernel_test! { "smp", a_call_runs_on_the_cpu_that_was_asked, {
    static RAN: PerCpu = PerCpu::new();
    RAN.clear();
    for cpu in all() {
        on(cpu, |_| { RAN.add(me(), 1); })?;
        check_eq!((cpu, RAN.get(cpu), RAN.sum()), (cpu, 1, cpu as u64 + 1));
    }
    Ok(())
} }

/// What the other CPUs read.
static ADDRESS: AtomicU64 = AtomicU64::new(0);

fn address() -> VirtAddr {
    VirtAddr::literal(ADDRESS.load(Ordering::Acquire))
}

kernel_test! { "smp", what_one_cpu_unmaps_faults_on_every_other, {
    /// 0 nothing, 1 a word was read, 2 it faulted.
    static READ: PerCpu = PerCpu::new();
    let area = Area::new(1)?;
    ADDRESS.store(area.page(0).as_u64(), Ordering::Release);
    let read = |cpu: usize| READ.set(cpu, match probe_read_u64(address()) {
        Ok(0) => 1,
        Ok(_) => 0,
        Err(fault) if fault.is_translation_fault() => 2,
        Err(_) => 0,
    });
    // From each CPU in turn: a broadcast reaches the boot CPU, too.
    for unmapper in all() {
        READ.clear();
        on_every(read)?;
        check!(all().all(|cpu| READ.get(cpu) == 1));
        static DONE: AtomicBool = AtomicBool::new(false);
        DONE.store(false, Ordering::Release);
        // Stores, DSB ISHST, TLBI, DSB ISH, ISB: the whole sequence, on that CPU alone.
        on(unmapper, |_| {
            let done = set_memory::set_memory_valid(address(), 1, false).is_ok();
            DONE.store(done, Ordering::Release);
        })?;
        check!(DONE.load(Ordering::Acquire));
        on_every(read)?;
        for cpu in all() {
            check_eq!((unmapper, cpu, READ.get(cpu)), (unmapper, cpu, 2));
        }
        must!(set_memory::set_memory_valid(address(), 1, true));
    }
    Ok(())
} }

kernel_test! { "smp", areas_that_are_made_at_the_same_time_share_tables_and_shadow, {
    /// Areas a CPU: some tables' worth for two CPUs, and each page of shadow is for four.
    const AREAS: u64 = 300;
    static READY: AtomicU64 = AtomicU64::new(0);
    /// The last area of each CPU; the first word of each is the address of the one before.
    static LAST: PerCpu = PerCpu::new();
    static FREED: PerCpu = PerCpu::new();
    READY.store(0, Ordering::Release);
    LAST.clear();
    FREED.clear();
    on_every(|cpu| {
        READY.fetch_add(1, Ordering::AcqRel);
        comes(|| READY.load(Ordering::Acquire) == all().len() as u64);
        for _ in 0..AREAS {
            let Ok(area) = vmalloc(1) else { return };
            // SAFETY: it is a new area of a page, and this CPU's alone.
            unsafe { area.as_mut_ptr::<u64>().write(LAST.get(cpu)) };
            LAST.set(cpu, area.as_u64());
        }
    })?;
    // Each CPU frees what another one made.
    on_every(|cpu| {
        let mut next = LAST.get((cpu + 1) % all().len());
        while let Some(area) = VirtAddr::new(next).filter(|_| next != 0) {
            let Ok(before) = probe_read_u64(area) else { return };
            next = before;
            FREED.add(cpu, u64::from(vfree(area).is_ok()));
        }
    })?;
    for cpu in all() {
        check_eq!((cpu, FREED.get(cpu)), (cpu, AREAS));
    }
    vm_unmap_aliases();
    Ok(())
} }

kernel_test! { "smp", a_cpu_that_keeps_reading_sees_the_page_go, {
    static READS: PerCpu = PerCpu::new();
    /// The unmapping has returned.
    static GONE: AtomicBool = AtomicBool::new(false);
    /// Reads that began after that, and did not fault.
    static STALE: AtomicU64 = AtomicU64::new(0);
    for round in 0..20 {
        let area = Area::new(1)?;
        ADDRESS.store(area.page(0).as_u64(), Ordering::Release);
        GONE.store(false, Ordering::Release);
        READS.clear();
        on_every(|cpu| {
            if cpu == 0 {
                // Every CPU has it in its TLB.
                comes(|| all().skip(1).all(|cpu| READS.get(cpu) > 10));
                let unmapped = set_memory::set_memory_valid(address(), 1, false);
                GONE.store(unmapped.is_ok(), Ordering::Release);
                return;
            }
            comes(|| {
                let gone = GONE.load(Ordering::Acquire);
                let faulted = race_read_u64(address()).is_err();
                READS.add(cpu, 1);
                STALE.fetch_add(u64::from(gone && !faulted), Ordering::Relaxed);
                gone || faulted
            });
        })?;
        check!(GONE.load(Ordering::Acquire));
        check_eq!((round, STALE.load(Ordering::Relaxed)), (round, 0));
        must!(set_memory::set_memory_valid(address(), 1, true));
    }
    Ok(())
} }

/// Barriers that handlers issued.
static BY_HANDLERS: PerCpu = PerCpu::new();

/// A timer interrupt that issues barriers of its own, and comes again soon.
static COUNTING: Handlers = Handlers {
    timer: || {
        barrier::isb();
        barrier::dsb_nsh();
        BY_HANDLERS.add(me(), 1);
        timer::set_deadline(time::now() + time::frequency() / 20_000);
    },
    ..park::HANDLERS
};

kernel_test! { "smp", cpus_that_count_at_the_same_time_lose_nothing, {
    /// Long enough for CPUs that share a host's core to meet.
    const MILLISECONDS: u64 = 100;
    static READY: AtomicU64 = AtomicU64::new(0);
    static BY_TASKS: PerCpu = PerCpu::new();
    READY.store(0, Ordering::Release);
    BY_TASKS.clear();
    BY_HANDLERS.clear();
    let _handlers = Installed::new(&COUNTING);
    let before = Counts::now();
    on_every(|cpu| {
        READY.fetch_add(1, Ordering::AcqRel);
        comes(|| READY.load(Ordering::Acquire) == all().len() as u64);
        timer::set_deadline(time::now());
        let end = time::now() + MILLISECONDS * time::frequency() / 1000;
        let mut issued = 0;
        while time::now() < end {
            for _ in 0..1000 {
                barrier::isb();
                barrier::dsb_nsh();
            }
            issued += 1000;
        }
        timer::cancel();
        BY_TASKS.set(cpu, issued);
    })?;
    let counted = before.since();
    let issued = (BY_TASKS.sum() + BY_HANDLERS.sum()) as usize;
    check!(all().all(|cpu| BY_TASKS.get(cpu) > 0 && BY_HANDLERS.get(cpu) > 0));
    // Each call of another CPU begins with an ISB, and who has waited for it issues one.
    let calls = all().len() - 1;
    check_eq!((counted.isb, counted.dsb), (issued + 2 * calls, issued));
    Ok(())
} }

kernel_test! { "smp", the_end_of_one_is_the_end_of_all, panics "nothing moves any more", {
    static TICKS: PerCpu = PerCpu::new();
    // One CPU other than the boot CPU ends the machine, if there is one; the others count.
    let last = all().len() - 1;
    let mut calls = [const { None }; MAX_CPUS];
    let others = || all().filter(|cpu| *cpu != last);
    for cpu in others().filter(|cpu| *cpu != 0) {
        calls[cpu] = Some(must!(park::call(cpu, |cpu| loop {
            TICKS.add(cpu, 1);
        })));
    }
    fn end(_: usize) {
        comes(|| all().all(|cpu| cpu == me() || TICKS.get(cpu) != 0));
        let running = smp::stop_others();
        let ticks = TICKS.sum();
        pass_time(50);
        assert_eq!((running, TICKS.sum()), (0, ticks), "something still moves");
        panic!("nothing moves any more");
    }
    if last == 0 {
        end(0);
    }
    let _call = must!(park::call(last, end));
    loop {
        TICKS.add(0, 1);
    }
} }

/// A message that takes its time the first time that it is printed: whoever else has something to
/// report then has come to it.
struct Slow;

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        static AGAIN: AtomicBool = AtomicBool::new(false);
        if !AGAIN.swap(true, Ordering::Relaxed) {
            pass_time(300);
        }
        f.write_str("all CPUs panic")
    }
}

// The text is in the last line of a report: another CPU has not ended the machine before.
kernel_test! { "smp", cpus_that_panic_together_make_one_report, panics "Lazy MMU mode of task", {
    on_every(|_| {
        static READY: AtomicU64 = AtomicU64::new(0);
        // The first one's stop IPI would be faster than the others' panics.
        let _masked = cpu::mask_interrupts();
        READY.fetch_add(1, Ordering::AcqRel);
        comes(|| READY.load(Ordering::Acquire) == all().len() as u64);
        panic!("{Slow}");
    })
} }
