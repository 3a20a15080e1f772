//! What shadow bytes mean, as data: the encoding of generic KASAN in Linux.

use crate::mm::layout::{LINEAR, SHADOW_OFFSET};
use vmsa::VirtAddr;

/// Bytes that a shadow byte speaks of.
pub const GRANULE: u64 = 8;
/// Bytes that a page of shadow speaks of (KASAN_MEMORY_PER_SHADOW_PAGE): 32 KiB.
pub const SPAN: u64 = GRANULE * vmsa::PAGE_SIZE;
/// No byte may be accessed: vmalloc space without an area, or behind its end
/// (KASAN_VMALLOC_INVALID).
pub const VMALLOC_INVALID: u8 = 0xf8;

/// The shadow byte for the granule of `va`, which is in the upper half.
pub fn shadow_of(va: VirtAddr) -> Option<VirtAddr> {
    (va >= LINEAR.start())
        .then(|| VirtAddr::new((va.as_u64() >> 3) + SHADOW_OFFSET))
        .flatten()
}

/// The first byte of the granule that a shadow byte speaks of.
pub fn memory_of(shadow: VirtAddr) -> Option<VirtAddr> {
    VirtAddr::new(shadow.as_u64().wrapping_sub(SHADOW_OFFSET) << 3)
}

/// The first byte of `length` bytes from `va` on that may not be accessed. `read` gives the shadow
/// byte at an address, or `None` where there is no shadow: nothing may be accessed there.
pub fn first_bad_byte(
    va: VirtAddr,
    length: u64,
    read: impl Fn(VirtAddr) -> Option<u8>,
) -> Option<VirtAddr> {
    let mut at = va;
    let last = va.checked_add(length.checked_sub(1)?)?;
    loop {
        let granule = at.align_down(GRANULE);
        let end = (granule + (GRANULE - 1)).min(last);
        // As a signed byte: 0 allows all of the granule, k > 0 its first k bytes, a negative one
        // none.
        let allowed = match shadow_of(at).and_then(&read).map(u8::cast_signed) {
            Some(0) => GRANULE,
            Some(k @ 1..) => k.unsigned_abs().into(),
            Some(_) | None => 0,
        };
        if end - granule >= allowed {
            return Some(at.max(granule + allowed.min(GRANULE - 1)));
        }
        if end == last {
            return None;
        }
        at = granule + GRANULE;
    }
}

/// What a report calls an access that a shadow byte forbids. `next` is the byte behind it: a
/// partial granule is judged by what follows it.
pub fn kind_of(shadow: u8, next: Option<u8>) -> &'static str {
    match (shadow, next) {
        (VMALLOC_INVALID, _) | (1..=7, Some(VMALLOC_INVALID)) => "vmalloc-out-of-bounds",
        (1..=7, _) => "out-of-bounds",
        _ => "unknown-crash",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BASE: u64 = 0xffff_8000_8000_0000;

    fn at(offset: u64) -> VirtAddr {
        VirtAddr::literal(BASE + offset)
    }

    /// The shadow of an area of `size` bytes at BASE, as `unpoison` leaves it.
    fn area(size: u64) -> impl Fn(VirtAddr) -> Option<u8> {
        move |shadow| {
            let offset = memory_of(shadow).unwrap() - at(0);
            Some(match size.saturating_sub(offset) {
                0 => VMALLOC_INVALID,
                n @ 1..8 => n as u8,
                _ => 0,
            })
        }
    }

    #[test]
    fn the_constants_are_those_of_linux() {
        // The oops of the v4 thread: x9 is the offset, and x28 = ffff700010014000 a shadow address
        // of vmalloc space.
        assert_eq!(shadow_of(at(0)).unwrap().as_u64(), 0xffff_7000_1000_0000);
        assert_eq!(
            shadow_of(VirtAddr::literal(0xffff_0000_0000_0000))
                .unwrap()
                .as_u64(),
            0xffff_6000_0000_0000
        );
        assert_eq!(
            memory_of(shadow_of(at(0x1238)).unwrap()).unwrap(),
            at(0x1238)
        );
        assert_eq!(
            shadow_of(VirtAddr::literal(0x1000)),
            None,
            "the lower half has none"
        );
    }

    #[test]
    fn the_last_partial_granule_allows_its_first_bytes() {
        let area = area(2035);
        assert_eq!(first_bad_byte(at(0), 2035, &area), None);
        assert_eq!(first_bad_byte(at(2034), 1, &area), None);
        assert_eq!(first_bad_byte(at(2035), 1, &area), Some(at(2035)));
        assert_eq!(first_bad_byte(at(2032), 4, &area), Some(at(2035)));
        assert_eq!(first_bad_byte(at(2040), 1, &area), Some(at(2040)));
        assert_eq!(first_bad_byte(at(0), 0, &area), None, "no access at all");
    }

    #[test]
    fn without_shadow_nothing_is_allowed() {
        assert_eq!(first_bad_byte(at(5), 1, |_| None), Some(at(5)));
    }

    #[test]
    fn a_partial_granule_is_named_by_its_neighbour() {
        assert_eq!(kind_of(0xf8, None), "vmalloc-out-of-bounds");
        assert_eq!(kind_of(3, Some(0xf8)), "vmalloc-out-of-bounds");
        assert_eq!(kind_of(3, Some(0)), "out-of-bounds");
    }

    proptest! {
        #[test]
        fn the_first_bad_byte_is_the_first_beyond_the_area(size in 0u64..200, start in 0u64..220, length in 1u64..64) {
            let expected = (start..start + length).find(|offset| *offset >= size).map(at);
            prop_assert_eq!(first_bad_byte(at(start), length, area(size)), expected);
        }
    }
}
