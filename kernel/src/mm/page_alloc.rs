//! The page allocator: a buddy system over all of RAM, orders 0 to 10, and before it, for single pages
//! and for lists of up to 128, what each CPU keeps.
//!
//! Its metadata is kept outside of the pages, since DEBUG_PAGEALLOC takes free pages out of the
//! linear map: 16 bytes a page. It knows nothing of page tables: what must happen to a page when it
//! changes hands is a [`Hooks`] that bring-up installs, called with no lock held.
//!
//! Interrupt handlers may allocate and free. The files, from the lowest up:
//!
//! | file | what |
//! |---|---|
//! | `map` | what is known of each page |
//! | `list` | single pages in a chain; what goes through it and what takes it apart is below it |
//! | `buddy` | the buddy system, as data |
//! | `cpu_list` | the pages that a CPU keeps, as data |
//! | `memory` | the two put together, and their locks; `memory/lists` for more than one page |
//! | `withheld` | pages out of reach, for tests |
//! | this one | the calls, the hooks, the reports |

mod buddy;
mod cpu_list;
mod error;
#[cfg(all(feature = "ktests", target_os = "none"))]
mod ktests;
mod list;
mod map;
mod memory;
mod shares;
#[cfg(target_os = "none")]
mod withheld;

pub use buddy::{Buddy, ORDERS};
pub use error::{FreeError, OutOfMemory};
pub use list::Frames;
pub use map::{MAX_ORDER, PageMeta};
pub use memory::{drain, free_blocks, managed, metadata_bytes, open};
pub use shares::shares;

/// Blocks of any order of the kernel's allocator, as a chain.
pub type BlockList = buddy::BlockList<'static>;
use super::unflushed::Unflushed;
#[cfg(feature = "oracle")]
use crate::event;
use core::{
    panic::Location,
    sync::atomic::{AtomicPtr, Ordering::Relaxed},
};
use list::{Chain, Runs};
use map::State;
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
    #[inline]
    pub fn runs(&self) -> Runs<'static> {
        match self {
            Self::Block(first, order) => Runs::of_block(memory::map(), *first, *order),
            Self::List(list) => list.runs(),
        }
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

/// Single pages of the kernel's allocator: as many as there are, in no memory of their own, since
/// they are chained through what the allocator knows of them.
///
/// Whoever has the list owns its pages. Dropping it loses them.
#[derive(Debug)]
#[must_use = "the pages of a list that is dropped are lost"]
pub struct PageList(Chain);

impl PageList {
    /// A list without pages, to give pages up to; before [`open`] it takes none.
    pub const EMPTY: Self = Self(Chain::EMPTY);

    /// How many pages.
    #[inline]
    pub fn count(&self) -> u64 {
        self.0.count()
    }

    /// The pages as runs of adjacent frames, in the order in which they came.
    #[inline]
    pub fn runs(&self) -> Runs<'static> {
        self.0.runs(memory::map())
    }

    /// The first frame, if there is one, and the others are the ones behind it.
    #[inline(always)]
    pub fn adjacent(&self) -> Option<Frame> {
        Some(memory::map().frame(self.0.only_run()?))
    }

    /// The pages, in the order in which they came.
    #[inline]
    pub fn iter(&self) -> Frames<'static> {
        self.0.frames(memory::map())
    }

    /// The pages, each on its own from now on. Those that were handed out may be freed.
    #[inline]
    pub fn into_frames(self) -> Frames<'static> {
        self.iter()
    }
}

