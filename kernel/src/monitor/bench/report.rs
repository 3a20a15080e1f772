//! What a case prints: a line of JSON a measurement, per round.

use super::{beyond::Beyond, meter::Cost, parameters::Memory, steady::Steady};
use crate::{
    mm::{debug_pagealloc, kasan, lazy, zap_cost::Least},
    println,
};
use core::fmt;

/// A number per round, with so many decimals, rounded to the nearest.
struct Per {
    sum: u64,
    rounds: u64,
    decimals: u32,
}

impl fmt::Display for Per {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = 10u128.pow(self.decimals);
        let rounds = u128::from(self.rounds.max(1));
        let scaled = (u128::from(self.sum) * scale + rounds / 2) / rounds;
        let (whole, rest) = (scaled / scale, scaled % scale);
        write!(f, "{whole}.{rest:0width$}", width = self.decimals as usize)
    }
}

/// A line that is begun: the case, and how it was measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) case: &'static str,
    /// What the case was told that makes it another: `n` or `order`, and its value.
    pub(super) size: Option<(&'static str, u64)>,
    pub(super) memory: Memory,
}

impl Line {
    /// Prints what a case took in the steady state.
    pub(super) fn steady(&self, Steady { cost, beyond }: Steady) {
        self.print(cost, beyond, None);
    }

    /// Prints what something took.
    pub(super) fn cost(&self, cost: Cost) {
        self.print(cost, None, None);
    }

    /// Prints what something took that was done to `areas` areas at once.
    pub(super) fn of_areas(&self, cost: Cost, areas: u64) {
        self.print(cost, None, Some(areas));
    }

    /// Prints what something took, and so many bytes of metadata for so many pages, per page.
    pub(super) fn with_metadata(&self, cost: Cost, bytes: u64, pages: u64) {
        let metadata = Per {
            sum: bytes,
            rounds: pages,
            decimals: 2,
        };
        let shown = Shown {
            line: self,
            cost,
            beyond: None,
            areas: None,
        };
        println!("{shown},\"metadata\":{metadata}}}");
    }

    /// Prints what something took whose least number of barriers is known, and that.
    pub(super) fn with_least(&self, cost: Cost, least: Least) {
        let shown = Shown {
            line: self,
            cost,
            beyond: None,
            areas: None,
        };
        let Least { dsb, isb, .. } = least;
        println!("{shown},\"least_dsb\":{dsb},\"least_isb\":{isb}}}");
    }

    fn print(&self, cost: Cost, beyond: Option<Beyond>, areas: Option<u64>) {
        let shown = Shown {
            line: self,
            cost,
            beyond,
            areas,
        };
        println!("{shown}}}");
    }
}

/// The line as JSON, but for the brace at its end.
struct Shown<'a> {
    line: &'a Line,
    cost: Cost,
    beyond: Option<Beyond>,
    areas: Option<u64>,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            cost,
            beyond,
            areas,
        } = self;
        write!(f, "{{\"case\":\"{}\"", line.case)?;
        if let Some((name, value)) = line.size {
            write!(f, ",\"{name}\":{value}")?;
        }
        if let Some(areas) = areas {
            write!(f, ",\"areas\":{areas}")?;
        }
        write!(
            f,
            ",\"kernel\":\"lull\",\"memory\":\"{}\",\"debug_pagealloc\":{},\"kasan\":{},\"backend\":\"{}\"",
            line.memory.name(),
            debug_pagealloc::is_on(),
            kasan::is_on(),
            lazy::backend(),
        )?;
        let per = |sum, decimals| Per {
            sum,
            rounds: cost.rounds,
            decimals,
        };
        write!(
            f,
            ",\"insn\":{},\"dsb\":{},\"isb\":{},\"tlbi\":{}",
            per(cost.instructions, 2),
            per(cost.dsb, 4),
            per(cost.isb, 4),
            per(cost.tlbi, 4),
        )?;
        if let Some(Beyond {
            rounds,
            pages,
            everything,
        }) = *beyond
        {
            let per = |sum| Per {
                sum,
                rounds,
                decimals: 4,
            };
            write!(f, ",\"beyond\":{},\"all\":{}", per(pages), per(everything))?;
        }
        Ok(())
    }
}
