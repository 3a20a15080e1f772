//! Ranges of frame numbers: taking parts out of one.

use core::ops::Range;

/// What is left of `whole` without `parts`, lowest first. The parts may overlap, and lie outside.
pub fn without<const N: usize>(
    whole: Range<u64>,
    mut parts: [Range<u64>; N],
) -> impl Iterator<Item = Range<u64>> {
    parts.sort_unstable_by_key(|part| part.start);
    let mut at = whole.start;
    parts
        .into_iter()
        .chain(core::iter::once(whole.end..whole.end))
        .filter_map(move |part| {
            let gap = at..part.start.min(whole.end);
            at = at.max(part.end);
            (gap.start < gap.end).then_some(gap)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_are_taken_out_in_any_order() {
        let left: Vec<_> = without(10..50, [40..45, 0..12, 20..30, 25..27]).collect();
        assert_eq!(left, [12..20, 30..40, 45..50]);
    }

    #[test]
    fn nothing_is_left_of_a_range_that_is_covered() {
        assert_eq!(without(10..50, [0..30, 30..60]).count(), 0);
        assert_eq!(without(10..10, []).count(), 0);
    }

    proptest! {
        #[test]
        fn exactly_the_numbers_outside_of_every_part_are_left(
            whole in (0u64..40, 0u64..40),
            parts in prop::array::uniform4((0u64..50, 0u64..50)),
        ) {
            let whole = whole.0..whole.1;
            let parts = parts.map(|(a, b)| a.min(b)..a.max(b));
            let left: Vec<u64> = without(whole.clone(), parts.clone()).flatten().collect();
            let expected: Vec<u64> = whole.filter(|n| !parts.iter().any(|part| part.contains(n))).collect();
            prop_assert_eq!(left, expected);
        }
    }
}
