//! The instructions that a litmus test may have.

use mmu_oracle::event::{Barrier, Scope};

/// A register; 31 is the zero register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// 0 to 30, or 31.
    pub index: u8,
    /// 64 bits, or the lower 32.
    pub wide: bool,
}

impl Register {
    /// Whether it is XZR or WZR.
    pub const fn is_zero(self) -> bool {
        self.index == 31
    }
}

/// The last operand of arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// `#n`.
    Immediate(u64),
    /// A register, shifted left.
    Register(Register, u32),
}

/// What arithmetic does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// ADD.
    Add,
    /// SUB.
    Sub,
    /// AND.
    And,
    /// ORR.
    Or,
    /// EOR.
    Eor,
    /// BIC.
    BitClear,
    /// LSL.
    ShiftLeft,
    /// LSR.
    ShiftRight,
    /// ASR.
    ShiftRightSigned,
}

/// Where memory is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The register with the address.
    pub base: Register,
    /// What is added to it.
    pub offset: Operand,
}

/// When a branch is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// B.
    Always,
    /// `B.cond`: by the four bits of the condition.
    Flags(u8),
    /// CBZ, or CBNZ.
    Zero(Register, bool),
    /// TBZ, or TBNZ.
    Bit(Register, u32, bool),
}

/// What an atomic instruction leaves in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// SWP.
    Swap,
    /// CAS.
    CompareAndSwap,
    /// LDADD.
    Add,
    /// LDCLR.
    Clear,
    /// LDEOR.
    Eor,
    /// LDSET.
    Set,
    /// LDSMAX.
    SignedMax,
    /// LDSMIN.
    SignedMin,
    /// LDUMAX.
    Max,
    /// LDUMIN.
    Min,
}

/// An instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// NOP.
    Nop,
    /// MOV, MOVZ, MOVN.
    Move(Register, Operand),
    /// MOVK: 16 bits, and where they go.
    MoveKeep(Register, u64, u32),
    /// Arithmetic; with flags where it is so.
    Compute(Operation, Register, Register, Operand, bool),
    /// UBFX: from, first bit, number of bits.
    Extract(Register, Register, u32, u32),
    /// A branch to a label.
    Branch(When, String),
    /// A load.
    Load {
        /// Where the value goes.
        to: Register,
        /// Where it is from.
        address: Address,
        /// How many bytes.
        size: u64,
        /// LDAR, LDAPR, LDAXR.
        acquire: bool,
        /// LDXR, LDAXR.
        exclusive: bool,
    },
    /// A store.
    Store {
        /// The value.
        from: Register,
        /// Where it goes.
        address: Address,
        /// How many bytes.
        size: u64,
        /// STLR, STLXR.
        release: bool,
        /// The status register of STXR, STLXR.
        status: Option<Register>,
    },
    /// A read and a write that nothing comes between.
    Atomic {
        /// What is written.
        update: Update,
        /// The operand; for CAS what is compared with.
        operand: Register,
        /// For CAS the new value.
        new: Register,
        /// Where the old value goes.
        to: Register,
        /// Where.
        address: Address,
        /// How many bytes.
        size: u64,
        /// With acquire semantics.
        acquire: bool,
        /// With release semantics.
        release: bool,
    },
    /// DSB, DMB, ISB.
    Barrier(Barrier),
    /// A TLBI of the EL1&0 regime.
    Tlbi {
        /// What it names.
        scope: Scope,
        /// VALE1, VAALE1.
        last_level: bool,
        /// The IS forms.
        broadcast: bool,
        /// The operand.
        operand: Register,
    },
    /// SVC.
    Call,
    /// ERET.
    Return,
    /// No instruction: here the code is over.
    End,
}

impl Instruction {
    /// The register that it changes for sure, if any.
    pub const fn writes(&self) -> Option<Register> {
        match self {
            Self::Move(to, _)
            | Self::MoveKeep(to, ..)
            | Self::Compute(_, to, ..)
            | Self::Extract(to, ..)
            | Self::Load { to, .. }
            | Self::Atomic { to, .. } => Some(*to),
            Self::Store { status, .. } => *status,
            _ => None,
        }
    }

    /// Where it accesses memory, if it does.
    pub const fn address(&self) -> Option<Address> {
        match self {
            Self::Load { address, .. }
            | Self::Store { address, .. }
            | Self::Atomic { address, .. } => Some(*address),
            _ => None,
        }
    }
}
