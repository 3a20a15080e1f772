//! What host tests of the page tables share: the one machine that the statics stand for, and
//! memory for tables.

use super::{
    lazy::{self, Backend, Model, PageTableLock},
    page_alloc::OutOfMemory,
    page_table::TableMemory,
};
use crate::{
    arch::{
        cpu::{self, Features},
        entry::{Entries, Entry},
    },
    task,
    trace::{self, Barrier, Counts, Event, Kind},
};
use std::{
    cell::Cell,
    mem::MaybeUninit,
    ptr::NonNull,
    sync::{Mutex, MutexGuard, PoisonError},
};
use vmsa::{Descriptor, Frame, Level, PTRS_PER_TABLE, PhysAddr};

/// Held by the test that uses the machine: tests run side by side, and the chosen model, the
/// counters and the recording exist once.
static MACHINE: Mutex<()> = Mutex::new(());

/// The machine, this thread's own until the value is dropped.
#[derive(Debug)]
pub struct Machine {
    _held: MutexGuard<'static, ()>,
}

/// What a recorded event was, as far as sequences are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An entry of this level was made valid, or a valid one was changed.
    Valid(Level),
    /// An entry of this level was made invalid.
    Invalid(Level),
    /// DSB ISHST.
    DsbIshst,
    /// DSB ISH.
    DsbIsh,
    /// ISB.
    Isb,
    /// A TLBI, by its name.
    Tlbi(&'static str),
}

impl Machine {
    /// Waits for the machine, and makes it as at boot: default model and backend, a CPU that has
    /// everything but FEAT_ETS2, a task that is in no section.
    pub fn take() -> Self {
        let held = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
        // A test that failed may have left anything, where all tests run on one thread.
        task::current().interrupt_depth.set(0);
        lazy::reset();
        let machine = Self { _held: held };
        machine.choose(Model::TwoCounters, Backend::Barriers);
        assert_eq!(lazy::choose_page_table_lock(PageTableLock::None), Ok(()));
        lazy::count_on_ets2(false);
        machine.has(true, true);
        machine
    }

    /// Chooses model and backend.
    pub fn choose(&self, model: Model, backend: Backend) {
        assert_eq!(lazy::choose(model, backend), Ok(()));
    }

    /// Chooses what the CPU has.
    pub fn has(&self, tlbi_range: bool, ttl: bool) {
        cpu::set_features(Features { tlbi_range, ttl });
    }

    /// Records what `action` does.
    pub fn record<R>(&self, action: impl FnOnce() -> R) -> (R, Vec<Event>) {
        const ROOM: usize = if cfg!(miri) { 1 << 12 } else { 1 << 16 };
        let mut memory: Box<[MaybeUninit<Event>]> = Box::new_uninit_slice(ROOM);
        let mut recording = trace::start(&mut memory).expect("the machine is ours");
        let result = action();
        let events = recording.events().expect("there is room").to_vec();
        (result, events)
    }

    /// The steps of `action`.
    pub fn steps(&self, action: impl FnOnce()) -> Vec<Step> {
        steps(&self.record(action).1)
    }
}

/// The steps that events were, in their order.
pub fn steps(events: &[Event]) -> Vec<Step> {
    let step = |event: &Event| match event.kind {
        Kind::Store { level, new, .. } if new.is_valid() => Some(Step::Valid(level)),
        Kind::Store { level, .. } => Some(Step::Invalid(level)),
        Kind::Barrier(Barrier::DsbIshst) => Some(Step::DsbIshst),
        Kind::Barrier(Barrier::DsbIsh) => Some(Step::DsbIsh),
        Kind::Barrier(Barrier::DsbNsh) => panic!("nothing here is for one CPU alone"),
        Kind::Barrier(Barrier::Isb) => Some(Step::Isb),
        Kind::Tlbi(operation) => Some(Step::Tlbi(operation.name())),
        _ => None,
    };
    events.iter().filter_map(step).collect()
}

/// Where the pages of an [`Arena`] are said to be.
const BASE: PhysAddr = PhysAddr::literal(0x8000_0000);

/// Pages for tables, at physical addresses of their own making. A page holds rubbish until it is
/// zeroed.
#[derive(Debug)]
pub struct Arena {
    pages: Vec<NonNull<[u64; PTRS_PER_TABLE]>>,
    /// Pages that are still given out.
    left: usize,
    /// Pages asked for in each call.
    calls: Vec<usize>,
    /// Pages zeroed.
    zeroed: Cell<usize>,
    /// The counters when each page came back.
    freed: Vec<Counts>,
}

