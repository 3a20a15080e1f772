//! Who runs next.
//!
//! One queue for the tasks that may run anywhere, and one a CPU for those that are pinned to it. A
//! CPU takes the one of the two heads that has waited longer, so that all of them together are one
//! round robin; both ends cost the same however many tasks there are. Nothing has to be stolen or
//! balanced. What it costs is that all CPUs meet at one lock when they switch; eight of them do
//! that a few hundred times a second.

use super::{Task, queue::Queue};
use crate::arch::cpu::MAX_CPUS;

/// The tasks that want to run and don't.
#[derive(Debug)]
pub(super) struct RunQueue {
    anywhere: Queue,
    pinned: [Queue; MAX_CPUS],
    /// How many tasks have queued up.
    tickets: u64,
}

impl RunQueue {
    pub(super) const fn new() -> Self {
        Self {
            anywhere: Queue::new(),
            pinned: [const { Queue::new() }; MAX_CPUS],
            tickets: 0,
        }
    }

    /// Queues a task, behind all others.
    pub(super) fn push(&mut self, task: &'static Task) {
        task.ticket.set(self.tickets);
        self.tickets += 1;
        match task.pinned.get() {
            Some(cpu) => self.pinned[cpu as usize].push(task),
            None => self.anywhere.push(task),
        }
    }

    /// Takes the task that this CPU is to run next.
    pub(super) fn take(&mut self, cpu: usize) -> Option<&'static Task> {
        self.longest_waiting(cpu)?.pop()
    }

    /// Whether there is a task that this CPU could run.
    pub(super) fn has_for(&self, cpu: usize) -> bool {
        self.longest_waiting(cpu).is_some()
    }

    /// The queue whose head has waited longest, of those that this CPU may take from.
    fn longest_waiting(&self, cpu: usize) -> Option<&Queue> {
        let own = &self.pinned[cpu];
        match (own.first(), self.anywhere.first()) {
            (Some(a), Some(b)) if a.ticket.get() > b.ticket.get() => Some(&self.anywhere),
            (Some(_), _) => Some(own),
            (None, Some(_)) => Some(&self.anywhere),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::scheduler::testing::tasks;

    #[test]
    fn pinned_or_not_it_is_one_round_robin() {
        let tasks = tasks(6);
        let mut queue = RunQueue::new();
        for (task, cpu) in tasks
            .iter()
            .zip([None, Some(1), None, Some(1), Some(0), None])
        {
            task.pinned.set(cpu);
            queue.push(task);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.take(1)).map(|t| t.id).collect();
        assert_eq!(order, [0, 1, 2, 3, 5]);
        assert!(!queue.has_for(1) && queue.has_for(0));
        assert_eq!(queue.take(0).map(|t| t.id), Some(4));
    }

    #[test]
    fn a_pinned_task_waits_for_its_cpu() {
        let tasks = tasks(1);
        tasks[0].pinned.set(Some(3));
        let mut queue = RunQueue::new();
        queue.push(tasks[0]);
        for cpu in (0..MAX_CPUS).filter(|cpu| *cpu != 3) {
            assert!(queue.take(cpu).is_none());
        }
        assert!(queue.take(3).is_some());
    }
}
