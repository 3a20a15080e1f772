//! Loads and stores of page-table entries.
//!
//! A table is written while walkers read it, so an entry is only ever accessed whole: single-copy
//! atomic 64-bit accesses (DDI 0487, B2.2.1), which is what a relaxed `AtomicU64` is. No order is
//! implied here; who needs one says so.

#[cfg(not(target_os = "none"))]
use super::host::Word;
use super::record::emit_store;
use core::sync::atomic::{AtomicU64, Ordering};
use vmsa::{Attributes, Descriptor, Frame, Level, PhysAddr, VirtAddr};

#[cfg(target_os = "none")]
type Word = &'static AtomicU64;

/// An entry of a table that the CPU can reach: where it is in memory, and where for the walker.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    slot: Word,
    pa: PhysAddr,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.pa == other.pa
    }
}

impl Eq for Entry {}

impl Entry {
    /// The entry at `slot`, whose physical address is `pa`.
    ///
    /// # Safety
    /// `slot` points to an entry of a page table that stays mapped and a table for as long as the
    /// value is used, and nothing accesses it but through [`Entry`].
    #[inline]
    pub unsafe fn new(slot: *mut u64, pa: PhysAddr) -> Self {
        // SAFETY: the caller's promise; an AtomicU64 has the layout of a u64, and table entries are
        // 8-byte aligned.
        let slot: &'static AtomicU64 = unsafe { AtomicU64::from_ptr(slot) };
        #[allow(clippy::useless_conversion, reason = "on the host it is one")]
        let slot = slot.into();
        Self { slot, pa }
    }

    /// The entry that `word` stands for.
    #[cfg(test)]
    pub fn of_word(word: Word, pa: PhysAddr) -> Self {
        Self { slot: word, pa }
    }

    /// Reads the entry.
    #[inline]
    pub fn load(self) -> Descriptor {
        Descriptor::from_bits(self.slot.load(Ordering::Relaxed))
    }

    /// The entry as the oracle is told of it.
    #[cfg(feature = "oracle")]
    pub fn told(self, va: VirtAddr, level: Level, value: Descriptor) -> mmu_oracle::event::Entry {
        mmu_oracle::event::Entry {
            address: self.pa,
            va,
            level,
            space: 0,
            value,
        }
    }

    /// Tells the oracle of a store to the entry that the record does not hear of, and of the read
    /// before it.
    #[cfg(feature = "oracle")]
    fn tell_stored(self, va: VirtAddr, level: Level, old: Descriptor, new: Descriptor) {
        use mmu_oracle::event::Kind;
        super::record::tell(Kind::EntryRead(self.told(va, level, old)));
        super::record::tell(Kind::Store {
            entry: self.told(va, level, new),
            old,
        });
    }

    /// Stores `new`, which maps `va` at `level`; `old` is what the entry held, for the record.
    ///
    /// The store alone guarantees nothing to anyone: `mm::lazy` and `mm::tlb` say what must follow
    /// it.
    #[inline]
    pub fn store(self, va: VirtAddr, level: Level, old: Descriptor, new: Descriptor) {
        self.store_in(0, va, level, old, new);
    }

    /// As [`store`](Self::store), of the address space whose number is `space`: an entry of user
    /// tables.
    #[inline]
    pub fn store_in(
        self,
        space: u16,
        va: VirtAddr,
        level: Level,
        old: Descriptor,
        new: Descriptor,
    ) {
        // A handler that stores to the same entry, or a task that is switched to, must not be told
        // of before.
        #[cfg(feature = "oracle")]
        let _masked = super::cpu::mask_interrupts();
        self.slot.store(new.bits(), Ordering::Relaxed);
        emit_store(self.pa, space, va, level, old, new);
    }

    /// Stores `new` in a leaf of level 3, as [`store`](Self::store), for who counts it, and knows that
    /// nobody records.
    #[cfg(target_os = "none")]
    #[inline(always)]
    pub(super) fn store_uncounted(self, _va: VirtAddr, _old: Descriptor, new: Descriptor) {
        #[cfg(feature = "oracle")]
        let _masked = super::cpu::mask_interrupts();
        self.slot.store(new.bits(), Ordering::Relaxed);
        #[cfg(feature = "oracle")]
        self.tell_stored(_va, Level::L3, _old, new);
    }

    /// As [`store`](Self::store), for who knows that nobody records.
    #[inline(always)]
    pub fn store_unrecorded(self, _va: VirtAddr, _level: Level, _old: Descriptor, new: Descriptor) {
        #[cfg(feature = "oracle")]
        let _masked = super::cpu::mask_interrupts();
        self.slot.store(new.bits(), Ordering::Relaxed);
        super::counters::count_store();
        #[cfg(feature = "oracle")]
        self.tell_stored(_va, _level, _old, new);
    }