impl Arena {
    /// An arena that has `pages` pages to give.
    pub fn with(pages: usize) -> Self {
        Self {
            pages: Vec::new(),
            left: pages,
            calls: Vec::new(),
            zeroed: Cell::new(0),
            freed: Vec::new(),
        }
    }

    /// An arena that has enough.
    pub fn new() -> Self {
        Self::with(usize::MAX)
    }

    /// Pages given out.
    pub fn used(&self) -> usize {
        self.pages.len()
    }

    /// Pages given out by each call, in order.
    pub fn calls(&self) -> &[usize] {
        &self.calls
    }

    /// Pages zeroed.
    pub fn zeroed(&self) -> usize {
        self.zeroed.get()
    }

    /// For each page that came back, the counters at that time.
    pub fn freed(&self) -> &[Counts] {
        &self.freed
    }

    /// Lets `pages` more be given out.
    pub fn allow(&mut self, pages: usize) {
        self.left = pages;
    }

    fn page(&self, frame: Frame) -> NonNull<[u64; PTRS_PER_TABLE]> {
        let index = (frame.start() - BASE) / vmsa::PAGE_SIZE;
        self.pages[usize::try_from(index).expect("an index")]
    }

    /// What an entry holds.
    pub fn read(&self, table: Frame, index: usize) -> Descriptor {
        self.at(table, index).load()
    }

    /// The entries of a table that are not zero.
    pub fn in_use(&self, table: Frame) -> Vec<(usize, Descriptor)> {
        // SAFETY: a page of the arena, which this thread alone accesses.
        let page = unsafe { self.page(table).read() };
        let in_use = page.iter().enumerate().filter(|(_, bits)| **bits != 0);
        in_use
            .map(|(index, bits)| (index, Descriptor::from_bits(*bits)))
            .collect()
    }

    /// Stores an entry behind the back of the code under test.
    pub fn write(&self, table: Frame, index: usize, descriptor: Descriptor) {
        assert!(index < PTRS_PER_TABLE);
        // SAFETY: in the page; nobody holds a reference to a plain integer in it.
        unsafe {
            self.page(table)
                .cast::<u64>()
                .add(index)
                .write(descriptor.bits());
        }
    }

    fn at(&self, table: Frame, index: usize) -> Entry {
        assert!(index < PTRS_PER_TABLE);
        let pa = table.start() + index as u64 * 8;
        // SAFETY: in the page, which stays until the arena is dropped; tests drop what uses it
        // before. It is accessed by this thread alone.
        unsafe { Entry::new(self.page(table).cast::<u64>().add(index).as_ptr(), pa) }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for page in &self.pages {
            // SAFETY: `allocate` leaked the box.
            drop(unsafe { Box::from_raw(page.as_ptr()) });
        }
    }
}

impl TableMemory for &mut Arena {
    fn allocate(&mut self, frames: &mut [Frame]) -> Result<(), OutOfMemory> {
        self.left = self.left.checked_sub(frames.len()).ok_or_else(|| {
            self.left = 0;
            OutOfMemory
        })?;
        self.calls.push(frames.len());
        for slot in frames {
            let rubbish = Box::new([0x5a5a_5a5a_5a5a_5a5b; PTRS_PER_TABLE]);
            *slot = Frame::containing(BASE + self.pages.len() as u64 * vmsa::PAGE_SIZE);
            self.pages.push(NonNull::from(Box::leak(rubbish)));
        }
        Ok(())
    }

    fn entry(&self, table: Frame, index: usize) -> Entry {
        self.at(table, index)
    }

    fn entries(&self, table: Frame, first: usize, count: usize) -> Entries {
        assert!(first + count <= PTRS_PER_TABLE);
        let pa = table.start() + first as u64 * 8;
        // SAFETY: as in `at`.
        unsafe {
            Entries::new(
                self.page(table).cast::<u64>().add(first).as_ptr(),
                pa,
                count,
            )
        }
    }

    fn zero(&mut self, page: Frame) {
        self.zeroed.set(self.zeroed.get() + 1);
        // SAFETY: a page of the arena; the code under test says that it is no table yet.
        unsafe { self.page(page).write([0; PTRS_PER_TABLE]) };
    }

    fn free(&mut self, tables: &[Frame]) {
        self.freed.extend(tables.iter().map(|_| Counts::now()));
    }
}
