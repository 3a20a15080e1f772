//! Frames, tables and addresses that change hands, and break-before-make.

use super::*;

#[test]
fn a_frame_is_freed_handed_out_and_written_after_the_flush() {
    for reuse in [
        Kind::FramesFreed(frames(FRAME)),
        Kind::FramesAllocated(frames(FRAME)),
        Kind::FrameWritten(FRAME),
    ] {
        least(
            &on_one_cpu(&[
                store(data(), NONE),
                DSB_ISHST,
                tlbi(VA, true, Some(Level::L3)),
                DSB_ISH,
                reuse,
            ]),
            &[
                (1, Rule::TlbiWithoutDsbBefore),
                (2, Rule::FrameReuse),
                (3, Rule::TlbiWithoutDsbAfter),
            ],
        );
    }
}

#[test]
fn a_frame_is_freed_when_nothing_maps_it() {
    let free = Kind::FramesFreed(frames(FRAME));
    let map = [store(NONE, data()), DSB_ISHST, ISB];
    let unmap = [
        store(data(), NONE),
        DSB_ISHST,
        tlbi(VA, true, None),
        DSB_ISH,
    ];
    let steps = on_one_cpu(&[&map[..], &unmap, &[free]].concat());
    assert_eq!(broken(&steps), []);
    let steps = on_one_cpu(&[&map[..], &[free]].concat());
    assert_eq!(broken(&steps), [Rule::MappedFrameFreed]);
    // The linear map maps every frame, free or not.
    let linear = Kind::LinearMap(PageRange::new(VA, 16).unwrap());
    let steps = on_one_cpu(&[&[linear], &map[..], &[free]].concat());
    assert_eq!(broken(&steps), []);
    // An entry of before the first event counts as well.
    let address = PhysAddr::literal(0x4b00_0000);
    let value = data();
    let before = Kind::Snapshot(Entry {
        address,
        va: VA,
        level: Level::L3,
        space: 0,
        value,
    });
    assert_eq!(
        broken(&on_one_cpu(&[before, free])),
        [Rule::MappedFrameFreed]
    );
}

#[test]
fn an_address_is_handed_out_when_it_is_unmapped_and_flushed() {
    let reuse = Kind::VaAllocated(PageRange::new(VA, 4).unwrap());
    least(
        &on_one_cpu(&[
            store(data(), NONE),
            DSB_ISHST,
            tlbi(VA, true, None),
            DSB_ISH,
            reuse,
        ]),
        &[
            (1, Rule::TlbiWithoutDsbBefore),
            (2, Rule::VaReuse),
            (3, Rule::TlbiWithoutDsbAfter),
        ],
    );
    let steps = on_one_cpu(&[store(NONE, data()), DSB_ISHST, ISB, reuse]);
    assert_eq!(broken(&steps), [Rule::VaReuse]);
}

#[test]
fn a_window_counts_frames_and_forgives_nothing_else() {
    let range = PageRange::new(VA, 1).unwrap();
    let window = Window::LazyPurge;
    let open = Kind::WindowOpened { window, range };
    let close = Kind::WindowClosed { window, range };
    let free = Kind::FramesFreed(frames(FRAME));
    let flush = [DSB_ISHST, tlbi(VA, true, None), DSB_ISH];
    let unmap = [store(data(), NONE), open, free];
    let whole = on_one_cpu(&[&unmap[..], &[SCENE], &flush, &[close]].concat());
    least(
        &whole,
        &[
            (1, Rule::FrameReuse),
            (4, Rule::TlbiWithoutDsbBefore),
            (5, Rule::Unflushed),
            (6, Rule::TlbiWithoutDsbAfter),
        ],
    );
    for (forbidden, rule) in [
        (READ, Rule::StaleAccess),
        (Kind::VaAllocated(range), Rule::VaReuse),
    ] {
        let steps = on_one_cpu(&[&unmap[..], &[forbidden]].concat());
        assert_eq!(broken(&steps), [rule]);
    }
    let mut words = vec![0; Memory::words_for(64)];
    let mut oracle = Oracle::new(Memory::new(&mut words), Config::default());
    for (cpu, kind) in whole {
        oracle.judge(&Event {
            time: 0,
            cpu,
            task: 1,
            kind,
        });
    }
    assert_eq!(oracle.stats().frames_in_window, 1);
}

#[test]
fn another_frame_is_mapped_after_break_before_make() {
    let other = page(OTHER_FRAME, Attributes::KERNEL_DATA);
    least(
        &on_one_cpu(&[
            store(data(), NONE),
            DSB_ISHST,
            tlbi(VA, true, None),
            DSB_ISH,
            store(NONE, other),
        ]),
        &[
            (1, Rule::TlbiWithoutDsbBefore),
            (2, Rule::BreakBeforeMake),
            (3, Rule::TlbiWithoutDsbAfter),
        ],
    );
    assert_eq!(
        broken(&on_one_cpu(&[store(data(), other)])),
        [Rule::BreakBeforeMake]
    );
}

#[test]
fn the_same_frame_may_be_mapped_again_at_once() {
    let steps = on_one_cpu(&[
        store(data(), NONE),
        store(NONE, data()),
        DSB_ISHST,
        ISB,
        READ,
        Kind::FramesAllocated(frames(FRAME)),
        SCENE,
    ]);
    assert_eq!(broken(&steps), []);
}

