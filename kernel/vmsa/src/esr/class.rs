//! The exception classes: `ESR_ELx.EC`.

use core::fmt;

/// Declares the classes with code and text in one table.
macro_rules! classes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// `ESR_EL1.EC`: the class of an exception (DDI 0487, `ESR_EL1`, table of `EC`).
        #[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
        pub enum ExceptionClass {
            $($(#[$doc])* $name,)*
            /// A code that none of the others has.
            Other(u8),
        }

        impl ExceptionClass {
            /// The class of a code; only its lowest six bits count.
            #[must_use]
            pub const fn from_code(code: u8) -> Self {
                match code & 0b11_1111 {
                    $($code => Self::$name,)*
                    other => Self::Other(other),
                }
            }

            /// The code, 0 to 63.
            #[must_use]
            pub const fn code(self) -> u8 {
                match self {
                    $(Self::$name => $code,)*
                    Self::Other(code) => code,
                }
            }

            /// What Linux calls the class.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Other(_) => "UNRECOGNIZED EC",
                }
            }
        }
    };
}

classes! {
    /// No other class fits: an undefined instruction, for one.
    Unknown = 0x00, "Unknown/Uncategorized";
    /// Trapped `WFI`, `WFE`, `WFIT` or `WFET`.
    Wfx = 0x01, "WFx";
    /// Trapped AArch32 `MCR` or `MRC`, coprocessor 15.
    Cp15 = 0x03, "CP15 MCR/MRC";
    /// Trapped AArch32 `MCRR` or `MRRC`, coprocessor 15.
    Cp15Double = 0x04, "CP15 MCRR/MRRC";
    /// Trapped AArch32 `MCR` or `MRC`, coprocessor 14.
    Cp14 = 0x05, "CP14 MCR/MRC";
    /// Trapped AArch32 `LDC` or `STC`, coprocessor 14.
    Cp14LoadStore = 0x06, "CP14 LDC/STC";
    /// Floating point, Advanced SIMD or SVE, trapped by `CPACR_EL1.FPEN`.
    FpAsimd = 0x07, "ASIMD";
    /// Trapped `VMRS`, coprocessor 10 (EL2 only).
    Cp10 = 0x08, "CP10 MRC/VMRS";
    /// Trapped use of pointer authentication (EL2 and EL3).
    Pac = 0x09, "PAC";
    /// Trapped `LD64B`, `ST64B`, `ST64BV` or `ST64BV0`.
    Ls64 = 0x0a, "LS64";
    /// Trapped AArch32 `MRRC`, coprocessor 14.
    Cp14Double = 0x0c, "CP14 MCRR/MRRC";
    /// Branch Target Exception (FEAT_BTI): a branch to an instruction that is no landing pad.
    Bti = 0x0d, "BTI";
    /// Illegal Execution state: `PSTATE.IL` was set, usually by a bad `SPSR_EL1`.
    IllegalState = 0x0e, "PSTATE.IL";
    /// `SVC` in AArch32.
    SvcAarch32 = 0x11, "SVC (AArch32)";
    /// `HVC` in AArch32.
    HvcAarch32 = 0x12, "HVC (AArch32)";
    /// `SMC` in AArch32.
    SmcAarch32 = 0x13, "SMC (AArch32)";
    /// Trapped 128-bit system register access or system instruction (FEAT_SYSREG128,
    /// FEAT_SYSINSTR128).
    SystemRegister128 = 0x14, "MSRR/MRRS (AArch64)";
    /// `SVC` in AArch64.
    SvcAarch64 = 0x15, "SVC (AArch64)";
    /// `HVC` in AArch64.
    HvcAarch64 = 0x16, "HVC (AArch64)";
    /// `SMC` in AArch64.
    SmcAarch64 = 0x17, "SMC (AArch64)";
    /// Trapped `MSR`, `MRS` or system instruction.
    SystemRegister = 0x18, "MSR/MRS (AArch64)";
    /// SVE, trapped by `CPACR_EL1.ZEN`.
    Sve = 0x19, "SVE";
    /// Trapped `ERET`, `ERETAA` or `ERETAB` (EL2 only).
    Eret = 0x1a, "ERET/ERETAA/ERETAB";
    /// Exception from a `TSTART` (FEAT_TME).
    Tstart = 0x1b, "TSTART";
    /// Pointer authentication failed (FEAT_FPAC).
    Fpac = 0x1c, "FPAC";
    /// SME, trapped by `CPACR_EL1.SMEN`, or used in the wrong mode.
    Sme = 0x1d, "SME";
    /// Granule Protection Check (FEAT_RME; EL3 only).
    Gpc = 0x1e, "GPC";
    /// Implementation defined (EL3 only).
    ImplementationDefinedEl3 = 0x1f, "EL3 IMP DEF";
    /// Instruction Abort from EL0.
    InstructionAbortLower = 0x20, "IABT (lower EL)";
    /// Instruction Abort from EL1 itself.
    InstructionAbortCurrent = 0x21, "IABT (current EL)";
    /// The program counter is not a multiple of 4.
    PcAlignment = 0x22, "PC Alignment";
    /// Data Abort from EL0.
    DataAbortLower = 0x24, "DABT (lower EL)";
    /// Data Abort from EL1 itself.
    DataAbortCurrent = 0x25, "DABT (current EL)";
    /// The stack pointer was used while it was not a multiple of 16.
    SpAlignment = 0x26, "SP Alignment";
    /// A memory copy or set instruction found its state changed (FEAT_MOPS).
    Mops = 0x27, "MOPS";
    /// Trapped floating-point exception from AArch32.
    FpAarch32 = 0x28, "FP (AArch32)";
    /// Trapped floating-point exception from AArch64.
    FpAarch64 = 0x2c, "FP (AArch64)";
    /// Guarded Control Stack check failed (FEAT_GCS).
    Gcs = 0x2d, "GCS";
    /// SError: an asynchronous external abort, mostly.
    SError = 0x2f, "SError";
    /// Hardware breakpoint, from EL0.
    BreakpointLower = 0x30, "Breakpoint (lower EL)";
    /// Hardware breakpoint, from EL1 itself.
    BreakpointCurrent = 0x31, "Breakpoint (current EL)";
    /// Software step, from EL0.
    SoftwareStepLower = 0x32, "Software Step (lower EL)";
    /// Software step, from EL1 itself.
    SoftwareStepCurrent = 0x33, "Software Step (current EL)";
    /// Watchpoint, from EL0.
    WatchpointLower = 0x34, "Watchpoint (lower EL)";
    /// Watchpoint, from EL1 itself.
    WatchpointCurrent = 0x35, "Watchpoint (current EL)";
    /// `BKPT` in AArch32.
    BkptAarch32 = 0x38, "BKPT (AArch32)";
    /// Vector catch from AArch32 (EL2 only).
    VectorCatchAarch32 = 0x3a, "Vector catch (AArch32)";
    /// `BRK` in AArch64; the immediate is `ISS[15:0]`.
    BrkAarch64 = 0x3c, "BRK (AArch64)";
    /// Profiling exception (FEAT_EBEP, FEAT_SPE_EXC or FEAT_TRBE_EXC).
    Profiling = 0x3d, "PMU";
}

impl fmt::Display for ExceptionClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
