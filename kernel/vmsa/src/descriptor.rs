//! One 64-bit entry of a stage 1 translation table, and what it says at a level.
//!
//! Layouts: DDI 0487, chapter D8, "VMSAv8-64 Table descriptor formats" and "VMSAv8-64 Block
//! descriptor and Page descriptor formats", 4 KiB granule, 48-bit output address (no FEAT_LPA2, no
//! FEAT_D128).

use crate::addr::{ADDRESS_BITS, PAGE_SHIFT, PhysAddr};
use crate::attributes::Attributes;
use crate::frame::Frame;
use crate::level::Level;
use core::fmt;

/// Bit 0, `Valid`: with it clear the walk ends in a translation fault and the
/// hardware ignores all other bits.
const VALID: u64 = 1 << 0;

/// Bit 1: table (L0 to L2) or page (L3) where it is set, block where it is clear.
const TABLE_OR_PAGE: u64 = 1 << 1;

/// Bits of a descriptor that may hold an address: `[47:12]`.
const ADDRESS: u64 = ((1 << ADDRESS_BITS) - 1) & !((1 << PAGE_SHIFT) - 1);

/// A translation table entry.
///
/// It holds any 64 bits; what they mean depends on the level of the table they are in.
///
/// ```
/// use vmsa::{Attributes, Descriptor, Kind, Level, PhysAddr};
///
/// let frame = PhysAddr::literal(0x4020_0000);
/// let page = Descriptor::leaf(Level::L3, frame, Attributes::KERNEL_DATA).unwrap();
/// assert_eq!(page.bits(), 0x0060_0000_4020_0703);
/// assert_eq!(page.kind(Level::L3), Kind::Page(frame));
/// assert_eq!(page.attributes(), Attributes::KERNEL_DATA);
///
/// let unmapped = page.with_valid(false);
/// assert_eq!(unmapped.kind(Level::L3), Kind::Invalid);
/// assert_eq!(unmapped.output_ignoring_valid(Level::L3), Some(frame));
/// ```
#[repr(transparent)]
#[derive(Copy, Clone, PartialEq, Eq, Hash, Default)]
pub struct Descriptor(u64);

/// What a descriptor is at its level.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Bit 0 is clear: a translation fault, never cached in a TLB.
    Invalid,
    /// The next level's table is at this address.
    Table(PhysAddr),
    /// Maps 1 GiB (L1) or 2 MiB (L2) at this address.
    Block(PhysAddr),
    /// Maps 4 KiB at this address (L3).
    Page(PhysAddr),
    /// An encoding that is reserved without FEAT_LPA2: a block at L0, or
    /// `0b01` at L3. The hardware treats it as invalid.
    Reserved,
}

impl Descriptor {
    /// The entry that holds nothing: all bits zero.
    pub const INVALID: Self = Self(0);

