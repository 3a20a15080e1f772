//! Making valid: when an access may rely on it.

use super::*;

#[test]
fn a_new_mapping_is_used_after_a_dsb_and_an_isb() {
    for access in [READ, WRITE] {
        least(
            &on_one_cpu(&[store(NONE, data()), DSB_ISHST, ISB, access]),
            &[(1, Rule::NotVisible), (2, Rule::NotVisible)],
        );
    }
    // In this order.
    let steps = on_one_cpu(&[store(NONE, data()), ISB, DSB_ISHST, READ]);
    assert_eq!(broken(&steps), [Rule::NotVisible]);
}

#[test]
fn an_exception_or_a_return_from_one_is_as_good_as_an_isb() {
    for synchronises in [
        Kind::ExceptionEntry,
        Kind::ExceptionReturn { to_el0: false },
    ] {
        least(
            &on_one_cpu(&[store(NONE, data()), DSB_ISHST, synchronises, READ]),
            &[(1, Rule::NotVisible), (2, Rule::NotVisible)],
        );
    }
}

#[test]
fn with_ets2_data_needs_no_barrier_and_code_does() {
    let steps = on_one_cpu(&[store(NONE, code()), READ]);
    assert_eq!(broken_with(true, &steps), []);
    assert_eq!(broken_with(false, &steps), [Rule::NotVisible]);
    let steps = on_one_cpu(&[store(NONE, code()), EXECUTE]);
    assert_eq!(broken_with(true, &steps), [Rule::NotVisible]);
    let steps = on_one_cpu(&[store(NONE, code()), DSB_ISHST, ISB, EXECUTE]);
    assert_eq!(broken_with(true, &steps), []);
}

#[test]
fn another_cpu_uses_a_new_mapping_after_a_hand_off() {
    least(
        &[
            (0, store(NONE, data())),
            (0, RELEASE),
            (1, ACQUIRE),
            (1, BRANCH),
            (1, ISB),
            (1, READ),
        ],
        &[
            (1, Rule::NotVisible),
            (2, Rule::NotVisible),
            (3, Rule::NotVisible),
            (4, Rule::NotVisible),
        ],
    );
    // A bare load-acquire is not ordered before a DSB ISHST.
    let steps = [
        (0, store(NONE, data())),
        (0, RELEASE),
        (1, ACQUIRE),
        (1, DSB_ISHST),
        (1, ISB),
        (1, READ),
    ];
    assert_eq!(broken(&steps), [Rule::NotVisible]);
}

#[test]
fn a_link_that_may_not_be_seen_matters_where_something_is_mapped_behind_it() {
    let link = at(VA, Level::L2, NONE, Descriptor::table(TABLE));
    assert_eq!(broken(&on_one_cpu(&[link, READ])), []);
    assert_eq!(
        broken(&on_one_cpu(&[link, store(NONE, data()), READ])),
        [Rule::NotVisible]
    );
}

#[test]
fn an_entry_without_the_access_flag_is_cached_by_no_tlb() {
    let old = page(FRAME, Attributes::KERNEL_DATA - Attributes::AF);
    least(
        &on_one_cpu(&[store(old, data()), DSB_ISHST, ISB, READ]),
        &[(1, Rule::NotVisible), (2, Rule::NotVisible)],
    );
}

#[test]
fn a_dsb_nsh_tells_other_cpus_nothing() {
    const DSB_NSH: Kind = Kind::Barrier(Barrier::Dsb(Domain::NonShareable, Orders::All));
    const DSB_NSHST: Kind = Kind::Barrier(Barrier::Dsb(Domain::NonShareable, Orders::Stores));
    let plain = (0, sync(SyncAccess::Write { release: false }));
    for between in [&[(0, DSB_NSH)][..], &[(0, DSB_NSH), (0, ISB)]] {
        let begin = [(0, store(NONE, data()))];
        let end = [plain, (1, ACQUIRE), (1, BRANCH), (1, ISB), (1, READ)];
        assert_eq!(
            broken(&[&begin[..], between, &end].concat()),
            [Rule::NotVisible]
        );
    }
    let twice = [
        store(data(), NONE),
        DSB_NSHST,
        DSB_NSHST,
        tlbi(VA, true, None),
        DSB_ISH,
        ISB,
        READ,
    ];
    assert_eq!(broken(&on_one_cpu(&twice)), [Rule::TlbiWithoutDsbBefore]);
    // For the CPU's own walks it is enough.
    let own = [store(NONE, data()), DSB_NSHST, ISB, READ];
    assert_eq!(broken(&on_one_cpu(&own)), []);
}

