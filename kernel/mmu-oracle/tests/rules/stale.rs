//! Taking away and changing: when the old translation is gone.

use super::*;

#[test]
fn an_unmapped_address_is_used_by_nobody_after_the_whole_sequence() {
    least(
        &on_one_cpu(&[
            store(data(), NONE),
            DSB_ISHST,
            tlbi(VA, true, Some(Level::L3)),
            DSB_ISH,
            ISB,
            READ,
        ]),
        &[
            (1, Rule::TlbiWithoutDsbBefore),
            (2, Rule::StaleAccess),
            (3, Rule::TlbiWithoutDsbAfter),
            (4, Rule::StaleAccess),
        ],
    );
}

#[test]
fn another_cpu_needs_no_isb_after_a_shoot_down_but_the_hand_off() {
    least(
        &[
            (0, store(data(), NONE)),
            (0, DSB_ISHST),
            (0, tlbi(VA, true, None)),
            (0, DSB_ISH),
            (0, RELEASE),
            (1, ACQUIRE),
            (1, READ),
        ],
        &[
            (1, Rule::TlbiWithoutDsbBefore),
            (2, Rule::StaleAccess),
            (3, Rule::TlbiWithoutDsbAfter),
            (4, Rule::StaleAccess),
            (5, Rule::StaleAccess),
        ],
    );
}

#[test]
fn a_dsb_on_another_cpu_completes_no_tlbi() {
    let steps = [
        (1, Kind::Online),
        (0, store(data(), NONE)),
        (0, DSB_ISHST),
        (0, tlbi(VA, true, None)),
        (1, DSB_ISH),
        (1, Kind::FramesFreed(frames(FRAME))),
    ];
    assert_eq!(broken(&steps), [Rule::TlbiWithoutDsbAfter]);
}

#[test]
fn a_tlbi_names_the_entry_that_changed() {
    let flush = |tlbi| on_one_cpu(&[store(data(), NONE), DSB_ISHST, tlbi, DSB_ISH, ISB, READ]);
    let raw = |scope, operand| {
        Kind::Tlbi(Tlbi {
            scope,
            last_level: true,
            broadcast: true,
            operand,
        })
    };
    let asid = |asid| Operand::new(VA, asid, None).bits();
    for right in [
        tlbi(VA, true, None),
        tlbi(VA, false, None),
        tlbi(VA, true, Some(Level::L3)),
        raw(Scope::Va, asid(7)),
        raw(Scope::All, 0),
        // Two pages from the one before.
        raw(
            Scope::RangeAllAsids,
            vmsa::tlbi::RangeOperand::new(VA.checked_sub(4096).unwrap(), 0, None, 0, 0)
                .unwrap()
                .bits(),
        ),
    ] {
        assert_eq!(broken(&flush(right)), [], "{right:?}");
    }
    for wrong in [
        tlbi(VA, true, Some(Level::L2)),
        tlbi(VA + 4096, true, None),
        // Neither shifted nor masked; shifted, not masked.
        raw(Scope::VaAllAsids, VA.as_u64()),
        raw(Scope::VaAllAsids, VA.as_u64() >> 12),
        raw(Scope::Asid, 0),
    ] {
        assert_eq!(broken(&flush(wrong)), [Rule::TlbiCoverage], "{wrong:?}");
    }
}

#[test]
fn a_tlbi_of_one_cpu_is_enough_where_there_is_no_other() {
    let operand = Operand::new(VA, 0, None).bits();
    let local = Kind::Tlbi(Tlbi {
        scope: Scope::VaAllAsids,
        last_level: true,
        broadcast: false,
        operand,
    });
    let steps = on_one_cpu(&[
        store(data(), NONE),
        DSB_ISHST,
        local,
        DSB_ISH,
        ISB,
        READ,
        Kind::FramesFreed(frames(FRAME)),
    ]);
    assert_eq!(broken(&steps), []);
    let mut with_another = steps;
    with_another.insert(0, (1, Kind::Online));
    assert_eq!(broken(&with_another), [Rule::TlbiCoverage]);
}

