//! Entries stored, and accesses through them.

use super::Oracle;
use crate::{
    event::{Access, Entry, Event},
    pool::By,
    record::{LinkRead, Live, NewTable, Stale, Stamp, address_key, is_cacheable},
    rule::Rule,
    violation::{Past, Violation, What},
};
use vmsa::{Attributes, Descriptor, Kind, Level, LiveChange, PhysAddr, VirtAddr, live_change};

const LEVELS: [Level; 4] = [Level::L0, Level::L1, Level::L2, Level::L3];

impl Oracle<'_> {
    /// An entry that was there before the first event. Of the linear map nothing need be
    /// remembered: a frame may be freed while it is mapped there.
    pub(super) fn snapshot(&mut self, event: &Event, entry: Entry) -> Option<Violation> {
        let linear = self
            .linear_map
            .is_some_and(|range| range.contains(entry.va));
        if linear || !is_cacheable(entry.value, entry.level) {
            return None;
        }
        // Store 0: before everything, and seen by all.
        let seen = Stamp::new(event, self.order.before_everything(event.cpu));
        match self.live.insert(Live::new(entry, seen)) {
            Ok(()) => None,
            Err(_) => self.memory_full(),
        }
    }

    pub(super) fn store(
        &mut self,
        event: &Event,
        entry: Entry,
        old: Descriptor,
    ) -> Option<Violation> {
        let Entry {
            va,
            level,
            value: new,
            ..
        } = entry;
        let fact = self.order.store(event.cpu);
        let stamp = Stamp::new(event, fact);
        let mut violation = None;

        let known = self
            .find_live(va, level, entry.space)
            .map(|slot| self.live.remove(slot));
        if let Some(live) = known
            && live.value() != old
        {
            violation = Some(
                Violation::new(Rule::UnreportedStore, event).because(Past::of(
                    live.made_valid,
                    What::MadeValid(va, level, live.value()),
                )),
            );
        }

        let change = live_change(old, new, level);
        if let LiveChange::NeedsBreakBeforeMake(reason) = change {
            violation = violation.or(Some(
                Violation::new(Rule::BreakBeforeMake, event)
                    .reason(reason)
                    .because_some(known.map(|live| {
                        Past::of(live.made_valid, What::MadeValid(va, level, live.value()))
                    })),
            ));
        }
        let was = is_cacheable(old, level);
        // Each is done whatever was found before it: only the first is reported.
        if was && change.needs_tlbi() {
            let full = self.add_stale(Stale::new(entry, old, stamp));
            violation = violation.or(full);
            if let Kind::Table(_) = old.kind(level) {
                let full = self.unlink(entry, stamp);
                violation = violation.or(full);
            }
        }
        if !is_cacheable(new, level) {
            return violation;
        }
        let joined = self.make_before_break_is_complete(event, entry);
        let stored = match new.kind(level) {
            Kind::Table(table) => self.link(event, table),
            _ if was => None,
            _ => self.made_valid(event, entry, fact),
        };
        violation = violation.or(joined).or(stored);
        let (made_valid, found_by) = match known {
            Some(live) if was && change.is_one_store() => (live.made_valid, live.found_by),
            // Valid before the first event.
            None if was && change.is_one_store() => {
                let before = self.order.before_everything(event.cpu);
                (Stamp::new(event, before), 0)
            }
            _ => (stamp, self.found_by(event, entry)),
        };
        let mut live = Live::new(entry, made_valid);
        live.found_by = found_by;
        match self.live.insert(live) {
            Ok(()) => violation,
            Err(_) => violation.or(self.memory_full()),
        }
    }

    /// A task has read an entry. Of a link whose store is not ordered before what its CPU does, it
    /// knows by this alone; of anything else nothing is concluded.
    pub(super) fn entry_read(&mut self, event: &Event, entry: Entry) -> Option<Violation> {
        let Entry {
            va, level, space, ..
        } = entry;
        let Kind::Table(_) = entry.value.kind(level) else {
            return None;
        };
        // Whoever stored it may not have told yet: then it is not known here.
        let seen = self.find_live(va, level, space).is_some_and(|slot| {
            let live = self.live.get(slot);
            let made_valid = live.made_valid.fact();
            live.value() == entry.value
                && self
                    .order
                    .is_visible(event.cpu, made_valid, Access::Execute)
        });
        let read = LinkRead {
            key: address_key(va, level),
            value: entry.value.bits(),
            space: u64::from(space),
        };
        let Some(task) = self.task(event) else {
            return self.memory_full();
        };
        if seen {
            task.forget_link(read.key, space);
        } else {
            task.remember_link(read);
        }
        None
    }

    /// The levels of the links above an entry that its task has read before it stored the entry.
    fn found_by(&mut self, event: &Event, entry: Entry) -> u8 {
        let Entry {
            va, level, space, ..
        } = entry;
        let mut found_by = 0;
        for above in LEVELS.into_iter().filter(|above| *above < level) {
            let key = address_key(va, above);
            let Some(read) = self
                .task(event)
                .and_then(|task| task.link_read(key, space).copied())
            else {
                continue;
            };
            // A link that was replaced since is not the one that was read.
            let is_it = self
                .find_live(va, above, space)
                .is_none_or(|slot| self.live.get(slot).value().bits() == read.value);
            found_by |= u8::from(is_it) << above.as_u8();
        }
        found_by
    }

    /// What a table that is unlinked maps is mapped no more: each of its entries that is still valid
    /// may be in a TLB, and needs a TLBI of its own.
    fn unlink(&mut self, entry: Entry, stamp: Stamp) -> Option<Violation> {
        let Entry {
            va, level, space, ..
        } = entry;
        let first = va.align_down(level.bytes());
        let last = first + (level.bytes() - 1);
        let mut full = None;
        let mut from = 0;
        while let Some(slot) = self.live.live_from(from) {
            from = slot + 1;
            let live = *self.live.get(slot);
            let below = live.level() > level && live.space == space;
            if below && first <= live.va() && live.va() <= last {
                self.live.remove(slot);
                let (va, level) = (live.va(), live.level());
                let gone = Entry { va, level, ..entry };
                full = full.or(self.add_stale(Stale::new(gone, live.value(), stamp)));
            }
        }
        full
    }

    /// A table's zeroes must be ordered before the store that links it.
    fn link(&mut self, event: &Event, table: PhysAddr) -> Option<Violation> {
        let new = self.new_tables.iter_mut().find(|new| new.is(table))?;
        let NewTable { zeroed, .. } = core::mem::replace(new, NewTable::NONE);
        (!self.order.is_before_stores(event.cpu, zeroed.fact()))
            .then(|| Violation::new(Rule::TableNotZeroed, event))
    }

    /// Looks for what the break of a break-before-make left: an old translation that is not gone
    /// may not be joined by one that differs from it in what must not differ.
    fn make_before_break_is_complete(&mut self, event: &Event, entry: Entry) -> Option<Violation> {
        let Entry {
            va,
            level,
            value: new,
            space,
            ..
        } = entry;
        let mut violation = None;
        let mut next = self.stale.find(By::Address, address_key(va, level), None);
        while let Some(slot) = next {
            next = self
                .stale
                .find(By::Address, address_key(va, level), Some(slot));
            let stale = *self.stale.get(slot);
            if stale.space != space {
                continue;
            }
            match live_change(stale.old(), new, level) {
                // The same translation again: what a TLB holds is right.
                LiveChange::None => {
                    self.stale.remove(slot);
                }
                LiveChange::NeedsBreakBeforeMake(reason) if !self.is_reusable(event.cpu, slot) => {
                    violation = Some(
                        self.stale_violation(event, slot, Rule::BreakBeforeMake)
                            .reason(reason),
                    );
                    self.stale.remove(slot);
                    break;
                }
                _ => {}
            }
        }
        // A block over pages of which translations may be left is a change of size.
        if violation.is_none() && matches!(new.kind(level), Kind::Block(_)) {
            let va = va.align_down(level.bytes());
            let last = va + (level.bytes() - 1);
            let found = self.find_stale_in(va, last, |oracle, slot| {
                let stale = oracle.stale.get(slot);
                stale.level() > level
                    && stale.space == space
                    && !oracle.is_reusable(event.cpu, slot)
            });
            if let Some(slot) = found {
                violation = Some(self.stale_violation(event, slot, Rule::BreakBeforeMake));
                self.stale.remove(slot);
            }
        }
        violation
    }

    pub(super) fn access(
        &mut self,
        event: &Event,
        va: VirtAddr,
        access: Access,
    ) -> Option<Violation> {
        let cpu = event.cpu;
        let space = self.spaces.current(cpu);
        // A link that may not be seen matters if something is mapped behind it, and if whoever
        // mapped it had not found it by reading the link: a walk that is guaranteed to see the leaf
        // sees what the store of the leaf came after (`10-MIGR-SPLIT-STLR--LDAR-x`, where the flag
        // stands for the link, and acquire semantics for the dependency).
        let mut unseen = [None; LEVELS.len()];
        for level in LEVELS {
            let key = address_key(va, level);
            let live = self.find_live(va, level, space);
            let mut next = self.stale.find(By::Address, key, None);
            while let Some(slot) = next {
                next = self.stale.find(By::Address, key, Some(slot));
                let stale = *self.stale.get(slot);
                let applies = stale.is_global() || stale.space == space;
                // A program may use what another CPU is unmapping at this moment, and fault or not.
                // Only to whom the change is known, by whatever order, is the flush promised.
                let fact = stale.changed.fact();
                let races =
                    stale.space != 0 && fact.cpu != cpu && !self.order.is_before_loads(cpu, fact);
                let faults = !permits(stale.old(), access);
                let gone = stale
                    .covers()
                    .any(|tlbi| self.order.is_gone(cpu, tlbi.fact(), access, faults));
                let now = live.map(|slot| self.live.get(slot).value());
                if applies && !races && !gone && differs(stale.old(), now, level, access) {
                    let violation = self.stale_violation(event, slot, Rule::StaleAccess);
                    self.stale.remove(slot);
                    return Some(violation);
                }
            }
            if let Some(slot) = live {
                let Live { made_valid, .. } = *self.live.get(slot);
                let value = self.live.get(slot).value();
                // Of a user entry no barrier is asked: an access may fault, and be tried again.
                let promised = self.live.get(slot).space == 0;
                if promised && !self.order.is_visible(cpu, made_valid.fact(), access) {
                    unseen[usize::from(level.as_u8())] = Some((
                        slot,
                        Past::of(made_valid, What::MadeValid(va, level, value)),
                    ));
                }
                if !value.is_leaf(level) {
                    continue;
                }
                if unseen[usize::from(level.as_u8())].is_none() {
                    let found_by = self.live.get(slot).found_by;
                    for (above, unseen) in unseen.iter_mut().enumerate() {
                        unseen.take_if(|_| found_by & 1 << above != 0);
                    }
                }
                if let Some((slot, past)) = unseen.into_iter().flatten().next() {
                    let before = self.order.before_everything(cpu);
                    self.live.get_mut(slot).made_valid = Stamp::new(event, before);
                    return Some(Violation::new(Rule::NotVisible, event).because(past));
                }
            }
        }
        None
    }

    /// The record of the entry that maps `va` at `level` in the tables of `space`, or in the
    /// kernel's.
    pub(super) fn find_live(&mut self, va: VirtAddr, level: Level, space: u16) -> Option<usize> {
        let key = address_key(va, level);
        let mut slot = self.live.find(By::Address, key, None)?;
        loop {
            let live = self.live.get(slot);
            if live.space == space || live.space == 0 {
                return Some(slot);
            }
            slot = self.live.find(By::Address, key, Some(slot))?;
        }
    }
}

/// Whether an access has another outcome by the old entry than by the one of now.
fn differs(old: Descriptor, now: Option<Descriptor>, level: Level, access: Access) -> bool {
    let Some(now) = now else { return true };
    if old.is_leaf(level) && now.is_leaf(level) {
        old.output(level) != now.output(level) || permits(old, access) != permits(now, access)
    } else {
        old != now
    }
}

/// Whether EL1, or EL0 where the entry is for it, may access memory so.
fn permits(leaf: Descriptor, access: Access) -> bool {
    let attributes = leaf.attributes();
    match access {
        Access::Read => true,
        Access::Write => !attributes.contains(Attributes::AP_READ_ONLY),
        Access::Execute => {
            !attributes.contains(Attributes::PXN) || !attributes.contains(Attributes::UXN)
        }
    }
}

/// Whether instructions may be fetched through the leaf, at EL1 or EL0.
pub(super) fn is_executable(leaf: Descriptor) -> bool {
    permits(leaf, Access::Execute)
}
