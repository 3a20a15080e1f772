//! What the kernel tests of this room share: recordings, captured messages, the state of the books
//! before and after, pages to try things on.

use super::{
    kasan,
    layout::VMALLOC,
    lazy::{self, Backend, Model, PageTableLock},
    linear_map,
    page_alloc::{self, OutOfMemory},
    page_table::TableMemory,
    tlb::{Removed, flush_kernel_range},
    vmalloc,
};
use crate::{
    arch::{entry::Entry, lock::Mutex, uart},
    ktest::Failure,
    trace::{self, Event},
};
use alloc::{boxed::Box, string::String, vec::Vec};
use core::{
    fmt::{self, Write},
    mem::MaybeUninit,
    sync::atomic::{AtomicU64, Ordering},
};
use vmsa::{Attributes, Descriptor, Frame, Kind, Level, PAGE_SIZE, PageRange, VirtAddr};

/// The value of a `Result`, or the end of the test.
macro_rules! must {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(error) => {
                log::error!("{error:?}");
                return Err($crate::ktest::Failure {
                    file: file!(),
                    line: line!(),
                    what: stringify!($result),
                });
            }
        }
    };
}
pub(crate) use must;

/// A failure of the test's own tools.
pub(crate) const fn trouble(what: &'static str) -> Failure {
    Failure {
        file: file!(),
        line: line!(),
        what,
    }
}

/// Room for the events of the largest recording.
const EVENTS: usize = 8 * 1024;

/// The events of what `action` does, and what it returns.
///
/// # Errors
/// A recording that is under way, or events for which there was no room.
pub(crate) fn recorded<R>(action: impl FnOnce() -> R) -> Result<(Vec<Event>, R), Failure> {
    let mut memory: Box<[MaybeUninit<Event>]> = Box::new_uninit_slice(EVENTS);
    // Before the action: the heap must not grow in between.
    let mut copy = Vec::with_capacity(EVENTS);
    let mut recording =
        trace::start(&mut memory).ok_or(trouble("another recording is under way"))?;
    let result = action();
    let events = recording
        .events()
        .map_err(|_| trouble("the recording was too small"))?;
    copy.extend_from_slice(events);
    Ok((copy, result))
}

/// Sees to it that the heap has room for two recordings at a time, so that it need not grow while a
/// test counts.
///
/// # Errors
/// As [`recorded`].
pub(crate) fn make_room() -> Result<(), Failure> {
    let first = recorded(|| ())?;
    let second = recorded(|| ())?;
    drop((first, second));
    Ok(())
}

/// Messages while [`logged`] runs. Static, since a message may come from an allocator.
static MESSAGES: Mutex<Text> = Mutex::new(Text {
    bytes: [0; 16 * 1024],
    length: 0,
});

/// Text of limited length; what does not fit is lost.
struct Text {
    bytes: [u8; 16 * 1024],
    length: usize,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.length..];
        let length = room.len().min(text.len());
        room[..length].copy_from_slice(&text.as_bytes()[..length]);
        self.length += length;
        Ok(())
    }
}

/// What `action` logs, and what it returns.
pub(crate) fn logged<R>(action: impl FnOnce() -> R) -> (String, R) {
    fn tap(level: log::Level, text: &fmt::Arguments<'_>) -> bool {
        // What is formatted here may log again: that message is not captured.
        if let Some(mut messages) = MESSAGES.try_lock() {
            let _ = writeln!(messages, "{level}: {text}");
        }
        true
    }
    MESSAGES.lock().length = 0;
    let before = uart::set_tap(Some(tap));
    let result = action();
    uart::set_tap(before);
    let messages = MESSAGES.lock();
    let text = String::from_utf8_lossy(&messages.bytes[..messages.length]).into_owned();
    (text, result)
}

/// What is in use: a call that fails leaves it as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Free pages.
    pub(super) pages: u64,
    /// vmalloc space.
    pub(super) space: vmalloc::Stats,
    /// Pages of shadow that are mapped.
    pub(super) shadow: u64,
}

impl Usage {
    /// As it is once everything that was freed has been purged.
    pub(crate) fn now() -> Self {
        vmalloc::vm_unmap_aliases();
        let shadow = kasan::populate::stats();
        Self {
            pages: page_alloc::stats().free,
            space: vmalloc::stats(),
            shadow: shadow.populated - shadow.depopulated,
        }
    }
}

/// Another model and backend, until the value is dropped; nothing that keeps others out of sections,
/// and every barrier that a CPU without FEAT_ETS2 needs.
pub(crate) struct Chosen {
    model: Model,
    backend: Backend,
    lock: PageTableLock,
    ets2: bool,
}

impl Chosen {
    /// Chooses.
    ///
    /// # Errors
    /// When a section is open.
    pub(crate) fn new(model: Model, backend: Backend) -> Result<Self, Failure> {
        Self::with_lock(model, backend, PageTableLock::None)
    }

