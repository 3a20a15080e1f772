//! `ESR_EL1`: why an exception was taken, decoded, in the words that Linux uses,
//! since those are the words that people search for.
//!
//! Fields: DDI 0487, `ESR_EL1`, and there "ISS encoding for an exception from a
//! Data Abort / from an Instruction Abort".

mod abort;
mod class;

pub use abort::{DataAbort, FaultStatus, InstructionAbort, MemAbortInfo};
pub use class::ExceptionClass;

use core::fmt;

/// `ISS`, bits `[24:0]`.
const ISS_MASK: u64 = (1 << 25) - 1;
/// `IL`, bit 25.
const IL: u64 = 1 << 25;
/// Shift of `EC`, bits `[31:26]`.
const EC_SHIFT: u32 = 26;
/// `EC` has six bits.
const EC_MASK: u64 = 0b11_1111;
/// Shift of `ISS2`, bits `[55:32]`.
const ISS2_SHIFT: u32 = 32;
/// `ISS2` has 24 bits.
const ISS2_MASK: u64 = (1 << 24) - 1;

/// A value of `ESR_EL1` (or of `ESR_EL2`, which is laid out alike).
///
/// ```
/// use vmsa::esr::{Esr, ExceptionClass};
///
/// let esr = Esr::new(0x9600_0047);
/// assert_eq!(esr.ec(), ExceptionClass::DataAbortCurrent);
/// assert_eq!(esr.ec().text(), "DABT (current EL)");
///
/// let abort = esr.data_abort().unwrap();
/// assert!(abort.wnr() && abort.fsc().is_translation_fault());
/// assert_eq!(abort.fsc().to_string(), "level 3 translation fault");
/// ```
#[repr(transparent)]
#[derive(Copy, Clone, PartialEq, Eq, Hash)]
pub struct Esr(pub u64);

impl Esr {
    /// Takes the register's value.
    #[must_use]
    pub const fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// The register's value.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// `EC`: the exception class.
    #[must_use]
    pub const fn ec(self) -> ExceptionClass {
        ExceptionClass::from_code(self.ec_code())
    }

    /// `EC` as a number, 0 to 63.
    #[must_use]
    pub const fn ec_code(self) -> u8 {
        ((self.0 >> EC_SHIFT) & EC_MASK) as u8
    }

    /// `IL`: the instruction was 32 bits long, as all of A64 are. Also set where the
    /// length says nothing (instruction aborts, SError).
    #[must_use]
    pub const fn il(self) -> bool {
        self.0 & IL != 0
    }

    /// `ISS`: 25 bits, whose meaning depends on the class.
    #[must_use]
    pub const fn iss(self) -> u32 {
        (self.0 & ISS_MASK) as u32
    }

    /// `ISS2`: 24 more bits, zero without the features that define them.
    #[must_use]
    pub const fn iss2(self) -> u32 {
        ((self.0 >> ISS2_SHIFT) & ISS2_MASK) as u32
    }

    /// The syndrome of a data abort; `None` for other classes.
    #[must_use]
    pub const fn data_abort(self) -> Option<DataAbort> {
        match self.ec() {
            ExceptionClass::DataAbortLower | ExceptionClass::DataAbortCurrent => {
                Some(DataAbort::from_iss(self.iss()))
            }
            _ => None,
        }
    }

    /// The syndrome of an instruction abort; `None` for other classes.
    #[must_use]
    pub const fn instruction_abort(self) -> Option<InstructionAbort> {
        match self.ec() {
            ExceptionClass::InstructionAbortLower | ExceptionClass::InstructionAbortCurrent => {
                Some(InstructionAbort::from_iss(self.iss()))
            }
            _ => None,
        }
    }

    /// The fault status of a data or instruction abort; `None` for other classes.
    #[must_use]
    pub const fn fault_status(self) -> Option<FaultStatus> {
        match (self.data_abort(), self.instruction_abort()) {
            (Some(abort), _) => Some(abort.fsc()),
            (_, Some(abort)) => Some(abort.fsc()),
            (None, None) => None,
        }
    }

    /// The immediate of a `BRK` instruction; `None` for other classes.
    #[must_use]
    pub const fn brk_immediate(self) -> Option<u16> {
        match self.ec() {
            ExceptionClass::BrkAarch64 => Some(self.iss() as u16),
            _ => None,
        }
    }

    /// The block that Linux prints for an abort, to be displayed; `None` for other classes.
    ///
    /// ```
    /// use vmsa::Esr;
    ///
    /// let info = Esr::new(0x9600_0047).mem_abort_info().unwrap();
    /// assert_eq!(
    ///     info.to_string(),
    ///     "\
    /// Mem abort info:
    ///   ESR = 0x0000000096000047
    ///   EC = 0x25: DABT (current EL), IL = 32 bits
    ///   SET = 0, FnV = 0
    ///   EA = 0, S1PTW = 0
    ///   FSC = 0x07: level 3 translation fault
    /// Data abort info:
    ///   ISV = 0, ISS = 0x00000047
    ///   CM = 0, WnR = 1"
    /// );
    /// ```
    #[must_use]
    pub const fn mem_abort_info(self) -> Option<MemAbortInfo> {
        MemAbortInfo::of(self)
    }
}

impl From<u64> for Esr {
    fn from(bits: u64) -> Self {
        Self(bits)
    }
}

impl fmt::Display for Esr {
    /// One line: the value, the class, and for an abort what kind of fault.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}: {}", self.0, self.ec())?;
        if let Some(status) = self.fault_status() {
            write!(f, ", {status}")?;
        }
        match self.data_abort() {
            Some(abort) => write!(f, ", {}", if abort.wnr() { "write" } else { "read" }),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Esr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Esr({:#018x})", self.0)
    }
}

impl fmt::LowerHex for Esr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}
