//! The locks: those of `spin`.
//!
//! With the feature `oracle` they are wrapped, and tell what order they make: taking one is a
//! read-modify-write with acquire semantics whose outcome decides a branch, giving it back is a
//! store with release semantics. The rule that lets a task use, on a new CPU, what it mapped on the
//! old one rests on that (`10-MIGR-I2V-STLR--SWPA--DSB.ISH+ISB`).
//!
//! A `Once` is not wrapped: each is written before the machine has a second CPU, so that reading
//! one orders nothing that could be out of order.

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
        fn variable(&self) -> u64 {
            (&raw const self.0).addr() as u64
        }

        fn taken<'a>(&'a self, guard: spin::MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            let variable = self.variable();
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
            release(self.variable());
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
