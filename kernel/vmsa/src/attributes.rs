//! The attribute bits of block and page descriptors, the memory types behind
//! `AttrIndx`, and the combinations that a kernel maps with.

use bitflags::bitflags;

/// `MAIR_EL1.Attr0`: Normal, inner and outer write-back, non-transient,
/// allocate on read and on write (`0xff`; DDI 0487, `MAIR_EL1`).
const MAIR_NORMAL: u64 = 0xff;
/// `MAIR_EL1.Attr1`: Device-nGnRE (`0b0000_01_00`).
const MAIR_DEVICE: u64 = 0x04;
/// `MAIR_EL1.Attr2`: Normal, inner and outer non-cacheable.
const MAIR_NORMAL_NC: u64 = 0x44;

/// The value of `MAIR_EL1` that [`Attributes::NORMAL`], [`Attributes::DEVICE_NGNRE`] and
/// [`Attributes::NORMAL_NC`] index.
pub const MAIR_EL1: u64 = MAIR_NORMAL | MAIR_DEVICE << 8 | MAIR_NORMAL_NC << 16;

bitflags! {
    /// The lower (`[11:2]`) and upper (`[63:50]`) attributes of a stage 1 block or page
    /// descriptor of the EL1&0 regime, by their names in the Arm ARM
    /// (DDI 0487, chapter D8, "VMSAv8-64 Block descriptor and Page descriptor formats").
    ///
    /// The valid bit, the bit that tells table or page from block, and the output address
    /// are the [`Descriptor`](crate::Descriptor)'s, not attributes. `nT` (bit 16 of a
    /// block, FEAT_BBM) is an address bit in a page and left out.
    ///
    /// ```
    /// use vmsa::Attributes;
    ///
    /// assert!(Attributes::KERNEL_DATA.is_writable_el1());
    /// assert!(!Attributes::KERNEL_DATA.is_executable_el1());
    /// assert!(Attributes::KERNEL_TEXT.is_executable_el1());
    /// ```
    #[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
    pub struct Attributes: u64 {
        /// `AttrIndx[0]`, bit 2.
        const ATTR_INDEX_0 = 1 << 2;
        /// `AttrIndx[1]`, bit 3.
        const ATTR_INDEX_1 = 1 << 3;
        /// `AttrIndx[2]`, bit 4.
        const ATTR_INDEX_2 = 1 << 4;
        /// `NS`, bit 5: the output address is Non-secure; ignored by accesses from Non-secure
        /// state.
        const NS = 1 << 5;
        /// `AP[1]`, bit 6: EL0 has access too.
        const AP_EL0 = 1 << 6;
        /// `AP[2]`, bit 7: no writes, at any level.
        const AP_READ_ONLY = 1 << 7;
        /// `SH[0]`, bit 8: never alone (`SH = 0b01` is reserved).
        const SH_0 = 1 << 8;
        /// `SH[1]`, bit 9: alone, it means Outer Shareable.
        const SH_OUTER = 1 << 9;
        /// `SH = 0b11`, bits `[9:8]`: Inner Shareable.
        const SH_INNER = 0b11 << 8;
        /// `AF`, bit 10: accessed; an access while it is clear faults, unless `TCR_EL1.HA` is set.
        const AF = 1 << 10;
        /// `nG`, bit 11: the translation is of the current ASID only.
        const NG = 1 << 11;
        /// `GP`, bit 50: guarded page (FEAT_BTI).
        const GP = 1 << 50;
        /// `DBM`, bit 51: dirty bit modifier (FEAT_HAFDBS, with `TCR_EL1.HD`).
        const DBM = 1 << 51;
        /// `Contiguous`, bit 52: one of 16 entries that may share one TLB entry.
        const CONTIGUOUS = 1 << 52;
        /// `PXN`, bit 53: not executable at EL1.
        const PXN = 1 << 53;
        /// `UXN`, bit 54: not executable at EL0.
        const UXN = 1 << 54;
        /// Bit 55, which is software's.
        const SW_0 = 1 << 55;
        /// Bit 56, which is software's.
        const SW_1 = 1 << 56;
        /// Bit 57, which is software's.
        const SW_2 = 1 << 57;
        /// Bit 58, which is software's.
        const SW_3 = 1 << 58;
        /// `PBHA`, bits `[62:59]`: page-based hardware attributes (FEAT_HPDS2), ignored
        /// unless `TCR_EL1.HWU*` gives them to the implementation.
        const PBHA = 0b1111 << 59;
        /// Bit 63: `AMEC` in regimes of Realm state (FEAT_MEC), otherwise ignored.
        const AMEC = 1 << 63;
    }
}

