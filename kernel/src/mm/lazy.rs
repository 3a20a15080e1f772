//! The subject, wired up: the current task's state, the chosen model, the chosen backend.
//!
//! Between a store to an entry and the moment at which the machine is guaranteed to see it stand a
//! DSB ISHST and an ISB. This file decides when they are issued. `page_table` sends every store of
//! a live leaf through [`store_leaf`]; the four calls and their guards say when barriers may be put
//! off; the model (crate `lazy-mmu`) says what nesting and pausing mean.

use crate::{
    arch::{barrier, entry::Entry, record::note},
    task,
    trace::Kind,
    warning,
};
use core::{
    fmt,
    sync::atomic::{AtomicU8, Ordering},
};
pub use lazy_mmu::{
    ArchCall, Call, LazyMmu, LazyMmuState, Model, Pause, Section, Token, Transition, Warning,
};
use vmsa::{Descriptor, Level, VirtAddr};

/// What is deferred inside a lazy section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Backend {
    /// Nothing: each store that makes a leaf valid is followed by its barriers.
    Eager = 0,
    /// The barriers, as Linux does on arm64.
    #[default]
    Barriers = 1,
}

impl Backend {
    /// Every backend.
    pub const ALL: [Self; 2] = [Self::Eager, Self::Barriers];

    /// As it is written on the kernel command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eager => "eager",
            Self::Barriers => "barriers",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Index into [`Model::ALL`].
static MODEL: AtomicU8 = AtomicU8::new(DEFAULT_MODEL);
/// A [`Backend`] as u8.
static BACKEND: AtomicU8 = AtomicU8::new(Backend::Barriers as u8);

const DEFAULT_MODEL: u8 = {
    let mut i = 0;
    while !matches!(Model::ALL[i], Model::TwoCounters) {
        i += 1;
    }
    i as u8
};

/// The model whose rules hold.
#[inline]
pub fn model() -> Model {
    Model::ALL[usize::from(MODEL.load(Ordering::Relaxed)) % Model::ALL.len()]
}

/// The backend in use.
#[inline]
pub fn backend() -> Backend {
    if BACKEND.load(Ordering::Relaxed) == Backend::Eager as u8 {
        Backend::Eager
    } else {
        Backend::Barriers
    }
}

/// A section is open, a pause is under way or barriers are owed: neither model nor backend may
/// change now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// Chooses model and backend.
///
/// # Errors
/// [`Busy`] unless the current task's state is that of a new task: a count of one model means
/// nothing to another.
pub fn choose(model: Model, backend: Backend) -> Result<(), Busy> {
    let task = task::current();
    if task.lazy_mmu_state.get() != LazyMmuState::new() || task.barriers_owed.get() {
        return Err(Busy);
    }
    let index = Model::ALL
        .iter()
        .position(|m| *m == model)
        .unwrap_or(usize::from(DEFAULT_MODEL));
    MODEL.store(index as u8, Ordering::Relaxed);
    BACKEND.store(backend as u8, Ordering::Relaxed);
    Ok(())
}

/// The current task, as the state machine sees it.
#[derive(Clone, Copy, Debug)]
pub struct Current;

static CURRENT: Current = Current;

impl LazyMmu for Current {
    #[inline]
    fn model(&self) -> Model {
        model()
    }

    #[inline]
    fn in_interrupt(&self) -> bool {
        task::current().in_interrupt()
    }

    #[inline]
    fn state(&self) -> LazyMmuState {
        task::current().lazy_mmu_state.get()
    }

    #[inline]
    fn set_state(&self, state: LazyMmuState) {
        task::current().lazy_mmu_state.set(state);
    }

    #[inline]
    fn arch(&self, call: ArchCall) {
        match call {
            // The state says that the mode is on; there is nothing else to switch (Linux on arm64:
            // an empty function).
            ArchCall::Enter => {}
            ArchCall::Leave | ArchCall::Flush => pay(),
        }
    }

    #[cold]
    fn warn(&self, warning: Warning) {
        warning!("lazy MMU mode, model {}: {warning}", model());
    }

