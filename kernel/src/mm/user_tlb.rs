//! TLB flushes of user addresses: `DSB ISHST; TLBI by ASID, once or more; DSB ISH`.
//!
//! Other than a flush of kernel addresses (`tlb`) it is never put off, and it ends without an ISB.

use super::asid::Id;
use crate::{
    arch::{barrier, cpu, tlbi},
    bug::{Bug, planted},
};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use vmsa::{
    Level, PageRange,
    tlbi::{Operand, Operation, cover_asid},
};

/// Which translations of an address space have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Pages of a range.
    Pages(PageRange),
    /// Pages of a range, and tables that led to some of them.
    Tables(PageRange),
    /// Anything.
    All,
}

/// Flushes what has changed of the address space whose ASID is in `id`. When it returns nobody uses
/// what was cached any more, on any CPU, but for what this CPU has translated ahead.
pub fn flush(id: &AtomicU64, changed: Changed) {
    // A TLBI is for stores that are complete: `5-REUSE-*` without this DSB, Allowed.
    barrier::dsb_ishst();
    // Behind that DSB, so that no walk is missed: should another CPU give the address space another
    // ASID after this load, its walks come after the stores, which were complete before.
    let asid = Id::from_bits(id.load(Relaxed)).asid();
    match changed {
        Changed::All => tlbi::issue(Operation::Aside1is(Operand::asid_only(asid))),
        Changed::Pages(range) => issue(range, asid, true),
        Changed::Tables(range) => issue(range, asid, planted(Bug::TlbiLeafOnly)),
    }
    // The TLBI is complete, and so is every access that used what it invalidated, on every CPU
    // (D8.16.1). Now the frames may be somebody else's: `5-REUSE-*`, without an ISB: Forbidden.
    barrier::dsb_ish();
    // No ISB. It would be for what this CPU has translated ahead of its own later accesses
    // (`4-V2I-DSB.ISHST+VAALE1IS+DSB.ISH`: Allowed without FEAT_ETS2). Those of a program come after
    // an ERET, which synchronises as an ISB does; the kernel's copies to and from a program are made
    // in another system call, or after a switch, and there is an exception entry or an ISB in between.
}

fn issue(range: PageRange, asid: u16, last_level_only: bool) {
    let features = cpu::features();
    // Blocks and contiguous sets are never mapped for a program, so where no table went every entry
    // was at level 3.
    let hint = (last_level_only && features.ttl).then_some(Level::L3);
    cover_asid(range, asid, last_level_only, hint, features.tlbi_range).for_each(tlbi::issue);
}
