//! Waiting: for something that another task does, or for a time.

use super::{
    State, Task, atomic, current, preempt,
    queue::Queue,
    schedule::{self, Locked},
};
use crate::arch::{cpu, time};

/// Tasks that wait for something, first come first served.
#[derive(Debug)]
pub struct WaitQueue {
    /// Read and written under the scheduler's lock.
    waiting: Queue,
}

// SAFETY: the list is touched only with the scheduler locked: every method that does takes `Locked`
// for that.
unsafe impl Sync for WaitQueue {}

impl Default for WaitQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl WaitQueue {
    /// Nobody waits.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            waiting: Queue::new(),
        }
    }

    /// Waits until `condition` holds. Whoever makes it hold has to call [`wake_one`](Self::wake_one)
    /// or [`wake_all`](Self::wake_all) after that.
    ///
    /// `condition` is called with preemption disabled at times: it must not sleep.
    #[track_caller]
    pub fn wait_until(&self, mut condition: impl FnMut() -> bool) {
        atomic::may_sleep("wait");
        while !condition() {
            // From here on the task is in the queue and runs all the same. If it were preempted it
            // would be taken for one that waits, before it has looked.
            let preempt = preempt::disable();
            self.enter(&mut schedule::lock());
            // Only now that a waker would find it: one that came between the first look and the
            // queue would have woken nobody.
            if condition() {
                self.leave(&mut schedule::lock());
                return;
            }
            // Woken since, it still wants to run, and this is a yield.
            schedule::lock().switch();
            drop(preempt);
        }
    }

    fn enter(&self, _: &mut Locked) {
        let task = current();
        task.state.set(State::Waiting);
        self.waiting.push(task);
    }

    /// Takes the running task out, unless a waker has.
    fn leave(&self, _: &mut Locked) {
        let task = current();
        if task.state.replace(State::Runnable) == State::Waiting {
            self.waiting.remove(task);
        }
    }

    fn pop(&self, _: &mut Locked) -> Option<&'static Task> {
        self.waiting.pop()
    }

    /// Wakes the task that has waited longest; says whether there was one.
    pub fn wake_one(&self) -> bool {
        let mut locked = schedule::lock();
        let task = self.pop(&mut locked);
        task.map(|task| locked.wake(task)).is_some()
    }

    /// Wakes every task that waits; says how many there were.
    pub fn wake_all(&self) -> usize {
        let mut locked = schedule::lock();
        let mut woken = 0;
        while let Some(task) = self.pop(&mut locked) {
            locked.wake(task);
            woken += 1;
        }
        woken
    }
}

impl Drop for WaitQueue {
    fn drop(&mut self) {
        assert!(
            self.waiting.first().is_none(),
            "a wait queue goes away while somebody waits in it"
        );
    }
}

/// Sleeps until a certain time, in ticks of [`time::now`].
#[track_caller]
pub fn sleep_until(ticks: u64) {
    atomic::may_sleep("sleep");
    let mut locked = schedule::lock();
    if time::now() >= ticks {
        return;
    }
    if !locked.data().is_online(cpu::id() as usize) {
        // Before the first task is spawned there is nobody that could run meanwhile.
        drop(locked);
        while time::now() < ticks {
            core::hint::spin_loop();
        }
        return;
    }
    locked.data().sleep(current(), ticks);
    locked.switch();
}