    /// Stores `new` if the entry still holds `old`: a store like any other for the record and for
    /// whoever must see it, and nothing at all otherwise.
    ///
    /// # Errors
    /// What the entry holds instead. Whoever goes on to the table that it links to has its address
    /// from this read, as from [`load`](Self::load).
    #[inline]
    pub fn compare_exchange(
        self,
        va: VirtAddr,
        level: Level,
        old: Descriptor,
        new: Descriptor,
    ) -> Result<(), Descriptor> {
        #[cfg(feature = "oracle")]
        let _masked = super::cpu::mask_interrupts();
        // Relaxed, as every access here: that it is one access is all that is asked of it.
        self.slot
            .compare_exchange(old.bits(), new.bits(), Ordering::Relaxed, Ordering::Relaxed)
            .map_err(Descriptor::from_bits)?;
        emit_store(self.pa, 0, va, level, old, new);
        Ok(())
    }
}

/// Adjacent entries of one table, for a walk that decides for all of them together.
#[derive(Clone, Copy, Debug)]
pub struct Entries {
    slots: &'static [AtomicU64],
    pa: PhysAddr,
}

impl Entries {
    /// The `count` entries from the one at `first` on, whose physical address is `pa`.
    ///
    /// # Safety
    /// They are of one table, and the promise of [`Entry::new`] holds for each.
    #[inline]
    pub unsafe fn new(first: *mut u64, pa: PhysAddr, count: usize) -> Self {
        // SAFETY: the caller's promise; an AtomicU64 has the layout of a u64, and table entries are
        // 8-byte aligned, one behind the other.
        let slots = unsafe { core::slice::from_raw_parts(first.cast(), count) };
        Self { slots, pa }
    }

    /// Entry number `index` alone.
    ///
    /// # Panics
    /// If there are no more than `index`.
    #[inline]
    pub fn entry(self, index: usize) -> Entry {
        let slot = &self.slots[index];
        #[allow(clippy::useless_conversion, reason = "on the host it is one")]
        let slot = slot.into();
        let pa = self.pa + index as u64 * 8;
        Entry { slot, pa }
    }

    /// How many.
    #[inline]
    pub fn count(self) -> usize {
        self.slots.len()
    }

    /// Reads them, in their order.
    #[inline]
    pub fn load(self) -> impl Iterator<Item = Descriptor> {
        let slots = self.slots.iter();
        slots.map(|slot| Descriptor::from_bits(slot.load(Ordering::Relaxed)))
    }

    /// Reads the first and then each that is `step` further.
    ///
    /// # Panics
    /// If `step` is 0.
    #[inline]
    pub fn load_every(self, step: usize) -> impl Iterator<Item = Descriptor> {
        // Steps over slots, not over what is read: those in between are not touched.
        let slots = self.slots.iter().step_by(step);
        slots.map(|slot| Descriptor::from_bits(slot.load(Ordering::Relaxed)))
    }

    /// Those from number `first` on.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline(always)]
    pub fn from(self, first: usize) -> Self {
        Self {
            slots: &self.slots[first..],
            pa: self.pa + first as u64 * 8,
        }
    }

    /// Stores `count` leaves, or as many as there are entries, up to one that is not empty: the first
    /// is `leaf`, and each maps the frame behind that of the one before. `va` is what the first entry
    /// maps, at `level`. Returns how many were stored.
    ///
    /// For the record they are what those of [`store_each`](Self::store_each) are.
    #[inline(always)]
    pub fn store_run(self, va: VirtAddr, level: Level, leaf: Descriptor, count: usize) -> usize {
        let slots = &self.slots[..count.min(self.slots.len())];
        let mut next = leaf.bits();
        let new = |old: Descriptor| {
            let new = Descriptor::from_bits(next);
            next += level.bytes();
            old.is_none().then_some(new)
        };
        Self { slots, ..self }.store_each(va, level, new, |_| ())
    }

    /// Stores `leaves` to one after the other, up to an entry that is not empty, and while there are
    /// any; `va` is what the first entry maps, at `level`. Returns how many were stored.
    ///
    /// For the record they are what those of [`store_each`](Self::store_each) are.
    #[inline(always)]
    pub fn store_leaves(
        self,
        _va: VirtAddr,
        _level: Level,
        leaves: impl Iterator<Item = Descriptor>,
    ) -> usize {
        let mut stored = 0;
        // Two slices together are one index to count.
        for (slot, new) in self.slots.iter().zip(leaves) {
            let old = Descriptor::from_bits(slot.load(Ordering::Relaxed));
            if !old.is_none() {
                break;
            }
            {
                #[cfg(feature = "oracle")]
                let _masked = super::cpu::mask_interrupts();
                slot.store(new.bits(), Ordering::Relaxed);
                #[cfg(feature = "oracle")]
                self.entry(stored).tell_stored(
                    _va + stored as u64 * _level.bytes(),
                    _level,
                    old,
                    new,
                );
            }
            stored += 1;
        }
        super::counters::count_stores(stored);
        stored
    }

