//! Which changes of an entry that the hardware may be using are allowed in one
//! store, and which need break-before-make: DDI 0487, chapter D8, "Using
//! break-before-make when updating translation table entries", as data.

use crate::attributes::Attributes;
use crate::descriptor::{Descriptor, Kind};
use crate::level::Level;
use core::fmt;

/// What it takes to change one live entry to another.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum LiveChange {
    /// No walk can see a difference: no maintenance.
    ///
    /// The entry stays the same, stays invalid, or differs only in bits that the
    /// hardware ignores.
    None,
    /// Invalid to valid: one store. No TLBI, for an invalid entry is never cached in a
    /// TLB; DSB and ISB before it may be relied on.
    MakeValid,
    /// Valid to invalid: one store, then a TLBI.
    MakeInvalid,
    /// Only attributes that may change in place do: one store, then a TLBI.
    Attributes,
    /// Not in one store: make it invalid, TLBI, then store the new entry.
    NeedsBreakBeforeMake(Reason),
}

impl LiveChange {
    /// Whether one store may do it.
    #[must_use]
    pub const fn is_one_store(self) -> bool {
        !matches!(self, Self::NeedsBreakBeforeMake(_))
    }

    /// Whether a TLB may hold the old translation, so that it must be invalidated.
    #[must_use]
    pub const fn needs_tlbi(self) -> bool {
        !matches!(self, Self::None | Self::MakeValid)
    }
}

/// Why a change needs break-before-make.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// Between table, block and page: the size of the translation changes.
    Size,
    /// Another output address.
    OutputAddress,
    /// Another next-level table.
    TableAddress,
    /// One of the two is part of a contiguous set, whose entries must stay alike.
    Contiguous,
    /// `AttrIndx` changes: another memory type or cacheability.
    MemoryType,
    /// `SH` changes.
    Shareability,
    /// `NS` changes: another physical address space.
    OutputSpace,
    /// Non-global becomes global: an ASID's old entry and the new one would overlap.
    MadeGlobal,
    /// `PBHA` or `AMEC` changes: bits of which the architecture does not say that they may.
    Implementation,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Size => "table, block or page becomes another of them",
            Self::OutputAddress => "the output address changes",
            Self::TableAddress => "the next-level table changes",
            Self::Contiguous => "the entry is part of a contiguous set",
            Self::MemoryType => "the memory type changes",
            Self::Shareability => "the shareability changes",
            Self::OutputSpace => "the physical address space changes",
            Self::MadeGlobal => "a non-global entry becomes global",
            Self::Implementation => "implementation defined bits change",
        })
    }
}

/// Attributes that may change while an entry is live, in either direction, if a TLBI follows.
const FREE: Attributes = Attributes::AP
    .union(Attributes::AF)
    .union(Attributes::GP)
    .union(Attributes::DBM)
    .union(Attributes::PXN)
    .union(Attributes::UXN);

/// `APTable`, `UXNTable` and `PXNTable` of a table entry, bits `[62:59]`: permissions, as [`FREE`].
const TABLE_PERMISSIONS: u64 = 0b1111 << 59;
/// `NSTable` of a table entry, bit 63.
const TABLE_NS: u64 = 1 << 63;

/// Attributes that may not change, with the reason, in the order in which they are reported.
const FIXED: [(Attributes, Reason); 4] = [
    (Attributes::ATTR_INDEX, Reason::MemoryType),
    (Attributes::SH, Reason::Shareability),
    (Attributes::NS, Reason::OutputSpace),
    (
        Attributes::PBHA.union(Attributes::AMEC),
        Reason::Implementation,
    ),
];

// Every attribute is in exactly one class.
const _: () = {
    let classes = [
        FREE,
        Attributes::SOFTWARE,
        Attributes::NG,
        Attributes::CONTIGUOUS,
        FIXED[0].0,
        FIXED[1].0,
        FIXED[2].0,
        FIXED[3].0,
    ];
    let mut seen = Attributes::empty();
    let mut i = 0;
    while i < classes.len() {
        assert!(seen.intersection(classes[i]).is_empty());
        seen = seen.union(classes[i]);
        i += 1;
    }
    assert!(seen.bits() == Attributes::all().bits());
};

