//! What an exception saves of the code it interrupts: the registers, as `vectors.s` lays them out
//! on the stack, and `el0.s` wherever the task keeps what EL0 left.

use core::{fmt, mem::offset_of};
use vmsa::{Esr, VirtAddr};

/// The registers of what was interrupted, as `vectors.s` and `el0.s` lay them out.
#[derive(Debug)]
#[repr(C)]
pub struct ExceptionFrame {
    /// x0 to x30. What a handler writes here is what the interrupted code finds.
    pub x: [u64; 31],
    /// SP when the exception was taken.
    sp: u64,
    /// ELR_EL1: where to return to.
    elr: u64,
    /// SPSR_EL1: PSTATE as it was.
    spsr: u64,
    /// ESR_EL1: why.
    esr: u64,
    /// FAR_EL1: for aborts and PC alignment faults the address.
    far: u64,
    /// Which of the 16 vectors was taken.
    vector: u64,
    /// TPIDR_EL0, of EL0; 0 for an exception from EL1, which has no use for it.
    thread_pointer: u64,
    /// A frame record: x29 and ELR. Of EL0 it is the one that ends a backtrace, zeros.
    record: [u64; 2],
}

// What vectors.s takes for granted of the layout.
const _: () = {
    assert!(size_of::<ExceptionFrame>().is_multiple_of(16));
    assert!(offset_of!(ExceptionFrame, sp) == 16 * 15 + 8);
    assert!(offset_of!(ExceptionFrame, elr) == 16 * 16);
    assert!(offset_of!(ExceptionFrame, esr) == 16 * 17);
    assert!(offset_of!(ExceptionFrame, vector) == 16 * 18);
    assert!(offset_of!(ExceptionFrame, thread_pointer) == 16 * 18 + 8);
};

/// What was taken, by the vector (DDI 0487, table D1-7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Synchronous: the interrupted instruction did it.
    Synchronous,
    /// An interrupt.
    Irq,
    /// A fast interrupt.
    Fiq,
    /// A system error: an access that was reported only after it was over.
    SError,
}

/// Where from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// EL1 on SP_EL0, which Lull never selects.
    Sp0,
    /// EL1 on SP_EL1: the kernel.
    Kernel,
    /// EL0 in AArch64: programs.
    Lower64,
    /// EL0 in AArch32, which nothing enters.
    Lower32,
}

impl ExceptionFrame {
    /// Where in the frame its frame record is.
    pub(super) const RECORD: usize = offset_of!(Self, record);

    /// What EL0 has that begins at `pc`, with its stack at `sp`: every other register is 0, and so
    /// is PSTATE (EL0 in AArch64, nothing masked, no condition, DIT and the like off; DDI 0487,
    /// C5.2.19).
    #[must_use]
    pub fn el0(pc: VirtAddr, sp: VirtAddr) -> Self {
        Self {
            x: [0; 31],
            sp: sp.as_u64(),
            elr: pc.as_u64(),
            spsr: 0,
            esr: 0,
            far: 0,
            vector: 0,
            thread_pointer: 0,
            record: [0; 2],
        }
    }

    /// The same registers once more: those of a copy of the program.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self { ..*self }
    }

    /// What was taken.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.vector % 4 {
            0 => Kind::Synchronous,
            1 => Kind::Irq,
            2 => Kind::Fiq,
            _ => Kind::SError,
        }
    }

    /// Where from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        match self.vector / 4 {
            0 => Origin::Sp0,
            1 => Origin::Kernel,
            2 => Origin::Lower64,
            _ => Origin::Lower32,
        }
    }

    /// ESR_EL1.
    #[must_use]
    pub fn esr(&self) -> Esr {
        Esr::new(self.esr)
    }

    /// FAR_EL1 as it is: the address of an access need not be canonical.
    #[must_use]
    pub fn far_bits(&self) -> u64 {
        self.far
    }

    /// ELR_EL1: the instruction that faulted, or the next one to execute.
    #[must_use]
    pub fn elr(&self) -> u64 {
        self.elr
    }

    /// SP when the exception was taken.
    #[must_use]
    pub fn sp(&self) -> u64 {
        self.sp
    }

    /// SPSR_EL1.
    #[must_use]
    pub fn spsr(&self) -> u64 {
        self.spsr
    }

    /// Where the frame record is that holds x29 and ELR.
    #[must_use]
    pub fn record_address(&self) -> u64 {
        (&raw const self.record).addr() as u64
    }

    /// SP was not in its stack, so that this frame lies on the emergency stack.
    #[must_use]
    pub fn left_its_stack(&self) -> bool {
        let end = (&raw const *self).addr() + size_of::<Self>();
        self.sp != end as u64
    }

    /// Makes the exception return to `address`. The frame record still tells where it came from.
    pub(super) fn return_to(&mut self, address: u64) {
        self.elr = address;
    }
}

impl fmt::Display for ExceptionFrame {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} from {:?}, ESR {}, FAR {:016x}, PC [<{:016x}>], SP {:016x}",
            self.kind(),
            self.origin(),
            self.esr(),
            self.far,
            self.elr,
            self.sp
        )
    }
}
