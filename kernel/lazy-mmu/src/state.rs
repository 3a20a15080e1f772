//! What a task remembers, and the four calls.
//!
//! The rules of each model are in `state/rules.rs`.
//!
//! Everything here is a value. A call changes the state and says which arch hook has to run and
//! what there is to complain of; nothing is executed.

use core::fmt;

use crate::{Model, Token, Transition};

mod rules;

/// What a task remembers of its lazy MMU mode, under any of the models.
///
/// Four bytes (two counters, a flag, one unused) in each task (Linux:
/// `task_struct.lazy_mmu_state`), so that it migrates with the task. Which fields mean something
/// depends on the model; change the model only while the state is [`LazyMmuState::new`].
///
/// ```
/// use lazy_mmu::{ArchCall, LazyMmuState, Model};
///
/// let model = Model::TwoCounters;
/// let mut state = LazyMmuState::new();
/// let (outer, entered) = state.enable(model, false);
/// let (inner, nested) = state.enable(model, false);
/// assert_eq!((entered.arch, nested.arch), (Some(ArchCall::Enter), None));
/// assert_eq!(state.display(model).to_string(), "enable=2 pause=0");
///
/// // A nested disable still makes the caller's changes visible.
/// assert_eq!(state.disable(model, inner, false).arch, Some(ArchCall::Flush));
/// assert_eq!(state.disable(model, outer, false).arch, Some(ArchCall::Leave));
/// assert_eq!(state.leaked(model), 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C, align(4))] // one load and one store
pub struct LazyMmuState {
    /// Sections open. `two-counters`: `enable_count`; `nesting-level`: `nesting_level`; else 0.
    enable_count: u8,
    /// Pauses in effect. `two-counters`: `pause_count`; else 0.
    pause_count: u8,
    /// `TIF_LAZY_MMU` of the first four models, `active` of `nesting-level`; else false.
    active: bool,
}

impl LazyMmuState {
    /// No section open, nothing paused: what a new task starts with.
    #[must_use]
    pub const fn new() -> Self {
        LazyMmuState {
            enable_count: 0,
            pause_count: 0,
            active: false,
        }
    }

    /// Opens a section: `lazy_mmu_mode_enable()`.
    ///
    /// `in_interrupt` is Linux's: a hard or soft interrupt, an NMI, or bottom halves disabled.
    #[inline]
    pub fn enable(&mut self, model: Model, in_interrupt: bool) -> (Token, Transition) {
        match model {
            Model::TwoCounters => (Token::Default, self.counters_enable(in_interrupt)),
            Model::NestingLevel => (Token::Default, self.level_enable(in_interrupt)),
            _ => self.flag_enable(model, in_interrupt),
        }
    }

    /// Closes a section: `lazy_mmu_mode_disable()`.
    ///
    /// Unless it is ignored, every change of page tables before it has taken effect once the
    /// hook has run, whether the section was nested or not.
    #[inline]
    pub fn disable(&mut self, model: Model, token: Token, in_interrupt: bool) -> Transition {
        match model {
            Model::TwoCounters => self.counters_disable(in_interrupt),
            Model::NestingLevel => self.level_disable(in_interrupt),
            _ => self.flag_disable(model, token, in_interrupt),
        }
    }

    /// Leaves the mode whatever the nesting: `lazy_mmu_mode_pause()`.
    ///
    /// The first four models have no pause: there it is the leave that Linux's KASAN called at
    /// the time. [`Model::Token`] leaves with `LAZY_MMU_DEFAULT` and says in the token whether
    /// there was anything to leave.
    #[inline]
    pub fn pause(&mut self, model: Model, in_interrupt: bool) -> (Token, Transition) {
        match model {
            Model::TwoCounters => (Token::Default, self.counters_pause(in_interrupt)),
            Model::NestingLevel => (Token::Default, self.level_pause(in_interrupt)),
            _ => self.flag_pause(model, in_interrupt),
        }
    }

