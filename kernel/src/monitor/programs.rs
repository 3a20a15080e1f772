//! What programs see and what that costs: `asids`, `flushcost`.

use super::{
    arguments::number,
    command::{Failed, refuse},
};
use crate::{
    arch::cpu::MAX_CPUS,
    mm::{
        address_space,
        flush_cost::{self, Features, Model},
        gather,
    },
    println,
};

/// `asids [NUMBER]`.
pub(super) fn asids(arguments: &[&str]) -> Result<(), Failed> {
    match arguments {
        [] => {}
        ["all"] => address_space::limit_asids(None),
        [word] => {
            let limit = number(word)?;
            let least = MAX_CPUS as u64 + 2;
            let most = 1 << crate::arch::user_table::asid_bits();
            if !(least..=most).contains(&limit) {
                return refuse!("{limit} ASIDs; known: {least} to {most}, all");
            }
            address_space::limit_asids(Some(limit as u32));
        }
        _ => return Err(Failed::Usage),
    }
    let (limit, generation, rollovers) = address_space::asids();
    let faults = address_space::faults();
    let gathers = gather::stats();
    println!("{limit} ASIDs, generation {generation}, begun anew {rollovers} times");
    println!("{} address spaces", address_space::count());
    println!(
        "faults: {} pages of zeroes, {} copied, {} made writable, {} spurious",
        faults.zero, faults.copied, faults.reused, faults.spurious
    );
    println!(
        "gathers: {} flushes, {} batches ({} of them in a lazy section, {} could not be had), {} bulk frees",
        gathers.flushes,
        gathers.batches,
        gathers.batches_in_section,
        gathers.failures,
        gathers.frees
    );
    Ok(())
}

/// Pages of a range that is flushed: both sides of each cut-off, and some before.
const PAGES: [u64; 12] = [
    1,
    2,
    7,
    64,
    300,
    398,
    399,
    511,
    512,
    12_000,
    vmsa::MAX_TLBI_RANGE_PAGES,
    vmsa::MAX_TLBI_RANGE_PAGES + 1,
];

/// `flushcost [operation=N] [walk=N] [live=N]`.
pub(super) fn flush_cost(arguments: &[&str]) -> Result<(), Failed> {
    let mut model = flush_cost::DEFAULT;
    for word in arguments {
        let Some((name, value)) = word.split_once('=') else {
            return Err(Failed::Usage);
        };
        let figure = match name {
            "operation" => &mut model.operation,
            "walk" => &mut model.walk,
            "live" => &mut model.live,
            _ => return refuse!("unknown figure '{name}'; known: operation, walk, live"),
        };
        let value = number(value)?;
        if value > 1 << 24 {
            return refuse!("{name}={value}; known: 0 to {}", 1 << 24);
        }
        *figure = value;
    }
    let Model {
        operation,
        walk,
        live,
    } = model;
    println!("the model, in units of one look into a TLB; these are arguments, not measurements:");
    println!(
        "  a TLBI costs operation={operation}, and a look for each size that an entry may have:"
    );
    println!(
        "  3, or 1 with FEAT_TTL. One of a whole ASID costs operation, and walk={walk} for each of"
    );
    println!("  live={live} translations that are of use yet.");
    println!(
        "break-even without ranges: {} pages, with FEAT_TTL {}; the rule of Linux: {}",
        flush_cost::break_even(model, false),
        flush_cost::break_even(model, true),
        vmsa::tlbi::MAX_DVM_OPS
    );
    println!("TLBIs and cost by the rule; * where the other way would cost less");
    println!("    pages        plain          TTL              range        range, TTL");
    for pages in PAGES {
        crate::print!("{pages:9}");
        for (range, ttl) in [(false, false), (false, true), (true, false), (true, true)] {
            let features = Features { range, ttl };
            // Every number of pages above is a range.
            let Some(flush) = flush_cost::flush(model, features, pages) else {
                continue;
            };
            let what = if flush.everything { "ASID" } else { "" };
            let star = if flush.other_is_cheaper() { '*' } else { ' ' };
            crate::print!("  {:3} {what:4} {:6}{star}", flush.operations, flush.cost);
        }
        println!();
    }
    Ok(())
}
