//! TLB invalidation: the operations and their operands; which of them cover a range of
//! pages is in [`cover`](fn@cover).
//!
//! Nothing here executes an instruction. Operand layouts: DDI 0487, chapter C5,
//! `TLBI VAE1IS` and `TLBI RVAE1IS`; 4 KiB granule, no FEAT_LPA2.

mod cover;

pub use cover::{MAX_DVM_OPS, cover, cover_asid, cover_pages};

use crate::addr::{PAGE_SHIFT, VirtAddr};
use crate::level::Level;
use core::fmt;

/// Bits `[43:0]` of the operand of an operation by address: `VA[55:12]`.
const VA_BITS: u32 = 44;
/// `TTL`, bits `[47:44]`.
const TTL_SHIFT: u32 = 44;
/// `TTL[3:2] = 0b01`: the level is of a walk with 4 KiB pages.
const TTL_4K: u64 = 0b01 << 2;
/// `ASID`, bits `[63:48]`, in both layouts.
const ASID_SHIFT: u32 = 48;

/// `BaseADDR`, bits `[36:0]` of a range operand: `VA[48:12]`.
const BADDR_BITS: u32 = 37;
/// `TTL`, bits `[38:37]` of a range operand.
const RANGE_TTL_SHIFT: u32 = 37;
/// `NUM`, bits `[43:39]`.
const NUM_SHIFT: u32 = 39;
/// `NUM` has five bits.
const NUM_MAX: u64 = 31;
/// `SCALE`, bits `[45:44]`.
const SCALE_SHIFT: u32 = 44;
/// `SCALE` has two bits.
const SCALE_MAX: u32 = 3;
/// `TG = 0b01`, bits `[47:46]`: 4 KiB.
const TG_4K: u64 = 0b01 << 46;

/// The most pages that one range operation can invalidate: `NUM = 31`, `SCALE = 3`,
/// 2,097,152 pages or 8 GiB.
pub const MAX_TLBI_RANGE_PAGES: u64 = range_op_pages(SCALE_MAX, NUM_MAX);

/// The pages that a range operation invalidates: `(NUM + 1) * 2^(5 * SCALE + 1)`
/// (DDI 0487, chapter C5, `TLBI RVAE1IS`).
const fn range_op_pages(scale: u32, num: u64) -> u64 {
    (num + 1) << (5 * scale + 1)
}

/// The operand of an operation by virtual address, or by ASID.
#[repr(transparent)]
#[derive(Copy, Clone, PartialEq, Eq, Hash)]
pub struct Operand(u64);

/// The operand of an operation by virtual address, as a number; see [`Operand::new`].
#[must_use]
pub const fn operand(va: VirtAddr, asid: u16, ttl: Option<Level>) -> u64 {
    Operand::new(va, asid, ttl).bits()
}

impl Operand {
    /// The page of `va` for `asid`.
    ///
    /// `ttl` says that the entry to invalidate is at this level; if it is at another, nothing
    /// need be invalidated, so `None` is right unless one is sure. It is used with FEAT_TTL and
    /// ignored without. Level 0 cannot be said without FEAT_LPA2 and counts as `None`.
    /// `asid` is ignored by operations for all ASIDs; write zero.
    ///
    /// The address is masked to bits `[55:12]`: the sign bits of an upper-half
    /// address would otherwise end up in `TTL` and `ASID`.
    ///
    /// ```
    /// use vmsa::{Level, VirtAddr, tlbi::Operand};
    ///
    /// let va = VirtAddr::literal(0xffff_8000_8000_1000);
    /// assert_eq!(Operand::new(va, 0, None).bits(), 0x0000_0ff8_0008_0001);
    /// assert_eq!(Operand::new(va, 5, Some(Level::L3)).bits(), 0x0005_7ff8_0008_0001);
    /// ```
    #[must_use]
    pub const fn new(va: VirtAddr, asid: u16, ttl: Option<Level>) -> Self {
        let page = (va.as_u64() >> PAGE_SHIFT) & ((1 << VA_BITS) - 1);
        let ttl = match level_hint(ttl) {
            0 => 0,
            level => TTL_4K | level,
        };
        Self(page | ttl << TTL_SHIFT | (asid as u64) << ASID_SHIFT)
    }

