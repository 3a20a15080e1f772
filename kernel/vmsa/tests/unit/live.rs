//! Both sides of each rule about changing a live entry.

use crate::config;
use proptest::prelude::*;
use vmsa::LiveChange::{self, MakeInvalid, MakeValid, NeedsBreakBeforeMake};
use vmsa::{Attributes, Descriptor, Level, PhysAddr, Reason, live_change};

const DATA: Attributes = Attributes::KERNEL_DATA;

fn page(pa: u64, attributes: Attributes) -> Descriptor {
    Descriptor::leaf(Level::L3, PhysAddr::literal(pa), attributes).unwrap()
}

fn block(pa: u64, attributes: Attributes) -> Descriptor {
    Descriptor::leaf(Level::L2, PhysAddr::literal(pa), attributes).unwrap()
}

/// The verdict on a page whose attributes change.
fn change(old: Attributes, new: Attributes) -> LiveChange {
    live_change(page(0x1000, old), page(0x1000, new), Level::L3)
}

#[test]
fn valid_and_invalid() {
    let (a, b) = (page(0x1000, DATA), page(0x2000, Attributes::DEVICE));
    let none = Descriptor::INVALID;
    assert_eq!(live_change(none, a, Level::L3), MakeValid);
    assert_eq!(live_change(a, none, Level::L3), MakeInvalid);
    assert_eq!(live_change(a, a, Level::L3), LiveChange::None);
    // However different: the second half of break-before-make.
    assert_eq!(live_change(a.with_valid(false), b, Level::L3), MakeValid);
    assert_eq!(live_change(a, b.with_valid(false), Level::L3), MakeInvalid);
    assert_eq!(
        live_change(a.with_valid(false), b.with_valid(false), Level::L3),
        LiveChange::None
    );
    // A reserved encoding is as good as invalid.
    let reserved = block(0x20_0000, DATA);
    assert_eq!(live_change(reserved, a, Level::L3), MakeValid);
    assert_eq!(live_change(a, reserved, Level::L3), MakeInvalid);
    assert_eq!(live_change(reserved, none, Level::L3), LiveChange::None);
}

#[test]
fn permissions_change_in_place_in_both_directions() {
    let free = [
        Attributes::AP_EL0,
        Attributes::AP_READ_ONLY,
        Attributes::AF,
        Attributes::GP,
        Attributes::DBM,
        Attributes::PXN,
        Attributes::UXN,
        Attributes::AP | Attributes::PXN,
    ];
    for bit in free {
        assert_eq!(
            change(DATA - bit, DATA | bit),
            LiveChange::Attributes,
            "{bit:?}"
        );
        assert_eq!(
            change(DATA | bit, DATA - bit),
            LiveChange::Attributes,
            "{bit:?}"
        );
    }
}

#[test]
fn software_bits_are_nothing_to_the_hardware() {
    for bit in Attributes::SOFTWARE.iter() {
        assert_eq!(change(DATA, DATA | bit), LiveChange::None);
        assert_eq!(change(DATA | bit, DATA), LiveChange::None);
    }
    assert_eq!(
        change(DATA, Attributes::KERNEL_RODATA | Attributes::SW_0),
        LiveChange::Attributes
    );
}

#[test]
fn memory_type_shareability_and_the_like_do_not_change_in_place() {
    let fixed = [
        (Attributes::ATTR_INDEX_0, Reason::MemoryType),
        (Attributes::ATTR_INDEX_1, Reason::MemoryType),
        (Attributes::ATTR_INDEX_2, Reason::MemoryType),
        (Attributes::SH_OUTER, Reason::Shareability),
        (Attributes::SH_INNER, Reason::Shareability),
        (Attributes::NS, Reason::OutputSpace),
        (Attributes::PBHA, Reason::Implementation),
        (Attributes::AMEC, Reason::Implementation),
    ];
    for (bit, reason) in fixed {
        assert_eq!(
            change(DATA - bit, DATA | bit),
            NeedsBreakBeforeMake(reason),
            "{bit:?}"
        );
        assert_eq!(
            change(DATA | bit, DATA - bit),
            NeedsBreakBeforeMake(reason),
            "{bit:?}"
        );
        // The same on both sides, it hinders nothing.
        assert_eq!(
            change(DATA | bit, DATA | bit | Attributes::AP),
            LiveChange::Attributes
        );
    }
}

#[test]
fn global_may_become_non_global_and_not_the_reverse() {
    let of_asid = DATA | Attributes::NG;
    assert_eq!(change(DATA, of_asid), LiveChange::Attributes);
    assert_eq!(
        change(of_asid, DATA),
        NeedsBreakBeforeMake(Reason::MadeGlobal)
    );
    assert_eq!(
        change(of_asid, of_asid | Attributes::AP),
        LiveChange::Attributes
    );
}

