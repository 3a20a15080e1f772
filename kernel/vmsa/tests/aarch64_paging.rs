//! A second opinion: the `aarch64-paging` crate, which firmware and hypervisors use,
//! maps a range, and every entry that it writes is what this crate would write.

use aarch64_paging::descriptor::{El1Attributes, PagingAttributes, PhysicalAddress};
use aarch64_paging::paging::{Constraints, El1And0, MemoryRegion, RootTable, VaRange};
use aarch64_paging::target::TargetAllocator;
use proptest::prelude::*;
use std::collections::BTreeSet;
use vmsa::walk::WalkResult;
use vmsa::{Attributes, Descriptor, Kind, Level, PTRS_PER_TABLE, PageRange, PhysAddr, VirtAddr};
use vmsa::{live_change, walk};

/// Where the tables are said to be; the first one is the root.
const TABLES: PhysAddr = PhysAddr::literal(0x8000_0000);

/// Tables that the other crate has written, as they would be in memory.
struct Memory(Vec<u8>);

impl Memory {
    /// Maps `range` to `output` with these attributes, by the other crate.
    fn mapped(
        range: PageRange,
        output: PhysAddr,
        attributes: Attributes,
        pages_only: bool,
    ) -> Self {
        let half = if range.start().is_upper() {
            VaRange::Upper
        } else {
            VaRange::Lower
        };
        let allocator = TargetAllocator::new(TABLES.as_u64());
        let mut root = RootTable::with_va_range(allocator, 0, El1And0, half);
        let mut constraints = Constraints::NO_CONTIGUOUS_HINT;
        constraints.set(Constraints::NO_BLOCK_MAPPINGS, pages_only);
        let start = number(range.start().as_u64());
        let region = MemoryRegion::new(start, start + number(range.bytes()));
        let flags = theirs(attributes) | El1Attributes::VALID;
        root.map_range(
            &region,
            PhysicalAddress(number(output.as_u64())),
            flags,
            constraints,
        )
        .expect("the other crate maps the range");
        Self(root.translation().as_bytes())
    }

    fn tables(&self) -> usize {
        self.0.len() / 4096
    }

    fn read(&self, at: PhysAddr) -> Descriptor {
        let offset = number(at - TABLES);
        let bytes = self.0[offset..offset + 8].try_into().expect("eight bytes");
        Descriptor::from_bits(u64::from_le_bytes(bytes))
    }
}

fn number(value: u64) -> usize {
    usize::try_from(value).expect("64-bit hosts only")
}

fn theirs(attributes: Attributes) -> El1Attributes {
    El1Attributes::from_bits_retain(number(attributes.bits()))
}

/// The largest leaf that may begin at `va` and `pa` and ends within `left` bytes.
fn largest_leaf(va: VirtAddr, pa: PhysAddr, left: u64, pages_only: bool) -> Level {
    let fits = |level: Level| {
        va.is_aligned(level.bytes()) && pa.is_aligned(level.bytes()) && left >= level.bytes()
    };
    let blocks = [Level::L1, Level::L2];
    blocks
        .into_iter()
        .find(|level| !pages_only && fits(*level))
        .unwrap_or(Level::L3)
}

/// Maps by the other crate, and compares every 64-bit entry of every table.
fn compare(range: PageRange, output: PhysAddr, attributes: Attributes, pages_only: bool) {
    let memory = Memory::mapped(range, output, attributes, pages_only);
    let mut expected_leaves = BTreeSet::new();
    let mut tables = BTreeSet::from([TABLES]);
    let mut done = 0;
    while done < range.bytes() {
        let (va, pa) = (range.start() + done, output + done);
        let level = largest_leaf(va, pa, range.bytes() - done, pages_only);
        let walk = walk(TABLES, va, |at| memory.read(at));
        let step = walk.last();
        let ours = Descriptor::leaf(level, pa, attributes).expect("aligned");
        assert_eq!(
            (step.level, step.descriptor),
            (level, ours),
            "at {va} of {range:?}"
        );
        assert_eq!(
            walk.result(),
            WalkResult::Mapped {
                output: pa,
                level,
                attributes
            }
        );
        expected_leaves.insert(step.entry);
        for above in &walk.steps()[..walk.steps().len() - 1] {
            let Kind::Table(table) = above.descriptor.kind(above.level) else {
                panic!("{above:?} is not a table");
            };
            assert_eq!(above.descriptor, Descriptor::table(table));
            expected_leaves.insert(above.entry);
            tables.insert(table);
        }
        done += level.bytes();
    }
    // All else is zero.
    assert_eq!(tables.len(), memory.tables());
    for table in tables {
        for n in 0..PTRS_PER_TABLE as u64 {
            let entry = table + 8 * n;
            if !expected_leaves.contains(&entry) {
                assert!(memory.read(entry).is_none(), "{entry} of {range:?}");
            }
        }
    }
}

const SORTS: [Attributes; 4] = [
    Attributes::KERNEL_DATA,
    Attributes::KERNEL_RODATA,
    Attributes::KERNEL_TEXT,
    Attributes::DEVICE,
];