    /// What a register holds, whoever computed it.
    ///
    /// ```
    /// use vmsa::{Level, VirtAddr, tlbi::Operand};
    ///
    /// let operand = Operand::from_bits(0x0005_7ff8_0008_0001);
    /// assert_eq!(operand.va(), Some(VirtAddr::literal(0xffff_8000_8000_1000)));
    /// assert_eq!((operand.asid(), operand.ttl()), (5, Some(Level::L3)));
    /// ```
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// All of an ASID.
    #[must_use]
    pub const fn asid_only(asid: u16) -> Self {
        Self((asid as u64) << ASID_SHIFT)
    }

    /// The operand as the instruction takes it.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The page, read back from the bits.
    ///
    /// `None` if bits `[55:48]` of the address are not all alike.
    #[must_use]
    pub const fn va(self) -> Option<VirtAddr> {
        sign_extended(self.0 << PAGE_SHIFT, VA_BITS + PAGE_SHIFT)
    }

    /// The ASID field.
    #[must_use]
    pub const fn asid(self) -> u16 {
        field(self.0, ASID_SHIFT, 16) as u16
    }

    /// The level hint; `None` if there is none, or one for another granule.
    #[must_use]
    pub const fn ttl(self) -> Option<Level> {
        match field(self.0, TTL_SHIFT, 4) {
            0b0101 => Some(Level::L1),
            0b0110 => Some(Level::L2),
            0b0111 => Some(Level::L3),
            _ => None,
        }
    }
}

/// The operand of an operation by range of virtual addresses (FEAT_TLBIRANGE).
#[repr(transparent)]
#[derive(Copy, Clone, PartialEq, Eq, Hash)]
pub struct RangeOperand(u64);

impl RangeOperand {
    /// The `(num + 1) * 2^(5 * scale + 1)` pages from the page of `base`, for `asid`.
    ///
    /// `ttl` is as in [`Operand::new`].
    ///
    /// `None` if `scale` is above 3 or `num` above 31, or if the page is not the first that an
    /// entry of level `ttl` maps: what is invalidated is then UNPREDICTABLE.
    ///
    /// ```
    /// use vmsa::{VirtAddr, tlbi::RangeOperand};
    ///
    /// let va = VirtAddr::literal(0xffff_8000_8000_0000);
    /// let operand = RangeOperand::new(va, 0, None, 0, 7).unwrap();
    /// assert_eq!(operand.pages(), 16);
    /// assert_eq!(operand.bits(), 0x0000_4398_0008_0000);
    /// ```
    #[must_use]
    pub const fn new(
        base: VirtAddr,
        asid: u16,
        ttl: Option<Level>,
        scale: u32,
        num: u64,
    ) -> Option<Self> {
        if scale > SCALE_MAX || num > NUM_MAX {
            return None;
        }
        if let Some(level @ (Level::L1 | Level::L2)) = ttl
            && !base.is_aligned(level.bytes())
        {
            return None;
        }
        let all = Self::of_pages(base, ttl, scale, num);
        Some(Self(all.0 | (asid as u64) << ASID_SHIFT))
    }

    /// As [`new`](Self::new), for all ASIDs, where `scale`, `num` and the alignment are known to be
    /// right.
    #[inline]
    const fn of_pages(base: VirtAddr, ttl: Option<Level>, scale: u32, num: u64) -> Self {
        let page = (base.as_u64() >> PAGE_SHIFT) & ((1 << BADDR_BITS) - 1);
        Self(
            page | level_hint(ttl) << RANGE_TTL_SHIFT
                | num << NUM_SHIFT
                | (scale as u64) << SCALE_SHIFT
                | TG_4K,
        )
    }

    /// What a register holds, whoever computed it; bits `[47:46]`, the granule, are kept and not
    /// looked at.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The operand as the instruction takes it.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The first page, read back from the bits.
    #[must_use]
    pub const fn base(self) -> VirtAddr {
        // VA[48] is part of the field: it is the sign.
        sign_extended(self.0 << PAGE_SHIFT, BADDR_BITS + PAGE_SHIFT)
            .expect("49 bits, sign-extended, are canonical")
    }

    /// How many pages are invalidated.
    #[must_use]
    pub const fn pages(self) -> u64 {
        range_op_pages(
            field(self.0, SCALE_SHIFT, 2) as u32,
            field(self.0, NUM_SHIFT, 5),
        )
    }

    /// The ASID field.
    #[must_use]
    pub const fn asid(self) -> u16 {
        field(self.0, ASID_SHIFT, 16) as u16
    }

