//! The subject, wired up: the current task's state, the chosen model, the chosen backend.
//!
//! Between a store to an entry and the moment at which the machine is guaranteed to see it stand a
//! DSB ISHST and an ISB. This file decides when they are issued. `page_table` sends every store of
//! a live leaf through [`store_leaf`]; the four calls and their guards say when barriers may be put
//! off; the model (crate `lazy-mmu`) says what nesting and pausing mean.

mod active;
mod config;
#[cfg(all(feature = "ktests", target_os = "none"))]
mod deferred_ktests;
mod flush;
mod full;
#[cfg(all(feature = "ktests", target_os = "none"))]
mod ktests;
mod lock;
#[cfg(all(feature = "ktests", target_os = "none"))]
mod lock_ktests;
mod owed;
mod percpu;
mod queue;
mod run;
mod single;
mod store;

use crate::{
    arch::record::note,
    bug::{Bug, planted},
    event,
    task::{
        self,
        deferred::{PendingFlush, QueuedStore},
    },
    trace::{self, Kind},
    unusual, warning,
};
pub use active::is_active;
pub use config::{Backend, PageTableLock, backend, count_on_ets2, ets2, model, page_table_lock};
use core::fmt;
pub use flush::defer_flush;
use flush::flush_pending;
pub use full::queue_full_count;
pub use lazy_mmu::{
    ArchCall, Call, LazyMmu, LazyMmuState, Model, Pause, Section, Token, Transition, Warning,
};
pub use lock::{
    OthersKeptOut, keep_others_out, page_table_lock_contended, page_table_lock_is_held,
    page_table_lock_waited,
};
use owed::emit_barriers;
pub use owed::{settle, settle_of};
pub use percpu::on_switch;
pub use queue::drain;
use queue::drain_of;
pub use run::{
    Edit, KnownFrames, clear_run, clear_run_folded, clear_run_unseen, edit_run, map_adjacent_run,
    map_frames_run, map_run,
};
pub use single::{clear_single, map_single};
pub use store::{load_leaf, store_block, store_leaf, take_leaf};

/// Whose mode it is: the running task's.
pub type Current = task::Task;

/// A section is open, a pause is under way or barriers are owed: what was chosen may not change now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// Chooses model and backend.
///
/// # Errors
/// [`Busy`] unless the current task's state is that of a new task: a count of one model means
/// nothing to another.
pub fn choose(model: Model, backend: Backend) -> Result<(), Busy> {
    if !is_clean() {
        return Err(Busy);
    }
    config::set(model, backend);
    Ok(())
}

/// Chooses what keeps others out while a section is open.
///
/// A section that another CPU opens at this very moment may be one of before or of after: a task
/// gives back what it has taken, whatever is chosen by then.
///
/// # Errors
/// [`Busy`] while any task has a section open, or a pause under way.
pub fn choose_page_table_lock(lock: PageTableLock) -> Result<(), Busy> {
    let mut others_clean = true;
    for_each_task(|state| others_clean &= state == LazyMmuState::new());
    if !is_clean() || !others_clean {
        return Err(Busy);
    }
    config::set_lock(lock);
    Ok(())
}

/// Tells of every task's state.
fn for_each_task(mut each: impl FnMut(LazyMmuState)) {
    #[cfg(target_os = "none")]
    task::list::for_each(|task| each(task.lazy));
    // The host has no list, and no scheduler that would need one.
    #[cfg(not(target_os = "none"))]
    each(task::current().lazy_mmu_state.get());
}

/// Whether the current task has nothing open, nothing put off, and keeps nobody out.
fn is_clean() -> bool {
    let task = task::current();
    task.lazy_mmu_state.get() == LazyMmuState::new()
        && task.deferred.is_empty()
        && !task.section_lock.is_held()
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
    let clean = is_clean();
    pay(task::current());
    task::current().lazy_mmu_state.set(LazyMmuState::new());
    if task::current().section_lock.on_cpu.get() {
        percpu::leave();
    }
    lock::give_back();
    // What was left open is closed without a call.
    event!(Lazy {
        call: event::LazyCall::Disable,
        sections: 0,
        pauses: 0,
        flushed: true,
    });
    clean
}

