//! Random operations on address spaces, held against a plain map from pages to what they are: one
//! task with several address spaces, and two tasks on different CPUs with one.

use super::*;
use crate::{
    arch::{barrier, cpu, user_table},
    ktest::Failure,
    mm::stack,
    task,
};
use alloc::{collections::BTreeMap, vec::Vec};

/// Pages that are played with: some in each of two tables of leaves.
const PAGES: u64 = 64;
/// The page of [`USER`] that is the first of them.
const FIRST: u64 = 512 - 16 - PAGES / 2;

/// xorshift64*, seeded by the test.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % n
    }
}

fn page(n: u64) -> VirtAddr {
    USER.page(FIRST + n)
}

fn range(first: u64, count: u64) -> PageRange {
    pages(FIRST + first, count)
}

/// What an address space should be: the protection of each page, and what its first word holds.
type Plain = BTreeMap<u64, (Protection, u64)>;

const PROTECTIONS: [Protection; 4] = [
    Protection::empty(),
    Protection::READ,
    RW,
    Protection::READ.union(Protection::EXECUTE),
];

/// What an access should come to.
fn outcome(plain: &Plain, n: u64, access: Access) -> Result<u64, FaultError> {
    let (protection, value) = *plain.get(&n).ok_or(FaultError::NotMapped)?;
    if protection.permits(access) {
        Ok(value)
    } else {
        Err(FaultError::NotAllowed(protection))
    }
}

/// One random operation on the pages `first..first + count`, on an address space that the task uses
/// and on what it should be.
fn step(
    space: &AddressSpace,
    plain: &mut Plain,
    dice: &mut Dice,
    (first, count): (u64, u64),
) -> TestResult {
    let span = first..first + count;
    let mapped = span.clone().filter(|n| plain.contains_key(n)).count() as u64;
    let protection = PROTECTIONS[dice.below(4) as usize];
    match dice.below(10) {
        0 | 1 => {
            let expected = match mapped {
                0 => Ok(()),
                _ => Err(Error::Occupied(range(first, count))),
            };
            check_eq!(space.map(range(first, count), protection), expected);
            if expected.is_ok() {
                plain.extend(span.map(|n| (n, (protection, 0))));
            }
        }
        2 => {
            must!(space.unmap(range(first, count)));
            for n in span {
                plain.remove(&n);
            }
        }
        3 | 4 => {
            let expected = if mapped == count {
                Ok(())
            } else {
                Err(Error::NotMapped(range(first, count)))
            };
            check_eq!(space.protect(range(first, count), protection), expected);
            if expected.is_ok() {
                for n in span {
                    plain.entry(n).and_modify(|(now, _)| *now = protection);
                }
            }
        }
        5 => {
            must!(space.zap(range(first, count)));
            for n in span {
                plain.entry(n).and_modify(|(_, holds)| *holds = 0);
            }
        }
        6 | 7 => {
            let value = dice.below(u64::MAX) | 1;
            let expected = outcome(plain, first, Access::Write).map(|_| ());
            barrier::isb();
            check_eq!(write(space, page(first), value), expected);
            if expected.is_ok() {
                plain.entry(first).and_modify(|(_, holds)| *holds = value);
            }
        }
        _ => compare(space, plain, span)?,
    }
    // The return to the program.
    barrier::isb();
    Ok(())
}

/// Reads pages, and compares.
fn compare(space: &AddressSpace, plain: &Plain, span: core::ops::Range<u64>) -> TestResult {
    barrier::isb();
    for n in span {
        check_eq!(read(space, page(n)), outcome(plain, n, Access::Read));
    }
    Ok(())
}

/// Some address spaces, each of which is forked, used and dropped.
fn play(seed: u64, steps: u64) -> TestResult {
    let mut dice = Dice(seed);
    let mut worlds: Vec<(AddressSpace, Plain)> = Vec::new();
    for _ in 0..steps {
        if worlds.is_empty() {
            worlds.push((must!(AddressSpace::create()), Plain::new()));
        }
        let at = dice.below(worlds.len() as u64) as usize;
        match dice.below(12) {
            0 if worlds.len() < 4 => {
                let (space, plain) = &worlds[at];
                let child = (must!(space.fork()), plain.clone());
                worlds.push(child);
            }
            1 if worlds.len() > 2 => drop(worlds.swap_remove(at)),
            _ => {
                let (space, plain) = &mut worlds[at];
                let used = space.use_here();
                for _ in 0..8 {
                    let first = dice.below(PAGES);
                    let count = 1 + dice.below((PAGES - first).min(24));
                    step(space, plain, &mut dice, (first, count))?;
                }
                drop(used);
            }
        }
    }
    for (space, plain) in &worlds {
        let used = space.use_here();
        compare(space, plain, 0..PAGES)?;
        drop(used);
    }
    Ok(())
}

/// Sees to it that the heap need not grow while pages are counted.
fn with_room(test: impl FnOnce() -> TestResult) -> TestResult {
    drop(Vec::<u8>::with_capacity(1 << 16));
    gives_back(test)
}

kernel_test! { "address_space_random", operations_are_those_of_a_plain_map, { with_room(|| {
    (1..=12).try_for_each(|seed| play(seed, 40))
}) } }

