//! What host tests see in place of a CPU.

/// Stands in for `cpu.rs`.
pub mod cpu {
    use std::cell::Cell;

    /// What the modules above ask of the CPU's features; the fields are documented in `cpu.rs`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Features {
        /// FEAT_TLBIRANGE.
        pub tlbi_range: bool,
        /// FEAT_TTL.
        pub ttl: bool,
    }

    /// Every CPU that a test can ask for; the first is what it gets unasked.
    static CPUS: [Features; 4] = [
        Features {
            tlbi_range: true,
            ttl: true,
        },
        Features {
            tlbi_range: true,
            ttl: false,
        },
        Features {
            tlbi_range: false,
            ttl: true,
        },
        Features {
            tlbi_range: false,
            ttl: false,
        },
    ];

    std::thread_local! {
        /// The CPU of this thread, as an index.
        static CPU: Cell<usize> = const { Cell::new(0) };
    }

    /// What this thread's CPU can do.
    pub fn features() -> &'static Features {
        &CPUS[CPU.get()]
    }

    /// Gives this thread another CPU.
    #[cfg(test)]
    pub fn set_features(features: Features) {
        let index = CPUS.iter().position(|cpu| *cpu == features);
        CPU.set(index.expect("every combination is there"));
    }

    /// As `boot` has it.
    pub const MAX_CPUS: usize = 8;

    /// Nothing is interrupted here.
    #[derive(Debug)]
    pub struct InterruptsMasked(());

    /// Nothing comes of it.
    pub fn mask_interrupts() -> InterruptsMasked {
        InterruptsMasked(())
    }

    /// They are not.
    pub fn interrupts_masked() -> bool {
        false
    }

    /// The only CPU.
    pub fn id() -> u32 {
        0
    }

    /// The only task.
    pub fn current_task_id() -> u32 {
        0
    }
}

/// Stands in for `counters.rs`.
pub mod counters {
    use crate::trace::{self, Counters, Kind};
    use std::sync::{Once, atomic::Ordering::Relaxed};

    /// The counters, known to those who add them up.
    fn counters() -> &'static Counters {
        static COUNTERS: Counters = Counters::new();
        static REGISTER: Once = Once::new();
        REGISTER.call_once(|| trace::register(0, &COUNTERS));
        &COUNTERS
    }

    /// Counts one event.
    pub fn count(kind: &Kind) {
        if let Some(counter) = counters().counter(kind) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Counts one store.
    pub fn count_store() {
        count_stores(1);
    }

    /// Counts stores, none of which was counted when it was made.
    pub fn count_stores(number: usize) {
        counters().stores.fetch_add(number, Relaxed);
    }
}

/// Stands in for `time.rs`.
pub mod time {
    /// Time stands still.
    pub fn now() -> u64 {
        0
    }
}

mod word {
    use std::sync::atomic::{AtomicU64, Ordering};

    /// What an entry of a table is kept in.
    #[derive(Clone, Copy, Debug)]
    pub enum Word {
        /// Memory.
        Memory(&'static AtomicU64),
        /// A word of loom's, which shows a test every value that a load may give.
        #[cfg(test)]
        Modelled(&'static loom::sync::atomic::AtomicU64),
    }

    impl From<&'static AtomicU64> for Word {
        fn from(word: &'static AtomicU64) -> Self {
            Self::Memory(word)
        }
    }

    /// As those of [`AtomicU64`].
    impl Word {
        /// See there.
        pub fn load(self, order: Ordering) -> u64 {
            match self {
                Self::Memory(word) => word.load(order),
                #[cfg(test)]
                Self::Modelled(word) => word.load(order),
            }
        }

        /// See there.
        pub fn store(self, value: u64, order: Ordering) {
            match self {
                Self::Memory(word) => word.store(value, order),
                #[cfg(test)]
                Self::Modelled(word) => word.store(value, order),
            }
        }

        /// See there.
        ///
        /// # Errors
        /// What the word holds instead.
        pub fn compare_exchange(
            self,
            old: u64,
            new: u64,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u64, u64> {
            match self {
                Self::Memory(word) => word.compare_exchange(old, new, success, failure),
                #[cfg(test)]
                Self::Modelled(word) => word.compare_exchange(old, new, success, failure),
            }
        }
    }
}

pub use word::Word;
