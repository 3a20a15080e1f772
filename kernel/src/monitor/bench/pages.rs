//! The page allocator alone.

use super::{
    areas::rounds,
    meter::{Cost, Measured, Trouble, measure, measure_in_turns, warm_up},
    parameters::{Parameter, Values, parameter},
    report::Line,
};
use crate::mm::page_alloc::{self, MAX_ORDER};
use alloc::vec::Vec;
use core::cell::Cell;
use vmsa::Frame;

/// Of `page`.
pub(super) const ORDER: &[Parameter] = &[
    parameter("order", 0, 0, MAX_ORDER as u64),
    parameter("loops", 0, 0, 10_000_000),
];

/// Rounds before those that are measured.
const WARM_UP: u64 = 64;

/// `page`: a block allocated and freed, again and again; then each half on its own.
pub(super) fn page(values: &Values) -> Measured<()> {
    let order = values.get("order") as u8;
    let line = |case| Line {
        case,
        size: Some(("order", order.into())),
        memory: values.memory,
    };
    let pair = |_| {
        let frame = page_alloc::allocate(order)?;
        // It was allocated with this order: there is nothing to be wrong.
        let _ = page_alloc::free(frame, order);
        Ok(())
    };
    warm_up(WARM_UP, pair)?;
    let rounds = rounds(values, 1 << order);
    line("page").cost(measure(rounds, pair)?);
    let held = Cell::new(None);
    let [allocated, freed] = measure_in_turns(
        rounds,
        |_| {
            held.set(Some(page_alloc::allocate(order)?));
            Ok(())
        },
        |_| {
            held.take().map(|frame| page_alloc::free(frame, order));
            Ok(())
        },
    )?;
    line("page_alloc").cost(allocated);
    line("page_free").cost(freed);
    Ok(())
}

/// Pages of `page_batch`.
const BATCH: u64 = 4096;

/// `page_batch`: so many single pages allocated one after the other, then all freed. A round is one
/// page.
pub(super) fn page_batch(values: &Values) -> Measured<()> {
    let line = |case| Line {
        case,
        size: Some(("n", BATCH)),
        memory: values.memory,
    };
    let mut room = Vec::new();
    room.try_reserve_exact(BATCH as usize)
        .map_err(|_| Trouble::OutOfMemory)?;
    let mut frames = Batch(room);
    let take = |frames: &mut Batch| {
        frames.0.push(page_alloc::allocate(0)?);
        Ok(())
    };
    let give = |frames: &mut Batch| {
        frames.0.pop().map(|frame| page_alloc::free(frame, 0));
        Ok(())
    };
    warm_up(BATCH, |_| take(&mut frames))?;
    warm_up(BATCH, |_| give(&mut frames))?;
    let (mut allocated, mut freed) = (Cost::default(), Cost::default());
    for _ in 0..values.get("loops").max(1) {
        allocated = allocated.and(measure(BATCH, |_| take(&mut frames))?);
        freed = freed.and(measure(BATCH, |_| give(&mut frames))?);
    }
    line("page_batch_alloc").cost(allocated);
    line("page_batch_free").cost(freed);
    Ok(())
}

/// Pages that are given back at the latest when this goes.
struct Batch(Vec<Frame>);

impl Drop for Batch {
    fn drop(&mut self) {
        for frame in self.0.drain(..) {
            // It was allocated with this order.
            let _ = page_alloc::free(frame, 0);
        }
    }
}
