//! TLBI operands, decoded here a second time from the manual's drawing, so that
//! an error in the crate's constants cannot hide in both directions.

use crate::{config, virtual_address};
use proptest::prelude::*;
use vmsa::tlbi::{MAX_DVM_OPS, Operand, RangeOperand, cover, cover_asid, cover_pages, operand};
use vmsa::{Level, MAX_TLBI_RANGE_PAGES, Operation, PAGE_SIZE, PageRange, VirtAddr};

/// Ranges of fewer pages (or entries) are also covered one by one in these tests.
const BY_PAGE: u64 = if cfg!(miri) { 40 } else { MAX_DVM_OPS };

/// All page counts of some size; a few for Miri, which would take minutes.
fn small_page_counts() -> Vec<u64> {
    if cfg!(miri) {
        vec![1, 2, 3, 64, 67, 4097]
    } else {
        (1..5000).collect()
    }
}

/// What an operation invalidates, by its name and operand alone.
#[derive(Debug, PartialEq, Clone, Copy)]
struct Decoded {
    first_byte: u128,
    pages: u128,
    level: Option<u64>,
    asid: u64,
    last_level_only: bool,
}

/// `None` for an operation without an operand.
fn decode(operation: Operation) -> Option<Decoded> {
    let bits = operation.operand_bits()?;
    let name = operation.name();
    let field = |high: u32, low: u32| (bits >> low) & (u64::MAX >> (63 - (high - low)));
    let sign_extend = |value: u64, sign: u32| {
        if value >> sign & 1 == 1 {
            value | u64::MAX << sign
        } else {
            value
        }
    };
    let (first, pages, level) = if name.starts_with('r') {
        assert_eq!(field(47, 46), 1, "TG: 4 KiB");
        let pages = (field(43, 39) + 1) << (5 * field(45, 44) + 1);
        let level = Some(field(38, 37)).filter(|level| *level != 0);
        (sign_extend(field(36, 0) << 12, 48), pages, level)
    } else {
        let level = match field(47, 44) {
            0 => None,
            ttl => {
                assert_eq!(ttl >> 2, 1, "TTL[3:2]: 4 KiB");
                Some(ttl & 3)
            }
        };
        (sign_extend(field(43, 0) << 12, 55), 1, level)
    };
    // A single operation with a hint takes the whole entry with it.
    let entry_pages = level.map_or(1, |level| 1 << (9 * (3 - level)));
    Some(Decoded {
        first_byte: u128::from(first),
        pages: u128::from(pages.max(entry_pages)),
        level,
        asid: field(63, 48),
        last_level_only: name.contains("le1"),
    })
}

/// Asserts that the operations invalidate `range`, in order, each page once and no other.
fn assert_exact(range: PageRange, last_level_only: bool, ttl: Option<Level>, have_range: bool) {
    let mut next = u128::from(range.start().as_u64());
    let mut count = 0u32;
    for operation in cover(range, last_level_only, ttl, have_range) {
        let decoded = decode(operation).unwrap_or_else(|| panic!("{operation} for {range:?}"));
        assert_eq!(decoded.first_byte, next, "{operation} for {range:?}");
        assert_eq!(decoded.asid, 0, "{operation}");
        assert_eq!(decoded.last_level_only, last_level_only, "{operation}");
        assert_eq!(
            decoded.level,
            ttl.map(|level| u64::from(level.as_u8())),
            "{operation}"
        );
        next += decoded.pages * u128::from(PAGE_SIZE);
        count += 1;
    }
    assert_eq!(
        next,
        u128::from(range.last_byte().as_u64()) + 1,
        "{range:?}"
    );
    if have_range {
        // Each scale once at most, the largest first, and a single operation for an odd page.
        let (mut least, mut rest) = (0, range.pages());
        for unit in [1 << 16, 1 << 11, 1 << 6, 2, 1] {
            least += u32::from(rest >= unit);
            rest %= unit;
        }
        assert_eq!(count, least, "operations for {range:?}");
    }
}

