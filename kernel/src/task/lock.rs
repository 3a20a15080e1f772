//! A spin lock of tasks: while it is held its holder is not preempted.
//!
//! Were it preempted, whoever wants the lock would spin for the rest of its own time slice; were
//! that one not to be preempted itself, it would spin for ever. For what interrupt handlers take as
//! well there is [`IrqLock`]; `lock/irq.rs` says when to take which.

mod irq;

pub use irq::IrqLock;

use super::preempt::{self, Disabled};
use crate::arch::{
    lock::{Mutex, MutexGuard},
    time,
};
use core::{
    mem,
    ops::{Deref, DerefMut},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// How often somebody had to wait, for whichever lock.
static CONTENTIONS: AtomicU64 = AtomicU64::new(0);

/// How often somebody found a lock held and waited, of all locks together.
#[must_use]
pub fn contentions() -> u64 {
    CONTENTIONS.load(Relaxed)
}

/// Data that one holder at a time can reach.
#[derive(Debug)]
pub struct SpinLock<T> {
    /// How often somebody had to wait.
    contended: AtomicU64,
    /// For how long altogether, in ticks of the clock.
    waited: AtomicU64,
    inner: Mutex<T>,
}

/// The lock is held while this lives.
#[derive(Debug)]
#[must_use = "the lock is free when the guard is dropped"]
pub struct SpinLockGuard<'a, T> {
    // In this order: free first, then who waits for the CPU may have it.
    inner: MutexGuard<'a, T>,
    _preempt: Disabled,
}

impl<T> SpinLock<T> {
    /// A lock around `data`.
    pub const fn new(data: T) -> Self {
        Self {
            contended: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            inner: Mutex::new(data),
        }
    }

    /// Takes the lock, and waits for it if need be.
    #[inline(always)]
    #[track_caller]
    pub fn lock(&self) -> SpinLockGuard<'_, T> {
        let preempt = preempt::disable();
        let inner = match self.inner.try_lock() {
            Some(inner) => inner,
            None => self.wait(),
        };
        SpinLockGuard {
            inner,
            _preempt: preempt,
        }
    }

    #[cold]
    #[inline(never)]
    fn wait(&self) -> MutexGuard<'_, T> {
        self.contended.fetch_add(1, Relaxed);
        CONTENTIONS.fetch_add(1, Relaxed);
        let since = time::now();
        let inner = self.inner.lock();
        self.waited.fetch_add(time::now() - since, Relaxed);
        inner
    }

    /// Takes the lock, and waits for it if need be; it is held until [`unlock_kept`](Self::unlock_kept).
    #[inline(always)]
    #[track_caller]
    pub fn lock_and_keep(&self) {
        mem::forget(self.lock());
    }

    /// Gives back what [`lock_and_keep`](Self::lock_and_keep) took.
    ///
    /// # Safety
    /// The running task took it so, and uses the data no more.
    pub unsafe fn unlock_kept(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.inner.force_unlock() };
        preempt::enable_kept();
    }

    /// Takes the lock if nobody holds it.
    #[inline(always)]
    #[track_caller]
    pub fn try_lock(&self) -> Option<SpinLockGuard<'_, T>> {
        let preempt = preempt::disable();
        let inner = self.inner.try_lock()?;
        Some(SpinLockGuard {
            inner,
            _preempt: preempt,
        })
    }

    /// How often somebody found the lock held and waited.
    #[must_use]
    pub fn contended(&self) -> u64 {
        self.contended.load(Relaxed)
    }

    /// For how long everybody who found it held waited, in ticks of the clock.
    #[must_use]
    pub fn waited(&self) -> u64 {
        self.waited.load(Relaxed)
    }
}

impl<T> Deref for SpinLockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for SpinLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn its_holder_is_not_preempted() {
        let lock = SpinLock::new(1);
        {
            let mut held = lock.lock();
            *held += 1;
            assert!(!preempt::is_enabled());
            assert!(lock.try_lock().is_none());
            assert_eq!(preempt::count(), 1);
        }
        assert!(preempt::is_enabled());
        assert_eq!(lock.try_lock().map(|held| *held), Some(2));
        assert!(preempt::is_enabled());
        assert_eq!(lock.contended(), 0);
    }

    #[test]
    fn a_lock_that_is_kept_outlives_its_guard() {
        let lock = SpinLock::new(1);
        lock.lock_and_keep();
        assert!(lock.try_lock().is_none());
        assert_eq!(preempt::count(), 1);
        // SAFETY: it was taken above.
        unsafe { lock.unlock_kept() };
        assert_eq!(preempt::count(), 0);
        assert_eq!(*lock.lock(), 1);
    }

    #[test]
    fn who_waits_is_counted() {
        let (lock, waits) = (SpinLock::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let held = lock.lock();
            scope.spawn(|| {
                waits.store(true, Relaxed);
                *lock.lock() += 1;
            });
            while !waits.load(Relaxed) || lock.contended() == 0 {
                std::thread::yield_now();
            }
            drop(held);
        });
        assert_eq!((*lock.lock(), lock.contended()), (1, 1));
        // Other tests have locks of their own.
        assert!(contentions() >= 1);
    }
}
