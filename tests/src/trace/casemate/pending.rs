//! How far the kernel has come with the invalidation of an entry.

use mmu_oracle::event::{Entry, Orders, Scope, Tlbi};
use vmsa::{Descriptor, Kind, Level, VirtAddr};

/// Which CPU did what a line tells, and which record of the trace tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Why {
    /// The CPU.
    pub cpu: u8,
    /// The record's number, from 1.
    pub record: u64,
}

/// A valid entry that was made invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The entry, with its new value.
    pub entry: Entry,
    /// What it held.
    pub old: Descriptor,
    /// The store.
    pub why: Why,
    /// What has followed it.
    pub step: Step,
    /// The first TLBI that named it before there was a DSB.
    pub in_vain: Option<(Why, bool)>,
}

/// What has followed a store, on the CPU that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Stored,
    /// A DSB.
    Ordered(Why, Orders),
    /// A DSB, and a TLBI that names it.
    Invalidated {
        /// The DSB.
        dsb: (Why, Orders),
        /// The TLBI.
        tlbi: Why,
        /// It was of last-level entries only.
        leaf_only: bool,
    },
}

/// What a DSB is for an invalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing.
    None,
    /// The first DSB behind the store.
    Ordered,
    /// The one that completes the TLBI.
    Complete,
}

/// A valid entry whose attributes changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The entry, with its new value.
    pub entry: Entry,
    /// What it held.
    pub old: Descriptor,
}

impl Pending {
    /// The entry, which held `old`, was made invalid.
    pub fn new(entry: Entry, old: Descriptor, why: Why) -> Self {
        Self {
            entry,
            old,
            why,
            step: Step::Stored,
            in_vain: None,
        }
    }

    /// Whether it led to a table.
    pub fn is_table(&self) -> bool {
        is_table(&self.entry, self.old)
    }

    /// A DSB was issued.
    pub fn dsb(&mut self, why: Why, orders: Orders) -> Progress {
        match self.step {
            Step::Stored => {
                self.step = Step::Ordered(why, orders);
                Progress::Ordered
            }
            Step::Invalidated { .. } if orders == Orders::All => Progress::Complete,
            Step::Ordered(..) | Step::Invalidated { .. } => Progress::None,
        }
    }

    /// A TLBI that names it was issued.
    pub fn tlbi(&mut self, why: Why, tlbi: &Tlbi) {
        let leaf_only = tlbi.last_level;
        match self.step {
            Step::Stored => self.in_vain = self.in_vain.or(Some((why, leaf_only))),
            Step::Ordered(dsb, orders) => {
                self.step = Step::Invalidated {
                    dsb: (dsb, orders),
                    tlbi: why,
                    leaf_only,
                };
            }
            Step::Invalidated { .. } => {}
        }
    }
}

/// Whether the entry led to a table when it held `old`.
pub fn is_table(entry: &Entry, old: Descriptor) -> bool {
    matches!(old.kind(entry.level), Kind::Table(_))
}

/// Whether the operation invalidates what a TLB may hold of a global entry that held `old`
/// (DDI 0487, C5.5).
pub fn covers(tlbi: &Tlbi, entry: &Entry, old: Descriptor) -> bool {
    if tlbi.last_level && is_table(entry, old) {
        return false;
    }
    let operand = tlbi.operand;
    // The level that the operand says, in its two ways; 0 says none.
    let hinted = |level: u64| level == 0 || level == u64::from(entry.level.as_u8());
    let (first, pages) = match tlbi.scope {
        Scope::All => return true,
        // Kernel entries are global.
        Scope::Asid => return false,
        Scope::Va | Scope::VaAllAsids => match (operand >> 44) & 0b1111 {
            // TTL: 0b00xx says nothing, 0b01xx a level of the 4 KiB granule.
            ttl @ 0..=0b0111 if ttl < 0b0100 || hinted(ttl & 0b11) => (operand << 12, 1),
            _ => return false,
        },
        // BaseADDR [36:0], TTL [38:37], NUM [43:39], SCALE [45:44], TG [47:46].
        Scope::Range | Scope::RangeAllAsids => {
            if (operand >> 46) & 0b11 != 0b01 || !hinted((operand >> 37) & 0b11) {
                return false;
            }
            let base = ((operand << 27) as i64 >> 15) as u64;
            let (number, scale) = ((operand >> 39) & 0b1_1111, (operand >> 44) & 0b11);
            (base, (number + 1) << (5 * scale + 1))
        }
    };
    let (first, start) = (folded(first), folded(entry.va.as_u64()));
    first < start + entry.level.bytes() && start < first + (pages << 12)
}

/// The page that an operation by address names; `None` for one that names none, or many.
pub fn page_of(tlbi: &Tlbi) -> Option<VirtAddr> {
    match tlbi.scope {
        // VA[55:12]: bit 55 says which half.
        Scope::Va | Scope::VaAllAsids => {
            VirtAddr::new((((tlbi.operand << 20) as i64) >> 8) as u64 & !0xfff)
        }
        _ => None,
    }
}

/// An address without what tells the halves apart: EL2 has one half.
pub fn folded(address: u64) -> u64 {
    address & ((1 << vmsa::addr::ADDRESS_BITS) - 1) & !(Level::L3.bytes() - 1)
}
