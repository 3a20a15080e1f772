//! A run of several tasks: each does what a run of one does, with numbers of its own and on
//! whichever CPU it happens to be; they hand things over to each other, and handlers come in
//! between.
//!
//! The task that runs the command does none of it. It sends the others off, rouses CPUs at moments
//! of its own, and waits for all to come back, with every section closed. Then, and at no other
//! time, it looks at the books, and may choose another model and backend.

use super::{
    books::{Books, make_ready},
    claims,
    dice::{Dice, mix},
    exchange, interrupts,
    interrupts::Handling,
    judge,
    messages::{self, Listening, verdict},
    room::{AREAS, MAPPINGS},
    run::{Done, Run, Stopped},
    wrong::{Wrong, ensure, wrong},
};
use crate::{
    arch::{cpu, smp, time},
    mm::{
        lazy::{self, Backend, Busy, Model},
        stack::spawn,
    },
    task::{
        Handle, WaitQueue,
        lock::SpinLock,
        migrate_to,
        points::{self, Action, Plan},
        preempt, sleep_until, unpin, yield_now,
    },
};
use alloc::vec::Vec;
use core::{
    fmt,
    sync::atomic::{
        AtomicBool, AtomicU64, AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    },
};
use spin::Mutex;

/// What the tasks are to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// So many operations, all of them together.
    Work(u64),
    /// Give everything back but what was there before the books were opened.
    GiveBack,
    /// Give back the rest, and end.
    End,
}

/// The order of now.
struct State {
    /// Rises with each.
    number: u64,
    order: Order,
    /// Tasks that have done it.
    arrived: usize,
}

static STATE: SpinLock<State> = SpinLock::new(State {
    number: 0,
    order: Order::End,
    arrived: 0,
});
/// The tasks wait for orders, and the one that gives them for the tasks.
static TASKS: WaitQueue = WaitQueue::new();
static CONDUCTOR: WaitQueue = WaitQueue::new();
/// Something is wrong: nobody waits for anybody.
static STOP: AtomicBool = AtomicBool::new(false);
/// What was found first.
static FOUND: Mutex<Option<Stopped>> = Mutex::new(None);
static SEED: AtomicU64 = AtomicU64::new(0);
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Over the operations of all tasks, in whichever order.
static DIGEST: AtomicU64 = AtomicU64::new(0);
/// What the tasks hold, added up as they come back.
static PAGES: AtomicU64 = AtomicU64::new(0);
static IN_USE: AtomicUsize = AtomicUsize::new(0);

/// How often things happened that one task alone can't do.
static OPERATIONS: AtomicU64 = AtomicU64::new(0);
static MIGRATIONS: AtomicU64 = AtomicU64::new(0);
static IN_SECTION: AtomicU64 = AtomicU64::new(0);
static SLEEPS: AtomicU64 = AtomicU64::new(0);
static HANDED_OVER: AtomicU64 = AtomicU64::new(0);

/// The same, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Happened {
    /// Tasks that asked for another CPU, or were sent to one by a plan.
    pub(super) migrations: u64,
    /// Of the switches that were planned for a store, those that came inside a section.
    pub(super) in_section: u64,
    pub(super) sleeps: u64,
    /// Areas and pages that were taken over from another task.
    pub(super) handed_over: u64,
    /// Interrupts whose handler did something, and those of them inside a section.
    pub(super) handled: (u64, u64),
    /// Areas that handlers freed.
    pub(super) freed: u64,
}

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} migrations, {} switches at a store inside a section, {} sleeps, {} handed over, \
             {} interrupts that changed something ({} inside a section), {} areas freed by handlers",
            self.migrations,
            self.in_section,
            self.sleeps,
            self.handed_over,
            self.handled.0,
            self.handled.1,
            self.freed
        )
    }
}

fn happened() -> Happened {
    let (handled, in_section, freed) = interrupts::handled();
    Happened {
        migrations: MIGRATIONS.load(Relaxed),
        in_section: IN_SECTION.load(Relaxed),
        sleeps: SLEEPS.load(Relaxed),
        handed_over: HANDED_OVER.load(Relaxed),
        handled: (handled, in_section),
        freed,
    }
}

/// Microseconds, in ticks.
fn microseconds(n: u64) -> u64 {
    time::frequency() * n / 1_000_000
}

/// A CPU that is online.
fn some_cpu(dice: &mut Dice) -> usize {
    dice.below(cpu::count() as u64) as usize
}

/// Something is wrong: the first to say so is remembered, and everybody stops.
fn stop(step: u64, why: Wrong) {
    {
        let _preempt = preempt::disable();
        FOUND.lock().get_or_insert(Stopped { step, why });
    }
    STOP.store(true, Release);
    TASKS.wake_all();
    CONDUCTOR.wake_all();
}

fn stopped() -> bool {
    STOP.load(Acquire)
}

/// A task comes back from what it was told to do.
fn arrive() {
    STATE.lock().arrived += 1;
    CONDUCTOR.wake_all();
}

