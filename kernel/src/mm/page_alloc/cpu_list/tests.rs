//! The lists of several CPUs before one buddy system, against a plain list of who owns which frame.

mod kept;

use super::*;
use crate::mm::page_alloc::{
    error::{FreeError, OutOfMemory},
    map::PageMeta,
};
use proptest::prelude::*;
use std::cell::RefCell;
use vmsa::Frame;

const BASE: u64 = 0x4_0000;
const CPUS: usize = 3;

/// What `memory` is, without locks.
struct Memory<'a> {
    lists: [CpuList; CPUS],
    buddy: RefCell<Buddy<'a>>,
    map: Map<'a>,
}

impl<'a> Memory<'a> {
    fn new(meta: &'a [PageMeta]) -> Self {
        let base = Frame::from_number(BASE).unwrap();
        let mut buddy = Buddy::new(base, meta);
        buddy.add(base, meta.len() as u64);
        Self {
            lists: [CpuList::EMPTY; CPUS],
            map: buddy.map(),
            buddy: RefCell::new(buddy),
        }
    }

    fn allocate(&mut self, cpu: usize) -> Option<Frame> {
        let list = &mut self.lists[cpu];
        let index = list.pop(self.map).or_else(|| {
            list.refill(self.map, || self.buddy.borrow_mut());
            list.pop(self.map)
        });
        index.map(|index| self.map.frame(index))
    }

    fn free(&mut self, cpu: usize, frame: Frame) -> Result<(), FreeError> {
        let list = &mut self.lists[cpu];
        // The short way, as the allocator takes it first.
        if let Some(index) = self.map.index(frame)
            && list.take_in(index, &self.map.meta[index])
        {
            return Ok(());
        }
        let (index, _) = self.map.retire(frame, 0)?;
        if !list.push(index, &self.map.meta[index]) {
            list.make_room(self.map, || self.buddy.borrow_mut());
            assert!(list.push(index, &self.map.meta[index]));
        }
        Ok(())
    }

    fn drain(&mut self) {
        for list in &mut self.lists {
            list.drain(self.map, &mut self.buddy.borrow_mut());
            assert_eq!(list.count(), 0);
        }
    }

    fn free_pages(&self) -> u64 {
        let listed: u64 = self.lists.iter().map(CpuList::count).sum();
        listed + self.buddy.borrow().free_pages()
    }
}

