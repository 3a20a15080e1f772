//! What each cell is expected to show, from the sources: commits and threads are named where they
//! settle a cell, and `docs/history.md` tells them in order.

use super::Cell;
use crate::mm::{
    lazy::{self, Backend, Model},
    zap_cost,
};

/// Of the chain `chain` under a model and a backend; `units` is what the chain says of its size.
pub(super) fn cell(model: Model, backend: Backend, chain: &str, units: usize) -> Cell {
    let stores = usize::from(backend.defers_stores());
    let (warnings, pairs, faults, leaked) = match (chain, model) {
        // The page allocator's own section nests. `strict` warns at that (VM_WARN_ON in arch_enter
        // of 5fdd05efa1cd). Its end flushes, and ends the mode for both: the other 32 leaves get
        // barriers of their own (thread 000: "the remainder of the outer user is no longer in lazy
        // mmu mode").
        ("alloc", Model::Strict) => (1, 1 + 32, 0, 0),
        ("alloc", Model::Tolerant) => (0, 1 + 32, 0, 0),
        // Leaves before the call (one pair for 32 leaves), the allocator's section (one), enters,
        // ends (one).
        ("alloc", Model::Avoid) => (0, 3, 0, 0),
        // The end of the inner section flushes, and the mode stays on.
        ("alloc", Model::Token | Model::NestingLevel | Model::TwoCounters) => (0, 2, 0, 0),

        // No user entry owes a barrier, so under every model the least is issued: what a section that
        // ends early would cost is nothing here. `strict` warns in each that finds itself nested.
        ("zap", model) => return zap(model, units),

        // v4 warns at the enable and at the disable of each freed shadow page (thread 001:
        // pgtable.h:273).
        ("pause", Model::NestingLevel) => return pause(2 * units, units),
        // Before, pause was a leave and resume an enter, and the section in between was an ordinary
        // one. After, it is ignored.
        ("pause", _) => return pause(0, units),

        // Nothing pays: fewer barriers than the least, and under `stores` no entry was stored. No
        // model notices.
        ("error-path-raw", _) => (0, 0, stores, 1),
        ("error-path-guard", _) => (0, 1, 0, 0),

        // The mode is left before the call, so the lone store is eager.
        ("no-section", Model::Avoid) => (0, 3, 0, 0),
        // The lone store is put off with the rest, and the page is written before the barriers.
        ("no-section", _) => (0, 1, stores, 0),
        _ => unreachable!("a chain without expectations: {chain}"),
    };
    // All of it is data.
    let pairs = if lazy::ets2() { 0 } else { pairs };
    Cell {
        warnings,
        dsb: pairs,
        isb: pairs,
        faults,
        leaked,
    }
}

/// One table of leaves a section; a flush of user addresses has no ISB, a bulk free has one.
fn zap(model: Model, pages: usize) -> Cell {
    let least = zap_cost::least(pages, lazy::ets2());
    let isb = if lazy::ets2() { least.frees } else { least.isb };
    let warnings = match model {
        Model::Strict => zap_cost::sections_that_allocate(pages),
        _ => 0,
    };
    Cell {
        warnings,
        dsb: least.dsb,
        isb,
        faults: 0,
        leaked: 0,
    }
}

/// Three flushes, and one for each shadow page, of two DSBs and an ISB each.
fn pause(warnings: usize, shadow_pages: usize) -> Cell {
    Cell {
        warnings,
        dsb: 2 * (3 + shadow_pages),
        isb: 3 + shadow_pages,
        faults: 0,
        leaked: 0,
    }
}
