//! Descriptors go in and out unchanged, and any 64 bits are understood.

use crate::config;
use proptest::prelude::*;
use vmsa::{Attributes, Descriptor, Kind, Level, PhysAddr};

fn attributes() -> impl Strategy<Value = Attributes> {
    any::<u64>().prop_map(Attributes::from_bits_truncate)
}

fn level() -> impl Strategy<Value = Level> {
    prop::sample::select(&Level::ALL[..])
}

#[test]
fn what_each_encoding_is_at_each_level() {
    let pa = PhysAddr::literal(0x4000_0000);
    let (block, table) = (Descriptor::from_bits(0x4000_0001), Descriptor::table(pa));
    assert_eq!(table.bits(), 0x4000_0003);
    for level in [Level::L0, Level::L1, Level::L2] {
        assert_eq!(table.kind(level), Kind::Table(pa));
        assert!(!table.is_leaf(level));
    }
    assert_eq!(table.kind(Level::L3), Kind::Page(pa));
    assert_eq!(block.kind(Level::L0), Kind::Reserved);
    assert_eq!(block.kind(Level::L1), Kind::Block(pa));
    assert_eq!(block.kind(Level::L2), Kind::Block(pa));
    assert_eq!(block.kind(Level::L3), Kind::Reserved);
    assert_eq!(block.output(Level::L3), None);
    assert!(Descriptor::INVALID.is_none() && Descriptor::default().is_none());
    for level in Level::ALL {
        assert_eq!(Descriptor::INVALID.output_ignoring_valid(level), None);
    }
}

#[test]
fn no_leaf_at_level_0_or_where_the_output_is_not_aligned() {
    let leaf = |level, pa| Descriptor::leaf(level, PhysAddr::literal(pa), Attributes::KERNEL_DATA);
    assert_eq!(leaf(Level::L0, 0), None);
    for (level, bytes) in [
        (Level::L1, 1 << 30),
        (Level::L2, 2 << 20),
        (Level::L3, 4096),
    ] {
        assert!(leaf(level, bytes).is_some());
        assert_eq!(leaf(level, bytes / 2), None);
        assert_eq!(leaf(level, bytes + 8), None);
    }
}

#[test]
fn what_the_kernel_maps_with() {
    // Bits as drawn in the manual: UXN 54, PXN 53, AF 10, SH 9:8, AP 7:6, AttrIndx 4:2.
    let expected = [
        (Attributes::KERNEL_DATA, 0x0060_0000_0000_0700, true, false),
        (
            Attributes::KERNEL_RODATA,
            0x0060_0000_0000_0780,
            false,
            false,
        ),
        (Attributes::KERNEL_TEXT, 0x0040_0000_0000_0780, false, true),
        (Attributes::DEVICE, 0x0060_0000_0000_0604, true, false),
    ];
    for (attributes, bits, writable, executable) in expected {
        assert_eq!(attributes.bits(), bits);
        assert_eq!(attributes.is_writable_el1(), writable);
        assert_eq!(attributes.is_executable_el1(), executable);
        assert!(!attributes.intersects(Attributes::AP_EL0 | Attributes::NG));
    }
    // What EL0 can write, EL1 cannot execute.
    assert!(!Attributes::AP_EL0.is_executable_el1());
    assert!((Attributes::AP_EL0 | Attributes::AP_READ_ONLY).is_executable_el1());
}

#[test]
fn the_memory_types_are_those_of_mair() {
    let mair = |attributes: Attributes| vmsa::MAIR_EL1 >> (8 * attributes.memory_type()) & 0xff;
    assert_eq!(mair(Attributes::KERNEL_DATA), 0xff);
    assert_eq!(mair(Attributes::DEVICE), 0x04);
    assert_eq!(mair(Attributes::NORMAL_NC), 0x44);
    assert_eq!(Attributes::ATTR_INDEX.memory_type(), 7);
}

#[test]
fn unnamed_bits_stay_out_of_a_descriptor() {
    let everything = Attributes::from_bits_retain(u64::MAX);
    let pa = PhysAddr::literal(0x1000);
    let page = Descriptor::leaf(Level::L3, pa, everything).unwrap();
    assert_eq!(page.output(Level::L3), Some(pa));
    let invalid = Descriptor::from_bits(0x1000).with_attributes(everything);
    assert!(!invalid.is_valid());
    assert_eq!(invalid.with_attributes(Attributes::empty()).bits(), 0x1000);
}

