//! The subject, wired up: the current task's state, the chosen model, the chosen backend.
//!
//! Between a store to an entry and the moment at which the machine is guaranteed to see it stand a
//! DSB ISHST and an ISB. This file decides when they are issued. `page_table` sends every store of
//! a live leaf through [`store_leaf`]; the four calls and their guards say when barriers may be put
//! off; the model (crate `lazy-mmu`) says what nesting and pausing mean.

#[cfg(target_os = "none")]
mod deferred_ktests;
#[cfg(target_os = "none")]
mod ktests;

use super::sequence::{Removed, Sequence};
use crate::{
    arch::{barrier, entry::Entry, record::note},
    bug::{Bug, planted},
    event,
    task::{
        self,
        deferred::{PendingFlush, QueuedStore},
        points::preempt_point,
    },
    trace::Kind,
    warning,
};
use core::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
};
pub use lazy_mmu::{
    ArchCall, Call, LazyMmu, LazyMmuState, Model, Pause, Section, Token, Transition, Warning,
};
use vmsa::{Attributes, Descriptor, Level, PageRange, VirtAddr};

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
    /// The stores themselves, as Xen PV does.
    Stores = 3,
}

impl Backend {
    /// Every backend, the one that defers least first.
    pub const ALL: [Self; 4] = [Self::Eager, Self::Barriers, Self::Tlbi, Self::Stores];

