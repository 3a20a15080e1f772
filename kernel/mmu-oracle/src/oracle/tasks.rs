//! Lazy sections, by task: what is owed when one ends, and what may not be left open.

use super::{Oracle, entries::is_executable};
use crate::{
    clock::{Class, Fact},
    event::{Access, Boundary, Entry, Event, Kind},
    record::{Live, Stamp, Task},
    rule::Rule,
    violation::{Past, Violation, What},
};

impl Oracle<'_> {
    /// The task of the event, new if it is not known; `None` where there is no room.
    pub(super) fn task(&mut self, event: &Event) -> Option<&mut Task> {
        let slot = self
            .tasks
            .iter()
            .position(|task| !task.is_free() && task.id == event.task)
            .or_else(|| {
                let slot = self.tasks.iter().position(Task::is_free)?;
                self.tasks[slot] = Task::new(event.task);
                Some(slot)
            })?;
        Some(&mut self.tasks[slot])
    }

    /// A store made a leaf valid: the end of the section that it is in promises that it is visible.
    pub(super) fn made_valid(
        &mut self,
        event: &Event,
        entry: Entry,
        fact: Fact,
    ) -> Option<Violation> {
        // A user entry is not promised to be visible.
        if entry.space != 0 {
            return None;
        }
        let Some(task) = self.task(event) else {
            return self.memory_full();
        };
        let leaf = entry.value;
        task.last = Live::new(entry, Stamp::new(event, fact));
        let cpu = usize::from(fact.cpu);
        task.stored[cpu] = fact.number;
        if is_executable(leaf) {
            task.stored_executable[cpu] = fact.number;
        }
        None
    }

    pub(super) fn lazy(
        &mut self,
        event: &Event,
        sections: u8,
        pauses: u8,
        flushed: bool,
    ) -> Option<Violation> {
        let Some(task) = self.task(event) else {
            return self.memory_full();
        };
        task.sections = sections;
        task.pauses = pauses;
        if !flushed {
            return None;
        }
        let (stored, executable, last) = (task.stored, task.stored_executable, task.last);
        task.stored = Default::default();
        task.stored_executable = Default::default();
        let visible = |stored: [u64; crate::MAX_CPUS], access| {
            stored.iter().enumerate().all(|(cpu, number)| {
                let store = Fact {
                    cpu: cpu as u8,
                    class: Class::Store,
                    number: *number,
                };
                self.order.is_visible(event.cpu, store, access)
            })
        };
        (!visible(stored, Access::Read) || !visible(executable, Access::Execute)).then(|| {
            let what = What::MadeValid(last.va(), last.level(), last.value());
            Violation::new(Rule::LeaveWithoutBarriers, event)
                .because(Past::of(last.made_valid, what))
        })
    }

    /// Whether the task has a section or a pause open; both are closed after.
    pub(super) fn nothing_open(&mut self, event: &Event) -> Option<Violation> {
        let slot = self
            .tasks
            .iter()
            .position(|t| !t.is_free() && t.id == event.task)?;
        let task = &mut self.tasks[slot];
        let (sections, pauses) = (task.sections, task.pauses);
        task.sections = 0;
        task.pauses = 0;
        if matches!(event.kind, Kind::Boundary(Boundary::TaskExit)) {
            *task = bytemuck::Zeroable::zeroed();
        }
        if sections > 0 {
            Some(Violation::new(Rule::SectionLeftOpen, event))
        } else if pauses > 0 {
            Some(Violation::new(Rule::PauseLeft, event))
        } else {
            None
        }
    }

    /// Nothing is left open, and nothing that the task changed is left without its TLBI but what is
    /// in an accepted window.
    pub(super) fn boundary(&mut self, event: &Event) -> Option<Violation> {
        let mut violation = self.nothing_open(event);
        let mut from = 0;
        while let Some(slot) = self.stale.live_from(from) {
            from = slot + 1;
            let stale = self.stale.get(slot);
            let due = stale.changed.task == event.task && !stale.in_window() && stale.reported == 0;
            if due && !self.is_reusable(event.cpu, slot) {
                violation =
                    violation.or_else(|| Some(self.stale_violation(event, slot, Rule::Unflushed)));
                self.stale.get_mut(slot).reported = 1;
            }
        }
        violation
    }
}