    /// Chooses what keeps others out as well.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn with_lock(
        model: Model,
        backend: Backend,
        lock: PageTableLock,
    ) -> Result<Self, Failure> {
        let before = Self {
            model: lazy::model(),
            backend: lazy::backend(),
            lock: lazy::page_table_lock(),
            ets2: lazy::ets2(),
        };
        lazy::choose(model, backend).map_err(|lazy::Busy| trouble("a section is open"))?;
        change_lock(lock).map_err(|lazy::Busy| trouble("some task has a section open"))?;
        lazy::count_on_ets2(false);
        Ok(before)
    }
}

/// Changes the lock if it is another: other tasks may be in sections where nothing is to change.
fn change_lock(lock: PageTableLock) -> Result<(), lazy::Busy> {
    if lock == lazy::page_table_lock() {
        return Ok(());
    }
    lazy::choose_page_table_lock(lock)
}

impl Drop for Chosen {
    fn drop(&mut self) {
        lazy::choose(self.model, self.backend).expect("a test closes what it opens");
        change_lock(self.lock).expect("a test ends the tasks that it starts");
        lazy::count_on_ets2(self.ets2);
    }
}

/// How many regions have been handed out.
static REGIONS: AtomicU64 = AtomicU64::new(0);

/// The start of 512 GiB of addresses that no table maps yet, in a part of vmalloc space that vmalloc
/// itself does not get to.
pub(crate) fn fresh_region() -> VirtAddr {
    /// The smallest size of an arena: in the middle of 8 TiB, far above the lowest addresses of it,
    /// there are 8 regions.
    const ARENA: u64 = 8 << 40;
    let n = REGIONS.fetch_add(1, Ordering::Relaxed);
    assert!(n < 64, "there are 64 of them");
    let middle = VMALLOC.start().align_down(ARENA) + ARENA / 2;
    middle + n / 8 * ARENA + n % 8 * Level::L0.bytes()
}

/// Three leaves that nobody else uses, their tables made, and a page to map there.
pub(crate) struct Scratch {
    range: PageRange,
    entries: [Entry; Self::LEAVES],
    /// The page.
    pub(crate) frame: Frame,
}

impl Scratch {
    /// How many leaves.
    pub(crate) const LEAVES: usize = 3;

    /// Makes the tables, once for all tests.
    ///
    /// # Errors
    /// Out of memory.
    pub(crate) fn new() -> Result<Self, Failure> {
        const START: VirtAddr = VirtAddr::literal(0xffff_9fff_ffe0_0000);
        let no_memory = |_| trouble("no memory for the test's own tables");
        let range = PageRange::new(START, Self::LEAVES as u64)
            .ok_or(trouble("the leaves are in the upper half"))?;
        let mut kernel = linear_map::kernel();
        kernel.prepare(range).map_err(no_memory)?;
        let mut table = None;
        kernel.visit_tables(range, &mut |_, level, _, below| {
            if level == Level::L2 {
                table = below;
            }
            true
        });
        let table = table.ok_or(trouble("the tables were made"))?;
        let entry = |i| kernel.memory().entry(table, Level::L3.index(START) + i);
        let frame =
            page_alloc::allocate(0).map_err(|OutOfMemory| trouble("no page for the test"))?;
        Ok(Self {
            range,
            entries: core::array::from_fn(entry),
            frame,
        })
    }

    /// The address of leaf `i`.
    pub(crate) fn address(&self, i: usize) -> VirtAddr {
        self.range.page(i as u64)
    }

    /// All leaves.
    pub(crate) fn range(&self) -> PageRange {
        self.range
    }

    /// Makes leaf `i` valid.
    pub(crate) fn map(&self, i: usize) {
        let new = Descriptor::leaf(Level::L3, self.frame.start(), Attributes::KERNEL_DATA);
        self.store(i, new.expect("frames are aligned"));
    }

    /// Clears leaf `i`.
    pub(crate) fn unmap(&self, i: usize) {
        self.store(i, Descriptor::INVALID);
    }

    /// Clears every leaf, and flushes.
    pub(crate) fn clear(&self) {
        (0..Self::LEAVES).for_each(|i| self.unmap(i));
        flush_kernel_range(self.range, Removed::Leaves);
    }

    fn store(&self, i: usize, new: Descriptor) {
        let entry = self.entries[i];
        let va = self.address(i);
        lazy::store_leaf(entry, va, lazy::load_leaf(entry, va), new);
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.clear();
        let _ = page_alloc::free(self.frame, 0);
    }
}

/// The frame that a leaf maps `va` to, valid or not.
pub(super) fn frame_at(va: VirtAddr) -> Result<Frame, Failure> {
    let leaf = linear_map::kernel().leaf(va);
    leaf.and_then(|(entry, level)| entry.output_ignoring_valid(level))
        .map(Frame::containing)
        .ok_or(trouble("nothing is mapped there"))
}

/// The entry of `va`'s leaf.
pub(crate) fn leaf_at(va: VirtAddr) -> Descriptor {
    linear_map::kernel()
        .leaf(va)
        .map_or(Descriptor::INVALID, |(entry, _)| entry)
}

/// Whether `entry` is valid and maps a page.
pub(super) fn is_page(entry: Descriptor) -> bool {
    matches!(entry.kind(Level::L3), Kind::Page(_))
}

/// Bytes of `pages` pages.
pub(crate) const fn bytes(pages: u64) -> u64 {
    pages * PAGE_SIZE
}
