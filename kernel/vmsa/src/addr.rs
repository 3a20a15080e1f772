//! Addresses: a virtual address that is known to be canonical, and a physical
//! address that fits 48 bits.
//!
//! Each is checked once, where it is made from a bare number; whoever holds
//! one need not ask again. Arithmetic that would leave the valid set gives
//! `None`, or panics in the operator form.

use core::fmt;
use core::ops::{Add, Sub};

/// log2 of the size of a page in bytes: this crate knows the 4 KiB granule only
/// (`TCR_EL1.TG0 = 0b00`, `TCR_EL1.TG1 = 0b10`).
pub const PAGE_SHIFT: u32 = 12;

/// The size of a page, and of a frame, in bytes.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;

/// Bits of an address that are translated with 48-bit VAs, and bits of a 48-bit
/// output address (`TCR_EL1.T0SZ` and `T1SZ` of 16, `TCR_EL1.IPS = 0b101`).
pub const ADDRESS_BITS: u32 = 48;

/// The bits that a 48-bit address may have set freely.
pub(crate) const ADDRESS_MASK: u64 = (1 << ADDRESS_BITS) - 1;

/// A virtual address that a 48-bit translation regime can translate: bits
/// `[63:48]` are all zero (the lower half, translated by `TTBR0_EL1`) or all one
/// (the upper half, `TTBR1_EL1`).
///
/// Bit 47 takes no part: with `T1SZ = 16` the upper half begins at `0xffff_0000_0000_0000`, other
/// than on x86-64 (DDI 0487, chapter D8, "Supported virtual address ranges"). Tagged addresses
/// (`TCR_EL1.TBI0`/`TBI1`) are not canonical in this sense.
///
/// ```
/// use vmsa::VirtAddr;
///
/// let va = VirtAddr::new(0xffff_8000_4020_0123).unwrap();
/// assert!(va.is_upper());
/// assert_eq!(va.align_down(4096).as_u64(), 0xffff_8000_4020_0000);
/// assert_eq!(va.to_string(), "0xffff_8000_4020_0123");
/// assert_eq!(VirtAddr::new(0x0001_0000_0000_0000), None);
/// ```
#[repr(transparent)]
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtAddr(u64);

impl VirtAddr {
    /// The highest address there is.
    pub const MAX: Self = Self(u64::MAX);

    /// Takes an address, if it is canonical.
    #[must_use]
    pub const fn new(address: u64) -> Option<Self> {
        let top = address >> ADDRESS_BITS;
        if top == 0 || top == u64::MAX >> ADDRESS_BITS {
            Some(Self(address))
        } else {
            None
        }
    }

    /// The canonical address whose bits `[48:0]` are those of `address`, of which nothing else counts.
    /// For numbers that come from an address, where [`new`](Self::new) would check the known.
    ///
    /// ```
    /// use vmsa::VirtAddr;
    /// let va = VirtAddr::literal(0xffff_8000_4020_0000);
    /// assert_eq!(VirtAddr::sign_extended(va.as_u64() & 0x1_ffff_ffff_ffff), va);
    /// ```
    #[must_use]
    pub const fn sign_extended(address: u64) -> Self {
        /// Bits that are copies of the one below them.
        const COPIES: u32 = u64::BITS - ADDRESS_BITS - 1;
        Self(((address << COPIES) as i64 >> COPIES) as u64)
    }

    /// An address that is known when the program is written.
    ///
    /// In a constant this is checked at compile time.
    ///
    /// # Panics
    ///
    /// If the address is not canonical.
    ///
    /// ```
    /// use vmsa::VirtAddr;
    /// const LINEAR_MAP: VirtAddr = VirtAddr::literal(0xffff_0000_0000_0000);
    /// ```
    /// ```compile_fail
    /// # use vmsa::VirtAddr;
    /// const NOT_CANONICAL: VirtAddr = VirtAddr::literal(0x8000_0000_0000_0000);
    /// ```
    #[must_use]
    pub const fn literal(address: u64) -> Self {
        Self::new(address).expect("the address is not canonical")
    }

    /// The address as a number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// How far into its page the address is, in bytes.
    #[must_use]
    pub const fn page_offset(self) -> u64 {
        self.0 & (PAGE_SIZE - 1)
    }

