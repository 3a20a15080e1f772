//! Reads a saved trace record by record, and says what is wrong with one that can't be read.

use crate::failure::{Failure, Result};
use mmu_oracle::format::{self, HEADER_BYTES, Header, RECORD_BYTES, Record};
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

/// A trace that is being read.
#[derive(Debug)]
pub struct Trace<R> {
    source: R,
    /// What a person calls it.
    name: String,
    header: Header,
    /// Records read so far.
    records: u64,
    /// Events among them.
    events: u64,
    /// The record that ends the trace was read.
    ended: bool,
}

impl Trace<BufReader<File>> {
    /// Opens the file.
    ///
    /// # Errors
    /// If it is not there, or is no trace.
    pub fn open(path: &Path, name: &str) -> Result<Self> {
        let file = File::open(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                Failure::error(format!("there is no {name}; make trace writes it"))
            }
            _ => Failure::error(format!("cannot open {name}: {error}")),
        })?;
        Self::new(BufReader::with_capacity(1 << 20, file), name)
    }
}

impl<R: Read> Trace<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// If it is not that of a trace.
    pub fn new(mut source: R, name: &str) -> Result<Self> {
        let mut bytes = [0; HEADER_BYTES];
        let got = fill(&mut source, &mut bytes)
            .map_err(|error| Failure::error(format!("cannot read {name}: {error}")))?;
        if got < HEADER_BYTES {
            return Err(Failure::fail(format!(
                "{name} is no trace: it has {got} bytes, and its header alone would have \
                 {HEADER_BYTES}"
            )));
        }
        let header = Header::decode(&bytes)
            .map_err(|error| Failure::fail(format!("{name} is no trace: {error}")))?;
        Ok(Self {
            source,
            name: name.to_owned(),
            header,
            records: 0,
            events: 0,
            ended: false,
        })
    }

    /// What a person calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What holds for the whole trace.
    pub fn header(&self) -> Header {
        self.header
    }

    /// Records read so far: the number of the one read last, counted from 1.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Events read so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The next record; `None` behind the one that ends the trace, which is not given.
    ///
    /// # Errors
    /// If there is none although the trace has not ended, it can't be read, or events were lost.
    pub fn next(&mut self) -> Result<Option<Record>> {
        let mut bytes = [0; RECORD_BYTES];
        let got = fill(&mut self.source, &mut bytes)
            .map_err(|error| Failure::error(format!("cannot read {}: {error}", self.name)))?;
        match (got, self.ended) {
            (0, true) => return Ok(None),
            (_, true) => return Err(self.wrong("it goes on behind the record that ends it")),
            (0, false) => {
                return Err(self.wrong(
                    "the record that ends it is missing: it was cut short, or the kernel \
                     did not come to its end",
                ));
            }
            (RECORD_BYTES, false) => self.records += 1,
            _ => return Err(self.wrong("it was cut short in the middle of a record")),
        }
        let record = format::decode(&bytes).map_err(|error| {
            let at = HEADER_BYTES as u64 + (self.records - 1) * RECORD_BYTES as u64;
            let (name, number) = (&self.name, self.records);
            Failure::fail(format!("{name}: record {number}, at byte {at}: {error}"))
        })?;
        match record {
            Record::Event(_) => self.events += 1,
            Record::Expected(_) => {}
            Record::End(end) if end.lost != 0 => {
                return Err(self.wrong(&format!("{} more were lost", end.lost)));
            }
            Record::End(end) if end.events != self.events => {
                return Err(self.wrong(&format!("it says that it has {}", end.events)));
            }
            Record::End(_) => {
                self.ended = true;
                return self.next();
            }
        }
        Ok(Some(record))
    }

    /// How many events there are. Reads all of them.
    ///
    /// # Errors
    /// If the trace is not whole.
    pub fn count(mut self) -> Result<u64> {
        while self.next()?.is_some() {}
        Ok(self.events)
    }

    fn wrong(&self, what: &str) -> Failure {
        Failure::fail(format!(
            "{} is not whole: after {} events {what}",
            self.name, self.events
        ))
    }
}