/// What to do after order `number`; `None` if everybody stops.
fn next_order(number: u64) -> Option<Order> {
    TASKS.wait_until(|| stopped() || STATE.lock().number != number);
    let order = STATE.lock().order;
    (!stopped()).then_some(order)
}

/// Gives an order to all.
fn give(order: Order) {
    PAGES.store(0, Relaxed);
    IN_USE.store(0, Relaxed);
    {
        let mut state = STATE.lock();
        state.number += 1;
        state.arrived = 0;
        state.order = order;
    }
    TASKS.wake_all();
}

/// What a task runs: the `n`-th.
fn task(n: usize) -> usize {
    messages::join_in(n + 1);
    let dice = Dice::new(mix(SEED.load(Relaxed)) ^ mix(n as u64 + 1));
    let mut run = match Run::new(dice, n, COUNT.load(Relaxed)) {
        Ok(run) => run,
        Err(why) => {
            stop(0, why);
            return 0;
        }
    };
    let (mut number, mut own_steps) = (STATE.lock().number, 0);
    arrive();
    loop {
        let order = next_order(number);
        number += 1;
        match order {
            Some(Order::Work(steps)) => {
                let count = COUNT.load(Relaxed) as u64;
                let share = steps / count + u64::from((n as u64) < steps % count);
                let result = work(&mut run, share, &mut own_steps);
                if let Err(why) = result {
                    let step = OPERATIONS.load(Relaxed);
                    stop(step, wrong!("task {n}, its step {own_steps}: {why}"));
                }
            }
            Some(Order::GiveBack) => {
                if let Err(why) = run.give_back().and_then(|()| run.look_around()) {
                    let step = OPERATIONS.load(Relaxed) + 1;
                    stop(
                        step,
                        wrong!("task {n}, as it gives back what it has: {why}"),
                    );
                }
                DIGEST.fetch_xor(run.dice.digest(), Relaxed);
            }
            Some(Order::End) => {
                if let Err(why) = run.leaves.give_back() {
                    let step = OPERATIONS.load(Relaxed) + 1;
                    stop(step, wrong!("task {n}, as it gives its leaves back: {why}"));
                }
                return 0;
            }
            None => {
                // What is found now is of no interest: the first is.
                let _ = run.give_back();
                lazy::reset();
                let _ = run.leaves.give_back();
                return 0;
            }
        }
        let (pages, areas) = run.held();
        PAGES.fetch_add(pages, Relaxed);
        IN_USE.fetch_add(areas, Relaxed);
        arrive();
    }
}

/// Does so many operations, and closes every section.
fn work(run: &mut Run, steps: u64, own_steps: &mut u64) -> Result<(), Wrong> {
    let mut plan = None;
    for _ in 0..steps {
        if stopped() {
            break;
        }
        *own_steps += 1;
        OPERATIONS.fetch_add(1, Relaxed);
        step(run, &mut plan)?;
        run.look_around()?;
    }
    drop(plan);
    unpin();
    run.sections.close_all();
    run.leaves.settle();
    run.sections.check()
}

/// One operation: one that a task alone can do, or one that has to do with others.
fn step(run: &mut Run, plan: &mut Option<Planned>) -> Result<(), Wrong> {
    let dice = &mut run.dice;
    // A task gives its CPU away anywhere but where the model or the backend forbids it.
    let draw = dice.below(64);
    match draw {
        0 if preempt::is_enabled() => {
            let cpu = some_cpu(dice);
            let moved = migrate_to(cpu);
            ensure!(moved.is_ok(), "CPU {cpu} is not online");
            MIGRATIONS.fetch_add(1, Relaxed);
            if !dice.one_in(4) {
                unpin();
            }
        }
        1 if preempt::is_enabled() => yield_now(),
        2 if run.sections.is_empty() && preempt::is_enabled() => {
            SLEEPS.fetch_add(1, Relaxed);
            sleep_until(time::now() + microseconds(dice.below(200)));
        }
        3 => {
            drop(plan.take());
            *plan = Planned::new(dice);
        }
        4 => smp::send_call(some_cpu(dice)),
        5 => smp::send_reschedule(some_cpu(dice)),
        6 | 7 => {
            let cpu = some_cpu(&mut run.dice);
            if let Some(area) = run.areas.give_away(&mut run.dice) {
                area.leave_to_handlers(cpu)?;
            }
        }
        8..18 => {
            let Run {
                areas, pages, dice, ..
            } = run;
            if exchange::step(areas, pages, dice)? {
                HANDED_OVER.fetch_add(1, Relaxed);
            }
        }
        _ => return run.step(),
    }
    Ok(())
}

/// A switch at one of the next stores.
struct Planned {
    plan: Plan,
    away: bool,
}

impl Planned {
    /// `None` while another task has one.
    fn new(dice: &mut Dice) -> Option<Self> {
        let (n, away) = (dice.below(24) as usize, dice.one_in(2));
        let action = if away {
            Action::Migrate(some_cpu(dice))
        } else {
            Action::Preempt
        };
        points::plan(n, action).map(|plan| Self { plan, away })
    }
}

