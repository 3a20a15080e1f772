//! Judges a saved trace by the architecture's rules.

use super::file::Trace;
use crate::failure::{Failure, Result};
use mmu_oracle::{
    Config, Memory, Oracle, Rule,
    format::{Expected, Record},
};
use std::io::{Read, Write};

/// Pages that the oracle can follow, whatever the trace says of itself: 16 GiB of them.
const MOST_PAGES: u64 = 4 << 20;

/// Judges a trace of so many records at the most, and prints the count of its violations, or the
/// first one with its history.
///
/// # Errors
/// If there is one that was not made on purpose, one was to be made and was not, or the trace can't
/// be read.
pub fn judge<R: Read>(mut trace: Trace<R>, records: u64, out: &mut impl Write) -> Result {
    // No event makes more than one entry valid.
    let pages = records.min(MOST_PAGES) as usize;
    let mut words = vec![0; Memory::words_for(pages)];
    let ets2 = trace.header().ets2;
    let mut oracle = Oracle::new(Memory::new(&mut words), Config { ets2 });
    let mut expected = Expected::NONE;
    // Of the expected ones, those that came.
    let mut came = [false; Rule::ALL.len()];
    let mut first = None;
    let (mut violations, mut on_purpose) = (0_u64, 0_u64);
    let print = |out: &mut dyn Write, text: String| {
        // A reader that has gone away changes no verdict.
        let _ = writeln!(out, "{text}");
    };
    while let Some(record) = trace.next()? {
        let event = match record {
            Record::Event(event) => event,
            Record::Expected(next) => {
                for (rule, came) in Rule::ALL.into_iter().zip(&mut came) {
                    let over = expected.contains(rule) && !next.contains(rule);
                    if over && !*came {
                        return Err(Failure::fail(format!(
                            "record {} of {} ends what breaks the rule {rule} on purpose, and it \
                             was not broken",
                            trace.records(),
                            trace.name(),
                        )));
                    }
                    *came &= next.contains(rule) && expected.contains(rule);
                }
                expected = next;
                continue;
            }
            Record::End(_) => unreachable!("the trace keeps it to itself"),
        };
        let Some(violation) = oracle.judge(&event) else {
            continue;
        };
        if expected.contains(violation.rule) {
            on_purpose += 1;
            for (rule, came) in Rule::ALL.into_iter().zip(&mut came) {
                *came |= rule == violation.rule;
            }
            continue;
        }
        violations += 1;
        if first.is_none() {
            let number = trace.events();
            print(out, format!("event {number}: {violation}"));
            first = Some((number, violation.rule));
        }
    }
    if on_purpose != 0 {
        print(
            out,
            format!("trace-check: {on_purpose} violations made on purpose"),
        );
    }
    let (events, name) = (trace.events(), trace.name());
    print(
        out,
        format!("trace-check: {events} events, {violations} violations"),
    );
    match first {
        None => Ok(()),
        Some((number, rule)) => Err(Failure::fail(format!(
            "{violations} violations in {name}; the first is {rule}, at event {number}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::file::tests::{event, saved};
    use mmu_oracle::{
        Kind,
        event::{Access, Barrier, Domain, Entry, Orders},
    };
    use vmsa::{Attributes, Descriptor, Level, PhysAddr, VirtAddr};

    const VA: VirtAddr = VirtAddr::literal(0xffff_8000_0000_0000);

    fn store(valid: bool) -> Record {
        let frame = PhysAddr::literal(0x5000_0000);
        let page = Descriptor::leaf(Level::L3, frame, Attributes::KERNEL_DATA).unwrap();
        let values = [Descriptor::INVALID, page];
        Record::Event(event(Kind::Store {
            entry: Entry {
                address: PhysAddr::literal(0x4100_0000),
                va: VA,
                level: Level::L3,
                space: 0,
                value: values[usize::from(valid)],
            },
            old: values[usize::from(!valid)],
        }))
    }

    fn barrier(barrier: Barrier) -> Record {
        Record::Event(event(Kind::Barrier(barrier)))
    }

    fn access() -> Record {
        let access = Access::Read;
        Record::Event(event(Kind::Access { va: VA, access }))
    }

    /// The verdict, and what was printed.
    fn judged(records: &[Record]) -> (Result, String) {
        let bytes = saved(records);
        let mut out = Vec::new();
        let trace = Trace::new(&bytes[..], "t").unwrap();
        let verdict = judge(trace, records.len() as u64, &mut out);
        (verdict, String::from_utf8(out).unwrap())
    }

    #[test]
    fn what_is_guaranteed_is_no_violation() {
        let dsb = Barrier::Dsb(Domain::InnerShareable, Orders::Stores);
        let (verdict, text) = judged(&[store(true), barrier(dsb), barrier(Barrier::Isb), access()]);
        assert_eq!(verdict, Ok(()));
        assert_eq!(text, "trace-check: 4 events, 0 violations\n");
    }

    #[test]
    fn the_first_violation_is_told_with_its_history_and_fails() {
        let (verdict, text) = judged(&[store(true), access(), store(false), access()]);
        let why = verdict.unwrap_err().reason;
        assert_eq!(
            why,
            "2 violations in t; the first is not-visible, at event 2"
        );
        assert!(text.starts_with("event 2: "), "{text}");
        assert!(
            text.contains("not-visible") && !text.contains("stale-access"),
            "{text}"
        );
        assert!(
            text.ends_with("trace-check: 4 events, 2 violations\n"),
            "{text}"
        );
    }

    #[test]
    fn what_is_broken_on_purpose_is_no_violation_as_long_as_it_is_broken() {
        let not_visible = Record::Expected(Expected::new([Rule::NotVisible]));
        let none = Record::Expected(Expected::NONE);
        let (verdict, text) = judged(&[store(true), not_visible, access(), none]);
        assert_eq!(verdict, Ok(()));
        let printed = "trace-check: 1 violations made on purpose\n\
                       trace-check: 2 events, 0 violations\n";
        assert_eq!(text, printed);

        // Another rule, or the same one later.
        let stale = Record::Expected(Expected::new([Rule::StaleAccess]));
        assert!(judged(&[store(true), stale, access()]).0.is_err());
        assert!(
            judged(&[
                store(true),
                not_visible,
                access(),
                none,
                store(false),
                access()
            ])
            .0
            .is_err()
        );

        let (verdict, _) = judged(&[store(true), not_visible, none]);
        assert_eq!(
            verdict.unwrap_err().reason,
            "record 3 of t ends what breaks the rule not-visible on purpose, and it was not broken"
        );
    }

    #[test]
    fn ets2_is_as_the_header_says() {
        let mut bytes = saved(&[store(true), access()]);
        let judge = |bytes: &[u8]| judge(Trace::new(bytes, "t").unwrap(), 2, &mut Vec::new());
        assert!(judge(&bytes).is_err());
        bytes[12] = 1;
        assert_eq!(judge(&bytes), Ok(()));
    }
}
