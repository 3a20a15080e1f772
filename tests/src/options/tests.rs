//! Tests of the variables that the verbs take.

use super::*;

fn options(set: &[(&str, &str)]) -> Result<Options> {
    let set: BTreeMap<_, _> = set.iter().copied().collect();
    Options::from(|name| set.get(name).map(|value| (*value).to_owned()))
}

#[test]
fn a_variable_of_make_that_is_none_of_ours_is_found() {
    for (flags, unknown) in [
        ("", None),
        ("rR", None),
        (" -- MODEL=strict", None),
        ("k -- APPEND=autorun=\"lazy;\\ x=y\" CPU=max", None),
        (" -- MODLE=strict CPU=max", Some("MODLE")),
        (" -- CPU=max model=strict", Some("model")),
    ] {
        assert_eq!(unknown_variable(flags).as_deref(), unknown, "{flags}");
    }
}

#[test]
fn an_empty_or_unset_variable_is_its_default() {
    let options = options(&[("CPU", ""), ("MODEL", "")]).unwrap();
    for variable in VARIABLES {
        assert_eq!(options.get(variable.name), variable.default);
    }
    assert!(options.kernel_words().is_empty());
}

#[test]
fn a_variable_is_put_back_by_an_empty_value() {
    let changed = options(&[("BUG", "no-dsb"), ("MODEL", "strict")]).unwrap();
    assert_eq!(changed.kernel_words(), ["model=strict", "bug=no-dsb"]);
    let back = changed.with("BUG", "").and_then(|it| it.with("MODEL", ""));
    assert_eq!(back, options(&[]));
}

#[test]
fn every_known_word_is_accepted_and_every_default_is_known() {
    for variable in VARIABLES {
        if let Known::Words(words) = variable.known {
            for word in words {
                assert_eq!(
                    options(&[(variable.name, word)])
                        .unwrap()
                        .get(variable.name),
                    *word
                );
            }
            assert!(variable.default.is_empty() || words.contains(&variable.default));
        }
    }
}

#[test]
fn an_unknown_value_is_refused_with_those_that_are_known() {
    let failure = options(&[("CPU", "foo")]).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "REFUSED: unknown CPU 'foo'; known: \
         cortex-a53 cortex-a57 cortex-a72 cortex-a76 neoverse-n1 max"
    );
    for bad in [
        ("SMP", "0"),
        ("SMP", "9"),
        ("GIC", "4"),
        ("EL", "0"),
        ("MODEL", "Strict"),
        ("KASAN", "yes"),
    ] {
        assert!(options(&[bad]).is_err(), "{bad:?}");
    }
}

#[test]
fn memory_is_from_64_mib_to_8_gib() {
    for good in ["64M", "512M", "1G", "8G", "8192M"] {
        assert!(options(&[("MEM", good)]).is_ok(), "{good}");
    }
    for bad in [
        "63M", "8193M", "9G", "512", "0.5G", "+1G", "M", "1T", "512m", "1G ", "é",
    ] {
        assert!(options(&[("MEM", bad)]).is_err(), "{bad}");
    }
    assert!(
        options(&[("MEM", "18014398509481984G")]).is_err(),
        "a product that overflows"
    );
}

#[test]
fn a_port_is_a_number_from_1_to_65535() {
    assert!(options(&[("GDB_PORT", "1234")]).is_ok());
    for bad in ["0", "65536", "-1", "gdb"] {
        assert!(options(&[("GDB_PORT", bad)]).is_err(), "{bad}");
    }
}

#[test]
fn a_count_is_a_whole_number_from_1_on() {
    for good in ["1", "10000000", "1000000000000"] {
        assert!(options(&[("OPS", good)]).is_ok(), "{good}");
    }
    for bad in [
        "0",
        "-1",
        "1.5",
        "1_000",
        "10M",
        "1e6",
        "1000000000001",
        "few",
    ] {
        assert!(options(&[("OPS", bad)]).is_err(), "{bad}");
    }
    assert_eq!(
        options(&[("DURATION", "10s")]).unwrap_err().to_string(),
        "REFUSED: unknown DURATION '10s'; known: 1 to 1000000000000"
    );
}

#[test]
fn append_arrives_whole() {
    let text = "autorun=\"lazy; stats\" $HOME 'x'";
    assert_eq!(options(&[("APPEND", text)]).unwrap().get("APPEND"), text);
    assert!(options(&[("APPEND", "two\nlines")]).is_err());
}

#[test]
fn only_what_differs_from_the_default_is_said_to_the_kernel() {
    let options = options(&[("MODEL", "strict"), ("KASAN", "on"), ("RODATA", "on")]).unwrap();
    assert_eq!(options.kernel_words(), ["model=strict", "rodata=on"]);
}

#[test]
fn the_makefile_exports_every_variable_and_no_other() {
    let makefile = include_str!("../../../Makefile");
    let mut exported: Vec<_> = makefile
        .lines()
        .filter_map(|line| line.strip_prefix("export "))
        .flat_map(str::split_whitespace)
        .collect();
    let mut known: Vec<_> = VARIABLES.iter().map(|variable| variable.name).collect();
    exported.sort_unstable();
    known.sort_unstable();
    assert_eq!(exported, known);
}
