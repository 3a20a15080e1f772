//! Loads, stores and atomic instructions: to entries, to synchronisation variables, and to data
//! behind the translations that the test is about.

use super::super::instruction::{Address, Instruction, Update};
use super::super::layout::{self, Class, Place};
use super::super::register::{Source, Word, updated};
use super::super::text::Read;
use super::Machine;
use super::translate::Ending;
use mmu_oracle::Kind;
use mmu_oracle::event::{Frames, SyncAccess};
use std::collections::BTreeSet;
use vmsa::{Descriptor, PhysAddr};

impl Machine<'_> {
    pub(super) fn read(&self, at: u64, size: u64) -> u64 {
        (0..size)
            .map(|n| u64::from(self.bytes.get(&(at + n)).copied().unwrap_or(0)) << (8 * n))
            .sum()
    }

    pub(super) fn write(&mut self, at: u64, size: u64, value: u64) {
        for n in 0..size {
            self.bytes.insert(at + n, (value >> (8 * n)) as u8);
        }
    }

    /// What the address of an access leads to.
    pub fn place(&self, thread: usize, address: Address) -> Option<Place> {
        let registers = &self.cpus[thread].registers;
        let base = registers.get(address.base).value;
        let offset = registers.operand(address.offset).value;
        self.layout.place(base.wrapping_add(offset))
    }

    /// Where a place is in memory that no translation of the test leads to.
    fn untranslated(&self, place: Place) -> Option<u64> {
        match place {
            Place::Data(variable, byte)
                if self.layout.classes[variable] == Class::Synchronising =>
            {
                Some(layout::frame(variable).as_u64() + byte)
            }
            _ => None,
        }
    }

    /// What an access to a synchronisation variable or an entry would read now.
    pub fn current(&self, place: Place, size: u64) -> Option<u64> {
        match place {
            Place::Entry(variable) => Some(self.entries[variable].bits()),
            Place::Data(..) => Some(self.read(self.untranslated(place)?, size)),
        }
    }

    /// The address, size of a load or atomic instruction.
    pub fn load_at(&self, thread: usize, pc: usize) -> Option<(Place, u64)> {
        let (_, instruction) = self.test.threads[thread].code.get(pc)?;
        let place = self.place(thread, instruction.address()?)?;
        match instruction {
            Instruction::Load { size, .. } | Instruction::Atomic { size, .. } => {
                Some((place, *size))
            }
            _ => None,
        }
    }

    /// What the thread's next instruction would write to a synchronisation variable or an entry.
    pub fn about_to_write(&self, thread: usize) -> Option<(Place, u64)> {
        let instruction = self.instruction(thread);
        let place = self.place(thread, instruction.address()?)?;
        let registers = &self.cpus[thread].registers;
        match instruction {
            Instruction::Store { from, .. } => Some((place, registers.get(*from).value)),
            Instruction::Atomic {
                update,
                operand,
                new,
                size,
                ..
            } => {
                let old = self.current(place, *size)?;
                let (operand, new) = (registers.get(*operand).value, registers.get(*new).value);
                Some((place, updated(*update, old, operand, new, *size)?))
            }
            _ => None,
        }
    }

    /// Does a load, store or atomic instruction; false if it was an exception instead.
    pub(super) fn access(
        &mut self,
        thread: usize,
        place: Place,
        instruction: &Instruction,
    ) -> Read<bool> {
        let pc = self.cpus[thread].pc;
        let size = match instruction {
            Instruction::Load { size, .. }
            | Instruction::Store { size, .. }
            | Instruction::Atomic { size, .. } => *size,
            _ => return Ok(true),
        };
        // An exclusive store that has lost its monitor does nothing at all.
        if let Instruction::Store {
            status: Some(status),
            ..
        } = instruction
        {
            let held = self.cpus[thread].monitor.take() == Some(place);
            let word = Word {
                value: u64::from(!held),
                ..Word::default()
            };
            self.cpus[thread].registers.set(*status, word);
            if !held {
                return Ok(true);
            }
        }
        if let Instruction::Load {
            exclusive: true, ..
        } = instruction
        {
            self.cpus[thread].monitor = Some(place);
        }
        match place {
            Place::Entry(_) if size != 8 => {
                return Err(self.unsupported(thread, "a part of an entry is accessed"));
            }
            Place::Entry(variable) => self.access_entry(thread, variable, instruction),
            Place::Data(variable, byte)
                if self.layout.classes[variable] == Class::Synchronising =>
            {
                self.access_synchronising(thread, variable, byte, instruction, size);
            }
            Place::Data(variable, byte) => {
                let write = !matches!(instruction, Instruction::Load { .. });
                match self.translate(thread, variable, write, byte, size) {
                    Ending::Reaches(frame) => {
                        self.access_frame(thread, variable, frame, byte, instruction, size);
                    }
                    Ending::Faults if self.test.threads[thread].handler.is_some() => {
                        self.take_exception(thread, pc)?;
                        return Ok(false);
                    }
                    // Nobody is there to take it: the access is skipped.
                    Ending::Faults => {}
                }
            }
        }
        Ok(true)
    }

    /// The old value, and what is there afterwards if something is written.
    fn exchange(
        &mut self,
        thread: usize,
        instruction: &Instruction,
        old: u64,
        size: u64,
        from: BTreeSet<Source>,
    ) -> Option<u64> {
        let registers = &mut self.cpus[thread].registers;
        let read = Word { value: old, from };
        match instruction {
            Instruction::Load { to, .. } => {
                registers.set(*to, read);
                None
            }
            Instruction::Store { from, .. } => Some(registers.get(*from).value),
            Instruction::Atomic {
                update,
                operand,
                new,
                to,
                ..
            } => {
                let (operand, new) = (registers.get(*operand).value, registers.get(*new).value);
                registers.set(*to, read);
                updated(*update, old, operand, new, size)
            }
            _ => None,
        }
    }

    /// A thread has written there: whoever had read it for an exclusive store has lost it.
    fn written(&mut self, thread: usize, place: Place) {
        for (other, cpu) in self.cpus.iter_mut().enumerate() {
            if other != thread && cpu.monitor == Some(place) {
                cpu.monitor = None;
            }
        }
    }

    /// Notes that a load whose value the outcome says has been done.
    fn note_load(&mut self, thread: usize) {
        let at = (thread, self.cpus[thread].pc);
        if self.loads.contains_key(&at) {
            self.loaded.insert(at);
            self.cpus[thread].anchored = true;
        }
    }

    fn access_entry(&mut self, thread: usize, variable: usize, instruction: &Instruction) {
        let old = self.entries[variable];
        if !matches!(instruction, Instruction::Store { .. }) {
            let entry = self.entry(variable, old);
            self.tell(thread, Kind::EntryRead(entry));
            self.note_load(thread);
        }
        let new = self.exchange(thread, instruction, old.bits(), 8, BTreeSet::new());
        let Some(new) = new.map(Descriptor::from_bits) else {
            return;
        };
        self.entries[variable] = new;
        self.stored[variable] = true;
        self.cpus[thread].anchored = true;
        if new.is_valid() {
            self.last_valid[variable] = Some(new);
            self.mapped[variable].extend(layout::output(new));
        }
        let entry = self.entry(variable, new);
        self.tell(thread, Kind::Store { entry, old });
        self.written(thread, Place::Entry(variable));
    }

    fn access_synchronising(
        &mut self,
        thread: usize,
        variable: usize,
        byte: u64,
        instruction: &Instruction,
        size: u64,
    ) {
        let at = layout::frame(variable).as_u64() + byte;
        let old = self.read(at, size);
        let reads = !matches!(instruction, Instruction::Store { .. });
        let mut from = BTreeSet::new();
        if reads {
            let n = self.cpus[thread].reads.entry(variable).or_default();
            *n += 1;
            from.insert(Source::Read(variable, *n));
            self.note_load(thread);
        }
        let new = self.exchange(thread, instruction, old, size, from);
        let access = match (instruction, new) {
            (Instruction::Load { acquire, .. }, _) => SyncAccess::Read { acquire: *acquire },
            (
                Instruction::Store {
                    release, status, ..
                },
                _,
            ) => match status {
                None => SyncAccess::Write { release: *release },
                // Its read was an event of its own, when it was done.
                Some(_) => SyncAccess::ReadModifyWrite {
                    acquire: false,
                    release: *release,
                },
            },
            // What it read goes nowhere: no barrier that speaks of loads means it (DDI 0487, B2.3,
            // "Barrier-ordered-before": without the NoRet effects).
            (
                Instruction::Atomic {
                    update,
                    to,
                    release,
                    ..
                },
                Some(_),
            ) if to.is_zero() && *update != Update::CompareAndSwap => {
                SyncAccess::Write { release: *release }
            }
            (
                Instruction::Atomic {
                    acquire, release, ..
                },
                Some(_),
            ) => SyncAccess::ReadModifyWrite {
                acquire: *acquire,
                release: *release,
            },
            (Instruction::Atomic { acquire, .. }, None) => SyncAccess::Read { acquire: *acquire },
            _ => return,
        };
        self.tell_sync(thread, variable, access);
        if let Some(new) = new {
            self.write(at, size, new);
            self.written(thread, Place::Data(variable, byte));
        }
    }

    fn access_frame(
        &mut self,
        thread: usize,
        variable: usize,
        frame: PhysAddr,
        byte: u64,
        instruction: &Instruction,
        size: u64,
    ) {
        let at = frame.as_u64() + byte;
        let old = self.read(at, size);
        let new = self.exchange(thread, instruction, old, size, [Source::Data].into());
        // Only the current owner comes by here with a translation that holds.
        let holds = layout::output(self.entries[variable]) == Some(frame)
            && self.entries[variable].is_valid();
        let others = |other: usize| {
            other != variable
                && self.layout.classes[other] == Class::Changing
                && (self.mapped[other].contains(&frame))
        };
        let is_owner = holds && (0..self.entries.len()).any(others);
        if let Some(new) = new {
            if is_owner {
                self.owned.insert(frame);
                self.tell(thread, Kind::FrameWritten(frame));
            }
            self.write(at, size, new);
            self.written(thread, Place::Data(variable, byte));
        } else if is_owner
            && self.layout.classes[variable] == Class::Mapped
            && self.loads.contains_key(&(thread, self.cpus[thread].pc))
        {
            // What its owner reads must be what its owner wrote.
            self.owned.insert(frame);
            let frames = Frames {
                first: frame,
                count: 1,
            };
            self.tell(thread, Kind::FramesAllocated(frames));
        }
    }
}
