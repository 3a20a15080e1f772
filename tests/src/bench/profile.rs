//! `make profile`: where a case spends its instructions, function by function.
//!
//! Nothing is sampled. QEMU logs every block of instructions that it executes; those between the two
//! marks of the first measured stretch are added up; the gdb stub stops the machine at the first, where
//! the log is switched on. The same case without the log says how many
//! instructions a round has, and so how many rounds there were.

use super::{
    Setting,
    calls::{Calls, Code, Sum},
    exec_log::Reader,
    stub::Stub,
};
use crate::failure::{Doing, Failure, Result};
use crate::gdb;
use crate::machine::Machine;
use crate::process::Group;
use crate::symbols::Symbols;
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// Functions that are shown of each table.
const SHOWN: usize = 40;

/// Rounds where nothing is said; a case in the steady state makes them up to a whole cycle.
const ROUNDS: u64 = 16;

/// What was executed, by function.
struct Profile {
    total: u64,
    /// The functions of the image, with all that was inlined into each.
    functions: Vec<(String, Sum)>,
    /// Their parts: the innermost function of each instruction, as the source has it.
    parts: Vec<(String, u64)>,
}

/// Profiles a case.
///
/// # Errors
/// If the kernel refuses the case, or does not come to the end of the stretch.
pub fn profile(setting: &Setting<'_>, words: &str) -> Result {
    let words = &match words {
        told if told.contains(" loops=") => told.to_owned(),
        words => format!("{words} loops={ROUNDS}"),
    };
    let measured = setting.measure(words, &[])?;
    let first = measured
        .first()
        .ok_or_else(|| Failure::fail("the case printed no measurement"))?;
    let profile = record(setting, words)?;
    let per_round = first.insn.max(1.0);
    let rounds = (profile.total as f64 / per_round).round().max(1.0);
    println!(
        "{words}: {} instructions, {rounds} rounds of {:.2}; by the counter, less the loop, {per_round:.2}",
        profile.total,
        profile.total as f64 / rounds,
    );
    println!("\n       own      %        all      %    calls  a round, by function of the image");
    for (name, sum) in profile.functions.iter().take(SHOWN) {
        println!(
            "{:10.2} {:6.1} {:10.2} {:6.1} {:8.2}  {name}",
            sum.own as f64 / rounds,
            percent(sum.own, profile.total),
            sum.all as f64 / rounds,
            percent(sum.all, profile.total),
            sum.calls as f64 / rounds,
        );
    }
    println!("\n       own      %  a round, by function of the source, inlined or not");
    for (name, own) in profile.parts.iter().take(SHOWN) {
        println!(
            "{:10.2} {:6.1}  {name}",
            *own as f64 / rounds,
            percent(*own, profile.total)
        );
    }
    Ok(())
}

fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

/// Names, each with a number.
#[derive(Default)]
struct Numbers {
    numbers: HashMap<String, usize>,
    names: Vec<String>,
}

impl Numbers {
    fn of(&mut self, name: String) -> usize {
        *self.numbers.entry(name).or_insert_with_key(|name| {
            self.names.push(name.clone());
            self.names.len() - 1
        })
    }
}

/// Runs the case with the log on, up to the end of its first stretch.
fn record(setting: &Setting<'_>, words: &str) -> Result<Profile> {
    let symbols = Symbols::new(setting.image, &setting.workspace.root);
    let mark = |name| {
        symbols
            .address_of(name)
            .ok_or_else(|| Failure::error(format!("the image has no function {name}")))
    };
    let (begin, end) = (mark("bench_begin")?, mark("bench_end")?);
    let port = gdb::free_port()?;
    let machine = setting
        .machine(&format!("bench {words}"), &[])?
        .counting_instructions()
        .stopped_for_gdb(port);
    let mut group = start(&machine)?;
    // The log is on standard error; what the kernel prints is not wanted.
    let log = group
        .take_stderr()
        .ok_or_else(|| Failure::error("QEMU has no log"))?;
    let mut stub = Stub::connect(port)?;
    stub.run_to(begin)?;
    stub.monitor("log in_asm,exec,nochain")?;
    stub.go_on()?;

    let code = Code::read(&std::fs::read(setting.image).doing("read the image")?);
    let (mut functions, mut parts) = (Numbers::default(), Numbers::default());
    let mut calls = Calls::new(code, |address| functions.of(names(&symbols, address).0));
    // How often each block was executed.
    let mut executed: Vec<u64> = Vec::new();
    let (mut reader, mut ended) = (Reader::default(), false);
    for line in BufReader::with_capacity(1 << 20, log).split(b'\n') {
        let Some(number) = reader.line(&line.doing("read QEMU's log")?) else {
            continue;
        };
        let block = reader.block(number);
        if block.start == end {
            ended = true;
            break;
        }
        calls.executed(number, block);
        executed.resize(executed.len().max(number + 1), 0);
        executed[number] += 1;
    }
    if !ended {
        return Err(Failure::fail(
            "the machine did not come to the end of the case",
        ));
    }
    drop(stub);
    drop(group);

    let sums = calls.sums().to_owned();
    let mut own: HashMap<usize, u64> = HashMap::new();
    for (number, count) in executed.iter().enumerate() {
        let block = reader.block(number);
        for index in 0..block.instructions {
            let (_, part) = names(&symbols, block.start + 4 * index);
            *own.entry(parts.of(part)).or_default() += count;
        }
    }
    drop(calls);
    let mut functions: Vec<_> = functions.names.into_iter().zip(sums).collect();
    functions.sort_by_key(|(_, sum)| std::cmp::Reverse((sum.own, sum.all)));
    let mut parts: Vec<_> = own
        .into_iter()
        .map(|(number, own)| (parts.names[number].clone(), own))
        .collect();
    parts.sort_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
    Ok(Profile {
        total: functions.iter().map(|(_, sum)| sum.own).sum(),
        functions,
        parts,
    })
}

/// The function of the image that an address is in, and the one of the source.
fn names(symbols: &Symbols, address: u64) -> (String, String) {
    let unknown = || "(unknown)".to_owned();
    let names = symbols.functions(address);
    names.unwrap_or_else(|| (unknown(), unknown()))
}

/// Starts the machine with its log in a pipe.
fn start(machine: &Machine) -> Result<Group> {
    let mut command = machine.command();
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    Group::start(&mut command)
}
