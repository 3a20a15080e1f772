//! A second opinion: `aarch64-paging`, which firmware and hypervisors use, maps the same ranges,
//! and every 64-bit entry of every table is the same, but for where the tables are.

use super::*;
use aarch64_paging::{
    descriptor::{El1Attributes, PhysicalAddress},
    paging::{Constraints, El1And0, MemoryRegion, RootTable, VaRange},
    target::TargetAllocator,
};
use proptest::prelude::*;
use vmsa::{Attributes, Kind};

/// Where their tables are said to be; the first one is the root.
const THEIRS: u64 = 0x9_0000_0000;

/// Their tree.
struct Other(RootTable<El1And0, TargetAllocator<El1Attributes>>);

impl Other {
    fn new() -> Self {
        let memory = TargetAllocator::new(THEIRS);
        Self(RootTable::with_va_range(memory, 0, El1And0, VaRange::Upper))
    }

    fn map(&mut self, range: PageRange, pa: PhysAddr, attributes: Attributes, pages_only: bool) {
        let mut constraints = Constraints::NO_CONTIGUOUS_HINT;
        constraints.set(Constraints::NO_BLOCK_MAPPINGS, pages_only);
        let start = number(range.start().as_u64());
        let region = MemoryRegion::new(start, start + number(range.bytes()));
        let flags =
            El1Attributes::from_bits_retain(number(attributes.bits())) | El1Attributes::VALID;
        let pa = PhysicalAddress(number(pa.as_u64()));
        self.0
            .map_range(&region, pa, flags, constraints)
            .expect("the other crate maps the range");
    }

    /// The entries that are not zero of every table, in the order in which those were made.
    fn tables(&self) -> Vec<Vec<(usize, u64)>> {
        let entry = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let in_use = |table: &[u8]| {
            let entries = table.chunks(8).map(entry).enumerate();
            entries.filter(|(_, bits)| *bits != 0).collect()
        };
        let bytes = self.0.translation().as_bytes();
        bytes.chunks(4096).map(in_use).collect()
    }
}

fn number(value: u64) -> usize {
    usize::try_from(value).expect("64-bit hosts only")
}

/// Compares both trees entry by entry.
fn compare(ours: &PageTable<&mut Arena>, other: &Other) {
    fn same(
        ours: &PageTable<&mut Arena>,
        theirs: &[Vec<(usize, u64)>],
        (table, number): (Frame, usize),
        level: Level,
    ) -> usize {
        const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
        let mut tables = 1;
        let our = ours.memory().in_use(table);
        assert_eq!(our.len(), theirs[number].len(), "entries at {level}");
        for ((index, our), (their_index, their)) in our.into_iter().zip(&theirs[number]) {
            assert_eq!(index, *their_index, "{level}");
            match (our.kind(level), level.next()) {
                (Kind::Table(next), Some(below)) => {
                    assert_eq!(
                        our.bits() & !ADDRESS,
                        *their & !ADDRESS,
                        "{level} [{index}]"
                    );
                    let number = ((their & ADDRESS) - THEIRS) / PAGE_SIZE;
                    let next = (Frame::containing(next), usize::try_from(number).unwrap());
                    tables += same(ours, theirs, next, below);
                }
                // They know no contiguous sets; `huge::tests` says where ours must be.
                _ => {
                    let contiguous = Attributes::CONTIGUOUS.bits();
                    assert_eq!(our.bits() & !contiguous, *their, "{level} [{index}]");
                }
            }
        }
        tables
    }
    let theirs = other.tables();
    let tables = same(ours, &theirs, (ours.root(), 0), Level::L0);
    assert_eq!(tables, theirs.len(), "they have made other tables too");
    assert_eq!(tables, ours.memory().used(), "so have we");
}

const SORTS: [Attributes; 4] = [
    Attributes::KERNEL_DATA,
    Attributes::KERNEL_RODATA,
    Attributes::KERNEL_TEXT,
    Attributes::DEVICE,
];

/// Maps a range offline, in blocks up to `largest`, and by pages as a live tree is.
fn both_ways(range: PageRange, pa: PhysAddr, attributes: Attributes) {
    for pages_only in [false, true] {
        if cfg!(miri) && !pages_only {
            continue; // reading the other crate's tables takes long there
        }
        let mut other = Other::new();
        other.map(range, pa, attributes, pages_only);
        let mut arena = Arena::new();
        let mut ours = tree(&mut arena);
        let largest = if pages_only { Level::L3 } else { Level::L1 };
        ours.map_offline(range, pa, attributes, largest).unwrap();
        compare(&ours, &other);
        if pages_only {
            let mut arena = Arena::new();
            let mut ours = tree(&mut arena);
            ours.apply_to_page_range(range, |leaf| {
                let at = pa + (leaf.va() - range.start());
                let new = Descriptor::leaf(Level::L3, at, attributes).expect("a page");
                leaf.set(leaf.get(), new);
                Ok(())
            })
            .unwrap();
            compare(&ours, &other);
        }
    }
}

