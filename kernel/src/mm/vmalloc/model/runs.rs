//! The runs: two CPUs, and a purge.
//!
//! A page of the space is a cell that loom watches: who changes one has to come after whoever changed
//! it before, by locks and atomics alone.

use super::super::area::{AreaInfo, AreaKind, Blocks, BusyAreas, FreeAreas};
use super::checked::MOST_ARENAS;
use crate::mm::page_alloc::PageList;
use core::ptr::{self, NonNull};
use loom::{
    cell::UnsafeCell,
    sync::{Arc, Mutex},
    thread,
};
use vmsa::{PAGE_SIZE, PageRange, VirtAddr};

/// Pages of the space: enough for what the threads hold at a time, so that addresses come again.
const PAGES: u64 = 8;

/// A page of host memory for records. Leaked, as pools demand.
fn grow() -> Option<NonNull<u8>> {
    #[repr(align(4096))]
    struct Page(#[expect(dead_code, reason = "pools use it")] [u8; 4096]);
    Some(NonNull::from(Box::leak(Box::new(Page([0; 4096])))).cast())
}

/// What is true of a page of the space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Free,
    Mapped,
    /// Unmapped, and not flushed since.
    Stale,
}

/// A run with the version of `space` in one of the modules of this test.
macro_rules! machine {
    ($version:ident) => {
        #[allow(dead_code, reason = "not every version is used in every run")]
        mod $version {
            use super::super::$version::{
                space::{Arena, Ranges, Space, Waiting},
                sync::{AtomicPtr, AtomicU64, Lock},
            };
            use super::*;

            /// Two CPUs.
            pub struct Machine {
                space: Space,
                /// What the leaves say. A cell that loom watches: whoever looks at a page comes after
                /// whoever changed it, or the run fails.
                pages: [UnsafeCell<Page>; PAGES as usize],
                purge: Mutex<()>,
            }

            // SAFETY: loom checks every access to the cells.
            unsafe impl Sync for Machine {}

            impl Machine {
                /// On its own: loom's stacks are small, and this is large until it lies in its Arc.
                #[inline(never)]
                pub fn new(cpus: usize) -> Arc<Self> {
                    let space = Space {
                        arenas: core::array::from_fn::<_, MOST_ARENAS, _>(|_| Arena {
                            ranges: Lock::new(Ranges {
                                // SAFETY: `grow` leaks its pages.
                                free: unsafe { FreeAreas::new(grow) },
                                busy: BusyAreas::new(),
                                blocks: Blocks::new(),
                            }),
                            lazy: Waiting {
                                first: AtomicPtr::new(ptr::null_mut()),
                                pages: AtomicU64::new(0),
                            },
                        }),
                        count: AtomicU64::new(0),
                        shift: AtomicU64::new(63),
                        limit: AtomicU64::new(0),
                    };
                    let start = super::super::$version::space::BASE;
                    let range = PageRange::new(start, PAGES).unwrap();
                    space.open(range, cpus).unwrap();
                    Arc::new(Self {
                        space,
                        pages: core::array::from_fn(|_| UnsafeCell::new(Page::Free)),
                        purge: Mutex::new(()),
                    })
                }

                fn change(&self, range: PageRange, from: Page, to: Page) {
                    for va in range.pages_iter() {
                        let page = (va - super::super::$version::space::BASE) / PAGE_SIZE;
                        self.pages[page as usize].with_mut(|state| {
                            // SAFETY: loom has checked that nobody else has the cell.
                            let state = unsafe { &mut *state };
                            assert_eq!((va, *state), (va, from));
                            *state = to;
                        });
                    }
                }

                /// Makes an area, if there is room.
                pub fn make(&self, cpu: usize, pages: u64) -> Option<VirtAddr> {
                    let info = AreaInfo::default();
                    let mut none = PageList::EMPTY;
                    let taken = self
                        .space
                        .take_from_any(cpu, pages, PAGE_SIZE, info, &mut none);
                    let start = taken.ok()?;
                    let range = PageRange::new(start, pages).unwrap();
                    self.change(range, Page::Free, Page::Mapped);
                    Some(start)
                }

                /// Frees one, without a purge.
                pub fn free(&self, start: VirtAddr) {
                    let (area, home) = self
                        .space
                        .remove(start, |kind| kind == AreaKind::Vmalloc)
                        .unwrap();
                    self.change(area.range(), Page::Mapped, Page::Stale);
                    let _ = self.space.wait_for_purge(area, start, home);
                }

                /// Purges; in the wrong order if told to.
                pub fn purge(&self, flush_first: bool) {
                    let _one_at_a_time = self.purge.lock().unwrap();
                    let mut taken = self.space.take_waiting(None, true);
                    let ranges: Vec<PageRange> = taken
                        .iter()
                        .flat_map(|taken| taken.areas.iter().map(|area| area.range()))
                        .collect();
                    let flush = || {
                        for range in &ranges {
                            self.change(*range, Page::Stale, Page::Free);
                        }
                    };
                    if flush_first {
                        flush();
                    }
                    self.space.flushed(&mut taken);
                    for taken in &mut taken {
                        self.space.release(&mut taken.areas);
                    }
                    if !flush_first {
                        flush();
                    }
                }

                /// All is as it was before the first area.
                pub fn check_end(&self) {
                    self.purge(true);
                    let mut free = 0;
                    for arena in self.space.arenas() {
                        let ranges = arena.ranges.lock();
                        free += ranges.free.pages();
                        assert_eq!((ranges.busy.count(), arena.lazy.pages()), (0, 0));
                        assert_eq!(ranges.free.count(), 1, "the free pages are one range again");
                    }
                    assert_eq!(free, PAGES, "addresses are lost");
                    for page in &self.pages {
                        // SAFETY: as above; every thread has ended.
                        page.with(|state| assert_eq!(unsafe { *state }, Page::Free));
                    }
                }
            }

            /// Two CPUs make and free; the second purges in between.
            pub fn both_make_and_free(flush_first: bool) {
                let machine = Machine::new(2);
                let other = {
                    let machine = Arc::clone(&machine);
                    thread::spawn(move || {
                        let area = machine.make(1, 2).unwrap();
                        machine.free(area);
                        machine.purge(flush_first);
                    })
                };
                // More than is left of the own arena after the first: the other's is asked.
                let first = machine.make(0, 3).unwrap();
                let second = machine.make(0, 2);
                machine.free(first);
                second.into_iter().for_each(|area| machine.free(area));
                other.join().unwrap();
                machine.check_end();
            }

            /// One CPU frees what the other has made, while that one purges and makes again.
            pub fn another_frees(flush_first: bool) {
                let machine = Machine::new(2);
                let area = machine.make(0, 4).unwrap();
                let other = {
                    let machine = Arc::clone(&machine);
                    thread::spawn(move || machine.free(area))
                };
                machine.purge(flush_first);
                let again = machine.make(0, 3).unwrap();
                machine.free(again);
                other.join().unwrap();
                machine.check_end();
            }

            /// One CPU takes addresses that another one purges, all there are.
            pub fn one_purges_and_another_makes(flush_first: bool) {
                let machine = Machine::new(1);
                let all = machine.make(0, PAGES).unwrap();
                let other = {
                    let machine = Arc::clone(&machine);
                    thread::spawn(move || {
                        machine.free(all);
                        machine.purge(flush_first);
                    })
                };
                let again = machine.make(0, PAGES);
                again.into_iter().for_each(|area| machine.free(area));
                other.join().unwrap();
                machine.check_end();
            }

            /// One CPU pushes to a list that another one takes.
            pub fn one_pushes_and_one_takes(flush_first: bool) {
                let machine = Machine::new(1);
                let areas = [machine.make(0, 1).unwrap(), machine.make(0, 2).unwrap()];
                machine.free(areas[0]);
                let other = {
                    let machine = Arc::clone(&machine);
                    thread::spawn(move || machine.purge(flush_first))
                };
                machine.free(areas[1]);
                other.join().unwrap();
                machine.check_end();
            }
        }
    };
}

machine!(right);
machine!(torn);
machine!(relaxed);

/// Every interleaving with at most three preemptions.
fn every_run(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

#[test]
fn two_cpus_make_free_and_purge() {
    every_run(|| right::both_make_and_free(true));
}

#[test]
fn one_cpu_frees_what_another_made() {
    every_run(|| right::another_frees(true));
}

#[test]
fn one_cpu_takes_what_another_purges() {
    every_run(|| right::one_purges_and_another_makes(true));
}

#[test]
fn areas_are_pushed_while_the_list_is_taken() {
    every_run(|| right::one_pushes_and_one_takes(true));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn addresses_that_are_free_before_the_flush_are_caught() {
    every_run(|| right::one_purges_and_another_makes(false));
}

#[test]
#[should_panic(expected = "left: (0xffff_8000_0000_0000, Free)")]
fn a_list_that_is_taken_by_two_accesses_is_caught() {
    every_run(|| torn::one_pushes_and_one_takes(true));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_push_that_does_not_release_is_caught() {
    every_run(|| relaxed::one_pushes_and_one_takes(true));
}
