//! A spin lock for what interrupt handlers take as well.
//!
//! Which of the two? [`SpinLock`](super::SpinLock) is for sections of tasks alone: handlers run
//! while it is held, so it may be held for long, and a task that sleeps with it is told where it
//! took it. [`IrqLock`] is for what a handler may want too (a handler that spins for a lock that
//! the task under it holds spins for ever), and for sections of a few dozen instructions.
//!
//! It keeps no count and no note: with interrupts masked no handler comes that could switch the
//! task away, and the scheduler refuses to switch a task that has them masked. So taking it costs
//! two accesses to DAIF around the lock itself. What it can't do for that: a task that is woken in
//! the section doesn't preempt its holder when the lock is given back, only at the next interrupt
//! or at the next end of a section with preemption disabled.

use crate::arch::{
    cpu::{self, InterruptsMasked},
    lock::{Mutex, MutexGuard},
};
use core::{
    ops::{Deref, DerefMut},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Data that one holder at a time can reach, with interrupts masked on its CPU.
///
/// Who takes two of them takes them in one order everywhere, and drops them in the reverse one:
/// each guard gives back the mask that it found.
#[derive(Debug)]
pub struct IrqLock<T> {
    /// How often somebody had to wait.
    contended: AtomicU64,
    inner: Mutex<T>,
}

/// The lock is held, and interrupts are masked, while this lives.
#[derive(Debug)]
#[must_use = "the lock is free when the guard is dropped"]
pub struct IrqLockGuard<'a, T> {
    // In this order: free first, since the handler that is waiting may want the lock.
    inner: MutexGuard<'a, T>,
    _masked: InterruptsMasked,
}

impl<T> IrqLock<T> {
    /// A lock around `data`.
    pub const fn new(data: T) -> Self {
        Self {
            contended: AtomicU64::new(0),
            inner: Mutex::new(data),
        }
    }

    /// Takes the lock, and waits for it if need be: with interrupts masked, for as long as one
    /// holder on each other CPU may need.
    #[inline(always)]
    pub fn lock(&self) -> IrqLockGuard<'_, T> {
        // Masked first: a handler that came between the two would find the lock held by the task
        // that it interrupted.
        let masked = cpu::mask_interrupts();
        let inner = match self.inner.try_lock() {
            Some(inner) => inner,
            None => self.wait(),
        };
        IrqLockGuard {
            inner,
            _masked: masked,
        }
    }

    #[cold]
    #[inline(never)]
    fn wait(&self) -> MutexGuard<'_, T> {
        self.contended.fetch_add(1, Relaxed);
        super::CONTENTIONS.fetch_add(1, Relaxed);
        self.inner.lock()
    }

    /// Takes the lock if nobody holds it. If somebody does, interrupts are as they were.
    #[inline(always)]
    pub fn try_lock(&self) -> Option<IrqLockGuard<'_, T>> {
        let masked = cpu::mask_interrupts();
        let inner = self.inner.try_lock()?;
        Some(IrqLockGuard {
            inner,
            _masked: masked,
        })
    }

    /// How often somebody found the lock held and waited.
    #[must_use]
    pub fn contended(&self) -> u64 {
        self.contended.load(Relaxed)
    }
}

impl<T> Deref for IrqLockGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for IrqLockGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn one_holder_at_a_time() {
        let lock = IrqLock::new(1);
        {
            let mut held = lock.lock();
            *held += 1;
            assert!(lock.try_lock().is_none());
        }
        assert_eq!(lock.try_lock().map(|held| *held), Some(2));
        assert_eq!(lock.contended(), 0);
    }

    #[test]
    fn who_waits_is_counted() {
        let (lock, waits) = (IrqLock::new(0), AtomicBool::new(false));
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
    }
}
