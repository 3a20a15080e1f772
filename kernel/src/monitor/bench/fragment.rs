//! The prologue that fragments memory: the free pages are single ones, in no order, and the free
//! addresses of vmalloc begin with many small holes.
//!
//! Blocks are taken until little is left, then single pages; of these every other goes back, in an order
//! that a constant seed decides. So no two free pages make a block, however long a case runs.

use super::{
    areas::Held,
    meter::{Measured, Trouble},
};
use crate::mm::{
    page_alloc::{self, MAX_ORDER},
    vmalloc::{self, vfree, vmalloc},
};
use alloc::vec::Vec;
use fastrand::Rng;
use vmsa::{Frame, PAGE_SIZE};

/// Pages that are taken one by one; half of them are free afterwards: 256 MiB, enough for every case.
const SINGLE: u64 = 128 << 10;
/// Areas that are made; half of them stay.
const AREAS: u64 = 2048;
/// Decides the order.
const SEED: u64 = 1;

/// What is held so that the rest stays in pieces. Dropped, it is given back.
pub(super) struct Fragmented {
    /// First frames, with the order of each block.
    blocks: Vec<(Frame, u8)>,
    _areas: Held,
}

impl Drop for Fragmented {
    fn drop(&mut self) {
        for (frame, order) in self.blocks.drain(..) {
            // It was allocated with this order.
            let _ = page_alloc::free(frame, order);
        }
    }
}

/// Fragments the memory of the machine.
pub(super) fn fragment() -> Measured<Fragmented> {
    let mut rng = Rng::with_seed(SEED);
    let areas = make_holes(&mut rng)?;
    let free = page_alloc::stats().free;
    let single = SINGLE.min(free / 2);
    // Of each order below the largest a few, since what is free need not be in one piece.
    let blocks = (free >> MAX_ORDER) + 64 * u64::from(MAX_ORDER);
    let mut held = Fragmented {
        blocks: room(blocks + single)?,
        _areas: areas,
    };
    let mut pages: Vec<Frame> = room(single)?;
    // As few blocks as leave so many pages.
    for order in (1..=MAX_ORDER).rev() {
        while page_alloc::stats().free >= single + (1 << order)
            && let Ok(frame) = page_alloc::allocate(order)
        {
            if held.blocks.len() as u64 == blocks {
                let _ = page_alloc::free(frame, order);
                return Err(Trouble::OutOfMemory);
            }
            held.blocks.push((frame, order));
        }
    }
    while pages.len() < pages.capacity()
        && let Ok(frame) = page_alloc::allocate(0)
    {
        pages.push(frame);
    }
    // Neighbours are one odd, one even: the odd ones stay, so no free page has its buddy free.
    pages.retain(|frame| {
        let stays = frame.number() % 2 == 1;
        if stays {
            held.blocks.push((*frame, 0));
        }
        !stays
    });
    rng.shuffle(&mut pages);
    for frame in pages {
        // It was allocated with this order.
        let _ = page_alloc::free(frame, 0);
    }
    Ok(held)
}

/// A vector that need not grow up to `count`.
fn room<T>(count: u64) -> Result<Vec<T>, Trouble> {
    let mut room = Vec::new();
    room.try_reserve_exact(count as usize)
        .map_err(|_| Trouble::OutOfMemory)?;
    Ok(room)
}

/// Makes areas of one to eight pages and frees every other one.
fn make_holes(rng: &mut Rng) -> Measured<Held> {
    let mut kept = Held::with_room(AREAS, vfree)?;
    let mut holes = Held::with_room(AREAS, vfree)?;
    for index in 0..AREAS {
        let area = vmalloc(rng.u64(1..=8) * PAGE_SIZE)?;
        if index % 2 == 0 {
            &mut kept
        } else {
            &mut holes
        }
        .push(area);
    }
    drop(holes);
    vmalloc::vm_unmap_aliases();
    Ok(kept)
}
