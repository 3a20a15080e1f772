//! What goes into a call and what comes out of it: hooks, tokens, transitions.

use core::fmt;

#[cfg(doc)]
use crate::Model;
use crate::Warning;

/// One of the four calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// `lazy_mmu_mode_enable()`.
    Enable,
    /// `lazy_mmu_mode_disable()`.
    Disable,
    /// `lazy_mmu_mode_pause()`.
    Pause,
    /// `lazy_mmu_mode_resume()`.
    Resume,
}

impl Call {
    /// Linux's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Call::Enable => "lazy_mmu_mode_enable",
            Call::Disable => "lazy_mmu_mode_disable",
            Call::Pause => "lazy_mmu_mode_pause",
            Call::Resume => "lazy_mmu_mode_resume",
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The hook of the architecture that a call makes.
///
/// For the four models that keep a flag, Linux's hooks kept the flag themselves. Here the state
/// keeps it, and what is named is what the hook had left to do: [`Enter`](ArchCall::Enter) where
/// it turned the mode on, [`Leave`](ArchCall::Leave) or [`Flush`](ArchCall::Flush) wherever it
/// ran the flush, which a disable or pause that was not ignored always did.
///
/// A hook must bear a `Leave` or `Flush` with the mode already off, and an `Enter` with it
/// already on: misuse causes them, under every model for the former, under
/// [`Model::NestingLevel`] for the latter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArchCall {
    /// `arch_enter_lazy_mmu_mode()`: the mode goes on; page-table maintenance may be deferred.
    Enter,
    /// `arch_leave_lazy_mmu_mode()`: do what was deferred; the mode goes off.
    Leave,
    /// `arch_flush_lazy_mmu_mode()`: do what was deferred; the mode stays as it is.
    Flush,
}

impl ArchCall {
    /// The hook's name as in Linux, without `_lazy_mmu_mode`: `arch_enter`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ArchCall::Enter => "arch_enter",
            ArchCall::Leave => "arch_leave",
            ArchCall::Flush => "arch_flush",
        }
    }
}

impl fmt::Display for ArchCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What an enable (or pause) hands to its disable (or resume) under [`Model::Token`].
///
/// Linux's `lazy_mmu_state_t`. Under the other models it is always [`Token::Default`] and is
/// ignored. It is `Copy`, so it can be swapped, dropped or used twice: nothing but the caller's
/// care prevented that in Linux either. The guards ([`Section`](crate::Section),
/// [`Pause`](crate::Pause)) hold theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[must_use = "the matching disable or resume needs it"]
pub enum Token {
    /// `LAZY_MMU_DEFAULT`: this call turned the mode on (or off, for a pause).
    #[default]
    Default,
    /// `LAZY_MMU_NESTED`: the mode was on already (or off, for a pause).
    Nested,
}

/// What one call brought about, beside the change of the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[must_use = "the arch call has to be made"]
pub struct Transition {
    /// The hook to run now, after the new state has been stored.
    pub arch: Option<ArchCall>,
    /// What to complain of, before the hook runs.
    pub warning: Option<Warning>,
    /// The call was not carried out (in interrupt context, paused, or the counter was full), so
    /// no matching call is owed for it.
    pub ignored: bool,
}

impl Transition {
    /// The call returned at its first check.
    pub(crate) const IGNORED: Self = Transition {
        arch: None,
        warning: None,
        ignored: true,
    };

    /// A call that was carried out and ran this hook.
    #[inline]
    pub(crate) const fn made(arch: Option<ArchCall>, warning: Option<Warning>) -> Self {
        Transition {
            arch,
            warning,
            ignored: false,
        }
    }

    /// A counter that would have wrapped stays where it is; the hook is that of the branch
    /// which Linux takes after the wrap.
    #[inline]
    pub(crate) const fn saturated(arch: Option<ArchCall>, warning: Warning) -> Self {
        Transition {
            arch,
            warning: Some(warning),
            ignored: true,
        }
    }
}
