//! Kernel tests of interrupts: they arrive, where and how they should, and are held back while they
//! are masked.

use super::cpus::{Installed, PerCpu, all, comes, me, on, on_every, pass_time};
use crate::{
    arch::{
        cpu, gic,
        interrupt::{self, Handlers},
        smp, time, timer,
    },
    check, check_eq, kernel_test,
    mm::testing::logged,
    park,
    task::{self, lock::IrqLock},
    warning,
};
use core::hint::black_box;

/// Interrupts of each kind, by the CPU that took them.
static RESCHEDULES: PerCpu = PerCpu::new();
static CALLS: PerCpu = PerCpu::new();
static TIMERS: PerCpu = PerCpu::new();
/// Exits from interrupts.
static EXITS: PerCpu = PerCpu::new();
/// Handlers that ran where they should not: not in interrupt context, or with IRQ unmasked. For
/// `exit`: in interrupt context.
static MISPLACED: PerCpu = PerCpu::new();

/// Counts an interrupt.
fn count(kind: &PerCpu, in_context: bool) {
    let well = task::current().in_interrupt() == in_context && cpu::interrupts_masked();
    MISPLACED.add(me(), u64::from(!well));
    kind.add(me(), 1);
}

static COUNTING: Handlers = Handlers {
    context: park::in_interrupt_context,
    timer: || count(&TIMERS, true),
    reschedule: || count(&RESCHEDULES, true),
    call: || count(&CALLS, true),
    exit: || count(&EXITS, false),
};

/// The counting handlers, with all counts at 0.
fn counting() -> Installed {
    let installed = Installed::new(&COUNTING);
    for kind in [&RESCHEDULES, &CALLS, &TIMERS, &EXITS, &MISPLACED] {
        kind.clear();
    }
    installed
}

kernel_test! { "interrupt", every_cpu_takes_interrupts_in_normal_operation, {
    static MASKED: PerCpu = PerCpu::new();
    on_every(|cpu| MASKED.set(cpu, 1 + u64::from(cpu::interrupts_masked())))?;
    check!(all().all(|cpu| MASKED.get(cpu) == 1));
    Ok(())
} }

kernel_test! { "interrupt", one_that_a_cpu_sends_to_itself_arrives, {
    let _counting = counting();
    on_every(|cpu| {
        smp::send_reschedule(cpu);
        comes(|| RESCHEDULES.get(cpu) == 1);
    })?;
    check!(all().all(|cpu| RESCHEDULES.get(cpu) == 1));
    check_eq!(MISPLACED.sum(), 0);
    Ok(())
} }

kernel_test! { "interrupt", masked_ones_are_held_back, {
    static EARLY: PerCpu = PerCpu::new();
    static ARRIVED: PerCpu = PerCpu::new();
    EARLY.clear();
    ARRIVED.clear();
    let _counting = counting();
    on_every(|cpu| {
        let masked = cpu::mask_interrupts();
        let before = EXITS.get(cpu);
        smp::send_reschedule(cpu);
        timer::set_deadline(time::now());
        pass_time(20);
        EARLY.set(cpu, RESCHEDULES.get(cpu) + TIMERS.get(cpu));
        // An inner section gives back what it found, and not what was before the outer one.
        drop(cpu::mask_interrupts());
        EARLY.add(cpu, RESCHEDULES.get(cpu) + TIMERS.get(cpu));
        drop(masked);
        comes(|| EXITS.get(cpu) > before && TIMERS.get(cpu) == 1);
        ARRIVED.set(cpu, RESCHEDULES.get(cpu) + TIMERS.get(cpu));
    })?;
    for cpu in all() {
        check_eq!((EARLY.get(cpu), ARRIVED.get(cpu)), (0, 2));
    }
    check_eq!(MISPLACED.sum(), 0);
    Ok(())
} }

kernel_test! { "interrupt", those_that_are_pending_are_taken_together, {
    let _counting = counting();
    let masked = cpu::mask_interrupts();
    smp::send_reschedule(me());
    smp::send_call(me());
    timer::set_deadline(time::now());
    pass_time(1);
    drop(masked);
    check!(comes(|| EXITS.get(me()) != 0));
    check_eq!((RESCHEDULES.sum(), CALLS.sum(), TIMERS.sum(), EXITS.sum()), (1, 1, 1, 1));
    check_eq!(MISPLACED.sum(), 0);
    Ok(())
} }

kernel_test! { "interrupt", one_that_is_masked_ends_a_wait, {
    static BACK: PerCpu = PerCpu::new();
    BACK.clear();
    let _counting = counting();
    on_every(|cpu| {
        let _masked = cpu::mask_interrupts();
        let deadline = time::now() + time::frequency() / 200;
        timer::set_deadline(deadline);
        while time::now() < deadline {
            cpu::wait_for_interrupt();
        }
        BACK.set(cpu, 1 + TIMERS.get(cpu));
        timer::cancel();
    })?;
    check!(all().all(|cpu| BACK.get(cpu) == 1));
    Ok(())
} }

