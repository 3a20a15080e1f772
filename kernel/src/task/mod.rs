//! Tasks. A task owns its lazy MMU state: it migrates with the task, and nobody else has to be
//! asked about it.
//!
//! Nothing here allocates, and nothing knows of `mm/`. So far there is one task, the one that boot
//! starts.

pub mod deferred;

use core::cell::Cell;
use deferred::Deferred;
use lazy_mmu::LazyMmuState;

/// A thread of execution in the kernel.
#[derive(Debug)]
#[repr(C)]
pub struct Task {
    /// The state of the lazy MMU calls, as the chosen model keeps it.
    pub lazy_mmu_state: Cell<LazyMmuState>,
    /// What was put off until the section ends.
    pub deferred: Deferred,
    /// How many interrupt handlers this task is under. It is kept in the task, as Linux keeps
    /// preempt_count, since a task that reads a per-CPU variable may have migrated before it looks
    /// at the value.
    pub interrupt_depth: Cell<u8>,
    /// Unique.
    pub id: u32,
    /// For people.
    pub name: &'static str,
}

// SAFETY: the cells of a task are read and written by the CPU that runs it, and by no other: a
// context switch hands them over with the rest of the task. Reports of a crashed machine read them
// when nothing else runs.
unsafe impl Sync for Task {}

impl Task {
    /// A task that is in no section and owes nothing.
    pub const fn new(id: u32, name: &'static str) -> Self {
        Self {
            lazy_mmu_state: Cell::new(LazyMmuState::new()),
            deferred: Deferred::new(),
            interrupt_depth: Cell::new(0),
            id,
            name,
        }
    }

    /// Whether the task is under an interrupt handler (`in_interrupt()` in Linux).
    #[inline]
    pub fn in_interrupt(&self) -> bool {
        self.interrupt_depth.get() != 0
    }
}

/// The task that boot starts. gdb finds the lazy MMU state of the tour here.
#[cfg(target_os = "none")]
#[unsafe(no_mangle)]
pub static BOOT_TASK: Task = Task::new(0, "boot");

/// The task that this CPU runs.
#[cfg(target_os = "none")]
#[inline]
pub fn current() -> &'static Task {
    // SAFETY: bring-up sets the pointer to BOOT_TASK before anything asks, and tasks are never
    // freed while they run.
    unsafe { &*crate::arch::cpu::current_task_ptr().cast::<Task>() }
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
