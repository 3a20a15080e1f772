//! What each case of the program must come to, for whoever runs it to check.

use super::{
    abi::Case,
    outcome::{BadPointer, Outcome, Reason, Refusal},
    program,
};
use crate::mm::address_space::{self, Access};

/// Milliseconds for a case that ends by itself; far more than it needs.
const LONG: u64 = 20_000;
/// Milliseconds for one that does not.
const SHORT: u64 = 150;

/// Whether a case has ended as it must.
#[must_use]
pub fn is_expected(case: Case, outcome: Outcome) -> bool {
    let access = |access, refusal| Outcome::Stopped(Reason::Access(access, refusal));
    let bad_pointer = |expected| {
        matches!(
            outcome,
            Outcome::Stopped(Reason::BadPointer(BadPointer { refusal, .. })) if refusal == expected
        )
    };
    let expected = match case {
        Case::Normal | Case::BadChild => Outcome::Exited(0),
        Case::WildRead => access(Access::Read, Refusal::NotMapped),
        Case::NullWrite | Case::StackOverflow | Case::UseAfterUnmap => {
            access(Access::Write, Refusal::NotMapped)
        }
        Case::NonCanonical | Case::KernelRead => access(Access::Read, Refusal::NotInLowerHalf),
        Case::WriteText => access(Access::Write, Refusal::NotPermitted),
        Case::ExecuteData => access(Access::Execute, Refusal::NotPermitted),
        Case::KernelJump => access(Access::Execute, Refusal::NotInLowerHalf),
        Case::MisalignedData => access(Access::Read, Refusal::NoTranslationFault),
        Case::MemoryHog => access(Access::Write, Refusal::OutOfMemory),
        Case::BadCall => Outcome::Stopped(Reason::BadCall(4711)),
        Case::BadPointer => return bad_pointer(Refusal::NotMapped),
        Case::KernelPointer => return bad_pointer(Refusal::NotInLowerHalf),
        Case::ReadOnlyPointer => return bad_pointer(Refusal::NotPermitted),
        Case::Privileged | Case::Undefined => Outcome::Stopped(Reason::Undefined),
        Case::CacheMaintenance => Outcome::Stopped(Reason::Trapped),
        Case::Breakpoint => Outcome::Stopped(Reason::Breakpoint(42)),
        Case::FloatingPoint => Outcome::Stopped(Reason::FloatingPoint),
        Case::MisalignedPc => Outcome::Stopped(Reason::MisalignedPc),
        Case::EndlessLoop | Case::EndlessFamily => Outcome::Stopped(Reason::TimeLimit),
    };
    outcome == expected
}

/// Runs a case to its end.
///
/// # Errors
/// It could not be started.
pub fn run(case: Case) -> Result<Outcome, address_space::Error> {
    let limit = match case {
        Case::EndlessLoop | Case::EndlessFamily => SHORT,
        _ => LONG,
    };
    Ok(program::start(case, limit)?.join())
}