#[test]
fn each_cpu_may_rely_on_a_flush_of_its_own() {
    let everything = Kind::Tlbi(Tlbi {
        scope: Scope::All,
        last_level: false,
        broadcast: true,
        operand: 0,
    });
    // CPU 1 knows of the change, and completes a flush of everything of which CPU 0 knows nothing.
    let steps = [
        (0, store(data(), NONE)),
        (0, RELEASE),
        (1, ACQUIRE),
        (1, DSB_ISH),
        (1, everything),
        (1, DSB_ISH),
        (0, DSB_ISHST),
        (0, tlbi(VA, true, None)),
        (0, DSB_ISH),
        (0, ISB),
        (0, READ),
        (1, Kind::FramesFreed(frames(FRAME))),
    ];
    assert_eq!(broken(&steps), []);
}

#[test]
fn a_permission_is_taken_or_given_by_a_flush() {
    for (old, new) in [(data(), read_only()), (read_only(), data())] {
        least(
            &on_one_cpu(&[
                store(old, new),
                DSB_ISHST,
                tlbi(VA, true, Some(Level::L3)),
                DSB_ISH,
                ISB,
                WRITE,
            ]),
            &[
                (1, Rule::TlbiWithoutDsbBefore),
                (2, Rule::StaleAccess),
                (3, Rule::TlbiWithoutDsbAfter),
                (4, Rule::StaleAccess),
            ],
        );
        // A load has the same outcome by the old entry.
        assert_eq!(broken(&on_one_cpu(&[store(old, new), READ])), []);
    }
}

#[test]
fn a_change_is_flushed_when_the_scene_ends() {
    least(
        &on_one_cpu(&[
            store(data(), NONE),
            DSB_ISHST,
            tlbi(VA, true, None),
            DSB_ISH,
            SCENE,
        ]),
        &[
            (1, Rule::TlbiWithoutDsbBefore),
            (2, Rule::Unflushed),
            (3, Rule::TlbiWithoutDsbAfter),
        ],
    );
}

#[test]
fn a_task_leaves_its_cpu_with_no_tlbi_in_flight() {
    let switch = Kind::ContextSwitch { to: 2 };
    least(
        &on_one_cpu(&[
            store(data(), NONE),
            DSB_ISHST,
            tlbi(VA, true, None),
            DSB_ISH,
            switch,
        ]),
        &[(3, Rule::TlbiInFlight)],
    );
}

#[test]
fn a_branch_orders_no_fault() {
    // The shoot-down of RO -> RW is complete, and the other CPU has branched on the flag that says so.
    // A store comes after the branch; the fault that the old permission would make need not.
    let handed = |reader: &[(u8, Kind)]| {
        let shot = [
            (0, store(read_only(), data())),
            (0, DSB_ISHST),
            (0, tlbi(VA, true, None)),
            (0, DSB_ISH),
            (0, RELEASE),
        ];
        [&shot[..], reader].concat()
    };
    let plain = (1, sync(SyncAccess::Read { acquire: false }));
    let write = (1, WRITE);
    assert_eq!(
        broken(&handed(&[plain, (1, BRANCH), write])),
        [Rule::StaleAccess]
    );
    assert_eq!(broken(&handed(&[(1, ACQUIRE), write])), []);
    assert_eq!(broken(&handed(&[plain, (1, BRANCH), (1, ISB), write])), []);
}

#[test]
fn a_global_leaf_is_no_asids() {
    let user = |attributes| {
        let value = page(FRAME, attributes);
        let address = PhysAddr::literal(0x4b00_0000);
        let va = VirtAddr::literal(0x40_0000);
        let entry = |value| Entry {
            address,
            va,
            level: Level::L3,
            space: 5,
            value,
        };
        let operand = Operand::asid_only(5).bits();
        let by_asid = Kind::Tlbi(Tlbi {
            scope: Scope::Asid,
            last_level: false,
            broadcast: true,
            operand,
        });
        let change = Kind::Store {
            entry: entry(NONE),
            old: value,
        };
        broken(&on_one_cpu(&[
            Kind::Ttbr0(5 << 48),
            change,
            DSB_ISHST,
            by_asid,
            DSB_ISH,
            Kind::FramesFreed(frames(FRAME)),
        ]))
    };
    assert_eq!(user(Attributes::KERNEL_DATA | Attributes::NG), []);
    assert_eq!(user(Attributes::KERNEL_DATA), [Rule::TlbiCoverage]);
}
