//! The file on the host that takes every event, in the format of `mmu_oracle::format`.
//!
//! Events are gathered in lent memory and written when it is full and at the end: each write leaves
//! the emulator.

use crate::arch::time;
use core::ffi::CStr;
use mmu_oracle::{
    Event, Rule,
    format::{self, End, Expected, Header, RECORD_BYTES},
};
use semihosting::{fs::File, io::Write};

/// The longest path, with the zero at its end.
const PATH: usize = 256;

/// The file, and what is not in it yet.
pub(super) struct Sink {
    file: File,
    buffer: &'static mut [u64],
    /// Records in the buffer.
    gathered: usize,
    /// Records that went to the file or the buffer.
    events: u64,
    /// Records that the host did not take.
    lost: u64,
}

impl Sink {
    /// Words of the buffer: a whole number of records.
    pub(super) const WORDS: usize = RECORD_BYTES / 8 * (16 << 10);

    /// Makes the file, with a buffer from the front of `memory`; gives back the rest.
    ///
    /// # Errors
    /// What the host did not do.
    pub(super) fn open(
        path: &str,
        ets2: bool,
        memory: &'static mut [u64],
    ) -> Result<(Self, &'static mut [u64]), &'static str> {
        let mut name = [0; PATH];
        let text = name
            .get_mut(..path.len())
            .filter(|_| path.len() < PATH)
            .ok_or("its path is too long")?;
        text.copy_from_slice(path.as_bytes());
        let name = CStr::from_bytes_until_nul(&name).map_err(|_| "its path is too long")?;
        let mut file = File::create(name).map_err(|_| "the host could not make it")?;
        let header = Header {
            ets2,
            ticks_per_second: time::frequency(),
        };
        file.write_all(&header.encode())
            .map_err(|_| "the host could not write to it")?;
        let (buffer, rest) = memory
            .split_at_mut_checked(Self::WORDS)
            .ok_or("there is no memory for its buffer")?;
        let sink = Self {
            file,
            buffer,
            gathered: 0,
            events: 0,
            lost: 0,
        };
        Ok((sink, rest))
    }

    /// Takes an event.
    pub(super) fn push(&mut self, event: &Event) {
        self.events += 1;
        self.gather(&format::encode(event));
    }

    /// From here on these rules are broken on purpose.
    pub(super) fn expect(&mut self, rules: impl Iterator<Item = Rule>) {
        self.gather(&Expected::new(rules).encode());
    }

    fn gather(&mut self, record: &[u8; RECORD_BYTES]) {
        let at = self.gathered * (RECORD_BYTES / 8);
        let room = &mut self.buffer[at..at + RECORD_BYTES / 8];
        let (words, _) = record.as_chunks::<8>();
        for (word, bytes) in room.iter_mut().zip(words) {
            *word = u64::from_ne_bytes(*bytes);
        }
        self.gathered += 1;
        if self.gathered * (RECORD_BYTES / 8) == self.buffer.len() {
            self.write();
        }
    }

    fn write(&mut self) {
        let words = &self.buffer[..self.gathered * (RECORD_BYTES / 8)];
        let mut bytes = [0; RECORD_BYTES * 64];
        for part in words.chunks(bytes.len() / 8) {
            for (slot, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(part) {
                *slot = word.to_ne_bytes();
            }
            let part = &bytes[..part.len() * 8];
            if self.file.write_all(part).is_err() {
                self.lost += (part.len() / RECORD_BYTES) as u64;
            }
        }
        self.gathered = 0;
    }

    /// Writes what is left, and the record that says that the trace is whole.
    ///
    /// # Errors
    /// Events were lost.
    pub(super) fn close(mut self) -> Result<(), ()> {
        let end = End {
            events: self.events,
            lost: self.lost,
        };
        self.gather(&end.encode());
        self.write();
        if self.lost == 0 { Ok(()) } else { Err(()) }
    }
}
