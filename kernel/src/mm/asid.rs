//! ASIDs: which address space has which, and when what TLBs hold under one must go.
//!
//! There are fewer ASIDs than address spaces may come, so they are given out in *generations*, as
//! in arm64 Linux. Within one an ASID is given to one address space, and is not taken back. When
//! none is left the next generation begins (a *rollover*): all are free again but those that a CPU
//! is using at that moment, and each CPU empties its TLB before it uses an address space again. So
//! an ASID comes to another owner only where nothing is left of the one before.
//!
//! This is the data alone. It executes no instruction; [`switch`](super::address_space) does what
//! it says, with its lock held.

use crate::arch::cpu::MAX_CPUS;

/// The number of 16-bit ASIDs.
const MOST: usize = 1 << 16;

/// An ASID with its generation. What an address space remembers, and what a CPU uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Id(u64);

impl Id {
    /// No ASID. It is of no generation that ever comes.
    pub const NONE: Self = Self(0);

    const fn new(generation: u64, asid: u32) -> Self {
        Self(generation << 16 | asid as u64)
    }

    /// From [`bits`](Self::bits).
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// As a number.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The ASID, for TTBR0_EL1 and TLBIs. ASID 0 is no address space's: CPUs use it with a table
    /// that maps nothing.
    #[must_use]
    pub const fn asid(self) -> u16 {
        self.0 as u16
    }

    /// Its generation, from 1.
    #[must_use]
    pub const fn generation(self) -> u64 {
        self.0 >> 16
    }
}

/// What a CPU is to do when it goes over to an address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a flush that is not made leaves translations of another address space"]
pub struct Switch {
    /// The address space's from now on.
    pub id: Id,
    /// Empty the TLB of this CPU first.
    pub flush: bool,
}

/// The ASIDs of the machine.
#[derive(Debug)]
pub struct Asids {
    /// ASIDs below this one are given out.
    limit: u32,
    generation: u64,
    /// A bit for each that is not free in this generation.
    taken: [u64; MOST / 64],
    /// Where to look for a free one.
    next: u32,
    /// What each CPU uses, if it has gone over to it in this generation.
    active: [Id; MAX_CPUS],
    /// What each CPU was using when the generation began. It may be using it still.
    reserved: [Id; MAX_CPUS],
    /// A bit for each CPU whose TLB may hold what is older than this generation.
    pending: u32,
    rollovers: u64,
}

impl Asids {
    /// ASIDs of so many bits, 8 or 16, none of them given out.
    #[must_use]
    pub const fn new(bits: u32) -> Self {
        let mut taken = [0; MOST / 64];
        taken[0] = 1;
        Self {
            limit: 1 << bits,
            generation: 1,
            taken,
            next: 1,
            active: [Id::NONE; MAX_CPUS],
            reserved: [Id::NONE; MAX_CPUS],
            pending: 0,
            rollovers: 0,
        }
    }

    /// How many there are, ASID 0 included.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// The generation.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How often they ran out, or were begun anew.
    #[must_use]
    pub fn rollovers(&self) -> u64 {
        self.rollovers
    }

    /// Gives out those below `limit` alone from now on, in a generation of its own. A CPU that uses
    /// a higher one keeps it for as long as it does.
    ///
    /// # Panics
    ///
    /// If there would not be one for each CPU, and one more, beside ASID 0; or if they have not so
    /// many bits.
    pub fn restart(&mut self, limit: u32) {
        assert!((MAX_CPUS as u32 + 2..=MOST as u32).contains(&limit));
        self.limit = limit;
        self.roll_over();
    }

    /// CPU `cpu` goes over to an address space that has `held`.
    pub fn switch(&mut self, cpu: usize, held: Id) -> Switch {
        let id = if held.generation() == self.generation {
            held
        } else {
            self.renew(held)
        };
        self.active[cpu] = id;
        let bit = 1 << cpu;
        let flush = self.pending & bit != 0;
        self.pending &= !bit;
        Switch { id, flush }
    }

    /// CPU `cpu` uses no address space any more, but the table that maps nothing.
    ///
    /// Its TLB may hold what it held: what is pending stays so.
    pub fn leave(&mut self, cpu: usize) {
        self.active[cpu] = Id::NONE;
        self.reserved[cpu] = Id::NONE;
    }

    /// An ASID of this generation for an address space that has `held` of an older one.
    fn renew(&mut self, held: Id) -> Id {
        if held != Id::NONE {
            let asid = u32::from(held.asid());
            let same = Id::new(self.generation, asid);
            // A CPU may be using it, and nobody else can have been given it: it stays. All that
            // reserve it, since the address space may be in use on many; each of them would be found
            // with the old generation at the next rollover otherwise.
            let mut in_use = false;
            for reserved in &mut self.reserved {
                if *reserved == held {
                    *reserved = same;
                    in_use = true;
                }
            }
            if in_use {
                return same;
            }
            // The one that it had, if it is free. Its old translations are no danger to it.
            if asid < self.limit && self.take(asid) {
                return same;
            }
        }
        if let Some(asid) = self.free_from(self.next) {
            return self.give(asid);
        }
        self.roll_over();
        // There are more than CPUs can reserve.
        let asid = self.free_from(1).expect("restart() keeps enough");
        self.give(asid)
    }

    fn give(&mut self, asid: u32) -> Id {
        self.take(asid);
        self.next = asid + 1;
        Id::new(self.generation, asid)
    }

    /// Takes one if it is free.
    fn take(&mut self, asid: u32) -> bool {
        let (word, bit) = (asid as usize / 64, 1 << (asid % 64));
        let free = self.taken[word] & bit == 0;
        self.taken[word] |= bit;
        free
    }

    /// The first free one from `asid` on.
    fn free_from(&self, asid: u32) -> Option<u32> {
        let mut at = asid;
        while at < self.limit {
            let free = !self.taken[at as usize / 64] >> (at % 64);
            if free != 0 {
                let found = at + free.trailing_zeros();
                return (found < self.limit).then_some(found);
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }

    /// Begins a generation.
    fn roll_over(&mut self) {
        self.generation += 1;
        self.rollovers += 1;
        self.taken.fill(0);
        self.take(0);
        self.next = 1;
        for cpu in 0..MAX_CPUS {
            let active = core::mem::replace(&mut self.active[cpu], Id::NONE);
            if active != Id::NONE {
                self.reserved[cpu] = active;
            }
            // One that has not gone over to anything since the last rollover uses what it used
            // then: its reservation is the only trace of that.
            let reserved = self.reserved[cpu];
            if reserved != Id::NONE {
                self.take(u32::from(reserved.asid()));
            }
        }
        self.pending = (1 << MAX_CPUS) - 1;
    }
}

#[cfg(test)]
mod tests;