#[test]
fn a_contiguous_entry_does_not_change_but_may_come_and_go() {
    let one_of_16 = DATA | Attributes::CONTIGUOUS;
    let refused = NeedsBreakBeforeMake(Reason::Contiguous);
    assert_eq!(change(DATA, one_of_16), refused);
    assert_eq!(change(one_of_16, DATA), refused);
    assert_eq!(
        change(one_of_16, one_of_16 | Attributes::AP_READ_ONLY),
        refused
    );
    assert_eq!(
        change(one_of_16, one_of_16 | Attributes::SW_3),
        LiveChange::None
    );
    let entry = page(0x1000, one_of_16);
    assert_eq!(
        live_change(entry, Descriptor::INVALID, Level::L3),
        MakeInvalid
    );
    assert_eq!(
        live_change(Descriptor::INVALID, entry, Level::L3),
        MakeValid
    );
}

#[test]
fn addresses_do_not_change_in_place() {
    for attributes in [DATA, Attributes::KERNEL_RODATA] {
        let elsewhere = live_change(
            page(0x1000, attributes),
            page(0x2000, attributes),
            Level::L3,
        );
        assert_eq!(elsewhere, NeedsBreakBeforeMake(Reason::OutputAddress));
    }
    let (a, b) = (block(0x20_0000, DATA), block(0x40_0000, DATA));
    assert_eq!(
        live_change(a, b, Level::L2),
        NeedsBreakBeforeMake(Reason::OutputAddress)
    );
    let read_only = block(0x20_0000, Attributes::KERNEL_RODATA);
    assert_eq!(live_change(a, read_only, Level::L2), LiveChange::Attributes);
}

#[test]
fn a_block_does_not_become_a_table_in_place_or_the_reverse() {
    let (block, table) = (
        block(0x20_0000, DATA),
        Descriptor::table(PhysAddr::literal(0x20_0000)),
    );
    assert_eq!(
        live_change(block, table, Level::L2),
        NeedsBreakBeforeMake(Reason::Size)
    );
    assert_eq!(
        live_change(table, block, Level::L2),
        NeedsBreakBeforeMake(Reason::Size)
    );
    assert_eq!(
        live_change(Descriptor::INVALID, table, Level::L2),
        MakeValid
    );
    assert_eq!(
        live_change(table, Descriptor::INVALID, Level::L2),
        MakeInvalid
    );
}

#[test]
fn tables() {
    let at = |pa| Descriptor::table(PhysAddr::literal(pa));
    let with = |bit: u32| Descriptor::from_bits(at(0x1000).bits() | 1 << bit);
    let refused = |reason| NeedsBreakBeforeMake(reason);
    assert_eq!(
        live_change(at(0x1000), at(0x2000), Level::L1),
        refused(Reason::TableAddress)
    );
    for permission in 59..63 {
        assert_eq!(
            live_change(at(0x1000), with(permission), Level::L1),
            LiveChange::Attributes
        );
    }
    assert_eq!(
        live_change(at(0x1000), with(63), Level::L1),
        refused(Reason::OutputSpace)
    );
    for ignored in [2, 11, 51, 58] {
        assert_eq!(
            live_change(at(0x1000), with(ignored), Level::L1),
            LiveChange::None
        );
    }
}

#[test]
fn the_verdict_says_what_follows() {
    use LiveChange::{Attributes, None};
    let bbm = NeedsBreakBeforeMake(Reason::Size);
    let table = [
        (None, true, false),
        (MakeValid, true, false),
        (MakeInvalid, true, true),
        (Attributes, true, true),
        (bbm, false, true),
    ];
    for (change, one_store, tlbi) in table {
        assert_eq!(
            (change.is_one_store(), change.needs_tlbi()),
            (one_store, tlbi),
            "{change:?}"
        );
    }
    assert_eq!(Reason::MemoryType.to_string(), "the memory type changes");
}

proptest! {
    #![proptest_config(config())]

    /// Break-before-make turns every change into two that are allowed.
    #[test]
    fn through_invalid_everything_is_reached(old in any::<u64>(), new in any::<u64>()) {
        let (old, new) = (Descriptor::from_bits(old), Descriptor::from_bits(new));
        for level in Level::ALL {
            prop_assert!(live_change(old, Descriptor::INVALID, level).is_one_store());
            prop_assert!(live_change(Descriptor::INVALID, new, level).is_one_store());
            prop_assert_eq!(live_change(old, old, level), LiveChange::None);
        }
    }

    /// Only `nG` has a direction.
    #[test]
    fn without_ng_the_rules_are_symmetric(old in any::<u64>(), new in any::<u64>()) {
        let without = |bits| Attributes::from_bits_truncate(bits) - Attributes::NG;
        let (old, new) = (without(old), without(new));
        prop_assert_eq!(change(old, new), change(new, old));
    }
}
