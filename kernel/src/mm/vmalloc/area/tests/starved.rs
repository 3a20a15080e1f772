//! What happens when the pool is given no page: nothing.

use super::*;

/// Free space of one range, with exactly `spare` unused records and no page to come.
fn starved(ranges: &[(u64, u64)], spare: usize) -> FreeAreas {
    LEFT.set(usize::MAX);
    let mut free = space(ranges);
    free.pool_mut().reserve(spare).unwrap();
    while free.pool().spare() > spare {
        free.pool_mut().allocate();
    }
    LEFT.set(0);
    free
}

/// Runs `operation`, which needs `records`, with fewer, with exactly these, and with more.
fn needs(
    records: usize,
    ranges: &[(u64, u64)],
    operation: impl Fn(&mut FreeAreas) -> Result<(), TakeError>,
) {
    for spare in 0..4 {
        let mut free = starved(ranges, spare);
        let before = (listing(&free), free.pages(), free.pool().pages());
        let result = operation(&mut free);
        check_free(&free);
        assert_eq!(free.pool().pages(), before.2);
        if spare < records {
            assert_eq!(
                result,
                Err(TakeError::NoMemory),
                "{records} needed, {spare} there"
            );
            assert_eq!((listing(&free), free.pages()), (before.0, before.1));
            assert_eq!(free.pool().spare(), spare);
        } else {
            assert_eq!(result, Ok(()), "{records} needed, {spare} there");
            assert!(free.pool().spare() >= spare - records);
        }
    }
}

#[test]
fn a_take_without_memory_changes_nothing() {
    let ranges = [(10, 4), (20, 8), (40, 3)];
    // The whole of a range: its record is the one handed out.
    needs(0, &ranges, |free| free.take(4, PAGE_SIZE).map(drop));
    needs(0, &ranges, |free| free.take_exact(range(40, 3)).map(drop));
    // One end of it.
    needs(1, &ranges, |free| free.take(5, PAGE_SIZE).map(drop));
    needs(1, &ranges, |free| free.take_exact(range(12, 2)).map(drop));
    needs(1, &ranges, |free| free.take(2, 4 * PAGE_SIZE).map(drop)); // 12
    // The middle.
    needs(2, &ranges, |free| free.take(2, 8 * PAGE_SIZE).map(drop)); // 24

    needs(2, &ranges, |free| free.take_exact(range(41, 1)).map(drop));
}

#[test]
fn giving_back_and_widening_need_no_memory() {
    let take = |free: &mut FreeAreas| free.take_exact(range(20, 8));
    needs(0, &[(10, 4), (20, 8), (40, 3)], |free| {
        let area = take(free)?;
        free.insert(area);
        Ok(())
    });
    needs(1, &[(10, 40)], |free| {
        let mut area = free.take(1, PAGE_SIZE)?;
        free.widen(&mut area, range(10, 40))
    });
}

#[test]
fn adding_a_range_without_memory_changes_nothing() {
    let mut free = starved(&[(10, 4)], 0);
    assert_eq!(free.add(range(20, 1)), Err(InsertError::NoMemory));
    assert_eq!(free.add(range(14, 1)), Err(InsertError::NoMemory));
    assert_eq!(listing(&free), [(10, 4)]);
    LEFT.set(1);
    free.add(range(14, 1)).unwrap();
    assert_eq!(
        (listing(&free), free.pool().pages()),
        (Vec::from([(10, 5)]), 2)
    );
}

#[test]
fn what_was_reserved_cannot_fail_later() {
    for takes in 0..3 * Pool::<VmapArea>::PER_PAGE {
        let mut free = starved(&[(1, 1 << 20)], takes % 3);
        LEFT.set(usize::MAX);
        free.reserve(takes).unwrap();
        LEFT.set(0);
        for _ in 0..takes {
            drop(free.take(1, 4 * PAGE_SIZE).unwrap());
        }
        check_free(&free);
        if cfg!(miri) && takes > 4 {
            break;
        }
    }
}

#[test]
fn a_reservation_that_fails_keeps_what_it_got() {
    let mut free = starved(&[(1, 10)], 0);
    LEFT.set(1);
    assert_eq!(free.reserve(Pool::<VmapArea>::PER_PAGE), Err(NoMemory));
    assert_eq!(
        (free.pool().pages(), free.pool().spare()),
        (2, Pool::<VmapArea>::PER_PAGE)
    );
    assert_eq!(listing(&free), [(1, 10)]);
}
