//! Address spaces: ASIDs, what comes of one that is given out again, pages of programs that change
//! hands, and what is not asked of user entries.

use super::*;

/// A user address, and the ASIDs of the address spaces 1 and 2.
const USER: VirtAddr = VirtAddr::literal(0x40_0000);
const A: u16 = 7;
const B: u16 = 8;

fn leaf(frame: PhysAddr) -> Descriptor {
    let user = Attributes::NG | Attributes::AP_EL0 | Attributes::KERNEL_DATA;
    page(frame, user)
}

fn read_only_leaf(frame: PhysAddr) -> Descriptor {
    leaf(frame).with_attributes(leaf(frame).attributes() | Attributes::AP_READ_ONLY)
}

fn change(space: u16, old: Descriptor, value: Descriptor) -> Kind {
    // Each space has tables of its own.
    let address = PhysAddr::literal(0x4c00_0000 + 4096 * u64::from(space));
    Kind::Store {
        entry: Entry {
            address,
            va: USER,
            level: Level::L3,
            space,
            value,
        },
        old,
    }
}

const fn asid(space: u16, asid: u16) -> Kind {
    Kind::Asid { space, asid }
}

/// TTBR0_EL1 with a root for each ASID.
const fn ttbr0(asid: u16) -> Kind {
    Kind::Ttbr0(((asid as u64) << 48) | (0x4d00_0000 + 4096 * asid as u64))
}

/// The table that maps nothing.
const EMPTY: Kind = Kind::Ttbr0(0x4e00_0000);

const DSB_NSH: Kind = Kind::Barrier(Barrier::Dsb(Domain::NonShareable, Orders::All));

const fn raw(scope: Scope, broadcast: bool, operand: u64) -> Kind {
    Kind::Tlbi(Tlbi {
        scope,
        last_level: false,
        broadcast,
        operand,
    })
}

/// VMALLE1.
const LOCAL_ALL: Kind = raw(Scope::All, false, 0);

/// VAE1IS, for an ASID.
fn by_asid(asid: u16) -> Kind {
    raw(Scope::Va, true, Operand::new(USER, asid, None).bits())
}

const ACCESS: Kind = Kind::Access {
    va: USER,
    access: Access::Read,
};
const STORE: Kind = Kind::Access {
    va: USER,
    access: Access::Write,
};

#[test]
fn a_page_of_a_program_is_free_after_the_flush_by_its_asid() {
    let steps = on_one_cpu(&[
        asid(1, A),
        ttbr0(A),
        change(1, NONE, leaf(FRAME)),
        change(1, leaf(FRAME), NONE),
        DSB_ISHST,
        by_asid(A),
        DSB_ISH,
        Kind::FramesFreed(frames(FRAME)),
    ]);
    least(
        &steps,
        &[
            (3, Rule::MappedFrameFreed),
            (4, Rule::TlbiWithoutDsbBefore),
            (5, Rule::FrameReuse),
            (6, Rule::TlbiWithoutDsbAfter),
        ],
    );
    // The number of the space is not its ASID.
    let mut wrong = steps;
    for asid in [1, B, 0] {
        wrong[5].1 = by_asid(asid);
        assert_eq!(broken(&wrong), [Rule::TlbiCoverage], "ASID {asid}");
    }
}

#[test]
fn an_address_space_without_another_number_has_its_number_as_asid() {
    let steps = |asid| {
        on_one_cpu(&[
            ttbr0(5),
            change(5, NONE, leaf(FRAME)),
            change(5, leaf(FRAME), NONE),
            DSB_ISHST,
            by_asid(asid),
            DSB_ISH,
            Kind::FramesFreed(frames(FRAME)),
        ])
    };
    assert_eq!(broken(&steps(5)), []);
    assert_eq!(broken(&steps(6)), [Rule::TlbiCoverage]);
}

#[test]
fn a_page_that_two_map_is_free_when_both_have_flushed() {
    let steps = on_one_cpu(&[
        asid(1, A),
        asid(2, B),
        change(1, NONE, read_only_leaf(FRAME)),
        change(2, NONE, read_only_leaf(FRAME)),
        change(1, read_only_leaf(FRAME), NONE),
        change(2, read_only_leaf(FRAME), NONE),
        DSB_ISHST,
        by_asid(A),
        by_asid(B),
        DSB_ISH,
        Kind::FramesFreed(frames(FRAME)),
    ]);
    least(
        &steps,
        &[
            (4, Rule::MappedFrameFreed),
            (5, Rule::MappedFrameFreed),
            (7, Rule::TlbiCoverage),
            (8, Rule::TlbiCoverage),
        ],
    );
}

