//! Host tests of the ASIDs, with a model of every CPU's TLB: what it may hold, of whom, under which
//! ASID.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// The least that `restart` takes.
const FEW: u32 = MAX_CPUS as u32 + 2;

fn few() -> Asids {
    let mut asids = Asids::new(8);
    asids.restart(FEW);
    // The generation that `restart` begins has everything flushed; that is of no interest here.
    asids.pending = 0;
    asids
}

#[test]
fn an_address_space_keeps_its_asid_within_a_generation() {
    let mut asids = Asids::new(16);
    let first = asids.switch(0, Id::NONE).id;
    let second = asids.switch(0, Id::NONE).id;
    assert_eq!((first.asid(), second.asid()), (1, 2));
    assert_eq!(
        asids.switch(3, first),
        Switch {
            id: first,
            flush: false
        }
    );
}

#[test]
fn each_cpu_flushes_once_after_a_rollover() {
    let mut asids = few();
    let generation = asids.generation();
    for _ in 1..FEW {
        assert!(!asids.switch(0, Id::NONE).flush);
    }
    let first = asids.switch(0, Id::NONE);
    assert_eq!((first.id.generation(), first.flush), (generation + 1, true));
    assert!(!asids.switch(0, Id::NONE).flush);
    assert!(asids.switch(5, Id::NONE).flush);
    assert!(!asids.switch(5, Id::NONE).flush);
}

#[test]
fn what_a_cpu_uses_is_nobody_elses_through_rollovers() {
    let mut asids = few();
    let used = asids.switch(7, Id::NONE).id;
    let mut rollovers = 0;
    let mut last = asids.generation();
    while rollovers < 3 {
        let other = asids.switch(0, Id::NONE).id;
        assert_ne!(other.asid(), used.asid());
        rollovers += u32::from(other.generation() != last);
        last = other.generation();
    }
    // Taken up elsewhere it is still the same ASID, of the new generation.
    let again = asids.switch(1, used).id;
    assert_eq!(again.asid(), used.asid());
    assert_eq!(again.generation(), asids.generation());
}

#[test]
fn who_leaves_reserves_nothing() {
    let mut asids = few();
    let used = asids.switch(7, Id::NONE).id;
    asids.leave(7);
    let given: Vec<_> = (0..2 * FEW)
        .map(|_| asids.switch(0, Id::NONE).id.asid())
        .collect();
    assert!(given.contains(&used.asid()));
}

#[test]
fn the_number_of_bits_is_the_limit() {
    for bits in [8, 16] {
        let mut asids = Asids::new(bits);
        let all = (1u32 << bits) - 1;
        let given: BTreeSet<_> = (0..all)
            .map(|_| asids.switch(0, Id::NONE).id.asid())
            .collect();
        assert_eq!(given.len(), all as usize);
        assert!(!given.contains(&0));
        assert_eq!(asids.rollovers(), 0);
        let _ = asids.switch(0, Id::NONE);
        assert_eq!(asids.rollovers(), 1);
    }
}

/// What the TLB of a CPU may hold, and what it uses.
#[derive(Clone, Default)]
struct Cpu {
    /// ASID and address space.
    holds: BTreeSet<(u16, usize)>,
    uses: Option<(u16, usize)>,
}

proptest! {
    /// Whatever switches where: no CPU uses an ASID under which it holds something of another
    /// address space, and no two address spaces are in use with one ASID.
    #[test]
    fn an_asid_finds_nothing_of_another_address_space(
        limit in FEW..FEW + 4,
        steps in prop::collection::vec((0..MAX_CPUS, 0usize..30), 0..400),
    ) {
        let mut asids = Asids::new(8);
        asids.restart(limit);
        let mut spaces = [Id::NONE; 24];
        let mut cpus: Vec<Cpu> = vec![Cpu::default(); MAX_CPUS];
        for (cpu, space) in steps {
            if space >= spaces.len() {
                asids.leave(cpu);
                cpus[cpu].uses = None;
                continue;
            }
            let Switch { id, flush } = asids.switch(cpu, spaces[space]);
            spaces[space] = id;
            if flush {
                // What is in use may come back at once.
                let uses = cpus[cpu].uses;
                cpus[cpu].holds.retain(|held| Some(*held) == uses);
            }
            let foreign = cpus[cpu].holds.iter().find(|(a, s)| *a == id.asid() && *s != space);
            prop_assert_eq!(foreign, None);
            cpus[cpu].holds.insert((id.asid(), space));
            cpus[cpu].uses = Some((id.asid(), space));
            for (n, one) in cpus.iter().enumerate() {
                for other in &cpus[n + 1..] {
                    if let (Some(one), Some(other)) = (one.uses, other.uses) {
                        prop_assert_eq!(one.0 == other.0, one.1 == other.1);
                    }
                }
            }
        }
    }
}
