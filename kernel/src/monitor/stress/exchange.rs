//! Where tasks hand things over: what one has made another looks at, changes, keeps or frees, most
//! often on another CPU.

use super::{
    areas::{Area, Areas},
    dice::Dice,
    pages::{Holding, Pages},
    protect,
    room::PLACES,
    wrong::Wrong,
};
use crate::arch::{barrier, lock::Mutex};

/// What can be handed over.
enum Thing {
    Area(Area),
    Pages(Holding),
}

impl Thing {
    fn check(&self) -> Result<(), Wrong> {
        match self {
            Self::Area(area) => area.check(),
            Self::Pages(holding) => holding.check(),
        }
    }
}

/// Each with a lock of its own, which is only ever tried: its holder may be preempted. The locks are
/// those that the oracle is told of, since by them one task learns of what another has mapped.
static ALL: [Mutex<Option<Thing>>; PLACES] = [const { Mutex::new(None) }; PLACES];

/// Does something at one of the places, if nobody else is at it. Returns whether it took something
/// that lay there.
pub(super) fn step(areas: &mut Areas, pages: &mut Pages, dice: &mut Dice) -> Result<bool, Wrong> {
    let n = dice.below(PLACES as u64) as usize;
    let Some(mut place) = ALL[n].try_lock() else {
        return Ok(false);
    };
    // The lock has ordered what another CPU mapped before what follows, but this one may have found
    // the entries invalid ahead of time, which it may go by until it synchronises (`3-MP-STLR--LDAR`,
    // without it: Allowed without FEAT_ETS2). An access would fault for it, and be tried again with a
    // warning; here no warning is expected.
    barrier::isb();
    let draw = dice.below(4);
    dice.note(draw);
    match (&mut *place, draw) {
        (place @ None, 0..2) => *place = areas.give_away(dice).map(Thing::Area),
        (place @ None, _) => *place = pages.give_away(dice).map(Thing::Pages),
        (place @ Some(_), 0) => {
            let taken = match place.take() {
                Some(Thing::Area(area)) => areas.take_over(area).map_err(Thing::Area),
                Some(Thing::Pages(holding)) => pages.take_over(holding).map_err(Thing::Pages),
                None => Ok(()),
            };
            // There was no room.
            *place = taken.err();
            return Ok(place.is_none());
        }
        // Under the lock of the place, and so that whoever is next finds it as it was left.
        (Some(Thing::Area(area)), 1) => protect::change(area, dice)?,
        (Some(Thing::Area(area)), 2) if area.permissions.is_some() => {
            protect::execute(area, dice)?;
        }
        (Some(thing), _) => thing.check()?,
    }
    Ok(false)
}

/// The pages of what lies there, and the areas among it. Nobody may be at it.
pub(super) fn held() -> (u64, usize) {
    let mut held = (0, 0);
    for place in &ALL {
        match &*place.lock() {
            Some(Thing::Area(area)) => held = (held.0 + area.pages(), held.1 + 1),
            Some(Thing::Pages(holding)) => held.0 += holding.count(),
            None => {}
        }
    }
    held
}

/// Frees what is there. Each is tried, whatever became of the one before it.
pub(super) fn free_all() -> Result<(), Wrong> {
    let mut result = Ok(());
    for place in &ALL {
        let thing = place.lock().take();
        let freed = match thing {
            Some(Thing::Area(area)) => area.free(),
            Some(Thing::Pages(holding)) => holding.check().and(holding.free(false)),
            None => Ok(()),
        };
        result = result.and(freed);
    }
    result
}
