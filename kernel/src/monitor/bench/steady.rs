//! The steady state: what a round takes in the long run.

use super::{
    beyond::{self, Beyond},
    meter::{Cost, Measured, Trouble, measure, until_purge},
};

/// A case in the steady state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steady {
    pub(super) cost: Cost,
    /// `None` where it could not be recorded.
    pub(super) beyond: Option<Beyond>,
}

/// What a long run of `body` takes a round, with the purges that it is the cause of: whole cycles from
/// one purge to the next, `rounds` rounds or a few more.
pub(super) fn steady(
    rounds: u64,
    mut body: impl FnMut(u64) -> Result<(), Trouble>,
) -> Measured<Steady> {
    // The first cycle began somewhere; the second is a whole one.
    let cycle = match until_purge(&mut body)? {
        Some(_) => until_purge(&mut body)?,
        None => None,
    };
    let rounds = rounds.max(1).next_multiple_of(cycle.unwrap_or(1));
    let cost = measure(rounds, &mut body)?;
    let beyond = beyond::count(cycle.is_some(), &mut body)?;
    Ok(Steady { cost, beyond })
}
