//! Whose which addresses are: no two areas that are in use at the same time may overlap, whoever
//! made them.

use super::{
    room::{AREAS, MAPPINGS, MAX_TASKS, PLACES},
    wrong::{Wrong, ensure, wrong},
};
use crate::task::preempt;
use spin::Mutex;
use vmsa::{PageRange, VirtAddr};

/// As many as there can be at a time.
const CLAIMS: usize = MAX_TASKS * (AREAS + MAPPINGS) + PLACES;

/// Not a lock that the oracle is told of: it orders nothing that the kernel may rely on.
static ALL: Mutex<[Option<PageRange>; CLAIMS]> = Mutex::new([None; CLAIMS]);

/// Nobody has anything.
pub(super) fn clear() {
    *ALL.lock() = [None; CLAIMS];
}

/// Notes that `pages` pages from `start` on, and the guard page behind them, were handed out.
pub(super) fn claim(start: VirtAddr, pages: u64) -> Result<(), Wrong> {
    let range = PageRange::new(start, pages + 1)
        .ok_or_else(|| wrong!("{pages} pages at {start} are no range"))?;
    let (other, noted) = {
        let _preempt = preempt::disable();
        let mut all = ALL.lock();
        let other = all.iter().flatten().find(|other| range.overlaps(other));
        let other = other.copied();
        let slot = all.iter_mut().find(|slot| slot.is_none());
        (other, slot.map(|slot| *slot = Some(range)))
    };
    if let Some(other) = other {
        return Err(wrong!(
            "the new area at {start} overlaps the one at {}",
            other.start()
        ));
    }
    ensure!(noted.is_some(), "more areas than there can be");
    Ok(())
}

/// Calls `look` with each range that somebody has.
#[cfg(feature = "ktests")]
pub(super) fn each(mut look: impl FnMut(PageRange)) {
    let all = *ALL.lock();
    all.into_iter().flatten().for_each(&mut look);
}

/// The area at `start` is about to be freed.
pub(super) fn give_up(start: VirtAddr) -> Result<(), Wrong> {
    let found = {
        let _preempt = preempt::disable();
        let mut all = ALL.lock();
        let slot = all
            .iter_mut()
            .find(|slot| slot.is_some_and(|range| range.start() == start));
        slot.map(|slot| *slot = None)
    };
    ensure!(found.is_some(), "{start} is freed and was nobody's");
    Ok(())
}
