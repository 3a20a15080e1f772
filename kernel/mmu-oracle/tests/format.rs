//! The saved form of a trace: what is written is read back, and nothing else is.

mod common;

use mmu_oracle::{
    Event, Kind, Rule,
    event::{
        Access, Barrier, Boundary, Domain, Entry, Frames, LazyCall, Orders, Scope, SyncAccess,
        Tlbi, Window,
    },
    format::{
        DecodeError, End, Expected, HEADER_BYTES, Header, HeaderError, MAGIC, RECORD_BYTES, Record,
        decode, encode,
    },
};
use proptest::prelude::*;
use vmsa::{Descriptor, Level, PageRange, PhysAddr, VirtAddr};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 4096, ..Default::default() })]

    #[test]
    fn every_event_comes_back(event in common::event()) {
        prop_assert_eq!(decode(&encode(&event)), Ok(Record::Event(event)));
    }

    #[test]
    fn the_end_comes_back(events: u64, lost: u64) {
        let end = End { events, lost };
        prop_assert_eq!(decode(&end.encode()), Ok(Record::End(end)));
    }

    #[test]
    fn the_rules_broken_on_purpose_come_back(chosen in prop::sample::subsequence(Rule::ALL.to_vec(), 0..=Rule::ALL.len())) {
        let expected = Expected::new(chosen.iter().copied());
        prop_assert_eq!(decode(&expected.encode()), Ok(Record::Expected(expected)));
        prop_assert_eq!(expected.is_empty(), chosen.is_empty());
        for rule in Rule::ALL {
            prop_assert_eq!(expected.contains(rule), chosen.contains(&rule));
        }
    }

    #[test]
    fn what_is_read_would_be_written_so(bytes: [u8; RECORD_BYTES]) {
        if let Ok(record) = decode(&bytes) {
            let written = match record {
                Record::Event(event) => encode(&event),
                Record::Expected(expected) => expected.encode(),
                Record::End(end) => end.encode(),
            };
            prop_assert_eq!(written, bytes);
        }
    }

    /// Random bytes are refused at the first look; one byte changed gets further in.
    #[test]
    fn a_changed_byte_is_refused_or_is_another_event(
        event in common::event(),
        at in 0..RECORD_BYTES,
        byte: u8,
    ) {
        let mut bytes = encode(&event);
        let changed = bytes[at] != byte;
        bytes[at] = byte;
        if changed {
            prop_assert_ne!(decode(&bytes), Ok(Record::Event(event)));
        }
    }

    #[test]
    fn a_header_comes_back(ets2: bool, ticks_per_second: u64) {
        let header = Header { ets2, ticks_per_second };
        prop_assert_eq!(Header::decode(&header.encode()), Ok(header));
    }
}

#[test]
fn the_layout_is_what_is_documented() {
    let event = Event {
        time: 0x0807_0605_0403_0201,
        cpu: 3,
        task: 0x0c0b_0a09,
        kind: Kind::Store {
            entry: Entry {
                address: PhysAddr::literal(0x1615_1413_1210),
                va: VirtAddr::literal(0xffff_2524_2322_2120),
                level: Level::L2,
                space: 0x1918,
                value: Descriptor::from_bits(0x3736_3534_3332_3130),
            },
            old: Descriptor::from_bits(0x4746_4544_4342_4140),
        },
    };
    let documented: [u8; RECORD_BYTES] = [
        1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 3, 6, 2, 0, //
        0x10, 0x12, 0x13, 0x14, 0x15, 0x16, 0x18, 0x19, //
        0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0xff, 0xff, //
        0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, //
        0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, //
    ];
    assert_eq!(encode(&event), documented);
}

