//! Tasks. A task owns its lazy MMU state: it migrates with the task, and nobody else has to be
//! asked about it.
//!
//! Nothing here allocates, and nothing knows of `mm/`: a task is given its memory, and whoever gave
//! it is told when it is free again. The files, from the lowest up:
//!
//! | file | what |
//! |---|---|
//! | this one | the task, and which one is current |
//! | `deferred`, `section_lock`, `origin` | data that a task holds |
//! | `queue`, `run_queue`, `sleepers` | lists of tasks |
//! | `scheduler` | every decision, as data: it executes no instruction |
//! | `schedule` | its lock, and the switch from one task to another |
//! | `preempt`, `lock` | sections in which a task stays where it is |
//! | `atomic` | the report of a task that sleeps in such a section |
//! | `wait`, `life`, `idle` | wait queues, sleep; spawn, join, exit; what a CPU does without a task |
//! | `list` | what every task is up to, for people |
//! | `points` | switches forced at a certain place, for tests |

#[cfg(target_os = "none")]
pub mod atomic;
#[cfg(all(feature = "ktests", target_os = "none"))]
mod atomic_ktests;
pub mod deferred;
#[cfg(target_os = "none")]
pub mod idle;
#[cfg(all(feature = "ktests", target_os = "none"))]
mod ktests;
#[cfg(all(feature = "ktests", target_os = "none"))]
mod lazy_ktests;
#[cfg(target_os = "none")]
pub mod life;
#[cfg(target_os = "none")]
pub mod list;
pub mod lock;
pub mod origin;
pub mod points;
pub mod preempt;
#[cfg(any(test, target_os = "none"))]
mod queue;
#[cfg(any(test, target_os = "none"))]
mod run_queue;
#[cfg(target_os = "none")]
pub mod schedule;
#[cfg(any(test, target_os = "none"))]
mod scheduler;
pub mod section_lock;
#[cfg(any(test, target_os = "none"))]
mod sleepers;
#[cfg(target_os = "none")]
pub mod wait;

use crate::arch::{cpu, switch::Context};
use core::{
    cell::{Cell, UnsafeCell},
    ptr::NonNull,
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
};
use deferred::Deferred;
use lazy_mmu::LazyMmuState;
use origin::Origin;
use section_lock::SectionLock;
use vmsa::VirtAddr;

#[cfg(target_os = "none")]
pub use {
    life::{Entry, Handle, exit},
    schedule::{Offline, migrate_to, unpin, yield_now},
    wait::{WaitQueue, sleep_until},
};

/// A thread of execution in the kernel.
///
/// Who may touch what: the fields up to `need_resched` belong to the CPU that runs the task, and
/// so, mostly, to the task itself; a switch hands them over with the rest. The others are guarded
/// by the scheduler's lock.
#[derive(Debug)]
#[repr(C)]
#[cfg_attr(
    not(any(test, target_os = "none")),
    allow(dead_code, reason = "outside of tests the host has no scheduler")
)]
pub struct Task {
    /// The state of the lazy MMU calls, as the chosen model keeps it.
    pub lazy_mmu_state: Cell<LazyMmuState>,
    /// What was put off until the section ends.
    pub deferred: Deferred,
    /// What it holds while a section is open.
    pub section_lock: SectionLock,
    /// How many interrupt handlers this task is under. It is kept in the task, as Linux keeps
    /// preempt_count, since a task that reads a per-CPU variable may have migrated before it looks
    /// at the value.
    pub interrupt_depth: Cell<u8>,
    /// The address space whose lower half it sees, if it has one: whatever that is to the floor above,
    /// which sets it for the running task and hears of each switch ([`schedule::set_switch_hook`]).
    /// The switch itself does not look at it.
    pub address_space: Cell<Option<NonNull<()>>>,
    /// Unique.
    pub id: u32,
    /// For people.
    pub name: &'static str,
    /// How many sections forbid to preempt it. Atomic, since handlers on the same CPU come in
    /// between; they leave it as they found it, so a plain load and store will do.
    preempt_count: AtomicU32,
    /// It is to give up its CPU as soon as it may. Set by the CPU that runs it, nobody else.
    need_resched: AtomicBool,
    /// Where the outermost of its atomic sections began.
    atomic_since: Cell<Option<Origin>>,

    /// What it is up to.
    state: Cell<State>,
    /// The CPU that it runs on, or ran on last.
    cpu: Cell<u32>,
    /// Whether it runs: a task that has made up its mind to wait runs until it has been switched
    /// from.
    on_cpu: Cell<bool>,
    /// The only CPU that it may run on, if there is one.
    pinned: Cell<Option<u32>>,
    /// How often it was switched to.
    switches: Cell<u64>,
    /// Until when it may run while others want to, in ticks.
    slice_end: Cell<u64>,
    /// Its place in the order of those that want to run.
    ticket: Cell<u64>,
    /// Until when it sleeps, in ticks.
    wake_at: Cell<u64>,
    /// The run queue, wait queue, the list of sleepers or of the dead: it is in one at most.
    links: Links,
    /// The list of all tasks.
    all: Links,
    /// What it returned.
    exit_value: Cell<usize>,
    /// Nobody will ask for what it returned.
    detached: Cell<bool>,
    /// It only follows up what others have done: the machine counts as having one task without it.
    background: Cell<bool>,
    /// Who waits for it to end.
    joiner: Cell<Option<&'static Task>>,
    /// The lowest address of its stack; `None` before it has one of its own, and for the task that
    /// boot starts.
    stack_bottom: Cell<Option<VirtAddr>>,
    /// Its registers while it does not run.
    context: UnsafeCell<Context>,
}

