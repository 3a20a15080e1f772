//! When a table that was taken out of the tree may be freed: once every walk that may be reading it
//! has ended.
//!
//! The TLBI of the one who took it out ends the walks of the hardware. A walk of software may have
//! read the link before it went, and be in the table still. Walks over addresses that their caller
//! owns never are: a table is taken out by the owner of all its addresses ([`super::huge`]). Whoever
//! only looks (dumps, reports, the monitor) may look at anybody's addresses, and announces that:
//! two atomic additions and a barrier a walk; no lock, no memory, nothing to wait for, so that the
//! report of a crash can do it, whatever the crashed code held.
//!
//! There are two counts of walks, and a phase that says in which one a walk that begins now is to be
//! counted. A table may be freed when each of the counts has been 0 at some time since the table was
//! taken out: a walk that knows it was in one of them all the time. Since new walks go to one count
//! alone the other comes to 0 however many there are.

use core::sync::atomic::{
    AtomicUsize,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    fence,
};

/// The walks of this kernel.
pub static WALKS: Walks = Walks::new();

/// Walks that are under way.
#[derive(Debug, Default)]
pub struct Walks {
    /// Where a walk that begins is counted: 0 or 1.
    phase: AtomicUsize,
    under_way: [AtomicUsize; 2],
}

/// A walk is under way until this is dropped.
#[derive(Debug)]
#[must_use = "the walk would be over at once"]
pub struct Walk<'a>(&'a AtomicUsize);

impl Walks {
    /// None.
    pub const fn new() -> Self {
        Self {
            phase: AtomicUsize::new(0),
            under_way: [const { AtomicUsize::new(0) }; 2],
        }
    }

    /// Begins a walk over addresses that may be anybody's.
    #[inline]
    pub fn begin(&self) -> Walk<'_> {
        // It may be the old phase by the time of the addition: that does no harm, since tables wait
        // for both counts.
        let count = &self.under_way[self.phase.load(Relaxed) & 1];
        count.fetch_add(1, Relaxed);
        // Either this walk finds the link gone, or whoever removed it finds this walk. That takes a
        // full barrier between the store and the load of each side: here DMB ISH, there the DSB ISH
        // that ends the flush (`8-SB`, Forbidden, and `8-SB-weakP0`, Allowed: a barrier of stores
        // alone is not enough).
        fence(SeqCst);
        Walk(count)
    }

    /// Whether no walk of the phase before this one is under way. If so, the phases change places.
    fn turn(&self) -> bool {
        let phase = self.phase.load(Relaxed) & 1;
        // Acquire, after the release of the last walk to end: what it read, it read before.
        let over = self.under_way[phase ^ 1].load(Acquire) == 0;
        if over {
            self.phase.store(phase ^ 1, Relaxed);
        }
        over
    }
}

impl Drop for Walk<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.fetch_sub(1, Release);
    }
}

/// What waits for walks to end, in lists of type `L`. One lock guards it and the turns of [`Walks`].
#[derive(Debug, Default)]
pub struct Waiting<L> {
    /// Taken out in this phase: has waited for neither count.
    new: Option<L>,
    /// Has waited for one of them.
    old: Option<L>,
}

impl<L> Waiting<L> {
    /// Nothing.
    pub const fn new() -> Self {
        Self {
            new: None,
            old: None,
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.new.is_none() && self.old.is_none()
    }

    /// What waits.
    pub fn iter(&self) -> impl Iterator<Item = &L> {
        self.new.iter().chain(&self.old)
    }

    /// The list for what has just been taken out, and flushed; `None` where there is none yet.
    pub fn list(&mut self) -> &mut Option<L> {
        &mut self.new
    }

    /// What has waited for all walks that may know it: two lists at most.
    pub fn done(&mut self, walks: &Walks) -> impl Iterator<Item = L> + use<L> {
        let mut done = [None, None];
        for done in &mut done {
            if !walks.turn() {
                break;
            }
            *done = core::mem::replace(&mut self.old, self.new.take());
        }
        done.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// Takes `table` out.
    fn retire(waiting: &mut Waiting<Vec<u32>>, table: u32) {
        waiting.list().get_or_insert_default().push(table);
    }

    fn done(waiting: &mut Waiting<Vec<u32>>, walks: &Walks) -> Vec<u32> {
        waiting.done(walks).flatten().collect()
    }

    #[test]
    fn without_a_walk_nothing_waits() {
        let (walks, mut waiting) = (Walks::new(), Waiting::new());
        for table in 0..5 {
            retire(&mut waiting, table);
            assert_eq!(done(&mut waiting, &walks), [table]);
            assert!(waiting.is_empty());
        }
        drop(walks.begin());
        retire(&mut waiting, 5);
        assert_eq!(done(&mut waiting, &walks), [5]);
    }

    #[test]
    fn a_table_waits_for_the_walks_that_began_before() {
        // In whichever phase they began.
        for turns in 0..2 {
            let (walks, mut waiting) = (Walks::new(), Waiting::new());
            for _ in 0..turns {
                assert!(walks.turn());
            }
            let first = walks.begin();
            retire(&mut waiting, 1);
            assert_eq!(done(&mut waiting, &walks), []);
            let second = walks.begin();
            retire(&mut waiting, 2);
            assert_eq!(done(&mut waiting, &walks), []);
            drop(first);
            // The second walk may know of table 2 alone.
            assert_eq!(done(&mut waiting, &walks), [1]);
            assert_eq!(done(&mut waiting, &walks), []);
            drop(second);
            assert_eq!(done(&mut waiting, &walks), [2]);
            assert!(waiting.is_empty());
        }
    }

    #[test]
    fn new_walks_without_end_hold_nothing_for_ever() {
        let (walks, mut waiting) = (Walks::new(), Waiting::new());
        let mut under_way = walks.begin();
        retire(&mut waiting, 1);
        let mut freed = Vec::new();
        for _ in 0..4 {
            // There is always one.
            let next = walks.begin();
            drop(core::mem::replace(&mut under_way, next));
            freed.extend(done(&mut waiting, &walks));
        }
        assert_eq!(freed, [1]);
        drop(under_way);
    }

    #[test]
    fn a_walk_that_is_slow_to_be_counted_is_waited_for() {
        let (walks, mut waiting) = (Walks::new(), Waiting::new());
        // It has read the phase, and is counted when that has long changed.
        let count = &walks.under_way[walks.phase.load(Relaxed)];
        for _ in 0..3 {
            assert!(walks.turn());
        }
        count.fetch_add(1, Relaxed);
        let walk = Walk(count);
        retire(&mut waiting, 1);
        assert_eq!(done(&mut waiting, &walks), []);
        assert_eq!(done(&mut waiting, &walks), []);
        drop(walk);
        assert_eq!(done(&mut waiting, &walks), [1]);
    }
}
