//! Lazy sections and pauses, opened and closed at random around all the rest, by guards and by the
//! raw calls.

use super::{
    dice::Dice,
    wrong::{Wrong, ensure},
};
use crate::{
    mm::lazy::{
        self, Current, LazyMmuState, Model, Pause, Section, Token, lazy_mmu_mode_disable,
        lazy_mmu_mode_enable, lazy_mmu_mode_pause, lazy_mmu_mode_resume,
    },
    task,
};

/// How deep they may nest.
const DEPTH: usize = 6;

/// One that is open.
enum Open {
    Section(Section<'static, Current>),
    Pause(Pause<'static, Current>),
    Enabled(Token),
    Paused(Token),
}

/// Those that are open, the outermost first. They close in the reverse order.
#[derive(Default)]
pub(super) struct Sections {
    open: [Option<Open>; DEPTH],
    depth: usize,
}

/// Whether a raw pause can be undone by its resume. Under the models that remember but a flag, and
/// under `nesting-level`, the resume of a pause outside of a section leaves the mode on for good:
/// what the guards are there to prevent.
fn raw_pause_pairs() -> bool {
    matches!(lazy::model(), Model::TwoCounters | Model::Token) || lazy::is_active()
}

impl Sections {
    /// Whether none is open.
    pub(super) fn is_empty(&self) -> bool {
        self.depth == 0
    }

    /// The innermost, if it is a section that a guard holds.
    pub(super) fn innermost(&self) -> Option<&Section<'static, Current>> {
        match self.open.get(self.depth.checked_sub(1)?)? {
            Some(Open::Section(section)) => Some(section),
            _ => None,
        }
    }

    /// Opens one more, if there is room.
    pub(super) fn open(&mut self, dice: &mut Dice) {
        let draw = dice.below(8);
        let Some(slot) = self.open.get_mut(self.depth) else {
            return;
        };
        dice.note(draw);
        *slot = Some(match draw {
            0..3 => Open::Section(lazy::section()),
            3..5 => Open::Enabled(lazy_mmu_mode_enable()),
            5 if raw_pause_pairs() => Open::Paused(lazy_mmu_mode_pause()),
            _ => Open::Pause(lazy::paused()),
        });
        self.depth += 1;
    }

    /// Closes the innermost, if there is one.
    pub(super) fn close(&mut self) {
        let Some(depth) = self.depth.checked_sub(1) else {
            return;
        };
        self.depth = depth;
        match self.open[depth].take() {
            Some(Open::Section(section)) => drop(section),
            Some(Open::Pause(pause)) => drop(pause),
            Some(Open::Enabled(token)) => lazy_mmu_mode_disable(token),
            Some(Open::Paused(token)) => lazy_mmu_mode_resume(token),
            None => {}
        }
    }

    /// Closes all.
    pub(super) fn close_all(&mut self) {
        while !self.is_empty() {
            self.close();
        }
    }

    /// Where none is open, nothing may be left of any.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        if self.is_empty() {
            let task = task::current();
            let state = task.lazy_mmu_state.get();
            ensure!(
                state == LazyMmuState::new(),
                "every section is closed, and the task is left at {}",
                state.display(lazy::model())
            );
            ensure!(
                task.deferred.is_empty(),
                "every section is closed, and something is still put off"
            );
        }
        Ok(())
    }
}
