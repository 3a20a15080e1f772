//! Keeping others out while a lazy section is open: `PTLOCK=global` and `PTLOCK=preempt`.
//!
//! The outermost section takes it, and gives it back when it is disabled: after its stores have been
//! made good, so that who comes next finds them. A pause keeps it, as does a nested disable, whatever
//! the model makes of the mode itself. Handlers never take it: the task that they interrupted may
//! hold it, and they change nothing that a task has under way.
//!
//! What the lock costs is in the order of locks as well. It is taken inside of the purge's lock, so
//! nothing that is called in a section may want that. Who allocates from the heap may be in a section,
//! and the heap maps pages under its own lock: it takes this one before ([`keep_others_out`]).

use super::config::{PageTableLock, page_table_lock, takes};
use crate::{
    arch::backtrace,
    task::{
        self,
        lock::SpinLock,
        preempt,
        section_lock::{Held, SectionLock},
    },
};

/// The one lock of all kernel page tables.
static LOCK: SpinLock<()> = SpinLock::new(());

/// How often a section had to wait for the lock of all kernel page tables.
#[must_use]
pub fn page_table_lock_contended() -> u64 {
    LOCK.contended()
}

/// For how long sections waited for it, all of them together, in ticks of the clock.
#[must_use]
pub fn page_table_lock_waited() -> u64 {
    LOCK.waited()
}

/// Whether the lock of all kernel page tables is held, by whomever, at this moment.
#[must_use]
pub fn page_table_lock_is_held() -> bool {
    LOCK.try_lock().is_none()
}

/// The running task has opened a section. Out of line: nothing of it is there by default.
#[cold]
#[inline(never)]
pub(super) fn opened() {
    let task = task::current();
    let SectionLock {
        held,
        sections,
        opened_by,
        ..
    } = &task.section_lock;
    if sections.get() == 0 {
        if task.in_interrupt() {
            return;
        }
        match page_table_lock() {
            PageTableLock::None => return,
            PageTableLock::Global => {
                LOCK.lock_and_keep();
                held.set(Held::Lock);
            }
            PageTableLock::Preempt => {
                preempt::disable().keep();
                held.set(Held::Preemption);
            }
        }
        // A report is to show who opened the section, not this.
        opened_by.set(backtrace::callers_frames().map(Some));
    }
    sections.set(sections.get() + 1);
    task.deferred.more.set(true);
}

/// The running task has closed a section, and holds something for the outermost.
#[cold]
#[inline(never)]
pub(super) fn closed() {
    let sections = &task::current().section_lock.sections;
    match sections.get() {
        0 => {}
        1 => give_back(),
        more => sections.set(more - 1),
    }
}

/// Keeps others out as a section does, without opening one, until the value is dropped: for who holds
/// a lock of its own around a walk, and is called in sections, too. The lock of the page tables then
/// comes first, wherever it is called from. By default it is nothing.
pub fn keep_others_out() -> OthersKeptOut {
    if !takes() {
        return OthersKeptOut(false);
    }
    let sections = &task::current().section_lock.sections;
    let before = sections.get();
    opened();
    OthersKeptOut(sections.get() != before)
}

/// What [`keep_others_out`] took, if anything.
#[derive(Debug)]
#[must_use = "others are let in when it is dropped"]
pub struct OthersKeptOut(bool);

impl Drop for OthersKeptOut {
    fn drop(&mut self) {
        if self.0 {
            closed();
        }
    }
}

/// Gives back what the running task holds, however many of its sections are open.
pub(super) fn give_back() {
    let lock = &task::current().section_lock;
    lock.sections.set(0);
    match lock.held.take() {
        Held::Nothing => {}
        // SAFETY: the record says that this task has taken the lock and kept it; it says so no more.
        Held::Lock => unsafe { LOCK.unlock_kept() },
        Held::Preemption => preempt::enable_kept(),
    }
}
