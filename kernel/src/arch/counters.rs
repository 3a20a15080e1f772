//! Counting, on each CPU for itself.
//!
//! A count must not cost more than what it counts, so it is a plain load, add and store, on a line
//! that no other CPU writes; an atomic addition took twice as long in QEMU, and masking interrupts
//! around it 150 times. But an interrupt between the load and the store may count as well, or have
//! the task go on on another CPU: one of the counts would be lost. So the four instructions are a
//! *restartable sequence*: exception entry finds an interrupted one by its place, and has it begin
//! again, with nothing done. Then the CPU whose line it is stays the same from the first
//! instruction to the last. (What Linux offers to programs as `rseq`.)
//!
//! Nothing but an IRQ can come in between: the block is always mapped, and an SError or a FIQ is the
//! end of the machine.

use super::cpu::PerCpu;
use super::frame::ExceptionFrame;
use crate::trace::{Barrier, Counters, Kind};
use core::arch::asm;
use core::mem::offset_of;

/// Adds a number to a counter of this CPU: what `ADD` takes as its last operand.
macro_rules! add {
    ($counter:ident, $number:literal $(, $($operand:tt)+)?) => {
        // SAFETY: TPIDR_EL1 holds the address of this CPU's block, whose counters are atomic for
        // whoever reads them: the store is a whole one. Restarted, the sequence does nothing twice,
        // since its only store is its last instruction, and reads nothing that it has changed.
        unsafe {
            asm!(
                "2: mrs {block}, tpidr_el1",
                "ldr {count}, [{block}, #{counter}]",
                concat!("add {count}, {count}, ", $number),
                "str {count}, [{block}, #{counter}]",
                "3:",
                ".pushsection .restart, \"a\"",
                ".balign 8",
                ".quad 2b, 3b",
                ".popsection",
                block = out(reg) _,
                count = out(reg) _,
                $($($operand)+,)?
                counter = const offset_of!(PerCpu, counters) + offset_of!(Counters, $counter),
                options(nostack, preserves_flags),
            );
        }
    };
}

/// Counts one event, recorded or not.
#[inline(always)]
pub(super) fn count(kind: &Kind) {
    match kind {
        Kind::Store { .. } => count_store(),
        Kind::Barrier(Barrier::Isb) => add!(isb, "#1"),
        Kind::Barrier(_) => add!(dsb, "#1"),
        Kind::Tlbi(_) => add!(tlbi, "#1"),
        Kind::Cache(_) | Kind::Lazy { .. } | Kind::Enter(_) | Kind::Leave(_) => {}
    }
}

/// Counts one store.
#[inline(always)]
pub(super) fn count_store() {
    add!(stores, "#1");
}

/// Counts stores, none of which was counted when it was made.
#[inline(always)]
pub(super) fn count_stores(number: usize) {
    add!(stores, "{number}", number = in(reg) number);
}

/// Counts one [`appear`](super::one_page::appear): a store, a DSB and an ISB.
#[inline(always)]
pub(super) fn count_appearance() {
    add!(appearances, "#1");
}

/// Counts one [`go`](super::one_page::go): a store, two DSBs, a TLBI and an ISB.
#[inline(always)]
pub(super) fn count_departure() {
    add!(departures, "#1");
}

/// An entry of `.restart`: the first instruction, and the one behind the last.
#[derive(Debug)]
#[repr(C)]
struct Sequence {
    start: u64,
    end: u64,
}

impl Sequence {
    /// Where to go on after an interruption at `pc`, if it was inside.
    fn restart(&self, pc: u64) -> Option<u64> {
        // At the first instruction nothing has been done, behind the last everything.
        (self.start < pc && pc < self.end).then_some(self.start)
    }
}

/// Every sequence of the image.
fn sequences() -> &'static [Sequence] {
    unsafe extern "C" {
        static __restart_start: Sequence;
        static __restart_end: Sequence;
    }
    let start = &raw const __restart_start;
    let bytes = (&raw const __restart_end).addr() - start.addr();
    // SAFETY: linker.ld puts the two symbols around the section, which holds nothing but pairs of words
    // written by the assembly above, and is never written.
    unsafe { core::slice::from_raw_parts(start, bytes / size_of::<Sequence>()) }
}

/// Has an interrupted sequence begin again. Called for each IRQ, before anything that may count or
/// switch tasks.
pub(super) fn restart_interrupted(frame: &mut ExceptionFrame) {
    let pc = frame.elr();
    if let Some(start) = sequences().iter().find_map(|it| it.restart(pc)) {
        frame.return_to(start);
    }
}

#[cfg(feature = "ktests")]
mod ktests;
