//! Correct programs with a few steps taken away, exchanged or replaced by others.

use super::{Choices, PAGES, Program, Step, va};
use mmu_oracle::event::{Access, Barrier, Domain, Orders, Scope, SyncAccess, Tlbi};
use vmsa::{Level, tlbi::Operand};

/// Breaks the program in one to three places, perhaps in ways that do not matter.
pub fn break_it(program: &mut Program, choices: &mut Choices<'_>) {
    for _ in 0..=choices.below(5) / 3 {
        if program.steps.is_empty() {
            return;
        }
        let at = (choices.below(256) << 8 | choices.below(256)) % program.steps.len();
        // Most often a step that makes order, of each kind as often: they are few.
        let kind = choices.below(5);
        let at = (0..program.steps.len())
            .map(|n| (at + n) % program.steps.len())
            .find(|n| is_of(program.steps[*n].1, kind))
            .unwrap_or(at);
        match choices.below(8) {
            0 | 1 => take_away(program, at),
            2 => exchange(program, at),
            3 => use_something(program, at, choices),
            _ => weaken(program, at, choices),
        }
    }
}

fn is_of(step: Step, kind: usize) -> bool {
    match kind {
        0 | 1 => matches!(step, Step::Barrier(_) | Step::Exception),
        2 => matches!(step, Step::Tlbi(_)),
        3 => matches!(step, Step::Sync { .. }),
        _ => !matches!(step, Step::Access { .. }),
    }
}

fn take_away(program: &mut Program, at: usize) {
    // Without these it is another history, not another order.
    let needed = matches!(
        program.steps[at].1,
        Step::ZeroTable(_) | Step::FreeTable(_) | Step::FreeFrame(_) | Step::WriteFrame(_)
    );
    if !needed {
        program.steps.remove(at);
    }
}

/// With the next step of the same CPU.
fn exchange(program: &mut Program, at: usize) {
    let cpu = program.steps[at].0;
    let next = (at + 1..program.steps.len()).find(|n| program.steps[*n].0 == cpu);
    if let Some(next) = next {
        program.steps.swap(at, next);
    }
}

fn use_something(program: &mut Program, at: usize, choices: &mut Choices<'_>) {
    let cpu = choices.below(usize::from(program.cpus)) as u8;
    let page = choices.below(usize::from(PAGES)) as u8;
    let access = [Access::Read, Access::Write][choices.below(2)];
    program
        .steps
        .insert(at, (cpu, Step::Access { page, access }));
}

fn weaken(program: &mut Program, at: usize, choices: &mut Choices<'_>) {
    let step = &mut program.steps[at].1;
    *step = match *step {
        Step::Barrier(barrier) => Step::Barrier(other_barrier(barrier, choices)),
        Step::Exception => Step::Barrier(Barrier::Isb),
        Step::Tlbi(tlbi) => Step::Tlbi(other_tlbi(tlbi, choices)),
        Step::Sync { variable, access } => Step::Sync {
            variable,
            access: match access {
                SyncAccess::Write { release } => SyncAccess::Write { release: !release },
                SyncAccess::Read { acquire } => SyncAccess::Read { acquire: !acquire },
                SyncAccess::ReadModifyWrite { acquire, release } => match choices.below(2) {
                    0 => SyncAccess::ReadModifyWrite {
                        acquire: !acquire,
                        release,
                    },
                    _ => SyncAccess::Read { acquire },
                },
                SyncAccess::Branch => SyncAccess::Read { acquire: true },
            },
        },
        other => other,
    };
}

fn other_barrier(barrier: Barrier, choices: &mut Choices<'_>) -> Barrier {
    let ish = Domain::InnerShareable;
    let others = [
        Barrier::Dsb(ish, Orders::Stores),
        Barrier::Dsb(ish, Orders::Loads),
        Barrier::Dsb(ish, Orders::All),
        Barrier::Dsb(Domain::NonShareable, Orders::All),
        Barrier::Dsb(Domain::NonShareable, Orders::Stores),
        Barrier::Dmb(ish, Orders::Stores),
        Barrier::Dmb(ish, Orders::Loads),
        Barrier::Dmb(ish, Orders::All),
        Barrier::Isb,
    ];
    choices
        .of(&others)
        .filter(|o| *o != barrier)
        .unwrap_or(Barrier::Isb)
}

fn other_tlbi(tlbi: Tlbi, choices: &mut Choices<'_>) -> Tlbi {
    let page = va(choices.below(usize::from(PAGES)) as u8);
    let hint = [Level::L1, Level::L2, Level::L3][choices.below(3)];
    let by_page = |operand: Operand, last_level| Tlbi {
        scope: Scope::VaAllAsids,
        last_level,
        broadcast: true,
        operand: operand.bits(),
    };
    match choices.below(7) {
        0 => Tlbi {
            broadcast: !tlbi.broadcast,
            ..tlbi
        },
        1 => Tlbi {
            last_level: !tlbi.last_level,
            ..tlbi
        },
        // Another page.
        2 => by_page(Operand::new(page, 0, None), tlbi.last_level),
        // A wrong hint.
        3 => match Operand::from_bits(tlbi.operand).va() {
            Some(va) => by_page(Operand::new(va, 0, Some(hint)), true),
            None => tlbi,
        },
        // Not masked.
        4 => Tlbi {
            scope: Scope::VaAllAsids,
            operand: page.as_u64() >> 12,
            ..tlbi
        },
        5 => Tlbi {
            scope: Scope::Asid,
            ..tlbi
        },
        // A range of one operation less.
        _ => Tlbi {
            operand: tlbi.operand.wrapping_add(1),
            ..tlbi
        },
    }
}
