//! Random sequences against a reference that is too simple to be wrong.

use proptest::prelude::*;
use std::collections::BTreeMap;

use super::*;

/// Pages in the window that the sequences play in: few, so that ranges meet often.
const WINDOW: u64 = 512;

/// One step.
#[derive(Clone, Debug)]
enum Step {
    /// Take this many pages with an alignment of 2^shift bytes, which may keep so many before them, and
    /// put them in use.
    Take(u64, u32, u64),
    /// Take these pages (counted from the start of the window), and put them in use.
    TakeExact(u64, u64),
    /// Take the whole of the n-th free range (modulo their number), and put it in use.
    TakeWhole(usize),
    /// Free the n-th area in use (modulo their number).
    Free(usize),
    /// Give all freed areas back.
    Purge,
    /// Free the n-th area; before it goes back, widen it by this much at either end.
    Widen(usize, u64, u64),
    /// Leave this many unused records, and let no page come.
    Starve(usize),
    /// End of that.
    Feed,
}

/// Any step, the common ones more often.
fn step() -> impl Strategy<Value = Step> {
    let pages = prop_oneof![4 => 1..6_u64, 2 => 1..40_u64, 1 => 1..=WINDOW];
    let lead = prop_oneof![Just(0), 1..20_u64];
    let shift = prop_oneof![4 => Just(12), 4 => 12..18_u32, 1 => 0..64_u32];
    prop_oneof![
        8 => (pages, shift, lead)
            .prop_map(|(pages, shift, lead)| Step::Take(pages, shift, lead)),
        3 => (0..WINDOW, 1..12_u64).prop_map(|(first, pages)| Step::TakeExact(first, pages)),
        2 => any::<usize>().prop_map(Step::TakeWhole),
        8 => any::<usize>().prop_map(Step::Free),
        2 => Just(Step::Purge),
        2 => (any::<usize>(), 0..6_u64, 0..6_u64).prop_map(|(n, a, b)| Step::Widen(n, a, b)),
        1 => (0..3_usize).prop_map(Step::Starve),
        1 => Just(Step::Feed),
    ]
}

/// Where the window is: anywhere, at either end of a half, and at odd alignments.
fn base() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just((1 << 35) - WINDOW),
        Just(0xf_fff0_0000_0000),
        Just(0xf_fff8_0008_0000),
        Just((1 << 52) - WINDOW),
        0..1_000_000_u64,
    ]
}

/// What should be, as plain maps from the first page to the page after the last.
#[derive(Default)]
struct Reference {
    /// Free ranges.
    free: BTreeMap<u64, u64>,
    /// Areas in use.
    busy: BTreeMap<u64, u64>,
    /// How many pages before them go back with them, where it is any.
    leads: BTreeMap<u64, u64>,
    /// Areas freed, not purged.
    lazy: Vec<(u64, u64)>,
}

impl Reference {
    /// The lowest fit, by looking at every range.
    fn lowest_fit(&self, pages: u64, shift: u32) -> Option<u64> {
        let align = 1_u128 << shift.max(12);
        self.free.iter().find_map(|(&first, &end)| {
            let at = (u128::from(first) << 12).next_multiple_of(align) >> 12;
            (at + u128::from(pages) <= u128::from(end)).then(|| u64::try_from(at).unwrap())
        })
    }

    /// The free range with all of these pages.
    fn around(&self, first: u64, end: u64) -> Option<(u64, u64)> {
        let (&start, &stop) = self.free.range(..=first).next_back()?;
        (stop >= end).then_some((start, stop))
    }

    /// What an area there keeps of the free pages before it, up to `most`.
    fn lead(&self, at: u64, pages: u64, most: u64) -> u64 {
        let (start, _) = self.around(at, at + pages).unwrap();
        let below = at - start;
        if below <= most { below } else { 0 }
    }

    /// How many new records it costs to take these pages, which are free.
    fn records(&self, first: u64, end: u64) -> usize {
        let (start, stop) = self.around(first, end).unwrap();
        usize::from(start != first) + usize::from(stop != end)
    }

