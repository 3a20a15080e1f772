//! A program for EL0: it exercises its address space and checks what it finds, or misbehaves in one
//! of the ways that have a name.
//!
//! It is one program and not many so that all that is common is there once: `abi::Case` says what
//! it is to do. It depends on nothing but `core`; what it asks of the kernel is in `call`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
#[allow(dead_code, reason = "some of it is for the kernel's side")]
mod abi;
#[cfg(target_os = "none")]
mod call;
#[cfg(target_os = "none")]
mod misbehave;
#[cfg(target_os = "none")]
mod normal;

#[cfg(target_os = "none")]
mod start {
    use crate::{abi::Case, call::fail, misbehave, normal};
    use core::{arch::global_asm, panic::PanicInfo};

    // x0: the case. Whatever else the kernel has left in a register that EL0 can read is in x1
    // afterwards, one on top of the other.
    global_asm!(
        ".section .text.start, \"ax\", %progbits",
        ".globl _start",
        ".type _start, %function",
        "_start:",
        ".irp n, 2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30",
        "orr x1, x1, x\\n",
        ".endr",
        ".irp register, nzcv, tpidr_el0, tpidrro_el0",
        "mrs x2, \\register",
        "orr x1, x1, x2",
        ".endr",
        "bl begin",
        "brk #0",
        ".size _start, . - _start",
    );

    #[unsafe(no_mangle)]
    extern "C" fn begin(case: u64, dirt: u64) -> ! {
        match Case::from_number(case) {
            Some(Case::Normal) => normal::run(dirt),
            Some(case) => misbehave::run(case),
            None => fail(c"there is no such case"),
        }
    }

    #[panic_handler]
    fn panic(_: &PanicInfo<'_>) -> ! {
        fail(c"the program panicked")
    }
}

/// The host builds this package for its lints only.
#[cfg(not(target_os = "none"))]
fn main() {}
