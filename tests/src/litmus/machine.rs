//! The machine that a litmus test runs on: one instruction at a time, memory as the last store
//! left it, and every step told as the oracle's events.
//!
//! Such a machine shows none of the outcomes that the tests ask about. So an access that the
//! outcome says more of is made to end as the outcome has it, and where that is not how it would
//! have ended here (a *deviation*), it is the oracle that must say whether that could be.

mod memory;
mod outcome;
mod translate;

use super::condition::Outcome;
use super::instruction::{Instruction, Register};
use super::layout::{self, Class, Layout, Place};
use super::register::{Registers, Source, Word};
use super::state::Location;
use super::test::Test;
use super::text::{Read, Unsupported};
use mmu_oracle::event::{Entry, SyncAccess, Tlbi};
use mmu_oracle::{Event, Kind};
use std::collections::{BTreeMap, BTreeSet};
use vmsa::{Descriptor, Level, PhysAddr};

/// An event of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The event.
    pub event: Event,
    /// Whether it is an access that deviates.
    pub deviates: Option<Deviation>,
}

/// An access that ended as the outcome has it, and not as this machine would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deviation {
    /// It faulted, or it did not.
    Fault,
    /// It read what is no longer there.
    Value,
}

/// What has become of a literal of the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is to be looked at when the run is over.
    Open,
    /// It is so, on this machine.
    So,
    /// It is not so, and can't be.
    NotSo,
    /// It is so because an access deviated.
    Judged,
    /// It is about data behind the translation of this variable, which is not followed.
    About(usize),
}

/// One thread's CPU.
#[derive(Clone, Debug, Default)]
pub struct Cpu {
    /// The next instruction.
    pub pc: usize,
    registers: Registers,
    /// Where ERET goes.
    return_to: Option<usize>,
    /// What LDXR read from, until somebody writes there.
    monitor: Option<Place>,
    /// How often it has read each synchronisation variable.
    reads: BTreeMap<usize, u64>,
    /// Whether what it reads from here on can be told from what it read before: it has stored an
    /// entry, or read what the outcome says it read.
    anchored: bool,
}

/// What a step did to the order of the threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepped {
    /// Nothing.
    On,
    /// It went back: it may wait for another thread.
    Back,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Machine<'t> {
    test: &'t Test,
    layout: &'t Layout,
    outcome: &'t Outcome,
    /// By thread.
    pub cpus: Vec<Cpu>,
    bytes: BTreeMap<u64, u8>,
    entries: Vec<Descriptor>,
    /// By variable: its last valid entry.
    last_valid: Vec<Option<Descriptor>>,
    /// By variable: whether its entry has been stored.
    stored: Vec<bool>,
    /// By variable: every frame that it has mapped.
    mapped: Vec<BTreeSet<PhysAddr>>,
    /// The frames that their owners have written, or looked at.
    owned: BTreeSet<PhysAddr>,
    /// The loads that the outcome says the value of: the literals, by thread and place in it.
    loads: BTreeMap<(usize, usize), Vec<usize>>,
    /// Those of them that have been done.
    loaded: BTreeSet<(usize, usize)>,
    /// By literal.
    pub standings: Vec<Standing>,
    /// How accesses with more than one possible ending are to end: whether they deviate.
    choices: Vec<bool>,
    chosen: usize,
    /// What has happened.
    pub told: Vec<Told>,
}

