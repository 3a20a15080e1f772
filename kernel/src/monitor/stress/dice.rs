//! What a run draws, and the digest of what it did: all that differs between two seeds.

use crate::mm::page_alloc;
use fastrand::Rng;

/// Spreads every bit of a word over all of them, one to one: the finalizer of SplitMix64 (Steele,
/// Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
pub(super) const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Random numbers that a seed decides, and the digest.
#[derive(Debug)]
pub(super) struct Dice {
    rng: Rng,
    digest: u64,
}

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(mix(seed)),
            digest: mix(!seed),
        }
    }

    /// A number below `end`, which is not 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.rng.u64(..end)
    }

    /// A number from `first` to `last`.
    pub(super) fn between(&mut self, first: u64, last: u64) -> u64 {
        self.rng.u64(first..=last)
    }

    /// True once in `n` times.
    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of some values.
    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// The index of one of the slots that are taken, or that are not.
    pub(super) fn slot<T>(&mut self, slots: &[Option<T>], taken: bool) -> Option<usize> {
        let fits = |slot: &Option<T>| slot.is_some() == taken;
        let count = slots.iter().filter(|slot| fits(slot)).count() as u64;
        let nth = (count > 0).then(|| self.below(count) as usize)?;
        (0..slots.len()).filter(|i| fits(&slots[*i])).nth(nth)
    }

    /// A word that tells one thing from others.
    pub(super) fn tag(&mut self) -> u64 {
        self.rng.u64(..)
    }

    /// How many pages, up to `most`: mostly few.
    pub(super) fn pages(&mut self, most: u64) -> u64 {
        let largest = match self.below(1024) {
            0 => 1024,
            1..16 => 64,
            16..128 => 12,
            _ => 3,
        };
        self.between(1, largest).min(most)
    }

    /// Takes part of what was done, or of what came of it, into the digest.
    pub(super) fn note(&mut self, word: u64) {
        self.digest = mix(self.digest.rotate_left(1) ^ word);
    }

    /// The digest of all that was noted.
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// Calls what allocates pages, now and then with one of its allocations failing. Returns what
    /// it did, and whether one failed.
    pub(super) fn allocating<R>(&mut self, call: impl FnOnce() -> R) -> (R, bool) {
        // One task at a time has its allocations fail.
        if !self.one_in(12) || !page_alloc::fail_after(Some(self.below(5))) {
            return (call(), false);
        }
        let result = call();
        let failed = !page_alloc::armed();
        page_alloc::fail_after(None);
        (result, failed)
    }
}
