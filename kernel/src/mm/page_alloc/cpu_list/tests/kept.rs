//! The pages of lists: what comes back goes out again in one piece, and what is too much goes away.

use super::*;

impl Memory<'_> {
    /// What `memory` does for a list of more than one page, without locks; it drains where nothing else
    /// helps, and takes more than [`KEPT`] from the buddy system alone.
    fn allocate_list(&mut self, cpu: usize, count: u32) -> Option<Chain> {
        let list = &mut self.lists[cpu];
        // The short way, as the allocator takes it first.
        if let Some(pages) = list.take_kept_run(self.map, count.into()) {
            return Some(pages);
        }
        let buddy = &mut *self.buddy.borrow_mut();
        list.take_kept(self.map, count).or_else(|| {
            list.refill_kept(self.map, count, buddy);
            list.take_kept(self.map, count)
        })
    }

    fn free_list(&mut self, cpu: usize, pages: &Chain) {
        if self.lists[cpu].keep_run(self.map, pages) {
            return;
        }
        assert!(pages.change(self.map, State::Listed));
        self.lists[cpu].keep(self.map, pages, || self.buddy.borrow_mut());
    }

    fn runs(&self, pages: &Chain) -> Vec<(u64, u64)> {
        let runs = pages.runs(self.map);
        runs.map(|(first, count)| (first.number() - BASE, count))
            .collect()
    }

    fn numbers(&self, pages: &Chain) -> Vec<u64> {
        pages.frames(self.map).map(Frame::number).collect()
    }

    /// The pages that the chain of CPU 0 has, as runs.
    fn kept(&self) -> Vec<(u64, u64)> {
        self.runs(&self.lists[0].kept)
    }
}

#[test]
fn a_list_comes_off_the_front_and_goes_back_to_it() {
    with_memory(1024, |memory| {
        let first = memory.allocate_list(0, 37).unwrap();
        let second = memory.allocate_list(0, 5).unwrap();
        assert_eq!(memory.runs(&first), [(0, 37)]);
        assert_eq!(memory.runs(&second), [(37, 5)]);
        assert_eq!(memory.kept(), [(42, 86)]);
        let buddy = memory.buddy.borrow().free_pages();
        // The last first: one run again.
        memory.free_list(0, &second);
        assert_eq!(memory.kept(), [(37, 91)]);
        memory.free_list(0, &first);
        assert_eq!(memory.kept(), [(0, 128)]);
        // So a larger list is one run too.
        let larger = memory.allocate_list(0, 128).unwrap();
        assert_eq!(memory.runs(&larger), [(0, 128)]);
        memory.free_list(0, &larger);
        assert_eq!(memory.buddy.borrow().free_pages(), buddy, "not visited");
    });
}

#[test]
fn lists_that_come_back_in_another_order_are_runs_of_their_own() {
    with_memory(128, |memory| {
        let lists = [10, 1, 7].map(|pages| memory.allocate_list(0, pages).unwrap());
        for pages in &lists {
            memory.free_list(0, pages);
        }
        assert_eq!(memory.kept(), [(11, 7), (10, 1), (0, 10), (18, 110)]);
        // Off the front: a whole run, part of one, the rest of it with the next.
        let taken = [7, 1, 4, 7].map(|pages| memory.allocate_list(0, pages).unwrap());
        let runs = taken.each_ref().map(|pages| memory.runs(pages));
        assert_eq!(runs[..3], [[(11, 7)], [(10, 1)], [(0, 4)]]);
        assert_eq!(runs[3], [(4, 6), (18, 1)]);
        assert_eq!(memory.kept(), [(19, 109)]);
        assert_eq!(memory.free_pages(), 109);
    });
}

#[test]
fn what_would_be_too_much_goes_back_in_one_piece() {
    with_memory(1024, |memory| {
        let whole = memory.buddy.borrow().free_blocks();
        let [first, second] = [100, 100].map(|pages| memory.allocate_list(0, pages).unwrap());
        // 28 pages were left of the first 128, and went back.
        assert_eq!(memory.kept(), [(228, 28)]);
        memory.free_list(0, &second);
        assert_eq!(memory.lists[0].count(), u64::from(KEPT));
        memory.free_list(0, &first);
        assert_eq!(memory.kept(), [(0, 100)], "the new one stays");
        assert_eq!(memory.buddy.borrow().free_pages(), 1024 - 100);
        memory.drain();
        assert_eq!(memory.buddy.borrow().free_blocks(), whole);
    });
}

