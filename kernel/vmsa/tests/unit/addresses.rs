//! Address arithmetic against a model in 128-bit integers, in which nothing overflows.

use crate::{config, virtual_address};
use proptest::prelude::*;
use vmsa::{Frame, Level, PAGE_SIZE, PageRange, PhysAddr, VirtAddr};

const UPPER: u64 = 0xffff_0000_0000_0000;
const LOWER_END: u64 = 0x0001_0000_0000_0000;

/// What `checked_add` and its like must say of a result: in the half of `from`, or nothing.
fn model(from: VirtAddr, result: i128) -> Option<u64> {
    let half = if from.is_upper() {
        i128::from(UPPER)..1 << 64
    } else {
        0..i128::from(LOWER_END)
    };
    half.contains(&result)
        .then(|| u64::try_from(result).unwrap())
}

#[test]
fn canonical_addresses_are_those_of_the_two_halves() {
    for good in [
        0,
        1,
        LOWER_END - 1,
        UPPER,
        UPPER + 1,
        0xffff_8000_0000_0000,
        u64::MAX,
    ] {
        assert_eq!(VirtAddr::new(good).map(VirtAddr::as_u64), Some(good));
    }
    for bad in [
        LOWER_END,
        UPPER - 1,
        0x8000_0000_0000_0000,
        0x00ff_ffff_ffff_ffff,
        0xfffe << 48,
    ] {
        assert_eq!(VirtAddr::new(bad), None, "{bad:#x}");
    }
    assert!(VirtAddr::literal(UPPER).is_upper());
    assert!(!VirtAddr::literal(LOWER_END - 1).is_upper());
}

#[test]
fn physical_addresses_and_frames_have_48_bits() {
    let last = PhysAddr::new(LOWER_END - 1).unwrap();
    assert_eq!(last, PhysAddr::MAX);
    assert_eq!(PhysAddr::new(LOWER_END), None);
    assert_eq!(last.checked_add(1), None);
    assert_eq!(last.align_up(4096), None);
    assert_eq!(PhysAddr::literal(0).checked_sub(1), None);
    assert_eq!(
        PhysAddr::literal(5).checked_sub(5),
        Some(PhysAddr::literal(0))
    );
    let frame = Frame::containing(last);
    assert_eq!(frame.number(), (1 << 36) - 1);
    assert_eq!(frame.start().as_u64(), LOWER_END - 4096);
    assert_eq!(frame.checked_add(1), None);
    assert_eq!(frame.checked_sub(frame.number()), Frame::from_number(0));
    assert_eq!(Frame::from_number(0).unwrap().checked_sub(1), None);
    assert_eq!(Frame::from_number(1 << 36), None);
    assert_eq!(Frame::from_number(3).unwrap().checked_add(u64::MAX), None);
}

#[test]
fn formats() {
    let va = VirtAddr::literal(0xffff_8000_4020_0000);
    assert_eq!(format!("{va} {va:?} {va:x} {va:#x}"), {
        "0xffff_8000_4020_0000 0xffff_8000_4020_0000 ffff800040200000 0xffff800040200000"
    });
    let pa = PhysAddr::literal(0x4020_0fff);
    assert_eq!(
        format!("{pa} {pa:?} {pa:x}"),
        "0x0000_4020_0fff 0x0000_4020_0fff 40200fff"
    );
    assert_eq!(
        format!("{0} {0:?}", Frame::containing(pa)),
        "0x40200 Frame(0x40200)"
    );
    let range = PageRange::new(va, 2).unwrap();
    assert_eq!(
        range.to_string(),
        "0xffff_8000_4020_0000..=0xffff_8000_4020_1fff"
    );
    assert_eq!(format!("{range:?}"), format!("{range} (2 pages)"));
    assert_eq!(Level::L2.to_string(), "level 2");
}

#[test]
fn pointers_keep_their_address() {
    let object = 42u32;
    let va = VirtAddr::from_ptr(&raw const object);
    assert_eq!(va.as_ptr::<u32>(), &raw const object);
    assert_eq!(va.as_mut_ptr::<u8>().addr() as u64, va.as_u64());
}

#[test]
#[should_panic(expected = "left the address space")]
fn adding_past_the_top_panics() {
    let _ = VirtAddr::MAX + 1;
}

#[test]
#[should_panic(expected = "left the address space")]
fn subtracting_past_the_bottom_of_the_upper_half_panics() {
    let _ = VirtAddr::literal(UPPER) - 1;
}

#[test]
#[should_panic(expected = "not negative")]
fn a_negative_distance_panics() {
    let _ = VirtAddr::literal(0) - VirtAddr::literal(1);
}

#[test]
#[should_panic(expected = "power of two")]
fn an_alignment_of_three_panics() {
    let _ = VirtAddr::literal(0).align_down(3);
}

#[test]
fn ranges_end_where_a_half_ends() {
    let top = VirtAddr::literal(0xffff_ffff_ffff_f000);
    assert!(PageRange::new(top, 1).is_some());
    assert_eq!(PageRange::new(top, 2), None);
    assert_eq!(PageRange::new(top, u64::MAX), None);
    // In bytes this would be one page again.
    assert_eq!(PageRange::new(top, (1 << 52) + 1), None);
    let lower = VirtAddr::literal(LOWER_END - 4096);
    let last_of_lower = PageRange::new(lower, 1).unwrap();
    assert_eq!(last_of_lower.end(), None);
    assert_eq!(PageRange::new(lower, 2), None);
    let whole = PageRange::new(VirtAddr::literal(UPPER), 1 << 36).unwrap();
    assert_eq!(
        (whole.bytes(), whole.last_byte(), whole.end()),
        (1 << 48, VirtAddr::MAX, None)
    );
    assert_eq!(
        PageRange::new(VirtAddr::literal(UPPER), (1 << 36) + 1),
        None
    );
    assert!(!whole.overlaps(&last_of_lower));
}

