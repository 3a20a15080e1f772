//! A litmus test as it was read: threads, initial state, and the outcomes that it asks about.

use super::condition::{self, Outcome};
use super::decode::instruction;
use super::instruction::Instruction;
use super::state::{self, Binding};
use super::text::{Part, Parts, Read, Unsupported};
use std::collections::BTreeMap;

/// A litmus test.
#[derive(Clone, Debug)]
pub struct Test {
    /// Who has which value at the start.
    pub initial: Vec<Binding>,
    /// The threads, each on a CPU of its own.
    pub threads: Vec<Thread>,
    /// The outcomes that the condition asks about: any of them.
    pub outcomes: Vec<Outcome>,
}

/// The code of a thread: its own, [`Instruction::End`], its handler's, [`Instruction::End`].
#[derive(Clone, Debug, Default)]
pub struct Thread {
    /// The instructions, each with its line.
    pub code: Vec<(usize, Instruction)>,
    /// Where the code of its exception handler begins, if it has one.
    pub handler: Option<usize>,
    /// Where each label is.
    pub labels: BTreeMap<String, usize>,
}

impl Thread {
    /// Whether the instruction there is the handler's.
    pub fn in_handler(&self, pc: usize) -> bool {
        self.handler.is_some_and(|handler| pc >= handler)
    }
}

impl Test {
    /// Reads a test.
    ///
    /// # Errors
    /// At what can't be read or has no counterpart.
    pub fn read(text: &str) -> Read<Self> {
        let parts = Parts::of(text)?;
        for (line, key, value) in &parts.keys {
            // Hardware updates of entries, code at EL0, another machine than the usual.
            let usual = match key.as_str() {
                "TTHM" | "EL0" => value.is_empty(),
                "Variant" => value.split([',', ' ']).all(|word| word == "vmsa"),
                _ => true,
            };
            if !usual {
                return Err(Unsupported::at(*line, format!("{key}={value}")));
            }
        }
        let test = Self {
            initial: state::initial(&parts.initial)?,
            threads: threads(&parts.rows)?,
            outcomes: condition::outcomes(&parts.end)?,
        };
        Ok(test)
    }
}

/// Reads the columns of the program.
fn threads(rows: &[Part]) -> Read<Vec<Thread>> {
    let (header, rows) = rows
        .split_first()
        .ok_or_else(|| Unsupported::at(0, "there is no program"))?;
    let columns: Vec<Column> = header
        .text
        .split('|')
        .map(|name| column(name.trim(), header.line))
        .collect::<Read<_>>()?;
    let mut own: BTreeMap<usize, Code> = BTreeMap::new();
    let mut handlers: BTreeMap<usize, Code> = BTreeMap::new();
    for column in &columns {
        let codes = if column.is_handler {
            &mut handlers
        } else {
            &mut own
        };
        if codes.insert(column.thread, Code::default()).is_some() {
            return Err(Unsupported::at(header.line, "a thread is there twice"));
        }
    }
    if !own.keys().copied().eq(0..own.len()) || !handlers.keys().all(|t| own.contains_key(t)) {
        return Err(Unsupported::at(
            header.line,
            "the threads are not P0, P1, ..",
        ));
    }
    for row in rows {
        let cells: Vec<_> = row.text.split('|').collect();
        if cells.len() > columns.len() {
            return Err(Unsupported::at(row.line, "a row has too many columns"));
        }
        for (cell, column) in cells.iter().zip(&columns) {
            let codes = if column.is_handler {
                &mut handlers
            } else {
                &mut own
            };
            if let Some(code) = codes.get_mut(&column.thread) {
                code.add(cell.trim(), row.line)?;
            }
        }
    }
    own.into_iter()
        .map(|(thread, code)| code.into_thread(handlers.remove(&thread)))
        .collect()
}

/// What a column of the program is.
struct Column {
    thread: usize,
    is_handler: bool,
}

fn column(name: &str, line: usize) -> Read<Column> {
    let (thread, is_handler) = match name.split_once('.') {
        Some((thread, "F")) => (thread, true),
        _ => (name, false),
    };
    let thread = state::thread_of(thread)
        .ok_or_else(|| Unsupported::at(line, format!("unknown column '{name}'")))?;
    Ok(Column { thread, is_handler })
}

/// The instructions of a column and its labels.
#[derive(Default)]
struct Code {
    instructions: Vec<(usize, Instruction)>,
    labels: Vec<(String, usize, usize)>,
}

impl Code {
    /// Adds a cell: labels, and an instruction or none.
    fn add(&mut self, cell: &str, line: usize) -> Read<()> {
        // The row may begin before its first instruction does.
        let mut left = cell;
        while let Some((label, rest)) = left.split_once(':') {
            let label = label.trim();
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if label.is_empty() || !label.chars().all(is_name) {
                return Err(Unsupported::at(line, format!("unknown label '{label}'")));
            }
            self.labels
                .push((label.to_owned(), self.instructions.len(), line));
            left = rest.trim();
        }
        if left.is_empty() {
            return Ok(());
        }
        let instruction = instruction(left)
            .ok_or_else(|| Unsupported::at(line, format!("unknown instruction '{left}'")))?;
        self.instructions.push((line, instruction));
        Ok(())
    }

    fn into_thread(self, handler: Option<Self>) -> Read<Thread> {
        let mut thread = Thread::default();
        let has_handler = handler.is_some();
        for code in [Some(self), handler].into_iter().flatten() {
            let start = thread.code.len();
            if has_handler && start != 0 {
                thread.handler = Some(start);
            }
            for (label, at, line) in code.labels {
                if thread.labels.insert(label.clone(), start + at).is_some() {
                    let why = format!("label '{label}' is there twice");
                    return Err(Unsupported::at(line, why));
                }
            }
            thread.code.extend(code.instructions);
            thread.code.push((0, Instruction::End));
        }
        for (line, instruction) in &thread.code {
            if let Instruction::Branch(_, label) = instruction
                && !thread.labels.contains_key(label)
            {
                return Err(Unsupported::at(*line, format!("no label '{label}'")));
            }
            if matches!(instruction, Instruction::Call) && !has_handler {
                return Err(Unsupported::at(*line, "SVC, but no handler"));
            }
        }
        Ok(thread)
    }
}