fn with_memory<R>(pages: usize, body: impl FnOnce(&mut Memory<'_>) -> R) -> R {
    let meta: Vec<_> = (0..pages).map(|_| PageMeta::RESERVED).collect();
    body(&mut Memory::new(&meta))
}

#[test]
fn a_batch_lies_between_two_visits_to_the_buddy_system() {
    with_memory(4 * BATCH as usize, |memory| {
        let most = 3 * BATCH;
        let mut owned: Vec<Frame> = (0..most).map_while(|_| memory.allocate(0)).collect();
        let mut buddy = memory.buddy.borrow().free_pages();
        let (mut since, mut visits) = (BATCH, 0);
        // Frees, then allocations, of every number up to three batches.
        let steps = (1..=most).flat_map(|n| (0..2 * n).map(move |i| i < n));
        for free in steps {
            if free {
                memory.free(0, owned.pop().unwrap()).unwrap();
            } else {
                owned.push(memory.allocate(0).unwrap());
            }
            since += 1;
            let now = memory.buddy.borrow().free_pages();
            if now != buddy {
                assert!(since >= BATCH, "visited after {since} calls");
                assert_eq!(now.abs_diff(buddy), u64::from(BATCH));
                (buddy, since) = (now, 0);
                visits += 1;
            }
            assert!(memory.lists[0].count() <= 2 * u64::from(BATCH));
        }
        assert!(visits > 2, "{visits} visits");
    });
}

#[test]
fn the_page_that_came_last_goes_first() {
    with_memory(100, |memory| {
        let [first, second] = [(); 2].map(|()| memory.allocate(1).unwrap());
        memory.free(1, first).unwrap();
        memory.free(1, second).unwrap();
        assert_eq!(memory.allocate(1), Some(second));
        assert_eq!(memory.allocate(1), Some(first));
    });
}

#[test]
fn adjacent_pages_come_one_after_the_other() {
    with_memory(BATCH as usize, |memory| {
        let numbers: Vec<u64> = (0..BATCH)
            .map_while(|_| memory.allocate(0).map(Frame::number))
            .collect();
        assert_eq!(numbers, Vec::from_iter(BASE..BASE + u64::from(BATCH)));
    });
}

#[test]
fn a_page_in_a_list_is_nobodys() {
    with_memory(64, |memory| {
        let page = memory.allocate(0).unwrap();
        memory.free(0, page).unwrap();
        assert_eq!(memory.map.state_of(page), Some(State::Listed));
        assert_eq!(memory.free(1, page), Err(FreeError::DoubleFree));
        assert_eq!(
            memory.map.retire(page, 3).err(),
            Some(FreeError::DoubleFree)
        );
        // Its neighbours do not merge with it.
        memory.lists[0].drain(memory.map, &mut memory.buddy.borrow_mut());
        assert_eq!(memory.map.state_of(page), Some(State::Free));
        assert_eq!(memory.buddy.borrow().free_blocks()[6], 1);
    });
}

#[test]
fn what_one_cpu_keeps_another_gets_by_a_drain() {
    with_memory(8, |memory| {
        let page = memory.allocate(0).unwrap();
        assert_eq!(memory.lists[0].count(), 7);
        assert_eq!(memory.allocate(1), None);
        assert_eq!(
            memory.buddy.borrow_mut().allocate(2),
            Err(OutOfMemory),
            "held back"
        );
        memory.drain();
        assert!(memory.buddy.borrow_mut().allocate(2).is_ok());
        assert_ne!(memory.allocate(1), Some(page));
    });
}

#[derive(Clone, Debug)]
enum Step {
    Allocate(usize, usize),
    Free(usize, usize, usize),
    FreeTwice(usize, usize),
    Block(u8),
    Drain,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..CPUS, 1usize..80).prop_map(|(cpu, n)| Step::Allocate(cpu, n)),
        6 => (0..CPUS, 1usize..80, any::<usize>()).prop_map(|(cpu, n, at)| Step::Free(cpu, n, at)),
        2 => (0..CPUS, any::<usize>()).prop_map(|(cpu, which)| Step::FreeTwice(cpu, which)),
        1 => (0u8..8).prop_map(Step::Block),
        1 => Just(Step::Drain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]
    /// No page is ever owned twice, nor by somebody and a list, counts add up, and a drain makes
    /// one piece again of what is free.
    #[test]
    fn no_page_has_two_owners(pages in 1usize..600, steps in prop::collection::vec(step(), 1..60)) {
        with_memory(pages, |memory| {
            let whole = memory.buddy.borrow().free_blocks();
            let mut owned: Vec<Frame> = Vec::new();
            for step in steps {
                match step {
                    Step::Allocate(cpu, n) => for _ in 0..n {
                        match memory.allocate(cpu) {
                            Some(frame) => {
                                assert!(!owned.contains(&frame), "owned twice");
                                owned.push(frame);
                            }
                            None => {
                                assert_eq!(memory.buddy.borrow().free_pages(), 0);
                                assert_eq!(memory.lists[cpu].count(), 0);
                            }
                        }
                    },
                    Step::Free(cpu, n, at) => for _ in 0..n.min(owned.len()) {
                        let frame = owned.swap_remove(at % owned.len());
                        assert_eq!(memory.free(cpu, frame), Ok(()));
                    },
                    Step::FreeTwice(cpu, which) if !owned.is_empty() => {
                        let frame = owned.swap_remove(which % owned.len());
                        assert_eq!(memory.free(cpu, frame), Ok(()));
                        assert_eq!(memory.free(0, frame), Err(FreeError::DoubleFree));
                    }
                    Step::FreeTwice(..) => {}
                    Step::Block(order) => {
                        let block = memory.buddy.borrow_mut().allocate(order);
                        if let Ok(block) = block {
                            let pages = block.number()..block.number() + (1 << order);
                            assert!(!owned.iter().any(|frame| pages.contains(&frame.number())));
                            memory.buddy.borrow_mut().free(block, order).unwrap();
                        }
                    }
                    Step::Drain => memory.drain(),
                }
                assert_eq!(memory.free_pages(), (pages - owned.len()) as u64);
                for frame in &owned {
                    assert_eq!(memory.map.state_of(*frame), Some(State::Allocated));
                }
            }
            for frame in owned {
                memory.free(0, frame).unwrap();
            }
            memory.drain();
            assert_eq!(memory.buddy.borrow().free_blocks(), whole);
        });
    }
}
