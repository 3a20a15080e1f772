//! Exceptions: the vectors, and who looks at what they took.

use super::cpu::{EMERGENCY_STACK_SIZE, PerCpu, STACK_SIZE};
use super::frame::{ExceptionFrame, Kind, Origin};
use super::{abort, counters, el0, fatal::fatal, interrupt};
use crate::event;
use aarch64_cpu::registers::{VBAR_EL1, Writeable};
use core::arch::{asm, global_asm};
use core::mem::offset_of;

global_asm!(
    include_str!("vectors.s"),
    FRAME_SIZE = const size_of::<ExceptionFrame>(),
    RECORD = const ExceptionFrame::RECORD,
    STACK_BOTTOM = const offset_of!(PerCpu, stack_bottom),
    EMERGENCY_BOTTOM = const offset_of!(PerCpu, emergency_bottom),
    SCRATCH = const offset_of!(PerCpu, entry_scratch),
    // All bits but those of a 16-byte-aligned offset in the stack.
    NOT_STACK_OFFSET = const !(STACK_SIZE - 16),
    NOT_EMERGENCY_OFFSET = const !(EMERGENCY_STACK_SIZE - 16),
    EMERGENCY_SIZE = const EMERGENCY_STACK_SIZE,
    FIRST_EL0_VECTOR = const el0::FIRST_VECTOR,
    EL0_SPARE = const el0::SPARE,
);

unsafe extern "C" {
    static exception_vectors: u8;
    static exception_entry_return: u8;
}

/// Installs the vectors on this CPU, and what there is between it and EL0. Its block must be there
/// ([`super::cpu::init_boot_cpu`]).
pub fn init() {
    el0::init();
    VBAR_EL1.set((&raw const exception_vectors).addr() as u64);
    // SAFETY: the ISB makes the new vectors the ones that the next instruction's exception takes.
    // It is part of bring-up, and not counted.
    unsafe { asm!("isb", options(nostack, preserves_flags)) };
}

/// Whether `address` is where the call in exception entry returns to.
#[must_use]
pub fn is_entry_return_address(address: u64) -> bool {
    address == (&raw const exception_entry_return).addr() as u64
}

/// Called by `vectors.s` for every exception from EL1; returning resumes what was interrupted.
#[unsafe(no_mangle)]
extern "C" fn exception_dispatch(frame: &mut ExceptionFrame) {
    event!(ExceptionEntry);
    let by_kernel = frame.origin() == Origin::Kernel && !frame.left_its_stack();
    match frame.kind() {
        Kind::Synchronous if by_kernel && abort::handle(frame) => {}
        Kind::Irq if by_kernel => {
            counters::restart_interrupted(frame);
            interrupt::dispatch();
        }
        _ => fatal(frame),
    }
    // Of the CPU that the task is on by now, which need not be the one that took the exception.
    event!(ExceptionReturn { to_el0: false });
}
