//! The lines.

use super::pending::{Pending, Step, Why, folded, is_table};
use super::tables::Tables;
use mmu_oracle::event::{Entry, Orders};
use std::io::{Result, Write};
use vmsa::{Descriptor, Level, VirtAddr};

/// Writes lines and counts them.
pub struct Lines<W> {
    out: W,
    count: u64,
}

impl<W: Write> Lines<W> {
    /// No line yet.
    pub fn new(out: W) -> Self {
        Self { out, count: 0 }
    }

    /// How many there are.
    pub fn finish(mut self) -> Result<u64> {
        self.out.flush()?;
        Ok(self.count)
    }

    /// One line: what it is called, and what it says.
    fn line(&mut self, name: &str, why: Why, what: std::fmt::Arguments<'_>) -> Result<()> {
        self.count += 1;
        let (id, cpu, record) = (self.count, why.cpu, why.record);
        writeln!(
            self.out,
            "({name} (id {id}) (tid {cpu}) {what} (src \"mmu.trace:{record}\"))"
        )
    }

    /// The initial tables, and the write of TTBR that makes them the tables.
    ///
    /// The checker takes TCR_EL2 to say 48 bits and 4 KiB, which is so, where it is told nothing.
    pub fn initial(&mut self, why: Why, tables: &Tables) -> Result<()> {
        let root = tables.root();
        for page in tables.pages() {
            self.page(why, page)?;
        }
        // The kernel's tables have no lock of their own.
        self.hint(why, "set_root_lock", root, root)?;
        for page in tables.pages().filter(|page| *page != root) {
            self.hint(why, "set_owner_root", page, root)?;
        }
        for (address, value) in tables.values() {
            self.store(why, address, value)?;
        }
        self.ttbr(why, root)
    }

    /// TTBR1_EL1 was written, which is TTBR0_EL2 here: without ASID and CnP.
    pub fn ttbr(&mut self, why: Why, value: u64) -> Result<()> {
        let value = folded(value);
        let what = format_args!("(sysreg ttbr0_el2) (value {value:x})");
        self.line("sysreg-write", why, what)
    }

    fn hint(&mut self, why: Why, kind: &str, location: u64, value: u64) -> Result<()> {
        let what = format_args!("(kind {kind}) (location {location:x}) (value {value:x})");
        self.line("hint", why, what)
    }

    /// A page of zeroes.
    fn page(&mut self, why: Why, page: u64) -> Result<()> {
        self.line(
            "mem-init",
            why,
            format_args!("(address {page:x}) (size 1000)"),
        )
    }

    /// A page becomes a table; the entries at `left` held something when it was one before.
    pub fn new_table(&mut self, why: Why, page: u64, root: u64, left: &[u64]) -> Result<()> {
        for address in left {
            self.store(why, *address, Descriptor::INVALID)?;
        }
        self.page(why, page)?;
        self.hint(why, "set_owner_root", page, root)
    }

    /// An entry is stored.
    pub fn store(&mut self, why: Why, address: u64, value: Descriptor) -> Result<()> {
        let value = value.bits();
        let what = format_args!("(mem-order plain) (address {address:x}) (value {value:x})");
        self.line("mem-write", why, what)
    }

    /// ISB.
    pub fn isb(&mut self, why: Why) -> Result<()> {
        self.line("barrier", why, format_args!("isb"))
    }

    /// A DSB that orders stores.
    pub fn dsb(&mut self, why: Why, orders: Orders) -> Result<()> {
        let kind = if orders == Orders::Stores {
            "ishst"
        } else {
            "ish"
        };
        self.line("barrier", why, format_args!("dsb (kind {kind})"))
    }

    /// The TLBI of one entry that held `old`.
    ///
    /// Casemate's VALE2IS is for pages and not for blocks, and the removal of a table is clean for
    /// some of its versions only after a TLBI for all.
    pub fn tlbi_of(
        &mut self,
        why: Why,
        entry: &Entry,
        old: Descriptor,
        leaf_only: bool,
    ) -> Result<()> {
        if is_table(entry, old) {
            self.line("tlbi", why, format_args!("alle2is"))
        } else {
            self.tlbi_of_page(why, entry.va, leaf_only && entry.level == Level::L3)
        }
    }

    /// The TLBI of a page.
    pub fn tlbi_of_page(&mut self, why: Why, va: VirtAddr, leaf_only: bool) -> Result<()> {
        let name = if leaf_only { "vale2is" } else { "vae2is" };
        let page = folded(va.as_u64()) >> 12;
        self.line("tlbi", why, format_args!("{name} (value {page:x})"))
    }

    /// The flush of a few entries, which `dsb` completes.
    pub fn flush(&mut self, group: &[Pending], dsb: Why) -> Result<()> {
        for pending in group {
            self.made_invalid(pending)?;
        }
        for (n, pending) in group.iter().enumerate() {
            let Step::Invalidated {
                dsb: (dsb, orders),
                tlbi,
                leaf_only,
            } = pending.step
            else {
                continue;
            };
            if n == 0 {
                self.dsb(dsb, orders)?;
            }
            self.tlbi_of(tlbi, &pending.entry, pending.old, leaf_only)?;
        }
        self.dsb(dsb, Orders::All)
    }

    /// The flush of an entry as far as it came.
    pub fn unfinished(&mut self, pending: &Pending) -> Result<()> {
        self.made_invalid(pending)?;
        match pending.step {
            Step::Stored => Ok(()),
            Step::Ordered(dsb, orders) => self.dsb(dsb, orders),
            Step::Invalidated {
                dsb: (dsb, orders),
                tlbi,
                leaf_only,
            } => {
                self.dsb(dsb, orders)?;
                self.tlbi_of(tlbi, &pending.entry, pending.old, leaf_only)
            }
        }
    }

    /// The store, and the TLBI that came too early to be of use.
    fn made_invalid(&mut self, pending: &Pending) -> Result<()> {
        let address = pending.entry.address.as_u64();
        self.store(pending.why, address, pending.entry.value)?;
        match pending.in_vain {
            Some((why, leaf_only)) => self.tlbi_of(why, &pending.entry, pending.old, leaf_only),
            None => Ok(()),
        }
    }
}
