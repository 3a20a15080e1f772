//! The syndrome of data and instruction aborts, and the fault status codes they share.

use super::Esr;
use crate::level::Level;
use core::fmt;

/// `xFSC`, bits `[5:0]` of the ISS.
const FSC_MASK: u32 = 0b11_1111;
/// `S1PTW`, bit 7.
const S1PTW: u32 = 1 << 7;
/// `WnR`, bit 6 (data aborts).
const WNR: u32 = 1 << 6;
/// `CM`, bit 8 (data aborts).
const CM: u32 = 1 << 8;
/// `EA`, bit 9.
const EA: u32 = 1 << 9;
/// `FnV`, bit 10.
const FNV: u32 = 1 << 10;
/// Shift of `SET`, bits `[12:11]`.
const SET_SHIFT: u32 = 11;
/// `SET` has two bits.
const SET_MASK: u32 = 0b11;
/// `ISV`, bit 24 (data aborts).
const ISV: u32 = 1 << 24;

/// The ISS of a data abort.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct DataAbort(u32);

/// The ISS of an instruction abort.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct InstructionAbort(u32);

/// Declares the fields that both kinds of abort have in the same place.
macro_rules! common_fields {
    ($name:ident) => {
        impl $name {
            /// Takes bits `[24:0]` of `ESR_EL1`.
            #[must_use]
            pub const fn from_iss(iss: u32) -> Self {
                Self(iss)
            }

            /// The fault status code: what went wrong, and at which level of the walk.
            #[must_use]
            pub const fn fsc(self) -> FaultStatus {
                FaultStatus((self.0 & FSC_MASK) as u8)
            }

            /// `S1PTW`: a stage 2 fault on the access of a stage 1 walk (EL2 only).
            #[must_use]
            pub const fn s1ptw(self) -> bool {
                self.0 & S1PTW != 0
            }

            /// `EA`: the type of an external abort, as the implementation classifies it.
            #[must_use]
            pub const fn ea(self) -> bool {
                self.0 & EA != 0
            }

            /// `FnV`: `FAR_EL1` does not hold the address; only ever set for a synchronous
            /// external abort that is not on a walk.
            #[must_use]
            pub const fn fnv(self) -> bool {
                self.0 & FNV != 0
            }

            /// `SET`: the state of the CPU after a synchronous external abort (FEAT_RAS), two
            /// bits: 0 recoverable, 2 uncontainable, 3 restartable.
            #[must_use]
            pub const fn set(self) -> u8 {
                ((self.0 >> SET_SHIFT) & SET_MASK) as u8
            }
        }
    };
}

common_fields!(DataAbort);
common_fields!(InstructionAbort);

impl DataAbort {
    /// `WnR`: a write was refused, not a read. For cache maintenance ([`cm`](Self::cm)) it is
    /// always set; for an atomic that could not even have read, clear.
    #[must_use]
    pub const fn wnr(self) -> bool {
        self.0 & WNR != 0
    }

    /// `CM`: the fault is of a cache maintenance or address translation instruction.
    #[must_use]
    pub const fn cm(self) -> bool {
        self.0 & CM != 0
    }

    /// `ISV`: bits `[23:14]` describe the instruction (stage 2 faults and FEAT_LS64 only).
    #[must_use]
    pub const fn isv(self) -> bool {
        self.0 & ISV != 0
    }
}

/// A fault status code: `DFSC` or `IFSC`, ISS bits `[5:0]`.
///
/// ```
/// use vmsa::Level;
/// use vmsa::esr::FaultStatus;
///
/// let status = FaultStatus::new(0b00_1111);
/// assert!(status.is_permission_fault());
/// assert_eq!(status.level(), Some(Level::L3));
/// assert_eq!(status.to_string(), "level 3 permission fault");
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Hash)]
pub struct FaultStatus(u8);

impl FaultStatus {
    /// The status of this code; only its lowest six bits count.
    #[must_use]
    pub const fn new(code: u8) -> Self {
        Self(code & 0b11_1111)
    }

    /// The code, 0 to 63.
    #[must_use]
    pub const fn code(self) -> u8 {
        self.0
    }

    /// The walk met an invalid entry, or the address is outside of what the half translates.
    #[must_use]
    pub const fn is_translation_fault(self) -> bool {
        matches!(self.0, 0x04..=0x07 | 0x2b)
    }

    /// The entry was found and forbids the access.
    #[must_use]
    pub const fn is_permission_fault(self) -> bool {
        matches!(self.0, 0x0c..=0x0f)
    }

