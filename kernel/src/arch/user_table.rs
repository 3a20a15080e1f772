//! The table of the lower half: TTBR0_EL1, and the ASID that is in it.
//!
//! TCR_EL1.A1 is 0, as boot left it, so the ASID is that of TTBR0_EL1: one write changes table and
//! ASID together, and no translation of the one can be made under the other.

use super::{barrier, tlbi};
use crate::event;
use aarch64_cpu::registers::{ReadWriteable, Readable, TCR_EL1, TTBR0_EL1, Writeable};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use vmsa::{PhysAddr, tlbi::Operation};

/// Where the ASID is in TTBR0_EL1 (DDI 0487, D24.2, TTBR0_EL1).
const ASID_SHIFT: u32 = 48;
/// `TCR_EL1.AS`, bit 36: ASIDs have 16 bits, and 8 where it is clear.
const AS: u64 = 1 << 36;

static NARROW: AtomicBool = AtomicBool::new(false);

/// Has ASIDs have 8 bits on every CPU that comes to [`open`] its lower half, whatever it can do.
/// Bring-up calls it before the first does.
pub fn use_8_bit_asids() {
    NARROW.store(true, Relaxed);
}

/// Bits of an ASID: 16, where boot has set TCR_EL1.AS because the CPU can do so, or 8.
#[must_use]
pub fn asid_bits() -> u32 {
    if NARROW.load(Relaxed) || TCR_EL1.get() & AS == 0 {
        8
    } else {
        16
    }
}

/// Lets this CPU walk the tables of the lower half, from `empty` on, which maps nothing.
///
/// What TTBR0_EL1 holds until then is boot's identity map.
pub fn open(empty: PhysAddr) {
    install(empty, 0);
    // The table before the walks: the write to TTBR0_EL1 must have taken effect when EPD0 is clear,
    // and the order in which two system registers take effect is that of the program only across a
    // context synchronisation (DDI 0487, D24.1.2).
    barrier::isb();
    if TCR_EL1.get() & AS != 0 && asid_bits() == 8 {
        TCR_EL1.set(TCR_EL1.get() & !AS);
        // The write takes effect, and then what the TLB of this CPU may hold of AS goes: it is one of
        // the bits that may be cached there (below). No walk of the lower half is made until EPD0
        // is clear.
        barrier::isb();
        tlbi::issue(Operation::Vmalle1);
        // Complete before the first such walk, on this CPU, whose TLB alone is meant (D8.16.1).
        barrier::dsb_nsh();
    }
    TCR_EL1.modify(TCR_EL1::EPD0::EnableTTBR0Walks);
    // The write takes effect. No TLBI: of EPD0 a TLB may hold that it is 0, never that it is 1
    // (DDI 0487, D24.2, TCR_EL1: "any of the bits ... other than the A1 bit and the EPDx bits when
    // they have the value 1, are permitted to be cached in a TLB"), and what was walked by way of
    // the identity map went when EPD0 was set (`boot::drop_identity_map`).
    barrier::isb();
    event!(Tcr(TCR_EL1.get()));
}

/// Makes `root` the table of the lower half on this CPU, with `asid`. The table must stay one for as
/// long as it is installed.
///
/// It takes effect at the next context synchronisation: the caller's ISB, or the ERET to EL0.
#[inline]
pub fn install(root: PhysAddr, asid: u16) {
    let value = root.as_u64() | u64::from(asid) << ASID_SHIFT;
    TTBR0_EL1.set(value);
    event!(Ttbr0(value));
}
