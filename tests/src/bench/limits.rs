//! What each measurement may cost at most.

use super::measurement::{Key, Measurement};

/// A limit on the measurements that it fits.
#[derive(Clone, Copy, Debug)]
struct Limit {
    case: &'static str,
    /// `None`: of any size.
    size: Option<u64>,
    memory: &'static str,
    debug_pagealloc: bool,
    /// `None`: whatever is deferred.
    backend: Option<&'static str>,
    /// TLBIs by range, which `max` has alone.
    cpu: Option<&'static str>,
    insn: Option<f64>,
    /// DSB, ISB, TLBI.
    barriers: [Option<f64>; 3],
}

const ANY: Limit = Limit {
    case: "",
    size: None,
    memory: "fresh",
    debug_pagealloc: false,
    backend: Some("barriers"),
    cpu: Some("max"),
    insn: None,
    barriers: [None; 3],
};

/// Instructions, on fresh memory.
const fn insn(case: &'static str, size: Option<u64>, insn: u64) -> Limit {
    Limit {
        case,
        size,
        insn: Some(insn as f64),
        ..ANY
    }
}

/// Instructions after fragmentation: 70 a page.
const fn fragmented(pages: u64) -> Limit {
    Limit {
        memory: "fragmented",
        ..insn("vmalloc_pair", Some(pages), 70 * pages)
    }
}

/// Instructions with DEBUG_PAGEALLOC, no poison.
const fn debugged(case: &'static str, size: u64, most: u64) -> Limit {
    Limit {
        debug_pagealloc: true,
        ..insn(case, Some(size), most)
    }
}

/// Barriers, whatever the backend.
const fn barriers(
    case: &'static str,
    size: Option<u64>,
    dsb: u64,
    isb: u64,
    tlbi: Option<u64>,
) -> Limit {
    Limit {
        case,
        size,
        backend: None,
        barriers: [
            Some(dsb as f64),
            Some(isb as f64),
            match tlbi {
                Some(tlbi) => Some(tlbi as f64),
                None => None,
            },
        ],
        ..ANY
    }
}

/// Barriers of vmalloc(64) and its vfree with DEBUG_PAGEALLOC.
const fn barriers_debugged(
    backend: &'static str,
    cpu: &'static str,
    dsb: u64,
    isb: u64,
    tlbi: u64,
) -> Limit {
    Limit {
        debug_pagealloc: true,
        backend: Some(backend),
        cpu: Some(cpu),
        ..barriers("vmalloc_pair", Some(64), dsb, isb, Some(tlbi))
    }
}

/// Every limit.
const LIMITS: &[Limit] = &[
    insn("vmalloc_pair", Some(1), 560),
    insn("vmalloc_pair", Some(16), 1_050),
    insn("vmalloc_pair", Some(64), 2_600),
    insn("vmalloc_pair", Some(512), 18_000),
    insn("vmalloc_pair", Some(4096), 140_000),
    // What an area costs by itself is spread over too few pages where there are few.
    fragmented(64),
    fragmented(512),
    fragmented(4096),
    insn("vmap", Some(64), 800),
    insn("vunmap", Some(64), 500),
    insn("huge_pair", Some(512), 1_500),
    insn("vm_map_ram", Some(1), 200),
    insn("page", Some(0), 80),
    insn("set_memory_ro", Some(64), 2_500),
    insn("long_busy_list", None, 6_000),
    insn("random_size", None, 2_800),
    insn("fix_align", None, 1_800),
    insn("random_size_align", None, 2_200),
    insn("full_fit", None, 900),
    debugged("vmalloc_pair", 64, 7_000),
    debugged("page", 0, 250),
    insn("lazy", None, 40),
    barriers("vmalloc", None, 1, 1, Some(0)),
    barriers("vfree", None, 0, 0, Some(0)),
    // A batch lies in a row, for which four TLBIs by range are enough.
    barriers("purge", None, 2, 1, Some(4)),
    barriers("set_memory_ro", Some(64), 2, 1, None),
    barriers_debugged("barriers", "max", 6, 4, 4),
    barriers_debugged("tlbi", "max", 4, 3, 4),
    barriers_debugged("barriers", "neoverse-n1", 6, 4, 128),
];

