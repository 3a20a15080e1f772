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
