//! Each rule on both sides: the least sequence that keeps it, and that sequence with each of its
//! necessary steps taken away.

mod hands;
mod sections;
mod spaces;
mod stale;
mod visible;
mod whole;

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
            space: 0,
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
