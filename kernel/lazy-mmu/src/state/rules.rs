//! The rules of each model, one block a family.
//!
//! Each function is one of Linux's helpers of its time, with the order of its checks.

use super::LazyMmuState;
use crate::{ArchCall, Model, Token, Transition, Warning};

/// Two-counters: v7.0, 5ab246749569.
impl LazyMmuState {
    /// Both counters as one number, `pause_count` high, so that one comparison looks at both.
    #[inline]
    const fn both(&self) -> u16 {
        u16::from_le_bytes([self.enable_count, self.pause_count])
    }

    /// Is an enable neither ignored nor one too many? Then [`count_up`](Self::count_up) is all
    /// that there is to it.
    #[inline]
    pub(crate) const fn counts_up(&self, in_interrupt: bool) -> bool {
        self.both() < u8::MAX as u16 && !in_interrupt
    }

    /// One section more; the first enters.
    #[inline]
    pub(crate) const fn count_up(&mut self) -> Option<ArchCall> {
        self.enable_count += 1;
        if self.enable_count == 1 {
            Some(ArchCall::Enter)
        } else {
            None
        }
    }

    /// Is a disable neither ignored nor one too many? As [`counts_up`](Self::counts_up).
    #[inline]
    pub(crate) const fn counts_down(&self, in_interrupt: bool) -> bool {
        self.both().wrapping_sub(1) < u8::MAX as u16 && !in_interrupt
    }

    /// One section less; the last leaves, the others flush.
    #[inline]
    pub(crate) const fn count_down(&mut self) -> ArchCall {
        self.enable_count -= 1;
        if self.enable_count == 0 {
            ArchCall::Leave
        } else {
            ArchCall::Flush
        }
    }

    /// Ignored in interrupt context and while paused.
    #[inline]
    pub(super) fn counters_enable(&mut self, in_interrupt: bool) -> Transition {
        if self.counts_up(in_interrupt) {
            Transition::made(self.count_up(), None)
        } else if in_interrupt || self.pause_count > 0 {
            Transition::IGNORED
        } else {
            Transition::saturated(None, Warning::EnableOverflow)
        }
    }

    /// Ignored as the enable is.
    #[inline]
    pub(super) fn counters_disable(&mut self, in_interrupt: bool) -> Transition {
        if self.counts_down(in_interrupt) {
            Transition::made(Some(self.count_down()), None)
        } else if in_interrupt || self.pause_count > 0 {
            Transition::IGNORED
        } else {
            Transition::saturated(Some(ArchCall::Flush), Warning::DisableUnderflow)
        }
    }

    /// Ignored in interrupt context only; the first of an open section leaves.
    #[inline]
    pub(super) fn counters_pause(&mut self, in_interrupt: bool) -> Transition {
        if in_interrupt {
            return Transition::IGNORED;
        }
        if self.pause_count == u8::MAX {
            return Transition::saturated(None, Warning::PauseOverflow);
        }
        self.pause_count += 1;
        let leaves = self.pause_count == 1 && self.enable_count > 0;
        Transition::made(if leaves { Some(ArchCall::Leave) } else { None }, None)
    }

    /// Ignored in interrupt context only; the last of an open section enters.
    #[inline]
    pub(super) fn counters_resume(&mut self, in_interrupt: bool) -> Transition {
        if in_interrupt {
            return Transition::IGNORED;
        }
        if self.pause_count == 0 {
            return Transition::saturated(None, Warning::ResumeUnderflow);
        }
        self.pause_count -= 1;
        let enters = self.pause_count == 0 && self.enable_count > 0;
        Transition::made(if enters { Some(ArchCall::Enter) } else { None }, None)
    }
}