#[test]
fn operand_fields() {
    // Upper half: the sign bits must not reach TTL or ASID.
    let va = VirtAddr::literal(0xffff_8000_8000_1fff);
    assert_eq!(operand(va, 0, None), 0x0000_0ff8_0008_0001);
    assert_eq!(operand(va, 0, Some(Level::L3)), 0x0000_7ff8_0008_0001);
    assert_eq!(operand(va, 0xbeef, Some(Level::L2)), 0xbeef_6ff8_0008_0001);
    assert_eq!(operand(va, 0, Some(Level::L1)), 0x0000_5ff8_0008_0001);
    // Level 0 cannot be said.
    assert_eq!(operand(va, 0, Some(Level::L0)), operand(va, 0, None));
    assert_eq!(operand(VirtAddr::MAX, 0, None), 0x0000_0fff_ffff_ffff);
    assert_eq!(Operand::asid_only(0x1234).bits(), 0x1234_0000_0000_0000);
}

#[test]
fn range_operand_fields() {
    let base = VirtAddr::literal(0xffff_8000_8000_0000);
    // BaseADDR is VA[48:12], of which VA[48] and VA[47] are set here.
    let baddr = 0x18_0008_0000;
    let of = |asid, ttl, scale, num| {
        RangeOperand::new(base, asid, ttl, scale, num)
            .unwrap()
            .bits()
    };
    assert_eq!(of(0, None, 0, 0), 1 << 46 | baddr);
    assert_eq!(of(0, None, 3, 31), 1 << 46 | 3 << 44 | 31 << 39 | baddr);
    assert_eq!(
        of(7, Some(Level::L3), 1, 2),
        7 << 48 | 1 << 46 | 1 << 44 | 2 << 39 | 3 << 37 | baddr
    );
    assert_eq!(RangeOperand::new(base, 0, None, 4, 0), None);
    assert_eq!(RangeOperand::new(base, 0, None, 0, 32), None);
}

#[test]
fn a_range_hint_needs_an_aligned_base() {
    let at = |va, ttl| RangeOperand::new(VirtAddr::literal(va), 0, ttl, 0, 0);
    assert!(at(0x1000, None).is_some() && at(0x1000, Some(Level::L3)).is_some());
    assert!(at(0x20_0000, Some(Level::L2)).is_some());
    assert!(at(0x1000, Some(Level::L2)).is_none());
    assert!(at(0x4000_0000, Some(Level::L1)).is_some());
    assert!(at(0x20_0000, Some(Level::L1)).is_none());
}

#[test]
fn the_largest_range_is_8_gib() {
    assert_eq!(MAX_TLBI_RANGE_PAGES, 2_097_152);
    let start = VirtAddr::literal(0xffff_8000_0000_0000);
    let largest = PageRange::new(start, MAX_TLBI_RANGE_PAGES).unwrap();
    assert_exact(largest, true, None, true);
    assert_eq!(cover(largest, true, None, true).count(), 1);
    let larger = PageRange::new(start, MAX_TLBI_RANGE_PAGES + 1).unwrap();
    assert!(cover(larger, true, None, true).eq([Operation::Vmalle1is]));
    assert!(cover(larger, false, None, false).eq([Operation::Vmalle1is]));
}

#[test]
fn without_ranges_the_cut_off_is_a_table_of_entries() {
    let start = VirtAddr::literal(0xffff_8000_0000_0000);
    let below = PageRange::new(start, MAX_DVM_OPS - 1).unwrap();
    assert_exact(below, true, None, false);
    let at = PageRange::new(start, MAX_DVM_OPS).unwrap();
    assert!(cover(at, true, None, false).eq([Operation::Vmalle1is]));
    // With 2 MiB entries it is 512 of those.
    let blocks = PageRange::new(start, 511 * 512).unwrap();
    assert_eq!(cover(blocks, true, Some(Level::L2), false).count(), 511);
    let blocks = PageRange::new(start, 512 * 512).unwrap();
    assert!(cover(blocks, true, Some(Level::L2), false).eq([Operation::Vmalle1is]));
}

