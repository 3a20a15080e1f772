//! Who sleeps, the one that wakes first at the front.

use super::{Task, queue::Queue};

/// The tasks that sleep until a certain time.
#[derive(Debug)]
pub(super) struct Sleepers(Queue);

impl Sleepers {
    pub(super) const fn new() -> Self {
        Self(Queue::new())
    }

    /// Adds a task, behind those that wake at the same time or before it. It takes as long as there
    /// are such tasks; there are few.
    pub(super) fn add(&mut self, task: &'static Task) {
        let later = |other: &&Task| other.wake_at.get() > task.wake_at.get();
        self.0.insert_before(self.0.iter().find(later), task);
    }

    /// Takes a task whose time has come.
    pub(super) fn take(&mut self, now: u64) -> Option<&'static Task> {
        let first = self.0.first()?;
        (first.wake_at.get() <= now).then(|| self.0.remove(first))?;
        Some(first)
    }

    /// When the next one wakes.
    pub(super) fn next(&self) -> Option<u64> {
        self.0.first().map(|task| task.wake_at.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::scheduler::testing::tasks;

    #[test]
    fn they_wake_in_the_order_of_their_times() {
        let tasks = tasks(5);
        let mut sleepers = Sleepers::new();
        for (task, time) in tasks.iter().zip([30, 10, 20, 10, 40]) {
            task.wake_at.set(time);
            sleepers.add(task);
        }
        assert_eq!(sleepers.next(), Some(10));
        assert!(sleepers.take(9).is_none());
        let woken: Vec<_> = std::iter::from_fn(|| sleepers.take(30))
            .map(|t| t.id)
            .collect();
        assert_eq!(woken, [1, 3, 2, 0]);
        assert_eq!(sleepers.next(), Some(40));
    }
}