impl<'t> Machine<'t> {
    /// The machine before the first instruction.
    ///
    /// # Errors
    /// If the initial state has no counterpart.
    pub fn new(
        test: &'t Test,
        layout: &'t Layout,
        outcome: &'t Outcome,
        choices: Vec<bool>,
    ) -> Read<Self> {
        let entries = layout.entries.clone();
        let valid = |entry: &Descriptor| entry.is_valid().then_some(*entry);
        let mapped =
            |entry: &Descriptor| valid(entry).and_then(layout::output).into_iter().collect();
        let mut machine = Self {
            test,
            layout,
            outcome,
            cpus: vec![Cpu::default(); test.threads.len()],
            bytes: BTreeMap::new(),
            last_valid: entries.iter().map(valid).collect(),
            stored: vec![false; entries.len()],
            mapped: entries.iter().map(mapped).collect(),
            entries,
            owned: BTreeSet::new(),
            loads: BTreeMap::new(),
            loaded: BTreeSet::new(),
            standings: vec![Standing::Open; outcome.len()],
            choices,
            chosen: 0,
            told: Vec::new(),
        };
        machine.bind()?;
        machine.find_loads()?;
        for thread in 0..machine.cpus.len() {
            machine.tell(thread, Kind::Online);
        }
        for variable in 0..machine.entries.len() {
            if layout.classes[variable] != Class::Synchronising {
                let entry = machine.entry(variable, machine.entries[variable]);
                machine.tell(0, Kind::Snapshot(entry));
            }
        }
        Ok(machine)
    }

    /// Gives everything its first value.
    fn bind(&mut self) -> Read<()> {
        for binding in &self.test.initial {
            match &binding.location {
                Location::Register { thread, register } => {
                    let value = self.layout.bits(&binding.value, binding.line)?;
                    let cpu = self.cpus.get_mut(*thread).ok_or_else(|| {
                        Unsupported::at(binding.line, format!("there is no P{thread}"))
                    })?;
                    let word = Word {
                        value,
                        ..Word::default()
                    };
                    cpu.registers.set(wide(*register), word);
                }
                Location::Variable(name) => {
                    let value = self.layout.bits(&binding.value, binding.line)?;
                    let variable = self.layout.number(name).unwrap_or_default();
                    self.write(layout::frame(variable).as_u64(), 8, value);
                }
                Location::Entry(_) => {}
            }
        }
        Ok(())
    }