#[test]
fn ranges_at_the_edges_of_tables_and_blocks() {
    let _machine = Machine::take();
    let ranges = [
        // One page; a page on each side of a level 2, 1 and 0 boundary; the ends of the half.
        (0xffff_8000_8000_0000, 1, 0x4020_0000),
        (0xffff_8000_801f_f000, 2, 0x4030_1000),
        (0xffff_8000_3fff_f000, 2, 0x4030_1000),
        (0xffff_807f_ffff_f000, 2, 0x4030_1000),
        // Not the very last page: their region has an exclusive end. The test below has it.
        (0xffff_ffff_ffff_d000, 2, 0xffff_ffff_d000),
        (0xffff_0000_0000_0000, 1, 0),
        // Blocks in the middle, pages at both ends; with 1 GiB in it, once.
        (0xffff_0000_401f_e000, 1030, 0x401f_e000),
        (0xffff_0000_3fff_f000, (1 << 18) + 514, 0x3fff_f000),
        // The output is not aligned as the input is: pages only.
        (0xffff_0000_4020_0000, 513, 0x4020_1000),
        // 2 MiB fit, 1 GiB do not.
        (0xffff_0000_4000_0000, 1 << 18, 0x8020_0000),
    ];
    for (start, pages, pa) in ranges {
        if cfg!(miri) && start != 0xffff_8000_801f_f000 {
            continue; // one will do: each reads tables entry by entry
        }
        let sorts = if cfg!(miri) || pages > 2000 { 1 } else { 4 };
        for attributes in &SORTS[..sorts] {
            both_ways(range(start, pages), PhysAddr::literal(pa), *attributes);
        }
    }
}

#[test]
fn the_top_of_the_address_space() {
    let _machine = Machine::take();
    // They cannot say it, so the last page alone is held against its neighbour.
    let mut arena = Arena::new();
    let mut tree = tree(&mut arena);
    let top = range(0xffff_ffff_ffff_e000, 2);
    let pa = PhysAddr::literal(0x4000_0000);
    tree.map_offline(top, pa, Attributes::KERNEL_DATA, Level::L1)
        .unwrap();
    let entries: Vec<_> = mapped(&tree).into_iter().collect();
    let expected = [
        (0xffff_ffff_ffff_e000, leaf(0x4000_0000)),
        (0xffff_ffff_ffff_f000, leaf(0x4000_1000)),
    ];
    assert_eq!(entries, expected);
    // A block that ends there.
    let mut arena = Arena::new();
    let mut tree = super::tree(&mut arena);
    tree.map_offline(
        range(0xffff_ffff_c000_0000, 1 << 18),
        pa,
        Attributes::KERNEL_DATA,
        Level::L1,
    )
    .unwrap();
    let block = Descriptor::leaf(Level::L1, pa, Attributes::KERNEL_DATA).unwrap();
    assert_eq!(
        tree.leaf(VirtAddr::literal(0xffff_ffff_ffff_ffff)),
        Some((block, Level::L1))
    );
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 1 } else { 48 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Any range, in blocks and in pages.
    #[test]
    fn any_range(
        start in 0..(1u64 << 36) - 3000,
        pages in 1..if cfg!(miri) { 4u64 } else { 2500 },
        output in 0..(1u64 << 36) - 3000,
        aligned: bool,
        sort in prop::sample::select(&SORTS[..]),
    ) {
        let _machine = Machine::take();
        // As often as not so that blocks fit.
        let mask = if aligned { !511 } else { !0 };
        let start = VirtAddr::literal(0xffff << 48 | (start & mask) << 12);
        let range = PageRange::new(start, pages).expect("3000 pages fit above");
        prop_assume!(range.last_byte() != VirtAddr::MAX);
        both_ways(range, PhysAddr::literal((output & mask) << 12), sort);
    }

    /// Several ranges of one tree, then permissions that change.
    #[test]
    fn many_ranges_then_other_permissions(
        ranges in prop::collection::vec((0u64..8, 0u64..4, 1u64..if cfg!(miri) { 3 } else { 200 }), 1..5),
        sort in prop::sample::select(&SORTS[..3]),
    ) {
        let _machine = Machine::take();
        let mut arena = Arena::new();
        let mut ours = tree(&mut arena);
        let mut other = Other::new();
        for (gigabyte, megabytes, pages) in ranges {
            let offset = gigabyte << 30 | megabytes << 21 | 0x1f_0000;
            let range = range(0xffff_8000_0000_0000 + offset, pages);
            let pa = PhysAddr::literal(0x4000_0000 + offset);
            for attributes in [Attributes::KERNEL_DATA, sort] {
                ours.apply_to_page_range(range, |leaf| {
                    let at = pa + (leaf.va() - range.start());
                    let old = leaf.get();
                    let new = if old.is_none() {
                        Descriptor::leaf(Level::L3, at, attributes).expect("a page")
                    } else {
                        old.with_attributes(attributes)
                    };
                    leaf.set(old, new);
                    Ok(())
                }).unwrap();
                other.map(range, pa, attributes, true);
            }
        }
        compare(&ours, &other);
    }
}
