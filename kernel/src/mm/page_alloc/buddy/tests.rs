//! The buddy system against a plain list of who owns which frame.

use super::*;
use proptest::prelude::*;

const BASE: u64 = 0x4_0000;

/// What the calls of the allocator do under its locks, without them.
impl<'a> Buddy<'a> {
    fn allocate_list(&mut self, count: u64) -> Result<Chain, OutOfMemory> {
        self.reserve(count)?;
        let mut list = Chain::EMPTY;
        let mut left = count;
        while left > 0 {
            // In steps, as the allocator does it.
            left -= self.take_reserved(&mut list, left, 7);
        }
        Ok(list)
    }

    fn release_list(&mut self, list: Chain) {
        let mut runs = list.runs(self.map);
        while runs.first().is_some() {
            // As the allocator does it, with fewer pages at a time.
            self.release_singles(&mut runs, 3, list.state());
            if let Some((start, end)) = runs.step() {
                let done = self.map.change_all(start, end, list.state(), State::Body);
                assert_eq!(done, end);
                self.release_range(start, end);
            }
        }
    }
}

fn frame(number: u64) -> Frame {
    Frame::from_number(number).unwrap()
}

fn with_buddy<R>(pages: usize, body: impl FnOnce(&mut Buddy<'_>) -> R) -> R {
    let meta: Vec<_> = (0..pages).map(|_| PageMeta::RESERVED).collect();
    let mut buddy = Buddy::new(frame(BASE), &meta);
    buddy.add(frame(BASE), pages as u64);
    body(&mut buddy)
}

#[test]
fn a_new_allocator_is_made_of_the_largest_blocks() {
    with_buddy(1024 + 512 + 3, |buddy| {
        assert_eq!(buddy.free_pages(), 1024 + 512 + 3);
        assert_eq!(buddy.allocate(10), Ok(frame(BASE)));
        assert_eq!(buddy.allocate(10), Err(OutOfMemory));
        assert_eq!(buddy.allocate(9), Ok(frame(BASE + 1024)));
        assert_eq!(buddy.allocate(1), Ok(frame(BASE + 1536)));
        assert_eq!(buddy.allocate(0), Ok(frame(BASE + 1538)));
        assert_eq!(buddy.allocate(0), Err(OutOfMemory));
        assert_eq!(buddy.free_pages(), 0);
    });
}

#[test]
fn an_order_beyond_the_largest_is_out_of_memory() {
    with_buddy(4096, |buddy| {
        assert_eq!(buddy.allocate(MAX_ORDER + 1), Err(OutOfMemory));
        assert_eq!(buddy.allocate(u8::MAX), Err(OutOfMemory));
    });
}

#[test]
fn every_wrong_free_is_refused_and_changes_nothing() {
    with_buddy(64, |buddy| {
        let block = buddy.allocate(3).unwrap();
        let free = buddy.free_pages();
        let next = frame(block.number() + 1);
        assert_eq!(buddy.free(next, 0), Err(FreeError::NotAllocated));
        assert_eq!(buddy.free(next, 3), Err(FreeError::Misaligned));
        assert_eq!(buddy.free(block, 2), Err(FreeError::WrongOrder(3)));
        assert_eq!(buddy.free(block, MAX_ORDER + 1), Err(FreeError::Misaligned));
        assert_eq!(buddy.free(frame(BASE - 1), 0), Err(FreeError::Reserved));
        assert_eq!(buddy.free(frame(BASE + 64), 0), Err(FreeError::Reserved));
        assert_eq!(
            buddy.free(frame(BASE + 63), 0),
            Err(FreeError::DoubleFree),
            "never allocated"
        );
        assert_eq!(buddy.free_pages(), free);
        assert_eq!(buddy.free(block, 3), Ok(()));
        assert_eq!(buddy.free(block, 3), Err(FreeError::DoubleFree));
        assert_eq!(
            buddy.free(next, 0),
            Err(FreeError::DoubleFree),
            "inside a block that was merged"
        );
    });
}

#[test]
fn a_reserved_page_between_two_regions_is_never_handed_out() {
    let meta = [const { PageMeta::RESERVED }; 8];
    let mut buddy = Buddy::new(frame(BASE), &meta);
    buddy.add(frame(BASE), 3);
    buddy.add(frame(BASE + 4), 4);
    let all = buddy.allocate_list(7).unwrap();
    assert!(!all.frames(buddy.map).any(|f| f == frame(BASE + 3)));
    assert_eq!(buddy.free(frame(BASE + 3), 0), Err(FreeError::Reserved));
    buddy.release_list(all);
    assert_eq!(
        buddy.allocate(3),
        Err(OutOfMemory),
        "no merge across the reserved page"
    );
}

#[test]
fn bulk_is_all_or_nothing() {
    with_buddy(10, |buddy| {
        assert!(buddy.allocate_list(11).is_err());
        assert_eq!(buddy.free_pages(), 10);
        let list = buddy.allocate_list(10).unwrap();
        assert_eq!(
            (
                list.count(),
                list.frames(buddy.map).count(),
                buddy.free_pages()
            ),
            (10, 10, 0)
        );
        buddy.release_list(list);
        assert_eq!(buddy.free_pages(), 10);
    });
}

#[test]
fn a_retired_block_is_nobodys() {
    with_buddy(4, |buddy| {
        let block = buddy.allocate(1).unwrap();
        buddy.retire(block, 1).unwrap();
        assert_eq!(buddy.retire(block, 1), Err(FreeError::DoubleFree));
        let _other = buddy.allocate(1).unwrap();
        assert_eq!(buddy.allocate(0), Err(OutOfMemory));
        buddy.release(block, 1);
        assert_eq!(buddy.allocate(1), Ok(block));
    });
}

/// What happens to a list of `pages` pages, of which those with a number in `behind` were freed one by
/// one before: those that are refused, and those that are taken back.
fn freed_behind(pages: u64, behind: &[u64]) -> (Vec<u64>, Vec<u64>) {
    let mut result = (Vec::new(), Vec::new());
    with_buddy(pages as usize, |buddy| {
        let map = buddy.map;
        let mut list = buddy.allocate_list(pages).unwrap();
        let number = |index: usize| index as u64;
        for page in behind {
            buddy.free(frame(BASE + page), 0).unwrap();
        }
        list.retire(map, |index| result.0.push(number(index)));
        result.1.extend(list.frames(map).map(|f| f.number() - BASE));
        assert_eq!(list.count(), result.1.len() as u64);
        // They are nobody's until they are released, and never twice.
        for page in &result.1 {
            assert_eq!(
                buddy.free(frame(BASE + page), 0),
                Err(FreeError::DoubleFree)
            );
        }
        buddy.release_list(list);
        assert!(buddy.free_pages() <= pages);
    });
    result
}

#[test]
fn a_page_that_was_freed_behind_a_list_is_left_out() {
    let all: Vec<u64> = (0..64).collect();
    assert_eq!(freed_behind(64, &[]), (vec![], all.clone()));
    let but_one: Vec<u64> = all.iter().copied().filter(|page| *page != 17).collect();
    assert_eq!(freed_behind(64, &[17]), (vec![17], but_one));
    let but_two: Vec<u64> = (1..62).collect();
    let (refused, taken) = freed_behind(64, &[62, 63]);
    assert_eq!((refused, &taken[1..]), (vec![62, 63], &but_two[..]));
    // The first of a run has the link to the next: without it they can't be found.
    assert_eq!(freed_behind(64, &[0]), (vec![0], vec![]));
}

#[test]
fn a_list_of_pages_in_use_takes_pages_in_use() {
    with_buddy(8, |buddy| {
        let map = buddy.map;
        let mut list = buddy.allocate_list(2).unwrap();
        let more = buddy.allocate(0).unwrap();
        list.give_up(map, more).unwrap();
        assert_eq!(
            list.give_up(map, frame(BASE + 7)),
            Err(FreeError::DoubleFree)
        );
        list.retire(map, |index| panic!("page {index} is refused"));
        assert_eq!(buddy.free(more, 0), Err(FreeError::DoubleFree));
        assert_eq!(list.count(), 3);
        buddy.release_list(list);
        assert_eq!(buddy.allocate(3), Ok(frame(BASE)));
    });
}

#[derive(Clone, Debug)]
enum Step {
    Allocate(u8),
    Bulk(usize),
    Free(usize),
    FreeBulk(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u8..=MAX_ORDER).prop_map(Step::Allocate),
        (1usize..200).prop_map(Step::Bulk),
        any::<usize>().prop_map(Step::Free),
        (1usize..200, any::<bool>()).prop_map(|(n, sorted)| Step::FreeBulk(n, sorted)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]
    /// No frame is ever owned twice, counts add up, and when all is free again, all of it is one
    /// piece again.
    #[test]
    fn no_frame_has_two_owners(pages in 1usize..3000, steps in prop::collection::vec(step(), 1..60)) {
        with_buddy(pages, |buddy| {
            let whole = fingerprint(buddy);
            let mut owned: Vec<(Frame, u8)> = Vec::new();
            let mut owner = vec![false; pages];
            for step in steps {
                match step {
                    Step::Allocate(order) => match buddy.allocate(order) {
                        Ok(f) => {
                            assert_eq!(f.number() % (1 << order), 0);
                            claim(&mut owner, f, order);
                            owned.push((f, order));
                        }
                        Err(OutOfMemory) => assert!(!has_free_block(&owner, order)),
                    },
                    Step::Bulk(n) => {
                        let free = owner.iter().filter(|o| !**o).count();
                        let list = buddy.allocate_list(n as u64);
                        assert_eq!(list.is_ok(), n <= free);
                        for f in list.iter().flat_map(|list| list.frames(buddy.map)) {
                            claim(&mut owner, f, 0);
                            owned.push((f, 0));
                        }
                    }
                    Step::Free(which) if !owned.is_empty() => {
                        let (f, order) = owned.swap_remove(which % owned.len());
                        buddy.free(f, order).unwrap();
                        disown(&mut owner, f, order);
                    }
                    Step::Free(_) => {}
                    Step::FreeBulk(n, sorted) => {
                        let mut frames: Vec<Frame> =
                            owned.iter().filter(|(_, o)| *o == 0).map(|(f, _)| *f).take(n).collect();
                        owned.retain(|(f, o)| *o != 0 || !frames.contains(f));
                        if sorted {
                            frames.sort_by_key(|f| f.number());
                        }
                        let mut list = Chain::EMPTY;
                        for f in frames {
                            list.give_up(buddy.map, f).unwrap();
                            assert_eq!(list.give_up(buddy.map, f), Err(FreeError::DoubleFree));
                            disown(&mut owner, f, 0);
                        }
                        buddy.release_list(list);
                    }
                }
                assert_eq!(buddy.free_pages(), owner.iter().filter(|o| !**o).count() as u64);
            }
            for (f, order) in owned {
                buddy.free(f, order).unwrap();
            }
            assert_eq!(fingerprint(buddy), whole);
        });
    }
}

/// The number of free blocks of each order, counted from the lists.
fn fingerprint(buddy: &Buddy<'_>) -> Vec<usize> {
    buddy
        .lists
        .iter()
        .map(|first| {
            let mut count = 0;
            let mut index = *first;
            while index != NONE {
                count += 1;
                index = buddy.map.meta[index as usize].next.load(Relaxed);
            }
            count
        })
        .collect()
}

fn claim(owner: &mut [bool], first: Frame, order: u8) {
    for page in &mut owner[(first.number() - BASE) as usize..][..1 << order] {
        assert!(!*page, "owned twice");
        *page = true;
    }
}

fn disown(owner: &mut [bool], first: Frame, order: u8) {
    owner[(first.number() - BASE) as usize..][..1 << order].fill(false);
}

fn has_free_block(owner: &[bool], order: u8) -> bool {
    owner
        .chunks_exact(1 << order)
        .any(|block| block.iter().all(|o| !o))
}