    /// As it is written on the kernel command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eager => "eager",
            Self::Barriers => "barriers",
            Self::Tlbi => "tlbi",
            Self::Stores => "stores",
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

/// FEAT_ETS2 is counted on.
static ETS2: AtomicBool = AtomicBool::new(false);

/// Counts on FEAT_ETS2 from now on, or does not: the CPUs have it, or it is assumed that they do.
pub fn count_on_ets2(on: bool) {
    ETS2.store(on, Ordering::Relaxed);
}

/// Whether FEAT_ETS2 is counted on.
#[inline]
pub fn ets2() -> bool {
    ETS2.load(Ordering::Relaxed)
}

/// The model whose rules hold.
#[inline]
pub fn model() -> Model {
    Model::ALL[usize::from(MODEL.load(Ordering::Relaxed)) % Model::ALL.len()]
}

/// The backend in use.
#[inline]
pub fn backend() -> Backend {
    Backend::ALL[usize::from(BACKEND.load(Ordering::Relaxed)) % Backend::ALL.len()]
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
    if task.lazy_mmu_state.get() != LazyMmuState::new() || !task.deferred.is_empty() {
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

/// Sections that the current task has left open: the count, or 1 for a flag that was left on.
pub fn leaked() -> u8 {
    task::current().lazy_mmu_state.get().leaked(model())
}

/// Runs `action` under a model and a backend, and chooses those of before again.
///
/// # Errors
/// [`Busy`], before or after: `action` left something open, and [`reset`] is called for.
pub fn with<R>(model: Model, backend: Backend, action: impl FnOnce() -> R) -> Result<R, Busy> {
    let before = (self::model(), self::backend());
    choose(model, backend)?;
    let result = action();
    choose(before.0, before.1).map(|()| result)
}

/// Puts the current task back to the state of a new one, making good what was put off. Returns
/// whether it was in that state already.
pub fn reset() -> bool {
    let task = task::current();
    let clean = task.lazy_mmu_state.get() == LazyMmuState::new() && task.deferred.is_empty();
    pay();
    task.lazy_mmu_state.set(LazyMmuState::new());
    // What was left open is closed without a call.
    event!(Lazy {
        call: event::LazyCall::Disable,
        sections: 0,
        pauses: 0,
        flushed: true,
    });
    clean
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
            ArchCall::Flush if planted(Bug::NoInnerFlush) => {}
            ArchCall::Flush if planted(Bug::InnerLeaveEnds) => {
                pay();
                self.set_state(LazyMmuState::new());
            }
            ArchCall::Leave | ArchCall::Flush => pay(),
        }
    }

    #[cold]
    fn warn(&self, warning: Warning) {
        warning!("lazy MMU mode, model {}: {warning}", model());
    }

    #[inline]
    fn observe(&self, call: Call, state: LazyMmuState, transition: Transition) {
        event!(Lazy {
            call: match call {
                Call::Enable => event::LazyCall::Enable,
                Call::Disable => event::LazyCall::Disable,
                Call::Pause => event::LazyCall::Pause,
                Call::Resume => event::LazyCall::Resume,
            },
            sections: state.leaked(model()),
            pauses: state.leaked_pauses(model()),
            flushed: matches!(transition.arch, Some(ArchCall::Leave | ArchCall::Flush)),
        });
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

/// Calls the page allocator as the model demands of those who may be in a section: under `avoid` the
/// mode is left around the call.
pub fn call_page_allocator<R>(call: impl FnOnce() -> R) -> R {
    CURRENT.call_page_allocator(call)
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
    match backend() {
        Backend::Eager | Backend::Barriers => {}
        Backend::Tlbi => flush_before_reuse(va, new),
        Backend::Stores if is_active() => {
            return queue(QueuedStore {
                entry,
                va,
                old,
                new,
            });
        }
        Backend::Stores => {}
    }
    if planted(Bug::BarrierBeforeStore) && new.is_valid() {
        owe_barriers();
        return entry.store(va, Level::L3, old, new);
    }
    entry.store(va, Level::L3, old, new);
    preempt_point();
    if needs_barriers(new) {
        owe_barriers();
    }
    // An entry made invalid owes nothing: the barriers of its TLBI sequence are the ones it needs,
    // and an invalid entry is never cached that a barrier could have kept away (DDI 0487, D8.16.1).
}

/// Stores a block of level 2, or clears one, in a live kernel table. As links are, it is never
/// queued, and comes after whatever is.
pub fn store_block(entry: Entry, va: VirtAddr, old: Descriptor, new: Descriptor) {
    drain();
    if backend() == Backend::Tlbi
        && let Some(pages) = PageRange::new(va, Level::L2.bytes() / vmsa::PAGE_SIZE)
    {
        pages
            .pages_iter()
            .for_each(|page| flush_before_reuse(page, new));
    }
    entry.store(va, Level::L2, old, new);
    if needs_barriers(new) {
        owe_barriers();
    }
}

/// Reads a leaf of a live kernel table. Memory tells the truth but under the backend `stores`: there
/// an entry that was changed in the open section still reads as it was.
#[inline]
pub fn load_leaf(entry: Entry, _va: VirtAddr) -> Descriptor {
    let value = entry.load();
    event!(EntryRead(entry.told(_va, Level::L3, value)));
    value
}

/// Clears a leaf and returns what it held: its last value, queued or not.
#[inline]
pub fn take_leaf(entry: Entry, va: VirtAddr) -> Descriptor {
    if planted(Bug::StaleReadback) {
        let stale = entry.load();
        drain();
        store_leaf(entry, va, entry.load(), Descriptor::INVALID);
        return stale;
    }
    if backend() == Backend::Stores
        && task::current()
            .deferred
            .stores
            .iter()
            .any(|s| s.entry == entry)
    {
        drain();
    }
    let old = entry.load();
    store_leaf(entry, va, old, Descriptor::INVALID);
    old
}

/// Whether something must stand between the store of a leaf and its use on this CPU.
///
/// With FEAT_ETS2 nothing, for data: an access comes after the stores before it in the program, and
/// then so do the walks that it makes (`1-I2V-STRx-none`, without any barrier: Forbidden). Neither
/// the DSB nor the ISB is issued for such a leaf. An instruction fetch is no such access: a CPU may
/// have fetched ahead, found the leaf invalid, and hold on to that until it synchronises. The model
/// says nothing of fetches from fresh mappings, so what can be executed keeps both.
#[inline]
fn needs_barriers(new: Descriptor) -> bool {
    const DATA: Attributes = Attributes::PXN.union(Attributes::UXN);
    new.is_valid() && !(ets2() && new.attributes().contains(DATA))
}

/// The barriers after making a leaf valid: now, or at the end of the section.
#[inline]
fn owe_barriers() {
    if backend() != Backend::Eager && is_active() {
        task::current().deferred.barriers.set(true);
    } else {
        emit_barriers();
    }
}

/// `DSB ISHST; ISB`: makes every entry stored before usable on this CPU.
fn emit_barriers() {
    // The store must be complete before a walk can be sure to see it (`1-I2V-ISB`, without the DSB:
    // Allowed) ...
    if !planted(Bug::NoDsb) {
        barrier::dsb_ishst();
    }
    // ... and the CPU may have found the entry invalid ahead of time, a result that it may use until
    // it synchronises (`1-I2V-DSB.ISHST`, without the ISB: Allowed without FEAT_ETS2). In this order.
    if !planted(Bug::NoIsb) {
        barrier::isb();
    }
}

/// Makes good what the current task has put off.
#[inline]
fn pay() {
    if planted(Bug::NeverFlushed) {
        return;
    }
    let deferred = &task::current().deferred;
    drain();
    if !deferred.flushes.is_empty() {
        // Ends in an ISB, so it pays for the barriers as well.
        flush_pending();
    } else if deferred.barriers.replace(false) {
        // Cleared first: an interrupt in between then owes anew rather than being forgotten.
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
        task.deferred.barriers.set(false);
    }
}

/// Puts a store in the queue; a full queue is drained first, and that is counted.
fn queue(store: QueuedStore) {
    let queue = &task::current().deferred.stores;
    if queue.push(store).is_err() {
        QUEUE_FULL.fetch_add(1, Ordering::Relaxed);
        drain();
        // The queue is empty: there is room.
        let _ = queue.push(store);
    }
    preempt_point();
}

/// Makes the stores that the current task has queued, in their order. Whoever changes an entry that
/// is not a live leaf, or needs memory to tell the truth, drains first.
#[inline]
pub fn drain() {
    let task = task::current();
    // A handler has no business with the queue of the task that it interrupted, which may be half
    // through this loop. So it may not change an entry that the task has queued: handlers map and
    // unmap addresses of their own.
    if task.deferred.stores.is_empty() || task.in_interrupt() {
        return;
    }
    for QueuedStore {
        entry,
        va,
        old,
        new,
    } in task.deferred.stores.iter()
    {
        entry.store(va, Level::L3, old, new);
        preempt_point();
        if needs_barriers(new) {
            task.deferred.barriers.set(true);
        }
    }
    task.deferred.stores.clear();
}

/// How often a queue was full before its section ended.
pub fn queue_full_count() -> u64 {
    QUEUE_FULL.load(Ordering::Relaxed)
}

static QUEUE_FULL: AtomicU64 = AtomicU64::new(0);

/// Puts a flush off, if the backend and the state of the task allow that.
pub fn defer_flush(range: PageRange, removed: Removed) -> bool {
    // Where blocks were removed the flush is made at once: it is rare, and the list needs to know of
    // pages and tables alone.
    if backend() != Backend::Tlbi || !is_active() || removed == Removed::Blocks {
        return false;
    }
    let pending = PendingFlush {
        range,
        tables: removed == Removed::Tables,
    };
    let flushes = &task::current().deferred.flushes;
    if flushes.push(pending).is_err() {
        // A full list is flushed, and no range is dropped. What was cleared for this one was
        // cleared before the DSB ISHST of that flush or not: a sequence of its own will tell.
        flush_pending();
        let _ = flushes.push(pending);
    }
    true
}

/// One sequence for every flush that the current task has put off. All of their clears come before
/// its DSB ISHST: a clear that comes later is in a later call of [`defer_flush`], and so in a later
/// sequence (`7-BATCH2-interleaved-y`, a clear behind the DSB ISHST of its TLBI: Allowed).
fn flush_pending() {
    let deferred = &task::current().deferred;
    let pages = deferred
        .flushes
        .iter()
        .map(|pending| pending.range.pages())
        .sum();
    let mut sequence = Sequence::begin(pages);
    for PendingFlush { range, tables } in deferred.flushes.iter() {
        sequence.add(
            range,
            if tables {
                Removed::Tables
            } else {
                Removed::Leaves
            },
        );
    }
    sequence.finish();
    // Not before the DSB ISH: a handler that makes an address valid in between has to find that the
    // address is not flushed yet. It adds nothing to the list that could be lost here.
    deferred.flushes.clear();
    settle();
}

/// An address whose flush is pending may not become valid again before that flush: the old
/// translation and the new one would be there side by side, which break-before-make is about
/// (DDI 0487, D8.16.1; `7d-CLEAR-REMAP-noTLBI`: Allowed).
#[inline]
fn flush_before_reuse(va: VirtAddr, new: Descriptor) {
    let task = task::current();
    if !new.is_valid() || planted(Bug::OaChange) {
        return;
    }
    let mut over = task
        .deferred
        .flushes
        .iter()
        .filter(|pending| pending.range.contains(va))
        .peekable();
    if over.peek().is_none() {
        return;
    }
    if task.in_interrupt() {
        // The list is the task's, which may be about to add to it: the handler flushes what it is
        // about to use, and leaves the list alone.
        let Some(page) = PageRange::new(va.align_down(vmsa::PAGE_SIZE), 1) else {
            return;
        };
        // Where a table is among what was removed, a walk by way of the old one would not even see
        // the new leaf.
        let removed = if over.any(|pending| pending.tables) {
            Removed::Tables
        } else {
            Removed::Leaves
        };
        let mut sequence = Sequence::begin(1);
        sequence.add(page, removed);
        sequence.finish();
    } else {
        flush_pending();
    }
}

/// What the current task's state and debt are, as lines for reports.
pub fn describe(out: &mut dyn fmt::Write) -> fmt::Result {
    let task = task::current();
    writeln!(
        out,
        "Lazy MMU mode of task {}: model={} backend={} {} owed={} in_interrupt={}",
        task.name,
        model(),
        backend(),
        task.lazy_mmu_state.get().display(model()),
        u8::from(task.deferred.barriers.get()),
        u8::from(task.in_interrupt()),
    )?;
    for PendingFlush { range, tables } in task.deferred.flushes.iter() {
        let what = if tables { "tables" } else { "leaves" };
        writeln!(
            out,
            "  flush pending: {} pages from {}, {what} removed",
            range.pages(),
            range.start()
        )?;
    }
    for QueuedStore { va, old, new, .. } in task.deferred.stores.iter() {
        writeln!(
            out,
            "  store queued: {va} {:016x} -> {:016x}",
            old.bits(),
            new.bits()
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