    /// The level hint.
    #[must_use]
    pub const fn ttl(self) -> Option<Level> {
        match field(self.0, RANGE_TTL_SHIFT, 2) {
            1 => Some(Level::L1),
            2 => Some(Level::L2),
            3 => Some(Level::L3),
            _ => None,
        }
    }
}

/// One TLB invalidation of the EL1&0 regime, with its operand.
///
/// The `IS` forms are broadcast to the Inner Shareable domain; none has any effect
/// that may be relied on before a DSB of the same domain.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Operation {
    /// `TLBI VAALE1IS`: by address, all ASIDs, last level only.
    Vaale1is(Operand),
    /// `TLBI VAAE1IS`: by address, all ASIDs, with the tables above.
    Vaae1is(Operand),
    /// `TLBI VALE1IS`: by address and ASID (or global), last level only.
    Vale1is(Operand),
    /// `TLBI VAE1IS`: by address and ASID (or global), with the tables above.
    Vae1is(Operand),
    /// `TLBI RVAALE1IS`: by range, all ASIDs, last level only (FEAT_TLBIRANGE).
    Rvaale1is(RangeOperand),
    /// `TLBI RVAAE1IS`: by range, all ASIDs, with the tables above (FEAT_TLBIRANGE).
    Rvaae1is(RangeOperand),
    /// `TLBI RVALE1IS`: by range and ASID (or global), last level only (FEAT_TLBIRANGE).
    Rvale1is(RangeOperand),
    /// `TLBI RVAE1IS`: by range and ASID (or global), with the tables above (FEAT_TLBIRANGE).
    Rvae1is(RangeOperand),
    /// `TLBI ASIDE1IS`: everything non-global of an ASID.
    Aside1is(Operand),
    /// `TLBI VMALLE1IS`: everything, on all CPUs.
    Vmalle1is,
    /// `TLBI VMALLE1`: everything, on this CPU.
    Vmalle1,
}

impl Operation {
    /// The instruction's name, as an assembler takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vaale1is(_) => "vaale1is",
            Self::Vaae1is(_) => "vaae1is",
            Self::Vale1is(_) => "vale1is",
            Self::Vae1is(_) => "vae1is",
            Self::Rvaale1is(_) => "rvaale1is",
            Self::Rvaae1is(_) => "rvaae1is",
            Self::Rvale1is(_) => "rvale1is",
            Self::Rvae1is(_) => "rvae1is",
            Self::Aside1is(_) => "aside1is",
            Self::Vmalle1is => "vmalle1is",
            Self::Vmalle1 => "vmalle1",
        }
    }

    /// The value of the instruction's register; `None` if it takes none.
    #[must_use]
    pub const fn operand_bits(self) -> Option<u64> {
        match self {
            Self::Vaale1is(operand)
            | Self::Vaae1is(operand)
            | Self::Vale1is(operand)
            | Self::Vae1is(operand)
            | Self::Aside1is(operand) => Some(operand.bits()),
            Self::Rvaale1is(operand)
            | Self::Rvaae1is(operand)
            | Self::Rvale1is(operand)
            | Self::Rvae1is(operand) => Some(operand.bits()),
            Self::Vmalle1is | Self::Vmalle1 => None,
        }
    }
}

impl fmt::Debug for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Operand({:#018x})", self.0)
    }
}

impl fmt::Debug for RangeOperand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RangeOperand({:#018x})", self.0)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.operand_bits() {
            Some(bits) => write!(f, "tlbi {}, {bits:#018x}", self.name()),
            None => write!(f, "tlbi {}", self.name()),
        }
    }
}

/// The level as both layouts say it in two bits; 0 is no hint, and so is level 0.
const fn level_hint(ttl: Option<Level>) -> u64 {
    match ttl {
        None => 0,
        Some(level) => level.as_u8() as u64,
    }
}

/// `width` bits of `bits` from `shift` up.
const fn field(bits: u64, shift: u32, width: u32) -> u64 {
    (bits >> shift) & ((1 << width) - 1)
}

/// The address whose lowest `width` bits are those of `bits`, the rest copies of the highest of
/// them.
#[allow(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "an arithmetic shift is wanted"
)]
const fn sign_extended(bits: u64, width: u32) -> Option<VirtAddr> {
    VirtAddr::new(((bits << (64 - width)) as i64 >> (64 - width)) as u64)
}
