//! The tables as Casemate knows them.

use mmu_oracle::event::Entry;
use std::collections::{BTreeMap, BTreeSet};
use vmsa::{Descriptor, Kind, Level, PTRS_PER_TABLE, PhysAddr};

/// The tables: their pages, what is in them, and which of them a walk can come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// By physical address; what is not here is zero.
    values: BTreeMap<u64, Descriptor>,
    /// Pages that Casemate knows as memory.
    pages: BTreeSet<u64>,
    /// Those that a walk from the root comes to, with their levels.
    linked: BTreeMap<u64, Level>,
    /// Tables, and the one entry that Casemate knows to lead there.
    leads: BTreeMap<u64, u64>,
    /// The table of level 0.
    root: Option<u64>,
}

impl Tables {
    /// Whether nothing was set so far.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// The table of level 0; 0 before it is known.
    pub fn root(&self) -> u64 {
        self.root.unwrap_or_default()
    }

    /// The pages that Casemate must know before the entry is stored, and does not: its table, and
    /// the one that it leads to.
    pub fn unknown_pages(&self, entry: &Entry) -> Vec<u64> {
        let mut pages = vec![page(entry.address.as_u64())];
        if let Kind::Table(table) = entry.value.kind(entry.level) {
            pages.push(table.as_u64());
        }
        pages.retain(|page| !self.pages.contains(page));
        pages
    }

    /// Whether a walk can come to the entry.
    pub fn is_linked(&self, address: u64) -> bool {
        self.linked.contains_key(&page(address))
    }

    /// What the entry holds.
    pub fn value(&self, address: u64) -> Descriptor {
        self.values.get(&address).copied().unwrap_or_default()
    }

    /// Every page, in ascending order.
    pub fn pages(&self) -> impl Iterator<Item = u64> {
        self.pages.iter().copied()
    }

    /// Every entry that is not zero, in ascending order.
    pub fn values(&self) -> impl Iterator<Item = (u64, Descriptor)> {
        self.values
            .iter()
            .map(|(address, value)| (*address, *value))
    }

    /// An entry is stored.
    pub fn set(&mut self, entry: &Entry) {
        let address = entry.address.as_u64();
        self.pages.insert(page(address));
        if entry.level == Level::L0 {
            self.root.get_or_insert(page(address));
        }
        self.forget(address);
        if !entry.value.is_none() {
            self.values.insert(address, entry.value);
        }
        if let Kind::Table(table) = entry.value.kind(entry.level) {
            self.pages.insert(table.as_u64());
            self.leads.insert(table.as_u64(), address);
            if let Some(below) = entry.level.next().filter(|_| self.is_linked(address)) {
                self.link(table, below);
            }
        }
    }

    /// Whether the entry leads to a table that another one leads to already. Casemate takes no table
    /// that is in two places.
    pub fn is_shared(&self, entry: &Entry) -> bool {
        let address = entry.address.as_u64();
        match entry.value.kind(entry.level) {
            Kind::Table(table) => self
                .leads
                .get(&table.as_u64())
                .is_some_and(|other| *other != address),
            _ => false,
        }
    }

    /// The entry holds nothing.
    fn forget(&mut self, address: u64) {
        let Some(old) = self.values.remove(&address) else {
            return;
        };
        // Whether it led to a table or mapped a page: no table is there that another entry leads to.
        if let Kind::Table(table) = old.kind(Level::L0) {
            let table = table.as_u64();
            if self.leads.get(&table) == Some(&address) {
                self.leads.remove(&table);
            }
        }
    }

    /// A walk can come to the root and all below it.
    pub fn link_root(&mut self) {
        if let Some(root) = self.root.and_then(PhysAddr::new) {
            self.link(root, Level::L0);
        }
    }

    fn link(&mut self, table: PhysAddr, level: Level) {
        if self.linked.insert(table.as_u64(), level).is_some() {
            return;
        }
        let below: Vec<_> = self.below(table.as_u64(), level).collect();
        if let Some(level) = level.next() {
            for table in below {
                self.link(table, level);
            }
        }
    }

    /// The tables that the entries of a table lead to.
    fn below(&self, table: u64, level: Level) -> impl Iterator<Item = PhysAddr> {
        let end = table + 8 * PTRS_PER_TABLE as u64;
        self.values
            .range(table..end)
            .filter_map(move |(_, value)| match value.kind(level) {
                Kind::Table(table) => Some(table),
                _ => None,
            })
    }

    /// A walk can no longer come to where `old` led.
    pub fn unlink(&mut self, old: Descriptor) {
        // At every level but the last a table descriptor is the same.
        let Kind::Table(table) = old.kind(Level::L0) else {
            return;
        };
        if let Some(level) = self.linked.remove(&table.as_u64()) {
            let below: Vec<_> = self.below(table.as_u64(), level).collect();
            for table in below {
                self.unlink(Descriptor::table(table));
            }
        }
    }

    /// A page becomes a table, full of zeroes: the entries that Casemate takes for something else.
    pub fn allocated(&mut self, table: u64) -> Vec<u64> {
        self.pages.insert(table);
        let end = table + 8 * PTRS_PER_TABLE as u64;
        let left: Vec<_> = self.values.range(table..end).map(|(at, _)| *at).collect();
        for address in &left {
            self.forget(*address);
        }
        left
    }
}

fn page(address: u64) -> u64 {
    address & !0xfff
}