    /// Stores to one after the other what `new` makes of what it holds, until that is nothing, and
    /// then tells `after` what it held; `va` is what the first maps, at `level`. Returns how many were
    /// stored.
    ///
    /// For the record they are what [`Entry::store`] is, but that they are counted together, and that
    /// nothing is recorded: who knows of a recording stores each by itself.
    #[inline(always)]
    #[cfg_attr(
        feature = "oracle",
        allow(clippy::explicit_counter_loop, reason = "only the oracle wants it")
    )]
    pub fn store_each(
        self,
        _va: VirtAddr,
        _level: Level,
        mut new: impl FnMut(Descriptor) -> Option<Descriptor>,
        mut after: impl FnMut(Descriptor),
    ) -> usize {
        let mut slots = self.slots.iter();
        let mut refused = 0;
        // One pointer that moves on is all that there is to count: where it stops says how many.
        #[cfg(feature = "oracle")]
        let mut index = 0;
        for slot in slots.by_ref() {
            let old = Descriptor::from_bits(slot.load(Ordering::Relaxed));
            let Some(new) = new(old) else {
                refused = 1;
                break;
            };
            {
                #[cfg(feature = "oracle")]
                let _masked = super::cpu::mask_interrupts();
                slot.store(new.bits(), Ordering::Relaxed);
                #[cfg(feature = "oracle")]
                self.entry(index).tell_stored(
                    _va + index as u64 * _level.bytes(),
                    _level,
                    old,
                    new,
                );
            }
            #[cfg(feature = "oracle")]
            {
                index += 1;
            }
            after(old);
        }
        let stored = self.slots.len() - slots.len() - refused;
        super::counters::count_stores(stored);
        stored
    }

    /// Stores leaves with these attributes that map `frames`, one after the other, up to an entry
    /// that is not empty; `va` is what the first entry maps, at level 3. Returns how many were
    /// stored.
    ///
    /// For the record they are what those of [`store_each`](Self::store_each) are. Eight at a time, as
    /// long as eight are empty.
    #[inline(always)]
    pub fn store_frames(self, va: VirtAddr, frames: &[Frame], attributes: Attributes) -> usize {
        let mut stored = 0;
        // The oracle is told of each by itself.
        if cfg!(not(feature = "oracle")) {
            let eights = self.slots.as_chunks::<8>().0;
            for (slots, frames) in eights.iter().zip(frames.as_chunks::<8>().0) {
                let held = |all, slot: &AtomicU64| all | slot.load(Ordering::Relaxed);
                if slots.iter().fold(0, held) != 0 {
                    break;
                }
                for (slot, frame) in slots.iter().zip(frames) {
                    let leaf = Descriptor::page(*frame, attributes);
                    slot.store(leaf.bits(), Ordering::Relaxed);
                }
                stored += 8;
            }
            super::counters::count_stores(stored);
        }
        if stored == self.slots.len() {
            return stored;
        }
        let mut rest = frames[stored.min(frames.len())..].iter();
        let new = |old: Descriptor| match old.is_none() {
            true => rest
                .next()
                .map(|frame| Descriptor::page(*frame, attributes)),
            false => None,
        };
        let at = va + stored as u64 * Level::L3.bytes();
        stored + self.from(stored).store_each(at, Level::L3, new, |_| ())
    }

    /// Clears them, whatever they hold; `va` is what the first maps, at `level`.
    ///
    /// For the record they are what those of [`store_each`](Self::store_each) are.
    #[inline(always)]
    pub fn clear_all(self, _va: VirtAddr, _level: Level) {
        #[cfg(feature = "oracle")]
        self.store_each(_va, _level, |_| Some(Descriptor::INVALID), |_| ());
        #[cfg(not(feature = "oracle"))]
        {
            let clear = |slot: &AtomicU64| slot.store(0, Ordering::Relaxed);
            let (fours, rest) = self.slots.as_chunks::<4>();
            fours.iter().for_each(|four| four.iter().for_each(clear));
            rest.iter().for_each(clear);
            super::counters::count_stores(self.slots.len());
        }
    }

    /// Clears them, and has what each held go through `fold`; `va` is what the first maps, at `level`.
    ///
    /// For the record they are what those of [`store_each`](Self::store_each) are. Four at a time: the
    /// loop is a third of the work otherwise.
    #[inline(always)]
    pub fn clear_each<A>(
        self,
        _va: VirtAddr,
        _level: Level,
        from: A,
        fold: impl Fn(A, Descriptor) -> A,
    ) -> A {
        #[cfg(feature = "oracle")]
        {
            let mut value = Some(from);
            let clear = |_| Some(Descriptor::INVALID);
            self.store_each(_va, _level, clear, |old| {
                value = value.take().map(|value| fold(value, old));
            });
            value.expect("each turn puts it back")
        }
        #[cfg(not(feature = "oracle"))]
        {
            let clear = |value, slot: &AtomicU64| {
                let old = slot.load(Ordering::Relaxed);
                slot.store(0, Ordering::Relaxed);
                fold(value, Descriptor::from_bits(old))
            };
            let (fours, rest) = self.slots.as_chunks::<4>();
            let value = fours
                .iter()
                .fold(from, |value, four| four.iter().fold(value, clear));
            let value = rest.iter().fold(value, clear);
            super::counters::count_stores(self.slots.len());
            value
        }
    }
}
