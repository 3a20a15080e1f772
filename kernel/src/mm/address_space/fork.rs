//! A copy of an address space that shares its pages until one of the two writes to them.

use super::{AddressSpace, Error, Inner, table::Tables};
use crate::{
    bug::{Bug, planted},
    mm::{lazy, shares, user_tlb::Changed},
};
use core::ops::ControlFlow;
use vmsa::{Attributes, Descriptor, Frame, Level};

impl AddressSpace {
    /// A copy: the same regions, the same pages, none of them writable in either until a fault says
    /// that it is to be written.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::TooManySpaces`]. Pages that have become read-only in this one
    /// stay so until they are written.
    pub fn fork(&self) -> Result<Self, Error> {
        let child = Self::create()?;
        let mut space = self.0.lock();
        let copied = {
            // The only lock that is taken inside another of its kind: nobody else knows of the child.
            let mut new = child.0.lock();
            copy(space.inner(), new.inner())
        };
        // On failure, too: some pages may have become read-only.
        if !planted(Bug::ForkNoTlbi) {
            // Before anybody has the child. A write by way of an old translation would be to a page
            // that is shared by then.
            space.flush(Changed::All);
        }
        drop(space);
        // If it failed the child is dropped, and gives back what it has.
        copied.map(|()| child)
    }
}

fn copy(parent: &mut Inner, child: &mut Inner) -> Result<(), Error> {
    for region in parent.regions.all() {
        child
            .regions
            .set(region.range(), Some(region.protection()))?;
    }
    for region in parent.regions.all() {
        let (from, to) = (&parent.tables, &child.tables);
        let stopped = from.visit(region.range(), |leaves| {
            // The table before the section: nothing is allocated in it.
            let made = to.make_leaf(leaves.start);
            if let Err(error) = made {
                return ControlFlow::Break(error);
            }
            let _section = lazy::section();
            for (entry, va) in leaves.each() {
                let old = entry.load();
                // In the same table as the first.
                if let (false, Some(copy)) = (old.is_none(), to.leaf(va)) {
                    share(from, to, (entry, copy), va, old);
                }
            }
            ControlFlow::Continue(())
        });
        if let ControlFlow::Break(error) = stopped {
            return Err(error.into());
        }
    }
    Ok(())
}

/// Has the entries of parent and child, in this order, share a page.
fn share(
    from: &Tables,
    to: &Tables,
    entries: (crate::arch::entry::Entry, crate::arch::entry::Entry),
    va: vmsa::VirtAddr,
    old: Descriptor,
) {
    let Some(output) = old.output_ignoring_valid(Level::L3) else {
        return;
    };
    shares::share(Frame::containing(output));
    let new = old.with_attributes(old.attributes() | Attributes::AP_READ_ONLY);
    if new != old {
        from.store(entries.0, va, old, new);
    }
    to.store(entries.1, va, Descriptor::INVALID, new);
}
