//! A measurement: what was measured, and what came of it; as a line of JSON.

use crate::failure::{Doing, Failure, Result};
use serde_json::Value;
use std::fmt;

/// What was measured, and how.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The name of the measurement.
    pub case: String,
    /// `n` (pages) or `order`.
    pub size: Option<(String, u64)>,
    /// `lull`, `linux-a` and so on.
    pub kernel: String,
    /// `fresh` or `fragmented`.
    pub memory: String,
    /// DEBUG_PAGEALLOC is on.
    pub debug_pagealloc: bool,
    /// KASAN is on.
    pub kasan: bool,
    /// What a lazy section defers; empty for Linux.
    pub backend: String,
    /// The CPU that QEMU emulates; empty for Linux.
    pub cpu: String,
}

/// What was measured, a round.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    pub key: Key,
    /// Executed instructions.
    pub insn: f64,
    /// DSB, ISB, TLBI, where they were counted.
    pub barriers: Option<[f64; 3]>,
    /// Pages that were invalidated beyond those that had changed, and TLBIs of everything.
    pub beyond: Option<[f64; 2]>,
    /// How many areas one round had.
    pub areas: Option<u64>,
    /// The least DSBs and ISBs that it takes, where the kernel knows.
    pub least: Option<[f64; 2]>,
}

/// The parameters that make a case another measurement.
const SIZES: [&str; 2] = ["n", "order"];

impl Measurement {
    /// Reads a line, and says on which CPU it was measured where the line does not.
    ///
    /// # Errors
    /// If it is no measurement.
    pub fn parse(line: &str, cpu: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(line).doing("read a measurement")?;
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let number = |name: &str| value[name].as_f64();
        let bad = || Failure::error(format!("this is no measurement: {line}"));
        let all =
            |names: [&str; 3]| Some([number(names[0])?, number(names[1])?, number(names[2])?]);
        let linux = text("kernel").starts_with("linux");
        Ok(Self {
            key: Key {
                case: value["case"].as_str().ok_or_else(bad)?.to_owned(),
                size: SIZES
                    .iter()
                    .find_map(|name| Some(((*name).to_owned(), value[*name].as_u64()?))),
                kernel: text("kernel"),
                memory: text("memory"),
                debug_pagealloc: value["debug_pagealloc"].as_bool().ok_or_else(bad)?,
                kasan: value["kasan"].as_bool().ok_or_else(bad)?,
                backend: text("backend"),
                cpu: match value["cpu"].as_str() {
                    Some(cpu) => cpu.to_owned(),
                    None if linux => String::new(),
                    None => cpu.to_owned(),
                },
            },
            insn: number("insn").ok_or_else(bad)?,
            barriers: all(["dsb", "isb", "tlbi"]),
            beyond: number("beyond").zip(number("all")).map(|(a, b)| [a, b]),
            areas: value["areas"].as_u64(),
            least: number("least_dsb")
                .zip(number("least_isb"))
                .map(|(dsb, isb)| [dsb, isb]),
        })
    }

    /// The line, with `ratio` behind it where there is one.
    pub fn line(&self, ratio: Option<f64>) -> String {
        let Key {
            case,
            size,
            kernel,
            memory,
            debug_pagealloc,
            kasan,
            backend,
            cpu,
        } = &self.key;
        let mut line = format!("{{\"case\":\"{case}\"");
        if let Some((name, value)) = size {
            line += &format!(",\"{name}\":{value}");
        }
        if let Some(areas) = self.areas {
            line += &format!(",\"areas\":{areas}");
        }
        line += &format!(
            ",\"kernel\":\"{kernel}\",\"memory\":\"{memory}\",\"debug_pagealloc\":{debug_pagealloc},\
             \"kasan\":{kasan}"
        );
        for (name, value) in [("backend", backend), ("cpu", cpu)] {
            if !value.is_empty() {
                line += &format!(",\"{name}\":\"{value}\"");
            }
        }
        line += &format!(",\"insn\":{}", self.insn);
        if let Some([dsb, isb, tlbi]) = self.barriers {
            line += &format!(",\"dsb\":{dsb},\"isb\":{isb},\"tlbi\":{tlbi}");
        }
        if let Some([beyond, all]) = self.beyond {
            line += &format!(",\"beyond\":{beyond},\"all\":{all}");
        }
        if let Some([dsb, isb]) = self.least {
            line += &format!(",\"least_dsb\":{dsb},\"least_isb\":{isb}");
        }
        if let Some(ratio) = ratio {
            line += &format!(",\"ratio\":{ratio:.2}");
        }
        line + "}"
    }

