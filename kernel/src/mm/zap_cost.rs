//! What a zap of so many pages costs at least: how often a gather is full, how many batches it
//! takes, and the barriers of that. Data alone; `gather` keeps to these numbers.

/// Pages that a gather itself holds (MMU_GATHER_BUNDLE).
pub const LOCAL: usize = 8;
/// Pages that a batch holds: a page, less what precedes them, in pointers (MAX_GATHER_BATCH).
pub const BATCH: usize = (vmsa::PAGE_SIZE as usize - BATCH_HEADER) / size_of::<u64>();
/// Bytes that precede the pages of a batch.
pub const BATCH_HEADER: usize = 16;
/// The most batches (MAX_GATHER_BATCH_COUNT: 10,000 pages, so that no CPU is held up for long by
/// what is freed at once).
pub const MAX_BATCHES: usize = 10_000 / BATCH;

/// A gather goes on to the next batch one page early, as in Linux, where a page may take two slots.
const LOCAL_USED: usize = LOCAL - 1;
const BATCH_USED: usize = BATCH - 1;

/// Pages that a gather takes up to the flush that it forces.
pub const CAPACITY: usize = LOCAL_USED + MAX_BATCHES * BATCH_USED;

/// The page with which a gather asks for its batch `n`, both counted from 0.
pub const fn asks_at(n: usize) -> usize {
    LOCAL_USED + n * BATCH_USED - 1
}

/// The least that zapping pages takes, with DEBUG_PAGEALLOC, where nobody else has a share in them
/// and every batch can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Least {
    /// TLB flushes of user addresses.
    pub flushes: usize,
    /// Batches that are allocated.
    pub batches: usize,
    /// Bulk frees: the pages of each flush, and in the end the batches.
    pub frees: usize,
    /// DSBs.
    pub dsb: usize,
    /// ISBs.
    pub isb: usize,
}

impl Least {
    /// Without DEBUG_PAGEALLOC, where neither batches nor what is freed change the linear map: what is
    /// left are the flushes.
    #[must_use]
    pub const fn without_debug_pagealloc(self) -> Self {
        Self {
            dsb: 2 * self.flushes,
            isb: 0,
            ..self
        }
    }
}

/// The least for `pages` pages, on CPUs with FEAT_ETS2 or without.
///
/// - A flush of user addresses: a DSB ISHST before the TLBIs, a DSB ISH behind them, no ISB.
/// - A batch that is allocated comes back to the linear map: DSB ISHST and ISB, which FEAT_ETS2
///   makes superfluous.
/// - Pages that are freed at once leave the linear map by one sequence: DSB ISHST, TLBI, DSB ISH, and
///   an ISB, which FEAT_ETS2 makes superfluous for data.
pub const fn least(pages: usize, ets2: bool) -> Least {
    let flushes = pages.div_ceil(CAPACITY);
    // Batches stay with the gather, so the first flush has the most.
    let first = if pages < CAPACITY { pages } else { CAPACITY };
    let batches = match first.checked_sub(LOCAL_USED) {
        None => 0,
        // One as soon as the local slots are used, even if no page comes to lie in it.
        Some(more) => {
            let batches = 1 + more / BATCH_USED;
            if batches > MAX_BATCHES {
                MAX_BATCHES
            } else {
                batches
            }
        }
    };
    let frees = flushes + (batches > 0) as usize;
    let synchronised = if ets2 { 0 } else { 1 };
    Least {
        flushes,
        batches,
        frees,
        dsb: 2 * flushes + synchronised * batches + 2 * frees,
        isb: synchronised * (batches + frees),
    }
}

/// How many tables of leaves have a page with which a batch is asked for, where the first page is the
/// first of a table: sections in which the page allocator is called.
pub const fn sections_that_allocate(pages: usize) -> usize {
    let batches = least(pages, false).batches;
    let mut sections = 0;
    let mut last = usize::MAX;
    let mut n = 0;
    while n < batches {
        let table = asks_at(n) / vmsa::PTRS_PER_TABLE;
        if table != last {
            sections += 1;
            last = table;
        }
        n += 1;
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_those_of_linux() {
        assert_eq!((LOCAL, BATCH, MAX_BATCHES), (8, 510, 19));
        // 7 in the gather, 509 in each of 19 batches.
        assert_eq!(CAPACITY, 9678);
    }

    /// Counted by hand: flushes, batches, bulk frees; then DSB = 2 a flush, 1 a batch, 2 a bulk free,
    /// and ISB = 1 a batch, 1 a bulk free.
    #[test]
    fn cases_counted_by_hand() {
        for (pages, flushes, batches, frees, dsb, isb) in [
            (0, 0, 0, 0, 0, 0),
            // Lock, clear, flush; one page is freed.
            (1, 1, 0, 1, 4, 1),
            (6, 1, 0, 1, 4, 1),
            // The seventh page asks for a batch, which stays empty, and is freed at the end.
            (7, 1, 1, 2, 7, 3),
            // 7 and 493.
            (500, 1, 1, 2, 7, 3),
            // 7, 508; and 7, 509, whose last asks for another.
            (515, 1, 1, 2, 7, 3),
            (516, 1, 2, 2, 8, 4),
            // 7, 509, 84.
            (600, 1, 2, 2, 8, 4),
            // All 19 are in use, and the last page finds no further one: that is the flush.
            (9678, 1, 19, 2, 25, 21),
            (9679, 2, 19, 3, 29, 22),
            // 9678, then 2322 into the batches that are there.
            (12_000, 2, 19, 3, 29, 22),
        ] {
            let least = least(pages, false);
            let expected = Least {
                flushes,
                batches,
                frees,
                dsb,
                isb,
            };
            assert_eq!(least, expected, "{pages} pages");
            let without = least.without_debug_pagealloc();
            assert_eq!(
                (without.dsb, without.isb),
                (2 * flushes, 0),
                "{pages} pages"
            );
        }
        // With FEAT_ETS2 the barriers of the batches go, and every ISB.
        assert_eq!((least(12_000, true).dsb, least(12_000, true).isb), (10, 0));
    }

    #[test]
    fn two_batches_may_be_asked_for_in_one_table() {
        // The pages 6, 515, 1024 and 1533: tables 0, 1, 2 and 2.
        assert_eq!([0, 1, 2, 3].map(asks_at), [6, 515, 1024, 1533]);
        assert_eq!(sections_that_allocate(1534), 3);
        assert_eq!(sections_that_allocate(600), 2);
        assert_eq!(sections_that_allocate(1), 0);
    }
}
