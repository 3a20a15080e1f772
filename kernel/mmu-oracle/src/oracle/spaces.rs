//! Address spaces and their ASIDs: which space a CPU uses, what its TLB may hold under which ASID,
//! and what an ASID that comes again finds there.
//!
//! A translation of another space under an ASID that is not the current one of the CPU harms nobody:
//! no access can use it. It must be gone when the ASID is used there again, for another space.

use super::Oracle;
use crate::{
    MAX_CPUS,
    event::{Event, Scope, Tlbi},
    operand::Named,
    record::{Held, Stamp},
    rule::Rule,
    violation::{Past, Violation, What},
};

/// No ASID: that of the CPU's empty table.
const NONE: u16 = 0;

/// TCR_EL1.AS: ASIDs have 16 bits, and 8 where it is clear.
const AS: u64 = 1 << 36;

/// Who has which ASID, and where.
#[derive(Debug)]
pub(super) struct Spaces<'m> {
    /// The ASID of each space, by number; [`NONE`] for a space that has lost its own.
    asids: &'m mut [u16],
    /// Which bits of an ASID count: TCR_EL1.AS may have the upper ones ignored.
    bits: u16,
    /// The space that each CPU uses; 0 for none.
    current: [u16; MAX_CPUS],
    held: &'m mut [Held],
}

impl<'m> Spaces<'m> {
    pub fn new(asids: &'m mut [u16], held: &'m mut [Held]) -> Self {
        (0..)
            .zip(&mut *asids)
            .for_each(|(number, asid)| *asid = number);
        Self {
            asids,
            bits: u16::MAX,
            current: [0; MAX_CPUS],
            held,
        }
    }

    /// TCR_EL1 of a CPU, which is that of all.
    pub fn tcr(&mut self, value: u64) {
        self.bits = if value & AS == 0 { 0xff } else { u16::MAX };
    }

    /// Whether the ASID of a TLBI is that of a space.
    pub fn has_asid(&self, space: u16, asid: u16) -> bool {
        self.asid_of(space) == Some(asid & self.bits)
    }

    /// The space that a CPU uses.
    pub fn current(&self, cpu: u8) -> u16 {
        self.current[usize::from(cpu)]
    }

    /// The ASID of a space; `None` for one whose ASID is another's now.
    pub fn asid_of(&self, space: u16) -> Option<u16> {
        match self.asids.get(usize::from(space)) {
            Some(&NONE) if space != 0 => None,
            Some(asid) => Some(*asid),
            None => Some(space),
        }
    }

    /// The space that has an ASID.
    fn space_of(&self, asid: u16) -> u16 {
        let told = self.asids.iter().position(|known| *known == asid);
        match told {
            Some(space) => space as u16,
            // No space is told to have it, and the one with its number, if it can be told of, has
            // another.
            None if usize::from(asid) < self.asids.len() => 0,
            None => asid,
        }
    }

    /// A TLBI: which translations it does away with. Of the space that a CPU uses new ones may come
    /// at any time.
    pub fn tlbi(&mut self, cpu: u8, tlbi: Tlbi, named: &Named, stamp: Stamp) {
        if !matches!(tlbi.scope, Scope::All | Scope::Asid) {
            return;
        }
        for held in self.held.iter_mut().filter(|held| !held.is_free()) {
            let reached = tlbi.broadcast || held.cpu == cpu;
            let meant = named.asid.is_none_or(|asid| asid & self.bits == held.asid);
            let in_use = self.current[usize::from(held.cpu)] == held.space;
            if reached && meant && !in_use {
                held.set_flushed(Some(stamp));
            }
        }
    }
}

impl Oracle<'_> {
    /// A space is given an ASID.
    pub(super) fn new_asid(&mut self, space: u16, asid: u16) -> Option<Violation> {
        if usize::from(space) >= self.spaces.asids.len() {
            return self.memory_full();
        }
        let asid = asid & self.spaces.bits;
        let loser = match self.spaces.space_of(asid) {
            _ if asid == NONE => 0,
            loser => loser,
        };
        if loser != space && usize::from(loser) < self.spaces.asids.len() && loser != 0 {
            self.spaces.asids[usize::from(loser)] = NONE;
            // What is stale of it is out of reach.
            self.forget_stale(loser, |_, _| true);
        }
        if self.spaces.asids[usize::from(space)] != asid {
            self.spaces.asids[usize::from(space)] = asid;
            // Walks with the new ASID come after stores that are complete by now.
            self.forget_stale(space, |oracle, slot| {
                let changed = oracle.stale.get(slot).changed.fact();
                oracle.order.is_before_tlbi(changed.cpu, changed, true)
            });
        }
        None
    }

    fn forget_stale(&mut self, space: u16, is: impl Fn(&Self, usize) -> bool) {
        let mut from = 0;
        while let Some(slot) = self.stale.live_from(from) {
            from = slot + 1;
            let stale = self.stale.get(slot);
            if stale.space == space && !stale.is_global() && is(self, slot) {
                self.stale.remove(slot);
            }
        }
    }

    /// A CPU goes over to another table and ASID.
    pub(super) fn ttbr0(&mut self, event: &Event, value: u64) -> Option<Violation> {
        let cpu = event.cpu;
        let asid = (value >> 48) as u16 & self.spaces.bits;
        let space = match asid {
            NONE => 0,
            asid => self.spaces.space_of(asid),
        };
        self.spaces.current[usize::from(cpu)] = space;
        if space == 0 {
            return None;
        }
        let mut violation = None;
        let mut known = false;
        for slot in 0..self.spaces.held.len() {
            let held = self.spaces.held[slot];
            if held.is_free() || held.cpu != cpu || held.asid != asid {
                continue;
            }
            if held.space == space {
                known = true;
                self.spaces.held[slot].set_flushed(None);
                continue;
            }
            let flushed = held.flushed();
            let gone = flushed.is_some_and(|tlbi| self.order.is_completed(tlbi.fact()));
            if !gone {
                violation = violation
                    .or(Some(Violation::new(Rule::AsidReuse, event).because_some(
                        flushed.map(|tlbi| Past::of(*tlbi, What::NotCompleted)),
                    )));
            }
            self.spaces.held[slot] = bytemuck::Zeroable::zeroed();
        }
        if known {
            return violation;
        }
        match self.free_held() {
            Some(slot) => {
                self.spaces.held[slot] = Held::new(cpu, space, asid);
                violation
            }
            None => violation.or(self.memory_full()),
        }
    }

    /// Room for one more; what is gone makes some.
    fn free_held(&mut self) -> Option<usize> {
        let is_free = |held: &Held| held.is_free();
        self.spaces.held.iter().position(is_free).or_else(|| {
            let order = &self.order;
            let gone = |held: &Held| {
                held.flushed()
                    .is_some_and(|tlbi| order.is_completed(tlbi.fact()))
            };
            self.spaces.held.iter().position(gone)
        })
    }
}
