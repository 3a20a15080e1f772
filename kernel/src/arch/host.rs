//! What host tests see in place of a CPU.

/// Stands in for `cpu.rs`.
pub mod cpu {
    /// What the modules above ask of the CPU's features; the fields are documented in `cpu.rs`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Features {
        /// FEAT_TLBIRANGE.
        pub tlbi_range: bool,
        /// FEAT_TTL.
        pub ttl: bool,
    }

    /// A CPU that has everything.
    pub fn features() -> &'static Features {
        &Features {
            tlbi_range: true,
            ttl: true,
        }
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

/// Stands in for `time.rs`.
pub mod time {
    /// Time stands still.
    pub fn now() -> u64 {
        0
    }
}
