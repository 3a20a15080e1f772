//! A run beside an earlier one.

use super::measurement::Measurement;
use crate::failure::{Failure, Result};

/// What instructions may rise by.
const RISE: f64 = 1.03;
/// Barriers are printed with four decimals; what is less than half of the last is no rise.
const ROUNDING: f64 = 0.00005;

/// Compares every measurement that both have.
///
/// # Errors
/// With every row that has more than 3 % more instructions, or more barriers, or if the two have
/// nothing in common.
pub fn compare(before: &[Measurement], now: &[Measurement], name: &str) -> Result {
    let mut compared = 0;
    let mut worse = Vec::new();
    for measurement in now {
        let Some(earlier) = before.iter().find(|it| it.key == measurement.key) else {
            continue;
        };
        compared += 1;
        worse.extend(
            rises(earlier, measurement)
                .into_iter()
                .map(|rise| format!("{}: {rise}", measurement.key)),
        );
    }
    if compared == 0 {
        return Err(Failure::error(format!(
            "{name} has none of what was measured"
        )));
    }
    println!(
        "{compared} measurements compared with {name}, {} worse",
        worse.len()
    );
    if worse.is_empty() {
        return Ok(());
    }
    Err(Failure::fail(worse.join("; ")))
}

/// What has risen.
fn rises(before: &Measurement, now: &Measurement) -> Vec<String> {
    let mut rises = Vec::new();
    if now.insn > before.insn * RISE {
        rises.push(format!("insn {} -> {}", before.insn, now.insn));
    }
    let (Some(earlier), Some(later)) = (before.barriers, now.barriers) else {
        return rises;
    };
    for (index, what) in ["dsb", "isb", "tlbi"].into_iter().enumerate() {
        if later[index] > earlier[index] + ROUNDING {
            rises.push(format!("{what} {} -> {}", earlier[index], later[index]));
        }
    }
    rises
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(case: &str, insn: f64, dsb: f64) -> Measurement {
        let line = format!(
            "{{\"case\":\"{case}\",\"kernel\":\"lull\",\"memory\":\"fresh\",\"debug_pagealloc\":false,\
             \"kasan\":false,\"backend\":\"barriers\",\"cpu\":\"max\",\"insn\":{insn},\"dsb\":{dsb},\
             \"isb\":1,\"tlbi\":1}}"
        );
        Measurement::parse(&line, "max").unwrap()
    }

    fn verdict(before: &Measurement, now: &Measurement) -> Result {
        compare(
            std::slice::from_ref(before),
            std::slice::from_ref(now),
            "before",
        )
    }

    #[test]
    fn three_per_cent_more_instructions_pass_and_more_do_not() {
        let before = measured("a", 1000.0, 1.0);
        assert_eq!(verdict(&before, &measured("a", 1030.0, 1.0)), Ok(()));
        assert_eq!(verdict(&before, &measured("a", 10.0, 0.0)), Ok(()));
        let failure = verdict(&before, &measured("a", 1030.1, 1.0)).unwrap_err();
        assert_eq!(failure.to_string(), "FAIL: a: insn 1000 -> 1030.1");
    }

    #[test]
    fn any_more_barriers_do_not_pass() {
        let before = measured("a", 1000.0, 1.0);
        let failure = verdict(&before, &measured("a", 1000.0, 1.0001)).unwrap_err();
        assert_eq!(failure.to_string(), "FAIL: a: dsb 1 -> 1.0001");
    }

    #[test]
    fn nothing_in_common_is_no_pass() {
        let verdict = verdict(&measured("a", 1.0, 1.0), &measured("b", 1.0, 1.0));
        assert!(verdict.unwrap_err().reason.contains("has none of what"));
    }
}
