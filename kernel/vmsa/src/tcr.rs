//! `TCR_EL1`: the translation control register, built field by field.
//!
//! Fields: DDI 0487, `TCR_EL1`. Fixed here are 4 KiB pages, 48-bit
//! addresses in both halves, and walks that are write-back cacheable and Inner Shareable.

/// `T0SZ`, bits `[5:0]`, and `T1SZ`, bits `[21:16]`: 64 less the bits that are translated.
const TSZ_48_BITS: u64 = 64 - 48;
/// Shift of `T0SZ`.
const T0SZ_SHIFT: u32 = 0;
/// `EPD0`, bit 7: no walks through `TTBR0_EL1`.
const EPD0: u64 = 1 << 7;
/// Shift of `T1SZ`.
const T1SZ_SHIFT: u32 = 16;
/// `EPD1`, bit 23: no walks through `TTBR1_EL1`.
const EPD1: u64 = 1 << 23;
/// `IRGN0`, bits `[9:8]`, `ORGN0`, bits `[11:10]`, both `0b01` (write-back, write-allocate),
/// and `SH0`, bits `[13:12]`, `0b11` (Inner Shareable).
const WALK_0: u64 = 0b01 << 8 | 0b01 << 10 | 0b11 << 12;
/// `TG0`, bits `[15:14]`: `0b00` is 4 KiB.
const TG0_4K: u64 = 0b00 << 14;
/// `IRGN1`, bits `[25:24]`, `ORGN1`, bits `[27:26]`, `SH1`, bits `[29:28]`: as [`WALK_0`].
const WALK_1: u64 = 0b01 << 24 | 0b01 << 26 | 0b11 << 28;
/// `TG1`, bits `[31:30]`: `0b10` is 4 KiB, other than in `TG0`.
const TG1_4K: u64 = 0b10 << 30;
/// Shift of `IPS`, bits `[34:32]`.
const IPS_SHIFT: u32 = 32;
/// `IPS` has three bits.
const IPS_MASK: u64 = 0b111;
/// `IPS = 0b101`: 48 bits, the most without FEAT_LPA or FEAT_LPA2.
const IPS_48_BITS: u64 = 0b101;
/// `AS`, bit 36: ASIDs have 16 bits.
const AS: u64 = 1 << 36;

/// A value of `TCR_EL1`.
///
/// ```
/// use vmsa::tcr::{Tcr, ips_from_parange};
///
/// const TCR: Tcr = Tcr::new().with_ips(ips_from_parange(2)).with_epd0(true);
/// assert_eq!(TCR.bits(), 0x0000_0002_b510_3590);
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Tcr(u64);

impl Tcr {
    /// Both halves on, 32-bit output addresses, 8-bit ASIDs, no tagged addresses, no hardware
    /// update of `AF` or the dirty state.
    #[must_use]
    pub const fn new() -> Self {
        Self(
            TSZ_48_BITS << T0SZ_SHIFT
                | WALK_0
                | TG0_4K
                | TSZ_48_BITS << T1SZ_SHIFT
                | WALK_1
                | TG1_4K,
        )
    }

    /// The value that goes to the register.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// With this `IPS` (see [`ips_from_parange`]); only its lowest three bits count.
    #[must_use]
    pub const fn with_ips(self, ips: u64) -> Self {
        Self(self.0 & !(IPS_MASK << IPS_SHIFT) | (ips & IPS_MASK) << IPS_SHIFT)
    }

    /// With walks through `TTBR0_EL1` disabled (`true`): a TLB miss in the lower half faults.
    #[must_use]
    pub const fn with_epd0(self, disabled: bool) -> Self {
        self.with(EPD0, disabled)
    }

    /// With walks through `TTBR1_EL1` disabled (`true`): a TLB miss in the upper half faults.
    #[must_use]
    pub const fn with_epd1(self, disabled: bool) -> Self {
        self.with(EPD1, disabled)
    }

    /// With 16-bit ASIDs, if `ID_AA64MMFR0_EL1.ASIDBits` is `0b0010`.
    #[must_use]
    pub const fn with_asid16(self, wide: bool) -> Self {
        self.with(AS, wide)
    }

    /// With one bit set or clear.
    const fn with(self, bit: u64, set: bool) -> Self {
        Self(if set { self.0 | bit } else { self.0 & !bit })
    }
}

impl Default for Tcr {
    fn default() -> Self {
        Self::new()
    }
}

/// The value of the `IPS` field for a CPU with this `ID_AA64MMFR0_EL1.PARange`: the same, but
/// 48 bits at most, for 52 and 56 bits need another descriptor format.
///
/// Only the four bits of the field count.
#[must_use]
pub const fn ips_from_parange(parange: u64) -> u64 {
    let parange = parange & 0b1111;
    if parange < IPS_48_BITS {
        parange
    } else {
        IPS_48_BITS
    }
}