    /// Whether this is the first byte of a page.
    #[must_use]
    pub const fn is_page_aligned(self) -> bool {
        self.is_aligned(PAGE_SIZE)
    }

    /// Whether the address is a multiple of `align`.
    ///
    /// # Panics
    ///
    /// If `align` is not a power of two.
    #[must_use]
    pub const fn is_aligned(self, align: u64) -> bool {
        self.0 & low_mask(align) == 0
    }

    /// The next multiple of `align` at or below.
    ///
    /// # Panics
    ///
    /// If `align` is not a power of two, or larger than one half of the address space (2^48).
    #[must_use]
    pub const fn align_down(self, align: u64) -> Self {
        // A half begins at a multiple of its size, so no smaller alignment leaves it.
        assert!(
            align <= 1 << ADDRESS_BITS,
            "alignment is larger than half the address space"
        );
        Self(self.0 & !low_mask(align))
    }

    /// The next multiple of `align` at or above; `None` if there is none in the same half.
    ///
    /// # Panics
    ///
    /// If `align` is not a power of two.
    #[must_use]
    pub const fn align_up(self, align: u64) -> Option<Self> {
        let mask = low_mask(align);
        match self.0.checked_add(mask) {
            Some(sum) => self.in_same_half(sum & !mask),
            None => None,
        }
    }

    /// The address `bytes` further up; `None` if that is outside of this half.
    #[must_use]
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        self.in_same_half_by(bytes, self.0.wrapping_add(bytes))
    }

    /// The address `bytes` further down; `None` if that is outside of this half.
    #[must_use]
    pub const fn checked_sub(self, bytes: u64) -> Option<Self> {
        self.in_same_half_by(bytes, self.0.wrapping_sub(bytes))
    }

    /// `address`, which is `bytes` from this one, if it is in the same half.
    ///
    /// No half has 2^48 bytes between two of its addresses, and whoever leaves one by less, at the ends
    /// of the 64 bits as well, changes bits `[63:48]`: one comparison for all of it.
    const fn in_same_half_by(self, bytes: u64, address: u64) -> Option<Self> {
        if (address ^ self.0 | bytes) >> ADDRESS_BITS == 0 {
            Some(Self(address))
        } else {
            None
        }
    }

    /// The address `bytes` further up, which is known to be in the same half.
    pub(crate) const fn within_half(self, bytes: u64) -> Self {
        debug_assert!(self.checked_add(bytes).is_some());
        Self(self.0.wrapping_add(bytes))
    }

    /// Whether the address is in the upper half, which `TTBR1_EL1` translates.
    ///
    /// Bit 55 decides, as in the hardware (DDI 0487, chapter D8, "Selection between TTBR0 and
    /// TTBR1").
    #[must_use]
    pub const fn is_upper(self) -> bool {
        self.0 & (1 << 55) != 0
    }

    /// A pointer to the address.
    ///
    /// Making it is safe, using it is not: the provenance is whatever was
    /// exposed for the address ([`core::ptr::with_exposed_provenance`]).
    #[must_use]
    pub fn as_ptr<T>(self) -> *const T {
        core::ptr::with_exposed_provenance(self.as_usize())
    }

    /// A pointer to the address, to write through; see [`as_ptr`](Self::as_ptr).
    #[must_use]
    pub fn as_mut_ptr<T>(self) -> *mut T {
        core::ptr::with_exposed_provenance_mut(self.as_usize())
    }

    /// The address of a pointer, whose provenance is exposed.
    ///
    /// # Panics
    ///
    /// If the address is not canonical: no object has such an address.
    #[must_use]
    pub fn from_ptr<T: ?Sized>(pointer: *const T) -> Self {
        Self::literal(pointer.expose_provenance() as u64)
    }

    /// The address as a `usize`, which is 64 bits wide (asserted in `lib.rs`).
    const fn as_usize(self) -> usize {
        self.0 as usize
    }

    /// `address`, if it is canonical and in the same half as this one.
    const fn in_same_half(self, address: u64) -> Option<Self> {
        match Self::new(address) {
            Some(new) if new.is_upper() == self.is_upper() => Some(new),
            _ => None,
        }
    }
}

