//! The oracle's own: memory, events that are missing, and how it reports.

use super::*;

#[test]
fn a_store_that_went_unreported_is_noticed() {
    let steps = on_one_cpu(&[store(NONE, data()), store(NONE, data())]);
    assert_eq!(broken(&steps), [Rule::UnreportedStore]);
}

/// The second store is told with a wrong old value, which only who remembers the first can say.
#[test]
fn a_full_memory_is_said_before_what_it_cannot_remember() {
    let steps = [
        store(data(), page(OTHER_FRAME, Attributes::KERNEL_DATA)),
        store(data(), page(OTHER_FRAME + 4096, Attributes::KERNEL_DATA)),
    ];
    for count in 0..Memory::words_for(2) {
        let mut words = vec![0; count];
        let mut oracle = Oracle::new(Memory::new(&mut words), Config::default());
        let rules: Vec<_> = steps
            .iter()
            .filter_map(|kind| {
                oracle.judge(&Event {
                    time: 0,
                    cpu: 0,
                    task: 1,
                    kind: *kind,
                })
            })
            .map(|violation| violation.rule)
            .collect();
        assert!(
            rules == [Rule::BreakBeforeMake, Rule::UnreportedStore]
                || rules.first() == Some(&Rule::MemoryFull)
                || rules == [Rule::BreakBeforeMake, Rule::MemoryFull],
            "{count}: {rules:?}"
        );
    }
}

#[test]
fn a_full_memory_is_said_once_and_counts() {
    // Of some, which is too little, and of none at all.
    for count in [Memory::words_for(4), 8, 0] {
        let mut words = vec![0; count];
        let mut oracle = Oracle::new(Memory::new(&mut words), Config::default());
        let rules: Vec<_> = (0..64)
            .filter_map(|n| {
                let kind = at(VA + n * 4096, Level::L3, NONE, data());
                oracle.judge(&Event {
                    time: n,
                    cpu: 0,
                    task: 1,
                    kind,
                })
            })
            .map(|violation| violation.rule)
            .collect();
        assert_eq!(rules, [Rule::MemoryFull]);
        assert_eq!(oracle.stats().violations, 1);
    }
}

#[test]
fn the_same_mistake_is_reported_once() {
    let steps = on_one_cpu(&[store(data(), NONE), READ, READ, SCENE]);
    assert_eq!(broken(&steps), [Rule::StaleAccess]);
}

#[test]
fn the_story_is_told_in_words() {
    let mut words = vec![0; Memory::words_for(64)];
    let mut oracle = Oracle::new(Memory::new(&mut words), Config::default());
    let steps = [
        store(data(), NONE),
        DSB_ISHST,
        tlbi(VA, true, Some(Level::L2)),
        DSB_ISH,
        ISB,
        READ,
    ];
    let told = steps
        .iter()
        .zip(100..)
        .find_map(|(kind, time)| {
            oracle.judge(&Event {
                time,
                cpu: 0,
                task: 1,
                kind: *kind,
            })
        })
        .unwrap()
        .to_string();
    assert!(
        told.starts_with(
            "tlbi-coverage at time 105, CPU 0, task 1: Read at 0xffff_8000_8000_0000\n"
        ),
        "{told}"
    );
    assert!(
        told.contains("before: time 100, CPU 0, task 1: L3 entry of"),
        "{told}"
    );
    assert!(told.contains("level hint is not the level"), "{told}");
    assert!(told.contains("DDI 0487"), "{told}");
}
