//! The scheduler's lock, the switch from one task to another, and what interrupts have to do with
//! it.

use super::{
    BOOT_TASK, Task, atomic, current, enter_interrupt,
    scheduler::{Cpus, Decision, Scheduler},
};
use crate::{
    arch::{
        barrier,
        cpu::{self, InterruptsMasked, MAX_CPUS},
        image,
        interrupt::Handlers,
        lock::{Mutex, MutexGuard},
        smp, switch, time, timer,
    },
    event,
};
use core::{fmt, mem, ptr, sync::atomic::Ordering::Relaxed};
use spin::Once;
use vmsa::VirtAddr;

/// Time slices a second.
const SLICES: u64 = 100;

/// The first number of a task that is spawned; the boot task and the idle ones have those below.
const FIRST_ID: u32 = MAX_CPUS as u32 + 1;

/// One lock for all of it: run queue, sleepers, wait queues, the state of each task. Taken with
/// interrupts masked. It is held from the decision to switch until the switch is over, by the task
/// that is switched from up to there and then by the one that is switched to.
static SCHEDULER: Mutex<Scheduler> = Mutex::new(Scheduler::new(1, FIRST_ID));

/// What interrupts have to do with tasks.
pub static HANDLERS: Handlers = Handlers {
    context: |handle| {
        let _context = enter_interrupt();
        handle();
    },
    timer: on_timer,
    reschedule: on_reschedule,
    call: || {},
    exit: on_interrupt_exit,
};

/// Begins with the one task that boot has started. Bring-up calls it, once.
pub fn init() {
    let mut locked = lock();
    locked.data().set_slice(time::frequency() / SLICES);
    locked.data().enlist(&BOOT_TASK);
}

/// Called before each switch, with the task that is left and the one that follows: for what belongs
/// to a task and is in this CPU. Interrupts are masked and the scheduler is locked.
pub type Hook = fn(&'static Task, &'static Task);

/// How many hooks there can be.
const HOOKS: usize = 4;

static SWITCH_HOOKS: [Once<Hook>; HOOKS] = [const { Once::new() }; HOOKS];

/// Installs something that is called before each switch, behind what is installed already. Bring-up
/// calls it, on one CPU.
///
/// # Panics
///
/// If there are more than there is room for.
pub fn set_switch_hook(hook: Hook) {
    let free = SWITCH_HOOKS.iter().find(|slot| !slot.is_completed());
    free.expect("room for every hook of bring-up")
        .call_once(|| hook);
}

/// The scheduler, locked.
pub(super) struct Locked {
    // In this order: the lock is free before an interrupt comes that wants it.
    scheduler: MutexGuard<'static, Scheduler>,
    _masked: InterruptsMasked,
}

/// Locks the scheduler.
pub(super) fn lock() -> Locked {
    let masked = cpu::mask_interrupts();
    Locked {
        scheduler: SCHEDULER.lock(),
        _masked: masked,
    }
}

/// This CPU, by its number. Interrupts have to be masked, or it is another one's by now.
fn here() -> usize {
    cpu::id() as usize
}

impl Locked {
    /// The data.
    pub(super) fn data(&mut self) -> &mut Scheduler {
        &mut self.scheduler
    }

    /// Has a task that was started not count among those that share CPUs
    /// ([`Scheduler::put_in_background`]).
    pub(super) fn put_in_background(&mut self, task: &'static Task) {
        self.scheduler.put_in_background(task);
        // The running task may be alone again.
        let running = current();
        self.scheduler.begin_slice(running, time::now());
        self.set_timer(running);
    }

    /// Lets a new task run.
    pub(super) fn start(&mut self, task: &'static Task) {
        let tell = self.scheduler.start(task, here());
        tell_cpus(tell);
        // The running task may have been alone, and its time without limit.
        let running = current();
        self.scheduler.begin_slice(running, time::now());
        self.set_timer(running);
    }

    /// Makes a task that is in no queue want to run.
    pub(super) fn wake(&mut self, task: &'static Task) {
        let tell = self.scheduler.wake(task, here());
        tell_cpus(tell);
    }

    /// Ends the running task.
    pub(super) fn end(&mut self, value: usize) {
        let tell = self.scheduler.end(current(), value, here());
        tell_cpus(tell);
    }

    /// Sets this CPU's timer for when it has to look again.
    fn set_timer(&self, running: &'static Task) {
        match self.scheduler.deadline(running) {
            Some(time) => timer::set_deadline(time),
            None => timer::cancel(),
        }
    }

    /// Gives this CPU to whoever is to have it. Returns when the running task has it again, or
    /// another one.
    pub(super) fn switch(mut self) {
        let running = current();
        running.need_resched.store(false, Relaxed);
        let Decision { next, tell } = self.scheduler.next(running, here(), time::now());
        tell_cpus(tell);
        self.set_timer(next);
        if ptr::eq(next, running) {
            return;
        }
        let Self { scheduler, _masked } = self;
        // Locked on, for the next task to unlock.
        mem::forget(scheduler);
        // SAFETY: interrupts are masked, the scheduler is locked, and it gave `next` to this CPU.
        unsafe { switch_to(running, next) };
        // On the CPU that took this task up again, whichever it is: nothing from before may be
        // known of the CPU.
        // SAFETY: whoever switched back to here left the lock to this task.
        unsafe { unlock_after_switch() };
    }
}