#[test]
fn ranges_are_neither_empty_nor_unaligned() {
    let page = VirtAddr::literal(0x1000);
    assert_eq!(PageRange::new(page, 0), None);
    assert_eq!(PageRange::new(page + 8, 1), None);
    assert_eq!(PageRange::covering(page, 0), None);
    assert_eq!(PageRange::covering(VirtAddr::MAX, 2), None);
    let range = PageRange::new(page, 1).unwrap();
    assert_eq!(PageRange::covering(page + 4095, 1), Some(range));
    assert_eq!(PageRange::covering(page + 4095, 2), PageRange::new(page, 2));
    assert_eq!(range.end(), Some(page + 4096));
}

#[test]
#[should_panic(expected = "fewer pages")]
fn a_page_past_the_range_panics() {
    let _ = PageRange::new(VirtAddr::literal(0), 3).unwrap().page(3);
}

#[test]
fn no_arithmetic_leads_into_the_other_half() {
    let (lower, upper) = (VirtAddr::literal(0x1000), VirtAddr::literal(UPPER + 0x2000));
    assert_eq!(lower.checked_add(UPPER), None);
    assert_eq!(upper.checked_sub(UPPER), None);
    assert_eq!(VirtAddr::literal(LOWER_END - 1).align_up(4096), None);
    // The distance is a number all the same.
    assert_eq!(upper - lower, UPPER + 0x1000);
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn addition_and_subtraction(
        va in virtual_address(),
        bytes in prop_oneof![any::<u64>(), 0..1u64 << 49, 0..3 * 4096u64],
    ) {
        let (at, by) = (i128::from(va.as_u64()), i128::from(bytes));
        prop_assert_eq!(va.checked_add(bytes).map(VirtAddr::as_u64), model(va, at + by));
        prop_assert_eq!(va.checked_sub(bytes).map(VirtAddr::as_u64), model(va, at - by));
        if let Some(sum) = va.checked_add(bytes) {
            prop_assert_eq!(sum - va, bytes);
            prop_assert_eq!(sum - bytes, va);
            prop_assert_eq!(va + bytes, sum);
        }
    }

    #[test]
    fn bit_48_decides_what_the_ones_above_it_are(va in virtual_address(), any in any::<u64>()) {
        prop_assert_eq!(VirtAddr::sign_extended(va.as_u64()), va);
        let extended = VirtAddr::sign_extended(any);
        prop_assert_eq!(VirtAddr::new(extended.as_u64()), Some(extended));
        prop_assert_eq!((extended.as_u64() ^ any) << 15, 0);
    }

    #[test]
    fn alignment(va in virtual_address(), shift in 0u32..=48) {
        let (at, align) = (i128::from(va.as_u64()), 1i128 << shift);
        let bytes = 1u64 << shift;
        let down = va.align_down(bytes);
        prop_assert_eq!(i128::from(down.as_u64()), at / align * align);
        prop_assert!(down.is_aligned(bytes));
        prop_assert_eq!(va.is_aligned(bytes), down == va);
        let up = (at + align - 1) / align * align;
        prop_assert_eq!(va.align_up(bytes).map(VirtAddr::as_u64), model(va, up));
        prop_assert_eq!(va.align_down(PAGE_SIZE) + va.page_offset(), va);
        prop_assert_eq!(va.is_page_aligned(), va.page_offset() == 0);
    }

    #[test]
    fn the_indices_and_the_offset_are_the_address(va in virtual_address()) {
        let mut rest = va.page_offset();
        for level in Level::ALL {
            prop_assert!(level.index(va) < vmsa::PTRS_PER_TABLE);
            rest += level.index(va) as u64 * level.bytes();
        }
        prop_assert_eq!(rest, va.as_u64() & (LOWER_END - 1));
    }

    #[test]
    fn ranges_cover_what_they_are_asked_to(va in virtual_address(), length in 1..1u64 << 40) {
        let last = i128::from(va.as_u64()) + i128::from(length) - 1;
        let Some(last) = model(va, last) else {
            prop_assert_eq!(PageRange::covering(va, length), None);
            return Ok(());
        };
        let range = PageRange::covering(va, length).unwrap();
        prop_assert!(range.start() <= va && va - range.start() < PAGE_SIZE);
        prop_assert!(range.last_byte().as_u64() >= last);
        prop_assert!(range.last_byte().as_u64() - last < PAGE_SIZE);
        prop_assert!(range.contains(va) && range.contains(range.last_byte()));
        prop_assert!(range.end().is_none_or(|end| !range.contains(end)));
        prop_assert!(range.start().checked_sub(1).is_none_or(|below| !range.contains(below)));
        prop_assert_eq!(range.bytes(), range.pages() * PAGE_SIZE);
        prop_assert_eq!(range.page(range.pages() - 1) + (PAGE_SIZE - 1), range.last_byte());
        prop_assert_eq!(range.pages_iter().next_back(), Some(range.page(range.pages() - 1)));
    }

    #[test]
    fn ranges_overlap_if_they_share_a_page(a in 0..12u64, n in 1..6u64, b in 0..12u64, m in 1..6u64) {
        // At the top of the address space, where exclusive ends would wrap.
        let at = |page| VirtAddr::literal(0xffff_ffff_fffe_f000 + page * PAGE_SIZE);
        let (a, b) = (PageRange::new(at(a), n).unwrap(), PageRange::new(at(b), m).unwrap());
        let shared = a.pages_iter().any(|page| b.pages_iter().any(|other| page == other));
        prop_assert_eq!(a.overlaps(&b), shared);
        prop_assert_eq!(b.overlaps(&a), shared);
    }
}