/// Judges a change of one entry of a live table, from `old` to `new`, at `level`.
///
/// The rule is the architecture's without FEAT_BBM (level 0), and in three places
/// stricter, as Linux is (`pgattr_change_is_safe`): another output address always
/// needs break-before-make, though the architecture lets two read-only mappings of equal
/// contents be exchanged; a contiguous entry may not change at all while it is
/// valid, for its neighbours would differ from it; and shareability counts as part of the
/// memory type.
///
/// ```
/// use vmsa::{Attributes, Descriptor, Level, LiveChange, PhysAddr, Reason, live_change};
///
/// let page = |pa, attributes| Descriptor::leaf(Level::L3, PhysAddr::literal(pa), attributes).unwrap();
/// let data = page(0x1000, Attributes::KERNEL_DATA);
/// let constant = page(0x1000, Attributes::KERNEL_RODATA);
/// let device = page(0x1000, Attributes::DEVICE);
/// let elsewhere = page(0x2000, Attributes::KERNEL_DATA);
///
/// assert_eq!(live_change(data, constant, Level::L3), LiveChange::Attributes);
/// assert_eq!(
///     live_change(data, device, Level::L3),
///     LiveChange::NeedsBreakBeforeMake(Reason::MemoryType)
/// );
/// assert_eq!(
///     live_change(data, elsewhere, Level::L3),
///     LiveChange::NeedsBreakBeforeMake(Reason::OutputAddress)
/// );
/// ```
#[must_use]
pub fn live_change(old: Descriptor, new: Descriptor, level: Level) -> LiveChange {
    // A reserved encoding is treated as invalid by the hardware.
    let is_live = |kind| !matches!(kind, Kind::Invalid | Kind::Reserved);
    let (from, to) = (old.kind(level), new.kind(level));
    match (is_live(from), is_live(to)) {
        (false, false) => return LiveChange::None,
        (false, true) => return LiveChange::MakeValid,
        (true, false) => return LiveChange::MakeInvalid,
        (true, true) => {}
    }
    match (from, to) {
        (Kind::Table(a), Kind::Table(b)) if a != b => {
            LiveChange::NeedsBreakBeforeMake(Reason::TableAddress)
        }
        (Kind::Table(_), Kind::Table(_)) => table_change(old, new),
        (Kind::Block(a), Kind::Block(b)) | (Kind::Page(a), Kind::Page(b)) if a != b => {
            LiveChange::NeedsBreakBeforeMake(Reason::OutputAddress)
        }
        (Kind::Block(_), Kind::Block(_)) | (Kind::Page(_), Kind::Page(_)) => leaf_change(old, new),
        _ => LiveChange::NeedsBreakBeforeMake(Reason::Size),
    }
}

/// Two table entries that lead to the same table.
fn table_change(old: Descriptor, new: Descriptor) -> LiveChange {
    let changed = old.bits() ^ new.bits();
    if changed & TABLE_NS != 0 {
        LiveChange::NeedsBreakBeforeMake(Reason::OutputSpace)
    } else if changed & TABLE_PERMISSIONS != 0 {
        LiveChange::Attributes
    } else {
        LiveChange::None
    }
}

/// Two blocks or pages of equal size and output address.
fn leaf_change(old: Descriptor, new: Descriptor) -> LiveChange {
    let (from, to) = (old.attributes(), new.attributes());
    let changed = from
        .symmetric_difference(to)
        .difference(Attributes::SOFTWARE);
    if changed.is_empty() {
        return LiveChange::None;
    }
    if from.union(to).contains(Attributes::CONTIGUOUS) {
        return LiveChange::NeedsBreakBeforeMake(Reason::Contiguous);
    }
    if let Some((_, reason)) = FIXED
        .into_iter()
        .find(|(fixed, _)| changed.intersects(*fixed))
    {
        return LiveChange::NeedsBreakBeforeMake(reason);
    }
    if from.contains(Attributes::NG) && !to.contains(Attributes::NG) {
        return LiveChange::NeedsBreakBeforeMake(Reason::MadeGlobal);
    }
    LiveChange::Attributes
}