kernel_test! { "interrupt", one_without_a_handler_is_counted_and_warned_of, {
    /// No CPU takes it in normal operation.
    const SGI: u32 = 7;
    static SENT: PerCpu = PerCpu::new();
    SENT.clear();
    for cpu in all() {
        warning::print_again();
        let before = interrupt::stray().unknown;
        let (log, result) = logged(|| {
            on(cpu, |cpu| {
                let before = interrupt::stray().unknown;
                let on = gic::enable(SGI, true).is_ok();
                gic::send(cpu, SGI);
                let came = comes(|| interrupt::stray().unknown != before);
                let off = gic::enable(SGI, false).is_ok();
                SENT.set(cpu, u64::from(on && came && off));
            })
        });
        result?;
        check_eq!((cpu, SENT.get(cpu)), (cpu, 1));
        check_eq!(interrupt::stray().unknown, before + 1);
        check_eq!(log.matches("interrupt 7 has no handler").count(), 1);
    }
    Ok(())
} }

/// Has the timer interrupt this CPU again and again, every 100 µs or so.
fn again() {
    count(&TIMERS, true);
    timer::set_deadline(time::now() + time::frequency() / 10_000);
}

static AGAIN: Handlers = Handlers {
    timer: again,
    ..COUNTING
};

/// Something that keeps many registers busy: a hash of a text of zeros.
fn busy(rounds: u64) -> [u64; 8] {
    let mut words = [1u64, 2, 3, 4, 5, 6, 7, 8];
    for round in 0..rounds {
        let mut carry = black_box(round);
        for word in &mut words {
            *word = word.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ carry;
            carry = carry.wrapping_add(*word);
        }
    }
    words
}

kernel_test! { "interrupt", what_is_interrupted_does_not_notice, {
    const ROUNDS: u64 = 200_000;
    static SAME: PerCpu = PerCpu::new();
    SAME.clear();
    let _counting = counting();
    let _again = Installed::new(&AGAIN);
    on_every(|cpu| {
        let undisturbed = {
            let _masked = cpu::mask_interrupts();
            busy(ROUNDS)
        };
        timer::set_deadline(time::now());
        let mut same = true;
        while TIMERS.get(cpu) < 20 {
            same &= busy(ROUNDS) == undisturbed;
        }
        timer::cancel();
        SAME.set(cpu, u64::from(same));
    })?;
    check_eq!(SAME.sum(), all().len() as u64);
    check_eq!(MISPLACED.sum(), 0);
    Ok(())
} }

kernel_test! { "interrupt", none_is_lost_between_two_cpus, {
    const TIMES: u64 = 50;
    let _counting = counting();
    // A sender waits for each to arrive: two of one kind that are pending at a time are one.
    for from in all() {
        RESCHEDULES.clear();
        on(from, |_| {
            for to in all() {
                for sent in 1..=TIMES {
                    smp::send_reschedule(to);
                    if !comes(|| RESCHEDULES.get(to) == sent) {
                        return;
                    }
                }
            }
        })?;
        for to in all() {
            check_eq!((from, to, RESCHEDULES.get(to)), (from, to, TIMES));
        }
    }
    check_eq!(MISPLACED.sum(), 0);
    Ok(())
} }

/// What tasks and handlers add to.
static SHARED: IrqLock<u64> = IrqLock::new(0);

/// As [`again`], and adds to what the task under it adds to.
fn again_and_adds() {
    *SHARED.lock() += 1;
    again();
}

static ADDING: Handlers = Handlers {
    timer: again_and_adds,
    ..COUNTING
};

kernel_test! { "interrupt", a_lock_for_handlers_is_never_held_by_who_is_under_them, {
    static ADDED: PerCpu = PerCpu::new();
    ADDED.clear();
    *SHARED.lock() = 0;
    let _counting = counting();
    let _adding = Installed::new(&ADDING);
    on_every(|cpu| {
        timer::set_deadline(time::now());
        let mut added = 0;
        while TIMERS.get(cpu) < 50 {
            let mut shared = SHARED.lock();
            let before = *shared;
            // Long enough for a handler to come in between, if one could.
            (0..20).for_each(|n| _ = black_box(n));
            *shared = before + 1;
            added += 1;
        }
        timer::cancel();
        ADDED.set(cpu, added + TIMERS.get(cpu));
    })?;
    check_eq!(*SHARED.lock(), ADDED.sum());
    check_eq!(MISPLACED.sum(), 0);
    Ok(())
} }
