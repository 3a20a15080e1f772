//! How a program ended.

use super::{abi::Ended, load};
use crate::mm::address_space::{Access, FaultError};
use core::fmt;

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It called `exit`, with that status.
    Exited(u8),
    /// It found something wrong, said so, and called `fail`.
    Failed,
    /// It did what it may not do, and was stopped.
    Stopped(Reason),
    /// It never began: there is no memory for it.
    NoMemory,
    /// It never began: its file is refused.
    BadFile(load::Error),
}

impl Outcome {
    /// As the program that waits for it is told.
    #[must_use]
    pub fn ended(self) -> Ended {
        let (how, status) = match self {
            Self::Exited(status) => (Ended::EXITED, u64::from(status)),
            Self::Failed => (Ended::FAILED, 0),
            Self::Stopped(_) | Self::NoMemory | Self::BadFile(_) => (Ended::STOPPED, 0),
        };
        Ended { how, status }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exited with status {status}"),
            Self::Failed => f.write_str("failed"),
            Self::Stopped(reason) => write!(f, "stopped: {reason}"),
            Self::NoMemory => f.write_str("did not begin: out of memory"),
            Self::BadFile(error) => write!(f, "did not begin: {error}"),
        }
    }
}

/// Why a program was stopped. Shown, it is what it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It accessed memory that it may not access so, or has not got.
    Access(Access, Refusal),
    /// It executed what is no instruction, or none of EL0's.
    Undefined,
    /// It executed an instruction that SCTLR_EL1 or another register does not grant EL0: a trapped
    /// MSR, MRS, DC, IC, WFI.
    Trapped,
    /// It executed a breakpoint, of that number.
    Breakpoint(u16),
    /// It used a floating point register.
    FloatingPoint,
    /// Its PC is no multiple of 4.
    MisalignedPc,
    /// Its SP was used while it was no multiple of 16.
    MisalignedSp,
    /// It made a system call of that number, which there is not.
    BadCall(u64),
    /// It gave a system call a pointer that it could not have used itself.
    BadPointer(BadPointer),
    /// Its time was over.
    TimeLimit,
    /// An exception that nothing here has a name for.
    Other,
}

/// A pointer that a program gave, or an address in what it points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPointer {
    /// The address; it need not be one.
    pub address: u64,
    /// Why it can't be used.
    pub refusal: Refusal,
}

/// Why an access can't be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing is mapped there.
    NotMapped,
    /// What is mapped there does not permit it.
    NotPermitted,
    /// There is no memory left for the page.
    OutOfMemory,
    /// It is the kernel's, or in neither half.
    NotInLowerHalf,
    /// The entry is not what is wrong: the access is misaligned, or memory itself failed.
    NoTranslationFault,
}

impl From<FaultError> for Refusal {
    fn from(error: FaultError) -> Self {
        match error {
            FaultError::NotMapped => Self::NotMapped,
            FaultError::NotAllowed(_) => Self::NotPermitted,
            FaultError::OutOfMemory => Self::OutOfMemory,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Access(access, refusal) => {
                let what = match access {
                    Access::Read => "read of",
                    Access::Write => "write to",
                    Access::Execute => "jump to",
                };
                write!(f, "{what} {refusal}")
            }
            Self::Undefined => f.write_str("undefined instruction"),
            Self::Trapped => f.write_str("instruction that EL0 is not granted"),
            Self::Breakpoint(number) => write!(f, "breakpoint {number}"),
            Self::FloatingPoint => f.write_str("use of a floating point register"),
            Self::MisalignedPc => f.write_str("misaligned PC"),
            Self::MisalignedSp => f.write_str("misaligned SP"),
            Self::BadCall(number) => write!(f, "system call {number}, which there is not"),
            Self::BadPointer(BadPointer { address, refusal }) => {
                write!(
                    f,
                    "pointer {address:016x} given to a system call: {refusal}"
                )
            }
            Self::TimeLimit => f.write_str("its time was over"),
            Self::Other => f.write_str("exception that has no name here"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotMapped => "an address at which nothing is mapped",
            Self::NotPermitted => "memory that does not permit it",
            Self::OutOfMemory => "memory that there is not: out of memory",
            Self::NotInLowerHalf => "an address that is not in the lower half",
            Self::NoTranslationFault => "memory, misaligned or failing",
        })
    }
}
