//! The tasks of programs: how one is started, and who is told of its end. What it does is its
//! starter's business.

use super::outcome::Outcome;
use crate::{
    mm::{page_alloc::OutOfMemory, stack},
    task::Handle,
};
use alloc::{
    alloc::{Layout, alloc},
    boxed::Box,
    vec::Vec,
};
use core::ptr::NonNull;

/// A program that has been started. Whoever drops it waits for its end: no program outlives the one
/// that started it, and nothing of it is left then.
#[derive(Debug)]
pub struct Running {
    number: u64,
    /// `None` once it is joined.
    handle: Option<Handle>,
    /// A `Box`, which the task writes to before it ends, and which is the joiner's then.
    outcome: NonNull<Option<Outcome>>,
}

// SAFETY: the pointer is to memory of its own, which one task at a time has.
unsafe impl Send for Running {}

/// What the task of a program is given.
struct Start<T> {
    value: T,
    body: fn(T) -> Outcome,
    outcome: NonNull<Option<Outcome>>,
}

/// `value` on the heap.
///
/// # Errors
/// [`OutOfMemory`]. (`Box::new` would panic.)
fn boxed<T>(value: T) -> Result<Box<T>, OutOfMemory> {
    const { assert!(size_of::<T>() != 0) };
    // SAFETY: the size is not zero.
    let place = NonNull::new(unsafe { alloc(Layout::new::<T>()) }).ok_or(OutOfMemory)?;
    let place = place.cast::<T>();
    // SAFETY: new memory, of the layout of a T.
    unsafe { place.write(value) };
    // SAFETY: it came from the global allocator, with the layout of a T, and holds one.
    Ok(unsafe { Box::from_raw(place.as_ptr()) })
}

/// Starts a task that runs `body(value)`, which says how the program of that number has ended.
///
/// # Errors
/// [`OutOfMemory`]; `value` has been dropped.
pub(super) fn start<T: Send>(
    number: u64,
    value: T,
    body: fn(T) -> Outcome,
) -> Result<Running, OutOfMemory> {
    let outcome = boxed(None)?;
    let outcome = NonNull::from(Box::leak(outcome));
    // From here on it is given back.
    let mut running = Running {
        number,
        handle: None,
        outcome,
    };
    let start = boxed(Start {
        value,
        body,
        outcome,
    })?;
    let start = Box::into_raw(start);
    match stack::spawn("program", task::<T>, start.expose_provenance()) {
        Ok(handle) => {
            running.handle = Some(handle);
            Ok(running)
        }
        Err(_) => {
            // SAFETY: nobody else has been told of it.
            drop(unsafe { Box::from_raw(start) });
            Err(OutOfMemory)
        }
    }
}

/// The task of a program.
fn task<T>(argument: usize) -> usize {
    let start = core::ptr::with_exposed_provenance_mut::<Start<T>>(argument);
    // SAFETY: `start` made the number of a box of this type, for this task.
    let Start {
        value,
        body,
        outcome,
    } = *unsafe { Box::from_raw(start) };
    let ended = body(value);
    // SAFETY: nobody looks at it until the task is joined.
    unsafe { outcome.write(Some(ended)) };
    0
}

impl Running {
    /// Waits for its end.
    ///
    /// # Panics
    /// Never: the task says how it ended before it does.
    pub fn join(mut self) -> Outcome {
        self.wait();
        // SAFETY: the task has ended, and left it to whoever joins it.
        unsafe { self.outcome.read() }.expect("a task says how its program ended")
    }

    fn wait(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.wait();
        // SAFETY: it is a box, and no task has it any more.
        drop(unsafe { Box::from_raw(self.outcome.as_ptr()) });
    }
}

/// The copies of a program that it has not waited for.
#[derive(Debug)]
pub(super) struct Children(Vec<Running>);

impl Children {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Makes room for one more.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub(super) fn reserve(&mut self) -> Result<(), OutOfMemory> {
        self.0.try_reserve(1).map_err(|_| OutOfMemory)
    }

    /// Takes one in.
    pub(super) fn add(&mut self, child: Running) {
        self.0.push(child);
    }

    /// The one of that number.
    pub(super) fn take(&mut self, number: u64) -> Option<Running> {
        let at = self.0.iter().position(|child| child.number == number)?;
        Some(self.0.swap_remove(at))
    }
}