/// What a task is up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs, or wants to.
    Runnable,
    /// In a wait queue, or for the end of another task.
    Waiting,
    /// Until a certain time.
    Sleeping,
    /// It has ended, and its memory is not given back yet.
    Exited,
}

/// A task's neighbours in a list.
#[derive(Debug)]
#[cfg_attr(
    not(any(test, target_os = "none")),
    allow(dead_code, reason = "outside of tests the host has no scheduler")
)]
struct Links {
    next: Cell<Option<&'static Task>>,
    previous: Cell<Option<&'static Task>>,
}

impl Links {
    const fn new() -> Self {
        Self {
            next: Cell::new(None),
            previous: Cell::new(None),
        }
    }
}

// SAFETY: the cells of a task are read and written by the CPU that runs it, or by who holds the
// scheduler's lock, as the fields say; that lock is held across every switch, so what one CPU wrote
// is there for the next. Reports of a crashed machine read them when nothing else runs.
unsafe impl Sync for Task {}
// SAFETY: it belongs to no CPU: what its pointers lead to (tasks, an address space) is shared by all.
unsafe impl Send for Task {}

impl Task {
    /// A task that is in no section and owes nothing.
    pub const fn new(id: u32, name: &'static str) -> Self {
        Self {
            lazy_mmu_state: Cell::new(LazyMmuState::new()),
            deferred: Deferred::new(),
            section_lock: SectionLock::new(),
            interrupt_depth: Cell::new(0),
            address_space: Cell::new(None),
            id,
            name,
            preempt_count: AtomicU32::new(0),
            need_resched: AtomicBool::new(false),
            atomic_since: Cell::new(None),
            state: Cell::new(State::Runnable),
            cpu: Cell::new(0),
            on_cpu: Cell::new(false),
            pinned: Cell::new(None),
            switches: Cell::new(0),
            slice_end: Cell::new(0),
            ticket: Cell::new(0),
            wake_at: Cell::new(0),
            links: Links::new(),
            all: Links::new(),
            exit_value: Cell::new(0),
            detached: Cell::new(false),
            background: Cell::new(false),
            joiner: Cell::new(None),
            stack_bottom: Cell::new(None),
            context: UnsafeCell::new(Context::new()),
        }
    }

    /// Whether the task is under an interrupt handler (`in_interrupt()` in Linux).
    #[inline]
    pub fn in_interrupt(&self) -> bool {
        self.interrupt_depth.get() != 0
    }

    /// The task that boot starts, as it is from reset on: it runs.
    #[cfg(target_os = "none")]
    const fn boot() -> Self {
        let mut task = Self::new(0, "boot");
        task.on_cpu = Cell::new(true);
        task
    }
}

/// The task that boot starts. gdb finds the lazy MMU state of the tour here.
#[cfg(target_os = "none")]
#[unsafe(no_mangle)]
pub static BOOT_TASK: Task = Task::boot();

/// The task that this CPU runs.
#[cfg(target_os = "none")]
#[inline]
pub fn current() -> &'static Task {
    // SAFETY: bring-up sets the pointer to BOOT_TASK before anything asks, and tasks are never
    // freed while they run.
    unsafe { &*cpu::current_task_ptr().cast::<Task>() }
}

/// On the host every thread is a task of its own.
#[cfg(not(target_os = "none"))]
pub fn current() -> &'static Task {
    static ALL: std::sync::Mutex<Vec<&Task>> = std::sync::Mutex::new(Vec::new());
    std::thread_local! {
        static TASK: &'static Task = {
            let task: &'static Task = Box::leak(Box::new(Task::new(0, "host")));
            // Remembered past the end of the thread: a pointer to it may be, too.
            ALL.lock().expect("nobody panics in here").push(task);
            task
        };
    }
    TASK.with(|task| *task)
}

/// Whether the running task could be switched from here: no section forbids it, interrupts are not
/// masked, and it is under no handler.
fn is_preemptible() -> bool {
    let task = current();
    task.preempt_count.load(Relaxed) == 0 && !task.in_interrupt() && !cpu::interrupts_masked()
}

/// Makes the code that follows run as in an interrupt handler, until the value is dropped. The
/// vectors use it; so do tests.
#[derive(Debug)]
#[must_use = "the handler would end at once"]
pub struct InInterrupt(());

/// Enters interrupt context.
pub fn enter_interrupt() -> InInterrupt {
    let depth = &current().interrupt_depth;
    depth.set(
        depth
            .get()
            .checked_add(1)
            .expect("interrupts nest no deeper than their priorities"),
    );
    InInterrupt(())
}

impl Drop for InInterrupt {
    fn drop(&mut self) {
        let depth = &current().interrupt_depth;
        depth.set(depth.get() - 1);
    }
}