/// `kind`, `a` and `b` of every value of every enumeration, as documented: in the order of
/// declaration, from 0.
#[test]
fn enumerations_are_numbered_as_they_are_declared() {
    let of = |kind| {
        let (time, cpu, task) = (0, 0, 0);
        let bytes = encode(&Event {
            time,
            cpu,
            task,
            kind,
        });
        [bytes[13], bytes[14], bytes[15]]
    };
    let va = VirtAddr::literal(0);
    let range = PageRange::new(va, 1).unwrap();
    for (n, access) in (0..).zip([Access::Read, Access::Write, Access::Execute]) {
        assert_eq!(of(Kind::Access { va, access }), [17, n, 0]);
    }
    let scopes = [
        Scope::All,
        Scope::Asid,
        Scope::Va,
        Scope::VaAllAsids,
        Scope::Range,
        Scope::RangeAllAsids,
    ];
    for (n, scope) in (0..).zip(scopes) {
        let tlbi = |last_level, broadcast| {
            of(Kind::Tlbi(Tlbi {
                scope,
                last_level,
                broadcast,
                operand: 0,
            }))
        };
        assert_eq!(
            [tlbi(true, false), tlbi(false, true)],
            [[9, n, 1], [9, n, 2]]
        );
    }
    let domains = [
        Domain::NonShareable,
        Domain::InnerShareable,
        Domain::OuterShareable,
        Domain::FullSystem,
    ];
    for (domain, orders, b) in (0..4).flat_map(|d| {
        (0..3).map(move |o| {
            let orders = [Orders::Stores, Orders::Loads, Orders::All];
            (domains[d], orders[o], (d | o << 4) as u8)
        })
    }) {
        assert_eq!(of(Kind::Barrier(Barrier::Dsb(domain, orders))), [8, 0, b]);
        assert_eq!(of(Kind::Barrier(Barrier::Dmb(domain, orders))), [8, 1, b]);
    }
    assert_eq!(of(Kind::Barrier(Barrier::Isb)), [8, 2, 0]);
    let syncs = [
        (SyncAccess::Write { release: false }, [16, 0, 0]),
        (SyncAccess::Write { release: true }, [16, 0, 2]),
        (SyncAccess::Read { acquire: false }, [16, 1, 0]),
        (SyncAccess::Read { acquire: true }, [16, 1, 1]),
        (
            SyncAccess::ReadModifyWrite {
                acquire: true,
                release: false,
            },
            [16, 2, 1],
        ),
        (
            SyncAccess::ReadModifyWrite {
                acquire: false,
                release: true,
            },
            [16, 2, 2],
        ),
        (SyncAccess::Branch, [16, 3, 0]),
    ];
    for (access, bytes) in syncs {
        let variable = 8;
        assert_eq!(of(Kind::Sync { variable, access }), bytes);
    }
    let calls = [
        LazyCall::Enable,
        LazyCall::Disable,
        LazyCall::Pause,
        LazyCall::Resume,
    ];
    for (n, call) in (0..).zip(calls) {
        let (sections, pauses) = (2, 1);
        let lazy = |flushed| {
            of(Kind::Lazy {
                call,
                sections,
                pauses,
                flushed,
            })
        };
        assert_eq!([lazy(false), lazy(true)], [[23, n, 0], [23, n, 1]]);
    }
    for (n, window) in (0..).zip([Window::LazyPurge, Window::Shadow]) {
        assert_eq!(of(Kind::WindowOpened { window, range }), [24, n, 0]);
        assert_eq!(of(Kind::WindowClosed { window, range }), [25, n, 0]);
    }
    let boundaries = [
        Boundary::TaskExit,
        Boundary::ReturnToEl0,
        Boundary::Scene,
        Boundary::Command,
    ];
    for (n, boundary) in (0..).zip(boundaries) {
        assert_eq!(of(Kind::Boundary(boundary)), [26, n, 0]);
    }
    assert_eq!(of(Kind::ExceptionReturn { to_el0: true }), [14, 1, 0]);
}