impl Attributes {
    /// `AttrIndx`, bits `[4:2]`.
    pub const ATTR_INDEX: Self = Self::ATTR_INDEX_0
        .union(Self::ATTR_INDEX_1)
        .union(Self::ATTR_INDEX_2);
    /// `SH`, bits `[9:8]`.
    pub const SH: Self = Self::SH_INNER;
    /// `AP[2:1]`, bits `[7:6]`.
    pub const AP: Self = Self::AP_EL0.union(Self::AP_READ_ONLY);
    /// Bits `[58:55]`, which the hardware ignores.
    pub const SOFTWARE: Self = Self::SW_0
        .union(Self::SW_1)
        .union(Self::SW_2)
        .union(Self::SW_3);

    /// Memory type 0 of [`MAIR_EL1`]: Normal, write-back.
    pub const NORMAL: Self = Self::empty();
    /// Memory type 1 of [`MAIR_EL1`]: Device-nGnRE.
    pub const DEVICE_NGNRE: Self = Self::ATTR_INDEX_0;
    /// Memory type 2 of [`MAIR_EL1`]: Normal, non-cacheable.
    pub const NORMAL_NC: Self = Self::ATTR_INDEX_1;

    /// What all Normal kernel mappings share: write-back, Inner Shareable, accessed,
    /// global, nothing for EL0.
    const KERNEL: Self = Self::NORMAL
        .union(Self::SH_INNER)
        .union(Self::AF)
        .union(Self::UXN);

    /// Kernel data: read and write, never executed.
    pub const KERNEL_DATA: Self = Self::KERNEL.union(Self::PXN);
    /// Kernel constants: read only, never executed.
    pub const KERNEL_RODATA: Self = Self::KERNEL_DATA.union(Self::AP_READ_ONLY);
    /// Kernel code: read and executed at EL1.
    pub const KERNEL_TEXT: Self = Self::KERNEL.union(Self::AP_READ_ONLY);
    /// Device registers: Device-nGnRE, read and write, never executed.
    ///
    /// `SH` says Outer Shareable, which is how Device memory is treated whatever `SH`
    /// says (DDI 0487, chapter D8, "Stage 1 Shareability attributes").
    pub const DEVICE: Self = Self::DEVICE_NGNRE
        .union(Self::SH_OUTER)
        .union(Self::AF)
        .union(Self::PXN)
        .union(Self::UXN);

    /// `AttrIndx` as a number, 0 to 7.
    #[must_use]
    pub const fn memory_type(self) -> u8 {
        (self.intersection(Self::ATTR_INDEX).bits() >> 2) as u8
    }

    /// Whether EL1 may write: `AP[2]` is clear.
    ///
    /// `DBM` is not considered: it makes a read-only entry writable only where
    /// `TCR_EL1.HD` is set.
    #[must_use]
    pub const fn is_writable_el1(self) -> bool {
        !self.contains(Self::AP_READ_ONLY)
    }

    /// Whether EL1 may execute: `PXN` is clear, and EL0 may not write, for memory that EL0 can
    /// write is never executable at EL1 (DDI 0487, chapter D8, direct permissions, `AP[2:1]` with
    /// `PXN`; `SCTLR_EL1.WXN` is not considered).
    #[must_use]
    pub const fn is_executable_el1(self) -> bool {
        let el0_writes = self.contains(Self::AP_EL0) && self.is_writable_el1();
        !self.contains(Self::PXN) && !el0_writes
    }
}