/// Reads until the buffer is full or the source at its end; how many bytes it was.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match source.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::failure::Verdict;
    use mmu_oracle::{
        Event, Kind,
        event::Barrier,
        format::{End, encode},
    };

    /// An event of CPU 0.
    pub fn event(kind: Kind) -> Event {
        Event {
            time: 0,
            cpu: 0,
            task: 1,
            kind,
        }
    }

    /// A whole trace of these records.
    pub fn saved(records: &[Record]) -> Vec<u8> {
        let mut bytes = Header::default().encode().to_vec();
        let mut end = End::default();
        for record in records {
            bytes.extend(match record {
                Record::Event(event) => {
                    end.events += 1;
                    encode(event)
                }
                Record::Expected(expected) => expected.encode(),
                Record::End(end) => end.encode(),
            });
        }
        bytes.extend(end.encode());
        bytes
    }

    fn two() -> Vec<u8> {
        let isb = Record::Event(event(Kind::Barrier(Barrier::Isb)));
        saved(&[isb, isb])
    }

    fn count(bytes: &[u8]) -> Result<u64> {
        Trace::new(bytes, "t").and_then(Trace::count)
    }

    /// Why it can't be read.
    fn refused(bytes: &[u8]) -> String {
        let failure = count(bytes).unwrap_err();
        assert_eq!(failure.verdict, Verdict::Fail);
        failure.reason
    }

    #[test]
    fn a_whole_trace_is_read_to_its_end() {
        assert_eq!(count(&two()).unwrap(), 2);
        assert_eq!(count(&saved(&[])).unwrap(), 0);
    }

    #[test]
    fn a_trace_cut_short_is_not_read_as_a_whole_one() {
        let whole = two();
        let why = "t is not whole: after 2 events the record that ends it is missing: it was cut \
                   short, or the kernel did not come to its end";
        assert_eq!(refused(&whole[..whole.len() - RECORD_BYTES]), why);
        let why = "t is not whole: after 2 events it was cut short in the middle of a record";
        assert_eq!(refused(&whole[..whole.len() - 1]), why);
        for length in 0..whole.len() {
            assert!(count(&whole[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn what_is_no_trace_is_called_so() {
        let why = "t is no trace: it has 0 bytes, and its header alone would have 48";
        assert_eq!(refused(&[]), why);
        let why = "t is no trace: it does not begin with LULLMMU1";
        assert_eq!(refused(&[b'x'; 4096]), why);
    }

    #[test]
    fn a_malformed_record_is_named() {
        let mut bytes = two();
        bytes[HEADER_BYTES + RECORD_BYTES + 13] = 99;
        let why = "t: record 2, at byte 96: unknown kind of record 99; known: 1 to 27, 254, 255";
        assert_eq!(refused(&bytes), why);
    }

    #[test]
    fn the_end_must_agree_with_what_came_before() {
        let mut more = two();
        more.extend([0; RECORD_BYTES]);
        let why = "t is not whole: after 2 events it goes on behind the record that ends it";
        assert_eq!(refused(&more), why);

        let with_end = |end: End| {
            let mut bytes = two();
            bytes.truncate(bytes.len() - RECORD_BYTES);
            bytes.extend(end.encode());
            bytes
        };
        let lost = with_end(End { events: 2, lost: 3 });
        let why = "t is not whole: after 2 events 3 more were lost";
        assert_eq!(refused(&lost), why);
        let other = with_end(End { events: 7, lost: 0 });
        let why = "t is not whole: after 2 events it says that it has 7";
        assert_eq!(refused(&other), why);
    }

    #[test]
    fn a_missing_file_is_called_missing() {
        let failure = Trace::open(Path::new("/nonsuch/mmu.trace"), "target/mmu.trace").unwrap_err();
        assert_eq!(
            failure.reason,
            "there is no target/mmu.trace; make trace writes it"
        );
    }
}