/// The link that leads to the table of [`VA`]'s leaf, and a read of it.
fn link_and_read() -> (Kind, Kind) {
    let link = at(VA, Level::L2, NONE, Descriptor::table(TABLE));
    let Kind::Store { entry, .. } = link else {
        unreachable!()
    };
    (link, Kind::EntryRead(entry))
}

#[test]
fn who_finds_a_link_by_reading_it_may_map_behind_it() {
    let (link, read) = link_and_read();
    // `10-MIGR-SPLIT-STLR--LDAR-x`: what was read before a store is as visible as the store. There
    // the order between the two is of acquire semantics, here of the address.
    let own = [
        (0, link),
        (1, read),
        (1, store(NONE, data())),
        (1, DSB_ISHST),
        (1, ISB),
        (1, READ),
    ];
    let without = [1, 3, 4].map(|step| (step, Rule::NotVisible));
    least(&own, &without);
    // It was not that link, or the store had been made before.
    for (a, b) in [(0, 1), (1, 2)] {
        let mut steps = own;
        steps.swap(a, b);
        let expected: &[Rule] = if a == 0 { &[] } else { &[Rule::NotVisible] };
        assert_eq!(broken(&steps), expected, "{a} and {b} the other way round");
    }
    // Whoever is handed the leaf by the one that stored it has the link as well.
    let mut steps = own[..3].to_vec();
    steps.extend([(1, RELEASE), (2, ACQUIRE), (2, BRANCH), (2, ISB), (2, READ)]);
    least(&steps, &[(1, Rule::NotVisible), (5, Rule::NotVisible)]);
    // With FEAT_ETS2 too it takes the read.
    let ets2 = [own[0], own[1], own[2], own[5]];
    assert_eq!(broken_with(true, &ets2), []);
    let ets2 = [own[0], own[2], own[5]];
    assert_eq!(broken_with(true, &ets2), [Rule::NotVisible]);
}

#[test]
fn a_link_that_was_read_says_nothing_of_another() {
    let (link, read) = link_and_read();
    let beside = VA + Level::L2.bytes();
    let other = at(beside, Level::L2, NONE, Descriptor::table(FRAME));
    let leaf = at(beside, Level::L3, NONE, data());
    let access = Kind::Access {
        va: beside,
        access: Access::Read,
    };
    // The other link was stored before, and nothing orders the two.
    let steps = [
        (0, other),
        (0, link),
        (1, read),
        (1, leaf),
        (1, DSB_ISHST),
        (1, ISB),
        (1, access),
    ];
    assert_eq!(broken(&steps), [Rule::NotVisible]);
    // Nor of one that has taken its place.
    let again = at(VA, Level::L2, NONE, Descriptor::table(OTHER_FRAME));
    let steps = [
        (0, link),
        (1, read),
        (0, at(VA, Level::L2, Descriptor::table(TABLE), NONE)),
        (0, DSB_ISHST),
        (0, tlbi(VA, false, None)),
        (0, DSB_ISH),
        (0, RELEASE),
        (0, again),
        (1, ACQUIRE),
        (1, store(NONE, data())),
        (1, DSB_ISHST),
        (1, ISB),
        (1, READ),
    ];
    assert_eq!(broken(&steps), [Rule::NotVisible]);
}

#[test]
fn what_a_task_found_goes_with_it_and_with_no_other() {
    let (link, read) = link_and_read();
    let run = |reader: u32| {
        let mut words = vec![0; Memory::words_for(64)];
        let mut oracle = Oracle::new(Memory::new(&mut words), Config::default());
        let steps = [
            (0, 1, link),
            (1, reader, read),
            (2, 7, store(NONE, data())),
            (2, 7, DSB_ISHST),
            (2, 7, ISB),
            (2, 7, READ),
        ];
        let judge = |(cpu, task, kind)| {
            oracle.judge(&Event {
                time: 0,
                cpu,
                task,
                kind,
            })
        };
        let found = steps.into_iter().filter_map(judge);
        found.map(|violation| violation.rule).collect::<Vec<_>>()
    };
    assert_eq!(run(7), []);
    assert_eq!(run(8), [Rule::NotVisible]);
}
