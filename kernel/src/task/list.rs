//! What every task is up to, for people.

use super::{State, Task, schedule};
use core::{fmt, sync::atomic::Ordering::Relaxed};
use lazy_mmu::LazyMmuState;

/// A task as it was at some moment.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: &'static str,
    /// What it was up to.
    pub state: State,
    /// Whether it was running.
    pub on_cpu: bool,
    /// The CPU that it ran on, or had run on last.
    pub cpu: u32,
    /// The only CPU that it may run on, if there is one.
    pub pinned: Option<u32>,
    /// How often it was switched to.
    pub switches: u64,
    /// How many sections forbade to preempt it.
    pub preempt_count: u32,
    /// Its lazy MMU state.
    pub lazy: LazyMmuState,
    /// Whether barriers were owed.
    pub owed: bool,
}

impl Entry {
    fn of(task: &'static Task) -> Self {
        Self {
            id: task.id,
            name: task.name,
            state: task.state.get(),
            on_cpu: task.on_cpu.get(),
            cpu: task.cpu.get(),
            pinned: task.pinned.get(),
            switches: task.switches.get(),
            preempt_count: task.preempt_count.load(Relaxed),
            // These two are the running task's own, and it may be changing them. Read once, and
            // shown to people: a value of a moment ago is as good.
            // SAFETY: tasks on the list are not freed while the scheduler is locked; every value of
            // both is one that can be read.
            lazy: unsafe { task.lazy_mmu_state.as_ptr().read_volatile() },
            // SAFETY: as above.
            owed: unsafe { task.deferred.barriers.as_ptr().read_volatile() },
        }
    }

    /// In a word, as `ps` has it.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        match self.state {
            _ if self.on_cpu => "running",
            State::Runnable => "ready",
            State::Waiting => "waiting",
            State::Sleeping => "sleeping",
            State::Exited => "exited",
        }
    }
}

impl fmt::Display for Entry {
    /// A line of `ps`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pinned = [b' '; 4];
        if let Some(cpu) = self.pinned {
            pinned[0] = b'!';
            pinned[1] = b'0' + (cpu % 10) as u8;
        }
        let pinned = core::str::from_utf8(&pinned).unwrap_or_default();
        write!(
            f,
            "{:5} {:8} {:3} {:4} {:8} {:7} {:6} {:5} {:4} {}",
            self.id,
            self.state_name(),
            self.cpu,
            pinned.trim(),
            self.switches,
            self.preempt_count,
            self.lazy.enable_count(),
            self.lazy.pause_count(),
            u8::from(self.owed),
            self.name,
        )
    }
}

/// The head of the lines.
pub const HEAD: &str = "   ID STATE    CPU PIN  SWITCHES PREEMPT ENABLE PAUSE OWED NAME";

/// Tells of every task. `each` is called with the scheduler locked: it may neither sleep nor wake,
/// nor allocate.
pub fn for_each(mut each: impl FnMut(Entry)) {
    schedule::lock()
        .data()
        .all()
        .for_each(|task| each(Entry::of(task)));
}
