//! A task's life: spawn, join, exit, and what becomes of its memory.
//!
//! A task is given its memory, one stack; it lies at the top of it itself. The memory is given back
//! by whoever joins it, or, if nobody will, by the next one that spawns or joins: never by the task
//! that happens to be switched to, which may be in a lazy section of its own or hold a lock.

use super::{State, Task, atomic, current, idle, schedule};
use crate::{
    arch::{
        cpu::{self, STACK_SIZE},
        switch::Context,
    },
    event, warning,
};
use core::mem;
use lazy_mmu::LazyMmuState;
use spin::Once;
use vmsa::VirtAddr;

/// What a task runs: from its argument to what [`Handle::join`] returns.
pub type Entry = fn(usize) -> usize;

/// Gives back the memory of a task, by the lowest address of its stack. It may take locks, and wait
/// for them.
pub type Reaper = fn(VirtAddr);

static REAPER: Once<Reaper> = Once::new();

/// Installs what takes memory back. The first stays; without it nothing is given back.
pub fn set_reaper(reaper: Reaper) {
    REAPER.call_once(|| reaper);
}

/// A task that somebody may join. Dropping it lets the task go its way.
#[derive(Debug)]
pub struct Handle {
    task: &'static Task,
}

/// Where the task is in its memory: at the top of its stack, which grows down from there.
fn place(stack_bottom: VirtAddr) -> VirtAddr {
    let top = stack_bottom + STACK_SIZE - size_of::<Task>() as u64;
    // No line of its cache is shared with the stack.
    top.align_down(64)
}

/// Makes a task that runs `entry(argument)`, on `pinned` alone if that is a CPU, and lets it run.
///
/// # Errors
/// [`schedule::Offline`] if it could never run; the memory is the caller's again.
///
/// # Safety
///
/// The [`STACK_SIZE`] bytes from `stack_bottom` on, a multiple of that size, are mapped as memory;
/// the page below is not mapped at all. Nobody else uses them until the reaper has them back.
pub unsafe fn spawn(
    stack_bottom: VirtAddr,
    name: &'static str,
    entry: Entry,
    argument: usize,
    pinned: Option<usize>,
) -> Result<Handle, schedule::Offline> {
    reap();
    let mut locked = schedule::lock();
    if let Some(cpu) = pinned
        && !locked.data().is_online(cpu)
    {
        return Err(schedule::Offline(cpu));
    }
    let at = place(stack_bottom);
    let task = at.as_mut_ptr::<Task>();
    // SAFETY: the caller's promise; it is aligned, and in the memory.
    unsafe { task.write(Task::new(locked.data().new_id(), name)) };
    // SAFETY: just written. The memory goes back only when the task is on no list any more, and
    // neither runs nor has a handle.
    let task: &'static Task = unsafe { &*task };
    task.stack_bottom.set(Some(stack_bottom));
    task.pinned.set(pinned.map(|cpu| cpu as u32));
    let context = Context::begin(at, first_steps, entry as usize, argument);
    // SAFETY: nobody knows of the task yet.
    unsafe { task.context.get().write(context) };
    locked.start(task);
    Ok(Handle { task })
}

/// Where a new task comes from its first switch.
extern "C" fn first_steps(entry: usize, argument: usize) -> ! {
    // SAFETY: it comes from a switch.
    unsafe { schedule::unlock_after_switch() };
    cpu::unmask_serror();
    cpu::unmask_interrupts();
    // SAFETY: `spawn` made the number of an `Entry`.
    let entry = unsafe { mem::transmute::<usize, Entry>(entry) };
    exit(entry(argument))
}

/// Ends the running task; `value` is what [`Handle::join`] returns.
///
/// # Panics
///
/// If it is the one that boot started, which has no memory to give back, or one that idles.
#[track_caller]
pub fn exit(value: usize) -> ! {
    let task = current();
    assert!(
        task.stack_bottom.get().is_some() && !idle::is(task),
        "task {} can't end",
        task.name
    );
    atomic::may_sleep("exit");
    let lazy = task.lazy_mmu_state.get();
    if lazy != LazyMmuState::new() || !task.deferred.is_empty() {
        warning!(
            "task {} ({}) ends with enable_count={} pause_count={} owed={}",
            task.name,
            task.id,
            lazy.enable_count(),
            lazy.pause_count(),
            u8::from(!task.deferred.is_empty()),
        );
    }
    event!(Boundary(event::Boundary::TaskExit));
    let mut locked = schedule::lock();
    locked.end(value);
    locked.switch();
    unreachable!("a task that has ended runs")
}

impl Handle {
    /// The task's number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.task.id
    }

    /// Lets the task go, as one that waits almost always and follows up what others have done: it
    /// does not make their time slices end. Returns when it waits for the first time.
    pub fn put_in_background(self) {
        schedule::lock().put_in_background(self.task);
        let waits = || {
            let _locked = schedule::lock();
            self.task.state.get() != State::Runnable
        };
        while !waits() {
            // Where there is another CPU that one has it, and the running task stays where it is.
            if cpu::count() == 1 {
                schedule::yield_now();
            } else {
                core::hint::spin_loop();
            }
        }
    }

    /// Waits for the task to end, gives its memory back, and returns what it returned.
    #[track_caller]
    pub fn join(self) -> usize {
        atomic::may_sleep("join");
        let task = self.task;
        mem::forget(self);
        loop {
            let mut locked = schedule::lock();
            // It is off its CPU by then: the lock was held from its end to its last switch.
            if task.state.get() == State::Exited {
                locked.data().forget(task);
                break;
            }
            task.joiner.set(Some(current()));
            current().state.set(State::Waiting);
            locked.switch();
        }
        let value = task.exit_value.get();
        give_back(task);
        reap();
        value
    }

    /// Whether the task has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        let _locked = schedule::lock();
        self.task.state.get() == State::Exited
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        schedule::lock().data().detach(self.task);
    }
}

/// Gives back the memory of tasks that have ended and that nobody will join. Call it where the page
/// allocator may be called.
pub fn reap() {
    while let Some(task) = next_dead() {
        give_back(task);
    }
}

fn next_dead() -> Option<&'static Task> {
    schedule::lock().data().take_dead()
}

/// Gives back the memory of a task that has ended and is on no list.
fn give_back(task: &'static Task) {
    if let (Some(reaper), Some(bottom)) = (REAPER.get(), task.stack_bottom.get()) {
        reaper(bottom);
    }
}