#[test]
fn a_header_says_what_is_wrong_with_it() {
    let good = Header {
        ets2: true,
        ticks_per_second: 62_500_000,
    };
    let bytes = good.encode();
    assert_eq!(bytes[..8], MAGIC);
    assert_eq!(bytes[8..16], [RECORD_BYTES as u8, 0, 0, 0, 1, 0, 0, 0]);
    let with = |at: usize, byte: u8| {
        let mut bytes: [u8; HEADER_BYTES] = bytes;
        bytes[at] = byte;
        Header::decode(&bytes).unwrap_err()
    };
    assert_eq!(with(7, b'2'), HeaderError::Magic);
    assert_eq!(with(8, 40), HeaderError::RecordSize(40));
    assert_eq!(with(12, 3), HeaderError::Flags(3));
    assert_eq!(with(24, 1), HeaderError::Unused);
    assert_eq!(with(47, 1), HeaderError::Unused);
    assert_eq!(
        HeaderError::RecordSize(40).to_string(),
        "its records have 40 bytes, not 48"
    );
}

/// A record of a kind, with its small and wide fields.
fn record(kind: u8, [a, b]: [u8; 2], w: [u64; 4]) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[13..16].copy_from_slice(&[kind, a, b]);
    for (n, word) in w.iter().enumerate() {
        bytes[16 + 8 * n..][..8].copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

#[test]
fn a_record_says_what_is_wrong_with_it() {
    let refused = |kind, small, w| decode(&record(kind, small, w)).unwrap_err().to_string();
    let zero = [0; 4];
    assert_eq!(
        refused(0, [0, 0], zero),
        "unknown kind of record 0; known: 1 to 27, 254, 255"
    );
    assert_eq!(refused(6, [4, 0], zero), "unknown level 4");
    assert_eq!(refused(8, [3, 0], zero), "unknown barrier 3");
    assert_eq!(refused(8, [0, 4], zero), "unknown domain of a barrier 4");
    assert_eq!(refused(8, [0, 0x30], zero), "unknown order of a barrier 3");
    assert_eq!(refused(9, [0, 4], zero), "unknown flags of a TLBI 4");
    assert_eq!(
        refused(4, [0, 0], [1 << 48, 0, 0, 0]),
        "0x1000000000000 is no 48-bit physical address"
    );
    assert_eq!(
        refused(17, [0, 0], [1 << 63, 0, 0, 0]),
        "0x8000000000000000 is no canonical virtual address"
    );
    assert_eq!(
        refused(3, [0, 0], [0x1000, 0, 0, 0]),
        "0 pages from 0x1000 are no range of addresses"
    );
    assert_eq!(
        refused(19, [0, 0], [0x1000, u64::MAX, 0, 0]),
        "18446744073709551615 frames from 0x1000 are no range of frames"
    );
    assert_eq!(
        refused(15, [0, 0], [1 << 32, 0, 0, 0]),
        "4294967296 is too large for the number of the next task"
    );
    assert_eq!(
        refused(1, [0, 0], [0, 0, 0, 1]),
        "a field that kind 1 does not use is not zero"
    );
    assert_eq!(
        refused(254, [0, 0], [1 << 63, 0, 0, 0]),
        "9223372036854775808 is too large for the set of rules"
    );
    // ISB has no domain, a load no release.
    assert_eq!(
        decode(&record(8, [2, 1], zero)),
        Err(DecodeError::Unused(8))
    );
    assert_eq!(
        decode(&record(16, [1, 2], zero)),
        Err(DecodeError::Unused(16))
    );
    let mut bytes = record(1, [0, 0], zero);
    bytes[12] = 8;
    assert_eq!(
        decode(&bytes).unwrap_err().to_string(),
        "CPU 8; known: 0 to 7"
    );
}

/// The frames up to the very end of physical memory are frames.
#[test]
fn the_last_frame_can_be_saved() {
    let last = Frames {
        first: PhysAddr::literal(0xffff_ffff_f000),
        count: 1,
    };
    let event = Event {
        time: 0,
        cpu: 0,
        task: 0,
        kind: Kind::FramesFreed(last),
    };
    assert_eq!(decode(&encode(&event)), Ok(Record::Event(event)));
}
