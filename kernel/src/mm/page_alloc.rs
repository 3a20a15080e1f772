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
//! | `shares` | how many address spaces map a page |
//! | `block_state` | what a block is, to those outside |
//! | `withheld` | pages out of reach, for tests |
//! | `pages` | the pages that change hands in one call, and lists of them |
//! | `poison` | which of them hold the poison pattern |
//! | `hooks` | what bring-up wants done when they change hands |
//! | `injection` | failures for tests |
//! | `told` | what the oracle is told |
//! | `report` | what is said of pages that can't be taken back |
//! | this one | the calls |

mod block_state;
mod buddy;
mod cpu_list;
mod error;
mod hooks;
mod injection;
#[cfg(all(feature = "ktests", target_os = "none"))]
mod ktests;
mod list;
mod map;
mod memory;
mod pages;
mod poison;
mod report;
mod shares;
#[cfg(feature = "oracle")]
mod told;
#[cfg(target_os = "none")]
mod withheld;

pub use block_state::{BlockState, block_of, is_free};
pub use buddy::{Buddy, ORDERS};
pub use error::{FreeError, OutOfMemory};
pub use hooks::{Hooks, install};
pub use injection::{armed, fail_after};
pub use list::Frames;
pub use map::{MAX_ORDER, PageMeta};
pub use memory::{drain, free_blocks, managed, metadata_bytes, open};
pub use pages::{PageList, Pages};
pub use poison::{for_each_poisoned, mark_poisoned};
pub use shares::shares;
#[cfg(target_os = "none")]
pub use withheld::withhold;

use super::unflushed::Unflushed;
use core::panic::Location;
use hooks::{call_allocated, call_freed, hooks};
use injection::injected_failure;
use list::Chain;
use report::{refuse, report, report_in_list, report_lost};
#[cfg(feature = "oracle")]
use told::{tell_allocated, tell_freed};
use vmsa::Frame;

/// Blocks of any order of the kernel's allocator, as a chain.
pub type BlockList = buddy::BlockList<'static>;

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

/// A single page as a list, and its frame, if there is nothing to it. For who is to keep it in
/// registers, which it can't be in the result of [`allocate_list`].
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