#[test]
fn a_list_with_a_page_that_was_freed_is_not_taken_in() {
    with_memory(128, |memory| {
        let pages = memory.allocate_list(0, 9).unwrap();
        // In the middle, and where the run begins.
        for at in [4, 0] {
            let page = Frame::from_number(BASE + at).unwrap();
            memory.free(0, page).unwrap();
            assert!(!memory.lists[0].keep_run(memory.map, &pages));
            assert!(!pages.change(memory.map, State::Listed));
            assert_eq!(memory.allocate(0), Some(page));
            let states = (0..9).map(|i| memory.map.meta[i].state());
            assert!(states.into_iter().all(|state| state == State::Allocated));
        }
        // Taken from single pages, the links of the list were written over: it is one run.
        memory.free_list(0, &pages);
        assert_eq!(memory.lists[0].count(), 128);
    });
}

#[test]
fn nobody_is_given_more_than_there_is() {
    with_memory(100, |memory| {
        assert!(memory.allocate_list(0, 101).is_none());
        let most = memory.allocate_list(0, 100).unwrap();
        assert!(memory.allocate_list(0, 1).is_none());
        assert!(memory.allocate_list(1, 2).is_none());
        memory.free_list(1, &most);
        assert_eq!(memory.free_pages(), 100);
    });
}

#[derive(Clone, Debug)]
enum Step {
    Allocate(usize, u32),
    Free(usize, usize),
    Single(usize),
    FreeSingle(usize, usize),
    Drain,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..CPUS, 1..KEPT + 1).prop_map(|(cpu, n)| Step::Allocate(cpu, n)),
        6 => (0..CPUS, 2..12u32).prop_map(|(cpu, n)| Step::Allocate(cpu, n)),
        9 => (0..CPUS, any::<usize>()).prop_map(|(cpu, which)| Step::Free(cpu, which)),
        4 => (0..CPUS).prop_map(Step::Single),
        3 => (0..CPUS, any::<usize>()).prop_map(|(cpu, which)| Step::FreeSingle(cpu, which)),
        1 => Just(Step::Drain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]
    /// Lists and single pages between them own each page once, every list has as many as were asked
    /// for, no chain has more than it may, and a drain makes one piece again of what is free.
    #[test]
    fn no_page_of_a_list_has_two_owners(
        pages in 1usize..900, steps in prop::collection::vec(step(), 1..80),
    ) {
        with_memory(pages, |memory| {
            let whole = memory.buddy.borrow().free_blocks();
            let (mut lists, mut singles) = (Vec::<Chain>::new(), Vec::<Frame>::new());
            for step in steps {
                match step {
                    Step::Allocate(cpu, n) => match memory.allocate_list(cpu, n) {
                        Some(pages) => {
                            assert_eq!(pages.count(), u64::from(n));
                            lists.push(pages);
                        }
                        None => assert!(memory.buddy.borrow().free_pages() < n.into()),
                    },
                    Step::Free(cpu, which) if !lists.is_empty() => {
                        let pages = lists.swap_remove(which % lists.len());
                        memory.free_list(cpu, &pages);
                    }
                    Step::Single(cpu) => singles.extend(memory.allocate(cpu)),
                    Step::FreeSingle(cpu, which) if !singles.is_empty() => {
                        let page = singles.swap_remove(which % singles.len());
                        assert_eq!(memory.free(cpu, page), Ok(()));
                    }
                    Step::Drain => memory.drain(),
                    Step::Free(..) | Step::FreeSingle(..) => {}
                }
                let mut owned: Vec<u64> = lists.iter().flat_map(|pages| memory.numbers(pages)).collect();
                owned.extend(singles.iter().map(|page| page.number()));
                assert_eq!(memory.free_pages(), (pages - owned.len()) as u64);
                for number in &owned {
                    let page = Frame::from_number(*number).unwrap();
                    assert_eq!(memory.map.state_of(page), Some(State::Allocated));
                }
                for list in &memory.lists {
                    assert!(list.kept.count() <= KEPT.into());
                    let kept = memory.numbers(&list.kept);
                    assert_eq!(kept.len() as u64, list.kept.count());
                    assert!(kept.iter().all(|number| {
                        memory.map.meta[(number - BASE) as usize].is(State::Listed, 0)
                    }));
                    owned.extend(kept);
                }
                let count = owned.len();
                owned.sort_unstable();
                owned.dedup();
                assert_eq!(owned.len(), count, "owned twice");
            }
            lists.iter().for_each(|pages| memory.free_list(0, pages));
            singles.iter().for_each(|page| memory.free(0, *page).unwrap());
            memory.drain();
            assert_eq!(memory.buddy.borrow().free_blocks(), whole);
        });
    }
}
