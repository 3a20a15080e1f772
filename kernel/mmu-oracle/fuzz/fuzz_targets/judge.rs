//! Bytes are records of a saved trace: those that can be decoded are judged. Nothing may panic, and
//! what is judged is counted.
#![no_main]

#[allow(dead_code, reason = "the properties use the rest")]
#[path = "../../tests/model/mod.rs"]
mod model;

use libfuzzer_sys::fuzz_target;
use mmu_oracle::{
    Config, Memory, Oracle,
    format::{RECORD_BYTES, Record, decode},
};

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, bytes)) = bytes.split_first() else {
        return;
    };
    // The first byte: with FEAT_ETS2, few addresses, how much memory.
    let (ets2, narrow) = (first & 1 != 0, first & 2 != 0);
    let mut words = vec![0; Memory::words_for(usize::from(first >> 2))];
    let mut oracle = Oracle::new(Memory::new(&mut words), Config { ets2 });
    let mut events = 0;
    for record in bytes.chunks_exact(RECORD_BYTES) {
        let record = record.try_into().expect("chunks are as long");
        if let Ok(Record::Event(event)) = decode(record) {
            let event = if narrow {
                model::narrow::narrow(event)
            } else {
                event
            };
            if let Some(violation) = oracle.judge(&event) {
                assert!(violation.to_string().starts_with(violation.rule.name()));
            }
            events += 1;
        }
    }
    assert_eq!(oracle.stats().events, events);
});
