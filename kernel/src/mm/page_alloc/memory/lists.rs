//! Lists of single pages: from the chain of the CPU and back to it, or, if they are long, from the
//! buddy system.

use super::{
    super::{
        cpu_list::KEPT,
        error::OutOfMemory,
        list::Chain,
        map::{Map, State},
    },
    BUDDY, after_drain, give_page, map, mine, take_page,
};
use core::sync::atomic::Ordering::Relaxed;

/// What a list takes from the buddy system under one lock, in pages: interrupts are masked for a
/// few thousand instructions then. One block of the highest order may come on top.
const STEP: u64 = 512;
/// Single pages that go back under one lock.
const SINGLES: u32 = 64;

/// Takes `count` single pages, or none.
#[inline]
pub fn take_list(count: u64) -> Result<Chain, OutOfMemory> {
    let map = map();
    if count == 1 {
        let index = map.index(take_page()?).ok_or(OutOfMemory)?;
        return Ok(Chain::of(index));
    }
    // Nothing is asked for where an area has its shadow already: the CPU keeps what it has.
    if count == 0 {
        return Ok(Chain::EMPTY);
    }
    if count <= KEPT.into()
        && let Some(pages) = take_kept(map, count as u32)
    {
        return Ok(pages);
    }
    let mut pages = Chain::EMPTY;
    take_many(count, &mut pages)?;
    Ok(pages)
}

/// Takes `count` pages, more than one, if there is nothing to it: they lie side by side at the front of
/// what the CPU keeps, and the rest is as for [`take_page_at_once`](super::take_page_at_once).
#[inline(always)]
pub fn take_run_at_once(count: u64) -> Option<Chain> {
    let line = mine();
    if line.more.load(Relaxed) {
        return None;
    }
    let mut mine = line.lock.try_lock()?;
    let map = mine.map;
    mine.list.take_kept_run(map, count)
}

/// Gives back a list of more than one page, if there is nothing to it: its pages lie side by side
/// before those that the CPU keeps, as they did when they were taken. If not, nothing has changed.
#[inline(always)]
pub fn give_run_at_once(pages: &Chain) -> bool {
    let line = mine();
    if line.more.load(Relaxed) {
        return false;
    }
    let Some(mut mine) = line.lock.try_lock() else {
        return false;
    };
    let map = mine.map;
    let given = mine.list.keep_run(map, pages);
    #[cfg(feature = "oracle")]
    if given {
        // Nobody can be given them before the lock is free.
        for (first, count) in pages.runs(map) {
            crate::event!(FramesFreed(mmu_oracle::event::Frames {
                first: first.start(),
                count,
            }));
        }
    }
    given
}

/// Takes `count` pages of those that the CPU keeps, if there are as many, or the buddy system has them.
#[inline]
fn take_kept(map: Map<'static>, count: u32) -> Option<Chain> {
    let list = &mut mine().lock.lock().list;
    list.take_kept(map, count).or_else(|| {
        list.refill_kept(map, count, &mut BUDDY.lock());
        list.take_kept(map, count)
    })
}

fn take_many(count: u64, pages: &mut Chain) -> Result<(), OutOfMemory> {
    let mut left = count;
    {
        let mut buddy = BUDDY.lock();
        if buddy.reserve(count).is_ok() {
            left -= buddy.take_reserved(pages, left, STEP);
        } else {
            drop(buddy);
            after_drain(|buddy| buddy.reserve(count))?;
        }
    }
    // Between the steps interrupts come through, and others.
    while left > 0 {
        left -= BUDDY.lock().take_reserved(pages, left, STEP);
    }
    Ok(())
}

/// What became of the pages of a list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given {
    /// How many were given back.
    pub pages: u64,
    /// The first that was not: it had been freed by itself.
    pub refused: Option<usize>,
}

/// Takes in pages: those of a list that was [retired](Chain::retire), or, if they are
/// [many](is_many), such as are in use still.
#[inline]
pub fn give_list(pages: &Chain) -> Given {
    let map = map();
    let count = pages.count();
    if count > KEPT.into() {
        return give_many(map, pages);
    }
    if is_many(count) {
        // Nobody can be given them before they are in the chain.
        if !pages.change(map, State::Listed) {
            return give_many(map, pages);
        }
        let list = &mut mine().lock.lock().list;
        list.keep(map, pages, || BUDDY.lock());
    } else if let Some(index) = pages.only_run() {
        give_page(index, &map.meta[index]);
    }
    Given {
        pages: count,
        refused: None,
    }
}

/// Whether the pages of a list are taken in together.
#[inline]
pub fn is_many(pages: u64) -> bool {
    pages > 1
}

/// Gives pages to the buddy system. Runs of adjacent frames become blocks at once.
///
/// Pages that are in use are taken out of use on the way: a pass over them less. What one says that
/// was freed meanwhile is anything: where it is the first of a run, the rest can't be found, and
/// nobody frees it.
fn give_many(map: Map<'static>, pages: &Chain) -> Given {
    let from = pages.state();
    let mut runs = pages.runs(map);
    let mut given = Given::default();
    while let Some(first) = runs.first() {
        if runs.comes_single() {
            match BUDDY.lock().release_singles(&mut runs, SINGLES, from) {
                0 => given.refused = given.refused.or(Some(first)),
                some => {
                    given.pages += u64::from(some);
                    continue;
                }
            }
            break;
        }
        let is_ours = map.meta.get(first).is_some_and(|meta| meta.is(from, 0));
        // What comes next is read first: this run's metadata is the buddy system's from here on.
        let Some((start, end)) = runs.step().filter(|_| is_ours) else {
            given.refused = given.refused.or(Some(first));
            break;
        };
        let mut at = start;
        while at < end {
            let done = map.change_all(at, end, from, State::Body);
            if done > at {
                BUDDY.lock().release_range(at, done);
                given.pages += (done - at) as u64;
            }
            if done < end {
                given.refused = given.refused.or(Some(done));
            }
            at = done + 1;
        }
    }
    given
}