    /// Instructions of what Linux's figures are about: of a purge, an area's part.
    pub fn comparable(&self) -> f64 {
        self.insn / self.areas.unwrap_or(1).max(1) as f64
    }
}

/// Reads the lines of a file that are measurements of this kernel, or all.
///
/// # Errors
/// If one of the lines is none.
pub fn read(text: &str) -> Result<Vec<Measurement>> {
    text.lines()
        .filter(|line| line.starts_with("{\"case\""))
        .map(|line| Measurement::parse(line, ""))
        .collect()
}

impl fmt::Display for Key {
    /// As a person says it; what is as always is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.case)?;
        if let Some((name, value)) = &self.size {
            write!(f, " {name}={value}")?;
        }
        if self.memory != "fresh" {
            write!(f, " {}", self.memory)?;
        }
        if self.debug_pagealloc {
            f.write_str(" DEBUG_PAGEALLOC")?;
        }
        if self.kasan {
            f.write_str(" KASAN")?;
        }
        if !matches!(&*self.backend, "" | "barriers") {
            write!(f, " {}", self.backend)?;
        }
        if !matches!(&*self.cpu, "" | "max") {
            write!(f, " {}", self.cpu)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"case":"purge","n":64,"areas":63,"kernel":"lull","memory":"fresh","debug_pagealloc":true,"kasan":false,"backend":"tlbi","cpu":"max","insn":630.5,"dsb":2,"isb":1,"tlbi":126,"beyond":0.5,"all":0}"#;

    #[test]
    fn a_line_that_is_read_is_written_the_same() {
        let measurement = Measurement::parse(LINE, "nonsuch").unwrap();
        assert_eq!(measurement.line(None), LINE);
        assert_eq!(
            measurement.key.to_string(),
            "purge n=64 DEBUG_PAGEALLOC tlbi"
        );
        assert!((measurement.comparable() - 630.5 / 63.0).abs() < 1e-9);
        let ratio = measurement.line(Some(1.234));
        assert!(ratio.ends_with(",\"ratio\":1.23}"), "{ratio}");
    }

    #[test]
    fn so_is_one_whose_least_barriers_are_known() {
        let line = LINE.replace('}', ",\"least_dsb\":2,\"least_isb\":0}");
        let measurement = Measurement::parse(&line, "max").unwrap();
        assert_eq!(measurement.least, Some([2.0, 0.0]));
        assert_eq!(measurement.line(None), line);
    }

    #[test]
    fn the_cpu_is_the_one_that_was_asked_for_where_the_line_does_not_say() {
        let without = LINE.replace(",\"cpu\":\"max\"", "");
        let measurement = Measurement::parse(&without, "cortex-a53").unwrap();
        assert_eq!(measurement.key.cpu, "cortex-a53");
        let linux = without.replace("lull", "linux-a");
        assert_eq!(Measurement::parse(&linux, "max").unwrap().key.cpu, "");
    }

    #[test]
    fn what_is_no_measurement_is_refused() {
        for line in ["{}", "{\"case\":1}", "x", "{\"case\":\"a\",\"insn\":1}"] {
            assert!(Measurement::parse(line, "max").is_err(), "{line}");
        }
    }
}