    /// Takes free pages out.
    fn take(&mut self, first: u64, end: u64) {
        let (start, stop) = self.around(first, end).unwrap();
        self.free.remove(&start);
        if start < first {
            self.free.insert(start, first);
        }
        if end < stop {
            self.free.insert(end, stop);
        }
    }

    /// Gives pages back.
    fn give(&mut self, mut first: u64, mut end: u64) {
        if let Some((&start, _)) = self.free.iter().find(|&(_, &stop)| stop == first) {
            self.free.remove(&start);
            first = start;
        }
        if let Some(stop) = self.free.remove(&end) {
            end = stop;
        }
        self.free.insert(first, end);
    }

    /// Takes an area out of use: its pages, with those before it that go back with it.
    fn remove(&mut self, at: u64) -> (u64, u64) {
        let end = self.busy.remove(&at).unwrap();
        (at - self.leads.remove(&at).unwrap_or(0), end)
    }

    /// The n-th area in use.
    fn nth_busy(&self, n: usize) -> Option<u64> {
        self.busy.keys().nth(n % self.busy.len().max(1)).copied()
    }
}

/// The containers under test, with the reference.
struct Pair {
    free: FreeAreas,
    busy: BusyAreas,
    lazy: Chain,
    reference: Reference,
    /// Unused records that were put out of reach.
    hoard: Vec<&'static VmapArea>,
}

/// What [`Chain::join_neighbours`] should make of areas.
fn runs_of(ends: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &(first, end) in ends {
        match runs.last_mut() {
            Some(run) if run.1 == first => run.1 = end,
            Some(run) if run.0 == end => run.0 = first,
            _ => runs.push((first, end)),
        }
    }
    runs
}

impl Pair {
    /// Gives an area back.
    fn give(&mut self, area: OwnedArea) {
        let (first, end) = (area.first.get(), area.end());
        self.reference.give(first, end);
        let merged = self.free.insert(area);
        let merged = (merged.first.get(), merged.end());
        assert_eq!(self.reference.around(first, end), Some(merged));
    }

    /// Compares the outcome of a take with what it should be, and puts the area in use.
    fn taken(
        &mut self,
        got: Result<OwnedArea, TakeError>,
        want: Option<u64>,
        pages: u64,
        most_lead: u64,
        spare: usize,
    ) {
        let lead = want.map_or(0, |at| self.reference.lead(at, pages, most_lead));
        let want = match want {
            None => Err(TakeError::NoSpace),
            Some(at)
                if LEFT.get() == 0 && spare < self.reference.records(at - lead, at + pages) =>
            {
                Err(TakeError::NoMemory)
            }
            Some(at) => Ok(at),
        };
        assert_eq!(
            got.as_ref().map(|area| first(area)).map_err(|&why| why),
            want
        );
        if let Ok(area) = got {
            let at = first(&area);
            assert_eq!(area.pages(), pages);
            self.reference.take(at - lead, at + pages);
            self.reference.busy.insert(at, at + pages);
            if lead > 0 {
                self.reference.leads.insert(at, lead);
            }
            self.busy.insert(area);
        }
    }

