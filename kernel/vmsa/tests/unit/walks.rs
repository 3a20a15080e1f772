//! The walker over tables that are made for each case.

use crate::{config, virtual_address};
use proptest::prelude::*;
use std::collections::BTreeMap;
use vmsa::walk::{WalkResult, entry_address};
use vmsa::{Attributes, Descriptor, Level, PhysAddr, VirtAddr, walk};

const ROOT: PhysAddr = PhysAddr::literal(0x8000_0000);

/// Memory with nothing but the entries of one path, from the root to a leaf or a stop.
struct Path(BTreeMap<u64, Descriptor>);

impl Path {
    /// Tables from the root down to `level`, whose entry for `va` is `last`.
    fn new(va: VirtAddr, level: Level, last: Descriptor) -> Self {
        let mut entries = BTreeMap::new();
        let (mut table, mut at) = (ROOT, Level::L0);
        while at != level {
            let next = table + 0x1_0000;
            entries.insert(
                entry_address(table, at, va).as_u64(),
                Descriptor::table(next),
            );
            (table, at) = (next, at.next().unwrap());
        }
        entries.insert(entry_address(table, at, va).as_u64(), last);
        Self(entries)
    }

    /// What is at an address: an entry of the path, or zero.
    fn read(&self, at: PhysAddr) -> Descriptor {
        self.0.get(&at.as_u64()).copied().unwrap_or_default()
    }
}

#[test]
fn a_walk_stops_at_the_first_entry_that_leads_nowhere() {
    let va = VirtAddr::literal(0xffff_8000_8123_4567);
    let reserved = Descriptor::from_bits(0b01);
    for level in Level::ALL {
        let mut stops = vec![Descriptor::INVALID, Descriptor::from_bits(0xdead_beef_0000)];
        if matches!(level, Level::L0 | Level::L3) {
            stops.push(reserved);
        }
        for stop in stops {
            let path = Path::new(va, level, stop);
            let walk = walk(ROOT, va, |at| path.read(at));
            assert_eq!(walk.result(), WalkResult::Fault(level));
            assert_eq!(walk.steps().len(), usize::from(level.as_u8()) + 1);
            assert_eq!((walk.last().level, walk.last().descriptor), (level, stop));
        }
    }
}

#[test]
fn a_walk_reads_each_entry_once_and_in_order() {
    let va = VirtAddr::literal(0xffff_8000_8000_1000);
    let page = Descriptor::leaf(
        Level::L3,
        PhysAddr::literal(0x1000),
        Attributes::KERNEL_TEXT,
    )
    .unwrap();
    let path = Path::new(va, Level::L3, page);
    let mut seen = Vec::new();
    let walk = walk(ROOT, va, |at| {
        seen.push(at);
        path.read(at)
    });
    let steps: Vec<_> = walk.steps().iter().map(|step| step.entry).collect();
    assert_eq!(seen, steps);
    let by_hand = [0x8000_0800u64, 0x8001_0010, 0x8002_0000, 0x8003_0008].map(PhysAddr::literal);
    assert_eq!(steps, by_hand);
    assert_eq!(
        walk.to_string(),
        "pgd=0000000080010003, pud=0000000080020003, pmd=0000000080030003, pte=0040000000001783"
    );
}

#[test]
#[should_panic(expected = "fills a frame")]
fn a_root_inside_a_frame_panics() {
    let _ = walk(ROOT + 8, VirtAddr::literal(0), |_| Descriptor::INVALID);
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_leaf_translates(
        va in virtual_address(),
        pa in 0..1u64 << 48,
        level in prop::sample::select(vec![Level::L1, Level::L2, Level::L3]),
        bits in any::<u64>(),
    ) {
        let base = PhysAddr::literal(pa).align_down(level.bytes());
        let attributes = Attributes::from_bits_truncate(bits);
        let path = Path::new(va, level, Descriptor::leaf(level, base, attributes).unwrap());
        let walk = walk(ROOT, va, |at| path.read(at));
        let output = base + va.as_u64() % level.bytes();
        prop_assert_eq!(walk.result(), WalkResult::Mapped { output, level, attributes });
        prop_assert_eq!(walk.steps().len(), usize::from(level.as_u8()) + 1);

        // The next entry's addresses are not mapped.
        let next = va.align_down(level.bytes()).checked_add(level.bytes());
        if let Some(next) = next {
            let beyond = vmsa::walk(ROOT, next, |at| path.read(at));
            prop_assert!(matches!(beyond.result(), WalkResult::Fault(_)));
        }
    }
}
