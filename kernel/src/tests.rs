//! Kernel tests that belong to no one file: they take the parts together.

pub(crate) mod cpus;
mod fault;
mod interrupt;
mod oops;
#[cfg(feature = "oracle")]
mod oracle;
mod pages;
mod smp;
mod timer;
mod wx;

use crate::{
    ktest::Failure,
    mm::{
        testing::{must, trouble},
        vmalloc,
    },
};
use vmsa::{PAGE_SIZE, VirtAddr};

/// An address that nothing is ever mapped at, in a part of the upper half that has no table.
const NOWHERE: VirtAddr = VirtAddr::literal(0xffff_c800_0000_0000);

/// Pages of vmalloc space, zeroed; given back when the value is dropped.
struct Area(VirtAddr);

impl Area {
    fn new(pages: u64) -> Result<Self, Failure> {
        Ok(Self(must!(vmalloc::vzalloc(pages * PAGE_SIZE))))
    }

    /// The first address of a page.
    fn page(&self, n: u64) -> VirtAddr {
        self.0 + n * PAGE_SIZE
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        vmalloc::vfree(self.0).expect("the area is the test's own");
    }
}

/// What a fixup ought to have returned.
fn faulted<T, E>(result: Result<T, E>) -> Result<E, Failure> {
    result.err().ok_or(trouble("the access did not fault"))
}
