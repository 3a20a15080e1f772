//! Bytes are the choices of the author of a program and of who breaks it: where the machine goes
//! wrong, the oracle has complained.
#![no_main]

#[allow(dead_code, reason = "the properties use the rest")]
#[path = "../../tests/model/mod.rs"]
mod model;

use libfuzzer_sys::fuzz_target;
use model::{Choices, edits, machine, recipes};

fuzz_target!(|bytes: &[u8]| {
    let [seed, edits @ .., _] = bytes else { return };
    let (edits, choices) = edits.split_at(edits.len().min(12));
    let mut program = recipes::correct(&mut Choices(choices));
    edits::break_it(&mut program, &mut Choices(edits));
    for n in 0..8 {
        let run = machine::run(&program, u64::from(*seed) << 8 | n);
        if let Some(first) = run.wrong.iter().map(|wrong| wrong.by).min() {
            let complaint = model::judge(&program, &run.events[..first]);
            assert!(complaint.is_some(), "{:?}", run.wrong);
        }
    }
});
