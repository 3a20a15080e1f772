//! What the outcome says of the values of loads, and whether a run has ended as it says.

use super::super::condition::{Fact, Fault};
use super::super::instruction::Instruction;
use super::super::layout::{self, Class};
use super::super::register::Source;
use super::super::state::{Location, Value};
use super::super::text::{Read, Unsupported};
use super::{Machine, Standing, wide};

impl Machine<'_> {
    /// Finds the loads that the outcome says the value of: the last of the thread's that go to
    /// that register, where nothing else goes there later.
    pub(super) fn find_loads(&mut self) -> Read<()> {
        for (n, literal) in self.outcome.iter().enumerate() {
            let (thread, register) = match &literal.fact {
                Fact::Holds(Location::Register { thread, register }, _) => {
                    (*thread, Some(*register))
                }
                Fact::Fault(fault) => (fault.thread, None),
                Fact::Holds(..) => continue,
            };
            let code = self
                .test
                .threads
                .get(thread)
                .ok_or_else(|| Unsupported::at(0, format!("there is no P{thread}")))?;
            if let Fact::Fault(Fault {
                label: Some(label), ..
            }) = &literal.fact
                && !code.labels.contains_key(label)
            {
                return Err(Unsupported::at(
                    0,
                    format!("P{thread} has no label '{label}'"),
                ));
            }
            let last = code.code.iter().rposition(|(_, instruction)| {
                register.is_some() && instruction.writes().map(|to| to.index) == register
            });
            if let Some(pc) = last
                && matches!(
                    code.code[pc].1,
                    Instruction::Load { .. } | Instruction::Atomic { .. }
                )
            {
                self.loads.entry((thread, pc)).or_default().push(n);
            }
        }
        Ok(())
    }

    /// Whether a value is what the outcome says that this load read.
    pub fn suits(&self, thread: usize, pc: usize, value: u64) -> bool {
        let literals = self.loads.get(&(thread, pc));
        literals.into_iter().flatten().all(|n| {
            let literal = &self.outcome[*n];
            match &literal.fact {
                Fact::Holds(_, said) => self.is(said, value) == literal.so,
                Fact::Fault(_) => true,
            }
        })
    }

    fn is(&self, said: &Value, value: u64) -> bool {
        let Ok(said) = self.layout.bits(said, 0) else {
            return false;
        };
        // herd7 prints an int with its sign.
        let int = u32::try_from(value).is_ok_and(|value| value == said as u32);
        said == value || int && said.cast_signed() == i64::from(said as u32 as i32)
    }

    /// The loads of a thread whose value the outcome says and that are yet to come.
    pub fn loads_to_come(&self, thread: usize) -> impl Iterator<Item = usize> {
        let pc = self.cpus[thread].pc;
        let from_here = self.loads.range((thread, pc)..(thread + 1, 0));
        from_here
            .map(|((_, pc), _)| *pc)
            .filter(move |pc| !self.loaded.contains(&(thread, *pc)))
    }

    /// Looks at what is left open when all threads are through.
    pub fn finish(&mut self) {
        for n in 0..self.outcome.len() {
            let literal = &self.outcome[n];
            let decided = |so: bool| {
                if so == literal.so {
                    Standing::So
                } else {
                    Standing::NotSo
                }
            };
            let standing = match (&literal.fact, self.standings[n]) {
                (Fact::Holds(Location::Register { thread, register }, said), standing) => {
                    let word = self.cpus[*thread].registers.get(wide(*register));
                    match standing {
                        Standing::Open if word.from.contains(&Source::Data) => continue,
                        Standing::Open => decided(self.is(said, word.value)),
                        _ => continue,
                    }
                }
                (Fact::Holds(Location::Variable(name), said), _) => {
                    let variable = self.layout.number(name).unwrap_or_default();
                    let frame = layout::frame(variable).as_u64();
                    let so = [4, 8]
                        .iter()
                        .any(|size| self.is(said, self.read(frame, *size)));
                    match self.layout.classes[variable] {
                        Class::Synchronising => decided(so),
                        _ => Standing::About(variable),
                    }
                }
                (Fact::Holds(Location::Entry(name), said), _) => {
                    let variable = self.layout.number(name).unwrap_or_default();
                    decided(self.is(said, self.entries[variable].bits()))
                }
                // An access that was never made did not fault.
                (Fact::Fault(_), Standing::Open) => decided(false),
                (Fact::Fault(_), _) => continue,
            };
            self.standings[n] = standing;
        }
    }

    /// Whether a rule of the oracle decides what becomes of data behind that variable's
    /// translation: its frame has a new owner, or it has had two.
    pub fn is_decided(&self, variable: usize) -> bool {
        self.mapped[variable].len() > 1
            || self.mapped[variable]
                .iter()
                .any(|frame| self.owned.contains(frame))
    }
}
