//! What the kernel says while a run is under way: a message that nothing led one to expect fails
//! the run, and so does one that was expected and did not come.

use super::{
    room::MAX_TASKS,
    wrong::{Wrong, ensure},
};
use crate::{
    arch::uart::{self, Tap},
    mm::lazy::{self, Model},
    task, warning,
};
use core::{
    fmt::{self, Write},
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};
use log::Level;
use spin::Mutex;

/// Warnings of the lazy MMU mode under a model that is there to give them.
static BY_DESIGN: AtomicU64 = AtomicU64::new(0);
/// Reports that are still to come in the step of each task: one more than its number, and how many.
static TO_COME: [(AtomicU32, AtomicU64); TASKS] =
    [const { (AtomicU32::new(0), AtomicU64::new(0)) }; TASKS];
/// Messages that were not expected.
static UNEXPECTED: AtomicU64 = AtomicU64::new(0);
/// The first of them.
static FIRST: Mutex<Head> = Mutex::new(Head::EMPTY);

/// Tasks that can listen: those that do things, and the one that sends them.
const TASKS: usize = MAX_TASKS + 1;

/// The beginning of a message.
#[derive(Clone, Copy)]
struct Head {
    bytes: [u8; 160],
    length: usize,
}

impl Head {
    const EMPTY: Self = Self {
        bytes: [0; 160],
        length: 0,
    };

    fn of(text: &fmt::Arguments<'_>) -> Self {
        let mut head = Self::EMPTY;
        // An error is what ends it early: the rest need not be formatted.
        let _ = head.write_fmt(*text);
        head
    }

    fn text(&self) -> &str {
        let bytes = &self.bytes[..self.length];
        bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())
    }
}

impl Write for Head {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.length..];
        let length = room.len().min(text.len());
        room[..length].copy_from_slice(&text.as_bytes()[..length]);
        self.length += length;
        if length < text.len() {
            return Err(fmt::Error);
        }
        Ok(())
    }
}

/// Whether the model of now warns of what is right under others: of nesting, or of pauses.
fn warns_by_design() -> bool {
    matches!(
        lazy::model(),
        Model::Strict | Model::Avoid | Model::NestingLevel
    )
}

/// Is shown each message.
fn hear(_: Level, text: &fmt::Arguments<'_>) -> bool {
    // Each warning is to be heard, not the first few of many.
    warning::print_again();
    let head = Head::of(text);
    let said = head.text();
    if said.starts_with("lazy MMU mode, model ") && warns_by_design() {
        BY_DESIGN.fetch_add(1, Relaxed);
        return false;
    }
    // Of every set_memory_* with RODATA=on.
    if said.starts_with("set_memory: the linear map is made of blocks") {
        return false;
    }
    let expected = |to_come: &AtomicU64| to_come.try_update(Relaxed, Relaxed, |n| n.checked_sub(1));
    if to_come().is_some_and(|to_come| expected(to_come).is_ok()) {
        return false;
    }
    // Whoever comes second, or from a handler, finds the lock held or the text there.
    if UNEXPECTED.fetch_add(1, Relaxed) == 0
        && let Some(mut first) = FIRST.try_lock()
    {
        *first = head;
    }
    true
}

/// Where the reports are counted that the running task expects; none are expected of a handler.
fn to_come() -> Option<&'static AtomicU64> {
    let task = task::current();
    let mut known = TO_COME.iter().filter(|_| !task.in_interrupt());
    let (_, count) = known.find(|(id, _)| id.load(Relaxed) == task.id + 1)?;
    Some(count)
}

/// Has the running task be the `n`-th of those that expect reports; 0 is the one that listens.
pub(super) fn join_in(n: usize) {
    let (id, count) = &TO_COME[n];
    count.store(0, Relaxed);
    id.store(task::current().id + 1, Relaxed);
}

/// Listens until the value is dropped.
pub(super) struct Listening(Option<Tap>);

impl Listening {
    pub(super) fn start() -> Self {
        UNEXPECTED.store(0, Relaxed);
        *FIRST.lock() = Head::EMPTY;
        TO_COME.iter().for_each(|(id, _)| id.store(0, Relaxed));
        join_in(0);
        BY_DESIGN.store(0, Relaxed);
        warning::print_again();
        Self(uart::set_tap(Some(hear)))
    }
}

/// Whether everything that was said was expected, and what the running task expected was said.
pub(super) fn verdict() -> Result<(), Wrong> {
    let count = UNEXPECTED.load(Relaxed);
    ensure!(
        count == 0,
        "{count} messages that nothing led to, the first: {}",
        FIRST
            .lock()
            .text()
            .lines()
            .find(|line| !line.starts_with('='))
            .unwrap_or_default()
    );
    let to_come = to_come().map_or(0, |to_come| to_come.load(Relaxed));
    ensure!(to_come == 0, "{to_come} reports that did not come");
    Ok(())
}

impl Drop for Listening {
    fn drop(&mut self) {
        uart::set_tap(self.0);
    }
}

/// Says that what comes next is reported, once.
pub(super) fn expect_report() {
    if let Some(to_come) = to_come() {
        to_come.fetch_add(1, Relaxed);
    }
}

/// How many warnings there were of the kind that a model is there to give.
pub(super) fn by_design() -> u64 {
    BY_DESIGN.load(Relaxed)
}
