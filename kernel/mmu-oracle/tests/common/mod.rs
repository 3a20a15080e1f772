//! Events at random, each kind as likely as the others.

use mmu_oracle::{
    Event, Kind, MAX_CPUS,
    event::{
        Access, Barrier, Boundary, Domain, Entry, Frames, LazyCall, Orders, Scope, SyncAccess,
        Tlbi, Window,
    },
};
use proptest::{prelude::*, sample::select};
use vmsa::{Descriptor, Level, PAGE_SIZE, PageRange, PhysAddr, VirtAddr};

/// Any event that [`mmu_oracle::format`] can save.
pub fn event() -> impl Strategy<Value = Event> {
    let cpu = 0..MAX_CPUS as u8;
    (any::<u64>(), cpu, any::<u32>(), kind()).prop_map(|(time, cpu, task, kind)| Event {
        time,
        cpu,
        task,
        kind,
    })
}

/// What can happen.
pub fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        tables(),
        instructions(),
        registers_and_exceptions(),
        memory(),
        sections(),
    ]
}

fn tables() -> impl Strategy<Value = Kind> {
    prop_oneof![
        entry().prop_map(Kind::Snapshot),
        pages().prop_map(Kind::LinearMap),
        phys_addr().prop_map(Kind::TableAllocated),
        phys_addr().prop_map(Kind::TableFreed),
        (entry(), descriptor()).prop_map(|(entry, old)| Kind::Store { entry, old }),
        entry().prop_map(Kind::EntryRead),
    ]
}

fn instructions() -> impl Strategy<Value = Kind> {
    let sync = prop_oneof![
        any::<bool>().prop_map(|release| SyncAccess::Write { release }),
        any::<bool>().prop_map(|acquire| SyncAccess::Read { acquire }),
        any::<[bool; 2]>()
            .prop_map(|[acquire, release]| { SyncAccess::ReadModifyWrite { acquire, release } }),
        Just(SyncAccess::Branch),
    ];
    prop_oneof![
        barrier().prop_map(Kind::Barrier),
        (scope(), any::<[bool; 2]>(), any::<u64>()).prop_map(
            |(scope, [last_level, broadcast], operand)| Kind::Tlbi(Tlbi {
                scope,
                last_level,
                broadcast,
                operand
            })
        ),
        (any::<u64>(), sync).prop_map(|(variable, access)| Kind::Sync { variable, access }),
    ]
}

fn registers_and_exceptions() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Online),
        (any::<u16>(), any::<u16>()).prop_map(|(space, asid)| Kind::Asid { space, asid }),
        any::<u64>().prop_map(Kind::Ttbr0),
        any::<u64>().prop_map(Kind::Ttbr1),
        any::<u64>().prop_map(Kind::Tcr),
        Just(Kind::ExceptionEntry),
        any::<bool>().prop_map(|to_el0| Kind::ExceptionReturn { to_el0 }),
        any::<u32>().prop_map(|to| Kind::ContextSwitch { to }),
    ]
}

fn memory() -> impl Strategy<Value = Kind> {
    let access = select(vec![Access::Read, Access::Write, Access::Execute]);
    prop_oneof![
        (virt_addr(), access).prop_map(|(va, access)| Kind::Access { va, access }),
        virt_addr().prop_map(Kind::SpuriousFault),
        frames().prop_map(Kind::FramesAllocated),
        frames().prop_map(Kind::FramesFreed),
        phys_addr().prop_map(Kind::FrameWritten),
        pages().prop_map(Kind::VaAllocated),
    ]
}

fn sections() -> impl Strategy<Value = Kind> {
    let call = select(vec![
        LazyCall::Enable,
        LazyCall::Disable,
        LazyCall::Pause,
        LazyCall::Resume,
    ]);
    let window = || select(vec![Window::LazyPurge, Window::Shadow]);
    prop_oneof![
        (call, any::<[u8; 2]>(), any::<bool>()).prop_map(|(call, [sections, pauses], flushed)| {
            Kind::Lazy {
                call,
                sections,
                pauses,
                flushed,
            }
        }),
        (window(), pages()).prop_map(|(window, range)| Kind::WindowOpened { window, range }),
        (window(), pages()).prop_map(|(window, range)| Kind::WindowClosed { window, range }),
        select(vec![
            Boundary::TaskExit,
            Boundary::ReturnToEl0,
            Boundary::Scene,
            Boundary::Command,
        ])
        .prop_map(Kind::Boundary),
    ]
}

fn scope() -> impl Strategy<Value = Scope> {
    select(vec![
        Scope::All,
        Scope::Asid,
        Scope::Va,
        Scope::VaAllAsids,
        Scope::Range,
        Scope::RangeAllAsids,
    ])
}

fn barrier() -> impl Strategy<Value = Barrier> {
    let domain = || {
        select(vec![
            Domain::NonShareable,
            Domain::InnerShareable,
            Domain::OuterShareable,
            Domain::FullSystem,
        ])
    };
    let orders = || select(vec![Orders::Stores, Orders::Loads, Orders::All]);
    prop_oneof![
        (domain(), orders()).prop_map(|(domain, orders)| Barrier::Dsb(domain, orders)),
        (domain(), orders()).prop_map(|(domain, orders)| Barrier::Dmb(domain, orders)),
        Just(Barrier::Isb),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let level = select(Level::ALL.to_vec());
    (phys_addr(), virt_addr(), level, any::<u16>(), descriptor()).prop_map(
        |(address, va, level, space, value)| Entry {
            address,
            va,
            level,
            space,
            value,
        },
    )
}

fn descriptor() -> impl Strategy<Value = Descriptor> {
    any::<u64>().prop_map(Descriptor::from_bits)
}

fn phys_addr() -> impl Strategy<Value = PhysAddr> {
    (0..=PhysAddr::MAX.as_u64()).prop_map(PhysAddr::literal)
}

fn virt_addr() -> impl Strategy<Value = VirtAddr> {
    let lower = 0..=PhysAddr::MAX.as_u64();
    (lower, any::<bool>()).prop_map(|(offset, upper)| {
        let base = if upper { 0xffff << 48 } else { 0 };
        VirtAddr::literal(base | offset)
    })
}

fn pages() -> impl Strategy<Value = PageRange> {
    (virt_addr(), 1..0x1_0000u64).prop_filter_map("it leaves its half", |(start, pages)| {
        PageRange::new(start.align_down(PAGE_SIZE), pages)
    })
}

fn frames() -> impl Strategy<Value = Frames> {
    let count = 0..0x1_0000u64;
    (phys_addr(), count).prop_filter_map("it ends above 2^48", |(first, count)| {
        let first = first.align_down(PAGE_SIZE);
        first.checked_add(count * PAGE_SIZE)?;
        Some(Frames { first, count })
    })
}