    #[inline]
    fn observe(&self, call: Call, state: LazyMmuState, transition: Transition) {
        note(Kind::Lazy {
            call,
            state,
            arch: transition.arch,
            warning: transition.warning,
        });
    }
}

/// Opens a lazy section until the value is dropped.
#[inline]
pub fn section() -> Section<'static, Current> {
    CURRENT.section()
}

/// Pauses the lazy MMU mode until the value is dropped.
#[inline]
pub fn paused() -> Pause<'static, Current> {
    CURRENT.paused()
}

/// Whether barriers are being put off.
#[inline]
pub fn is_active() -> bool {
    CURRENT.is_active()
}

/// Opens a lazy section, or nests in the one that is open. Raw: prefer [`section`]. gdb stops here
/// in scene `nesting`.
#[unsafe(no_mangle)]
#[inline(never)]
pub fn lazy_mmu_mode_enable() -> Token {
    CURRENT.enable()
}

/// Closes what the matching [`lazy_mmu_mode_enable`] opened. When it returns, every change made in
/// the section is guaranteed visible, whatever is still open around it.
#[unsafe(no_mangle)]
#[inline(never)]
pub fn lazy_mmu_mode_disable(token: Token) {
    CURRENT.disable(token);
}

/// Leaves the mode, regardless of nesting, until the matching [`lazy_mmu_mode_resume`]. Raw: prefer
/// [`paused`].
#[unsafe(no_mangle)]
#[inline(never)]
pub fn lazy_mmu_mode_pause() -> Token {
    CURRENT.pause()
}

/// Ends what the matching [`lazy_mmu_mode_pause`] began.
#[unsafe(no_mangle)]
#[inline(never)]
pub fn lazy_mmu_mode_resume(token: Token) {
    CURRENT.resume(token);
}

/// Stores a leaf of a live kernel table, and sees to the barriers that make it usable.
#[inline]
pub fn store_leaf(entry: Entry, va: VirtAddr, old: Descriptor, new: Descriptor) {
    entry.store(va, Level::L3, old, new);
    if new.is_valid() {
        owe_barriers();
    }
    // An entry made invalid owes nothing: the barriers of its TLBI sequence are the ones it needs,
    // and an invalid entry is never cached that a barrier could have kept away (DDI 0487, D8.16.1).
}

/// Reads a leaf of a live kernel table.
#[inline]
pub fn load_leaf(entry: Entry) -> Descriptor {
    // Under neither backend is a store put off, so memory tells the truth.
    entry.load()
}

/// The barriers after making a leaf valid: now, or at the end of the section.
#[inline]
fn owe_barriers() {
    if backend() == Backend::Barriers && is_active() {
        task::current().barriers_owed.set(true);
    } else {
        emit_barriers();
    }
}

/// `DSB ISHST; ISB`: makes every entry stored before usable on this CPU.
fn emit_barriers() {
    // The store must be complete before a walk can be sure to see it (`1-I2V-ISB`, without the DSB:
    // Allowed) ...
    barrier::dsb_ishst();
    // ... and the CPU may have found the entry invalid ahead of time, a result that it may use
    // until it synchronises (`1-I2V-DSB.ISHST`, without the ISB: Allowed without FEAT_ETS2). In
    // this order.
    barrier::isb();
}

/// Pays what the current task owes.
#[inline]
fn pay() {
    let owed = &task::current().barriers_owed;
    if owed.get() {
        // Cleared first: a fault or an interrupt in between then owes anew rather than being
        // forgotten.
        owed.set(false);
        emit_barriers();
    }
}

/// A TLB flush has just ended with its DSB ISH and ISB: they are barriers enough for what was owed
/// before.
#[inline]
pub fn settle() {
    let task = task::current();
    // An interrupt handler may settle its own stores alone, and those never owe anything.
    if !task.in_interrupt() {
        task.barriers_owed.set(false);
    }
}

/// What the current task's state and debt are, as a line for reports.
pub fn describe(out: &mut dyn fmt::Write) -> fmt::Result {
    let task = task::current();
    let state = task.lazy_mmu_state.get();
    writeln!(
        out,
        "Lazy MMU mode of task {}: model={} backend={} {} owed={} in_interrupt={}",
        task.name,
        model(),
        backend(),
        state.display(model()),
        u8::from(task.barriers_owed.get()),
        u8::from(task.in_interrupt()),
    )
}
