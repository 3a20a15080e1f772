//! Tests of the kernel command line.

use super::*;

fn refusal(line: &str) -> String {
    Params::parse(line)
        .expect_err("it must be refused")
        .to_string()
}

#[test]
fn nothing_means_the_defaults() {
    let params = Params::parse("  \t ").unwrap();
    assert_eq!(params, Params::default());
    assert_eq!(params.model, Model::TwoCounters);
    assert_eq!(params.backend, Backend::Barriers);
    assert_eq!(params.rodata, Rodata::Full);
    assert!(params.debug_pagealloc && params.page_poison && params.kasan);
}

#[test]
fn each_parameter_takes_each_of_its_values() {
    for model in Model::ALL {
        let line = format!("model={}", model.name());
        assert_eq!(Params::parse(&line).unwrap().model, model);
    }
    for backend in Backend::ALL {
        let line = format!("backend={}", backend.name());
        assert_eq!(Params::parse(&line).unwrap().backend, backend);
    }
    for (value, is_on) in [("on", true), ("off", false)] {
        let line = format!("debug_pagealloc={value} page_poison={value} kasan={value}");
        let params = Params::parse(&line).unwrap();
        assert_eq!(params.debug_pagealloc, is_on);
        assert_eq!(params.page_poison, is_on);
        assert_eq!(params.kasan, is_on);
    }
    assert_eq!(Params::parse("rodata=on").unwrap().rodata, Rodata::On);
    assert_eq!(Params::parse("rodata=full").unwrap().rodata, Rodata::Full);
    for lock in PageTableLock::ALL {
        let line = format!("ptlock={}", lock.name());
        assert_eq!(Params::parse(&line).unwrap().ptlock, lock);
    }
    for ets2 in [Ets2::Auto, Ets2::Assume, Ets2::Off] {
        let line = format!("ets2={}", ets2.name());
        assert_eq!(Params::parse(&line).unwrap().ets2, ets2);
    }
}

#[test]
fn who_asks_for_an_unknown_value_is_told_every_one_that_is_known() {
    assert_eq!(
        refusal("ptlock=on"),
        "lull: unknown PTLOCK 'on'; known: none, global, preempt"
    );
    let known = Backend::ALL.map(Backend::name).join(", ");
    assert_eq!(
        refusal("backend=on"),
        format!("lull: unknown BACKEND 'on'; known: {known}")
    );
}

#[test]
fn ets2_is_what_the_cpu_has_unless_it_is_said() {
    let counts_on = |ets2: Ets2| [false, true].map(|has| ets2.counts_on(has));
    assert_eq!(counts_on(Params::default().ets2), [false, true]);
    assert_eq!(counts_on(Ets2::Assume), [true, true]);
    assert_eq!(counts_on(Ets2::Off), [false, false]);
    assert_eq!(
        refusal("ets2=on"),
        "lull: unknown ETS2 'on'; known: auto, assume, off"
    );
}

#[test]
fn asids_have_as_many_bits_as_the_cpu_can_do_unless_it_is_said() {
    let narrow = |line| Params::parse(line).unwrap().narrow_asids;
    assert!(!narrow("") && !narrow("asid_bits=8 asid_bits=auto") && narrow("asid_bits=8"));
    assert_eq!(
        refusal("asid_bits=16"),
        "lull: unknown ASID_BITS '16'; known: auto, 8"
    );
}

#[test]
fn what_is_shown_can_be_read_back() {
    let line = "model=token backend=eager debug_pagealloc=off page_poison=on kasan=off rodata=on ptlock=global ets2=off asid_bits=8";
    let params = Params::parse(line).unwrap();
    assert_eq!(params.to_string(), line);
    assert_eq!(Params::parse(&params.to_string()), Ok(params));
}

#[test]
fn one_switch_is_not_another() {
    let off = |line| {
        let params = Params::parse(line).unwrap();
        (params.debug_pagealloc, params.page_poison, params.kasan)
    };
    assert_eq!(off("debug_pagealloc=off"), (false, true, true));
    assert_eq!(off("page_poison=off"), (true, false, true));
    assert_eq!(off("kasan=off"), (true, true, false));
}

#[test]
fn autorun_keeps_what_is_quoted() {
    let params = Params::parse("model=strict autorun=\"a; b  c\" kasan=off").unwrap();
    assert_eq!(params.autorun, Some("a; b  c"));
    assert_eq!(params.model, Model::Strict);
    assert!(!params.kasan);
    assert_eq!(Params::parse("autorun=lazy").unwrap().autorun, Some("lazy"));
    assert_eq!(
        Params::parse("autorun=\"x=y\"").unwrap().autorun,
        Some("x=y")
    );
    assert_eq!(
        Params::parse("model=\"token\"").unwrap().model,
        Model::Token
    );
}

#[test]
fn nobody_is_at_the_console_unless_it_is_said() {
    let monitor = |line| Params::parse(line).unwrap().monitor;
    assert!(!monitor("autorun=help") && !monitor("monitor=off"));
    assert!(monitor("monitor=on"));
    assert_eq!(
        refusal("monitor=1"),
        "lull: unknown MONITOR '1'; known: on, off"
    );
}

#[test]
fn the_last_counts() {
    assert_eq!(
        Params::parse("model=strict model=token").unwrap().model,
        Model::Token
    );
}

#[test]
fn what_is_not_known_is_refused_with_what_is() {
    assert_eq!(
        refusal("foo=1"),
        "lull: unknown parameter 'foo'; known: model, backend, debug_pagealloc, page_poison, \
         kasan, rodata, ptlock, ets2, asid_bits, autorun, monitor"
    );
    assert_eq!(
        refusal("kasan=on quiet"),
        "lull: unknown parameter 'quiet'; known: model, backend, debug_pagealloc, page_poison, \
         kasan, rodata, ptlock, ets2, asid_bits, autorun, monitor"
    );
    assert_eq!(
        refusal("model=x"),
        "lull: unknown MODEL 'x'; known: strict, tolerant, avoid, token, nesting-level, \
         two-counters"
    );
    assert_eq!(
        refusal("backend=xen"),
        "lull: unknown BACKEND 'xen'; known: eager, barriers, tlbi, stores, stores-percpu, \
         stores-percpu-hooks"
    );
    assert_eq!(
        refusal("rodata=off"),
        "lull: unknown RODATA 'off'; known: on, full"
    );
    assert_eq!(
        refusal("debug_pagealloc="),
        "lull: unknown DEBUG_PAGEALLOC ''; known: on, off"
    );
    assert_eq!(
        refusal("page_poison=ON"),
        "lull: unknown PAGE_POISON 'ON'; known: on, off"
    );
}

#[test]
fn what_is_malformed_is_refused() {
    let known = "'; known: name=value, autorun=\"command; command\"";
    for (line, word) in [
        ("kasan", "kasan"),
        ("autorun=\"a; b", "autorun=\"a;"),
        ("autorun=\"a\"b", "autorun=\"a\"b"),
        ("autorun=a\"b\"", "autorun=a\"b\""),
        ("autorun=", "autorun="),
        ("autorun=\" \"", "autorun=\" \""),
        ("\"kasan\"=on", "\"kasan\"=on"),
    ] {
        assert_eq!(
            refusal(line),
            format!("lull: malformed parameter '{word}{known}")
        );
    }
}