#[test]
fn every_small_page_count() {
    for start in [0xffff_8000_8000_3000, 0x7000, 0xffff_0000_0000_0000] {
        for pages in small_page_counts() {
            let range = PageRange::new(VirtAddr::literal(start), pages).unwrap();
            assert_exact(range, true, None, true);
            assert_exact(range, false, None, true);
            if pages < BY_PAGE {
                assert_exact(range, true, None, false);
                assert_exact(range, true, Some(Level::L3), false);
            }
        }
    }
}

#[test]
fn every_page_count_at_the_top_of_the_address_space() {
    for end in [u64::MAX, 0x0000_ffff_ffff_ffff] {
        for pages in small_page_counts() {
            let start = VirtAddr::literal(end - (pages * PAGE_SIZE - 1));
            let range = PageRange::new(start, pages).unwrap();
            assert_exact(range, true, None, true);
            if pages < BY_PAGE {
                assert_exact(range, false, None, false);
            }
        }
    }
}

#[test]
fn a_hint_rounds_to_whole_entries() {
    let straddling = PageRange::new(VirtAddr::literal(0xffff_8000_001f_f000), 2).unwrap();
    let whole = PageRange::new(VirtAddr::literal(0xffff_8000_0000_0000), 1024).unwrap();
    for have_range in [false, true] {
        let asked = cover(straddling, true, Some(Level::L2), have_range);
        assert!(asked.eq(cover(whole, true, Some(Level::L2), have_range)));
        assert_exact(whole, true, Some(Level::L2), have_range);
    }
    // Level 0 has no leaves, and tables have no hint: neither rounds.
    for (leaf, ttl) in [(true, Some(Level::L0)), (false, Some(Level::L2))] {
        assert!(cover(straddling, leaf, ttl, true).eq(cover(straddling, leaf, None, true)));
    }
}

#[test]
fn names_and_text() {
    let va = VirtAddr::literal(0x1000);
    let (by_va, by_range) = (
        Operand::new(va, 1, None),
        RangeOperand::new(va, 1, None, 0, 0).unwrap(),
    );
    let all = [
        (
            Operation::Vaale1is(by_va),
            "tlbi vaale1is, 0x0001000000000001",
        ),
        (
            Operation::Vaae1is(by_va),
            "tlbi vaae1is, 0x0001000000000001",
        ),
        (
            Operation::Vale1is(by_va),
            "tlbi vale1is, 0x0001000000000001",
        ),
        (Operation::Vae1is(by_va), "tlbi vae1is, 0x0001000000000001"),
        (
            Operation::Rvaale1is(by_range),
            "tlbi rvaale1is, 0x0001400000000001",
        ),
        (
            Operation::Rvaae1is(by_range),
            "tlbi rvaae1is, 0x0001400000000001",
        ),
        (
            Operation::Aside1is(Operand::asid_only(1)),
            "tlbi aside1is, 0x0001000000000000",
        ),
        (Operation::Vmalle1is, "tlbi vmalle1is"),
        (Operation::Vmalle1, "tlbi vmalle1"),
    ];
    for (operation, text) in all {
        assert_eq!(operation.to_string(), text);
    }
}

