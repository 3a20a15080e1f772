//! The sharded address space under a model checker: loom runs every interleaving of a few threads, with
//! every value that the memory order allows a load to see. (Its bound: three preemptions a run.)
//!
//! [`space`](super::space) is compiled again here, with loom's lock and atomics in place of the
//! kernel's; and again with versions that are wrong, each of which has to be caught.
//!
//! What is checked: no page is handed out to two at once; none whose old owner has cleared its leaf
//! and which no flush has covered since; all are free in the end, and no record is lost.

/// With loom's lock and atomics.
#[path = "."]
#[allow(dead_code, reason = "these runs map no blocks")]
mod right {
    pub(super) mod sync {
        pub use super::super::checked::{Lock, MOST_ARENAS, acquired, releases};
        pub use loom::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
    }
    use super::super::area;
    #[allow(clippy::duplicate_mod, reason = "it is compiled with other locks")]
    #[path = "space.rs"]
    pub(super) mod space;
}

/// The same, but a list is taken by a load and a store: what two who purge without a lock, or one
/// who takes the list while another pushes, would do to each other.
#[path = "."]
#[allow(dead_code, reason = "these runs map no blocks")]
mod torn {
    pub(super) mod sync {
        pub use super::super::checked::{
            Lock, MOST_ARENAS, TornPtr as AtomicPtr, acquired, releases,
        };
        pub use loom::sync::atomic::{AtomicU64, Ordering};
    }
    use super::super::area;
    #[allow(clippy::duplicate_mod, reason = "it is compiled with other locks")]
    #[path = "space.rs"]
    pub(super) mod space;
}

/// The same, but a push does not release: whoever takes the list need not see the cleared leaf.
#[path = "."]
#[allow(dead_code, reason = "these runs map no blocks")]
mod relaxed {
    pub(super) mod sync {
        pub use super::super::checked::{
            Lock, MOST_ARENAS, RelaxedPtr as AtomicPtr, acquired, releases,
        };
        pub use loom::sync::atomic::{AtomicU64, Ordering};
    }
    use super::super::area;
    #[allow(clippy::duplicate_mod, reason = "it is compiled with other locks")]
    #[path = "space.rs"]
    pub(super) mod space;
}

mod checked;
mod runs;