#[test]
fn attribute_bits_have_the_same_place() {
    let pairs = [
        (Attributes::ATTR_INDEX_0, El1Attributes::ATTRIBUTE_INDEX_1),
        (Attributes::ATTR_INDEX_1, El1Attributes::ATTRIBUTE_INDEX_2),
        (Attributes::ATTR_INDEX_2, El1Attributes::ATTRIBUTE_INDEX_4),
        (Attributes::ATTR_INDEX, El1Attributes::ATTRIBUTE_INDEX_MASK),
        (Attributes::NS, El1Attributes::NS),
        (Attributes::AP_EL0, El1Attributes::USER),
        (Attributes::AP_READ_ONLY, El1Attributes::READ_ONLY),
        (Attributes::SH_OUTER, El1Attributes::OUTER_SHAREABLE),
        (Attributes::SH_INNER, El1Attributes::INNER_SHAREABLE),
        (Attributes::AF, El1Attributes::ACCESSED),
        (Attributes::NG, El1Attributes::NON_GLOBAL),
        (Attributes::GP, El1Attributes::GP),
        (Attributes::DBM, El1Attributes::DBM),
        (
            Attributes::CONTIGUOUS,
            El1Attributes::CONTIGUOUS_OR_PROTECTED,
        ),
        (Attributes::PXN, El1Attributes::PXN),
        (Attributes::UXN, El1Attributes::UXN),
        (Attributes::SW_0, El1Attributes::SWFLAG_0),
        (Attributes::SW_1, El1Attributes::SWFLAG_1),
        (Attributes::SW_2, El1Attributes::SWFLAG_2),
        (Attributes::SW_3, El1Attributes::SWFLAG_3),
    ];
    for (ours, other) in pairs {
        assert_eq!(number(ours.bits()), other.bits(), "{ours:?}");
    }
}

#[test]
fn ranges_of_both_halves() {
    let ranges = [
        // One page; a page on each side of a level 2, 1 and 0 boundary; the ends of the halves.
        (0xffff_8000_8000_0000, 1, 0x4020_0000),
        (0xffff_8000_801f_f000, 2, 0x4030_1000),
        (0xffff_8000_3fff_f000, 2, 0x4030_1000),
        (0xffff_807f_ffff_f000, 2, 0x4030_1000),
        // (not the very last page: their region has an exclusive end).
        (0xffff_ffff_ffff_d000, 2, 0xffff_ffff_d000),
        (0xffff_0000_0000_0000, 1, 0),
        (0x0000_ffff_ffff_e000, 2, 0x4000_0000),
        // Blocks of 2 MiB in the middle, pages at both ends; then with 1 GiB.
        (0xffff_0000_401f_e000, 1030, 0x401f_e000),
        (0xffff_0000_3fff_f000, 262_144 + 514, 0x3fff_f000),
        // The output is not aligned as the input is: pages only.
        (0xffff_0000_4020_0000, 513, 0x4020_1000),
    ];
    for (start, pages, output) in ranges {
        if cfg!(miri) && (pages > 2 || start >> 32 != 0xffff_ffff) {
            continue; // one case will do there: each fills tables entry by entry
        }
        let range = PageRange::new(VirtAddr::literal(start), pages).unwrap();
        for attributes in SORTS
            .into_iter()
            .take(if cfg!(miri) { 1 } else { SORTS.len() })
        {
            compare(range, PhysAddr::literal(output), attributes, false);
        }
    }
}

#[test]
fn page_granular_where_blocks_would_fit() {
    let pages = if cfg!(miri) { 4 } else { 1536 };
    let range = PageRange::new(VirtAddr::literal(0xffff_0000_4000_0000), pages).unwrap();
    compare(
        range,
        PhysAddr::literal(0x4000_0000),
        Attributes::KERNEL_DATA,
        true,
    );
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 1 } else { 64 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_range(
        start in 0..1u64 << 36,
        pages in 1..if cfg!(miri) { 4u64 } else { 1500 },
        output in 0..(1u64 << 36) - 1500,
        upper: bool,
        sort in prop::sample::select(&SORTS[..]),
        pages_only: bool,
    ) {
        let half = if upper { 0xffff << 48 } else { 0 };
        let start = VirtAddr::literal(half | start << 12);
        let Some(range) = PageRange::new(start, pages) else { return Ok(()) };
        prop_assume!(range.last_byte() != VirtAddr::MAX); // which they cannot express
        compare(range, PhysAddr::literal(output << 12), sort, pages_only);
    }

    /// Their rule lets through nothing that ours refuses, but for contiguous entries, of
    /// which they let the other attributes change. Ours lets through two more: AP[1] and GP.
    #[test]
    fn live_changes(old: u64, new: u64, same: u64) {
        // Few differences, or nearly every pair would be refused by both.
        let new = old ^ (new & same & old.rotate_left(17));
        let page = |bits| {
            Descriptor::leaf(Level::L3, PhysAddr::literal(0x1000), Attributes::from_bits_truncate(bits)).unwrap()
        };
        let (old, new) = (page(old), page(new));
        let raw = |page: Descriptor| El1Attributes::from_bits_retain(number(page.bits()));
        let they_allow = El1Attributes::is_bbm_safe(raw(old), raw(new));
        let we_allow = live_change(old, new, Level::L3).is_one_store();
        let either = old.attributes() | new.attributes();
        if they_allow && !either.contains(Attributes::CONTIGUOUS) {
            prop_assert!(we_allow, "{old:?} {new:?}");
        }
        let changed = old.attributes() ^ new.attributes();
        if we_allow && !changed.intersects(Attributes::AP_EL0 | Attributes::GP) {
            prop_assert!(they_allow, "{old:?} {new:?}");
        }
    }
}