/// A physical address below 2^48: what a descriptor without FEAT_LPA2 (or
/// FEAT_LPA with 64 KiB pages) can hold as its output address
/// (DDI 0487, chapter D8, "VMSAv8-64 descriptor formats").
///
/// ```
/// use vmsa::{Frame, PhysAddr};
///
/// let pa = PhysAddr::literal(0x4020_0123);
/// assert_eq!(Frame::containing(pa).number(), 0x40200);
/// assert_eq!(pa.to_string(), "0x0000_4020_0123");
/// ```
#[repr(transparent)]
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysAddr(u64);

impl PhysAddr {
    /// The highest address there is.
    pub const MAX: Self = Self(ADDRESS_MASK);

    /// Takes an address, if it is below 2^48.
    #[must_use]
    pub const fn new(address: u64) -> Option<Self> {
        if address <= ADDRESS_MASK {
            Some(Self(address))
        } else {
            None
        }
    }

    /// An address that is known when the program is written.
    ///
    /// # Panics
    ///
    /// If the address is 2^48 or more; in a constant, at compile time.
    #[must_use]
    pub const fn literal(address: u64) -> Self {
        Self::new(address).expect("the address has more than 48 bits")
    }

    /// The address as a number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// How far into its frame the address is, in bytes.
    #[must_use]
    pub const fn page_offset(self) -> u64 {
        self.0 & (PAGE_SIZE - 1)
    }

    /// Whether this is the first byte of a frame.
    #[must_use]
    pub const fn is_page_aligned(self) -> bool {
        self.is_aligned(PAGE_SIZE)
    }

    /// Whether the address is a multiple of `align`.
    ///
    /// # Panics
    ///
    /// If `align` is not a power of two.
    #[must_use]
    pub const fn is_aligned(self, align: u64) -> bool {
        self.0 & low_mask(align) == 0
    }

    /// The next multiple of `align` at or below.
    ///
    /// # Panics
    ///
    /// If `align` is not a power of two.
    #[must_use]
    pub const fn align_down(self, align: u64) -> Self {
        Self(self.0 & !low_mask(align))
    }

    /// The next multiple of `align` at or above; `None` if that is 2^48 or more.
    ///
    /// # Panics
    ///
    /// If `align` is not a power of two.
    #[must_use]
    pub const fn align_up(self, align: u64) -> Option<Self> {
        let mask = low_mask(align);
        match self.0.checked_add(mask) {
            Some(sum) => Self::new(sum & !mask),
            None => None,
        }
    }

    /// The address `bytes` further up; `None` if that is 2^48 or more.
    #[must_use]
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(sum) => Self::new(sum),
            None => None,
        }
    }

    /// The address `bytes` further down; `None` if that is below zero.
    #[must_use]
    pub const fn checked_sub(self, bytes: u64) -> Option<Self> {
        match self.0.checked_sub(bytes) {
            Some(difference) => Some(Self(difference)),
            None => None,
        }
    }
}

/// The bits below an alignment.
const fn low_mask(align: u64) -> u64 {
    assert!(align.is_power_of_two(), "an alignment is a power of two");
    align - 1
}

/// Operators and formats that [`VirtAddr`] and [`PhysAddr`] have in common;
/// `$digits` hexadecimal digits are printed, in groups of four.
macro_rules! address_traits {
    ($name:ident, $groups:expr) => {
        impl Add<u64> for $name {
            type Output = Self;

            /// # Panics
            ///
            /// If the result is not an address of the same half any more.
            fn add(self, bytes: u64) -> Self {
                self.checked_add(bytes)
                    .expect("address arithmetic left the address space")
            }
        }

        impl Sub<u64> for $name {
            type Output = Self;

            /// # Panics
            ///
            /// If the result is not an address of the same half any more.
            fn sub(self, bytes: u64) -> Self {
                self.checked_sub(bytes)
                    .expect("address arithmetic left the address space")
            }
        }

        impl Sub for $name {
            type Output = u64;

            /// The distance in bytes.
            ///
            /// # Panics
            ///
            /// If `other` is above `self`.
            fn sub(self, other: Self) -> u64 {
                self.0
                    .checked_sub(other.0)
                    .expect("a distance between addresses is not negative")
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("0x")?;
                for group in (0..$groups).rev() {
                    write!(f, "{:04x}", (self.0 >> (16 * group)) & 0xffff)?;
                    if group != 0 {
                        f.write_str("_")?;
                    }
                }
                Ok(())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    };
}

address_traits!(VirtAddr, 4);
address_traits!(PhysAddr, 3);
