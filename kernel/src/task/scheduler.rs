//! Every decision of the scheduler, as data: who runs next and until when, who is woken, which CPU
//! has to be told. It executes no instruction, so all of it is tested on the host; `schedule` holds
//! the lock around it and does what was decided.

use super::{
    State, Task,
    queue::{All, Queue},
    run_queue::RunQueue,
    sleepers::Sleepers,
};
use crate::arch::cpu::MAX_CPUS;

/// CPUs, one a bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cpus(u32);

impl Cpus {
    pub(super) const NONE: Self = Self(0);

    const fn one(cpu: usize) -> Self {
        Self(1 << cpu)
    }

    const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    pub(super) const fn contains(self, cpu: usize) -> bool {
        self.0 >> cpu & 1 != 0
    }

    const fn without(self, cpu: usize) -> Self {
        Self(self.0 & !(1 << cpu))
    }

    /// Their numbers.
    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        (0..MAX_CPUS).filter(move |cpu| self.contains(*cpu))
    }
}

/// What `Scheduler::next` decided.
#[derive(Debug)]
pub(super) struct Decision {
    /// Who runs.
    pub(super) next: &'static Task,
    /// Who has to be told that there is something to run.
    pub(super) tell: Cpus,
}

/// Every task, and what each is in.
#[derive(Debug)]
pub(super) struct Scheduler {
    run: RunQueue,
    sleepers: Sleepers,
    /// Those that have ended and that nobody waits for.
    dead: Queue,
    all: Queue<All>,
    /// What each CPU runs if there is nothing to run; a CPU that has such a task is online.
    idle: [Option<&'static Task>; MAX_CPUS],
    /// CPUs that run it, and have not been told of anything else.
    idle_cpus: Cpus,
    /// Tasks that have not ended, but for the idle ones.
    live: usize,
    next_id: u32,
    /// How long a task runs while others want to, in ticks.
    slice: u64,
}

impl Scheduler {
    /// A machine that runs `boot_tasks` tasks; the next gets the number `next_id`.
    pub(super) const fn new(boot_tasks: usize, next_id: u32) -> Self {
        Self {
            run: RunQueue::new(),
            sleepers: Sleepers::new(),
            dead: Queue::new(),
            all: Queue::new(),
            idle: [None; MAX_CPUS],
            idle_cpus: Cpus::NONE,
            live: boot_tasks,
            next_id,
            slice: u64::MAX,
        }
    }

    /// Sets how long a task runs while others want to, in ticks; [`u64::MAX`] for ever. Gives back
    /// what it was.
    pub(super) fn set_slice(&mut self, slice: u64) -> u64 {
        core::mem::replace(&mut self.slice, slice)
    }

    /// A number that no task has had.
    pub(super) fn new_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// Puts a task on the list of all.
    pub(super) fn enlist(&mut self, task: &'static Task) {
        self.all.push(task);
    }

    /// Every task: idle ones too, and those that have ended and were not joined.
    pub(super) fn all(&self) -> impl Iterator<Item = &'static Task> {
        self.all.iter()
    }

    /// Makes `task` the one that a CPU runs if there is nothing to run.
    pub(super) fn set_idle(&mut self, cpu: usize, task: &'static Task) {
        self.idle[cpu] = Some(task);
        self.enlist(task);
    }

    /// Notes that a CPU runs its idle task, the first thing that it does.
    pub(super) fn begin_idle(&mut self, cpu: usize) {
        self.idle_cpus = self.idle_cpus.and(Cpus::one(cpu));
    }

    /// Whether a CPU takes tasks.
    pub(super) fn is_online(&self, cpu: usize) -> bool {
        self.idle.get(cpu).is_some_and(Option::is_some)
    }

    fn is_idle(&self, task: &'static Task) -> bool {
        let idle = self.idle[task.cpu.get() as usize];
        idle.is_some_and(|idle| core::ptr::eq(idle, task))
    }

    /// Whether there is a task that `cpu` could run.
    pub(super) fn has_for(&self, cpu: usize) -> bool {
        self.run.has_for(cpu)
    }

    /// Lets a new task run; `here` is the CPU that asks.
    pub(super) fn start(&mut self, task: &'static Task, here: usize) -> Cpus {
        self.live += 1;
        self.enlist(task);
        self.queue_up(task, here)
    }

    /// Has a task that was started not count among those that share CPUs: slices do not end for it,
    /// and who wakes it makes room for it at once where no CPU idles. For tasks that wait almost
    /// always, and run for a moment.
    pub(super) fn put_in_background(&mut self, task: &'static Task) {
        if !task.background.replace(true) {
            self.live -= 1;
        }
    }

    /// Queues a task and finds a CPU that has nothing else to do.
    fn queue_up(&mut self, task: &'static Task, here: usize) -> Cpus {
        self.run.push(task);
        self.find_cpu(task, here)
    }

    /// The CPU to tell that `task` is queued: one that idles, this one before others. Where none
    /// does, those that run will find it by the end of a time slice. A CPU is told once: what it is
    /// told of next goes to another one that idles.
    fn find_cpu(&mut self, task: &'static Task, here: usize) -> Cpus {
        let idle = self.idle_cpus;
        let found = match task.pinned.get() {
            Some(cpu) => Some(cpu as usize).filter(|cpu| idle.contains(*cpu)),
            None if idle.contains(here) => Some(here),
            None => idle.iter().next().or(task.background.get().then_some(here)),
        };
        found.map_or(Cpus::NONE, |cpu| {
            self.idle_cpus = idle.without(cpu);
            Cpus::one(cpu)
        })
    }

