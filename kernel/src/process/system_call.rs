//! What each system call does. The table is in `abi`, where programs see it.

use super::{
    abi::{Call, Error},
    copy,
    outcome::{BadPointer, Outcome, Reason},
    program::Program,
};
use crate::{
    mm::address_space::{self, Protection},
    println, task,
};
use core::{fmt, ops::ControlFlow};
use vmsa::{PAGE_SIZE, PageRange, VirtAddr};

/// Bytes of a program's text that are printed at a time: no line is longer.
const LINE: usize = 128;

/// What a call leads to: the result in x0, or the end of the program.
enum Next {
    Return(u64),
    End(Outcome),
    Stop(Reason),
}

impl From<Result<u64, Error>> for Next {
    fn from(result: Result<u64, Error>) -> Self {
        Self::Return(result.unwrap_or_else(Error::to_result))
    }
}

impl From<BadPointer> for Next {
    fn from(bad: BadPointer) -> Self {
        Self::Stop(Reason::BadPointer(bad))
    }
}

impl Program {
    /// Does what EL0 has asked for by an SVC: ELR_EL1 is behind it already.
    pub(super) fn system_call(&mut self) -> ControlFlow<Outcome> {
        match self.dispatch() {
            Next::Return(result) => {
                self.frame.x[0] = result;
                ControlFlow::Continue(())
            }
            Next::End(outcome) => ControlFlow::Break(outcome),
            Next::Stop(reason) => self.stop(reason),
        }
    }

    fn dispatch(&mut self) -> Next {
        let number = self.frame.x[8];
        let [first, second, third, ..] = self.frame.x;
        let Some(call) = Call::from_number(number) else {
            return Next::Stop(Reason::BadCall(number));
        };
        let result = match call {
            Call::Exit => return Next::End(Outcome::Exited(first as u8)),
            Call::Fail => self.fail(first).map(|()| None),
            Call::Write => self.write(first, second).map(|()| Some(Ok(0))),
            Call::Yield => {
                task::yield_now();
                Ok(Some(Ok(0)))
            }
            Call::Map => Ok(Some(self.map(first, second, third))),
            Call::Unmap => Ok(Some(self.unmap(first, second))),
            Call::Protect => Ok(Some(self.protect(first, second, third))),
            Call::Fork => Ok(Some(self.start_copy())),
            Call::Wait => self.wait(first, second).map(Some),
        };
        match result {
            Ok(Some(result)) => result.into(),
            Ok(None) => Next::End(Outcome::Failed),
            Err(bad) => bad.into(),
        }
    }

    /// `fail(message)`.
    fn fail(&self, message: u64) -> Result<(), BadPointer> {
        let mut text = [0; LINE];
        let text = copy::string_from_user(&self.space, &mut text, message)?;
        println!("{}failed: {}", Head(self), Printable(text));
        Ok(())
    }

    /// `write(address, bytes)`.
    fn write(&self, address: u64, bytes: u64) -> Result<(), BadPointer> {
        let mut rest = copy::range(address, bytes)?;
        let mut text = [0; LINE];
        while rest.length() > 0 {
            let (part, behind) = rest
                .split_at(rest.length().min(LINE))
                .expect("a part is no longer than the whole");
            let text = &mut text[..part.length()];
            copy::from_user(&self.space, text, part)?;
            for line in text
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
            {
                println!("{}{}", Head(self), Printable(line));
            }
            rest = behind;
        }
        Ok(())
    }

    /// `map(address, bytes, protection)`.
    fn map(&self, address: u64, bytes: u64, protection: u64) -> Result<u64, Error> {
        let range = pages(address, bytes)?;
        let protection = rights(protection)?;
        self.space.map(range, protection).map_err(error)?;
        Ok(0)
    }

    /// `unmap(address, bytes)`.
    fn unmap(&self, address: u64, bytes: u64) -> Result<u64, Error> {
        self.space.unmap(pages(address, bytes)?).map_err(error)?;
        Ok(0)
    }

    /// `protect(address, bytes, protection)`.
    fn protect(&self, address: u64, bytes: u64, protection: u64) -> Result<u64, Error> {
        let range = pages(address, bytes)?;
        let protection = rights(protection)?;
        self.space.protect(range, protection).map_err(error)?;
        Ok(0)
    }

    /// `fork()`.
    fn start_copy(&mut self) -> Result<u64, Error> {
        self.fork().map_err(error)
    }

    /// `wait(child, ended)`.
    fn wait(&mut self, child: u64, ended: u64) -> Result<Result<u64, Error>, BadPointer> {
        let Some(child) = self.children.take(child) else {
            return Ok(Err(Error::NoChild));
        };
        let told = child.join().ended();
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&told.how.to_le_bytes());
        bytes[8..].copy_from_slice(&told.status.to_le_bytes());
        let place = copy::range(ended, bytes.len() as u64)?;
        copy::to_user(&self.space, place, &bytes)?;
        Ok(Ok(0))
    }
}

/// Whole pages; whether a program may have them the address space says.
fn pages(address: u64, bytes: u64) -> Result<PageRange, Error> {
    let start = VirtAddr::new(address).filter(|start| start.is_page_aligned());
    let start = start.ok_or(Error::BadRange)?;
    if !bytes.is_multiple_of(PAGE_SIZE) {
        return Err(Error::BadRange);
    }
    PageRange::new(start, bytes / PAGE_SIZE).ok_or(Error::BadRange)
}

/// What a program may do with memory of its own.
fn rights(bits: u64) -> Result<Protection, Error> {
    u8::try_from(bits)
        .ok()
        .and_then(Protection::from_bits)
        .filter(|protection| protection.is_possible())
        .ok_or(Error::Forbidden)
}

/// An error of the address space, as programs know it.
fn error(error: address_space::Error) -> Error {
    use address_space::Error as Space;
    match error {
        Space::OutOfMemory | Space::TooManySpaces | Space::TooManyRegions => Error::OutOfMemory,
        Space::Impossible(_) => Error::Forbidden,
        Space::NotUser(_) | Space::Occupied(_) | Space::NotMapped(_) => Error::BadRange,
    }
}

/// What begins each line that a program prints.
struct Head<'a>(&'a Program);

impl fmt::Display for Head<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[program {}] ", self.0.number)
    }
}

/// A program's text. It may be anything, and the console is the kernel's: what is no printable
/// character of ASCII is a question mark.
struct Printable<'a>(&'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| {
            let printable = byte.is_ascii_graphic() || *byte == b' ';
            fmt::Write::write_char(f, if printable { char::from(*byte) } else { '?' })
        })
    }
}