#[test]
fn what_is_stale_in_one_address_space_is_no_others() {
    let steps = |ttbr0| {
        on_one_cpu(&[
            asid(1, A),
            asid(2, B),
            change(2, NONE, leaf(OTHER_FRAME)),
            change(1, NONE, leaf(FRAME)),
            change(1, leaf(FRAME), read_only_leaf(FRAME)),
            ttbr0,
            ISB,
            STORE,
        ])
    };
    assert_eq!(broken(&steps(ttbr0(B))), []);
    assert_eq!(broken(&steps(ttbr0(A))), [Rule::StaleAccess]);
}

#[test]
fn a_copy_takes_the_place_of_a_page_by_break_before_make() {
    let steps = on_one_cpu(&[
        asid(1, A),
        ttbr0(A),
        change(1, NONE, read_only_leaf(FRAME)),
        change(1, read_only_leaf(FRAME), NONE),
        DSB_ISHST,
        by_asid(A),
        DSB_ISH,
        change(1, NONE, leaf(OTHER_FRAME)),
    ]);
    least(
        &steps,
        &[
            (4, Rule::TlbiWithoutDsbBefore),
            (5, Rule::BreakBeforeMake),
            (6, Rule::TlbiWithoutDsbAfter),
        ],
    );
}

#[test]
fn a_program_may_use_what_another_cpu_unmaps_at_this_moment() {
    const LOCK: u64 = 0x5000_0000;
    let sync = |access| Kind::Sync {
        variable: LOCK,
        access,
    };
    let release = sync(SyncAccess::Write { release: true });
    let acquire = sync(SyncAccess::Read { acquire: true });
    let steps = |old: Descriptor, new: Descriptor| {
        vec![
            (0, asid(1, A)),
            (0, ttbr0(A)),
            (1, ttbr0(A)),
            (0, change(1, NONE, old)),
            (0, change(1, old, new)),
            (1, STORE),
        ]
    };
    for (old, new) in [
        (leaf(FRAME), NONE),
        (leaf(FRAME), read_only_leaf(FRAME)),
        (read_only_leaf(FRAME), leaf(FRAME)),
    ] {
        assert_eq!(broken(&steps(old, new)), []);
        // Whoever takes the lock after the change has been promised that it is over.
        let mut after = steps(old, new);
        after.splice(5..5, [(0, release), (1, acquire)]);
        assert_eq!(broken(&after), [Rule::StaleAccess]);
        // And so has whoever made it.
        let mut own = steps(old, new);
        own[5].0 = 0;
        assert_eq!(broken(&own), [Rule::StaleAccess]);
    }
}

#[test]
fn an_asid_comes_again_where_nothing_is_left_of_it() {
    // Space 1 has run with the ASID; space 2 is given it, and the CPU has left space 1.
    let steps = on_one_cpu(&[
        asid(1, A),
        ttbr0(A),
        EMPTY,
        asid(2, A),
        LOCAL_ALL,
        DSB_NSH,
        ttbr0(A),
    ]);
    least(&steps, &[(4, Rule::AsidReuse), (5, Rule::AsidReuse)]);
    // By ASID on all CPUs is as good; for another ASID it is not.
    let mut by_asid = steps.clone();
    for (asid, rules) in [(A, &[][..]), (B, &[Rule::AsidReuse])] {
        by_asid[4].1 = raw(Scope::Asid, true, Operand::asid_only(asid).bits());
        by_asid[5].1 = DSB_ISH;
        assert_eq!(broken(&by_asid), rules);
    }
    // While the CPU still uses space 1 a flush does not keep.
    let mut still = steps;
    still.remove(2);
    assert_eq!(broken(&still), [Rule::AsidReuse]);
}

#[test]
fn each_cpu_flushes_for_itself() {
    let steps = [
        (0, asid(1, A)),
        (0, ttbr0(A)),
        (1, ttbr0(A)),
        (0, EMPTY),
        (1, EMPTY),
        (0, asid(2, A)),
        (0, LOCAL_ALL),
        (0, DSB_NSH),
        (0, ttbr0(A)),
        (1, LOCAL_ALL),
        (1, DSB_NSH),
        (1, ttbr0(A)),
    ];
    least(&steps, &[(6, Rule::AsidReuse), (9, Rule::AsidReuse)]);
}

