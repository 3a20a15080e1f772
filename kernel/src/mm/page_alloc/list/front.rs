//! Chains of pages that are put together and taken apart at their front, in steps by run: a page
//! costs no more than the change of its state.

use super::{Chain, IN_USE};
use crate::mm::page_alloc::map::{MANY, Map, State};
use core::sync::atomic::Ordering::Relaxed;

impl Chain {
    /// Puts all pages from the state that they are in into `to`, or none, where one is not in it:
    /// it was freed behind the back of who has the chain. Whether it was done.
    #[inline]
    pub(in super::super) fn change(&self, map: Map<'_>, to: State) -> bool {
        let from = self.state();
        let mut runs = self.runs(map);
        let stopped_at = loop {
            // The link of a page that turns out not to be ours is not followed.
            let mut singles = runs.singles();
            let mut before = singles.clone();
            while let Some((_, meta)) = singles.step()
                && meta.change(from, to, 0)
            {
                before = singles.clone();
            }
            runs.behind(&before);
            // A run, or a page that isn't ours. As in `retire`: what it says of the next is read
            // when it is known to be ours.
            let Some(first) = runs.first() else {
                return true;
            };
            let meta = map.meta.get(first);
            if !meta.is_some_and(|meta| meta.change(from, to, 0)) {
                break first;
            }
            let Some((start, end)) = runs.step() else {
                return true;
            };
            let changed = map.change_all(start + 1, end, from, to);
            if changed < end {
                break changed;
            }
        };
        self.change_back(map, stopped_at);
        false
    }

    /// Puts the pages before the page `stop`, which are nobody else's, back into the state that
    /// they were in.
    #[cold]
    #[inline(never)]
    fn change_back(&self, map: Map<'_>, stop: usize) {
        let mut runs = self.runs(map);
        while runs.first().is_some_and(|first| first != stop)
            && let Some((start, end)) = runs.step()
        {
            let is_there = (start..end).contains(&stop);
            map.set_all(start, if is_there { stop } else { end }, self.state());
            if is_there {
                return;
            }
        }
    }

    /// Puts the pages of `front` before its own. What state they are in is the caller's to see to.
    #[inline]
    pub(in super::super) fn prepend(&mut self, map: Map<'_>, front: &Self) {
        let pages = front.count & !IN_USE;
        if self.count & !IN_USE == 0 {
            *self = Self {
                count: pages,
                ..*front
            };
            return;
        }
        // The last run of the one comes before the first of the other, or is one with it: mostly so, if
        // that is what was left when the pages were taken.
        let (mut end, mut next) = (front.end, Some(self.first));
        if front.end == self.first {
            (end, next) = match self.runs(map).step() {
                Some((_, end)) if self.first != self.last => {
                    let link = map.meta[self.first as usize].next.load(Relaxed);
                    (end as u32, Some(link & !MANY))
                }
                _ => (end, None),
            };
        }
        match next {
            Some(next) => link(map, front.last, end, next),
            None => self.last = front.last,
        }
        self.first = front.first;
        self.count += pages;
    }

    /// Puts the pages of `front`, which are in use, before its own, if that is all one run then,
    /// and it is the first; `front` has no other. Their state is `to`. If not, nothing has changed.
    #[inline(always)]
    pub(in super::super) fn join_front(&mut self, map: Map<'_>, front: &Self, to: State) -> bool {
        let is_one = front.first == front.last && front.end == self.first;
        if !is_one || self.first != self.last || front.state() != State::Allocated {
            return false;
        }
        let (start, end) = (front.first as usize, front.end as usize);
        let done = map.change_all(start, end, State::Allocated, to);
        if done < end {
            map.set_all(start, done, State::Allocated);
            return false;
        }
        (self.first, self.last) = (front.first, front.first);
        self.count += front.count & !IN_USE;
        true
    }

    /// As [`take_front`](Self::take_front), if it is one run of more than `count` pages.
    #[inline(always)]
    pub(in super::super) fn take_front_run(&mut self, map: Map<'_>, count: u32) -> Option<Self> {
        let first = self.first;
        if first != self.last || count == 0 || count >= self.count & !IN_USE {
            return None;
        }
        let cut = first + count;
        map.set_all(first as usize, cut as usize, State::Allocated);
        (self.first, self.last) = (cut, cut);
        self.count -= count;
        Some(Self {
            first,
            last: first,
            end: cut,
            count: count | IN_USE,
        })
    }

    /// Takes `count` pages off its front, which are in use from then on; `None` where it has fewer, or
    /// none are asked for.
    #[inline]
    pub(in super::super) fn take_front(&mut self, map: Map<'_>, count: u32) -> Option<Self> {
        if count == 0 || count > self.count & !IN_USE {
            return None;
        }
        let mut runs = self.runs(map);
        let mut left = count;
        loop {
            let (mut singles, mut but_one) = (runs.singles(), left - 1);
            while but_one != 0
                && let Some((_, meta)) = singles.step()
            {
                meta.set(State::Allocated, 0);
                but_one -= 1;
            }
            left = but_one + 1;
            runs.behind(&singles);
            let (start, end) = runs.step()?;
            let pages = (end - start).min(left as usize);
            map.set_all(start, start + pages, State::Allocated);
            left -= pages as u32;
            if left > 0 {
                continue;
            }
            let (start, cut, end) = (start as u32, (start + pages) as u32, end as u32);
            let taken = Self {
                first: self.first,
                last: start,
                end: cut,
                count: count | IN_USE,
            };
            self.count -= count;
            // What is left of the run, or the run behind it.
            match runs.first() {
                _ if self.count & !IN_USE == 0 => *self = Self::EMPTY,
                Some(next) if cut == end => self.first = next as u32,
                None => (self.first, self.last) = (cut, cut),
                Some(next) => {
                    link(map, cut, end, next as u32);
                    self.first = cut;
                }
            }
            return Some(taken);
        }
    }
}

/// Has the run `start..end` come before the one that starts at `next`.
#[inline]
fn link(map: Map<'_>, start: u32, end: u32, next: u32) {
    let meta = &map.meta[start as usize];
    let pages = end - start;
    if pages == 1 {
        meta.next.store(next, Relaxed);
    } else {
        meta.run.store(pages, Relaxed);
        meta.next.store(next | MANY, Relaxed);
    }
}
