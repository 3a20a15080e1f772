//! What a program may not do. Each of these is to be stopped where it says so, and never returns.

use crate::{
    abi::{Call, Case, Ended},
    call::{
        DATA, execute, exit, fail, fork, map, peek, poke, raw, unmap, wait, wait_at, write,
        yield_now,
    },
};
use core::{arch::asm, hint::black_box};

/// An address that nothing is mapped at.
const NOWHERE: u64 = 0x1234_5678_9000;
/// Where the kernel's linear map begins.
const KERNEL_MEMORY: u64 = 0xffff_0000_4020_0000;
/// The kernel's code.
const KERNEL_CODE: u64 = 0xffff_8000_4021_0000;
/// Where the program maps memory of its own.
const MEMORY: u64 = 0x2000_0000;
/// Bytes of a page.
const PAGE: u64 = 4096;

/// Some data.
static mut DATUM: u64 = 0xd65f_03c0_d65f_03c0;

pub fn run(case: Case) -> ! {
    match case {
        Case::Normal => fail(c"that is no way to misbehave"),
        Case::WildRead => drop(peek(NOWHERE + 8)),
        Case::NullWrite => poke(0, 1),
        Case::NonCanonical => drop(peek(1 << 52)),
        Case::WriteText => poke(run as *const () as u64 & !7, 0),
        Case::ExecuteData => drop(execute((&raw const DATUM).addr() as u64)),
        Case::StackOverflow => drop(deeper(0)),
        Case::UseAfterUnmap => use_after_unmap(),
        Case::BadCall => drop(raw(4711, [1, 2, 3])),
        Case::BadPointer => drop(raw(Call::Write as u64, [NOWHERE, 16, 0])),
        Case::KernelPointer => drop(raw(Call::Write as u64, [KERNEL_MEMORY, 16, 0])),
        Case::ReadOnlyPointer => read_only_pointer(),
        Case::KernelRead => drop(peek(KERNEL_MEMORY)),
        Case::KernelJump => drop(execute(KERNEL_CODE)),
        Case::MisalignedPc => drop(execute(run as *const () as u64 + 2)),
        Case::BadChild => bad_child(),
        Case::EndlessFamily => endless_family(),
        Case::MemoryHog => memory_hog(),
        Case::EndlessLoop => endless_loop(),
        Case::Privileged
        | Case::CacheMaintenance
        | Case::Undefined
        | Case::Breakpoint
        | Case::FloatingPoint
        | Case::MisalignedData => instruction(case),
    }
    fail(c"the program was not stopped")
}

/// Executes the instruction of the case.
fn instruction(case: Case) {
    let place = (&raw const DATUM).addr() as u64;
    // SAFETY: none of them is executed to its end. If one is, it reads a register or memory of the
    // program's own.
    unsafe {
        match case {
            Case::Privileged => asm!("mrs {}, ttbr0_el1", out(reg) _),
            Case::CacheMaintenance => asm!("dc cvau, {}", in(reg) place),
            Case::Undefined => asm!("udf #7"),
            Case::Breakpoint => asm!("brk #42"),
            // FMOV D0, XZR: the assembler is told of a CPU without floating point.
            Case::FloatingPoint => asm!(".inst 0x9e6703e0"),
            Case::MisalignedData => asm!("ldxr {}, [{}]", out(reg) _, in(reg) place + 1),
            _ => {}
        }
    }
}

/// Calls itself until the stack is full: each call keeps something in its frame for after the call,
/// so that it can't be made a jump.
#[inline(never)]
#[expect(unconditional_recursion, reason = "that is what it is for")]
fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 16]);
    deeper(black_box(depth) + 1) + frame[black_box(0)]
}

fn use_after_unmap() {
    if map(MEMORY, 3 * PAGE, DATA).is_err() {
        fail(c"no memory for the case");
    }
    poke(MEMORY + PAGE, 1);
    if unmap(MEMORY + PAGE, PAGE).is_err() {
        fail(c"the page could not be unmapped");
    }
    poke(MEMORY + PAGE, 2);
}

/// A copy ends at once, and the kernel is to say so in the program's code.
fn read_only_pointer() {
    match fork() {
        Ok(0) => exit(0),
        Ok(child) => drop(wait_at(child, run as *const () as u64 & !7)),
        Err(_) => fail(c"no memory for a copy"),
    }
}

/// Goes on whatever a copy does.
fn bad_child() -> ! {
    match fork() {
        Ok(0) => {
            peek(NOWHERE);
            exit(0)
        }
        Ok(child) => match wait(child) {
            Ok(Ended {
                how: Ended::STOPPED,
                ..
            }) => {
                write(b"the copy was stopped, the program goes on\n");
                exit(0)
            }
            _ => fail(c"the copy was not stopped"),
        },
        Err(_) => fail(c"no memory for a copy"),
    }
}

fn endless_loop() -> ! {
    loop {
        // Nothing but interrupts get the CPU back.
        core::hint::spin_loop();
    }
}

/// Two copies that never end: one that computes, one that makes system calls; and one that waits
/// for them.
fn endless_family() -> ! {
    match fork() {
        Ok(0) => endless_loop(),
        Ok(first) => match fork() {
            Ok(0) => loop {
                yield_now();
            },
            Ok(_) => {
                let _ = wait(first);
                fail(c"a copy that never ends has ended")
            }
            Err(_) => fail(c"no memory for a copy"),
        },
        Err(_) => fail(c"no memory for a copy"),
    }
}

/// Writes to page after page of 4 GiB, more than the machine has.
fn memory_hog() {
    const MOST: u64 = 4 << 30;
    if map(MEMORY, MOST, DATA).is_err() {
        fail(c"the addresses could not be mapped");
    }
    for page in 0..MOST / PAGE {
        poke(MEMORY + page * PAGE, page);
    }
}