/// Page counts of every magnitude, up to the largest range.
fn page_count() -> impl Strategy<Value = u64> {
    (0..=21u32).prop_flat_map(|bits| 1..=1u64 << bits)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn cover_invalidates_exactly_the_range(
        va in virtual_address(), pages in page_count(), last_level_only: bool,
    ) {
        let Some(range) = PageRange::new(va.align_down(PAGE_SIZE), pages) else { return Ok(()) };
        assert_exact(range, last_level_only, None, true);
        if pages < BY_PAGE {
            assert_exact(range, last_level_only, None, false);
        }
    }

    #[test]
    fn whether_called_back_or_not_the_operations_are_the_same(
        va in virtual_address(),
        pages in prop_oneof![9 => page_count(), 1 => Just(MAX_TLBI_RANGE_PAGES + 1)],
        last_level_only: bool, hint: bool, have_range: bool,
    ) {
        let Some(range) = PageRange::new(va.align_down(PAGE_SIZE), pages) else { return Ok(()) };
        let mut called = Vec::new();
        cover_pages(range, last_level_only, hint, have_range, |operation| called.push(operation));
        let ttl = hint.then_some(Level::L3);
        prop_assert_eq!(called, cover(range, last_level_only, ttl, have_range).collect::<Vec<_>>());
    }

    #[test]
    fn cover_with_a_hint_invalidates_whole_entries(
        va in virtual_address(), entries in 1..600u64, level in prop::sample::select(vec![Level::L1, Level::L2, Level::L3]),
    ) {
        let pages = entries * level.bytes() / PAGE_SIZE;
        let Some(range) = PageRange::new(va.align_down(level.bytes()), pages) else { return Ok(()) };
        if pages <= MAX_TLBI_RANGE_PAGES {
            assert_exact(range, true, Some(level), true);
        }
        if entries < BY_PAGE {
            assert_exact(range, true, Some(level), false);
        }
    }

    #[test]
    fn operands_read_back(va in virtual_address(), asid: u16, level in prop::sample::select(&Level::ALL[..])) {
        let page = va.align_down(PAGE_SIZE);
        let hint = Some(level).filter(|level| *level != Level::L0);
        let single = Operand::new(va, asid, Some(level));
        prop_assert_eq!((single.va(), single.asid(), single.ttl()), (Some(page), asid, hint));
        let decoded = decode(Operation::Vale1is(single)).unwrap();
        prop_assert_eq!(decoded.first_byte, u128::from(page.as_u64()));
        prop_assert_eq!(decoded.asid, u64::from(asid));
    }

    #[test]
    fn range_operands_read_back(va in virtual_address(), asid: u16, scale in 0..4u32, num in 0..32u64) {
        let page = va.align_down(PAGE_SIZE);
        let range = RangeOperand::new(va, asid, None, scale, num).unwrap();
        prop_assert_eq!((range.base(), range.asid(), range.ttl()), (page, asid, None));
        let decoded = decode(Operation::Rvaae1is(range)).unwrap();
        prop_assert_eq!(decoded.pages, u128::from(range.pages()));
        prop_assert_eq!(decoded.first_byte, u128::from(page.as_u64()));
        prop_assert_eq!(decoded.asid, u64::from(asid));
    }
}

#[test]
fn a_range_of_an_asid_is_covered_as_one_of_all_asids_is() {
    let name = |operation: &Operation| operation.name().replace("vaa", "va");
    for pages in [1, 2, 67, 511, 1 << 17] {
        let range = PageRange::new(VirtAddr::literal(0x40_0000), pages).unwrap();
        for (last_level_only, have_range) in
            [(true, true), (true, false), (false, true), (false, false)]
        {
            let ttl = last_level_only.then_some(Level::L3);
            let all: Vec<_> = cover(range, last_level_only, ttl, have_range).collect();
            let of_one: Vec<_> =
                cover_asid(range, 0x1234, last_level_only, ttl, have_range).collect();
            if all == [Operation::Vmalle1is] {
                assert_eq!(of_one, [Operation::Aside1is(Operand::asid_only(0x1234))]);
                continue;
            }
            assert_eq!(
                all.iter().map(name).collect::<Vec<_>>(),
                of_one.iter().map(|op| op.name()).collect::<Vec<_>>()
            );
            for (all, one) in all.iter().zip(&of_one) {
                let with_asid = all.operand_bits().unwrap() | 0x1234 << 48;
                assert_eq!(one.operand_bits(), Some(with_asid));
            }
        }
    }
}
