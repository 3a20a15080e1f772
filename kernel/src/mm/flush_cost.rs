//! What a TLB flush costs, by a model: Linux's rule for when to give up on single pages, held
//! against it. Data alone.
//!
//! The rule (`MAX_DVM_OPS`, and the reach of one range operation) was made "to avoid soft lock-ups,
//! not necessarily as a performance improvement". Where the break-even lies depends on what a
//! machine takes for what, so the figures of the model are its arguments, and are printed with it.

use vmsa::{
    Level, PageRange, VirtAddr,
    tlbi::{Operation, cover_asid},
};

/// What a machine takes for what, in units of one look into a TLB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    /// A TLBI, from the CPU that issues it to all others.
    pub operation: u64,
    /// A walk that brings a translation back.
    pub walk: u64,
    /// Translations of the address space that are in TLBs and are of use yet.
    pub live: u64,
}

/// The figures where nobody gives others: assumptions of the right order, measured nowhere.
pub const DEFAULT: Model = Model {
    operation: 100,
    walk: 40,
    live: 1024,
};

/// What a CPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// FEAT_TLBIRANGE.
    pub range: bool,
    /// FEAT_TTL.
    pub ttl: bool,
}

/// Looks into a TLB that an operation by address takes: one for each size that an entry may have
/// (4 KiB, 2 MiB, 1 GiB), or one if the level is said.
const fn looks(features: Features) -> u64 {
    if features.ttl { 1 } else { 3 }
}

/// What Linux's rule does with a range, and what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flush {
    /// TLBIs.
    pub operations: u64,
    /// Whether it is one for the whole address space.
    pub everything: bool,
    /// What that costs.
    pub cost: u64,
    /// What TLBIs for the range cost, if there were no rule.
    pub by_address: u64,
    /// What one TLBI for the whole address space costs.
    pub by_asid: u64,
}

impl Flush {
    /// Whether the other way would have cost less.
    #[must_use]
    pub fn other_is_cheaper(&self) -> bool {
        let other = if self.everything {
            self.by_address
        } else {
            self.by_asid
        };
        other < self.cost
    }
}

/// Flushing `pages` pages of a program.
///
/// `None` where there is no such range.
#[must_use]
pub fn flush(model: Model, features: Features, pages: u64) -> Option<Flush> {
    let range = PageRange::new(VirtAddr::literal(0), pages)?;
    let hint = features.ttl.then_some(Level::L3);
    let mut operations = 0;
    let mut everything = false;
    for operation in cover_asid(range, 1, true, hint, features.range) {
        operations += 1;
        everything |= matches!(operation, Operation::Aside1is(_));
    }
    let each = model.operation + looks(features);
    let by_address = each
        * if everything {
            by_page(features, pages)
        } else {
            operations
        };
    let by_asid = model.operation + model.live * model.walk;
    Some(Flush {
        operations,
        everything,
        cost: if everything { by_asid } else { by_address },
        by_address,
        by_asid,
    })
}

/// Operations by address for so many pages, beyond the cut-off too.
fn by_page(features: Features, pages: u64) -> u64 {
    if !features.range {
        return pages;
    }
    // The reach of one operation, and what is left of the last.
    let reach = vmsa::MAX_TLBI_RANGE_PAGES;
    let rest = PageRange::new(VirtAddr::literal(0), pages % reach);
    let rest = rest.map_or(0, |rest| {
        cover_asid(rest, 1, true, None, true).count() as u64
    });
    pages / reach + rest
}

/// The fewest pages for which one TLBI of everything costs less than TLBIs of pages, on a CPU without
/// ranges.
#[must_use]
pub const fn break_even(model: Model, ttl: bool) -> u64 {
    let features = Features { range: false, ttl };
    let each = model.operation + looks(features);
    (model.operation + model.live * model.walk) / each + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn cpu(range: bool, ttl: bool) -> Features {
        Features { range, ttl }
    }

    /// Counted by hand: 100 for the operation, 3 looks without a hint.
    #[test]
    fn cases_counted_by_hand() {
        let one = flush(DEFAULT, cpu(false, false), 1).unwrap();
        assert_eq!((one.operations, one.cost, one.everything), (1, 103, false));
        let hinted = flush(DEFAULT, cpu(false, true), 10).unwrap();
        assert_eq!((hinted.operations, hinted.cost), (10, 1010));
        // 67 = 64, 2 and 1.
        let range = flush(DEFAULT, cpu(true, true), 67).unwrap();
        assert_eq!((range.operations, range.cost), (3, 303));
        // From 512 on everything goes: 100, and 1024 walks.
        let all = flush(DEFAULT, cpu(false, false), 512).unwrap();
        assert_eq!(
            (all.operations, all.cost, all.everything),
            (1, 41_060, true)
        );
        assert_eq!(all.by_address, 512 * 103);
    }

    #[test]
    fn the_break_even_is_where_the_costs_cross() {
        for (model, ttl) in [
            (DEFAULT, true),
            (DEFAULT, false),
            (
                Model {
                    live: 16,
                    ..DEFAULT
                },
                false,
            ),
        ] {
            let at = break_even(model, ttl);
            let cost = |pages| (model.operation + looks(cpu(false, ttl))) * pages;
            let everything = model.operation + model.live * model.walk;
            assert!(cost(at) > everything && cost(at - 1) <= everything);
        }
        // 41,060 / 103 and / 101.
        assert_eq!(
            (break_even(DEFAULT, false), break_even(DEFAULT, true)),
            (399, 407)
        );
    }

    #[test]
    fn the_rule_is_late_by_the_default_figures_and_early_for_a_large_working_set() {
        let at = |live, pages| {
            let model = Model { live, ..DEFAULT };
            flush(model, cpu(false, true), pages)
                .unwrap()
                .other_is_cheaper()
        };
        assert!(at(1024, 450) && !at(1024, 300) && !at(1024, 600));
        // 512 single ones would cost 51,712.
        assert!(at(4096, 512) && !at(4096, 511));
    }

    #[test]
    fn with_ranges_the_cut_off_is_their_reach() {
        let reach = vmsa::MAX_TLBI_RANGE_PAGES;
        assert!(!flush(DEFAULT, cpu(true, true), reach).unwrap().everything);
        let beyond = flush(DEFAULT, cpu(true, true), reach + 1).unwrap();
        assert!(beyond.everything && beyond.other_is_cheaper());
        assert_eq!(beyond.by_address, 2 * 101);
    }
}