#[test]
fn tcr_fields() {
    let tcr = vmsa::Tcr::new()
        .with_ips(0b101)
        .with_epd1(true)
        .with_asid16(true)
        .bits();
    let field = |shift: u32, width: u32| (tcr >> shift) & ((1 << width) - 1);
    assert_eq!((field(0, 6), field(16, 6)), (16, 16), "T0SZ, T1SZ");
    assert_eq!((field(7, 1), field(23, 1)), (0, 1), "EPD0, EPD1");
    assert_eq!(
        (field(8, 2), field(10, 2), field(12, 2)),
        (1, 1, 3),
        "IRGN0, ORGN0, SH0"
    );
    assert_eq!(
        (field(24, 2), field(26, 2), field(28, 2)),
        (1, 1, 3),
        "IRGN1, ORGN1, SH1"
    );
    assert_eq!(
        (field(14, 2), field(30, 2)),
        (0b00, 0b10),
        "TG0, TG1: 4 KiB"
    );
    assert_eq!(
        (field(32, 3), field(36, 1), field(37, 27)),
        (0b101, 1, 0),
        "IPS, AS, rest"
    );
    assert_eq!(
        vmsa::Tcr::default().with_epd0(true).with_epd0(false),
        vmsa::Tcr::new()
    );
    assert_eq!(
        vmsa::Tcr::new().with_ips(7).with_ips(2),
        vmsa::Tcr::new().with_ips(2)
    );
}

#[test]
fn the_physical_address_size_is_48_bits_at_most() {
    let sizes: Vec<u64> = (0..8).map(vmsa::tcr::ips_from_parange).collect();
    assert_eq!(sizes, [0, 1, 2, 3, 4, 5, 5, 5]);
    assert_eq!(
        vmsa::tcr::ips_from_parange(0x1122),
        2,
        "only the field counts"
    );
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_leaf_is_what_it_was_made_of(level in level(), pa in 0..1u64 << 48, attributes in attributes()) {
        let pa = PhysAddr::literal(pa).align_down(level.bytes());
        let Some(leaf) = Descriptor::leaf(level, pa, attributes) else {
            prop_assert_eq!(level, Level::L0);
            return Ok(());
        };
        let kind = if level == Level::L3 { Kind::Page(pa) } else { Kind::Block(pa) };
        prop_assert_eq!(leaf.kind(level), kind);
        prop_assert_eq!(leaf.attributes(), attributes);
        prop_assert_eq!(leaf.output(level), Some(pa));
        prop_assert!(leaf.is_valid() && leaf.is_leaf(level));
        // Nothing but address, attributes, bit 1 and bit 0.
        let page = if level == Level::L3 { 0b11 } else { 0b01 };
        prop_assert_eq!(leaf.bits(), pa.as_u64() | attributes.bits() | page);

        let off = leaf.with_valid(false);
        prop_assert_eq!((off.kind(level), off.output(level)), (Kind::Invalid, None));
        prop_assert_eq!(off.output_ignoring_valid(level), Some(pa));
        prop_assert_eq!(off.attributes(), attributes);
        prop_assert_eq!(off.with_valid(true), leaf);
    }

    #[test]
    fn attributes_change_nothing_else(bits in any::<u64>(), level in level(), attributes in attributes()) {
        let old = Descriptor::from_bits(bits);
        let new = old.with_attributes(attributes);
        prop_assert_eq!(new.attributes(), attributes);
        prop_assert_eq!(new.kind(level), old.kind(level));
        prop_assert_eq!(new.with_attributes(old.attributes()), old);
    }

    #[test]
    fn any_bits_are_understood(bits in any::<u64>(), level in level()) {
        let descriptor = Descriptor::from_bits(bits);
        prop_assert_eq!(descriptor.bits(), bits);
        prop_assert_eq!(descriptor.is_none(), bits == 0);
        prop_assert_eq!(descriptor.is_valid(), bits % 2 == 1);
        if let Some(output) = descriptor.output(level) {
            let size = if descriptor.is_leaf(level) { level.bytes() } else { 4096 };
            prop_assert!(output.is_aligned(size));
            prop_assert_eq!(output.as_u64(), bits & 0xffff_ffff_f000 & !(size - 1));
        }
    }
}
