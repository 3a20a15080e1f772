//! What is written, line by line.

use super::*;
use crate::trace::file::tests::{event, saved};
use mmu_oracle::{Rule, event::Scope};
use vmsa::{
    Attributes, Level, PhysAddr, VirtAddr,
    tlbi::{Operand, RangeOperand},
};

/// The tables of the tests, one a level, and a page of vmalloc's.
const ROOT: u64 = 0x4100_0000;
const L3: u64 = 0x4100_3000;
const VA: u64 = 0xffff_8000_0000_0000;

fn entry(address: u64, level: Level, va: u64, value: Descriptor) -> Entry {
    Entry {
        address: PhysAddr::literal(address),
        va: VirtAddr::literal(va),
        level,
        space: 0,
        value,
    }
}

fn page(frame: u64) -> Descriptor {
    Descriptor::leaf(Level::L3, PhysAddr::literal(frame), Attributes::KERNEL_DATA).unwrap()
}

/// Page `n` of the tests gets this value.
fn store(n: u64, value: Descriptor) -> Record {
    let entry = entry(L3 + 8 * n, Level::L3, VA + 0x1000 * n, value);
    let old = Descriptor::INVALID;
    Record::Event(event(Kind::Store { entry, old }))
}

fn dsb(orders: Orders) -> Record {
    let dsb = Barrier::Dsb(Domain::InnerShareable, orders);
    Record::Event(event(Kind::Barrier(dsb)))
}

fn tlbi(scope: Scope, operand: u64) -> Record {
    Record::Event(event(Kind::Tlbi(Tlbi {
        scope,
        last_level: true,
        broadcast: true,
        operand,
    })))
}

fn tlbi_of_page(n: u64) -> Record {
    let va = VirtAddr::literal(VA + 0x1000 * n);
    tlbi(Scope::VaAllAsids, Operand::new(va, 0, None).bits())
}

/// The initial tables: root, level 1, level 2, level 3, and pages in the last.
fn initial(pages: u64) -> Vec<Record> {
    let mut entries: Vec<_> = [Level::L0, Level::L1, Level::L2]
        .into_iter()
        .zip(0..)
        .map(|(level, n)| {
            let table = PhysAddr::literal(ROOT + 0x1000 * (n + 1));
            let index = level.index(VirtAddr::literal(VA)) as u64;
            let address = ROOT + 0x1000 * n + 8 * index;
            entry(address, level, VA, Descriptor::table(table))
        })
        .collect();
    entries.extend((0..pages).map(|n| {
        let frame = page(0x5000_0000 + 0x1000 * n);
        entry(L3 + 8 * n, Level::L3, VA + 0x1000 * n, frame)
    }));
    let records = entries.into_iter().map(Kind::Snapshot);
    records.map(|kind| Record::Event(event(kind))).collect()
}

