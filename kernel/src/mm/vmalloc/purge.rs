//! The purge: one TLB flush for many freed areas, after which their addresses are free.
//!
//! The accepted window "freed but not purged" opens where the leaves of an area are cleared and
//! closes in [`purge`]. In it the area's pages may have new owners while a TLB still leads to them,
//! so nobody may use the addresses, and nobody is given them.
//!
//! One CPU purges at a time, for all arenas, and holds no arena's lock while it flushes: the others
//! allocate and free meanwhile.

use super::{
    area::{AreaKind, Chain, OwnedArea, VmapArea},
    space::{Arena, FullArena, Taken},
    state::SPACE,
};
#[cfg(feature = "oracle")]
use crate::event;
use crate::{
    arch::{cpu::MAX_CPUS, record::span},
    bug::{Bug, planted},
    mm::{
        kasan,
        tlb::{Flush, Removed},
    },
    task::lock::{SpinLock, SpinLockGuard},
};
use core::sync::atomic::{AtomicU64, Ordering};
use vmsa::{PageRange, VirtAddr};

/// Who holds it purges. Whoever else takes areas apart that somebody may be in the middle of taking
/// apart holds it as well.
static PURGE: SpinLock<()> = SpinLock::new(());
static PURGES: AtomicU64 = AtomicU64::new(0);

/// What waits for the purge: areas, pages, and how many purges there have been.
pub fn unpurged() -> (usize, u64, u64) {
    let (mut areas, mut pages) = (0, 0);
    each_unpurged(|area| {
        areas += 1;
        pages += area.pages();
    });
    (areas, pages, PURGES.load(Ordering::Relaxed))
}

/// Calls `each` for every area that waits for the purge.
pub(super) fn each_unpurged(each: impl FnMut(&VmapArea)) {
    each_unpurged_under(&PURGE.lock(), each);
}

/// As [`each_unpurged`]; does nothing while somebody purges. For reports, which must not wait.
pub(super) fn try_each_unpurged(each: impl FnMut(&VmapArea)) {
    if let Some(purging) = PURGE.try_lock() {
        each_unpurged_under(&purging, each);
    }
}

fn each_unpurged_under(_: &SpinLockGuard<'_, ()>, mut each: impl FnMut(&VmapArea)) {
    for arena in SPACE.arenas() {
        // SAFETY: only a purge takes areas out, and who purges holds the lock that we hold.
        unsafe { arena.lazy.iter() }.for_each(&mut each);
    }
}

/// Has an unmapped area of the arena `home`, which starts at `start`, wait for its purge. Returns
/// the arena for which [`purge_if_free`] is due, which the caller sees to once it has given back
/// the area's pages.
#[inline]
pub(super) fn push(area: OwnedArea, start: VirtAddr, home: &Arena) -> Option<FullArena> {
    if planted(Bug::VaReusedEarly) {
        let mut areas = Chain::new();
        areas.push(area);
        SPACE.release(&mut areas);
        return None;
    }
    SPACE.wait_for_purge(area, start, home)
}

/// Sees to it that no TLB knows an address of a freed area any more.
pub fn vm_unmap_aliases() {
    let _span = span("vm_unmap_aliases");
    purge();
}

/// Flushes everything that was freed before the call, and frees its addresses. Waits for a purge
/// that is under way: what that one has taken and not flushed was freed before the call, too.
pub(super) fn purge() {
    let purging = PURGE.lock();
    // Mostly so where `set_memory_*` asks. What another CPU has taken and not flushed yet it has taken
    // under this lock.
    if !SPACE.nothing_waits() {
        purge_under(&purging, None);
    }
}

/// Purges an arena, if nobody purges already: whoever only finds too much waiting need not wait for
/// it. The other arenas' areas stay where they are, and so nobody has to wait for their locks.
#[cold]
#[inline(never)]
pub(super) fn purge_if_free(full: FullArena) {
    if let Some(purging) = PURGE.try_lock() {
        purge_under(&purging, Some(full));
    }
}

#[inline(never)]
fn purge_under(_: &SpinLockGuard<'_, ()>, of: Option<FullArena>) {
    // With KASAN each area gives its own shadow back.
    let mut taken = SPACE.take_waiting(of, !kasan::is_on());
    let nothing = |taken: &Taken| taken.areas.is_empty() && taken.dirty.is_empty();
    if taken.iter().all(nothing) {
        return;
    }
    let _span = span("__purge_vmap_area_lazy");
    PURGES.fetch_add(1, Ordering::Relaxed);
    flush(&taken);
    // From here on no TLB knows the areas: the window is closed.
    #[cfg(feature = "oracle")]
    for taken in &taken {
        for range in taken
            .areas
            .iter()
            .map(VmapArea::range)
            .chain(taken.dirty.ranges())
        {
            event!(WindowClosed {
                window: event::Window::LazyPurge,
                range,
            });
        }
    }
    SPACE.flushed(&mut taken);
    for Taken { areas, .. } in &mut taken {
        if kasan::is_on() {
            while let Some(area) = areas.pop() {
                release_with_shadow(area);
            }
        } else {
            SPACE.release(areas);
        }
    }
}

/// What a purge leaves no TLB with.
fn removed(kind: AreaKind) -> Removed {
    if kind.has_blocks() {
        Removed::Blocks
    } else {
        Removed::Leaves
    }
}

/// One flush over all of it. Linux flushes from the lowest address to the highest; where the areas
/// have less than that between them, this takes fewer TLBIs. Neighbours are one range: fewer again.
fn flush(taken: &[Taken; MAX_CPUS]) {
    if planted(Bug::NoTlbiUnmap) {
        return;
    }
    let dirty = || taken.iter().flat_map(|taken| taken.dirty.ranges());
    let pages = taken.iter().map(|taken| taken.pages).sum::<u64>()
        + dirty().map(PageRange::pages).sum::<u64>();
    let mut flush = Flush::begin(pages);
    for area in taken.iter().flat_map(|taken| taken.areas.iter()) {
        flush.add(area.range(), removed(area.kind()));
    }
    for range in dirty() {
        flush.add(range, Removed::Leaves);
    }
    flush.finish();
}

/// Frees the addresses of an area that no TLB knows, and the shadow that only it needed.
pub(super) fn release(area: OwnedArea) {
    if kasan::is_on() {
        // Two neighbours that are released at the same time would each find the other in the way,
        // and leave the page of shadow that both share.
        let _purging = PURGE.lock();
        release_with_shadow(area);
        return;
    }
    let mut areas = Chain::new();
    areas.push(area);
    SPACE.release(&mut areas);
}

/// The same with KASAN, under the lock of the purge.
fn release_with_shadow(mut area: OwnedArea) {
    {
        let _span = span("purge_vmap_node");
        // A page of shadow speaks of 32 KiB, which the area may share with free neighbours. They
        // are claimed up to its end, so that nobody can be given them while the shadow goes away.
        SPACE.claim_around(&mut area, kasan::shadow::SPAN);
        if let Some(shadow) = kasan::release_vmalloc(area.range()) {
            shadow.flush();
        }
    }
    let mut areas = Chain::new();
    areas.push(area);
    SPACE.release(&mut areas);
}
