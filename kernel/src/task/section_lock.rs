//! What a task holds while it has a lazy section open, so that others are kept out: data alone.
//! `mm::lazy` takes it and gives it back.

use crate::arch::backtrace::Frame;
use core::cell::Cell;

/// How many frames are noted: the call that opens a section is a few functions deep, those that
/// the compiler has left apart, and they have returned by the time that a report is made.
pub const FRAMES: usize = 6;

/// What is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Held {
    /// Nothing.
    #[default]
    Nothing,
    /// The lock of all kernel page tables, and with it the CPU.
    Lock,
    /// The CPU: preemption is disabled.
    Preemption,
}

/// What a task holds, and for how many of its sections. It is the task's own record that decides
/// what is given back, not what is chosen by then.
#[derive(Debug, Default)]
pub struct SectionLock {
    /// What the outermost section took.
    pub held: Cell<Held>,
    /// Sections that have been opened since, with that one. 0 where nothing is held.
    pub sections: Cell<u32>,
    /// The lazy MMU mode of a CPU was entered for it.
    pub on_cpu: Cell<bool>,
    /// And it may not leave that CPU: preemption was disabled for it.
    pub keeps_cpu: Cell<bool>,
    /// Who led to that one, the nearest first.
    pub opened_by: Cell<[Option<Frame>; FRAMES]>,
}

impl SectionLock {
    /// Nothing is held.
    pub const fn new() -> Self {
        Self {
            held: Cell::new(Held::Nothing),
            sections: Cell::new(0),
            on_cpu: Cell::new(false),
            keeps_cpu: Cell::new(false),
            opened_by: Cell::new([None; FRAMES]),
        }
    }

    /// Whether anything is held.
    #[inline]
    pub fn is_held(&self) -> bool {
        self.sections.get() != 0 || self.on_cpu.get()
    }
}