kernel_test! { "address_space_random", the_same_where_asids_run_out, {
    limit_asids(Some(cpu::MAX_CPUS as u32 + 2));
    let before = asids();
    let played = with_room(|| (20..=26).try_for_each(|seed| play(seed, 60)));
    let after = asids();
    limit_asids(None);
    check!(after.1 > before.1);
    played
} }

kernel_test! { "address_space_random", more_come_than_8_bits_can_tell_apart, { with_room(|| {
    let bits = user_table::asid_bits();
    let before = asids().1;
    // It stays, and is used in turns with each of the others.
    let old = must!(AddressSpace::create());
    must!(old.map(range(0, 1), RW));
    for n in 0..300 {
        let new = must!(AddressSpace::create());
        must!(new.map(range(0, 1), RW));
        for (space, value) in [(&old, n), (&new, !n)] {
            let used = space.use_here();
            must!(write(space, page(0), value));
            check!(u32::from(space.asid()) < 1 << bits);
            drop(used);
        }
        let used = old.use_here();
        check_eq!(must!(read(&old, page(0))), n);
        drop(used);
    }
    // A generation has 255 of them, or 65,535.
    check!(bits == 16 || asids().1 > before);
    Ok(())
}) } }

/// What two tasks share: the address space, and whose pages are whose.
struct Shared {
    space: AddressSpace,
    /// Tasks that go on until it is 0.
    running: AtomicU32,
}

/// A task that plays with its own pages of a shared address space: those whose number is even, or
/// odd. The low bit of the argument says which; the rest is where the [`Shared`] is.
fn worker(argument: usize) -> usize {
    let mine = argument as u64 & 1;
    // SAFETY: the test waits for the task before it drops what it shares.
    let shared = unsafe { &*core::ptr::with_exposed_provenance::<Shared>(argument & !1) };
    let mut dice = Dice(mine + 77);
    let mut plain = Plain::new();
    let used = shared.space.use_here();
    let mut result: Result<(), Failure> = Ok(());
    for n in 0..400 {
        let first = 2 * dice.below(PAGES / 2) + mine;
        result = result.and_then(|()| step(&shared.space, &mut plain, &mut dice, (first, 1)));
        if n % 16 == 0 {
            task::yield_now();
        }
    }
    drop(used);
    shared.running.fetch_sub(1, Ordering::Release);
    usize::from(
        result
            .inspect_err(|failure| log::error!("{failure}"))
            .is_err(),
    )
}

kernel_test! { "address_space_random", two_tasks_share_an_address_space, {
    // Stacks are vmalloc's, which keeps some of what it had.
    let space = must!(AddressSpace::create());
    let shared = Shared { space, running: AtomicU32::new(2) };
    let at = (&raw const shared).expose_provenance();
    let other = 1 % cpu::count();
    let first = must!(stack::spawn_on(0, "even", worker, at));
    let second = must!(stack::spawn_on(other, "odd", worker, at | 1));
    // Meanwhile their pages are shared with a child that comes and goes.
    while shared.running.load(Ordering::Acquire) > 0 {
        drop(must!(shared.space.fork()));
        task::yield_now();
    }
    let failed = first.join() + second.join();
    check_eq!(failed, 0);
    must!(shared.space.unmap(range(0, PAGES)));
    drop(shared);
    check_eq!(count(), 0);
    Ok(())
} }

/// A task that writes to its page and reads it back, until it is told to stop.
fn stays(argument: usize) -> usize {
    // SAFETY: as in `worker`.
    let shared = unsafe { &*core::ptr::with_exposed_provenance::<Shared>(argument) };
    let used = shared.space.use_here();
    let mut wrong = 0;
    let mut n = 0;
    while shared.running.load(Ordering::Acquire) > 0 {
        n += 1;
        wrong += usize::from(write(&shared.space, page(0), n).is_err());
        wrong += usize::from(read(&shared.space, page(0)) != Ok(n));
        task::yield_now();
    }
    drop(used);
    wrong
}

kernel_test! { "address_space_random", asids_run_out_while_a_task_runs_elsewhere, {
    // Elsewhere: where this test had got to, the other task would wait for it.
    must!(task::migrate_to(0));
    let space = must!(AddressSpace::create());
    must!(space.map(range(0, 1), RW));
    let shared = Shared { space, running: AtomicU32::new(1) };
    let at = (&raw const shared).expose_provenance();
    limit_asids(Some(cpu::MAX_CPUS as u32 + 2));
    let task = must!(stack::spawn_on(1 % cpu::count(), "stays", stays, at));
    while shared.space.asid() == 0 {
        task::yield_now();
    }
    let begun = asids().2;
    let mut result = Ok(());
    while asids().2 < begun + 4 && result.is_ok() {
        result = (|| {
            let space = must!(AddressSpace::create());
            must!(space.map(range(0, 1), RW));
            let used = space.use_here();
            must!(write(&space, page(0), 0xdead));
            check_eq!(must!(read(&space, page(0))), 0xdead);
            // Of a task that runs at this moment nobody has the ASID.
            if cpu::count() > 1 {
                check!(space.asid() != shared.space.asid());
            }
            drop(used);
            task::yield_now();
            Ok(())
        })();
    }
    shared.running.store(0, Ordering::Release);
    let wrong = task.join();
    limit_asids(None);
    task::unpin();
    result?;
    check_eq!(wrong, 0);
    drop(shared);
    check_eq!(count(), 0);
    Ok(())
} }