#[test]
fn a_block_is_split_after_break_before_make() {
    let block = Descriptor::leaf(Level::L2, FRAME, Attributes::KERNEL_DATA).unwrap();
    let table = Descriptor::table(TABLE);
    let change = |old, new| at(VA, Level::L2, old, new);
    least(
        &on_one_cpu(&[
            change(block, NONE),
            DSB_ISHST,
            tlbi(VA, true, Some(Level::L2)),
            DSB_ISH,
            change(NONE, table),
        ]),
        &[
            (1, Rule::TlbiWithoutDsbBefore),
            (2, Rule::BreakBeforeMake),
            (3, Rule::TlbiWithoutDsbAfter),
        ],
    );
    assert_eq!(
        broken(&on_one_cpu(&[change(block, table)])),
        [Rule::BreakBeforeMake]
    );
    // Pages of which translations are left are in the way of a block.
    let steps = on_one_cpu(&[store(data(), NONE), change(NONE, block)]);
    assert_eq!(broken(&steps), [Rule::BreakBeforeMake]);
}

#[test]
fn a_table_is_freed_after_it_is_unlinked_and_its_walks_are_over() {
    let link = at(VA, Level::L2, NONE, Descriptor::table(TABLE));
    let unlink = at(VA, Level::L2, Descriptor::table(TABLE), NONE);
    let free = Kind::TableFreed(TABLE);
    least(
        &on_one_cpu(&[
            link,
            unlink,
            DSB_ISHST,
            tlbi(VA, false, None),
            DSB_ISH,
            free,
        ]),
        &[
            (1, Rule::TableReuse),
            (2, Rule::TlbiWithoutDsbBefore),
            (3, Rule::TableReuse),
            (4, Rule::TlbiWithoutDsbAfter),
        ],
    );
    let last_level_alone = [link, unlink, DSB_ISHST, tlbi(VA, true, None), DSB_ISH, free];
    assert_eq!(broken(&on_one_cpu(&last_level_alone)), [Rule::TlbiCoverage]);
}

#[test]
fn a_table_is_linked_after_its_zeroes() {
    let link = at(VA, Level::L2, NONE, Descriptor::table(TABLE));
    for ordered in [DSB_ISHST, DMB_ISHST] {
        least(
            &on_one_cpu(&[Kind::TableAllocated(TABLE), ordered, link]),
            &[(1, Rule::TableNotZeroed)],
        );
    }
}

#[test]
fn who_is_handed_a_frame_may_load_from_it() {
    let shot = [
        (0, store(data(), NONE)),
        (0, DSB_ISHST),
        (0, tlbi(VA, true, None)),
        (0, DSB_ISH),
        (0, RELEASE),
    ];
    let take = (1, Kind::FramesAllocated(frames(FRAME)));
    let write = (1, Kind::FrameWritten(FRAME));
    let by_branch = [(1, sync(SyncAccess::Read { acquire: false })), (1, BRANCH)];
    assert_eq!(
        broken(&[&shot[..], &by_branch, &[take]].concat()),
        [Rule::FrameReuse]
    );
    assert_eq!(broken(&[&shot[..], &by_branch, &[write]].concat()), []);
    assert_eq!(broken(&[&shot[..], &[(1, ACQUIRE), take]].concat()), []);
}

#[test]
fn what_an_unlinked_table_maps_needs_tlbis_of_its_own() {
    let link = at(VA, Level::L2, NONE, Descriptor::table(TABLE));
    let unlink = at(VA, Level::L2, Descriptor::table(TABLE), NONE);
    let second = VA + 4096;
    let map = [link, at(second, Level::L3, NONE, data()), DSB_ISHST, ISB];
    let flush = |tlbi| [unlink, DSB_ISHST, tlbi, DSB_ISH, ISB];
    let read = Kind::Access {
        va: second,
        access: Access::Read,
    };
    let one = tlbi(VA, false, None);
    let steps = [&map[..], &flush(one), &[read]].concat();
    assert_eq!(broken(&on_one_cpu(&steps)), [Rule::TlbiCoverage]);
    let everything = Kind::Tlbi(Tlbi {
        scope: Scope::All,
        last_level: false,
        broadcast: true,
        operand: 0,
    });
    let steps = [
        &map[..],
        &flush(everything),
        &[read, Kind::TableFreed(TABLE)],
    ]
    .concat();
    assert_eq!(broken(&on_one_cpu(&steps)), []);
}

#[test]
fn more_new_tables_than_can_be_remembered_are_not_forgotten() {
    let table = |n: u64| PhysAddr::literal(0x5000_0000) + n * 4096;
    let zero: Vec<_> = (0..129).map(|n| Kind::TableAllocated(table(n))).collect();
    assert_eq!(broken(&on_one_cpu(&zero)), [Rule::MemoryFull]);
    // Linked, made a root or freed, they are not new any more.
    let mut steps = Vec::new();
    for n in 0..300 {
        let free = Kind::FramesFreed(frames(table(n)));
        let root = Kind::Ttbr0(table(n).as_u64());
        steps.extend([
            Kind::TableAllocated(table(n)),
            if n % 2 == 0 { free } else { root },
        ]);
    }
    assert_eq!(broken(&on_one_cpu(&steps)), []);
}
