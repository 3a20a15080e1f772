//! What was chosen: the model, the backend, the lock around sections, whether FEAT_ETS2 is counted
//! on. A byte each; what is other than by default is [unusual] besides, so that the hot paths read
//! none of them.

use crate::unusual::{self, Reason};
use core::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed},
};
use lazy_mmu::Model;

/// What is deferred inside a lazy section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Backend {
    /// Nothing: each store that makes a leaf valid is followed by its barriers.
    Eager = 0,
    /// The barriers, as Linux does on arm64.
    #[default]
    Barriers = 1,
    /// The barriers and the TLB flushes.
    Tlbi = 2,
    /// The stores themselves, in a queue of the task.
    Stores = 3,
    /// The stores, in a queue of the CPU, and preemption is disabled meanwhile (what powerpc and sparc
    /// do with TLB flushes).
    StoresPerCpu = 4,
    /// The stores, in a queue of the CPU, which the context switch drains (Xen PV).
    StoresPerCpuHooks = 5,
}

impl Backend {
    /// Every backend, the one that defers least first.
    pub const ALL: [Self; 6] = [
        Self::Eager,
        Self::Barriers,
        Self::Tlbi,
        Self::Stores,
        Self::StoresPerCpu,
        Self::StoresPerCpuHooks,
    ];

    /// Whether stores wait, and reading an entry back gives its old value.
    #[inline]
    pub const fn defers_stores(self) -> bool {
        self as u8 >= Self::Stores as u8
    }

    /// Whether what waits belongs to the CPU.
    #[inline]
    pub const fn is_per_cpu(self) -> bool {
        self as u8 >= Self::StoresPerCpu as u8
    }

    /// As it is written on the kernel command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eager => "eager",
            Self::Barriers => "barriers",
            Self::Tlbi => "tlbi",
            Self::Stores => "stores",
            Self::StoresPerCpu => "stores-percpu",
            Self::StoresPerCpuHooks => "stores-percpu-hooks",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What keeps others out while a lazy section is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum PageTableLock {
    /// Nothing: whoever opens a section owns the addresses that it changes, and nobody else has to
    /// wait.
    #[default]
    None = 0,
    /// One lock for all kernel page tables, as a patch of 2025 proposed for Linux
    /// (`init_mm.page_table_lock` around every section). It was refused: a machine that maps on all
    /// of its CPUs does little but wait for it.
    Global = 1,
    /// Preemption is disabled: nobody waits, and nobody sleeps (powerpc and sparc, whose batches
    /// belong to the CPU).
    Preempt = 2,
}

impl PageTableLock {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::None, Self::Global, Self::Preempt];

    /// As it is written on the kernel command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Global => "global",
            Self::Preempt => "preempt",
        }
    }
}

impl fmt::Display for PageTableLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Each is the number of its value; what no value has never gets in.
struct Config {
    model: AtomicU8,
    backend: AtomicU8,
    lock: AtomicU8,
    ets2: AtomicBool,
}

static CONFIG: Config = Config {
    model: AtomicU8::new(Model::TwoCounters as u8),
    backend: AtomicU8::new(Backend::Barriers as u8),
    lock: AtomicU8::new(PageTableLock::None as u8),
    ets2: AtomicBool::new(false),
};

/// The model whose rules hold.
#[inline]
pub fn model() -> Model {
    // Not an index into a table: whoever asks for one of them compares one byte.
    match CONFIG.model.load(Relaxed) {
        0 => Model::Strict,
        1 => Model::Tolerant,
        2 => Model::Avoid,
        3 => Model::Token,
        4 => Model::NestingLevel,
        _ => Model::TwoCounters,
    }
}

/// The backend in use.
#[inline]
pub fn backend() -> Backend {
    match CONFIG.backend.load(Relaxed) {
        0 => Backend::Eager,
        1 => Backend::Barriers,
        2 => Backend::Tlbi,
        3 => Backend::Stores,
        4 => Backend::StoresPerCpu,
        _ => Backend::StoresPerCpuHooks,
    }
}

/// What keeps others out while a section is open.
#[inline]
pub fn page_table_lock() -> PageTableLock {
    match CONFIG.lock.load(Relaxed) {
        0 => PageTableLock::None,
        1 => PageTableLock::Global,
        _ => PageTableLock::Preempt,
    }
}

/// Whether FEAT_ETS2 is counted on.
#[inline]
pub fn ets2() -> bool {
    CONFIG.ets2.load(Relaxed)
}

/// Counts on FEAT_ETS2 from now on, or does not: the CPUs have it, or it is assumed that they do.
pub fn count_on_ets2(on: bool) {
    CONFIG.ets2.store(on, Relaxed);
    note_what_is_unusual();
}

/// For who has made sure that no section is open.
pub(super) fn set(model: Model, backend: Backend) {
    CONFIG.model.store(model as u8, Relaxed);
    CONFIG.backend.store(backend as u8, Relaxed);
    note_what_is_unusual();
}

/// Whether a section takes anything that is not the task's own: the lock, or the CPU.
#[inline]
pub(super) fn takes() -> bool {
    backend().is_per_cpu() || page_table_lock() != PageTableLock::None
}

fn note_what_is_unusual() {
    unusual::set(Reason::Sections, model() != Model::TwoCounters || takes());
    unusual::set(Reason::Backend, backend() != Backend::Barriers || ets2());
}

/// As [`set`].
pub(super) fn set_lock(lock: PageTableLock) {
    CONFIG.lock.store(lock as u8, Relaxed);
    note_what_is_unusual();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_comes_back_from_its_number() {
        let _machine = crate::mm::host_tests::Machine::take();
        for model in Model::ALL {
            for backend in Backend::ALL {
                set(model, backend);
                assert_eq!((super::model(), super::backend()), (model, backend));
            }
        }
        for lock in PageTableLock::ALL {
            set_lock(lock);
            assert_eq!(page_table_lock(), lock);
        }
        set(Model::TwoCounters, Backend::Barriers);
        set_lock(PageTableLock::None);
    }

    #[test]
    fn whatever_is_not_the_default_is_unusual() {
        let _machine = crate::mm::host_tests::Machine::take();
        for model in Model::ALL {
            for backend in Backend::ALL {
                for lock in PageTableLock::ALL {
                    set(model, backend);
                    set_lock(lock);
                    let takes = backend.is_per_cpu() || lock != PageTableLock::None;
                    let sections = takes || model != Model::TwoCounters;
                    assert_eq!(unusual::holds(Reason::Sections), sections);
                    assert_eq!(
                        unusual::holds(Reason::Backend),
                        backend != Backend::Barriers
                    );
                }
            }
        }
        set(Model::TwoCounters, Backend::Barriers);
        set_lock(PageTableLock::None);
        count_on_ets2(true);
        assert!(unusual::holds(Reason::Backend));
        count_on_ets2(false);
        assert!(!unusual::holds(Reason::Backend) && !unusual::holds(Reason::Sections));
    }
}