impl Drop for Planned {
    fn drop(&mut self) {
        if self.plan.is_done() {
            // Every leaf that is stored is stored in a section, or by hand outside of one.
            IN_SECTION.fetch_add(1, Relaxed);
            if self.away {
                MIGRATIONS.fetch_add(1, Relaxed);
                unpin();
            }
        }
    }
}

/// Runs `steps` operations of `tasks` tasks; `between` is called with the number of those done
/// whenever nobody does anything.
///
/// # Errors
/// What was found wrong first, and after how many operations. What can still be given back is.
pub(super) fn run_many(
    seed: u64,
    steps: u64,
    tasks: usize,
    mut between: impl FnMut(u64),
) -> Result<(Done, Happened), Stopped> {
    let listening = Listening::start();
    let chosen = (lazy::model(), lazy::backend());
    let begin = |step| move |why| Stopped { step, why };
    claims::clear();
    for count in [
        &OPERATIONS,
        &MIGRATIONS,
        &IN_SECTION,
        &SLEEPS,
        &HANDED_OVER,
        &DIGEST,
    ] {
        count.store(0, Relaxed);
    }
    STOP.store(false, Relaxed);
    *FOUND.lock() = None;
    SEED.store(seed, Relaxed);
    COUNT.store(tasks, Relaxed);
    let violations = judge::violations();
    make_ready(tasks * (AREAS + MAPPINGS)).map_err(begin(0))?;
    let handling = Handling::start(seed).map_err(begin(0))?;
    give(Order::Work(0));
    let mut handles = Vec::with_capacity(tasks);
    for n in 0..tasks {
        match spawn("stress", task, n) {
            Ok(handle) => handles.push(handle),
            Err(error) => stop(0, wrong!("task {n}: {error}")),
        }
    }
    let mut dice = Dice::new(seed);
    let result = conduct(&mut dice, steps, tasks, violations, &mut between);
    if let Err(why) = result {
        stop(OPERATIONS.load(Relaxed), why);
    }
    for handle in handles {
        Handle::join(handle);
    }
    drop(handling);
    // Empty, unless everybody has stopped.
    let _ = exchange::free_all();
    let found = FOUND.lock().take();
    lazy::reset();
    let rechosen =
        lazy::choose(chosen.0, chosen.1).map_err(|Busy| wrong!("the model can't be what it was"));
    if let Some(found) = found {
        return Err(found);
    }
    rechosen
        .and_then(|()| verdict())
        .map_err(begin(steps + 1))?;
    drop(listening);
    let done = Done {
        digest: DIGEST.load(Relaxed),
        warnings: messages::by_design(),
    };
    Ok((done, happened()))
}

/// Waits for the tasks, and rouses CPUs meanwhile. `false` if everybody stops.
fn wait_for_all(dice: &mut Dice, tasks: usize) -> bool {
    loop {
        if stopped() {
            return false;
        }
        if STATE.lock().arrived == tasks {
            return true;
        }
        match dice.below(4) {
            0 => smp::send_call(some_cpu(dice)),
            1 => smp::send_reschedule(some_cpu(dice)),
            _ => {}
        }
        // The end of the sleep is an interrupt as well.
        sleep_until(time::now() + microseconds(dice.between(50, 1000)));
    }
}

/// Gives the orders. Where everybody has stopped it just returns.
fn conduct(
    dice: &mut Dice,
    steps: u64,
    tasks: usize,
    violations: u64,
    between: &mut impl FnMut(u64),
) -> Result<(), Wrong> {
    if !wait_for_all(dice, tasks) {
        return Ok(());
    }
    // All that they need to begin with is there.
    let books = Books::open();
    let mut left = steps;
    while left > 0 {
        let share = left.min(tasks as u64 * dice.between(10, 150));
        left -= share;
        interrupts::go_on();
        give(Order::Work(share));
        let all = wait_for_all(dice, tasks);
        let in_handlers = interrupts::pause()?;
        if !all {
            return Ok(());
        }
        between(steps - left);
        Books::purge_in_time();
        audit(&books, violations, in_handlers)?;
        if dice.one_in(4) {
            let (model, backend) = (dice.pick(&Model::ALL), dice.pick(&Backend::ALL));
            lazy::choose(model, backend)
                .map_err(|Busy| wrong!("nothing is open, and the model can't be changed"))?;
        }
    }
    give(Order::GiveBack);
    if !wait_for_all(dice, tasks) {
        return Ok(());
    }
    exchange::free_all()?;
    interrupts::free_pages()?;
    audit(&books, violations, 0)?;
    books.close()?;
    give(Order::End);
    Ok(())
}

/// What must hold whenever nobody does anything, and handlers hold so many pages.
fn audit(books: &Books, violations: u64, in_handlers: u64) -> Result<(), Wrong> {
    verdict()?;
    let violations = judge::violations() - violations;
    ensure!(
        violations == 0,
        "{violations} violations of the architecture's rules"
    );
    let (pages, areas) = exchange::held();
    books.check(
        pages + in_handlers + PAGES.load(Relaxed),
        areas + IN_USE.load(Relaxed),
    )
}
