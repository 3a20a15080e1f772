//! How the memory that an oracle is given is divided.

use crate::{
    MAX_CPUS,
    ordering::{Cpu, Variable},
    record::{Held, Live, NewTable, Stale, Task},
};
use bytemuck::{Pod, Zeroable, cast_slice_mut};

/// The memory that an oracle works in. It takes no other.
#[derive(Debug)]
pub struct Memory<'m> {
    words: &'m mut [u64],
}

/// Tasks that can be told apart at one time.
const TASKS: usize = 64;
/// Tables that may be zeroed and not linked yet.
const NEW_TABLES: usize = 128;
/// Address spaces that may have another ASID than their own number.
const SPACES: usize = 256;
/// Address spaces whose translations one CPU may hold, for all CPUs.
const HELD: usize = 512;
/// Synchronisation variables that can be told apart.
const VARIABLES: usize = 512;
/// Words of a live entry with its links, and of half a stale translation with its.
const WORDS_A_PAGE: usize = size_of::<Live>() / 8 + 1 + (size_of::<Stale>() / 8 + 1).div_ceil(2);

/// What rounding to whole words may cost the four tables of links.
const SLACK: usize = 4;

pub(super) struct Parts<'m> {
    pub cpus: &'m mut [Cpu],
    pub variables: &'m mut [Variable],
    pub tasks: &'m mut [Task],
    pub new_tables: &'m mut [NewTable],
    pub asids: &'m mut [u16],
    pub held: &'m mut [Held],
    pub live: &'m mut [Live],
    pub live_heads: [&'m mut [u32]; 2],
    pub stale: &'m mut [Stale],
    pub stale_heads: [&'m mut [u32]; 2],
}

impl<'m> Memory<'m> {
    /// Words of any contents. [`Memory::words_for`] says how many.
    pub fn new(words: &'m mut [u64]) -> Self {
        Self { words }
    }

    /// How many words are enough where `pages` entries are valid, and half as many translations
    /// stale, at the same time.
    #[must_use]
    pub const fn words_for(pages: usize) -> usize {
        (MAX_CPUS * size_of::<Cpu>()
            + VARIABLES * size_of::<Variable>()
            + TASKS * size_of::<Task>()
            + NEW_TABLES * size_of::<NewTable>()
            + HELD * size_of::<Held>()
            + SPACES * size_of::<u16>())
            / 8
            + SLACK
            + pages * WORDS_A_PAGE
    }

    pub(super) fn split(self) -> Parts<'m> {
        let mut rest = self.words;
        let cpus = take(&mut rest, MAX_CPUS);
        let variables = take(&mut rest, VARIABLES);
        let tasks = take(&mut rest, TASKS);
        let new_tables = take(&mut rest, NEW_TABLES);
        let held = take(&mut rest, HELD);
        let asids = take(&mut rest, SPACES);
        let pages = rest.len().saturating_sub(SLACK) / WORDS_A_PAGE;
        Parts {
            cpus,
            variables,
            tasks,
            new_tables,
            asids,
            held,
            live: take(&mut rest, pages),
            live_heads: [
                take(&mut rest, pages.next_multiple_of(2)),
                take(&mut rest, pages.next_multiple_of(2)),
            ],
            stale: take(&mut rest, pages / 2),
            stale_heads: [
                take(&mut rest, (pages / 2).next_multiple_of(2)),
                take(&mut rest, (pages / 2).next_multiple_of(2)),
            ],
        }
    }
}

/// The first `count` of what `rest` has, zeroed; as many as there are, if there are fewer.
fn take<'m, T: Pod + Zeroable>(rest: &mut &'m mut [u64], count: usize) -> &'m mut [T] {
    let words = (count * size_of::<T>()).div_ceil(8);
    let all = core::mem::take(rest);
    let fitting = words.min(all.len());
    let whole = fitting * 8 / size_of::<T>() * size_of::<T>() / 8;
    let (part, left) = all.split_at_mut(whole);
    *rest = left;
    part.fill(0);
    cast_slice_mut(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_to_be_enough_is() {
        for pages in [2, 64, 1000] {
            let mut words = vec![7; Memory::words_for(pages)];
            let parts = Memory::new(&mut words).split();
            assert_eq!(parts.cpus.len(), MAX_CPUS);
            assert_eq!(parts.variables.len(), VARIABLES);
            assert_eq!(parts.tasks.len(), TASKS);
            assert_eq!(parts.live.len(), pages);
            assert_eq!(parts.stale.len(), pages / 2);
            assert!(parts.stale_heads.iter().all(|heads| !heads.is_empty()));
        }
    }

    #[test]
    fn no_memory_makes_no_parts() {
        let parts = Memory::new(&mut []).split();
        assert!(parts.live.is_empty() && parts.variables.is_empty());
    }
}
