//! How an access to a variable whose translation the test is about ends: as it does on this
//! machine, unless the outcome has it otherwise.

use super::super::condition::{Fact, Fault, FaultKind};
use super::super::layout::{self, Class, Place};
use super::super::state::Location;
use super::{Deviation, Machine, Standing};
use mmu_oracle::Kind;
use mmu_oracle::event::Access;
use vmsa::{Level, PhysAddr};

/// How many accesses of a run may end in more than one way.
const MOST_CHOICES: usize = 10;

/// How an access to a translated variable ends.
pub(super) enum Ending {
    /// In that frame.
    Reaches(PhysAddr),
    /// In a fault.
    Faults,
}

impl Machine<'_> {
    /// Whether the thread's next instruction is an access that the outcome may say more of.
    pub fn is_judged_next(&self, thread: usize) -> bool {
        let pc = self.cpus[thread].pc;
        let address = self.instruction(thread).address();
        let Some(Place::Data(variable, _)) = address.and_then(|a| self.place(thread, a)) else {
            return false;
        };
        self.layout.classes[variable] == Class::Changing
            && (self.test.threads[thread].handler.is_some()
                || self.loads.contains_key(&(thread, pc))
                || !self.faults_about(thread, variable).is_empty())
    }

    /// The literals about a fault of the thread's next access, which is to that variable.
    fn faults_about(&self, thread: usize, variable: usize) -> Vec<usize> {
        let pc = self.cpus[thread].pc;
        let labels = &self.test.threads[thread].labels;
        let about = |fault: &Fault| {
            let name = fault.variable.as_ref();
            fault.thread == thread
                && fault
                    .label
                    .as_ref()
                    .is_none_or(|label| labels.get(label) == Some(&pc))
                && name.is_none_or(|name| self.layout.number(name) == Some(variable))
        };
        let numbered = self.outcome.iter().enumerate();
        numbered
            .filter(|(_, literal)| matches!(&literal.fact, Fact::Fault(fault) if about(fault)))
            .map(|(n, _)| n)
            .collect()
    }

    /// How an access would end on this machine: in a frame or a fault.
    fn walk(&self, variable: usize, write: bool) -> Result<PhysAddr, FaultKind> {
        let entry = self.entries[variable];
        let attributes = entry.attributes();
        let frame = entry.output(Level::L3).ok_or(FaultKind::Translation)?;
        if !attributes.contains(vmsa::Attributes::AF) {
            return Err(FaultKind::AccessFlag);
        }
        if write && !attributes.is_writable_el1() {
            return Err(FaultKind::Permission);
        }
        Ok(frame)
    }

    /// How an access to a translated variable ends: as it does on this machine, unless the outcome
    /// has it otherwise.
    pub(super) fn translate(
        &mut self,
        thread: usize,
        variable: usize,
        write: bool,
        byte: u64,
        size: u64,
    ) -> Ending {
        let here = self.walk(variable, write);
        let pc = self.cpus[thread].pc;
        let is_changing = self.layout.classes[variable] == Class::Changing;
        let faults = self.faults_about(thread, variable);
        let values = self.loads.get(&(thread, pc)).cloned().unwrap_or_default();
        let anchored = self.cpus[thread].anchored;

        // The outcome says what became of the data, and nothing orders the access: whether the
        // frame was its new owner's alone is the question then.
        let about_data = !values.is_empty() || write && self.is_about_memory(variable);
        if is_changing && self.layout.shared[variable] && about_data && !anchored {
            for n in faults.into_iter().chain(values) {
                self.standings[n] = Standing::About(variable);
            }
            return here.map_or(Ending::Faults, Ending::Reaches);
        }

        let has_choice = is_changing && self.has_choice(thread, &faults);
        let mut deviation = None;
        let mut ending = here.map_or(Ending::Faults, Ending::Reaches);
        if has_choice {
            if self.choose(here.is_ok(), variable) {
                deviation = Some(Deviation::Fault);
                ending = self.other_ending(variable, here.is_ok());
            }
        } else if is_changing {
            let mut wrong = faults.iter().filter(|n| !self.is_so_here(**n, here));
            if let Some(first) = wrong.next() {
                deviation = Some(Deviation::Fault);
                let faults = self.outcome[*first].so || wrong.any(|n| self.outcome[*n].so);
                ending = self.other_ending(variable, faults);
            }
        }
        let reads_as_said = here.is_ok_and(|frame| {
            let value = self.read(frame.as_u64() + byte, size);
            self.suits(thread, pc, value)
        });
        let is_judged_by_value = is_changing && anchored && !values.is_empty();
        if deviation.is_none() && is_judged_by_value && !reads_as_said {
            if here.is_err() && !has_choice {
                ending = self.other_ending(variable, false);
            }
            if matches!(ending, Ending::Reaches(_)) {
                deviation = Some(Deviation::Value);
            }
        }
        let faulted = matches!(ending, Ending::Faults);
        for n in faults {
            self.note_fault(n, here, deviation.is_some(), faulted);
        }
        for n in values {
            self.standings[n] = if deviation.is_some() && !faulted {
                Standing::Judged
            } else if anchored && reads_as_said {
                Standing::So
            } else {
                Standing::About(variable)
            };
        }
        if deviation.is_some() {
            let va = layout::address(variable);
            let access = if write { Access::Write } else { Access::Read };
            self.tell_as(thread, Kind::Access { va, access }, deviation);
        }
        ending
    }

    /// Whether both endings of the thread's next access are to be tried: whoever has a handler may
    /// come back from a fault, and a fault without a label may be any access's.
    fn has_choice(&self, thread: usize, faults: &[usize]) -> bool {
        let code = &self.test.threads[thread];
        let is_handled = code.handler.is_some() && !code.in_handler(self.cpus[thread].pc);
        let any_of_many = |n: &usize| {
            let literal = &self.outcome[*n];
            matches!(&literal.fact, Fact::Fault(f) if f.label.is_none()) && literal.so
        };
        is_handled || faults.iter().any(any_of_many)
    }

    /// Whether a literal about a fault is so if an access ends as it does here.
    fn is_so_here(&self, n: usize, here: Result<PhysAddr, FaultKind>) -> bool {
        let literal = &self.outcome[n];
        let Fact::Fault(fault) = &literal.fact else {
            return true;
        };
        let is_it = here.is_err_and(|kind| fault.kind.is_none_or(|said| said == kind));
        is_it == literal.so
    }

    /// Whether the outcome says what the variable holds in the end.
    fn is_about_memory(&self, variable: usize) -> bool {
        self.outcome.iter().any(|literal| {
            matches!(&literal.fact, Fact::Holds(Location::Variable(name), _)
                if self.layout.number(name) == Some(variable))
        })
    }

    /// The next choice: whether an access deviates, if it can.
    fn choose(&mut self, reaches: bool, variable: usize) -> bool {
        let can = if reaches {
            self.stored[variable]
        } else {
            self.last_valid[variable].is_some()
        };
        if !can || self.chosen == MOST_CHOICES {
            return false;
        }
        if self.chosen == self.choices.len() {
            self.choices.push(false);
        }
        self.chosen += 1;
        self.choices[self.chosen - 1]
    }

    /// The ending that is not this machine's: a fault, or the frame of the last valid entry.
    fn other_ending(&self, variable: usize, faults: bool) -> Ending {
        let stale = self.last_valid[variable].and_then(layout::output);
        match stale {
            Some(frame) if !faults => Ending::Reaches(frame),
            _ => Ending::Faults,
        }
    }

    /// Notes what an access that ended says of a literal about its fault.
    fn note_fault(
        &mut self,
        n: usize,
        here: Result<PhysAddr, FaultKind>,
        deviates: bool,
        faulted: bool,
    ) {
        let Fact::Fault(fault) = &self.outcome[n].fact else {
            return;
        };
        let so = self.outcome[n].so;
        // A fault that would not be one here may be of any kind.
        let kind = here.err().filter(|_| !deviates || !faulted);
        let is_it = faulted && (kind.is_none() || fault.kind.is_none_or(|said| Some(said) == kind));
        self.standings[n] = match (self.standings[n], so, is_it) {
            (Standing::NotSo, false, _) | (_, false, true) => Standing::NotSo,
            (Standing::So | Standing::Judged, ..) => self.standings[n],
            (_, true, false) => Standing::Open,
            _ if deviates => Standing::Judged,
            _ => Standing::So,
        };
    }
}
