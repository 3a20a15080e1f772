//! Each rule on both sides: the least sequence that keeps it, and that sequence with each of its
//! necessary steps taken away.

use mmu_oracle::{
    Config, Event, Kind, Memory, Oracle, Rule,
    event::{
        Access, Barrier, Boundary, Domain, Entry, Frames, LazyCall, Orders, Scope, SyncAccess,
        Tlbi, Window,
    },
};
use vmsa::{Attributes, Descriptor, Level, PageRange, PhysAddr, VirtAddr, tlbi::Operand};

const VA: VirtAddr = VirtAddr::literal(0xffff_8000_8000_0000);
const FRAME: PhysAddr = PhysAddr::literal(0x4800_0000);
const OTHER_FRAME: PhysAddr = PhysAddr::literal(0x4900_0000);
const TABLE: PhysAddr = PhysAddr::literal(0x4a00_0000);
const FLAG: u64 = 0x1000;

const DSB_ISHST: Kind = Kind::Barrier(Barrier::Dsb(Domain::InnerShareable, Orders::Stores));
const DSB_ISH: Kind = Kind::Barrier(Barrier::Dsb(Domain::InnerShareable, Orders::All));
const DMB_ISHST: Kind = Kind::Barrier(Barrier::Dmb(Domain::InnerShareable, Orders::Stores));
const ISB: Kind = Kind::Barrier(Barrier::Isb);
const RELEASE: Kind = sync(SyncAccess::Write { release: true });
const ACQUIRE: Kind = sync(SyncAccess::Read { acquire: true });
const BRANCH: Kind = sync(SyncAccess::Branch);
const READ: Kind = Kind::Access {
    va: VA,
    access: Access::Read,
};
const WRITE: Kind = Kind::Access {
    va: VA,
    access: Access::Write,
};
const EXECUTE: Kind = Kind::Access {
    va: VA,
    access: Access::Execute,
};
const SCENE: Kind = Kind::Boundary(Boundary::Scene);

const fn sync(access: SyncAccess) -> Kind {
    Kind::Sync {
        variable: FLAG,
        access,
    }
}

fn page(frame: PhysAddr, attributes: Attributes) -> Descriptor {
    Descriptor::leaf(Level::L3, frame, attributes).unwrap()
}

fn data() -> Descriptor {
    page(FRAME, Attributes::KERNEL_DATA)
}

fn read_only() -> Descriptor {
    page(FRAME, Attributes::KERNEL_DATA | Attributes::AP_READ_ONLY)
}

fn code() -> Descriptor {
    page(
        FRAME,
        (Attributes::KERNEL_DATA - Attributes::PXN) | Attributes::AP_READ_ONLY,
    )
}

fn at(va: VirtAddr, level: Level, old: Descriptor, value: Descriptor) -> Kind {
    let address = PhysAddr::literal(0x4b00_0000);
    Kind::Store {
        entry: Entry {
            address,
            va,
            level,
            asid: 0,
            value,
        },
        old,
    }
}

fn store(old: Descriptor, new: Descriptor) -> Kind {
    at(VA, Level::L3, old, new)
}

/// VAALE1IS or, for a table, VAAE1IS.
fn tlbi(va: VirtAddr, last_level: bool, hint: Option<Level>) -> Kind {
    let operand = Operand::new(va, 0, hint).bits();
    Kind::Tlbi(Tlbi {
        scope: Scope::VaAllAsids,
        last_level,
        broadcast: true,
        operand,
    })
}

fn frames(first: PhysAddr) -> Frames {
    Frames { first, count: 1 }
}

fn lazy(call: LazyCall, sections: u8, pauses: u8, flushed: bool) -> Kind {
    Kind::Lazy {
        call,
        sections,
        pauses,
        flushed,
    }
}

/// The rules that a sequence breaks, in order. A pair is a CPU and what it does.
fn broken_with(ets2: bool, steps: &[(u8, Kind)]) -> Vec<Rule> {
    let mut words = vec![0; Memory::words_for(64)];
    let mut oracle = Oracle::new(Memory::new(&mut words), Config { ets2 });
    // The entry is valid, and known to be, where a sequence begins by changing it.
    steps
        .iter()
        .zip(0..)
        .filter_map(|(&(cpu, kind), time)| {
            oracle.judge(&Event {
                time,
                cpu,
                task: 1,
                kind,
            })
        })
        .map(|violation| violation.rule)
        .collect()
}

fn broken(steps: &[(u8, Kind)]) -> Vec<Rule> {
    broken_with(false, steps)
}

/// `steps` break nothing; without any one of the `necessary` ones, they break `rules`: a pair is a
/// step and the rule that misses it.
#[track_caller]
fn least(steps: &[(u8, Kind)], necessary: &[(usize, Rule)]) {
    assert_eq!(broken(steps), [], "the whole sequence");
    for &(step, rule) in necessary {
        let mut without = steps.to_vec();
        let taken = without.remove(step);
        assert_eq!(
            broken(&without).first(),
            Some(&rule),
            "without step {step}: {taken:?}"
        );
    }
}

