//! What [`space`](super::super::space) synchronises with in these tests: loom's, and what is wrong.

use loom::sync::atomic::{AtomicPtr, Ordering};

/// As many as the runs have CPUs; loom's stacks are small.
pub const MOST_ARENAS: usize = 2;

/// The kernel's lock as far as `space` uses it.
#[derive(Debug)]
pub struct Lock<T>(loom::sync::Mutex<T>);

impl<T> Lock<T> {
    pub fn new(data: T) -> Self {
        Self(loom::sync::Mutex::new(data))
    }

    pub fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }
}

/// Nothing is told to the oracle here.
pub fn acquired<T>(_: &T) {}

/// Nothing is told to the oracle here.
pub fn releases<T>(_: &T) {}

/// An exchange that is two accesses.
#[derive(Debug)]
pub struct TornPtr<T>(AtomicPtr<T>);

impl<T> TornPtr<T> {
    pub fn new(pointer: *mut T) -> Self {
        Self(AtomicPtr::new(pointer))
    }

    pub fn load(&self, order: Ordering) -> *mut T {
        self.0.load(order)
    }

    pub fn compare_exchange(
        &self,
        old: *mut T,
        new: *mut T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<*mut T, *mut T> {
        self.0.compare_exchange(old, new, success, failure)
    }

    pub fn swap(&self, new: *mut T, _: Ordering) -> *mut T {
        let old = self.0.load(Ordering::Acquire);
        self.0.store(new, Ordering::Release);
        old
    }
}

/// A push that orders nothing.
#[derive(Debug)]
pub struct RelaxedPtr<T>(AtomicPtr<T>);

impl<T> RelaxedPtr<T> {
    pub fn new(pointer: *mut T) -> Self {
        Self(AtomicPtr::new(pointer))
    }

    pub fn load(&self, order: Ordering) -> *mut T {
        self.0.load(order)
    }

    pub fn compare_exchange(
        &self,
        old: *mut T,
        new: *mut T,
        _: Ordering,
        failure: Ordering,
    ) -> Result<*mut T, *mut T> {
        let relaxed = Ordering::Relaxed;
        self.0.compare_exchange(old, new, relaxed, failure)
    }

    pub fn swap(&self, new: *mut T, order: Ordering) -> *mut T {
        self.0.swap(new, order)
    }
}
