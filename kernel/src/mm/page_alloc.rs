//! The page allocator: a buddy system over all of RAM, orders 0 to 10.
//!
//! Its metadata is kept outside of the pages, since DEBUG_PAGEALLOC takes free pages out of the
//! linear map: 16 bytes a page. It knows nothing of page tables: what must happen to a page when it
//! changes hands is a [`Hooks`] that bring-up installs, called with no lock held.

mod buddy;
mod error;
#[cfg(target_os = "none")]
mod ktests;

pub use buddy::{BlockState, Buddy, MAX_ORDER, ORDERS, PageMeta};
pub use error::{FreeError, OutOfMemory};

/// Single pages of the kernel's allocator, as a chain.
pub type PageList = buddy::PageList<'static>;
/// Blocks of any order of the kernel's allocator, as a chain.
pub type BlockList = buddy::BlockList<'static>;
#[cfg(feature = "oracle")]
use crate::event;
use crate::task::lock::SpinLock;
use core::panic::Location;
use spin::Once;
use vmsa::Frame;

/// The pages that change hands in one call.
#[derive(Clone, Copy, Debug)]
pub enum Pages<'a> {
    /// A block of 2^order pages.
    Block(Frame, u8),
    /// Single pages, in any order.
    List(&'a PageList),
}

impl Pages<'_> {
    /// The pages as runs of adjacent frames: first frame, number of frames.
    pub fn runs(&self) -> impl Iterator<Item = (Frame, u64)> + Clone + use<> {
        let (block, frames) = match self {
            Self::Block(first, order) => (Some((*first, 1 << order)), None),
            Self::List(list) => (None, Some(list.iter())),
        };
        let mut frames = frames.into_iter().flatten().peekable();
        block.into_iter().chain(core::iter::from_fn(move || {
            let first = frames.next()?;
            let mut count = 1;
            while frames
                .next_if(|frame| frame.number() == first.number() + count)
                .is_some()
            {
                count += 1;
            }
            Some((first, count))
        }))
    }

    /// The pages, one by one.
    pub fn frames(&self) -> impl Iterator<Item = Frame> + use<> {
        self.runs()
            .flat_map(|(first, count)| (0..count).filter_map(move |i| first.checked_add(i)))
    }

    /// How many pages.
    pub fn count(&self) -> u64 {
        match self {
            Self::Block(_, order) => 1 << order,
            Self::List(list) => list.count(),
        }
    }
}

