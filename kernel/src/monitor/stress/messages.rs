//! What the kernel says while a run is under way: a message that nothing led one to expect fails
//! the run, and so does one that was expected and did not come.

use super::wrong::{Wrong, ensure};
use crate::{
    arch::uart::{self, Tap},
    mm::lazy::{self, Model},
    warning,
};
use core::{
    fmt::{self, Write},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};
use log::Level;
use spin::Mutex;

/// Warnings of the lazy MMU mode under a model that is there to give them.
static BY_DESIGN: AtomicU64 = AtomicU64::new(0);
/// Reports that are still to come in this step.
static TO_COME: AtomicU64 = AtomicU64::new(0);
/// The first message that was not expected, and their number.
static UNEXPECTED: Mutex<(Head, u64)> = Mutex::new((Head::EMPTY, 0));

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
    if TO_COME
        .try_update(Relaxed, Relaxed, |n| n.checked_sub(1))
        .is_ok()
    {
        return false;
    }
    if let Some(mut unexpected) = UNEXPECTED.try_lock() {
        if unexpected.1 == 0 {
            unexpected.0 = head;
        }
        unexpected.1 += 1;
    }
    true
}

/// Listens until the value is dropped.
pub(super) struct Listening(Option<Tap>);

impl Listening {
    pub(super) fn start() -> Self {
        *UNEXPECTED.lock() = (Head::EMPTY, 0);
        TO_COME.store(0, Relaxed);
        BY_DESIGN.store(0, Relaxed);
        warning::print_again();
        Self(uart::set_tap(Some(hear)))
    }

    /// Whether everything that was said was expected, and the other way round.
    pub(super) fn verdict(&self) -> Result<(), Wrong> {
        let (head, count) = *UNEXPECTED.lock();
        ensure!(
            count == 0,
            "{count} messages that nothing led to, the first: {}",
            head.text()
                .lines()
                .find(|line| !line.starts_with('='))
                .unwrap_or_default()
        );
        let to_come = TO_COME.load(Relaxed);
        ensure!(to_come == 0, "{to_come} reports that did not come");
        Ok(())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        uart::set_tap(self.0);
    }
}

/// Says that what comes next is reported, once.
pub(super) fn expect_report() {
    TO_COME.fetch_add(1, Relaxed);
}

/// How many warnings there were of the kind that a model is there to give.
pub(super) fn by_design() -> u64 {
    BY_DESIGN.load(Relaxed)
}
