//! The least sequence that keeps a rule, with one of its steps replaced by one that looks alike and
//! is not enough. (`rules/` takes the steps away.)

use mmu_oracle::{
    Config, Event, Kind, Memory, Oracle, Rule,
    event::{Access, Barrier, Domain, Entry, Frames, Orders, Scope, SyncAccess, Tlbi},
};
use vmsa::{Attributes, Descriptor, Level, PhysAddr, VirtAddr, tlbi::Operand};

const VA: VirtAddr = VirtAddr::literal(0xffff_8000_8000_0000);
const FRAME: PhysAddr = PhysAddr::literal(0x4800_0000);
const TABLE: PhysAddr = PhysAddr::literal(0x4a00_0000);
const NONE: Descriptor = Descriptor::INVALID;

const ISB: Kind = Kind::Barrier(Barrier::Isb);
const DSB_ISHST: Kind = dsb(Domain::InnerShareable, Orders::Stores);
const DSB_ISH: Kind = dsb(Domain::InnerShareable, Orders::All);
const READ: Kind = Kind::Access {
    va: VA,
    access: Access::Read,
};
const FREE: Kind = Kind::FramesFreed(Frames {
    first: FRAME,
    count: 1,
});

const fn dsb(domain: Domain, orders: Orders) -> Kind {
    Kind::Barrier(Barrier::Dsb(domain, orders))
}

const fn dmb(orders: Orders) -> Kind {
    Kind::Barrier(Barrier::Dmb(Domain::InnerShareable, orders))
}

const fn sync(access: SyncAccess) -> Kind {
    Kind::Sync {
        variable: 1,
        access,
    }
}

const fn write(release: bool) -> Kind {
    sync(SyncAccess::Write { release })
}

const fn read(acquire: bool) -> Kind {
    sync(SyncAccess::Read { acquire })
}

const fn swap(acquire: bool) -> Kind {
    sync(SyncAccess::ReadModifyWrite {
        acquire,
        release: false,
    })
}

fn data() -> Descriptor {
    Descriptor::leaf(Level::L3, FRAME, Attributes::KERNEL_DATA).unwrap()
}

fn store(level: Level, old: Descriptor, value: Descriptor) -> Kind {
    let address = PhysAddr::literal(0x4b00_0000);
    let entry = Entry {
        address,
        va: VA,
        level,
        space: 0,
        value,
    };
    Kind::Store { entry, old }
}

fn tlbi(broadcast: bool, last_level: bool, hint: Option<Level>) -> Kind {
    Kind::Tlbi(Tlbi {
        scope: Scope::VaAllAsids,
        last_level,
        broadcast,
        operand: Operand::new(VA, 0, hint).bits(),
    })
}

/// The first rule that a sequence breaks on two CPUs.
fn broken(steps: &[(u8, Kind)]) -> Option<Rule> {
    let mut words = vec![0; Memory::words_for(64)];
    let mut oracle = Oracle::new(Memory::new(&mut words), Config::default());
    let online = [(0, Kind::Online), (1, Kind::Online)];
    let mut all = online.iter().chain(steps).zip(0..);
    all.find_map(|(&(cpu, kind), time)| {
        let event = Event {
            time,
            cpu,
            task: 1,
            kind,
        };
        Some(oracle.judge(&event)?.rule)
    })
}

/// `steps` break nothing; with the step in a place replaced by any of those beside it, they break a
/// rule.
#[track_caller]
fn replaced(steps: &[(u8, Kind)], others: &[(usize, &[Kind])]) {
    assert_eq!(broken(steps), None, "the whole sequence");
    for (place, kinds) in others {
        for kind in *kinds {
            let mut other = steps.to_vec();
            other[*place].1 = *kind;
            assert!(
                broken(&other).is_some(),
                "{kind:?} is not enough at {place}"
            );
        }
    }
}

const NOT_DSB_ISHST: &[Kind] = &[
    dsb(Domain::InnerShareable, Orders::Loads),
    dmb(Orders::Stores),
    dmb(Orders::All),
    ISB,
];
const NOT_DSB_ISH: &[Kind] = &[
    dsb(Domain::InnerShareable, Orders::Stores),
    dsb(Domain::InnerShareable, Orders::Loads),
    dsb(Domain::NonShareable, Orders::All),
    dmb(Orders::All),
    ISB,
];

