//! Facts that one CPU can know of another, and sets of them.
//!
//! A fact is a store to a table or a TLBI, by number. What is ordered after one is ordered after
//! those of its kind that the CPU made before it as well, wherever the rules speak of it: a DSB
//! waits for all of them. So a set of facts is a number a CPU and kind: a vector clock.

use crate::MAX_CPUS;
use bytemuck::{Pod, Zeroable};

/// What a CPU does that others can be ordered after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Class {
    /// A store to a table.
    Store = 0,
    /// A TLBI that is broadcast.
    Broadcast = 1,
    /// A TLBI of this CPU alone.
    Local = 2,
}

const CLASSES: usize = 3;

/// The `number`th thing of its class that `cpu` did, from 1. Number 0 is before everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    pub cpu: u8,
    pub class: Class,
    pub number: u64,
}

/// A set of facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Clock([[u64; CLASSES]; MAX_CPUS]);

impl Clock {
    pub fn has(&self, fact: Fact) -> bool {
        self.0[usize::from(fact.cpu)][fact.class as usize] >= fact.number
    }

    pub fn add(&mut self, fact: Fact) {
        let number = &mut self.0[usize::from(fact.cpu)][fact.class as usize];
        *number = (*number).max(fact.number);
    }

    pub fn join(&mut self, other: &Self) {
        for (mine, theirs) in self
            .0
            .as_flattened_mut()
            .iter_mut()
            .zip(other.0.as_flattened())
        {
            *mine = (*mine).max(*theirs);
        }
    }

    /// Both sets.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        self.join(other);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_came_before_what_it_has() {
        let fact = |class, number| Fact {
            cpu: 3,
            class,
            number,
        };
        let mut clock = Clock::default();
        assert!(clock.has(fact(Class::Store, 0)));
        assert!(!clock.has(fact(Class::Store, 1)));
        clock.add(fact(Class::Store, 5));
        clock.add(fact(Class::Store, 2));
        assert!(clock.has(fact(Class::Store, 5)) && clock.has(fact(Class::Store, 1)));
        assert!(!clock.has(fact(Class::Store, 6)) && !clock.has(fact(Class::Local, 1)));
        let both = Clock::default().with(&clock);
        assert_eq!(both, clock);
    }
}
