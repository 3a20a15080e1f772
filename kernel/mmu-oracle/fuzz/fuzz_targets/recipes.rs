//! Bytes are the choices of the author of a correct program: it never goes wrong, and is never
//! complained of.
#![no_main]

#[allow(dead_code, reason = "the properties use the rest")]
#[path = "../../tests/model/mod.rs"]
mod model;

use libfuzzer_sys::fuzz_target;
use model::{Choices, machine, recipes};

fuzz_target!(|bytes: &[u8]| {
    let Some((&seed, choices)) = bytes.split_first() else {
        return;
    };
    let program = recipes::correct(&mut Choices(choices));
    for n in 0..4 {
        let run = machine::run(&program, u64::from(seed) << 8 | n);
        assert!(run.whole && run.wrong.is_empty(), "{:?}", run.wrong);
        if let Some((by, violation)) = model::judge(&program, &run.events) {
            panic!("event {by}: {violation}");
        }
    }
});
