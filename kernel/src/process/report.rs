//! The report of a program that was stopped: what it did, where, what the CPU said of it, and what
//! is at the address in question. The kernel goes on, so a report is one piece of text, printed
//! while the program's address space is still there to be looked at.

use super::{copy, load::GUARD, outcome::Reason};
use crate::{
    arch::{cpu, fault::Fault, frame::ExceptionFrame, uart::REPORT},
    mm::address_space::AddressSpace,
    oops::{Registers, TableWalk},
    task,
};
use core::fmt;
use vmsa::VirtAddr;

/// A program that is being stopped.
#[derive(Debug)]
pub(super) struct Stopped<'a> {
    /// Its number.
    pub(super) number: u64,
    /// That of the one that it is a copy of.
    pub(super) copy_of: Option<u64>,
    /// What it does.
    pub(super) name: &'static str,
    /// Its memory; it is the running task's.
    pub(super) space: &'a AddressSpace,
    /// Its registers.
    pub(super) frame: &'a ExceptionFrame,
    /// What it did.
    pub(super) reason: Reason,
}

/// Prints the report.
pub(super) fn print(program: &Stopped<'_>) {
    // The instruction is read before the console is taken: the page may have to be fetched first.
    let instruction = instruction(program);
    log::error!(target: REPORT, "{}", Report { program, instruction });
}

/// The word at PC, if the program could read it.
fn instruction(program: &Stopped<'_>) -> Option<u32> {
    let mut word = [0; 4];
    let place = copy::range(program.frame.elr(), word.len() as u64).ok()?;
    copy::from_user(program.space, &mut word, place).ok()?;
    Some(u32::from_le_bytes(word))
}

struct Report<'a> {
    program: &'a Stopped<'a>,
    instruction: Option<u32>,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = self.program;
        let Stopped { frame, reason, .. } = program;
        let id = task::current().id;
        write!(f, "Program {} ({}, ", program.number, program.name)?;
        if let Some(number) = program.copy_of {
            write!(f, "copy of {number}, ")?;
        }
        let cpu = cpu::id();
        write!(f, "task {id}, CPU {cpu}) stopped: {reason}")?;
        self.place(f, "PC", frame.elr())?;
        match self.instruction {
            Some(word) => write!(f, "\n  instruction {word:08x}{}", Kind(word))?,
            None => write!(f, "\n  no instruction can be read there")?,
        }
        // Of an interrupt, ESR_EL1 says nothing.
        if *reason != Reason::TimeLimit {
            write!(f, "\n  ESR = {}", frame.esr())?;
        }
        let address = match *reason {
            Reason::BadPointer(bad) => Some(bad.address),
            _ => Fault::of_el0(frame).map(|fault| fault.address_bits()),
        };
        if let Some(address) = address {
            self.place(f, "address", address)?;
        }
        self.place(f, "SP", frame.sp())?;
        // Whoever has made the copy is told, and knows what it was to do.
        if program.copy_of.is_some() {
            return Ok(());
        }
        f.write_str("\n")?;
        let walked = address.and_then(VirtAddr::new);
        if let Some(va) = walked.filter(|va| !va.is_upper()) {
            write!(f, "{}", TableWalk(va))?;
        }
        write!(f, "{}", Registers(frame))
    }
}

impl Report<'_> {
    /// Where an address is: a line.
    fn place(&self, f: &mut fmt::Formatter<'_>, name: &str, address: u64) -> fmt::Result {
        write!(f, "\n  {name} {address:016x}: ")?;
        let va = match VirtAddr::new(address) {
            Some(va) if va.is_upper() => return f.write_str("in the kernel's half"),
            Some(va) => va,
            None => return f.write_str("in neither half"),
        };
        match self.program.space.region_of(va) {
            _ if GUARD.contains(va) => f.write_str("in the guard page below the stack"),
            Some((pages, protection)) => {
                let (start, last) = (pages.start(), pages.last_byte());
                write!(f, "in {start:016x}-{last:016x} {protection}")
            }
            None => f.write_str("nothing is mapped there"),
        }
    }
}

/// What kind of instruction it is, where that is a reason to stop.
struct Kind(u32);

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // DDI 0487, C4.1: the classes "System register move", "System instructions", "Exception
        // generation" and "Reserved" (UDF).
        f.write_str(match self.0 {
            word if word >> 20 == 0xd53 || word >> 20 == 0xd51 => ", MRS or MSR",
            word if word >> 19 == 0xd508 >> 3 || word >> 19 == 0xd528 >> 3 => {
                ", a system instruction"
            }
            word if word >> 21 == 0xd40 >> 1 => ", SVC, HVC, SMC, BRK or HLT",
            word if word >> 16 == 0 => ", UDF",
            _ => "",
        })
    }
}