/// A figure that has a limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// What is limited.
    pub what: &'static str,
    /// What was measured.
    pub measured: f64,
    /// What it may be.
    pub most: f64,
}

/// Purges happen in the steady state, a hundredth of a barrier a round: that is in the figures, and no
/// reason to call a limit broken. Instructions are what they are.
const PURGES: f64 = 0.05;

impl Judged {
    /// Whether the limit holds.
    pub fn is_met(&self) -> bool {
        let slack = if self.what == "insn" { 0.0 } else { PURGES };
        self.measured <= self.most + slack
    }
}

impl Limit {
    fn fits(&self, key: &Key) -> bool {
        let size = key.size.as_ref().map(|(_, value)| *value);
        self.case == key.case
            && (self.size.is_none() || self.size == size)
            && self.memory == key.memory
            && self.debug_pagealloc == key.debug_pagealloc
            && !key.kasan
            && self.backend.is_none_or(|backend| backend == key.backend)
            && self.cpu.is_none_or(|cpu| cpu == key.cpu)
            && key.kernel == "lull"
    }
}

/// The figures of a measurement that have limits.
pub fn judge(measurement: &Measurement) -> Vec<Judged> {
    let mut judged = Vec::new();
    for limit in LIMITS.iter().filter(|limit| limit.fits(&measurement.key)) {
        judged.extend(limit.insn.map(|most| Judged {
            what: "insn",
            measured: measurement.insn,
            most,
        }));
        let measured = measurement.barriers.unwrap_or_default();
        for (index, what) in ["dsb", "isb", "tlbi"].into_iter().enumerate() {
            judged.extend(limit.barriers[index].map(|most| Judged {
                what,
                measured: measured[index],
                most,
            }));
        }
    }
    // Where the least is known, it is the limit.
    if let (Some(least), Some(barriers)) = (measurement.least, measurement.barriers) {
        for (index, what) in ["dsb", "isb"].into_iter().enumerate() {
            judged.push(Judged {
                what,
                measured: barriers[index],
                most: least[index],
            });
        }
    }
    judged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(case: &str, n: u64, memory: &str, insn: f64, dsb: f64) -> Measurement {
        let line = format!(
            "{{\"case\":\"{case}\",\"n\":{n},\"kernel\":\"lull\",\"memory\":\"{memory}\",\
             \"debug_pagealloc\":false,\"kasan\":false,\"backend\":\"barriers\",\"cpu\":\"max\",\
             \"insn\":{insn},\"dsb\":{dsb},\"isb\":0,\"tlbi\":0}}"
        );
        Measurement::parse(&line, "max").unwrap()
    }

    fn met(measurement: &Measurement) -> Vec<bool> {
        judge(measurement).iter().map(Judged::is_met).collect()
    }

    #[test]
    fn a_limit_is_for_what_it_names() {
        let of = |case, n, memory, insn| met(&measured(case, n, memory, insn, 0.0));
        assert_eq!(of("vmalloc_pair", 64, "fresh", 2_600.0), [true]);
        assert_eq!(of("vmalloc_pair", 64, "fresh", 2_600.1), [false]);
        assert_eq!(of("vmalloc_pair", 64, "fragmented", 4_480.0), [true]);
        assert_eq!(of("vmalloc_pair", 64, "fragmented", 4_481.0), [false]);
        assert!(of("vmalloc_pair", 63, "fresh", 1.0).is_empty());
    }

    #[test]
    fn the_least_is_the_limit_where_it_is_known() {
        let mut zap = measured("zap", 600, "fresh", 1.0, 8.0);
        assert!(met(&zap).is_empty());
        zap.least = Some([8.0, 0.0]);
        assert_eq!(met(&zap), [true, true]);
        zap.least = Some([7.0, 0.0]);
        assert_eq!(met(&zap), [false, true]);
        // Whether one is missing is for the oracle to say.
        zap.least = Some([9.0, 0.0]);
        assert_eq!(met(&zap), [true, true]);
    }

    #[test]
    fn barriers_are_judged_but_for_the_purges_in_between() {
        let of = |dsb| met(&measured("vfree", 4, "fresh", 1.0, dsb));
        assert_eq!(of(0.01), [true, true, true]);
        assert_eq!(of(1.0), [false, true, true]);
    }
}
