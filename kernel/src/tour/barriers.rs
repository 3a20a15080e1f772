//! What a vmap costs: entry stores, DSB, ISB and TLBI, with the barriers issued at once and put
//! off.
//!
//! The counts are of the mapping walk alone: of the events that were recorded between its enable
//! and its disable. What the shadow of the new area needed is counted the same way, beside them.

use super::{Frames, Trouble, ensure, failed, recorded};
use crate::{
    mm::{
        layout::{SHADOW, VMALLOC},
        lazy::{self, Backend, Call},
        vmalloc,
    },
    println,
    trace::{Counts, Event, Kind},
};
use vmsa::{Attributes, PageRange, VirtAddr};

/// Pages to map.
const SIZES: [u64; 4] = [1, 16, 512, 4096];

pub(super) fn run() -> Result<(), Trouble> {
    let (model, backend) = (lazy::model(), lazy::backend());
    println!("vmap of N pages whose tables exist; (shadow: the same for the shadow of the area)");
    println!(
        "{:8} {:>5} {:>7} {:>5} {:>5} {:>5}   (shadow)",
        "backend", "pages", "stores", "DSB", "ISB", "TLBI"
    );
    let result = SIZES.iter().try_for_each(|pages| {
        let frames = Frames::allocate(*pages)?;
        Backend::ALL.iter().try_for_each(|backend| {
            lazy::choose(model, *backend).map_err(|lazy::Busy| failed("a section is open"))?;
            row(*backend, &frames)
        })
    });
    lazy::choose(model, backend).map_err(|lazy::Busy| failed("a section is open"))?;
    result?;
    println!(
        "QEMU's walker sees every store at once: the barriers that are missing here would not be missed."
    );
    if lazy::ets2() {
        println!(
            "FEAT_ETS2 is counted on: a CPU's own data accesses need no such barrier, see docs/barriers.md."
        );
    } else {
        println!(
            "FEAT_ETS2 is not counted on: without these barriers nothing is guaranteed, see docs/barriers.md."
        );
    }
    Ok(())
}

fn row(backend: Backend, frames: &Frames) -> Result<(), Trouble> {
    // Once for the tables, and away again: the lowest fit gives the same addresses the second time.
    let first = vmalloc::vmap(&frames.0, Attributes::KERNEL_DATA).map_err(failed)?;
    vmalloc::vunmap(first).map_err(failed)?;
    vmalloc::vm_unmap_aliases();

    let mut area = None;
    recorded(
        || {
            vmalloc::vmap(&frames.0, Attributes::KERNEL_DATA)
                .map(|va| *area.insert(va))
                .map_err(failed)
        },
        |events, _| {
            let walk = section_counts(events, VMALLOC);
            let shadow = section_counts(events, SHADOW);
            let pages = frames.0.len();
            println!(
                "{:8} {pages:5} {:7} {:5} {:5} {:5}   ({} {} {} {})",
                backend.name(),
                walk.stores,
                walk.dsb,
                walk.isb,
                walk.tlbi,
                shadow.stores,
                shadow.dsb,
                shadow.isb,
                shadow.tlbi,
            );
            let pairs = match backend {
                // Data needs none.
                _ if lazy::ets2() => 0,
                Backend::Eager => pages,
                _ => 1,
            };
            let expected = Counts {
                stores: pages,
                dsb: pairs,
                isb: pairs,
                tlbi: 0,
            };
            ensure!(
                walk == expected,
                "{backend}, {pages} pages: {walk:?}, expected {expected:?}"
            );
            Ok(())
        },
    )?;
    area.map_or(Ok(()), |area: VirtAddr| {
        vmalloc::vunmap(area).map_err(failed)?;
        vmalloc::vm_unmap_aliases();
        Ok(())
    })
}

/// Counts the events of the sections that store entries for addresses of `part`: from an outermost
/// enable to the matching disable, both included.
pub(super) fn section_counts(events: &[Event], part: PageRange) -> Counts {
    let mut depth = 0;
    let mut start = 0;
    let mut total = Counts::default();
    for (i, event) in events.iter().enumerate() {
        match event.kind {
            Kind::Lazy {
                call: Call::Enable, ..
            } => {
                if depth == 0 {
                    start = i;
                }
                depth += 1;
            }
            Kind::Lazy {
                call: Call::Disable,
                ..
            } => {
                depth -= 1;
                let section = &events[start..=i];
                let stores_there = |event: &Event| matches!(event.kind, Kind::Store { va, .. } if part.contains(va));
                if depth == 0 && section.iter().any(stores_there) {
                    let counts = Counts::of(section);
                    total.stores += counts.stores;
                    total.dsb += counts.dsb;
                    total.isb += counts.isb;
                    total.tlbi += counts.tlbi;
                }
            }
            _ => {}
        }
    }
    total
}
