//! What orders the CPUs: locks, those of `spin`, and flags by which one hands something to another.
//! `task::lock` makes a lock of tasks of them.
//!
//! With the feature `oracle` they are wrapped, and tell what order they make: taking one is a
//! read-modify-write with acquire semantics whose outcome decides a branch, giving it back is a
//! store with release semantics. The rule that lets a task use, on a new CPU, what it mapped on the
//! old one rests on that (`10-MIGR-I2V-STLR--SWPA--DSB.ISH+ISB`).
//!
//! A `Once` is not wrapped: none hands over a mapping. That the oracle knows of less order than
//! there is can only make it say more.

use crate::event;

/// The caller is about to store to `flag` with release semantics. To be called before it does, so
/// that whoever reads the flag is told of later.
#[inline(always)]
pub fn releases<T>(flag: &T) {
    let _ = flag;
    event!(Sync {
        variable: variable(flag),
        access: event::SyncAccess::Write { release: true },
    });
}

/// The caller has read from `flag` with acquire semantics, and went where it did because of what it
/// read.
#[inline(always)]
pub fn acquired<T>(flag: &T) {
    let _ = flag;
    event!(Sync {
        variable: variable(flag),
        access: event::SyncAccess::Read { acquire: true },
    });
    event!(Sync {
        variable: variable(flag),
        access: event::SyncAccess::Branch,
    });
}

/// What tells it from other variables.
#[cfg(feature = "oracle")]
fn variable<T: ?Sized>(of: &T) -> u64 {
    (&raw const *of).addr() as u64
}

#[cfg(not(feature = "oracle"))]
pub use spin::{Mutex, MutexGuard};

#[cfg(feature = "oracle")]
pub use told::{Mutex, MutexGuard};

#[cfg(feature = "oracle")]
mod told {
    use crate::event;
    use core::{
        fmt,
        ops::{Deref, DerefMut},
    };

    /// As `spin::Mutex`.
    pub struct Mutex<T: ?Sized>(spin::Mutex<T>);

    /// As `spin::MutexGuard`.
    pub struct MutexGuard<'a, T: ?Sized> {
        guard: Option<spin::MutexGuard<'a, T>>,
        variable: u64,
    }

    impl<T> Mutex<T> {
        /// A lock that is free.
        pub const fn new(value: T) -> Self {
            Self(spin::Mutex::new(value))
        }
    }

    impl<T: ?Sized> Mutex<T> {
        fn taken<'a>(&'a self, guard: spin::MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            let variable = super::variable(&self.0);
            event!(Sync {
                variable,
                access: event::SyncAccess::ReadModifyWrite {
                    acquire: true,
                    release: false,
                },
            });
            event!(Sync {
                variable,
                access: event::SyncAccess::Branch,
            });
            MutexGuard {
                guard: Some(guard),
                variable,
            }
        }

        /// Waits for the lock.
        #[inline]
        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.taken(self.0.lock())
        }

        /// Takes the lock if it is free.
        #[inline]
        pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            Some(self.taken(self.0.try_lock()?))
        }

        /// Gives back a lock whose guard was forgotten.
        ///
        /// # Safety
        /// The caller holds it.
        pub unsafe fn force_unlock(&self) {
            release(super::variable(&self.0));
            // SAFETY: the caller's promise.
            unsafe { self.0.force_unlock() };
        }
    }

    /// Told before the store, so that whoever takes the lock next comes after it.
    fn release(variable: u64) {
        event!(Sync {
            variable,
            access: event::SyncAccess::Write { release: true },
        });
    }

    impl<T: ?Sized> Drop for MutexGuard<'_, T> {
        #[inline]
        fn drop(&mut self) {
            release(self.variable);
            self.guard = None;
        }
    }

    impl<T: ?Sized> Deref for MutexGuard<'_, T> {
        type Target = T;

        #[inline]
        fn deref(&self) -> &T {
            self.guard.as_ref().expect("it is held until the drop")
        }
    }

    impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
        #[inline]
        fn deref_mut(&mut self) -> &mut T {
            self.guard.as_mut().expect("it is held until the drop")
        }
    }

    impl<T: ?Sized> fmt::Debug for Mutex<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Mutex")
        }
    }

    impl<T: ?Sized> fmt::Debug for MutexGuard<'_, T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("MutexGuard")
        }
    }
}
