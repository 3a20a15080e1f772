//! Lists of tasks, linked through the tasks themselves: nothing is allocated, and a task leaves
//! from the middle as quickly as from the ends.

use super::{Links, Task};
use core::{cell::Cell, marker::PhantomData};

/// Which of a task's links a list uses.
pub(super) trait Through {
    fn links(task: &Task) -> &Links;
}

/// The links of whatever a task is in at the moment: to run, to wait, to sleep.
#[derive(Debug)]
pub(super) enum Current {}

impl Through for Current {
    fn links(task: &Task) -> &Links {
        &task.links
    }
}

/// The links of the list of all tasks.
#[derive(Debug)]
pub(super) enum All {}

impl Through for All {
    fn links(task: &Task) -> &Links {
        &task.all
    }
}

/// A list of tasks, first come first served.
#[derive(Debug)]
pub(super) struct Queue<L = Current> {
    first: Cell<Option<&'static Task>>,
    last: Cell<Option<&'static Task>>,
    through: PhantomData<L>,
}

impl<L> Queue<L> {
    pub(super) const fn new() -> Self {
        Self {
            first: Cell::new(None),
            last: Cell::new(None),
            through: PhantomData,
        }
    }

    pub(super) fn first(&self) -> Option<&'static Task> {
        self.first.get()
    }
}

impl<L: Through> Queue<L> {
    /// Appends a task, which is in no list through the same links.
    pub(super) fn push(&self, task: &'static Task) {
        self.insert_before(None, task);
    }

    /// Inserts a task before another of this list, or at its end.
    pub(super) fn insert_before(&self, next: Option<&'static Task>, task: &'static Task) {
        let links = L::links(task);
        debug_assert!(links.next.get().is_none() && links.previous.get().is_none());
        let previous = match next {
            Some(next) => L::links(next).previous.replace(Some(task)),
            None => self.last.replace(Some(task)),
        };
        match previous {
            Some(previous) => L::links(previous).next.set(Some(task)),
            None => self.first.set(Some(task)),
        }
        links.next.set(next);
        links.previous.set(previous);
    }

    /// Takes the first task.
    pub(super) fn pop(&self) -> Option<&'static Task> {
        let task = self.first.get()?;
        self.remove(task);
        Some(task)
    }

    /// Takes out a task, which is in this list.
    pub(super) fn remove(&self, task: &'static Task) {
        let links = L::links(task);
        let (next, previous) = (links.next.take(), links.previous.take());
        match next {
            Some(next) => L::links(next).previous.set(previous),
            None => self.last.set(previous),
        }
        match previous {
            Some(previous) => L::links(previous).next.set(next),
            None => self.first.set(next),
        }
    }

    /// The tasks, first to last.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'static Task> {
        core::iter::successors(self.first.get(), |task| L::links(task).next.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::scheduler::testing::tasks;

    fn ids(queue: &Queue) -> Vec<u32> {
        let forward: Vec<_> = queue.iter().map(|task| task.id).collect();
        let mut backward: Vec<_> =
            core::iter::successors(queue.last.get(), |task| task.links.previous.get())
                .map(|task| task.id)
                .collect();
        backward.reverse();
        assert_eq!(forward, backward);
        forward
    }

    #[test]
    fn tasks_leave_as_they_came() {
        let tasks = tasks(3);
        let queue = Queue::new();
        tasks.iter().for_each(|task| queue.push(task));
        assert_eq!(ids(&queue), [0, 1, 2]);
        let out: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|t| t.id).collect();
        assert_eq!(out, [0, 1, 2]);
        assert!(ids(&queue).is_empty());
    }

    #[test]
    fn a_task_leaves_from_wherever_it_is() {
        for gone in 0..4 {
            let tasks = tasks(4);
            let queue = Queue::new();
            tasks.iter().for_each(|task| queue.push(task));
            queue.remove(tasks[gone as usize]);
            let left: Vec<_> = (0..4).filter(|n| *n != gone).collect();
            assert_eq!(ids(&queue), left);
            // Its links are free for another list.
            queue.push(tasks[gone as usize]);
            assert_eq!(ids(&queue).last(), Some(&gone));
        }
    }

    #[test]
    fn a_task_comes_before_another() {
        let tasks = tasks(3);
        let queue = Queue::new();
        queue.push(tasks[1]);
        queue.insert_before(Some(tasks[1]), tasks[0]);
        queue.insert_before(None, tasks[2]);
        assert_eq!(ids(&queue), [0, 1, 2]);
    }
}