    /// Goes back to what was paused: `lazy_mmu_mode_resume()`.
    ///
    /// In the first four models this is an enter. Under [`Model::Token`] it is one only with
    /// [`Token::Default`].
    #[inline]
    pub fn resume(&mut self, model: Model, token: Token, in_interrupt: bool) -> Transition {
        match model {
            Model::TwoCounters => self.counters_resume(in_interrupt),
            Model::NestingLevel => self.level_resume(in_interrupt),
            Model::Token if token == Token::Nested => {
                if in_interrupt {
                    Transition::IGNORED
                } else {
                    Transition::default()
                }
            }
            _ => self.flag_enable(model, in_interrupt).1,
        }
    }

    /// Closes a section that is known to have been counted: what a guard does when it is dropped.
    ///
    /// Unlike [`disable`](LazyMmuState::disable) it does not ask again whether to do anything at
    /// all. Linux does, and so loses the count in `enable(); spin_lock_bh(); disable();`, and
    /// under [`Model::TwoCounters`] in `enable(); pause(); disable();`. Paused, the latter has no
    /// arch call to make here: the pause has left.
    #[inline]
    pub fn close(&mut self, model: Model, token: Token) -> Transition {
        if model == Model::TwoCounters && self.pause_count > 0 && self.enable_count > 0 {
            self.enable_count -= 1;
            return Transition::made(None, None);
        }
        self.disable(model, token, false)
    }

    /// Is maintenance deferred now? Linux's `is_lazy_mmu_mode_active()`.
    ///
    /// In interrupt context it is not, but for [`Model::Strict`], which read the interrupted
    /// task's flag. With `in_interrupt` false it is `__task_lazy_mmu_mode_active()`.
    #[inline]
    #[must_use]
    pub const fn is_active(&self, model: Model, in_interrupt: bool) -> bool {
        match model {
            Model::TwoCounters => !in_interrupt && self.enable_count > 0 && self.pause_count == 0,
            Model::Strict => self.active,
            _ => !in_interrupt && self.active,
        }
    }

    /// Sections open: `enable_count` of [`Model::TwoCounters`], `nesting_level` of
    /// [`Model::NestingLevel`], 0 under the others.
    #[inline]
    #[must_use]
    pub const fn enable_count(&self) -> u8 {
        self.enable_count
    }

    /// Pauses in effect: `pause_count` of [`Model::TwoCounters`], 0 under the others.
    #[inline]
    #[must_use]
    pub const fn pause_count(&self) -> u8 {
        self.pause_count
    }

    /// The flag of the models that keep one; false under [`Model::TwoCounters`].
    #[inline]
    #[must_use]
    pub const fn flag(&self) -> bool {
        self.active
    }

    /// Sections left open, to be asked where none may be: the count, or 1 for a flag left on.
    #[must_use]
    pub const fn leaked(&self, model: Model) -> u8 {
        match model {
            Model::TwoCounters => self.enable_count,
            Model::NestingLevel if self.enable_count > 0 => self.enable_count,
            _ => self.active as u8,
        }
    }

    /// Pauses not resumed: the count, or 1 for a section of [`Model::NestingLevel`] that is off.
    /// The first four models do not remember a pause, so 0.
    #[must_use]
    pub const fn leaked_pauses(&self, model: Model) -> u8 {
        match model {
            Model::TwoCounters => self.pause_count,
            Model::NestingLevel => (self.enable_count > 0 && !self.active) as u8,
            _ => 0,
        }
    }

    /// The state in the model's own words, on one line: `enable=1 pause=0`,
    /// `nesting_level=1 active=1`, or `active=1`.
    #[must_use]
    pub const fn display(&self, model: Model) -> StateDisplay {
        StateDisplay {
            state: *self,
            model,
        }
    }
}

/// [`LazyMmuState::display`].
#[derive(Clone, Copy, Debug)]
pub struct StateDisplay {
    /// What is printed.
    state: LazyMmuState,
    /// In whose words.
    model: Model,
}

impl fmt::Display for StateDisplay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LazyMmuState {
            enable_count,
            pause_count,
            active,
        } = self.state;
        let active = u8::from(active);
        match self.model {
            Model::TwoCounters => write!(f, "enable={enable_count} pause={pause_count}"),
            Model::NestingLevel => write!(f, "nesting_level={enable_count} active={active}"),
            _ => write!(f, "active={active}"),
        }
    }
}