/// The current task is what the state machine sees. It stays the same from one end of a section to
/// the other, so it is looked up once.
impl LazyMmu for Current {
    #[inline]
    fn model(&self) -> Model {
        model()
    }

    #[inline]
    fn in_interrupt(&self) -> bool {
        Current::in_interrupt(self) && !planted(Bug::EnableInIrq)
    }

    #[inline]
    fn state(&self) -> LazyMmuState {
        self.lazy_mmu_state.get()
    }

    #[inline]
    fn set_state(&self, state: LazyMmuState) {
        self.lazy_mmu_state.set(state);
    }

    #[inline(always)]
    fn is_plain(&self, call: Call) -> bool {
        // What was taken is given back even where nothing would be taken any more.
        !unusual::anything() && (call == Call::Enable || !self.deferred.more.get())
    }

    #[inline(always)]
    fn arch(&self, call: ArchCall) {
        match call {
            // The state says that the mode is on; there is nothing else to switch (Linux on arm64:
            // an empty function).
            ArchCall::Enter => {}
            ArchCall::Flush if planted(Bug::NoInnerFlush) => {}
            ArchCall::Flush if planted(Bug::InnerLeaveEnds) => {
                pay(self);
                self.set_state(LazyMmuState::new());
            }
            ArchCall::Leave | ArchCall::Flush => pay(self),
        }
    }

    #[cold]
    fn warn(&self, warning: Warning) {
        warning!("lazy MMU mode, model {}: {warning}", model());
    }

    #[inline(always)]
    fn observe_plain(&self, call: Call, state: LazyMmuState, transition: Transition) {
        tell(call, state, transition);
    }

    #[inline]
    fn observe(&self, call: Call, state: LazyMmuState, transition: Transition) {
        tell(call, state, transition);
        if trace::recording() {
            record(call, state, transition);
        }
        // Here and not in `arch`: whoever is kept out stays so while the mode is paused.
        if transition.ignored {
            return;
        }
        match call {
            Call::Enable | Call::Resume if config::takes() => take(call, transition.arch),
            Call::Enable | Call::Resume => {}
            // It is the task's own record that says what is to be given back. What was put off has been
            // made good: `arch` comes before this.
            Call::Disable | Call::Pause if self.section_lock.is_held() => {
                give_back(call, transition.arch);
            }
            Call::Disable | Call::Pause => {}
        }
    }
}

/// Tells the oracle of a call.
#[inline(always)]
fn tell(_call: Call, _state: LazyMmuState, _transition: Transition) {
    event!(Lazy {
        call: match _call {
            Call::Enable => event::LazyCall::Enable,
            Call::Disable => event::LazyCall::Disable,
            Call::Pause => event::LazyCall::Pause,
            Call::Resume => event::LazyCall::Resume,
        },
        sections: _state.leaked(model()),
        pauses: _state.leaked_pauses(model()),
        flushed: matches!(_transition.arch, Some(ArchCall::Leave | ArchCall::Flush)),
    });
}

/// Out of line, with all that it needs in registers.
#[cold]
#[inline(never)]
fn record(call: Call, state: LazyMmuState, transition: Transition) {
    note(|| Kind::Lazy {
        call,
        state,
        arch: transition.arch,
        warning: transition.warning,
    });
}

/// A call has been through, and sections take something.
#[cold]
#[inline(never)]
fn take(call: Call, arch: Option<ArchCall>) {
    task::current().deferred.more.set(true);
    if call == Call::Enable {
        lock::opened();
    }
    if arch == Some(ArchCall::Enter) && backend().is_per_cpu() {
        percpu::enter();
    }
}

/// A call has been through, and the running task holds something for its sections.
#[cold]
#[inline(never)]
fn give_back(call: Call, arch: Option<ArchCall>) {
    if arch == Some(ArchCall::Leave) && task::current().section_lock.on_cpu.get() {
        percpu::leave();
    }
    if call == Call::Disable {
        lock::closed();
    }
}

