//! The system calls, as functions.

use crate::abi::{Call, Ended, Error, Protection};
use core::{arch::asm, ffi::CStr};

/// What a call returned, or why it did not do what was asked.
pub type Result<T = ()> = core::result::Result<T, Error>;

/// Read and write.
pub const DATA: u64 = Protection::Read as u64 | Protection::Write as u64;
/// Read only.
pub const CONSTANT: u64 = Protection::Read as u64;
/// Read and execute.
pub const CODE: u64 = Protection::Read as u64 | Protection::Execute as u64;

/// Makes the call of that number, whether there is one or not.
pub fn raw(number: u64, [first, second, third]: [u64; 3]) -> u64 {
    let result;
    // SAFETY: the kernel preserves all registers but x0. What it does to the program's memory is
    // what the call is for, and the compiler is told that it may be anything.
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inout("x0") first => result,
            in("x1") second,
            in("x2") third,
            options(nostack, preserves_flags),
        );
    }
    result
}

fn call(call: Call, arguments: [u64; 3]) -> Result<u64> {
    let result = raw(call as u64, arguments);
    Error::from_result(result).map_or(Ok(result), Err)
}

/// Ends the program.
pub fn exit(status: u64) -> ! {
    raw(Call::Exit as u64, [status, 0, 0]);
    unreachable()
}

/// Ends the program because something is wrong.
pub fn fail(message: &CStr) -> ! {
    raw(Call::Fail as u64, [message.as_ptr().addr() as u64, 0, 0]);
    unreachable()
}

/// The kernel has come back from a call that does not.
fn unreachable() -> ! {
    // SAFETY: ends the program, by a breakpoint that nobody has set.
    unsafe { asm!("brk #1", options(noreturn)) }
}

/// Prints text.
pub fn write(text: &[u8]) {
    // It has no errors.
    let _ = call(
        Call::Write,
        [text.as_ptr().addr() as u64, text.len() as u64, 0],
    );
}

/// Lets others run.
pub fn yield_now() {
    let _ = call(Call::Yield, [0; 3]);
}

/// Makes addresses memory.
pub fn map(address: u64, bytes: u64, protection: u64) -> Result {
    call(Call::Map, [address, bytes, protection]).map(drop)
}

/// Takes memory away.
pub fn unmap(address: u64, bytes: u64) -> Result {
    call(Call::Unmap, [address, bytes, 0]).map(drop)
}

/// Changes what may be done with memory.
pub fn protect(address: u64, bytes: u64, protection: u64) -> Result {
    call(Call::Protect, [address, bytes, protection]).map(drop)
}

/// Makes a copy of the program: its number, or 0 in the copy.
pub fn fork() -> Result<u64> {
    call(Call::Fork, [0; 3])
}

/// Waits for a copy to end, and has the kernel say at `ended` how it did.
pub fn wait_at(child: u64, ended: u64) -> Result {
    call(Call::Wait, [child, ended, 0]).map(drop)
}

/// Waits for a copy to end.
pub fn wait(child: u64) -> Result<Ended> {
    let mut ended = Ended {
        how: u64::MAX,
        status: u64::MAX,
    };
    wait_at(child, (&raw mut ended).expose_provenance() as u64)?;
    Ok(ended)
}

/// Loads a word from wherever `address` is.
pub fn peek(address: u64) -> u64 {
    let value;
    // SAFETY: what is loaded from is memory of the program that Rust knows nothing of, or the load
    // faults and that is meant.
    unsafe { asm!("ldr {}, [{}]", out(reg) value, in(reg) address, options(nostack, readonly)) };
    value
}

/// Stores a word to wherever `address` is.
pub fn poke(address: u64, value: u64) {
    // SAFETY: as in `peek`; what is there is no object of Rust's.
    unsafe { asm!("str {}, [{}]", in(reg) value, in(reg) address, options(nostack)) };
}

/// Calls the function of no arguments at `address`, whatever is there.
pub fn execute(address: u64) -> u64 {
    let value;
    // SAFETY: there is a function that keeps to the procedure call standard, or the fetch faults
    // and that is meant.
    unsafe { asm!("blr {}", in(reg) address, lateout("x0") value, clobber_abi("C")) };
    value
}
