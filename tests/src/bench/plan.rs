//! What `make bench` measures: a machine a line, so that no measurement depends on those before it.

/// Variables in which a machine differs from the others.
pub type Changes = &'static [(&'static str, &'static str)];

/// One machine.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// What follows `bench`.
    pub words: &'static str,
    /// The variables in which it differs.
    pub changes: Changes,
    /// Measured on fragmented memory as well.
    pub fragmented: bool,
    /// In the short form that `make test` compares with the baseline.
    pub short: bool,
}

const PLAIN: Entry = Entry {
    words: "",
    changes: &[],
    fragmented: false,
    short: false,
};

/// On fresh memory.
const fn fresh(words: &'static str) -> Entry {
    Entry { words, ..PLAIN }
}

/// On fresh and on fragmented memory.
const fn both(words: &'static str) -> Entry {
    Entry {
        fragmented: true,
        ..fresh(words)
    }
}

/// On a machine with changes.
const fn with(words: &'static str, changes: Changes) -> Entry {
    Entry {
        changes,
        ..fresh(words)
    }
}

/// In the short form, too.
const fn short(entry: Entry) -> Entry {
    Entry {
        short: true,
        ..entry
    }
}

const DEBUG: (&str, &str) = ("DEBUG_PAGEALLOC", "on");
const TLBI: (&str, &str) = ("BACKEND", "tlbi");
/// A CPU without TLBIs by range.
const NO_RANGES: (&str, &str) = ("CPU", "neoverse-n1");

/// Every machine, in the order of the table.
pub const ENTRIES: &[Entry] = &[
    short(both("vmalloc_pair n=1")),
    both("vmalloc_pair n=16"),
    short(both("vmalloc_pair n=64")),
    both("vmalloc_pair n=512"),
    both("vmalloc_pair n=4096"),
    with("vmalloc_pair n=64", &[NO_RANGES]),
    short(with("vmalloc_pair n=64", &[DEBUG])),
    with("vmalloc_pair n=64", &[DEBUG, TLBI]),
    with("vmalloc_pair n=64", &[DEBUG, NO_RANGES]),
    fresh("vmap n=1"),
    short(both("vmap n=64")),
    fresh("vmap n=512"),
    both("huge_pair"),
    fresh("set_memory n=1"),
    short(fresh("set_memory n=64")),
    with("set_memory n=64", &[TLBI]),
    fresh("set_memory n=512"),
    short(both("page order=0")),
    with("page order=0", &[DEBUG]),
    fresh("page order=3"),
    both("page_batch"),
    short(fresh("zap n=64")),
    fresh("zap n=600"),
    with("zap n=600", &[DEBUG]),
    with("zap n=12000", &[DEBUG]),
    short(fresh("lazy")),
    fresh("fix_size"),
    fresh("full_fit"),
    fresh("long_busy_list loops=1000"),
    both("random_size loops=2000"),
    fresh("fix_align"),
    fresh("random_size_align"),
    fresh("align_shift"),
    short(fresh("vm_map_ram")),
    fresh("vm_map_ram nr_pages=64"),
    fresh("vfree_deferred n=1"),
];

/// The cases that count, by name.
pub fn cases() -> Vec<&'static str> {
    let mut cases: Vec<_> = ENTRIES.iter().map(|entry| case_of(entry.words)).collect();
    cases.dedup();
    cases
}

/// The name of the case, of the words that follow `bench`.
pub fn case_of(words: &str) -> &str {
    words.split_whitespace().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_of_the_kernel_is_measured() {
        let source = include_str!("../../../kernel/src/monitor/bench/mod.rs");
        let mut known: Vec<_> = source
            .split("case(\"")
            .skip(1)
            .filter_map(|rest| rest.split_once('"'))
            .map(|(name, _)| name)
            .collect();
        let mut planned = cases();
        known.sort_unstable();
        planned.sort_unstable();
        assert_eq!(planned, known);
    }

    #[test]
    fn what_is_short_is_on_fresh_memory_and_part_of_the_whole() {
        assert!(ENTRIES.iter().filter(|entry| entry.short).count() >= 5);
    }
}