    /// The instruction that the thread is at.
    pub fn instruction(&self, thread: usize) -> &'t Instruction {
        let pc = self.cpus[thread].pc;
        self.test.threads[thread]
            .code
            .get(pc)
            .map_or(&Instruction::End, |(_, instruction)| instruction)
    }

    fn line(&self, thread: usize) -> usize {
        let pc = self.cpus[thread].pc;
        self.test.threads[thread]
            .code
            .get(pc)
            .map_or(0, |(line, _)| *line)
    }

    fn unsupported(&self, thread: usize, why: &str) -> Unsupported {
        Unsupported::at(self.line(thread), why)
    }

    fn tell(&mut self, thread: usize, kind: Kind) {
        self.tell_as(thread, kind, None);
    }

    fn tell_as(&mut self, thread: usize, kind: Kind, deviates: Option<Deviation>) {
        let event = Event {
            time: self.told.len() as u64,
            cpu: u8::try_from(thread).unwrap_or(u8::MAX),
            task: u32::try_from(thread).unwrap_or(u32::MAX),
            kind,
        };
        self.told.push(Told { event, deviates });
    }

    fn entry(&self, variable: usize, value: Descriptor) -> Entry {
        Entry {
            address: layout::entry_address(variable),
            va: layout::address(variable),
            level: Level::L3,
            space: 0,
            value,
        }
    }

    /// Executes the thread's next instruction.
    ///
    /// # Errors
    /// If it does what has no counterpart.
    pub fn step(&mut self, thread: usize) -> Read<Stepped> {
        let instruction = self.instruction(thread);
        let pc = self.cpus[thread].pc;
        match instruction {
            Instruction::Nop | Instruction::End => {}
            Instruction::Move(to, operand) => {
                let word = self.cpus[thread].registers.operand(*operand);
                self.cpus[thread].registers.set(*to, word);
            }
            Instruction::MoveKeep(to, value, shift) => {
                let mut word = self.cpus[thread].registers.get(*to);
                word.value = word.value & !(0xFFFF << shift) | value << shift;
                self.cpus[thread].registers.set(*to, word);
            }
            Instruction::Compute(operation, to, left, right, flags) => {
                let registers = &mut self.cpus[thread].registers;
                registers.compute(*operation, *to, *left, *right, *flags);
            }
            Instruction::Extract(to, from, first, width) => {
                let mut word = self.cpus[thread].registers.get(*from);
                word.value = word.value >> first & u64::MAX >> (64 - width);
                self.cpus[thread].registers.set(*to, word);
            }
            Instruction::Branch(when, label) => {
                let (taken, from) = self.cpus[thread].registers.taken(*when);
                self.tell_branch(thread, &from);
                let target = self.test.threads[thread].labels[label];
                self.cpus[thread].pc = if taken { target } else { pc + 1 };
                return Ok(if taken && target <= pc {
                    Stepped::Back
                } else {
                    Stepped::On
                });
            }
            Instruction::Barrier(barrier) => self.tell(thread, Kind::Barrier(*barrier)),
            Instruction::Tlbi {
                scope,
                last_level,
                broadcast,
                operand,
            } => {
                let operand = self.cpus[thread].registers.get(*operand).value;
                let tlbi = Tlbi {
                    scope: *scope,
                    last_level: *last_level,
                    broadcast: *broadcast,
                    operand,
                };
                self.tell(thread, Kind::Tlbi(tlbi));
            }
            Instruction::Call => {
                self.take_exception(thread, pc + 1)?;
                return Ok(Stepped::On);
            }
            Instruction::Return => {
                let to = self.cpus[thread].return_to.take();
                let to = to.ok_or_else(|| self.unsupported(thread, "ERET outside of a handler"))?;
                self.tell(thread, Kind::ExceptionReturn { to_el0: false });
                self.cpus[thread].pc = to;
                return Ok(Stepped::Back);
            }
            Instruction::Load { address, .. }
            | Instruction::Store { address, .. }
            | Instruction::Atomic { address, .. } => {
                let place = self
                    .place(thread, *address)
                    .ok_or_else(|| self.unsupported(thread, "an access to nothing known"))?;
                if !self.access(thread, place, instruction)? {
                    return Ok(Stepped::On);
                }
            }
        }
        self.cpus[thread].pc = pc + 1;
        Ok(Stepped::On)
    }

    /// Tells of a branch by what it depends on. An earlier read of the variable than the last
    /// is left out: the event would be taken to be about the last.
    fn tell_branch(&mut self, thread: usize, from: &BTreeSet<Source>) {
        for source in from {
            if let Source::Read(variable, n) = source
                && self.cpus[thread].reads.get(variable) == Some(n)
            {
                self.tell_sync(thread, *variable, SyncAccess::Branch);
            }
        }
    }

    fn tell_sync(&mut self, thread: usize, variable: usize, access: SyncAccess) {
        let variable = layout::address(variable).as_u64();
        self.tell(thread, Kind::Sync { variable, access });
    }

    fn take_exception(&mut self, thread: usize, return_to: usize) -> Read<()> {
        let handler = self.test.threads[thread].handler;
        let cpu = &self.cpus[thread];
        let handler = handler
            .filter(|_| !self.test.threads[thread].in_handler(cpu.pc))
            .ok_or_else(|| self.unsupported(thread, "an exception in a handler"))?;
        self.tell(thread, Kind::ExceptionEntry);
        self.cpus[thread].return_to = Some(return_to);
        self.cpus[thread].pc = handler;
        Ok(())
    }

    /// The choices of this run, as far as they were asked for.
    pub fn choices(&self) -> &[bool] {
        &self.choices[..self.chosen]
    }

    /// Whether the thread has no instruction left.
    pub fn is_over(&self, thread: usize) -> bool {
        matches!(self.instruction(thread), Instruction::End)
    }
}

/// All 64 bits of a register.
const fn wide(index: u8) -> Register {
    Register { index, wide: true }
}
