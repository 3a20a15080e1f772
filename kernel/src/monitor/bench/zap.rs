//! `zap`: pages of a program are unmapped, flushed and freed, and what that takes is set beside the
//! least number of barriers (`mm::zap_cost`).

use super::{
    areas::rounds,
    meter::{Cost, Measured, measure},
    parameters::{Parameter, Values, parameter},
    report::Line,
};
use crate::mm::{
    address_space::{Access, AddressSpace, Protection},
    debug_pagealloc, lazy, zap_cost,
};
use vmsa::{PageRange, VirtAddr};

/// The pages, up to more than a gather holds: the last size flushes twice.
pub(super) const PAGES: &[Parameter] = &[
    parameter("n", 64, 1, 12_000),
    parameter("loops", 0, 0, 1_000_000),
];

/// Where they are: at the first page of a table of leaves.
const START: VirtAddr = VirtAddr::literal(0x4000_0000);

/// `zap`. In each round the pages are there again, by a fault each, which is not measured; their
/// tables stay.
pub(super) fn zap(values: &Values) -> Measured<()> {
    let pages = values.get("n");
    let range = PageRange::new(START, pages).expect("a program has room for that");
    let space = AddressSpace::create()?;
    space.map(range, Protection::READ | Protection::WRITE)?;
    let used = space.use_here();
    let mut sum = Cost::default();
    for round in 0..=rounds(values, 16 * pages) {
        for page in range.pages_iter() {
            space.handle_fault(page, Access::Write)?;
        }
        let cost = measure(1, |_| Ok(space.zap(range)?))?;
        // In the first of them lists were filled.
        if round > 0 {
            sum = sum.and(cost);
        }
    }
    drop(used);
    let least = zap_cost::least(pages as usize, lazy::ets2());
    let least = if debug_pagealloc::is_on() {
        least
    } else {
        least.without_debug_pagealloc()
    };
    Line {
        case: "zap",
        size: Some(("n", pages)),
        memory: values.memory,
    }
    .with_least(sum, least);
    Ok(())
}
