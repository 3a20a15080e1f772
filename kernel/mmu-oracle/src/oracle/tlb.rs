//! Stale translations: how they come, which TLBI is for them, and when they are gone.

use super::Oracle;
use crate::{
    clock::{Class, Fact},
    event::{Access, Event, Tlbi},
    operand::{Hint, Named, decode},
    pool::By,
    record::{Miss, Stale, Stamp, address_key},
    rule::Rule,
    violation::{Past, Violation, What},
};
use vmsa::{Level, PAGE_SIZE, VirtAddr};

const LEVELS: [Level; 4] = [Level::L0, Level::L1, Level::L2, Level::L3];
const ACCESSES: [Access; 3] = [Access::Read, Access::Write, Access::Execute];

impl Oracle<'_> {
    /// A translation was changed that a TLB may hold.
    pub(super) fn add_stale(&mut self, stale: Stale) -> Option<Violation> {
        // A space without an ASID is used nowhere, and what TLBs hold under the one that it had is
        // looked at when that is used again.
        if !stale.is_global() && self.spaces.asid_of(stale.space).is_none() {
            return None;
        }
        // The same translation may have been stale before, and valid again since.
        let key = address_key(stale.va(), stale.level());
        let mut next = self.stale.find(By::Address, key, None);
        while let Some(slot) = next {
            next = self.stale.find(By::Address, key, Some(slot));
            let known = self.stale.get(slot);
            if known.space == stale.space && known.old() == stale.old() {
                self.stale.remove(slot);
            }
        }
        if self.stale.len() >= self.sweep_at {
            self.sweep();
        }
        if self.stale.insert(stale).is_ok() {
            return None;
        }
        self.sweep();
        if self.stale.insert(stale).is_ok() {
            None
        } else {
            self.memory_full()
        }
    }

    /// Drops what no CPU can use any more.
    fn sweep(&mut self) {
        let mut from = 0;
        while let Some(slot) = self.stale.live_from(from) {
            from = slot + 1;
            let gone = self.stale.get(slot).covers().any(|tlbi| {
                let gone = |cpu, access| self.order.is_gone(cpu, tlbi.fact(), access, true);
                (0..crate::MAX_CPUS as u8)
                    .filter(|cpu| self.online & 1 << cpu != 0)
                    .all(|cpu| ACCESSES.iter().all(|access| gone(cpu, *access)))
            });
            if gone {
                self.stale.remove(slot);
            }
        }
        self.sweep_at = (self.stale.len() * 2).max(256);
    }

    pub(super) fn tlbi(&mut self, event: &Event, tlbi: Tlbi) {
        let named = decode(tlbi);
        let fact = self.order.tlbi(event.cpu, tlbi.broadcast);
        let stamp = Stamp::new(event, fact);
        self.spaces.tlbi(event.cpu, tlbi, &named, stamp);
        let mut met = false;
        // By look-up where that is less work than to look at every one.
        let pages = (named.last - named.first) / PAGE_SIZE + 1;
        if pages.saturating_mul(LEVELS.len() as u64) <= self.stale.len() as u64 {
            let mut address = named.first;
            let mut upper = Some(named.first);
            while address <= named.last {
                // A level above the last has one key for many pages.
                let levels = if upper == Some(address) {
                    &LEVELS[..]
                } else {
                    &LEVELS[3..]
                };
                for level in levels {
                    met |= self.cover_at(event, address, *level, tlbi, &named, stamp);
                }
                let Some(next) = address.checked_add(PAGE_SIZE) else {
                    break;
                };
                address = next;
                upper = next.is_multiple_of(Level::L2.bytes()).then_some(next);
            }
        } else {
            let mut from = 0;
            while let Some(slot) = self.stale.live_from(from) {
                from = slot + 1;
                let stale = self.stale.get(slot);
                if named.meets(stale.va().as_u64(), last_byte(stale)) {
                    met = true;
                    self.cover(event, slot, tlbi, &named, stamp);
                }
            }
        }
        if !met {
            self.stray[usize::from(event.cpu)] = self.order.stores_made(event.cpu);
        }
        if !named.everything() {
            self.pass_by(
                event.cpu,
                named.first.wrapping_sub(PAGE_SIZE),
                tlbi.broadcast,
            );
            self.pass_by(event.cpu, named.last.wrapping_add(1), tlbi.broadcast);
        }
    }

    fn cover_at(
        &mut self,
        event: &Event,
        address: u64,
        level: Level,
        tlbi: Tlbi,
        named: &Named,
        stamp: Stamp,
    ) -> bool {
        // An operand that names no address of this machine names no entry of it.
        let Some(va) = VirtAddr::new(address) else {
            return false;
        };
        let key = address_key(va, level);
        let mut next = self.stale.find(By::Address, key, None);
        let met = next.is_some();
        while let Some(slot) = next {
            self.cover(event, slot, tlbi, named, stamp);
            next = self.stale.find(By::Address, key, Some(slot));
        }
        met
    }

    /// The TLBI names addresses of the stale translation: is it for it?
    fn cover(&mut self, event: &Event, slot: usize, tlbi: Tlbi, named: &Named, stamp: Stamp) {
        let stale = self.stale.get(slot);
        let asid_fits = if stale.is_global() {
            named.global
        } else {
            named
                .asid
                .is_none_or(|asid| self.spaces.has_asid(stale.space, asid))
        };
        let hint_fits = match named.hint {
            Hint::None => true,
            Hint::Level(level) => level == stale.level() && !stale.is_table(),
            Hint::Other => false,
        };
        let changed = stale.changed.fact();
        let miss = if !asid_fits {
            Miss::Asid
        } else if !hint_fits {
            Miss::Level
        } else if tlbi.last_level && stale.is_table() {
            Miss::LastLevel
        } else if !self
            .order
            .is_before_tlbi(event.cpu, changed, tlbi.broadcast)
        {
            Miss::NoDsbBefore
        } else if !tlbi.broadcast && self.others(event.cpu) {
            Miss::Local
        } else {
            Miss::None
        };
        if !matches!(miss, Miss::None | Miss::Local) {
            if stale.covers().next().is_none() {
                self.stale.get_mut(slot).set_miss(miss);
            }
            return;
        }
        // What a TLBI of this CPU has done, or will have done where it reaches every CPU and this one
        // does not, is not undone by another that is in flight.
        let reaches_all = self.is_for_all(stamp.fact());
        let done = stale.covers().any(|cover| {
            cover.cpu == event.cpu
                && self.is_for_all(cover.fact())
                && (!reaches_all || self.order.is_completed(cover.fact()))
        });
        if done {
            return;
        }
        // One that reaches every CPU is worth more than one that does not, and one that is complete
        // more than one that may never be.
        let worth =
            |oracle: &Self, tlbi: Fact| (oracle.is_for_all(tlbi), oracle.order.is_completed(tlbi));
        let new = worth(self, stamp.fact());
        let least = stale
            .covers()
            .map(Stamp::fact)
            .min_by_key(|tlbi| worth(self, *tlbi))
            .filter(|tlbi| worth(self, *tlbi) <= new);
        let stale = self.stale.get_mut(slot);
        stale.add_cover(stamp, least);
        stale.set_miss(miss);
    }

    /// Whether the TLBI reaches every CPU that takes part.
    fn is_for_all(&self, tlbi: Fact) -> bool {
        tlbi.class != Class::Local || !self.others(tlbi.cpu)
    }

    /// A TLBI that ends just before an address, or begins just behind it, was perhaps meant for it.
    fn pass_by(&mut self, cpu: u8, address: u64, broadcast: bool) {
        let Some(va) = VirtAddr::new(address) else {
            return;
        };
        let key = address_key(va, Level::L3);
        let mut next = self.stale.find(By::Address, key, None);
        while let Some(slot) = next {
            let changed = self.stale.get(slot).changed.fact();
            let meant = self.order.is_before_tlbi(cpu, changed, broadcast);
            let stale = self.stale.get_mut(slot);
            if meant && stale.covers().next().is_none() && stale.miss() == Miss::None {
                stale.set_miss(Miss::Beside);
            }
            next = self.stale.find(By::Address, key, Some(slot));
        }
    }

    /// Whether `cpu` may hand out, from now on, what the stale translation of `slot` leads to: its
    /// TLBI is complete on every CPU, and what `cpu` stores comes after that.
    pub(super) fn is_reusable(&self, cpu: u8, slot: usize) -> bool {
        self.stale.get(slot).covers().any(|tlbi| {
            let tlbi = tlbi.fact();
            self.order.is_before_stores(cpu, tlbi) && self.is_for_all(tlbi)
        })
    }

    /// Whether what `cpu` loads from now on comes after the end of the stale translation of `slot`.
    pub(super) fn is_before_loads(&self, cpu: u8, slot: usize) -> bool {
        let mut covers = self.stale.get(slot).covers();
        covers.any(|tlbi| self.order.is_before_loads(cpu, tlbi.fact()))
    }

    /// The violation that the stale translation of `slot` led to. If a TLBI came but was not the
    /// right one, or is not complete, that is the rule which was broken, rather than `rule`.
    pub(super) fn stale_violation(&self, event: &Event, slot: usize, rule: Rule) -> Violation {
        let stale = self.stale.get(slot);
        let cover = stale.covers().next();
        let completed = || {
            stale
                .covers()
                .filter(|tlbi| self.order.is_completed(tlbi.fact()))
        };
        let stray = self.stray[usize::from(stale.changed.cpu)] >= stale.changed.number;
        let rule = match (cover, stale.miss()) {
            (Some(_), _) if completed().next().is_none() => Rule::TlbiWithoutDsbAfter,
            (Some(_), _) if completed().all(|tlbi| !self.is_for_all(tlbi.fact())) => {
                Rule::TlbiCoverage
            }
            (Some(_), _) => rule,
            (None, Miss::NoDsbBefore) => Rule::TlbiWithoutDsbBefore,
            (None, Miss::None) if !stray => rule,
            (None, _) => Rule::TlbiCoverage,
        };
        let miss = match stale.miss() {
            Miss::None if cover.is_none() && stray => Miss::Beside,
            miss => miss,
        };
        Violation::new(rule, event)
            .because(Past::of(
                stale.changed,
                What::Changed(stale.va(), stale.level(), stale.old()),
            ))
            .because_some(cover.map(|tlbi| Past::of(*tlbi, What::Invalidated)))
            .missed(miss)
    }

    /// The first stale translation of which a part is in `first..=last` and for which `is` holds.
    pub(super) fn find_stale_in(
        &mut self,
        first: VirtAddr,
        last: VirtAddr,
        is: impl Fn(&mut Self, usize) -> bool,
    ) -> Option<usize> {
        let pages = (last - first) / PAGE_SIZE + 1;
        if pages.saturating_mul(LEVELS.len() as u64) <= self.stale.len() as u64 {
            let mut va = first;
            loop {
                for level in LEVELS {
                    let key = address_key(va, level);
                    let mut next = self.stale.find(By::Address, key, None);
                    while let Some(slot) = next {
                        if is(self, slot) {
                            return Some(slot);
                        }
                        next = self.stale.find(By::Address, key, Some(slot));
                    }
                }
                match va.checked_add(PAGE_SIZE) {
                    Some(next) if next <= last => va = next,
                    _ => return None,
                }
            }
        }
        let mut from = 0;
        while let Some(slot) = self.stale.live_from(from) {
            from = slot + 1;
            let stale = self.stale.get(slot);
            let meets = stale.va() <= last && first.as_u64() <= last_byte(stale);
            if meets && is(self, slot) {
                return Some(slot);
            }
        }
        None
    }
}

/// The last byte that the entry of a stale translation maps.
fn last_byte(stale: &Stale) -> u64 {
    stale.va().as_u64() + (stale.level().bytes() - 1)
}