    /// Takes the bits as they are in memory.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits as they go to memory.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether nothing at all is stored here: all bits are zero.
    ///
    /// An entry can be invalid and yet hold an address and attributes, for the
    /// time when it is made valid again ([`with_valid`](Self::with_valid)).
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether the valid bit is set; at L0 and L3 that may still be a [reserved](Kind::Reserved)
    /// encoding.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.0 & VALID != 0
    }

    /// What the entry is in a table of this level.
    #[must_use]
    pub const fn kind(self, level: Level) -> Kind {
        if self.is_valid() {
            self.kind_if_valid(level)
        } else {
            Kind::Invalid
        }
    }

    /// Whether the entry is a valid block or page.
    #[must_use]
    pub const fn is_leaf(self, level: Level) -> bool {
        matches!(self.kind(level), Kind::Block(_) | Kind::Page(_))
    }

    /// An entry that leads to the table at `table`, and restricts nothing: `NSTable`,
    /// `APTable`, `UXNTable` and `PXNTable` (bits `[63:59]`) are zero.
    ///
    /// # Panics
    ///
    /// If `table` is not the start of a frame.
    #[must_use]
    pub const fn table(table: PhysAddr) -> Self {
        assert!(table.is_page_aligned(), "a table fills a frame");
        Self(table.as_u64() | TABLE_OR_PAGE | VALID)
    }

    /// A valid entry that maps memory: a block at L1 and L2, a page at L3.
    ///
    /// `None` at L0, and where `output` is not a multiple of what the entry maps.
    #[must_use]
    pub const fn leaf(level: Level, output: PhysAddr, attributes: Attributes) -> Option<Self> {
        if !output.is_aligned(level.bytes()) {
            return None;
        }
        let kind = match level {
            Level::L0 => return None,
            Level::L1 | Level::L2 => 0,
            Level::L3 => TABLE_OR_PAGE,
        };
        // Unnamed bits (`from_bits_retain`) are not attributes and stay out.
        let attributes = attributes.intersection(Attributes::all());
        Some(Self(output.as_u64() | attributes.bits() | kind | VALID))
    }

    /// A valid entry that maps a page: [`leaf`](Self::leaf) at L3, where nothing can be wrong.
    #[must_use]
    pub const fn page(frame: Frame, attributes: Attributes) -> Self {
        // What is the same for all pages in one place, so that a loop over frames has it once.
        let bits = attributes.intersection(Attributes::all()).bits() | TABLE_OR_PAGE | VALID;
        Self(frame.number() << PAGE_SHIFT | bits)
    }

    /// Where the entry leads: the next table, or the memory that it maps.
    ///
    /// `None` for an invalid or reserved entry.
    #[must_use]
    pub const fn output(self, level: Level) -> Option<PhysAddr> {
        match self.kind(level) {
            Kind::Table(output) | Kind::Block(output) | Kind::Page(output) => Some(output),
            Kind::Invalid | Kind::Reserved => None,
        }
    }

    /// [`output`](Self::output), as if the valid bit were set.
    ///
    /// For an entry of which only that bit was cleared. `None` for an entry that holds nothing.
    #[must_use]
    pub const fn output_ignoring_valid(self, level: Level) -> Option<PhysAddr> {
        if self.is_none() {
            None
        } else {
            self.with_valid(true).output(level)
        }
    }

    /// The attributes of a block or page.
    ///
    /// In a table entry the same bits mean other things or are ignored.
    #[must_use]
    pub const fn attributes(self) -> Attributes {
        Attributes::from_bits_truncate(self.0)
    }

    /// The same block or page with these attributes in the place of its own.
    #[must_use]
    pub const fn with_attributes(self, attributes: Attributes) -> Self {
        let all = Attributes::all().bits();
        Self(self.0 & !all | attributes.bits() & all)
    }

    /// The same entry with the valid bit set or clear.
    #[must_use]
    pub const fn with_valid(self, valid: bool) -> Self {
        Self(if valid {
            self.0 | VALID
        } else {
            self.0 & !VALID
        })
    }

    /// What the entry is if its valid bit is taken to be set.
    const fn kind_if_valid(self, level: Level) -> Kind {
        match (level, self.0 & TABLE_OR_PAGE != 0) {
            (Level::L0 | Level::L1 | Level::L2, true) => Kind::Table(self.address(Level::L3)),
            (Level::L1 | Level::L2, false) => Kind::Block(self.address(level)),
            (Level::L3, true) => Kind::Page(self.address(Level::L3)),
            (Level::L0 | Level::L3, false) => Kind::Reserved,
        }
    }

    /// The address bits that an output of `alignment.bytes()` has: the rest is RES0 or
    /// means something else (`nT` in a block).
    const fn address(self, alignment: Level) -> PhysAddr {
        PhysAddr::literal(self.0 & ADDRESS).align_down(alignment.bytes())
    }
}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Descriptor({:#018x})", self.0)
    }
}

impl fmt::LowerHex for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}
