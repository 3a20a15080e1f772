//! What a CPU runs when there is nothing to run.

use super::{Task, schedule};
use crate::arch::{
    cpu::{self, MAX_CPUS, STACK_SIZE},
    switch::Context,
};
use spin::Once;
use vmsa::VirtAddr;

/// One for each CPU. They are not in the memory of their stacks: a CPU that is started begins at
/// the top of its own.
/// A CPU that is not there has none: so they are no part of the image, but of what it zeroes.
static TASKS: [Once<Task>; MAX_CPUS] = [const { Once::new() }; MAX_CPUS];

const NAMES: [&str; MAX_CPUS] = [
    "idle/0", "idle/1", "idle/2", "idle/3", "idle/4", "idle/5", "idle/6", "idle/7",
];

/// Whether it is a task that idles.
pub(super) fn is(task: &Task) -> bool {
    TASKS
        .iter()
        .any(|idle| idle.get().is_some_and(|idle| core::ptr::eq(idle, task)))
}

/// Gives the boot CPU something to run when there is nothing to run: from then on it counts as
/// online.
///
/// # Safety
///
/// As for [`prepare`].
pub unsafe fn begin(stack_bottom: VirtAddr) {
    // SAFETY: the caller's promise.
    let task = unsafe { prepare(0, stack_bottom) };
    schedule::lock().data().set_idle(0, task);
}

/// Makes the idle task of a CPU; for one that has not been started this comes right before that,
/// which then begins in [`enter`], on this stack.
///
/// # Safety
///
/// As for [`life::spawn`](super::life::spawn); the memory never comes back. Once for each CPU.
pub unsafe fn prepare(cpu: usize, stack_bottom: VirtAddr) -> &'static Task {
    // The boot task has number 0.
    let task = TASKS[cpu].call_once(|| Task::new(cpu as u32 + 1, NAMES[cpu]));
    task.stack_bottom.set(Some(stack_bottom));
    task.cpu.set(cpu as u32);
    task.pinned.set(Some(cpu as u32));
    let context = Context::begin(stack_bottom + STACK_SIZE, first_steps, 0, 0);
    // SAFETY: nobody knows of the task yet.
    unsafe { task.context.get().write(context) };
    task
}

/// Where the boot CPU's idle task comes from its first switch.
extern "C" fn first_steps(_: usize, _: usize) -> ! {
    // SAFETY: it comes from a switch.
    unsafe { schedule::unlock_after_switch() };
    cpu::unmask_serror();
    run()
}

/// Where a CPU goes that has just been started, on the stack that [`prepare`] was given, with
/// interrupts masked: from here on it takes tasks.
pub extern "C" fn enter(cpu: usize) -> ! {
    let task = TASKS[cpu]
        .get()
        .expect("it was prepared before the CPU began");
    cpu::set_current_task(core::ptr::from_ref(task).cast(), task.id);
    {
        let mut locked = schedule::lock();
        task.on_cpu.set(true);
        locked.data().set_idle(cpu, task);
        locked.data().begin_idle(cpu);
    }
    run()
}

/// Asked for what a CPU could do before it idles, with interrupts masked.
pub type Work = fn(usize) -> Option<fn(usize)>;

static WORK: Once<Work> = Once::new();

/// Installs something for CPUs to do that would idle; it is looked for after every interrupt. The
/// first stays. Tests use it.
pub fn set_work(work: Work) {
    WORK.call_once(|| work);
}

/// Waits for something to run, for ever.
fn run() -> ! {
    loop {
        let masked = cpu::mask_interrupts();
        // The idle task of a CPU runs nowhere else.
        let me = cpu::id() as usize;
        let ready = schedule::lock().data().has_for(me);
        let work = WORK.get().and_then(|work| work(me));
        if !ready && work.is_none() {
            // WFI ends when an interrupt is pending, masked or not: one that came since the look
            // at the queue is not missed.
            cpu::wait_for_interrupt();
        }
        drop(masked);
        // It is taken here, and whoever it woke runs before it returns. What is left is what was
        // there before.
        cpu::unmask_interrupts();
        if let Some(work) = work {
            work(me);
        }
        if ready {
            schedule::preempt();
        }
    }
}
