//! EL0: the way there and back.
//!
//! [`run`] is a call that returns when EL0 has done something that the kernel must see to. So what
//! a program may do is decided by an ordinary loop of an ordinary task, which may sleep, allocate
//! and be preempted, and whose values are dropped where it ends; nothing of it happens in a
//! handler. An interrupt of EL0 is dealt with in here, and may switch tasks.

use super::frame::{ExceptionFrame, Kind};
use super::{cpu, fatal::fatal, interrupt};
use crate::event;
use aarch64_cpu::registers::{CNTKCTL_EL1, DAIF, Readable, SCTLR_EL1, Writeable};
use core::arch::{asm, global_asm};
use core::mem::offset_of;

/// What [`run`] has on the kernel's stack while EL0 runs: x29 and x30 (a frame record), x19 to x28,
/// the frame and the current task, two spare words for exception entry.
#[repr(C)]
struct Saved {
    record: [u64; 2],
    preserved: [u64; 10],
    frame_and_task: [u64; 2],
    spare: [u64; 2],
}

const _: () = assert!(size_of::<Saved>().is_multiple_of(16));

/// Where exception entry puts x0 and x1 of EL0, above SP.
pub(super) const SPARE: usize = offset_of!(Saved, spare);
/// The first of the four vectors for exceptions from EL0 in AArch64 (DDI 0487, table D1-7).
pub(super) const FIRST_VECTOR: usize = 8;

global_asm!(
    include_str!("el0.s"),
    SAVED = const size_of::<Saved>(),
    FRAME_AND_TASK = const offset_of!(Saved, frame_and_task),
    SPARE = const SPARE,
);

unsafe extern "C" {
    fn el0_enter(frame: *mut ExceptionFrame);
}

/// Why [`run`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// EL0 took a synchronous exception; the frame says which.
    Exception,
    /// It was not to go on.
    Stopped,
}

/// Sets up what EL0 can see and do on this CPU, and what of EL0 the kernel can see.
pub(super) fn init() {
    // EL0 has no access to the counters and timers (reset leaves it UNKNOWN). What SCTLR_EL1 may
    // grant besides is not granted, since boot left the bits 0: CTR_EL0, DC and IC, DC ZVA, WFI and
    // WFE, the masks of DAIF.
    CNTKCTL_EL1.set(0);
    if cpu::features().pan {
        forbid_user_memory();
    }
}

/// Has every access of EL1 to memory that EL0 can access fault, but for the unprivileged loads and
/// stores of [`user_copy`](super::user_copy) (PSTATE.PAN; DDI 0487, D8.4.3).
///
/// It is set for good: exceptions taken to EL1 set it as well once SCTLR_EL1.SPAN is 0, and nothing
/// clears it.
fn forbid_user_memory() {
    /// `SCTLR_EL1.SPAN`: 0 has exceptions taken to EL1 set PSTATE.PAN.
    const SPAN: u64 = 1 << 23;
    SCTLR_EL1.set(SCTLR_EL1.get() & !SPAN);
    // SAFETY: the kernel relies on no address of the lower half; without FEAT_PAN, which the caller
    // has looked for, the MSR would be undefined. The ISB has the next exception see SPAN; it is
    // part of bring-up, and not counted.
    unsafe {
        asm!(
            ".arch_extension pan",
            "isb",
            "msr pan, #1",
            ".arch_extension nopan",
            options(nostack, preserves_flags)
        );
    }
}

/// Runs EL0 with the registers of `frame` until it takes an exception that is no interrupt, or is
/// not to go on: `may_go_on` is asked before each entry, with interrupts masked, so what an
/// interrupt handler has said by then is heard. The registers of EL0 are in the frame afterwards.
///
/// The lower half is that of the running task, TTBR0_EL1 and all; the caller has seen to it, and
/// the switch to this task sees to it later.
pub fn run(frame: &mut ExceptionFrame, may_go_on: impl Fn() -> bool) -> Exit {
    let saved = DAIF.get();
    let exit = loop {
        // SAFETY: masking can't break anything; no `nomem`, so that accesses stay where they are. D
        // and A as well: from where SP_EL0 is EL0's, not even a report could be made. A task that
        // ran in between may have left them unmasked.
        unsafe { asm!("msr daifset, #0b1111", options(nostack, preserves_flags)) };
        if !may_go_on() {
            break Exit::Stopped;
        }
        event!(Boundary(event::Boundary::ReturnToEl0));
        event!(ExceptionReturn { to_el0: true });
        // SAFETY: the frame is whole, and its PSTATE is one of EL0's: `ExceptionFrame::el0` makes
        // no other, and an exception from EL0 saves no other. Whatever EL0 does, it can't reach the
        // kernel's memory: that is what translation is for.
        unsafe { el0_enter(frame) };
        event!(ExceptionEntry);
        match frame.kind() {
            Kind::Synchronous => break Exit::Exception,
            // It may switch, and return on another CPU.
            Kind::Irq => interrupt::dispatch(),
            Kind::Fiq | Kind::SError => fatal(frame),
        }
    };
    // SAFETY: as it was when this was called; the task may be on another CPU by now, which has no
    // other mask for it.
    unsafe { asm!("msr daif, {}", in(reg) saved, options(nostack, preserves_flags)) };
    exit
}
