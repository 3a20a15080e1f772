//! A pool of records of fixed size that are found by address and by frame.

use bytemuck::{Pod, Zeroable};

/// No record.
const NONE: u32 = u32::MAX;

/// What a pool holds.
pub(crate) trait Record: Pod {
    /// What it is found by first.
    fn address_key(&self) -> u64;
    /// What it is found by second.
    fn frame_key(&self) -> u64;
    /// Its links in the two chains; the first also in the one of the free ones.
    fn links(&mut self) -> &mut [Link; 2];
}

/// Its neighbours in a chain. Both ways: a frame that is mapped at many addresses makes a long one.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Link {
    next: u32,
    previous: u32,
}

/// Which of the two keys.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    Address,
    Frame,
}

/// The pool.
#[derive(Debug)]
pub(crate) struct Pool<'m, R> {
    records: &'m mut [R],
    heads: [&'m mut [u32]; 2],
    free: u32,
    /// Records below this have been used; they hold a link of the free ones or are live.
    touched: usize,
    live: usize,
}

/// There is no room for another record.
#[derive(Debug)]
pub(crate) struct Full;

impl<'m, R: Record> Pool<'m, R> {
    /// `heads` are two tables of links, each as long as a power of two or not.
    pub fn new(records: &'m mut [R], heads: [&'m mut [u32]; 2]) -> Self {
        let heads = heads.map(|table| {
            table.fill(NONE);
            table
        });
        Self {
            records,
            heads,
            free: NONE,
            touched: 0,
            live: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.live
    }

    fn head(&mut self, by: By, key: u64) -> &mut u32 {
        let table = &mut *self.heads[by as usize];
        // Fibonacci hashing; the high half of the product is the well mixed one.
        let hash = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
        let len = table.len();
        &mut table[hash % len]
    }

    fn key(record: &R, by: By) -> u64 {
        match by {
            By::Address => record.address_key(),
            By::Frame => record.frame_key(),
        }
    }

    /// Takes a record in.
    pub fn insert(&mut self, mut record: R) -> Result<(), Full> {
        let slot = if self.free != NONE {
            let slot = self.free;
            self.free = self.records[slot as usize].links()[0].next;
            slot
        } else if self.touched < self.records.len() && self.heads.iter().all(|t| !t.is_empty()) {
            self.touched += 1;
            (self.touched - 1) as u32
        } else {
            return Err(Full);
        };
        for by in [By::Address, By::Frame] {
            let key = Self::key(&record, by);
            let next = core::mem::replace(self.head(by, key), slot);
            if let Some(neighbour) = self.records.get_mut(next as usize) {
                neighbour.links()[by as usize].previous = slot;
            }
            let previous = NONE;
            record.links()[by as usize] = Link { next, previous };
        }
        self.records[slot as usize] = record;
        self.live += 1;
        Ok(())
    }

    /// Takes the record in `slot` out.
    pub fn remove(&mut self, slot: usize) -> R {
        let mut record = self.records[slot];
        for by in [By::Address, By::Frame] {
            let Link { next, previous } = record.links()[by as usize];
            if let Some(neighbour) = self.records.get_mut(next as usize) {
                neighbour.links()[by as usize].previous = previous;
            }
            match self.records.get_mut(previous as usize) {
                Some(neighbour) => neighbour.links()[by as usize].next = next,
                None => *self.head(by, Self::key(&record, by)) = next,
            }
        }
        // A free record has key 0 in both, which no live one has.
        self.records[slot] = R::zeroed();
        self.records[slot].links()[0].next = self.free;
        self.free = slot as u32;
        self.live -= 1;
        record
    }

    /// The first record with this key after `after`.
    pub fn find(&mut self, by: By, key: u64, after: Option<usize>) -> Option<usize> {
        let mut at = match after {
            // Without memory there are no heads, and no records.
            None if self.live == 0 => NONE,
            None => *self.head(by, key),
            Some(slot) => self.records[slot].links()[by as usize].next,
        };
        while at != NONE {
            let record = &mut self.records[at as usize];
            if Self::key(record, by) == key {
                return Some(at as usize);
            }
            at = record.links()[by as usize].next;
        }
        None
    }

    /// The first live record at or after `slot`, in no order that means anything.
    pub fn live_from(&self, slot: usize) -> Option<usize> {
        if self.live == 0 {
            return None;
        }
        (slot..self.touched).find(|slot| self.records[*slot].address_key() != 0)
    }

    pub fn get(&self, slot: usize) -> &R {
        &self.records[slot]
    }

    /// The record, to be changed in what is no key.
    pub fn get_mut(&mut self, slot: usize) -> &mut R {
        &mut self.records[slot]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Pod, Zeroable)]
    #[repr(C)]
    struct Pair {
        address: u64,
        frame: u64,
        links: [Link; 2],
    }

    impl Record for Pair {
        fn address_key(&self) -> u64 {
            self.address
        }

        fn frame_key(&self) -> u64 {
            self.frame
        }

        fn links(&mut self) -> &mut [Link; 2] {
            &mut self.links
        }
    }

    fn pair(address: u64, frame: u64) -> Pair {
        let links = Zeroable::zeroed();
        Pair {
            address,
            frame,
            links,
        }
    }

    /// Against a plain list: what is found by either key, in any order of coming and going.
    #[test]
    fn what_is_in_is_found_by_both_keys() {
        let mut records = vec![Pair::zeroed(); 40];
        let (mut a, mut b) = (vec![0; 7], vec![0; 3]);
        let mut pool = Pool::new(&mut records, [&mut a, &mut b]);
        let mut list = Vec::new();
        let mut state = 1_u64;
        for _ in 0..4000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let (address, frame) = (1 + (state >> 33) % 50, 1 + (state >> 40) % 4);
            match list.iter().position(|(known, _)| *known == address) {
                Some(at) => {
                    let (address, frame) = list.swap_remove(at);
                    let slot = pool.find(By::Address, address, None).unwrap();
                    let gone = pool.remove(slot);
                    assert_eq!((gone.address, gone.frame), (address, frame));
                }
                None => {
                    let full = pool.insert(pair(address, frame)).is_err();
                    assert_eq!(full, list.len() == 40);
                    if !full {
                        list.push((address, frame));
                    }
                }
            }
            assert_eq!(pool.len(), list.len());
            for frame in 1..5 {
                let mut found = Vec::new();
                let mut next = pool.find(By::Frame, frame, None);
                while let Some(slot) = next {
                    found.push(pool.get(slot).address);
                    next = pool.find(By::Frame, frame, Some(slot));
                }
                let of_frame = list.iter().filter(|(_, f)| *f == frame);
                let mut expected: Vec<_> = of_frame.map(|(address, _)| *address).collect();
                found.sort_unstable();
                expected.sort_unstable();
                assert_eq!(found, expected);
            }
        }
    }
}