/// What is written for the initial tables and these records, and what is left out.
fn all(pages: u64, then: &[Record]) -> (Vec<String>, Summary) {
    let mut records = initial(pages);
    records.extend(then);
    let bytes = saved(&records);
    let mut out = Vec::new();
    let summary = convert(Trace::new(&bytes[..], "t").unwrap(), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    (text.lines().map(str::to_owned).collect(), summary)
}

/// What is written for the records behind the initial tables: the name of each line and what it
/// says.
fn lines(pages: u64, then: &[Record]) -> Vec<String> {
    let (lines, _) = all(pages, then);
    let at = lines.iter().position(|line| line.contains("ttbr0_el2"));
    lines[at.unwrap() + 1..]
        .iter()
        .map(|line| {
            let line = line.trim_start_matches('(');
            let (name, rest) = line.split_once(" (id ").unwrap();
            let (_, rest) = rest.split_once("(tid 0) ").unwrap();
            let (what, _) = rest.split_once(" (src ").unwrap();
            format!("{name} {what}")
        })
        .collect()
}

#[test]
fn a_trace_is_written_byte_for_byte() {
    let (lines, summary) = all(
        1,
        &[
            store(0, Descriptor::INVALID),
            dsb(Orders::Stores),
            tlbi_of_page(0),
            dsb(Orders::All),
            Record::Event(event(Kind::Barrier(Barrier::Isb))),
            store(0, page(0x6000_0000)),
        ],
    );
    let golden = "\
(mem-init (id 1) (tid 0) (address 41000000) (size 1000) (src \"mmu.trace:5\"))
(mem-init (id 2) (tid 0) (address 41001000) (size 1000) (src \"mmu.trace:5\"))
(mem-init (id 3) (tid 0) (address 41002000) (size 1000) (src \"mmu.trace:5\"))
(mem-init (id 4) (tid 0) (address 41003000) (size 1000) (src \"mmu.trace:5\"))
(hint (id 5) (tid 0) (kind set_root_lock) (location 41000000) (value 41000000) (src \"mmu.trace:5\"))
(hint (id 6) (tid 0) (kind set_owner_root) (location 41001000) (value 41000000) (src \"mmu.trace:5\"))
(hint (id 7) (tid 0) (kind set_owner_root) (location 41002000) (value 41000000) (src \"mmu.trace:5\"))
(hint (id 8) (tid 0) (kind set_owner_root) (location 41003000) (value 41000000) (src \"mmu.trace:5\"))
(mem-write (id 9) (tid 0) (mem-order plain) (address 41000800) (value 41001003) (src \"mmu.trace:5\"))
(mem-write (id 10) (tid 0) (mem-order plain) (address 41001000) (value 41002003) (src \"mmu.trace:5\"))
(mem-write (id 11) (tid 0) (mem-order plain) (address 41002000) (value 41003003) (src \"mmu.trace:5\"))
(mem-write (id 12) (tid 0) (mem-order plain) (address 41003000) (value 60000050000703) (src \"mmu.trace:5\"))
(sysreg-write (id 13) (tid 0) (sysreg ttbr0_el2) (value 41000000) (src \"mmu.trace:5\"))
(mem-write (id 14) (tid 0) (mem-order plain) (address 41003000) (value 0) (src \"mmu.trace:5\"))
(barrier (id 15) (tid 0) dsb (kind ishst) (src \"mmu.trace:6\"))
(tlbi (id 16) (tid 0) vale2is (value 800000000) (src \"mmu.trace:7\"))
(barrier (id 17) (tid 0) dsb (kind ish) (src \"mmu.trace:8\"))
(barrier (id 18) (tid 0) isb (src \"mmu.trace:9\"))
(mem-write (id 19) (tid 0) (mem-order plain) (address 41003000) (value 60000060000703) (src \"mmu.trace:10\"))";
    assert_eq!(lines.join("\n"), golden);
    let nothing_left_out = Summary {
        records: 19,
        ..Summary::default()
    };
    assert_eq!(summary, nothing_left_out);
}

const CLEARED: [&str; 3] = [
    "mem-write (mem-order plain) (address 41003000) (value 0)",
    "mem-write (mem-order plain) (address 41003008) (value 0)",
    "mem-write (mem-order plain) (address 41003010) (value 0)",
];
const ISHST: &str = "barrier dsb (kind ishst)";
const ISH: &str = "barrier dsb (kind ish)";

#[test]
fn a_range_and_everything_become_an_operation_for_each_page_that_changed() {
    let va = VirtAddr::literal(VA);
    let range = RangeOperand::new(va, 0, None, 0, 1).unwrap().bits();
    let each = [
        "tlbi vale2is (value 800000000)",
        "tlbi vale2is (value 800000001)",
        "tlbi vale2is (value 800000002)",
    ];
    let flush = [&CLEARED[..], &[ISHST], &each, &[ISH]].concat();
    for operation in [tlbi(Scope::RangeAllAsids, range), tlbi(Scope::All, 0)] {
        let none = Descriptor::INVALID;
        let written = lines(
            4,
            &[
                store(0, none),
                store(1, none),
                store(2, none),
                dsb(Orders::Stores),
                operation,
                // Named twice; Casemate would not have it.
                operation,
                dsb(Orders::All),
            ],
        );
        assert_eq!(written, flush);
    }
}

#[test]
fn a_range_that_ends_before_an_entry_leaves_it_unclean() {
    let va = VirtAddr::literal(VA);
    let range = RangeOperand::new(va, 0, None, 0, 0).unwrap();
    assert_eq!(range.pages(), 2);
    let (written, summary) = all(
        3,
        &[
            store(1, Descriptor::INVALID),
            store(2, Descriptor::INVALID),
            dsb(Orders::Stores),
            tlbi(Scope::RangeAllAsids, range.bits()),
            dsb(Orders::All),
        ],
    );
    assert_eq!(summary.unfinished, 1);
    let of = |address: &str| {
        written
            .iter()
            .any(|line| line.contains(address) && line.contains("(value 0)"))
    };
    assert!(of("41003008") && !of("41003010"));
}

#[test]
fn what_the_kernel_left_out_is_not_there_either() {
    let (none, again) = (Descriptor::INVALID, page(0x6000_0000));
    let valid = "mem-write (mem-order plain) (address 41003000) (value 60000060000703)";
    let vale = "tlbi vale2is (value 800000000)";
    // No TLBI; a TLBI before the DSB; no DSB behind the TLBI.
    let no_tlbi = [
        store(0, none),
        dsb(Orders::All),
        dsb(Orders::All),
        store(0, again),
    ];
    assert_eq!(lines(1, &no_tlbi), [ISH, CLEARED[0], ISH, valid]);
    let too_early = [
        store(0, none),
        tlbi_of_page(0),
        dsb(Orders::All),
        store(0, again),
    ];
    assert_eq!(lines(1, &too_early), [CLEARED[0], vale, ISH, valid]);
    let no_end = [
        store(0, none),
        dsb(Orders::Stores),
        tlbi_of_page(0),
        store(0, again),
    ];
    assert_eq!(lines(1, &no_end), [CLEARED[0], ISHST, vale, valid]);
    // DSB ISHST completes no TLBI.
    let wrong_end = [
        store(0, none),
        dsb(Orders::Stores),
        tlbi_of_page(0),
        dsb(Orders::Stores),
        store(0, again),
    ];
    assert_eq!(
        lines(1, &wrong_end),
        [ISHST, CLEARED[0], ISHST, vale, valid]
    );
}

#[test]
fn more_than_the_checker_has_room_for_are_written_as_several_flushes() {
    let mut records: Vec<_> = (0..20).map(|n| store(n, Descriptor::INVALID)).collect();
    records.extend([dsb(Orders::Stores), tlbi(Scope::All, 0), dsb(Orders::All)]);
    let written = lines(20, &records);
    let flushes: Vec<_> = written.split(|line| line == ISH).map(<[_]>::len).collect();
    // Stores, a DSB, TLBIs; what is behind the last DSB is nothing.
    assert_eq!(flushes, [8 + 1 + 8, 8 + 1 + 8, 4 + 1 + 4, 0]);
}

#[test]
fn a_change_of_attributes_is_left_out_and_its_tlbi_is_not() {
    let read_only = Descriptor::leaf(
        Level::L3,
        PhysAddr::literal(0x5000_0000),
        Attributes::KERNEL_RODATA,
    );
    let records = [
        store(0, read_only.unwrap()),
        dsb(Orders::Stores),
        tlbi(Scope::All, 0),
        dsb(Orders::All),
    ];
    let vale = "tlbi vale2is (value 800000000)";
    assert_eq!(lines(1, &records), [ISHST, vale, ISH]);
    assert_eq!(all(1, &records).1.attributes, 1);
}

#[test]
fn what_is_broken_on_purpose_is_left_out_and_what_is_not_stays() {
    let elsewhere = store(0, page(0x6000_0000));
    let on_purpose = Record::Expected(Expected::new([Rule::BreakBeforeMake]));
    let over = Record::Expected(Expected::NONE);
    let (_, summary) = all(1, &[dsb(Orders::All), on_purpose, elsewhere, over]);
    assert_eq!(summary.on_purpose, 1);
    let valid = "mem-write (mem-order plain) (address 41003000) (value 60000060000703)";
    assert_eq!(lines(1, &[elsewhere]), [valid]);
}

#[test]
fn a_table_is_told_of_before_it_is_linked_and_unlinked_by_a_tlbi_for_all() {
    let table = PhysAddr::literal(0x4200_0000);
    let va = VA + Level::L2.bytes();
    let link = |value| {
        let entry = entry(0x4100_2008, Level::L2, va, value);
        let old = Descriptor::INVALID;
        Record::Event(event(Kind::Store { entry, old }))
    };
    let non_leaf = Record::Event(event(Kind::Tlbi(Tlbi {
        scope: Scope::VaAllAsids,
        last_level: false,
        broadcast: true,
        operand: Operand::new(VirtAddr::literal(va), 0, None).bits(),
    })));
    let records = [
        Record::Event(event(Kind::TableAllocated(table))),
        link(Descriptor::table(table)),
        link(Descriptor::INVALID),
        dsb(Orders::Stores),
        non_leaf,
        dsb(Orders::All),
    ];
    let written = [
        "mem-init (address 42000000) (size 1000)",
        "hint (kind set_owner_root) (location 42000000) (value 41000000)",
        "mem-write (mem-order plain) (address 41002008) (value 42000003)",
        "mem-write (mem-order plain) (address 41002008) (value 0)",
        ISHST,
        "tlbi alle2is",
        ISH,
    ];
    assert_eq!(lines(0, &records), written);
    // Nobody walks there any more: what is stored there then is no invalidation.
    let inside = |value| {
        let entry = entry(table.as_u64(), Level::L3, va, value);
        let old = Descriptor::INVALID;
        Record::Event(event(Kind::Store { entry, old }))
    };
    let mut then = records.to_vec();
    then.extend([inside(page(0x5000_0000)), inside(Descriptor::INVALID)]);
    let stored = lines(0, &then);
    assert_eq!(
        stored[written.len()..],
        [
            "mem-write (mem-order plain) (address 42000000) (value 60000050000703)",
            "mem-write (mem-order plain) (address 42000000) (value 0)",
        ]
    );
    // A TLBI of leaves alone does not cover it.
    let mut leaf = records;
    leaf[4] = {
        let operand = Operand::new(VirtAddr::literal(va), 0, None).bits();
        tlbi(Scope::VaAllAsids, operand)
    };
    assert_eq!(all(0, &leaf).1.unfinished, 1);
}

#[test]
fn a_table_that_was_unlinked_can_be_linked_elsewhere() {
    let table = Descriptor::table(PhysAddr::literal(0x4200_0000));
    let link = |n: u64, value| {
        let va = VA + n * Level::L2.bytes();
        let entry = entry(0x4100_2000 + 8 * n, Level::L2, va, value);
        let old = Descriptor::INVALID;
        Record::Event(event(Kind::Store { entry, old }))
    };
    let records = [link(1, table), link(1, Descriptor::INVALID), link(2, table)];
    let (written, summary) = all(0, &records);
    assert_eq!(summary.shared, 0);
    let last = written.last().unwrap();
    assert!(
        last.contains("(address 41002010) (value 42000003)"),
        "{last}"
    );
}

#[test]
fn a_flush_of_another_cpu_is_none() {
    let none = Descriptor::INVALID;
    let unfinished = |cpus: [u8; 3]| {
        let flush = [dsb(Orders::Stores), tlbi_of_page(0), dsb(Orders::All)];
        let mut records = vec![store(0, none)];
        records.extend(
            flush
                .into_iter()
                .zip(cpus)
                .map(|(record, cpu)| match record {
                    Record::Event(event) => Record::Event(Event { cpu, ..event }),
                    other => other,
                }),
        );
        all(1, &records).1.unfinished
    };
    // The checker goes by the CPU that made the entry invalid.
    assert_eq!(unfinished([0, 0, 0]), 0);
    for cpus in [[1, 0, 0], [0, 1, 0], [0, 0, 1]] {
        assert_eq!(unfinished(cpus), 1, "{cpus:?}");
    }
}

#[test]
fn a_block_gets_an_operation_that_is_not_for_pages_alone() {
    let frame = PhysAddr::literal(0x6000_0000);
    let block = Descriptor::leaf(Level::L2, frame, Attributes::KERNEL_DATA).unwrap();
    let va = VirtAddr::literal(VA + Level::L2.bytes());
    let store = |value| {
        let entry = entry(0x4100_2008, Level::L2, va.as_u64(), value);
        let old = Descriptor::INVALID;
        Record::Event(event(Kind::Store { entry, old }))
    };
    // A page within the block.
    let operand = Operand::new(va + 0x5000, 0, None).bits();
    let records = [
        store(block),
        store(Descriptor::INVALID),
        dsb(Orders::Stores),
        tlbi(Scope::VaAllAsids, operand),
        dsb(Orders::All),
    ];
    let written = [
        "mem-write (mem-order plain) (address 41002008) (value 60000060000701)",
        "mem-write (mem-order plain) (address 41002008) (value 0)",
        ISHST,
        "tlbi vae2is (value 800000200)",
        ISH,
    ];
    assert_eq!(lines(0, &records), written);
}

#[test]
fn a_table_is_linked_in_one_place_alone() {
    let value = Descriptor::table(PhysAddr::literal(L3));
    let entry = entry(0x4100_2008, Level::L2, VA + Level::L2.bytes(), value);
    let old = Descriptor::INVALID;
    let further = Record::Event(event(Kind::Store { entry, old }));
    let none = "mem-write (mem-order plain) (address 41002008) (value 0)";
    assert_eq!(lines(0, &[further]), [none]);
    assert_eq!(all(0, &[further]).1.shared, 1);
}

#[test]
fn the_lower_half_and_what_casemate_has_no_name_for_are_counted() {
    let low = Entry {
        space: 3,
        ..entry(0x4300_0000, Level::L3, 0x1000, page(0x5000_0000))
    };
    let old = Descriptor::INVALID;
    let local = Tlbi {
        scope: Scope::All,
        last_level: false,
        broadcast: false,
        operand: 0,
    };
    let kinds = [
        Kind::Store { entry: low, old },
        Kind::Barrier(Barrier::Dmb(Domain::InnerShareable, Orders::All)),
        Kind::Barrier(Barrier::Dsb(Domain::NonShareable, Orders::All)),
        Kind::Barrier(Barrier::Dsb(Domain::InnerShareable, Orders::Loads)),
        Kind::Tlbi(local),
    ];
    let records = kinds.map(|kind| Record::Event(event(kind)));
    assert_eq!(lines(1, &records), [""; 0]);
    let (_, summary) = all(1, &records);
    let counts = (summary.lower_half, summary.barriers, summary.local);
    assert_eq!(counts, (1, 3, 1));
}

#[test]
fn a_trace_without_tables_is_refused() {
    let bytes = saved(&[dsb(Orders::All)]);
    let failure = convert(Trace::new(&bytes[..], "t").unwrap(), Vec::new()).unwrap_err();
    assert_eq!(
        failure.reason,
        "t has no tables that Casemate could be told of"
    );
}

#[test]
fn addresses_are_folded_to_48_bits() {
    assert_eq!(pending::folded(0xffff_8000_0000_1234), 0x8000_0000_1000);
    let named = |scope, operand| {
        let covered = entry(L3, Level::L3, VA, Descriptor::INVALID);
        let Record::Event(event) = tlbi(scope, operand) else {
            unreachable!()
        };
        let Kind::Tlbi(tlbi) = event.kind else {
            unreachable!()
        };
        covers(&tlbi, &covered, page(0x5000_0000))
    };
    let va = VirtAddr::literal(VA);
    assert!(named(Scope::Va, Operand::new(va, 0, None).bits()));
    assert!(named(
        Scope::Va,
        Operand::new(va, 0, Some(Level::L3)).bits()
    ));
    assert!(!named(
        Scope::Va,
        Operand::new(va, 0, Some(Level::L2)).bits()
    ));
    assert!(!named(Scope::Va, Operand::new(va + 0x1000, 0, None).bits()));
    // Sign bits in TTL: a level of another granule.
    assert!(!named(Scope::Va, VA >> 12));
    let range = |va, level| RangeOperand::new(va, 0, level, 0, 3).unwrap().bits();
    assert!(named(Scope::Range, range(va, None)));
    assert!(named(Scope::Range, range(va, Some(Level::L3))));
    assert!(!named(Scope::Range, range(va, Some(Level::L2))));
    assert!(!named(Scope::Range, range(va + 0x1000, None)));
    assert!(!named(Scope::Asid, 0));
}
