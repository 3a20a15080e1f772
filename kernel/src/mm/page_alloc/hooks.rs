//! What bring-up wants done when pages change hands.

use super::{super::unflushed::Unflushed, error::OutOfMemory, memory, pages::Pages};
use core::{
    panic::Location,
    sync::atomic::{AtomicPtr, Ordering::Relaxed},
};
use vmsa::Frame;

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
    /// As `allocated`, of a single page, which most calls are about. It returns what the allocation
    /// does, which can end with it.
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
pub(super) fn hooks() -> Option<&'static Hooks> {
    // SAFETY: null, or what `install` was given: never written, and there for ever.
    unsafe { HOOKS.load(Relaxed).as_ref() }
}

/// Has pages made ready for their user.
pub(super) fn call_allocated(pages: Pages<'_>, caller: &'static Location<'static>) {
    if let Some(hooks) = hooks() {
        (hooks.allocated)(pages, caller);
    }
}

/// Has pages put away.
pub(super) fn call_freed(
    pages: Pages<'_>,
    unflushed: Option<Unflushed>,
    caller: &'static Location<'static>,
) {
    if let Some(hooks) = hooks() {
        (hooks.freed)(pages, unflushed, caller);
    }
}
