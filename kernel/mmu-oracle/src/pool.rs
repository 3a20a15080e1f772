//! A pool of records of fixed size that are found by address and by frame.

use bytemuck::Pod;

/// No record.
const NONE: u32 = u32::MAX;

/// What a pool holds.
pub(crate) trait Record: Pod {
    /// What it is found by first.
    fn address_key(&self) -> u64;
    /// What it is found by second.
    fn frame_key(&self) -> u64;
    /// The links of its two chains; the first also of the free ones.
    fn next(&mut self) -> &mut [u32; 2];
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
            self.free = self.records[slot as usize].next()[0];
            slot
        } else if self.touched < self.records.len() && self.heads.iter().all(|t| !t.is_empty()) {
            self.touched += 1;
            (self.touched - 1) as u32
        } else {
            return Err(Full);
        };
        for by in [By::Address, By::Frame] {
            let key = Self::key(&record, by);
            let head = self.head(by, key);
            let next = core::mem::replace(head, slot);
            record.next()[by as usize] = next;
        }
        self.records[slot as usize] = record;
        self.live += 1;
        Ok(())
    }

    /// Takes the record in `slot` out.
    pub fn remove(&mut self, slot: usize) -> R {
        let record = self.records[slot];
        for by in [By::Address, By::Frame] {
            let key = Self::key(&record, by);
            let after = self.records[slot].next()[by as usize];
            let mut at = *self.head(by, key);
            if at as usize == slot {
                *self.head(by, key) = after;
                continue;
            }
            while at != NONE {
                let next = &mut self.records[at as usize].next()[by as usize];
                if *next as usize == slot {
                    *next = after;
                    break;
                }
                at = *next;
            }
        }
        // A free record has key 0 in both, which no live one has.
        self.records[slot] = R::zeroed();
        self.records[slot].next()[0] = self.free;
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
            Some(slot) => self.records[slot].next()[by as usize],
        };
        while at != NONE {
            let record = &mut self.records[at as usize];
            if Self::key(record, by) == key {
                return Some(at as usize);
            }
            at = record.next()[by as usize];
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