fn on_one_cpu(kinds: &[Kind]) -> Vec<(u8, Kind)> {
    kinds.iter().map(|kind| (0, *kind)).collect()
}

const NONE: Descriptor = Descriptor::INVALID;

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
        asid: 0,
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
fn a_link_that_may_not_be_seen_matters_where_something_is_mapped_behind_it() {
    let link = at(VA, Level::L2, NONE, Descriptor::table(TABLE));
    assert_eq!(broken(&on_one_cpu(&[link, READ])), []);
    assert_eq!(
        broken(&on_one_cpu(&[link, store(NONE, data()), READ])),
        [Rule::NotVisible]
    );
}

#[test]
fn a_store_that_breaks_a_rule_is_still_owed_its_barriers() {
    let other = page(OTHER_FRAME, Attributes::KERNEL_DATA);
    let steps = on_one_cpu(&[
        store(data(), NONE),
        store(NONE, other),
        lazy(LazyCall::Disable, 0, 0, true),
    ]);
    assert_eq!(
        broken(&steps),
        [Rule::BreakBeforeMake, Rule::LeaveWithoutBarriers]
    );
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
fn an_entry_without_the_access_flag_is_cached_by_no_tlb() {
    let old = page(FRAME, Attributes::KERNEL_DATA - Attributes::AF);
    least(
        &on_one_cpu(&[store(old, data()), DSB_ISHST, ISB, READ]),
        &[(1, Rule::NotVisible), (2, Rule::NotVisible)],
    );
}

#[test]
fn a_section_ends_with_its_barriers() {
    let enable = lazy(LazyCall::Enable, 1, 0, false);
    for end in [
        lazy(LazyCall::Disable, 0, 0, true),
        // Nested, and paused.
        lazy(LazyCall::Disable, 1, 0, true),
        lazy(LazyCall::Pause, 1, 1, true),
    ] {
        least(
            &on_one_cpu(&[enable, store(NONE, data()), DSB_ISHST, ISB, end]),
            &[
                (2, Rule::LeaveWithoutBarriers),
                (3, Rule::LeaveWithoutBarriers),
            ],
        );
    }
    // A disable that promises nothing (in a pause, in an interrupt) owes nothing.
    let steps = on_one_cpu(&[
        enable,
        store(NONE, data()),
        lazy(LazyCall::Disable, 1, 1, false),
    ]);
    assert_eq!(broken(&steps), []);
}

#[test]
fn a_section_that_moves_to_another_cpu_is_ended_there() {
    let enable = lazy(LazyCall::Enable, 1, 0, false);
    let end = lazy(LazyCall::Disable, 0, 0, true);
    least(
        &[
            (0, enable),
            (0, store(NONE, data())),
            (0, RELEASE),
            (1, ACQUIRE),
            (1, BRANCH),
            (1, DSB_ISHST),
            (1, ISB),
            (1, end),
        ],
        &[
            (2, Rule::LeaveWithoutBarriers),
            (3, Rule::LeaveWithoutBarriers),
            (4, Rule::LeaveWithoutBarriers),
            (6, Rule::LeaveWithoutBarriers),
        ],
    );
}

#[test]
fn with_ets2_a_section_owes_barriers_for_code_alone() {
    let end = lazy(LazyCall::Disable, 0, 0, true);
    assert_eq!(
        broken_with(true, &on_one_cpu(&[store(NONE, data()), end])),
        []
    );
    let steps = on_one_cpu(&[store(NONE, code()), end]);
    assert_eq!(broken_with(true, &steps), [Rule::LeaveWithoutBarriers]);
}

#[test]
fn nothing_is_left_open_at_a_boundary() {
    let enable = lazy(LazyCall::Enable, 1, 0, false);
    let disable = lazy(LazyCall::Disable, 0, 0, true);
    let pause = lazy(LazyCall::Pause, 0, 1, true);
    let resume = lazy(LazyCall::Resume, 0, 0, false);
    for boundary in [
        SCENE,
        Kind::Boundary(Boundary::Command),
        Kind::Boundary(Boundary::TaskExit),
        Kind::ExceptionReturn { to_el0: true },
    ] {
        least(
            &on_one_cpu(&[enable, disable, boundary]),
            &[(1, Rule::SectionLeftOpen)],
        );
        least(
            &on_one_cpu(&[pause, resume, boundary]),
            &[(1, Rule::PauseLeft)],
        );
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
fn a_store_that_went_unreported_is_noticed() {
    let steps = on_one_cpu(&[store(NONE, data()), store(NONE, data())]);
    assert_eq!(broken(&steps), [Rule::UnreportedStore]);
}

#[test]
fn a_full_memory_is_said_once_and_counts() {
    let mut words = vec![0; Memory::words_for(4)];
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
            asid: 5,
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
