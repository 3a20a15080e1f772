//! A program as a value: how it begins, what its exceptions lead to, its end.

use super::{
    abi::Case,
    copy, load,
    outcome::{Outcome, Reason},
    report::{self, Stopped},
    running::{self, Children, Running},
};
use crate::{
    arch::{
        el0::{self, Exit},
        fault::Fault,
        frame::ExceptionFrame,
        time,
    },
    mm::address_space::{Access, AddressSpace, Error, Protection},
};
use core::{
    ops::ControlFlow,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};
use vmsa::{VirtAddr, esr::ExceptionClass};

/// The program, as the build script has linked it.
static FILE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/user.elf"));

/// A program. It belongs to the task that runs it.
#[derive(Debug)]
pub(super) struct Program {
    /// Its number, for people and for the program that it is a copy of.
    pub(super) number: u64,
    /// That of the one that it is a copy of, if it is one.
    copy_of: Option<u64>,
    /// What it does, for people.
    name: &'static str,
    pub(super) space: AddressSpace,
    /// Its registers while it does not run.
    pub(super) frame: ExceptionFrame,
    /// When its time is over, in ticks.
    deadline: u64,
    /// Its copies that it has not waited for.
    pub(super) children: Children,
}

impl Program {
    /// Maps the file and a stack in the address space of the running task, which is to be the
    /// program's and empty, and writes the file there. The program will find `case` in x0 and zero
    /// in every other register.
    ///
    /// # Errors
    /// How it has ended before it began.
    fn load(&mut self, file: &[u8], case: u64) -> Result<(), Outcome> {
        let file = load::File::read(file).map_err(Outcome::BadFile)?;
        let no_memory = |_| Outcome::NoMemory;
        let data = Protection::READ | Protection::WRITE;
        for segment in file.segments() {
            self.space.map(segment.pages, data).map_err(no_memory)?;
            let place = copy::range(segment.start.as_u64(), segment.bytes.len() as u64);
            place
                .and_then(|place| copy::to_user(&self.space, place, segment.bytes))
                .map_err(|_| Outcome::NoMemory)?;
            // What was written is published before anything may execute it: `protect` sees to it.
            self.space
                .protect(segment.pages, segment.protection)
                .map_err(no_memory)?;
        }
        self.space.map(load::STACK, data).map_err(no_memory)?;
        let top = load::STACK.last_byte() + 1;
        self.frame = ExceptionFrame::el0(file.entry, top);
        self.frame.x[0] = case;
        Ok(())
    }

    /// Runs it to its end, however that comes about.
    fn run(&mut self) -> Outcome {
        loop {
            let deadline = self.deadline;
            let next = match el0::run(&mut self.frame, || time::now() < deadline) {
                Exit::Exception => self.exception(),
                Exit::Stopped => self.stop(Reason::TimeLimit),
            };
            if let ControlFlow::Break(outcome) = next {
                return outcome;
            }
        }
    }

    /// Sees to the exception that EL0 has taken.
    fn exception(&mut self) -> ControlFlow<Outcome> {
        if let Some(fault) = Fault::of_el0(&self.frame) {
            return self.fault(&fault);
        }
        let esr = self.frame.esr();
        let reason = match esr.ec() {
            ExceptionClass::SvcAarch64 => return self.system_call(),
            ExceptionClass::Unknown => Reason::Undefined,
            ExceptionClass::SystemRegister | ExceptionClass::Wfx => Reason::Trapped,
            ExceptionClass::BrkAarch64 => {
                Reason::Breakpoint(esr.brk_immediate().unwrap_or_default())
            }
            ExceptionClass::FpAsimd => Reason::FloatingPoint,
            ExceptionClass::PcAlignment => Reason::MisalignedPc,
            ExceptionClass::SpAlignment => Reason::MisalignedSp,
            _ => Reason::Other,
        };
        self.stop(reason)
    }

    /// Sees to an abort of EL0: the access is tried again, or was its last.
    fn fault(&mut self, fault: &Fault) -> ControlFlow<Outcome> {
        let access = match (fault.is_fetch(), fault.is_write()) {
            (true, _) => Access::Execute,
            (_, true) => Access::Write,
            _ => Access::Read,
        };
        match copy::resolve(&self.space, fault, access) {
            // The ERET is the context synchronisation event that the retry needs.
            Ok(()) => ControlFlow::Continue(()),
            Err(refusal) => self.stop(Reason::Access(access, refusal)),
        }
    }

    /// Ends it because of what it did, with a report.
    pub(super) fn stop(&self, reason: Reason) -> ControlFlow<Outcome> {
        report::print(&Stopped {
            number: self.number,
            copy_of: self.copy_of,
            name: self.name,
            space: &self.space,
            frame: &self.frame,
            reason,
        });
        ControlFlow::Break(Outcome::Stopped(reason))
    }

    /// Starts a copy, which differs from it in x0 alone; returns the copy's number. The copy's time
    /// is over when its own is.
    ///
    /// # Errors
    /// [`Error`]; there is no copy.
    pub(super) fn fork(&mut self) -> Result<u64, Error> {
        // Before the copy runs: it can't be taken back then.
        self.children.reserve()?;
        let number = new_number();
        let mut copy = Self {
            number,
            copy_of: Some(self.number),
            name: self.name,
            space: self.space.fork()?,
            frame: self.frame.copy(),
            deadline: self.deadline,
            children: Children::new(),
        };
        copy.frame.x[0] = 0;
        let copy = running::start(number, copy, |copy| copy.live(|_| Ok(())))?;
        self.children.add(copy);
        Ok(number)
    }

    /// All that its task does: runs it, after `prepare`, in its address space, and gives everything
    /// back.
    fn live(mut self, prepare: impl FnOnce(&mut Self) -> Result<(), Outcome>) -> Outcome {
        let used = self.space.use_here();
        let outcome = match prepare(&mut self) {
            Ok(()) => self.run(),
            Err(outcome) => outcome,
        };
        let Self {
            space, children, ..
        } = self;
        // The memory first: copies that it has not waited for may still run, and are waited for
        // now.
        drop(used);
        drop(space);
        drop(children);
        outcome
    }
}

/// A number that no program has had; the first is 1.
fn new_number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Relaxed) + 1
}

/// Starts a case of the program, which is to end within so many milliseconds.
///
/// # Errors
/// [`Error`]: what its address space or its task could not be made of.
pub fn start(case: Case, limit: u64) -> Result<Running, Error> {
    start_within(case, limit, || ())
}

/// As [`start`]; all that the program's task does is done while what `around` returns lives. Tests
/// have its allocations fail so.
///
/// # Errors
/// As [`start`].
pub(super) fn start_within<A, G>(case: Case, limit: u64, around: A) -> Result<Running, Error>
where
    A: FnOnce() -> G + Send,
{
    let number = new_number();
    let program = Program {
        number,
        copy_of: None,
        name: case.name(),
        space: AddressSpace::create()?,
        // Until the file is loaded there is nothing to begin with.
        frame: ExceptionFrame::el0(VirtAddr::literal(0), VirtAddr::literal(0)),
        deadline: time::now() + time::frequency() / 1000 * limit,
        children: Children::new(),
    };
    let running = running::start(
        number,
        (program, case, around),
        |(program, case, around)| {
            let _around = around();
            // Loaded by its own task: the file is written to where the program will be.
            program.live(|program| program.load(FILE, case as u64))
        },
    )?;
    Ok(running)
}
