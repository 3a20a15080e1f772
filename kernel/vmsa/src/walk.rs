//! A translation table walk as a pure function, for reports: it reads through a
//! closure, takes no lock, and shows each entry on the way.

use crate::addr::{PhysAddr, VirtAddr};
use crate::attributes::Attributes;
use crate::descriptor::{Descriptor, Kind};
use crate::level::{Level, PTRS_PER_TABLE};
use core::fmt;

/// Bytes of a descriptor.
const DESCRIPTOR_BYTES: u64 = 8;

/// One entry that a walk read.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Step {
    /// The level of the table.
    pub level: Level,
    /// Where the entry is.
    pub entry: PhysAddr,
    /// What it held.
    pub descriptor: Descriptor,
}

/// How a walk ended.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum WalkResult {
    /// A block or page maps the address.
    Mapped {
        /// The physical address, with the offset inside the block or page.
        output: PhysAddr,
        /// The level of the leaf.
        level: Level,
        /// The leaf's own attributes; what tables above restrict
        /// (`APTable`, `PXNTable`) is not considered.
        attributes: Attributes,
    },
    /// The entry at this level is invalid, or has a reserved encoding: a translation fault.
    Fault(Level),
}

/// A walk: the entries that were read, from the root down, and how it ended.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Walk {
    /// The first `len` are real; the others repeat the last.
    steps: [Step; 4],
    /// 1 to 4.
    len: usize,
    /// The end.
    result: WalkResult,
}

impl Walk {
    /// The entries that were read, one to four.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps[..self.len]
    }

    /// How the walk ended.
    #[must_use]
    pub const fn result(&self) -> WalkResult {
        self.result
    }

    /// The entry that the walk ended with, valid or not.
    #[must_use]
    pub const fn last(&self) -> Step {
        self.steps[self.len - 1]
    }
}

/// Where the entry for `va` is in the `level` table at `table`.
///
/// # Panics
///
/// If `table` is not the start of a frame.
#[must_use]
pub const fn entry_address(table: PhysAddr, level: Level, va: VirtAddr) -> PhysAddr {
    assert!(table.is_page_aligned(), "a table fills a frame");
    let offset = level.index(va) as u64 * DESCRIPTOR_BYTES;
    table
        .checked_add(offset)
        .expect("the entry is in the table's frame")
}

// A table is one frame.
const _: () = assert!(PTRS_PER_TABLE as u64 * DESCRIPTOR_BYTES == crate::addr::PAGE_SIZE);

/// Walks the tables under the level 0 table `root` for `va`, as the hardware would (DDI 0487,
/// chapter D8, "Translation process"), reading each entry with `read`, which is given its physical
/// address.
///
/// `root` is the base address of `TTBR1_EL1` for an upper-half address, else of `TTBR0_EL1`.
/// The walk does not look at TLBs: it tells what the tables say now.
///
/// # Panics
///
/// If `root` is not the start of a frame.
///
/// ```
/// use vmsa::walk::WalkResult;
/// use vmsa::{Attributes, Descriptor, Level, PhysAddr, VirtAddr, walk};
///
/// // A root whose every entry leads to a table of 1 GiB blocks.
/// let block = Descriptor::leaf(Level::L1, PhysAddr::literal(1 << 30), Attributes::KERNEL_DATA);
/// let read = |entry: PhysAddr| match entry.align_down(4096).as_u64() {
///     0x1000 => Descriptor::table(PhysAddr::literal(0x2000)),
///     _ => block.unwrap(),
/// };
/// let walk = walk(PhysAddr::literal(0x1000), VirtAddr::literal(0x42), read);
/// assert_eq!(walk.steps().len(), 2);
/// assert!(matches!(
///     walk.result(),
///     WalkResult::Mapped { output, level: Level::L1, .. } if output.as_u64() == (1 << 30) + 0x42
/// ));
/// ```
pub fn walk(root: PhysAddr, va: VirtAddr, mut read: impl FnMut(PhysAddr) -> Descriptor) -> Walk {
    let mut step = |table, level| {
        let entry = entry_address(table, level, va);
        Step {
            level,
            entry,
            descriptor: read(entry),
        }
    };
    let mut steps = [step(root, Level::L0); 4];
    let mut len = 1;
    loop {
        let Step {
            level, descriptor, ..
        } = steps[len - 1];
        let result = match (descriptor.kind(level), level.next()) {
            (Kind::Table(table), Some(below)) => {
                steps[len..].fill(step(table, below));
                len += 1;
                continue;
            }
            (Kind::Block(base) | Kind::Page(base), _) => WalkResult::Mapped {
                output: base + (va.as_u64() & (level.bytes() - 1)),
                level,
                attributes: descriptor.attributes(),
            },
            (Kind::Invalid | Kind::Reserved | Kind::Table(_), _) => WalkResult::Fault(level),
        };
        return Walk { steps, len, result };
    }
}

impl fmt::Display for Walk {
    /// The entries in one line, from the root down, as in a Linux oops (less its `p4d`, which
    /// repeats `pgd` where there are four levels): `pgd=0000000080010003, pud=...`; the last shown
    /// is the one the walk ended with.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 4] = ["pgd", "pud", "pmd", "pte"];
        for (n, step) in self.steps().iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            let name = NAMES[usize::from(step.level.as_u8())];
            write!(f, "{comma}{name}={:016x}", step.descriptor)?;
        }
        Ok(())
    }
}
