//! What a model complains of, one variant a cause.

use core::fmt;

/// A call that the model does not allow; the call is carried out all the same, as in Linux.
///
/// The first four are older than the helpers `lazy_mmu_mode_*`; the `VM_WARN_ON` that each
/// stands for is in its docs. Every firing is reported, where Linux reports some only once.
///
/// One call reports at most one cause, the first that Linux's code looks at: enabling
/// [`Strict`](crate::Model::Strict) twice from an interrupt is reported as
/// [`InInterrupt`](Warning::InInterrupt).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Warning {
    /// Enable or resume in interrupt context. `strict`: `VM_WARN_ON(in_interrupt())`.
    InInterrupt,
    /// Enable or resume while the mode is on. `strict`, `avoid`:
    /// `VM_WARN_ON(test_thread_flag(TIF_LAZY_MMU))`.
    AlreadyActive,
    /// `mmu_gather` flushed or freed inside a section. `avoid`:
    /// `VM_WARN_ON(arch_in_lazy_mmu_mode())`.
    FlushInSection,
    /// Enable while paused. `nesting-level`: `VM_WARN_ON(nesting_level > 0 && !active)`.
    EnableWhilePaused,
    /// Disable while paused. `nesting-level`: `VM_WARN_ON(!active)`.
    DisableWhilePaused,
    /// Pause with no section open. `nesting-level`: `VM_WARN_ON(nesting_level == 0 || !active)`,
    /// first half.
    PauseOutsideSection,
    /// Pause while paused. `nesting-level`: the same condition, second half.
    PauseWhilePaused,
    /// Resume with no section open. `nesting-level`:
    /// `VM_WARN_ON(nesting_level == 0 || active)`, first half.
    ResumeOutsideSection,
    /// Resume of what is not paused. `nesting-level`: the same condition, second half.
    ResumeNotPaused,
    /// One enable more than the counter can hold; it was not counted. `nesting-level`,
    /// `two-counters`; wraps to 0 in Linux.
    EnableOverflow,
    /// Disable with no section open; the counter stays 0. `nesting-level`, `two-counters`; wraps
    /// to 255 in Linux.
    DisableUnderflow,
    /// One pause more than the counter can hold; it was not counted. `two-counters`; wraps to 0
    /// in Linux.
    PauseOverflow,
    /// Resume with nothing paused; the counter stays 0. `two-counters`; wraps to 255 in Linux.
    ResumeUnderflow,
}

impl Warning {
    /// What happened, in one line without a full stop.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Warning::InInterrupt => "lazy MMU mode entered in interrupt context",
            Warning::AlreadyActive => "lazy MMU mode entered while already active",
            Warning::FlushInSection => "TLB flush or page free in lazy MMU mode",
            Warning::EnableWhilePaused => "lazy_mmu_mode_enable() while paused",
            Warning::DisableWhilePaused => "lazy_mmu_mode_disable() while paused",
            Warning::PauseOutsideSection => "lazy_mmu_mode_pause() outside a section",
            Warning::PauseWhilePaused => "lazy_mmu_mode_pause() while paused",
            Warning::ResumeOutsideSection => "lazy_mmu_mode_resume() outside a section",
            Warning::ResumeNotPaused => "lazy_mmu_mode_resume() while not paused",
            Warning::EnableOverflow => "lazy_mmu_mode_enable() with the counter at its maximum",
            Warning::DisableUnderflow => "lazy_mmu_mode_disable() without an enable",
            Warning::PauseOverflow => "lazy_mmu_mode_pause() with the counter at its maximum",
            Warning::ResumeUnderflow => "lazy_mmu_mode_resume() without a pause",
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.message())
    }
}
