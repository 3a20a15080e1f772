//! The events of the kernel in the words of the oracle.

use super::super::{cpu, time};
use crate::{
    oracle,
    trace::{self, Kind as Traced},
};
use mmu_oracle::event::{Barrier, Domain, Entry, Event, Kind, Orders, Scope, Tlbi};
use vmsa::tlbi::Operation;

/// Stamps an event and has it judged.
#[inline(never)]
pub fn tell(kind: Kind) {
    if oracle::is_watching() {
        // CPU and task belong together, and to the moment at which the event is judged: a task that
        // is switched from in between may go on elsewhere.
        let _masked = cpu::mask_interrupts();
        oracle::judge(&Event {
            time: time::now(),
            cpu: cpu::id() as u8,
            task: cpu::current_task_id(),
            kind,
        });
    }
}

/// Passes on what is traced, as far as the oracle knows it.
#[inline(always)]
pub(super) fn pass_on(kind: &Traced) {
    if oracle::is_watching()
        && let Some(kind) = translated(kind)
    {
        tell(kind);
    }
}

#[inline(never)]
fn translated(kind: &Traced) -> Option<Kind> {
    Some(match *kind {
        Traced::Store {
            entry,
            va,
            level,
            space,
            old,
            new,
        } => Kind::Store {
            entry: Entry {
                address: entry,
                va,
                level,
                space,
                value: new,
            },
            old,
        },
        Traced::Barrier(kind) => Kind::Barrier(barrier(kind)),
        Traced::Tlbi(operation) => Kind::Tlbi(tlbi(operation)),
        // It judges translations alone.
        Traced::Cache(_) => return None,
        // `mm::lazy` tells of those, in the words of the model at hand.
        Traced::Lazy { .. } | Traced::Enter(_) | Traced::Leave(_) => return None,
    })
}

fn barrier(barrier: trace::Barrier) -> Barrier {
    match barrier {
        trace::Barrier::DsbIshst => Barrier::Dsb(Domain::InnerShareable, Orders::Stores),
        trace::Barrier::DsbIsh => Barrier::Dsb(Domain::InnerShareable, Orders::All),
        trace::Barrier::DsbNsh => Barrier::Dsb(Domain::NonShareable, Orders::All),
        trace::Barrier::Isb => Barrier::Isb,
    }
}

/// What an instruction names, by its mnemonic, and the register as it was given.
fn tlbi(operation: Operation) -> Tlbi {
    let (scope, last_level, broadcast, operand) = match operation {
        Operation::Vaale1is(operand) => (Scope::VaAllAsids, true, true, operand.bits()),
        Operation::Vaae1is(operand) => (Scope::VaAllAsids, false, true, operand.bits()),
        Operation::Vale1is(operand) => (Scope::Va, true, true, operand.bits()),
        Operation::Vae1is(operand) => (Scope::Va, false, true, operand.bits()),
        Operation::Aside1is(operand) => (Scope::Asid, false, true, operand.bits()),
        Operation::Vmalle1is => (Scope::All, false, true, 0),
        Operation::Vmalle1 => (Scope::All, false, false, 0),
        Operation::Rvaale1is(operand) => (Scope::RangeAllAsids, true, true, operand.bits()),
        Operation::Rvale1is(operand) => (Scope::Range, true, true, operand.bits()),
        Operation::Rvae1is(operand) => (Scope::Range, false, true, operand.bits()),
        Operation::Rvaae1is(operand) => (Scope::RangeAllAsids, false, true, operand.bits()),
    };
    Tlbi {
        scope,
        last_level,
        broadcast,
        operand,
    }
}
