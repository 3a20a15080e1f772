//! Kernel tests of the timer, on every CPU.

use super::cpus::{Installed, PerCpu, all, comes, me, on, on_every, pass_time};
use crate::{
    arch::{cpu, interrupt::Handlers, time, timer},
    check, check_eq, kernel_test, park,
};

/// How often the timer of each CPU fired.
static FIRED: PerCpu = PerCpu::new();
/// When it last did.
static WHEN: PerCpu = PerCpu::new();

static HANDLERS: Handlers = Handlers {
    timer: || {
        WHEN.set(me(), time::now());
        FIRED.add(me(), 1);
    },
    ..park::HANDLERS
};

fn watched() -> Installed {
    let installed = Installed::new(&HANDLERS);
    FIRED.clear();
    WHEN.clear();
    installed
}

/// Some ticks.
fn milliseconds(n: u64) -> u64 {
    n * time::frequency() / 1000
}

kernel_test! { "timer", it_fires_once_and_not_before_its_deadline, {
    static DEADLINE: PerCpu = PerCpu::new();
    let _watched = watched();
    check!(time::frequency() > 0);
    on_every(|cpu| {
        // Another one for each CPU.
        let deadline = time::now() + milliseconds(5 + 3 * cpu as u64);
        DEADLINE.set(cpu, deadline);
        timer::set_deadline(deadline);
        comes(|| FIRED.get(cpu) != 0);
        // It would come again if it were not off.
        pass_time(5);
    })?;
    for cpu in all() {
        check_eq!((cpu, FIRED.get(cpu)), (cpu, 1));
        check!(WHEN.get(cpu) >= DEADLINE.get(cpu));
    }
    Ok(())
} }

kernel_test! { "timer", a_deadline_that_is_past_fires_at_once, {
    let _watched = watched();
    on_every(|cpu| {
        timer::set_deadline(time::now() - 1);
        comes(|| FIRED.get(cpu) != 0);
        timer::set_deadline(0);
        comes(|| FIRED.get(cpu) != 1);
    })?;
    check!(all().all(|cpu| FIRED.get(cpu) == 2));
    Ok(())
} }

kernel_test! { "timer", a_deadline_can_be_taken_back, {
    static SET: PerCpu = PerCpu::new();
    let _watched = watched();
    on_every(|cpu| {
        let masked = cpu::mask_interrupts();
        let deadline = time::now() + milliseconds(20);
        timer::set_deadline(deadline);
        let set = timer::deadline() == Some(deadline);
        timer::cancel();
        drop(masked);
        SET.set(cpu, u64::from(set && timer::deadline().is_none()));
        pass_time(40);
    })?;
    check!(all().all(|cpu| SET.get(cpu) == 1));
    check_eq!(FIRED.sum(), 0);
    Ok(())
} }

kernel_test! { "timer", a_later_deadline_replaces_an_earlier_one_and_the_reverse, {
    static GOOD: PerCpu = PerCpu::new();
    GOOD.clear();
    let _watched = watched();
    on_every(|cpu| {
        let start = time::now();
        // Masked: the first may pass before the second is set, and is to be forgotten all the same.
        let masked = cpu::mask_interrupts();
        timer::set_deadline(start + milliseconds(10));
        timer::set_deadline(start + milliseconds(30));
        drop(masked);
        comes(|| FIRED.get(cpu) == 1);
        let later = WHEN.get(cpu) >= start + milliseconds(30);
        let masked = cpu::mask_interrupts();
        timer::set_deadline(u64::MAX / 2);
        timer::set_deadline(time::now() + milliseconds(1));
        drop(masked);
        let sooner = comes(|| FIRED.get(cpu) == 2);
        GOOD.set(cpu, u64::from(later && sooner));
    })?;
    check_eq!(GOOD.sum(), all().len() as u64);
    Ok(())
} }

kernel_test! { "timer", one_cpu_has_a_deadline_and_no_other_hears_of_it, {
    let _watched = watched();
    for cpu in all() {
        on(cpu, |cpu| {
            timer::set_deadline(time::now() + milliseconds(1));
            comes(|| FIRED.get(cpu) != 0);
        })?;
    }
    check!(all().all(|cpu| FIRED.get(cpu) == 1));
    Ok(())
} }

kernel_test! { "timer", all_cpus_have_one_time, {
    static THERE: PerCpu = PerCpu::new();
    for cpu in all() {
        let before = time::now();
        on(cpu, |cpu| THERE.set(cpu, time::now()))?;
        let after = time::now();
        check!((before..=after).contains(&THERE.get(cpu)));
    }
    Ok(())
} }