/// Unlocks what the task that was switched from had locked.
///
/// # Safety
///
/// A switch has just come here, and nothing has been unlocked since.
pub(super) unsafe fn unlock_after_switch() {
    // SAFETY: the guard of the task that was left is forgotten; this is in its place.
    unsafe { SCHEDULER.force_unlock() };
}

/// Switches from `running` to `next`.
///
/// What the hand-off has to guarantee, and by what: all that a task did on one CPU must be there
/// when it goes on on another. Its memory is, because the lock is released after the switch from it
/// and acquired before the switch to it. The acquire is an exclusive load with a branch behind it,
/// or one read-modify-write: either orders the barriers that the task owes and issues on its new
/// CPU behind the stores that it made on its old one, table walks included. A bare load-acquire
/// would not (`DSB ISHST` does not order earlier loads, so the store could still be missed by a walk
/// of the new CPU). So a lazy section just goes on: neither its state nor what it owes is tested,
/// let alone cleared, here.
///
/// # Safety
///
/// Interrupts are masked, and nobody else can switch to `next`, or to `running` before this is done.
unsafe fn switch_to(running: &'static Task, next: &'static Task) {
    for hook in SWITCH_HOOKS.iter().map_while(Once::get) {
        hook(running, next);
    }
    // For a TLBI that the task has issued and not waited for, having been preempted before its
    // DSB ISH: only the CPU that issued a TLBI can wait for it, so a DSB ISH that the task issues
    // on its next CPU would tell it nothing.
    barrier::dsb_ish();
    // The stack of `next` may have been mapped by another CPU a moment ago. The lock has ordered
    // its entries before this; the ISB does away with what this CPU may have found there before
    // (without FEAT_ETS2 an invalid entry may be remembered up to a context synchronisation).
    // Another address could fault for it and be tried again. A stack cannot: the fault would have
    // to be taken on it.
    barrier::isb();
    event!(ContextSwitch { to: next.id });
    cpu::set_current_task(ptr::from_ref(next).cast(), next.id);
    let bottom = next.stack_bottom.get().unwrap_or_else(boot_stack);
    // SAFETY: the caller's promise; `next` does not run, so its registers are in its context.
    unsafe { switch::switch(running.context.get(), next.context.get(), bottom) };
}

/// The stack of the task that has none of its own.
fn boot_stack() -> VirtAddr {
    image::boot_stack().start()
}

/// Tells CPUs that there is something to run.
fn tell_cpus(cpus: Cpus) {
    for cpu in cpus.iter() {
        if cpu == here() {
            current().need_resched.store(true, Relaxed);
        } else {
            smp::send_reschedule(cpu);
        }
    }
}

/// Lets all others that want to run do so first.
#[track_caller]
pub fn yield_now() {
    if atomic::may_sleep("yield") {
        lock().switch();
    }
}

/// Gives the CPU away because somebody else is due: the running task may be preempted here.
pub(super) fn preempt() {
    lock().switch();
}

/// The timer of this CPU: wakes whose time has come, and ends time slices. In interrupt context.
fn on_timer() {
    let running = current();
    let mut locked = lock();
    let now = time::now();
    let tell = locked.scheduler.wake_sleepers(now, here());
    let due = locked.scheduler.is_due(running, now);
    tell_cpus(tell);
    if due {
        running.need_resched.store(true, Relaxed);
    }
    locked.set_timer(running);
}

/// Another CPU says that there is something to run. In interrupt context.
fn on_reschedule() {
    current().need_resched.store(true, Relaxed);
}

/// The last handler has returned, and interrupts are still masked: where the task that was
/// interrupted may be preempted and somebody else is due, they run first.
fn on_interrupt_exit() {
    let task = current();
    let may = task.preempt_count.load(Relaxed) == 0 && !task.in_interrupt();
    if may && task.need_resched.load(Relaxed) {
        preempt();
    }
}

/// Time slices do not end while this lives: what happens in which order is up to the tasks alone.
#[derive(Debug)]
#[must_use = "slices end again when it is dropped"]
pub struct NoSlices {
    before: u64,
}

/// Lets every task run for as long as it likes. For tests.
pub fn no_slices() -> NoSlices {
    NoSlices {
        before: set_slice(u64::MAX),
    }
}

impl Drop for NoSlices {
    fn drop(&mut self) {
        set_slice(self.before);
    }
}

/// Sets the length of time slices, from the one of the running task on.
fn set_slice(slice: u64) -> u64 {
    let mut locked = lock();
    let before = locked.data().set_slice(slice);
    let running = current();
    locked.data().renew_slice(running, time::now());
    running.need_resched.store(false, Relaxed);
    locked.set_timer(running);
    before
}

/// The CPU takes no tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offline(pub usize);

impl fmt::Display for Offline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CPU {} is not online", self.0)
    }
}

/// Moves the running task to a CPU, where it stays until [`unpin`].
///
/// # Errors
/// [`Offline`]; it stays where it is.
#[track_caller]
pub fn migrate_to(cpu: usize) -> Result<(), Offline> {
    // What follows would wait for interrupts if they were masked.
    let may = atomic::may_sleep("migration");
    let mut locked = lock();
    if !locked.data().is_online(cpu) {
        return Err(Offline(cpu));
    }
    current().pinned.set(Some(cpu as u32));
    if may && here() != cpu {
        locked.switch();
    }
    Ok(())
}

/// Lets the running task run anywhere again.
pub fn unpin() {
    let _locked = lock();
    current().pinned.set(None);
}

/// Whether a CPU takes tasks.
#[must_use]
pub fn is_online(cpu: usize) -> bool {
    lock().data().is_online(cpu)
}