#[test]
fn making_valid() {
    replaced(
        &[
            (0, store(Level::L3, NONE, data())),
            (0, DSB_ISHST),
            (0, ISB),
            (0, READ),
        ],
        &[(1, NOT_DSB_ISHST), (2, &[DSB_ISH, dmb(Orders::All)])],
    );
}

#[test]
fn unmapping() {
    replaced(
        &[
            (0, store(Level::L3, data(), NONE)),
            (0, DSB_ISHST),
            (0, tlbi(true, true, None)),
            (0, DSB_ISH),
            (0, FREE),
            (0, ISB),
            (0, READ),
        ],
        &[
            (1, NOT_DSB_ISHST),
            (1, &[dsb(Domain::NonShareable, Orders::Stores)]),
            (
                2,
                &[tlbi(false, true, None), tlbi(true, true, Some(Level::L1))],
            ),
            (3, NOT_DSB_ISH),
            (5, &[DSB_ISH]),
        ],
    );
}

#[test]
fn unlinking_a_table() {
    replaced(
        &[
            (0, store(Level::L2, Descriptor::table(TABLE), NONE)),
            (0, DSB_ISHST),
            (0, tlbi(true, false, None)),
            (0, DSB_ISH),
            (0, Kind::TableFreed(TABLE)),
        ],
        &[(
            2,
            &[
                tlbi(true, true, None),
                tlbi(true, false, Some(Level::L2)),
                tlbi(true, false, Some(Level::L3)),
            ],
        )],
    );
}

#[test]
fn linking_a_table() {
    let allocated = (0, Kind::TableAllocated(TABLE));
    let link = (0, store(Level::L2, NONE, Descriptor::table(TABLE)));
    replaced(
        &[allocated, (0, DSB_ISHST), link],
        &[(1, &[dmb(Orders::Loads), ISB])],
    );
    // It may not be zeroed when it is linked.
    let steps = [link, allocated, (0, DSB_ISHST)];
    assert_eq!(broken(&steps), Some(Rule::TableNotZeroed));
}

#[test]
fn handing_over_what_was_mapped() {
    replaced(
        &[
            (0, store(Level::L3, NONE, data())),
            (0, write(true)),
            (1, read(true)),
            (1, sync(SyncAccess::Branch)),
            (1, ISB),
            (1, READ),
        ],
        &[
            (1, &[write(false)]),
            (2, &[write(true)]),
            (3, &[DSB_ISHST, dmb(Orders::All)]),
            (4, &[DSB_ISH]),
        ],
    );
}

#[test]
fn handing_over_what_was_unmapped() {
    let unmap = [
        (0, store(Level::L3, data(), NONE)),
        (0, DSB_ISHST),
        (0, tlbi(true, true, None)),
        (0, DSB_ISH),
        (0, write(true)),
    ];
    for (hand_over, not) in [(read(true), read(false)), (swap(true), swap(false))] {
        for used in [READ, FREE] {
            let steps = [&unmap[..], &[(1, hand_over), (1, used)]].concat();
            let not: &[Kind] = &[not, DSB_ISH];
            replaced(&steps, &[(2, &[tlbi(false, true, None)]), (5, not)]);
        }
    }
}

/// A TLBI of one CPU says nothing of another, whatever it is told.
#[test]
fn a_permission_taken_by_a_local_tlbi() {
    let read_only = data().with_attributes(Attributes::KERNEL_RODATA);
    let write_it = Kind::Access {
        va: VA,
        access: Access::Write,
    };
    replaced(
        &[
            (0, store(Level::L3, data(), read_only)),
            (0, DSB_ISHST),
            (0, tlbi(true, true, None)),
            (0, DSB_ISH),
            (0, write(true)),
            (1, read(true)),
            (1, write_it),
        ],
        &[(2, &[tlbi(false, true, None)])],
    );
}

/// The README has every rule and its source's section.
#[test]
fn the_readme_has_every_rule() {
    let readme = include_str!("../README.md");
    let rows: Vec<_> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .map(|(name, _)| name)
        .collect();
    let rules: Vec<_> = Rule::ALL.iter().map(|rule| rule.name()).collect();
    assert_eq!(rows, rules);
}
