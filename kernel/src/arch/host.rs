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

    /// Counts one event.
    pub fn count(kind: &Kind) {
        static COUNTERS: Counters = Counters::new();
        static REGISTER: Once = Once::new();
        REGISTER.call_once(|| trace::register(0, &COUNTERS));
        if let Some(counter) = COUNTERS.counter(kind) {
            counter.fetch_add(1, Relaxed);
        }
    }
}

/// Stands in for `time.rs`.
pub mod time {
    /// Time stands still.
    pub fn now() -> u64 {
        0
    }
}