    /// The entry was found with `AF` clear.
    #[must_use]
    pub const fn is_access_flag_fault(self) -> bool {
        matches!(self.0, 0x08..=0x0b)
    }

    /// An address in a table, or the base register's, has more bits than `TCR_EL1.IPS` allows.
    #[must_use]
    pub const fn is_address_size_fault(self) -> bool {
        matches!(self.0, 0x00..=0x03 | 0x29)
    }

    /// The access is not aligned as its instruction or memory type requires.
    #[must_use]
    pub const fn is_alignment_fault(self) -> bool {
        self.0 == 0x21
    }

    /// A TLB held more than one entry for the address: what break-before-make prevents.
    #[must_use]
    pub const fn is_tlb_conflict(self) -> bool {
        self.0 == 0x30
    }

    /// The level of the walk that the fault is of; `None` for faults that have no level, and
    /// for level -1, which a 48-bit walk does not have.
    #[must_use]
    pub const fn level(self) -> Option<Level> {
        if !matches!(self.0, 0x00..=0x0f | 0x14..=0x17 | 0x1c..=0x1f | 0x24..=0x27) {
            return None;
        }
        Some(match self.0 & 0b11 {
            0 => Level::L0,
            1 => Level::L1,
            2 => Level::L2,
            _ => Level::L3,
        })
    }
}

impl fmt::Display for FaultStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.0 {
            // A level 0 address size fault is of the base address in TTBR.
            0x00 => return f.write_str("ttbr address size fault"),
            0x01..=0x03 | 0x29 => "address size fault",
            0x04..=0x07 | 0x2b => "translation fault",
            0x08..=0x0b => "access flag fault",
            0x0c..=0x0f => "permission fault",
            0x13..=0x17 => "synchronous external abort (translation table walk)",
            0x1b..=0x1f => "synchronous parity error (translation table walk)",
            0x23..=0x27 => "granule protection fault (translation table walk)",
            0x10 => return f.write_str("synchronous external abort"),
            0x11 => return f.write_str("synchronous tag check fault"),
            0x18 => return f.write_str("synchronous parity or ECC error"),
            0x21 => return f.write_str("alignment fault"),
            0x28 => return f.write_str("granule protection fault"),
            0x30 => return f.write_str("TLB conflict abort"),
            0x31 => return f.write_str("unsupported atomic hardware update fault"),
            0x34 => return f.write_str("implementation fault (lockdown abort)"),
            0x35 => return f.write_str("implementation fault (unsupported exclusive)"),
            code => return write!(f, "unknown {code}"),
        };
        match self.level() {
            Some(level) => write!(f, "{level} {what}"),
            None => write!(f, "level -1 {what}"),
        }
    }
}

impl fmt::Debug for FaultStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStatus({:#04x}: {self})", self.0)
    }
}

/// The "Mem abort info" block of a Linux oops, to be displayed: lines with `\n`
/// between them and none at the end.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct MemAbortInfo(Esr);

impl MemAbortInfo {
    /// Of an abort; `None` for other classes of exceptions.
    pub(super) const fn of(esr: Esr) -> Option<Self> {
        if esr.fault_status().is_some() {
            Some(Self(esr))
        } else {
            None
        }
    }
}

impl fmt::Display for MemAbortInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let esr = self.0;
        // These fields are in the same place for instruction aborts.
        let abort = DataAbort::from_iss(esr.iss());
        let width = if esr.il() { 32 } else { 16 };
        writeln!(f, "Mem abort info:")?;
        writeln!(f, "  ESR = {:#018x}", esr.bits())?;
        writeln!(
            f,
            "  EC = {:#04x}: {}, IL = {width} bits",
            esr.ec_code(),
            esr.ec()
        )?;
        writeln!(
            f,
            "  SET = {}, FnV = {}",
            abort.set(),
            u8::from(abort.fnv())
        )?;
        writeln!(
            f,
            "  EA = {}, S1PTW = {}",
            u8::from(abort.ea()),
            u8::from(abort.s1ptw())
        )?;
        write!(f, "  FSC = {:#04x}: {}", abort.fsc().code(), abort.fsc())?;
        if esr.data_abort().is_some() {
            let (cm, wnr) = (u8::from(abort.cm()), u8::from(abort.wnr()));
            write!(f, "\nData abort info:")?;
            write!(
                f,
                "\n  ISV = {}, ISS = {:#010x}",
                u8::from(abort.isv()),
                esr.iss()
            )?;
            write!(f, "\n  CM = {cm}, WnR = {wnr}")?;
        }
        Ok(())
    }
}
