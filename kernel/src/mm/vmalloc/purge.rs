//! The purge: one TLB flush for many freed areas, after which their addresses are free.
//!
//! The accepted window "freed but not purged" opens in [`push`] and closes in [`purge`]. In it the
//! area's pages may have new owners while a TLB still leads to them, so nobody may use the
//! addresses, and nobody is given them.

use super::{
    area::{AreaKind, LazyAreas, OwnedArea},
    state::STATE,
};
use crate::{
    arch::record::span,
    bug::{Bug, planted},
    event,
    mm::{
        kasan,
        layout::VMALLOC,
        tlb::{Flush, Removed},
    },
    task::lock::SpinLock,
};
use core::sync::atomic::{AtomicU64, Ordering};
use vmsa::PageRange;

/// Freed pages that may wait on one CPU: 32 MiB, as in Linux (`lazy_max_pages()`).
const LAZY_MAX_PAGES: u64 = (32 << 20) / vmsa::PAGE_SIZE;

/// One purge at a time.
static PURGE: SpinLock<()> = SpinLock::new(());
static PURGES: AtomicU64 = AtomicU64::new(0);

/// What waits for the purge: areas, pages, and how many purges there have been.
pub fn unpurged() -> (usize, u64, u64) {
    let state = STATE.lock();
    (
        state.lazy.count(),
        state.lazy.pages(),
        PURGES.load(Ordering::Relaxed),
    )
}

/// Puts an unmapped area in the list, and purges when it has grown too long.
pub(super) fn push(area: OwnedArea) {
    if planted(Bug::VaReusedEarly) {
        STATE.lock().free.insert(area);
        return;
    }
    let pages = {
        let mut state = STATE.lock();
        state.lazy.push(area);
        state.lazy.pages()
    };
    if pages > LAZY_MAX_PAGES {
        purge();
    }
}

/// Sees to it that no TLB knows an address of a freed area any more.
pub fn vm_unmap_aliases() {
    let _span = span("vm_unmap_aliases");
    purge();
}

/// Flushes everything that was freed before the call, and frees its addresses.
pub(super) fn purge() {
    let purging = PURGE.lock();
    let mut areas = STATE.lock().lazy.take_all();
    if areas.count() > 0 {
        let _span = span("__purge_vmap_area_lazy");
        PURGES.fetch_add(1, Ordering::Relaxed);
        flush(&areas);
        // From here on no TLB knows the areas: the window is closed.
        while let Some(area) = areas.pop() {
            event!(WindowClosed {
                window: event::Window::LazyPurge,
                range: area.range(),
            });
            release(area);
        }
    }
    drop(purging);
}

/// One flush over all areas. Linux flushes from the lowest address to the highest; where the areas
/// have less than that between them, this takes fewer TLBIs.
fn flush(areas: &LazyAreas) {
    if planted(Bug::NoTlbiUnmap) {
        return;
    }
    let mut flush = Flush::begin(areas.pages());
    for area in areas.iter() {
        let removed = match area.info().kind {
            AreaKind::Vmalloc | AreaKind::Vmap => Removed::Leaves,
            AreaKind::VmallocHuge => Removed::Blocks,
        };
        flush.add(area.range(), removed);
    }
    flush.finish();
}

/// Frees the addresses of an area that no TLB knows, and the shadow that only it needed.
pub(super) fn release(mut area: OwnedArea) {
    if kasan::is_on() {
        let _span = span("purge_vmap_node");
        // A page of shadow speaks of 32 KiB, which the area may share with free neighbours. They
        // are claimed up to its end, so that nobody can be given them while the shadow goes away.
        let wide = widened(&area);
        let mut state = STATE.lock();
        if wide.is_some_and(|wide| state.free.widen(&mut area, wide).is_err()) {
            // A neighbour went meanwhile: its shadow stays, and so does the page that both share.
        }
        drop(state);
        if let Some(shadow) = kasan::release_vmalloc(area.range()) {
            shadow.flush();
        }
    }
    STATE.lock().free.insert(area);
}

/// The area with as much of its free neighbours as shares a page of shadow with it.
fn widened(area: &OwnedArea) -> Option<PageRange> {
    let span = kasan::shadow::SPAN;
    let state = STATE.lock();
    let [below, above] = state.free.neighbours(area.range());
    let lowest = area.start().align_down(span).max(VMALLOC.start());
    let start = below.map_or(area.start(), |below| below.start().max(lowest));
    let end = area.start() + area.pages() * vmsa::PAGE_SIZE;
    let highest = end.align_up(span)?;
    let end = above.map_or(end, |above| {
        highest.min(above.start() + above.pages() * vmsa::PAGE_SIZE)
    });
    PageRange::covering(start, end - start)
}