    fn run(&mut self, base: u64, step: Step) {
        let spare = self.free.pool().spare();
        match step {
            Step::Take(pages, shift, lead) => {
                let want = self.reference.lowest_fit(pages, shift);
                let got = self.free.take_with_lead(pages, 1 << shift, lead);
                self.taken(got, want, pages, lead, spare);
            }
            Step::TakeExact(at, pages) => {
                let (at, pages) = (base + at, pages.min(WINDOW - at));
                let want = self.reference.around(at, at + pages).map(|_| at);
                let got = self.free.take_exact(range(at, pages));
                self.taken(got, want, pages, 0, spare);
            }
            Step::TakeWhole(n) => {
                let ranges = &self.reference.free;
                let Some((&at, &end)) = ranges.iter().nth(n % ranges.len().max(1)) else {
                    return;
                };
                let got = self.free.take_exact(range(at, end - at));
                self.taken(got, Some(at), end - at, 0, spare);
            }
            Step::Free(n) => {
                let Some(at) = self.reference.nth_busy(n) else {
                    return;
                };
                let (low, end) = self.reference.remove(at);
                self.reference.lazy.push((low, end));
                let area = others::take_out(&mut self.busy, address(at)).unwrap();
                self.lazy.push(area.with_lead());
            }
            Step::Purge => {
                let mut lazy = core::mem::take(&mut self.lazy);
                let mut ends = core::mem::take(&mut self.reference.lazy);
                ends.reverse();
                // One by one, or neighbours together.
                if ends.len().is_multiple_of(2) {
                    self.free.take_back(lazy.join_neighbours());
                    ends = runs_of(&ends);
                }
                for (first, end) in ends {
                    let area = lazy.pop().unwrap();
                    assert_eq!((area.first.get(), area.end()), (first, end));
                    self.give(area);
                }
                assert!(lazy.pop().is_none());
            }
            Step::Widen(n, below, above) => {
                let Some(at) = self.reference.nth_busy(n) else {
                    return;
                };
                let mut area = others::take_out(&mut self.busy, address(at)).unwrap();
                let (at, end) = self.reference.remove(at);
                area.take_lead();
                let low = at.saturating_sub(below).max(base);
                let high = (end + above).min(base + WINDOW);
                let is_free =
                    |first, end| first == end || self.reference.around(first, end).is_some();
                let want = is_free(low, at) && is_free(end, high);
                let got = self.free.widen(&mut area, range(low, high - low));
                assert_eq!(
                    got,
                    if want {
                        Ok(())
                    } else {
                        Err(TakeError::NoSpace)
                    }
                );
                if want {
                    // As if the area and what it grew by had been one from the start.
                    self.reference.give(at, end);
                    self.reference.take(low, high);
                    assert_eq!((area.first.get(), area.end()), (low, high));
                } else {
                    self.reference.give(at, end);
                    self.reference.take(at, end);
                    assert_eq!((area.first.get(), area.end()), (at, end));
                }
                let (first, end) = (area.first.get(), area.end());
                self.free.insert(area);
                self.reference.give(first, end);
            }
            Step::Starve(keep) => {
                LEFT.set(0);
                while self.free.pool().spare() > keep {
                    self.hoard.push(self.free.pool_mut().allocate().unwrap());
                }
            }
            Step::Feed => {
                LEFT.set(usize::MAX);
                while let Some(record) = self.hoard.pop() {
                    self.free.pool_mut().release(record);
                }
            }
        }
    }