/// What bring-up wants done when pages change hands. This is where the circle of the story closes:
/// the page allocator calls DEBUG_PAGEALLOC, which changes page tables, inside whatever lazy
/// section the caller has open.
#[derive(Clone, Copy, Debug)]
pub struct Hooks {
    /// The pages were taken from the free lists; their user does not have them yet.
    pub allocated: fn(Pages<'_>, &'static Location<'static>),
    /// The pages were given back; nobody can get them yet.
    pub freed: fn(Pages<'_>, &'static Location<'static>),
}

static BUDDY: Once<SpinLock<Buddy<'static>>> = Once::new();
static HOOKS: Once<Hooks> = Once::new();

/// Opens the allocator. Before that every allocation is out of memory.
pub fn open(buddy: Buddy<'static>) {
    BUDDY.call_once(|| SpinLock::new(buddy));
}

/// Installs the hooks; the first call counts.
pub fn install(hooks: Hooks) {
    HOOKS.call_once(|| hooks);
}

/// Free and managed pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Pages in the free lists.
    pub free: u64,
    /// Pages that the allocator was given.
    pub managed: u64,
}

/// How many pages there are; both numbers are 0 before [`open`].
pub fn stats() -> Stats {
    BUDDY.get().map_or(
        Stats {
            free: 0,
            managed: 0,
        },
        |buddy| {
            let buddy = buddy.lock();
            Stats {
                free: buddy.free_pages(),
                managed: buddy.managed_pages(),
            }
        },
    )
}

/// Allocates a block of 2^`order` pages, whose frame number is a multiple of 2^`order`. Its
/// contents are whatever was there.
///
/// # Errors
/// [`OutOfMemory`] when no block is large enough, or `order` is above [`MAX_ORDER`].
#[track_caller]
pub fn allocate(order: u8) -> Result<Frame, OutOfMemory> {
    let caller = Location::caller();
    injected_failure()?;
    let frame = BUDDY.get().ok_or(OutOfMemory)?.lock().allocate(order)?;
    #[cfg(feature = "oracle")]
    tell_allocated(Pages::Block(frame, order));
    if let Some(hooks) = HOOKS.get() {
        (hooks.allocated)(Pages::Block(frame, order), caller);
    }
    Ok(frame)
}

/// Allocates `count` single pages, or none.
///
/// # Errors
/// [`OutOfMemory`] when there are not as many free pages.
#[track_caller]
pub fn allocate_list(count: u64) -> Result<PageList, OutOfMemory> {
    let caller = Location::caller();
    injected_failure()?;
    let list = BUDDY
        .get()
        .ok_or(OutOfMemory)?
        .lock()
        .allocate_list(count)?;
    #[cfg(feature = "oracle")]
    tell_allocated(Pages::List(&list));
    // Of no pages the hooks would flush nothing, with all barriers.
    if let Some(hooks) = HOOKS.get()
        && count > 0
    {
        (hooks.allocated)(Pages::List(&list), caller);
    }
    Ok(list)
}

/// A list without pages, to give pages up to. `None` before [`open`].
pub fn empty_list() -> Option<PageList> {
    BUDDY.get().map(|buddy| buddy.lock().empty_list())
}

/// A list without blocks. `None` before [`open`].
pub fn empty_blocks() -> Option<BlockList> {
    BUDDY.get().map(|buddy| buddy.lock().empty_blocks())
}

/// Makes single pages of an allocated block, each to be freed on its own.
///
/// # Errors
/// What is wrong with the call; nothing has changed.
pub fn split(frame: Frame, order: u8) -> Result<(), FreeError> {
    let buddy = BUDDY.get().ok_or(FreeError::Reserved)?;
    buddy.lock().split(frame, order)
}

/// Gives back the block of 2^`order` pages that starts at `frame`.
///
/// # Errors
/// What is wrong with the call; it is reported, and the allocator is as it was.
#[track_caller]
pub fn free(frame: Frame, order: u8) -> Result<(), FreeError> {
    let caller = Location::caller();
    let result = give_back(frame, order, caller);
    if let Err(error) = result {
        report(frame, order, error, caller);
    }
    result
}

fn give_back(frame: Frame, order: u8, caller: &'static Location<'static>) -> Result<(), FreeError> {
    let buddy = BUDDY.get().ok_or(FreeError::Reserved)?;
    let Some(hooks) = HOOKS.get() else {
        #[cfg(feature = "oracle")]
        {
            buddy.lock().retire(frame, order)?;
            tell_freed(Pages::Block(frame, order));
            buddy.lock().release(frame, order);
            return Ok(());
        }
        #[cfg(not(feature = "oracle"))]
        return buddy.lock().free(frame, order);
    };
    // Between the two locks the block is nobody's: it can't be allocated, and a second free of it
    // is refused.
    buddy.lock().retire(frame, order)?;
    (hooks.freed)(Pages::Block(frame, order), caller);
    #[cfg(feature = "oracle")]
    tell_freed(Pages::Block(frame, order));
    buddy.lock().release(frame, order);
    Ok(())
}

/// Appends a page to a list that will be given back. A page that can't be taken is reported and
/// left out.
///
/// # Errors
/// Why it can't be taken.
#[track_caller]
#[inline]
pub fn give_up(list: &mut PageList, frame: Frame) -> Result<(), FreeError> {
    list.give_up(frame)
        .inspect_err(|error| report(frame, 0, *error, Location::caller()))
}

/// Gives back the pages of a list.
#[track_caller]
pub fn free_list(list: PageList) {
    let Some(buddy) = BUDDY.get() else { return };
    if let Some(hooks) = HOOKS.get()
        && list.count() > 0
    {
        (hooks.freed)(Pages::List(&list), Location::caller());
    }
    #[cfg(feature = "oracle")]
    tell_freed(Pages::List(&list));
    buddy.lock().release_list(list);
}

/// Tells the oracle of pages that have left the free lists: before the hooks, which change the
/// tables for whoever has the pages now.
#[cfg(feature = "oracle")]
fn tell_allocated(pages: Pages<'_>) {
    for (first, count) in pages.runs() {
        event!(FramesAllocated(event::Frames {
            first: first.start(),
            count,
        }));
    }
}

/// Tells the oracle of pages that are about to enter the free lists: after the hooks, whose
/// business it is that nobody can reach the pages any more, and before anybody can be given them.
#[cfg(feature = "oracle")]
fn tell_freed(pages: Pages<'_>) {
    for (first, count) in pages.runs() {
        event!(FramesFreed(event::Frames {
            first: first.start(),
            count,
        }));
    }
}

/// Whether a frame is free.
pub fn is_free(frame: Frame) -> bool {
    // A report of a crash must not wait for a lock that the crashed code holds.
    BUDDY
        .get()
        .and_then(SpinLock::try_lock)
        .is_some_and(|buddy| buddy.is_free(frame))
}

/// What the block is that a frame lies in; `None` for one that the allocator was never given.
pub fn block_of(frame: Frame) -> Option<BlockState> {
    BUDDY.get()?.lock().block_of(frame)
}

/// How many blocks of each order are free.
pub fn free_blocks() -> [u64; ORDERS] {
    BUDDY
        .get()
        .map_or([0; ORDERS], |buddy| buddy.lock().free_blocks())
}

/// Notes that the contents of `pages` are the poison pattern.
pub fn mark_poisoned(pages: Pages<'_>) {
    let Some(buddy) = BUDDY.get() else { return };
    let mut buddy = buddy.lock();
    pages
        .frames()
        .for_each(|frame| buddy.set_poisoned(frame, true));
}

/// Calls `check` for each of `pages` that holds the poison pattern, as far as anyone has said, and
/// notes that they do not any more.
pub fn for_each_poisoned(pages: Pages<'_>, mut check: impl FnMut(Frame)) {
    let Some(buddy) = BUDDY.get() else { return };
    for frame in pages.frames() {
        let poisoned = {
            let mut buddy = buddy.lock();
            let poisoned = buddy.is_poisoned(frame);
            buddy.set_poisoned(frame, false);
            poisoned
        };
        if poisoned {
            check(frame);
        }
    }
}

/// Says what was wrong with a free, as Linux's bad_page() does: the allocator goes on without the
/// page.
#[cold]
fn report(frame: Frame, order: u8, error: FreeError, caller: &Location<'_>) {
    log::error!(
        "BUG: bad free of page {:#x}, order {order}, at {caller}: {error}",
        frame.number()
    );
}

/// Failures for tests: the allocations that are still to come before one fails.
mod injection {
    use core::sync::atomic::{AtomicU64, Ordering};

    /// 0: off. Otherwise one more than the number of calls that still succeed.
    static COUNTDOWN: AtomicU64 = AtomicU64::new(0);

    /// Lets `calls` allocations pass and fails the one after them; `None` stops that.
    pub fn fail_after(calls: Option<u64>) {
        COUNTDOWN.store(calls.map_or(0, |n| n + 1), Ordering::Relaxed);
    }

    /// Whether a failure is still to come.
    pub fn armed() -> bool {
        COUNTDOWN.load(Ordering::Relaxed) != 0
    }

    #[inline]
    pub(super) fn injected_failure() -> Result<(), super::OutOfMemory> {
        match COUNTDOWN.load(Ordering::Relaxed) {
            0 => Ok(()),
            n => {
                COUNTDOWN.store(n - 1, Ordering::Relaxed);
                if n == 1 {
                    Err(super::OutOfMemory)
                } else {
                    Ok(())
                }
            }
        }
    }
}

use injection::injected_failure;
pub use injection::{armed, fail_after};