    /// Makes a task that is in no queue any more want to run.
    pub(super) fn wake(&mut self, task: &'static Task, here: usize) -> Cpus {
        task.state.set(State::Runnable);
        if task.on_cpu.get() {
            // It had made up its mind to wait and has not been switched from yet: its CPU will
            // find that it still wants to run.
            Cpus::NONE
        } else {
            self.queue_up(task, here)
        }
    }

    /// Puts the running task among the sleepers; a decision has to follow.
    pub(super) fn sleep(&mut self, task: &'static Task, until: u64) {
        task.state.set(State::Sleeping);
        task.wake_at.set(until);
        self.sleepers.add(task);
    }

    /// Ends the running task; a decision has to follow.
    pub(super) fn end(&mut self, task: &'static Task, value: usize, here: usize) -> Cpus {
        task.exit_value.set(value);
        task.state.set(State::Exited);
        self.live -= usize::from(!task.background.get());
        match task.joiner.take() {
            Some(joiner) => self.wake(joiner, here),
            None => {
                if task.detached.get() {
                    self.dead.push(task);
                }
                Cpus::NONE
            }
        }
    }

    /// Nobody will ask what `task` returned.
    pub(super) fn detach(&mut self, task: &'static Task) {
        if task.state.get() == State::Exited {
            self.dead.push(task);
        } else {
            task.detached.set(true);
        }
    }

    /// Takes a task that has ended and that nobody will ask for off every list.
    pub(super) fn take_dead(&mut self) -> Option<&'static Task> {
        let task = self.dead.pop()?;
        self.all.remove(task);
        Some(task)
    }

    /// Takes a task that has ended off the list of all.
    pub(super) fn forget(&mut self, task: &'static Task) {
        self.all.remove(task);
    }

    /// Wakes whose time has come.
    pub(super) fn wake_sleepers(&mut self, now: u64, here: usize) -> Cpus {
        let mut tell = Cpus::NONE;
        while let Some(task) = self.sleepers.take(now) {
            tell = tell.and(self.wake(task, here));
        }
        tell
    }

    /// Whether the running task has to make room: its slice is over, or it is idle, and there is
    /// somebody else.
    pub(super) fn is_due(&mut self, running: &'static Task, now: u64) -> bool {
        let cpu = running.cpu.get() as usize;
        if self.is_idle(running) {
            return self.has_for(cpu);
        }
        if now < running.slice_end.get() {
            return false;
        }
        self.renew_slice(running, now);
        self.has_for(cpu)
    }

    /// Decides who runs on `cpu` after `running`, and hands the CPU to them.
    pub(super) fn next(&mut self, running: &'static Task, cpu: usize, now: u64) -> Decision {
        let goes_on = running.state.get() == State::Runnable && !self.is_idle(running);
        if goes_on {
            self.run.push(running);
        }
        let idle = self.idle[cpu];
        let next = self.run.take(cpu).or(idle);
        let next = next.expect("a CPU has its idle task before it has anything to wait for");
        running.on_cpu.set(false);
        next.on_cpu.set(true);
        next.cpu.set(cpu as u32);
        next.slice_end.set(now.saturating_add(self.slice));
        self.idle_cpus = if idle.is_some_and(|idle| core::ptr::eq(idle, next)) {
            self.idle_cpus.and(Cpus::one(cpu))
        } else {
            self.idle_cpus.without(cpu)
        };
        let mut tell = Cpus::NONE;
        if !core::ptr::eq(next, running) {
            next.switches.set(next.switches.get() + 1);
            if goes_on {
                // Another CPU may have had nothing to do because this one ran it.
                tell = self.find_cpu(running, cpu);
            }
        }
        Decision { next, tell }
    }

    /// When the CPU that runs `running` has to look again, in ticks.
    ///
    /// Every CPU looks after all sleepers: the one that someone fell asleep on may be busy with
    /// interrupts masked, or run nothing but a task that never ends. A slice ends only where there
    /// is more than one task in the machine.
    pub(super) fn deadline(&self, running: &'static Task) -> Option<u64> {
        let slice = (self.live > 1 && !self.is_idle(running)).then(|| running.slice_end.get());
        let times = [self.sleepers.next(), slice.filter(|end| *end != u64::MAX)];
        times.into_iter().flatten().min()
    }

    /// Begins the slice of the running task anew if none was running, since it was alone.
    pub(super) fn begin_slice(&mut self, running: &'static Task, now: u64) {
        if running.slice_end.get() <= now {
            self.renew_slice(running, now);
        }
    }

    /// Begins the slice of the running task anew.
    pub(super) fn renew_slice(&mut self, running: &'static Task, now: u64) {
        running.slice_end.set(now.saturating_add(self.slice));
    }
}

#[cfg(test)]
pub(super) mod testing {
    use crate::task::Task;

    /// Tasks with the numbers from 0. They are never freed: what is linked may outlive a test.
    pub fn tasks(count: u32) -> Vec<&'static Task> {
        static ALL: std::sync::Mutex<Vec<&Task>> = std::sync::Mutex::new(Vec::new());
        let new = |id| &*Box::leak(Box::new(Task::new(id, "test")));
        let tasks: Vec<_> = (0..count).map(new).collect();
        ALL.lock().expect("nobody panics in here").extend(&tasks);
        tasks
    }
}

#[cfg(test)]
mod tests;