    /// Compares everything.
    fn check(&self, base: u64) {
        check_free(&self.free);
        check_busy(&self.busy);
        check_records(
            &self.free,
            self.busy.count() + self.lazy.iter().count() + self.hoard.len(),
        );
        let ends = |area: &VmapArea| (area.first.get(), area.end());
        assert!(self.free.iter().map(ends).eq(self.reference.free.clone()));
        assert!(self.busy.iter().map(ends).eq(self.reference.busy.clone()));
        assert!(
            self.lazy
                .iter()
                .map(ends)
                .eq(self.reference.lazy.iter().rev().copied())
        );
        // Around every edge there is: what contains the page, and what touches it.
        for (&edge, &end) in self.reference.busy.iter().chain(&self.reference.free) {
            for page in [edge.saturating_sub(1), edge, end - 1, end] {
                if !(base..base + WINDOW).contains(&page) {
                    continue;
                }
                let area = self.reference.busy.range(..=page).next_back();
                let area = area
                    .filter(|&(_, &end)| page < end)
                    .map(|(&first, _)| first);
                assert_eq!(self.busy.find_containing(address(page)).map(first), area);
                let exact = self.reference.busy.contains_key(&page);
                assert_eq!(self.busy.find(address(page)).is_some(), exact);
            }
            let [below, above] = self.free.neighbours(range(edge, end - edge));
            let touching = self.reference.free.iter().find(|&(_, &stop)| stop == edge);
            assert_eq!(
                below.map(ends),
                touching.map(|(&first, &stop)| (first, stop))
            );
            let touching = self.reference.free.get_key_value(&end);
            assert_eq!(
                above.map(ends),
                touching.map(|(&first, &stop)| (first, stop))
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 400 },
        failure_persistence: None, // no files: Miri has no file system
        .. ProptestConfig::default()
    })]

    #[test]
    fn areas_do_what_plain_maps_do(
        base in base(),
        steps in prop::collection::vec(step(), 1..if cfg!(miri) { 40 } else { 250 }),
    ) {
        LEFT.set(usize::MAX);
        let mut pair = Pair {
            free: space(&[(base, WINDOW)]),
            busy: BusyAreas::new(),
            lazy: Chain::new(),
            reference: Reference::default(),
            hoard: Vec::new(),
        };
        pair.reference.free.insert(base, base + WINDOW);
        for step in steps {
            pair.run(base, step);
            pair.check(base);
        }
        // Everything comes back together.
        pair.run(base, Step::Feed);
        while pair.busy.count() > 0 {
            pair.run(base, Step::Free(0));
        }
        pair.run(base, Step::Purge);
        assert_eq!(listing(&pair.free), [(base, WINDOW)]);
        check_records(&pair.free, 0);
    }

    /// Many areas, so that the trees get deep: taken in order, freed in a random order, some of
    /// them taken again.
    #[test]
    fn deep_trees_stay_balanced(order in Just(deep_order()).prop_shuffle()) {
        LEFT.set(usize::MAX);
        let count = order.len() as u64;
        let mut free = space(&[(1000, 2 * count)]);
        let mut busy = BusyAreas::new();
        for n in 0..count {
            let area = free.take(2, PAGE_SIZE).unwrap();
            assert_eq!(first(&area), 1000 + 2 * n);
            busy.insert(area);
        }
        check_busy(&busy);
        for (n, &which) in order.iter().enumerate() {
            free.insert(others::take_out(&mut busy, address(1000 + 2 * which)).unwrap());
            if n % 3 == 0 {
                let lowest = free.iter().next().map(first).unwrap();
                let area = free.take(1, PAGE_SIZE).unwrap();
                assert_eq!(first(&area), lowest);
                free.insert(area);
            }
            if n % 64 == 0 || cfg!(miri) {
                check_free(&free);
                check_busy(&busy);
            }
        }
        assert_eq!(listing(&free), [(1000, 2 * count)]);
        check_records(&free, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 100 },
        failure_persistence: None,
        .. ProptestConfig::default()
    })]

    /// Many free ranges of different lengths, which go one by one: each summary on the way to the
    /// root has to forget the longest.
    #[test]
    fn deep_trees_know_their_longest_range(
        lengths in prop::collection::vec(1..1000_u64, if cfg!(miri) { 20 } else { 200 }),
        order in prop::collection::vec(any::<usize>(), 200),
    ) {
        LEFT.set(usize::MAX);
        let mut reference: BTreeMap<u64, u64> =
            (0..).zip(&lengths).map(|(n, &pages)| (1000 * n, 1000 * n + pages)).collect();
        let ranges: Vec<_> = reference.iter().map(|(&at, end)| (at, end - at)).collect();
        let mut free = space(&ranges);
        for n in order {
            if reference.is_empty() {
                break;
            }
            let (&at, &end) = reference.iter().nth(n % reference.len()).unwrap();
            reference.remove(&at);
            drop(free.take_exact(range(at, end - at)).unwrap());
            check_free(&free);
        }
        prop_assert_eq!(listing(&free), []);
    }
}

/// As many numbers as the deep trees have areas.
fn deep_order() -> Vec<u64> {
    (0..if cfg!(miri) { 30 } else { 1000 }).collect()
}