impl Default for PageList {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// What bring-up wants done when pages change hands. This is where the circle of the story closes:
/// the page allocator calls DEBUG_PAGEALLOC, which changes page tables, inside whatever lazy
/// section the caller has open.
#[derive(Clone, Copy, Debug)]
pub struct Hooks {
    /// The pages were taken from the free lists; their user does not have them yet.
    pub allocated: fn(Pages<'_>, &'static Location<'static>),
    /// The pages were given back; nobody can get them yet. The addresses, if there are any, are to be
    /// flushed before this returns.
    pub freed: fn(Pages<'_>, Option<Unflushed>, &'static Location<'static>),
    /// As `allocated`, of a single page, which most calls are about. It returns what the allocation does,
    /// which can end with it.
    pub page_allocated: fn(&'static Location<'static>, Frame) -> Result<Frame, OutOfMemory>,
    /// As `freed`, of a single page.
    pub page_freed: fn(Frame, &'static Location<'static>),
}

/// Null before they are installed.
static HOOKS: AtomicPtr<Hooks> = AtomicPtr::new(core::ptr::null_mut());

/// Installs the hooks.
pub fn install(hooks: &'static Hooks) {
    HOOKS.store(core::ptr::from_ref(hooks).cast_mut(), Relaxed);
    memory::allow_short_ways(false);
}

#[inline(always)]
fn hooks() -> Option<&'static Hooks> {
    // SAFETY: null, or what `install` was given: never written, and there for ever.
    unsafe { HOOKS.load(Relaxed).as_ref() }
}

/// Whether a call for a single page has nothing to do beyond handing it over.
fn is_plain() -> bool {
    hooks().is_none() && !armed()
}

/// Free and managed pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Pages that nobody has, in the lists of the CPUs as well.
    pub free: u64,
    /// Pages that the allocator was given.
    pub managed: u64,
}

/// How many pages there are; both numbers are 0 before [`open`]. It stops the allocator for a moment:
/// who wants to know what it was given asks [`managed`].
pub fn stats() -> Stats {
    Stats {
        free: memory::free_pages(),
        managed: managed(),
    }
}

/// Allocates a block of 2^`order` pages, whose frame number is a multiple of 2^`order`. Its
/// contents are whatever was there.
///
/// # Errors
/// [`OutOfMemory`] when no block is large enough, or `order` is above [`MAX_ORDER`].
#[track_caller]
#[inline(always)]
pub fn allocate(order: u8) -> Result<Frame, OutOfMemory> {
    let caller = Location::caller();
    if order == 0 {
        allocate_page(caller)
    } else {
        allocate_block(order, caller)
    }
}

#[inline(never)]
fn allocate_page(caller: &'static Location<'static>) -> Result<Frame, OutOfMemory> {
    match memory::take_page_and_ask() {
        Some((frame, false)) => {
            #[cfg(feature = "oracle")]
            tell_allocated(Pages::Block(frame, 0));
            Ok(frame)
        }
        Some((frame, true)) => hand_page_out(frame, caller),
        None => allocate_page_the_long_way(caller),
    }
}

#[inline(never)]
fn allocate_page_the_long_way(caller: &'static Location<'static>) -> Result<Frame, OutOfMemory> {
    let frame = memory::take_page()?;
    hand_page_out(frame, caller)
}

/// Ends the allocation of a page that has left the lists.
#[inline(always)]
fn hand_page_out(frame: Frame, caller: &'static Location<'static>) -> Result<Frame, OutOfMemory> {
    if injected_failure().is_err() {
        memory::give_back(frame);
        return Err(OutOfMemory);
    }
    #[cfg(feature = "oracle")]
    tell_allocated(Pages::Block(frame, 0));
    match hooks() {
        Some(hooks) => (hooks.page_allocated)(caller, frame),
        None => Ok(frame),
    }
}

fn allocate_block(order: u8, caller: &'static Location<'static>) -> Result<Frame, OutOfMemory> {
    injected_failure()?;
    let frame = memory::take_block(order)?;
    #[cfg(feature = "oracle")]
    tell_allocated(Pages::Block(frame, order));
    call_allocated(Pages::Block(frame, order), caller);
    Ok(frame)
}

/// Has pages made ready for their user.
fn call_allocated(pages: Pages<'_>, caller: &'static Location<'static>) {
    if let Some(hooks) = hooks() {
        (hooks.allocated)(pages, caller);
    }
}

/// Has pages put away.
fn call_freed(pages: Pages<'_>, unflushed: Option<Unflushed>, caller: &'static Location<'static>) {
    if let Some(hooks) = hooks() {
        (hooks.freed)(pages, unflushed, caller);
    }
}

/// Allocates `count` single pages, or none.
///
/// # Errors
/// [`OutOfMemory`] when there are not as many free pages.
#[track_caller]
#[inline]
pub fn allocate_list(count: u64) -> Result<PageList, OutOfMemory> {
    // The lists that are asked for most have a short way.
    if count == 1 {
        if let Some((list, _)) = allocate_at_once() {
            return Ok(list);
        }
    } else if let Some(pages) = memory::take_run_at_once(count) {
        let list = PageList(pages);
        #[cfg(feature = "oracle")]
        tell_allocated(Pages::List(&list));
        return Ok(list);
    }
    allocate_list_the_long_way(count, Location::caller())
}

/// A single page as a list, and its frame, if there is nothing to it. For who is to keep it in registers, which it
/// can't be in the result of [`allocate_list`].
#[inline(always)]
pub fn allocate_at_once() -> Option<(PageList, Frame)> {
    let (index, frame) = memory::take_page_at_once()?;
    #[cfg(feature = "oracle")]
    tell_allocated(Pages::Block(frame, 0));
    Some((PageList(Chain::of(index)), frame))
}

#[inline(never)]
fn allocate_list_the_long_way(
    count: u64,
    caller: &'static Location<'static>,
) -> Result<PageList, OutOfMemory> {
    injected_failure()?;
    let list = PageList(memory::take_list(count)?);
    #[cfg(feature = "oracle")]
    tell_allocated(Pages::List(&list));
    // Of no pages the hooks would flush nothing, with all barriers.
    if count > 0 {
        call_allocated(Pages::List(&list), caller);
    }
    Ok(list)
}

/// A list without pages, to give pages up to. `None` before [`open`].
#[inline]
pub fn empty_list() -> Option<PageList> {
    (managed() > 0).then_some(PageList::EMPTY)
}

/// A list without blocks. `None` before [`open`].
pub fn empty_blocks() -> Option<BlockList> {
    let map = memory::map();
    (!map.meta.is_empty()).then(|| BlockList::new(map))
}

/// Makes single pages of an allocated block, each to be freed on its own.
///
/// # Errors
/// What is wrong with the call; nothing has changed.
pub fn split(frame: Frame, order: u8) -> Result<(), FreeError> {
    memory::map().split(frame, order)
}

/// Gives back the block of 2^`order` pages that starts at `frame`.
///
/// # Errors
/// What is wrong with the call; it is reported, and the allocator is as it was.
#[track_caller]
#[inline(always)]
pub fn free(frame: Frame, order: u8) -> Result<(), FreeError> {
    let caller = Location::caller();
    if order == 0 {
        free_page(frame, caller)
    } else {
        free_block(frame, order, caller)
    }
}

#[inline(never)]
fn free_page(frame: Frame, caller: &'static Location<'static>) -> Result<(), FreeError> {
    if memory::give_page_at_once(frame) {
        return Ok(());
    }
    free_page_the_long_way(frame, caller)
}

#[inline(never)]
fn free_page_the_long_way(
    frame: Frame,
    caller: &'static Location<'static>,
) -> Result<(), FreeError> {
    let (index, meta) = match memory::map_ref().retire(frame, 0) {
        Ok(retired) => retired,
        Err(error) => return refuse(frame, 0, error, caller),
    };
    // From here to its list the page is nobody's: it can't be allocated, and a second free of it is
    // refused.
    if let Some(hooks) = hooks() {
        (hooks.page_freed)(frame, caller);
    }
    #[cfg(feature = "oracle")]
    tell_freed(Pages::Block(frame, 0));
    memory::give_page(index, meta);
    Ok(())
}

fn free_block(
    frame: Frame,
    order: u8,
    caller: &'static Location<'static>,
) -> Result<(), FreeError> {
    if let Err(error) = memory::map().retire(frame, order) {
        return refuse(frame, order, error, caller);
    }
    call_freed(Pages::Block(frame, order), None, caller);
    #[cfg(feature = "oracle")]
    tell_freed(Pages::Block(frame, order));
    memory::give_block(frame, order);
    Ok(())
}

/// Reports a free that is refused.
#[cold]
#[inline(never)]
fn refuse(
    frame: Frame,
    order: u8,
    error: FreeError,
    caller: &Location<'_>,
) -> Result<(), FreeError> {
    report(frame, order, error, caller);
    Err(error)
}

/// Appends a page to a list that will be given back. A page that can't be taken is reported and
/// left out.
///
/// # Errors
/// Why it can't be taken.
#[track_caller]
#[inline]
pub fn give_up(list: &mut PageList, frame: Frame) -> Result<(), FreeError> {
    list.0
        .give_up(memory::map(), frame)
        .inspect_err(|error| report(frame, 0, *error, Location::caller()))
}

/// Gives back the pages of a list: those that were given up to it, or those of
/// [`allocate_list`], which may not have been freed one by one meanwhile. One that was is reported and
/// left out.
#[track_caller]
#[inline]
pub fn free_list(list: PageList) {
    match list.0.single() {
        Some(page) if memory::give_index_at_once(page) => {}
        None if memory::give_run_at_once(&list.0) => {}
        _ => free_list_the_long_way(list, None, Location::caller()),
    }
}

/// As [`free_list`], of pages that a TLB may know at `unflushed`: it is flushed before the pages are
/// free, along with what the hook has to flush. If there are no pages it is flushed all the same.
///
/// Only for who knows that there is such a hook: DEBUG_PAGEALLOC's.
#[track_caller]
pub fn free_list_unflushed(list: PageList, unflushed: Unflushed) {
    free_list_the_long_way(list, Some(unflushed), Location::caller());
}

#[inline(never)]
fn free_list_the_long_way(
    mut list: PageList,
    unflushed: Option<Unflushed>,
    caller: &'static Location<'static>,
) {
    let count = list.count();
    // Before others hear of the pages they are nobody's; where nobody does, they become so on their way
    // into the free lists.
    let heard_of = hooks().is_some() || cfg!(feature = "oracle");
    if heard_of || !memory::is_many(count) {
        list.0
            .retire(memory::map(), |index| report_in_list(index, caller));
    }
    if list.count() > 0 || unflushed.is_some() {
        call_freed(Pages::List(&list), unflushed, caller);
    }
    #[cfg(feature = "oracle")]
    tell_freed(Pages::List(&list));
    let given = memory::give_list(&list.0);
    if let Some(index) = given.refused {
        report_in_list(index, caller);
    }
    if given.pages < count {
        report_lost(count - given.pages, caller);
    }
}

/// Reports a page of a list that is not in use.
#[cold]
#[inline(never)]
fn report_in_list(index: usize, caller: &Location<'_>) {
    let map = memory::map();
    // A link that was overwritten leads anywhere.
    if index < map.meta.len() {
        let frame = map.frame(index);
        report(frame, 0, map.why_not(frame, index, 0), caller);
    }
}

/// Reports that pages of a list were left out: those that are not in use, and those behind one that was
/// the first of its run, and would have led to them.
#[cold]
#[inline(never)]
fn report_lost(pages: u64, caller: &Location<'_>) {
    log::error!("BUG: {pages} pages of a list that is freed at {caller} are left out");
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

/// What a block is, to those outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockState {
    /// Nobody's, and to be had.
    Free,
    /// Allocated, or on its way from a list to its owner or back.
    InUse,
}

/// Whether a frame is free. It takes no lock: the report of a crash asks.
pub fn is_free(frame: Frame) -> bool {
    block_of(frame) == Some(BlockState::Free)
}

/// What the block is that a frame lies in; `None` for one that the allocator was never given.
pub fn block_of(frame: Frame) -> Option<BlockState> {
    Some(match memory::map().state_of(frame)? {
        State::Free | State::Listed => BlockState::Free,
        State::Allocated | State::Retired | State::Body => BlockState::InUse,
    })
}

/// Notes that the contents of `pages` are the poison pattern. They are the caller's, on their way
/// from or to the free lists: no lock is needed.
pub fn mark_poisoned(pages: Pages<'_>) {
    let map = memory::map();
    for index in pages.frames().filter_map(|frame| map.index(frame)) {
        map.meta[index].poisoned.store(true, Relaxed);
    }
}

/// Calls `check` for each of `pages` that holds the poison pattern, as far as anyone has said, and
/// notes that they do not any more. They are the caller's, as for [`mark_poisoned`].
pub fn for_each_poisoned(pages: Pages<'_>, mut check: impl FnMut(Frame)) {
    let map = memory::map();
    for frame in pages.frames() {
        let poisoned = map.index(frame).map(|index| &map.meta[index].poisoned);
        if let Some(poisoned) = poisoned
            && poisoned.load(Relaxed)
        {
            poisoned.store(false, Relaxed);
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

/// Failures for tests: the allocations that are still to come before one fails. Those of one task
/// alone count; what others allocate, and handlers that come in between, is not its business.
mod injection {
    use super::{is_plain, memory};
    use crate::task;
    use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    /// 0: off. Otherwise one more than the number of calls that still succeed.
    static COUNTDOWN: AtomicU64 = AtomicU64::new(0);
    /// One more than the number of the task whose calls they are; 0: nobody's.
    static TASK: AtomicU32 = AtomicU32::new(0);

    /// Lets `calls` allocations of the running task pass and fails the one after them; `None` stops
    /// that. Nothing changes, and the answer is `false`, while another task waits for its own.
    pub fn fail_after(calls: Option<u64>) -> bool {
        let me = task::current().id + 1;
        if let Err(other) = TASK.compare_exchange(0, me, Ordering::Relaxed, Ordering::Relaxed)
            && other != me
        {
            return false;
        }
        COUNTDOWN.store(calls.map_or(0, |n| n + 1), Ordering::Relaxed);
        memory::allow_short_ways(is_plain());
        if calls.is_none() {
            TASK.store(0, Ordering::Relaxed);
        }
        true
    }

    /// Whether this call is one of those that count.
    #[cold]
    fn is_meant() -> bool {
        let task = task::current();
        TASK.load(Ordering::Relaxed) == task.id + 1 && !task.in_interrupt()
    }

    /// Whether a failure is still to come.
    pub fn armed() -> bool {
        COUNTDOWN.load(Ordering::Relaxed) != 0
    }

    #[inline]
    pub(super) fn injected_failure() -> Result<(), super::OutOfMemory> {
        match COUNTDOWN.load(Ordering::Relaxed) {
            0 => Ok(()),
            _ if !is_meant() => Ok(()),
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
#[cfg(target_os = "none")]
pub use withheld::withhold;