/// Nesting-level: v4 of the series, patches 7 and 12.
impl LazyMmuState {
    /// Counts even while paused, which it warns of.
    pub(super) fn level_enable(&mut self, in_interrupt: bool) -> Transition {
        if in_interrupt {
            return Transition::IGNORED;
        }
        if self.enable_count == u8::MAX {
            return Transition::saturated(None, Warning::EnableOverflow);
        }
        let paused = self.enable_count > 0 && !self.active;
        self.enable_count += 1;
        let first = self.enable_count == 1;
        self.active |= first;
        let arch = first.then_some(ArchCall::Enter);
        Transition::made(arch, paused.then_some(Warning::EnableWhilePaused))
    }

    /// Counts even while paused, which it warns of; the last leaves, the others flush.
    pub(super) fn level_disable(&mut self, in_interrupt: bool) -> Transition {
        if in_interrupt {
            return Transition::IGNORED;
        }
        if self.enable_count == 0 {
            return Transition::saturated(Some(ArchCall::Flush), Warning::DisableUnderflow);
        }
        let paused = !self.active;
        self.enable_count -= 1;
        let last = self.enable_count == 0;
        self.active &= !last;
        let arch = if last {
            ArchCall::Leave
        } else {
            ArchCall::Flush
        };
        Transition::made(Some(arch), paused.then_some(Warning::DisableWhilePaused))
    }

    /// Clears the flag and leaves, legal or not.
    pub(super) fn level_pause(&mut self, in_interrupt: bool) -> Transition {
        if in_interrupt {
            return Transition::IGNORED;
        }
        let warning = match (self.enable_count, self.active) {
            (0, _) => Some(Warning::PauseOutsideSection),
            (_, false) => Some(Warning::PauseWhilePaused),
            _ => None,
        };
        self.active = false;
        Transition::made(Some(ArchCall::Leave), warning)
    }

    /// Sets the flag and enters, legal or not: outside a section the mode is left on.
    pub(super) fn level_resume(&mut self, in_interrupt: bool) -> Transition {
        if in_interrupt {
            return Transition::IGNORED;
        }
        let warning = match (self.enable_count, self.active) {
            (0, _) => Some(Warning::ResumeOutsideSection),
            (_, true) => Some(Warning::ResumeNotPaused),
            _ => None,
        };
        self.active = true;
        Transition::made(Some(ArchCall::Enter), warning)
    }
}

/// Strict, tolerant, avoid, token: one flag.
impl LazyMmuState {
    /// Sets the flag; what differs is who warns, and of what.
    pub(super) fn flag_enable(&mut self, model: Model, in_interrupt: bool) -> (Token, Transition) {
        let strict = model == Model::Strict;
        if in_interrupt && !strict {
            return (Token::Default, Transition::IGNORED);
        }
        let nested = core::mem::replace(&mut self.active, true);
        let warning = if in_interrupt {
            Some(Warning::InInterrupt)
        } else if nested && (strict || model == Model::Avoid) {
            Some(Warning::AlreadyActive)
        } else {
            None
        };
        let token = if nested && model == Model::Token {
            Token::Nested
        } else {
            Token::Default
        };
        (
            token,
            Transition::made((!nested).then_some(ArchCall::Enter), warning),
        )
    }

    /// Flushes, and clears the flag unless the token says that it is another's.
    pub(super) fn flag_disable(
        &mut self,
        model: Model,
        token: Token,
        in_interrupt: bool,
    ) -> Transition {
        if in_interrupt && model != Model::Strict {
            return Transition::IGNORED;
        }
        if model == Model::Token && token == Token::Nested {
            return Transition::made(Some(ArchCall::Flush), None);
        }
        self.active = false;
        Transition::made(Some(ArchCall::Leave), None)
    }

    /// The disable of an outermost section, remembering in the token whether the mode was on.
    pub(super) fn flag_pause(&mut self, model: Model, in_interrupt: bool) -> (Token, Transition) {
        let was_off = !self.active;
        let transition = self.flag_disable(model, Token::Default, in_interrupt);
        let nested = was_off && model == Model::Token && !transition.ignored;
        (
            if nested {
                Token::Nested
            } else {
                Token::Default
            },
            transition,
        )
    }
}