#[test]
fn of_8_bits_asids_are_the_same_that_differ_above() {
    const WIDE: Kind = Kind::Tcr(1 << 36);
    const NARROW: Kind = Kind::Tcr(0);
    const SAME: u16 = 0x100 + A;
    let reuse = |tcr| on_one_cpu(&[tcr, asid(1, A), ttbr0(A), EMPTY, asid(2, SAME), ttbr0(SAME)]);
    assert_eq!(broken(&reuse(WIDE)), []);
    assert_eq!(broken(&reuse(NARROW)), [Rule::AsidReuse]);
    // And a TLBI for the one is for the other.
    let flush = |tcr| {
        on_one_cpu(&[
            tcr,
            asid(1, A),
            ttbr0(A),
            change(1, NONE, leaf(FRAME)),
            change(1, leaf(FRAME), NONE),
            DSB_ISHST,
            by_asid(SAME),
            DSB_ISH,
            Kind::FramesFreed(frames(FRAME)),
        ])
    };
    assert_eq!(broken(&flush(WIDE)), [Rule::TlbiCoverage]);
    assert_eq!(broken(&flush(NARROW)), []);
}

#[test]
fn a_flush_of_all_cpus_is_not_undone_by_those_that_empty_their_own_tlbs() {
    let sync = |access| Kind::Sync {
        variable: 0x5000_0000,
        access,
    };
    let release = sync(SyncAccess::Write { release: true });
    let acquire = sync(SyncAccess::Read { acquire: true });
    let branch = sync(SyncAccess::Branch);
    let mut steps = vec![
        (0, asid(1, A)),
        (0, ttbr0(A)),
        (0, change(1, NONE, leaf(FRAME))),
        (0, change(1, leaf(FRAME), NONE)),
        (0, DSB_ISHST),
        // In flight while others, which know of the change, begin anew.
        (0, by_asid(A)),
        (0, release),
    ];
    for cpu in 1..=3 {
        steps.extend([acquire, branch, LOCAL_ALL, DSB_NSH].map(|kind| (cpu, kind)));
    }
    steps.extend([
        (0, LOCAL_ALL),
        (0, DSB_ISH),
        (0, Kind::FramesFreed(frames(FRAME))),
    ]);
    assert_eq!(broken(&steps), []);
    // The other way round: they were first.
    let first = steps.remove(5);
    steps.insert(steps.len() - 2, first);
    assert_eq!(broken(&steps), []);
    // And without it they are not enough.
    let end = steps.len();
    steps.remove(end - 3);
    assert_eq!(broken(&steps), [Rule::TlbiCoverage]);
}

#[test]
fn the_asid_of_an_address_space_is_not_in_its_own_way() {
    let steps = on_one_cpu(&[asid(1, A), ttbr0(A), EMPTY, ttbr0(A), asid(1, A), ttbr0(A)]);
    assert_eq!(broken(&steps), []);
}

#[test]
fn an_address_space_that_has_lost_its_asid_has_nothing_to_flush() {
    // Whatever a TLB holds of it is out of reach, and gone before the ASID is used again.
    let steps = on_one_cpu(&[
        asid(1, A),
        ttbr0(A),
        change(1, NONE, leaf(FRAME)),
        EMPTY,
        asid(2, A),
        change(1, leaf(FRAME), NONE),
        Kind::FramesFreed(frames(FRAME)),
    ]);
    assert_eq!(broken(&steps), []);
    let mut before = steps;
    before.remove(4);
    assert_eq!(broken(&before), [Rule::FrameReuse]);
}

#[test]
fn a_user_entry_owes_no_barrier() {
    let lazily = |space, frame| {
        on_one_cpu(&[
            asid(1, A),
            ttbr0(A),
            lazy(LazyCall::Enable, 1, 0, false),
            change(space, NONE, leaf(frame)),
            lazy(LazyCall::Disable, 0, 0, true),
            ACCESS,
        ])
    };
    // An access may fault, and is tried again.
    assert_eq!(broken(&lazily(1, FRAME)), []);
    assert_eq!(
        broken(&lazily(0, FRAME)),
        [Rule::LeaveWithoutBarriers, Rule::NotVisible]
    );
}

#[test]
fn a_return_to_a_program_leaves_no_section_open() {
    let to_el0 = Kind::ExceptionReturn { to_el0: true };
    let open = on_one_cpu(&[lazy(LazyCall::Enable, 1, 0, false), to_el0]);
    assert_eq!(broken(&open), [Rule::SectionLeftOpen]);
    let kernel = Kind::ExceptionReturn { to_el0: false };
    let inside = on_one_cpu(&[lazy(LazyCall::Enable, 1, 0, false), kernel]);
    assert_eq!(broken(&inside), []);
}