/// Opens a lazy section until the value is dropped.
#[inline(always)]
pub fn section() -> Section<'static, Current> {
    task::current().section()
}

/// Pauses the lazy MMU mode until the value is dropped.
#[inline]
pub fn paused() -> Pause<'static, Current> {
    task::current().paused()
}

/// Calls the page allocator as the model demands of those who may be in a section: under `avoid` the
/// mode is left around the call.
pub fn call_page_allocator<R>(call: impl FnOnce() -> R) -> R {
    task::current().call_page_allocator(call)
}

/// The running task, for the four functions that gdb is sent to. The task goes through their stack, so
/// that they begin with a frame of their own: where nothing needs one before the cold ways part, the
/// first instruction is of something inlined, and gdb's `finish` ends with that.
#[inline(always)]
fn current_here() -> &'static Current {
    core::hint::black_box(task::current())
}

/// Opens a lazy section, or nests in the one that is open. Raw: prefer [`section`]. gdb stops here
/// in scene `nesting`.
#[unsafe(no_mangle)]
#[inline(never)]
pub fn lazy_mmu_mode_enable() -> Token {
    current_here().enable()
}

/// Closes what the matching [`lazy_mmu_mode_enable`] opened. When it returns, every change made in
/// the section is guaranteed visible, whatever is still open around it.
#[unsafe(no_mangle)]
#[inline(never)]
pub fn lazy_mmu_mode_disable(token: Token) {
    current_here().disable(token);
}

/// Leaves the mode, regardless of nesting, until the matching [`lazy_mmu_mode_resume`]. Raw: prefer
/// [`paused`].
#[unsafe(no_mangle)]
#[inline(never)]
pub fn lazy_mmu_mode_pause() -> Token {
    current_here().pause()
}

/// Ends what the matching [`lazy_mmu_mode_pause`] began.
#[unsafe(no_mangle)]
#[inline(never)]
pub fn lazy_mmu_mode_resume(token: Token) {
    current_here().resume(token);
}

/// Makes good what the current task has put off.
#[inline(always)]
fn pay(task: &Current) {
    if planted(Bug::NeverFlushed) {
        return;
    }
    if task.deferred.more.get() {
        pay_for_more(task);
    } else if task.deferred.barriers.get() {
        pay_for_barriers(task);
    }
}

/// What is owed where only barriers wait. Out of line: most sections owe something, but not as many as
/// there are places where they end.
#[inline(never)]
fn pay_for_barriers(task: &Current) {
    // Cleared first: an interrupt in between then owes anew rather than being forgotten.
    task.deferred.barriers.set(false);
    emit_barriers();
}

/// By default nothing but barriers waits, ever.
#[cold]
#[inline(never)]
fn pay_for_more(task: &Current) {
    let deferred = &task.deferred;
    drain_of(task);
    if !deferred.flushes.is_empty() {
        // Ends in an ISB, so it pays for the barriers as well.
        flush_pending();
    } else if deferred.barriers.get() {
        pay_for_barriers(task);
    }
    // What is held stays so, where this is not the end of it. A handler came here by a section of its
    // own, and leaves what is the task's as it is.
    if deferred.stores.is_empty() && !task.section_lock.is_held() && !task.in_interrupt() {
        deferred.more.set(false);
    }
}

/// What the current task's state and debt are, as lines for reports.
pub fn describe(out: &mut dyn fmt::Write) -> fmt::Result {
    let task = task::current();
    writeln!(
        out,
        "Lazy MMU mode of task {}: model={} backend={} ptlock={} {} owed={} in_interrupt={}",
        task.name,
        model(),
        backend(),
        page_table_lock(),
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
    let mut done = Ok(());
    let mut tell = |QueuedStore { va, old, new, .. }: QueuedStore| {
        let line = writeln!(
            out,
            "  store queued: {va} {:016x} -> {:016x}",
            old.bits(),
            new.bits()
        );
        done = done.and(line);
    };
    task.deferred.stores.iter().for_each(&mut tell);
    if task.section_lock.on_cpu.get() {
        percpu::waiting(tell);
    }
    done
}

#[cfg(test)]
mod tests;
