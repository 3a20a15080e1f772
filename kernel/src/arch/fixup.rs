//! Accesses that may fault and say so: what `copy_from_kernel_nofault` is to Linux.
//!
//! Each has an entry in the section `.ex_table`: the instruction that may fault, and where to go
//! on if it does. There x1 holds ESR_EL1, which is never 0 after an exception, and x2 FAR_EL1.

use super::fault::Fault;
use super::frame::ExceptionFrame;
use crate::event;
use core::arch::asm;
use vmsa::esr::ExceptionClass;
use vmsa::{Esr, VirtAddr};

/// An entry of `.ex_table`.
#[repr(C)]
struct Entry {
    /// The instruction that may fault; for a call that may fault at its target, the return address.
    instruction: u64,
    /// Where to go on.
    fixup: u64,
}

unsafe extern "C" {
    static __ex_table_start: Entry;
    static __ex_table_end: Entry;
}

/// All fixups that the image has.
fn table() -> &'static [Entry] {
    let start = &raw const __ex_table_start;
    let bytes = (&raw const __ex_table_end).addr() - start.addr();
    // SAFETY: linker.ld puts the two symbols around the section, which holds nothing but pairs
    // of words written by the assembly below, and is never written.
    unsafe { core::slice::from_raw_parts(start, bytes / size_of::<Entry>()) }
}

/// If the fault of `frame` has a fixup, makes the exception return there.
pub(super) fn apply(frame: &mut ExceptionFrame) -> bool {
    let instruction = match frame.esr().ec() {
        // ELR is the target, which is no instruction of ours: the call is found by its return
        // address.
        ExceptionClass::InstructionAbortCurrent => frame.x[30],
        _ => frame.elr(),
    };
    let Some(entry) = table()
        .iter()
        .find(|entry| entry.instruction == instruction)
    else {
        return false;
    };
    frame.x[1] = frame.esr().bits();
    frame.x[2] = frame.far_bits();
    frame.return_to(entry.fixup);
    true
}

/// The fault that an access has survived, if it took one, from what it left in x1 and x2.
pub(super) fn recover(esr: u64, far: u64) -> Option<Fault> {
    (esr != 0).then(|| Fault::new(Esr::new(esr), far))
}

/// The outcome of an access, likewise.
fn outcome<T>(value: T, esr: u64, far: u64) -> Result<T, Fault> {
    recover(esr, far).map_or(Ok(value), Err)
}

/// A load that may fault.
macro_rules! load {
    ($type:ident, $load:literal, $address:expr) => {{
        let (value, esr, far): (u64, u64, u64);
        // SAFETY: the load may fault, and then goes on at label 3 with x1 set. What it loads from
        // is not memory that Rust knows more of than its bytes. No `readonly`: the hooks that hear
        // of a fault write to memory.
        unsafe {
            asm!(
                "mov x1, xzr",
                concat!("2: ", $load),
                "3:",
                ".pushsection .ex_table, \"a\"",
                ".balign 8",
                ".quad 2b, 3b",
                ".popsection",
                inout("x0") $address.as_u64() => value,
                out("x1") esr,
                out("x2") far,
                options(nostack, preserves_flags),
            );
        }
        outcome(value as $type, esr, far)
    }};
}

/// Defines a load and a store of one size.
macro_rules! probes {
    ($type:ident, $read:ident, $load:literal, $write:ident, $store:literal) => {
        /// Loads from `address`, by one instruction.
        ///
        /// Any address may be tried: what can't be read gives an error. The load happens, so
        /// a device register at the address would see it.
        ///
        /// # Errors
        ///
        /// The fault that the load took.
        #[inline(never)]
        pub fn $read(address: VirtAddr) -> Result<$type, Fault> {
            event!(Access {
                va: address,
                access: event::Access::Read,
            });
            load!($type, $load, address)
        }

        /// Stores to `address`, by one instruction.
        ///
        /// # Safety
        ///
        /// If the store succeeds, it changes memory: the caller has the right to change what is
        /// there, if anything is.
        ///
        /// # Errors
        ///
        /// The fault that the store took; nothing was written.
        #[inline(never)]
        pub unsafe fn $write(address: VirtAddr, value: $type) -> Result<(), Fault> {
            event!(Access {
                va: address,
                access: event::Access::Write,
            });
            let (esr, far): (u64, u64);
            // SAFETY: as for the load; the caller vouches for what a store that succeeds does.
            unsafe {
                asm!(
                    "mov x1, xzr",
                    concat!("2: ", $store),
                    "3:",
                    ".pushsection .ex_table, \"a\"",
                    ".balign 8",
                    ".quad 2b, 3b",
                    ".popsection",
                    in("x0") address.as_u64(),
                    in("x3") u64::from(value),
                    out("x1") esr,
                    out("x2") far,
                    options(nostack, preserves_flags),
                );
            }
            outcome((), esr, far)
        }
    };
}

probes!(
    u8,
    probe_read_u8,
    "ldrb w0, [x0]",
    probe_write_u8,
    "strb w3, [x0]"
);
probes!(
    u16,
    probe_read_u16,
    "ldrh w0, [x0]",
    probe_write_u16,
    "strh w3, [x0]"
);
probes!(
    u32,
    probe_read_u32,
    "ldr w0, [x0]",
    probe_write_u32,
    "str w3, [x0]"
);
probes!(
    u64,
    probe_read_u64,
    "ldr x0, [x0]",
    probe_write_u64,
    "str x3, [x0]"
);

/// As [`probe_read_u64`], in a race with whoever unmaps the address. The oracle, which asks what is
/// guaranteed, is not told: here nothing is, and either outcome is right.
///
/// # Errors
///
/// The fault that the load took.
#[inline(never)]
pub fn race_read_u64(address: VirtAddr) -> Result<u64, Fault> {
    load!(u64, "ldr x0, [x0]", address)
}

/// Calls `address` as an `extern "C" fn() -> u64`, and gives its result.
///
/// Only the fetch of the first instruction is survived: what the code does later is its own.
///
/// # Safety
///
/// If the address can be executed, there is a function there that may be called so, and the
/// instruction cache sees it.
///
/// # Errors
///
/// The fault that the fetch took.
#[inline(never)]
pub unsafe fn probe_execute(address: VirtAddr) -> Result<u64, Fault> {
    event!(Access {
        va: address,
        access: event::Access::Execute,
    });
    let (value, esr, far): (u64, u64, u64);
    // SAFETY: the caller vouches for the function, which keeps to the procedure call standard;
    // if it can't be fetched, the fault is found by the return address and goes on at label 3.
    unsafe {
        asm!(
            "blr x0",
            "2: mov x1, xzr",
            "3:",
            ".pushsection .ex_table, \"a\"",
            ".balign 8",
            ".quad 2b, 3b",
            ".popsection",
            inout("x0") address.as_u64() => value,
            lateout("x1") esr,
            lateout("x2") far,
            clobber_abi("C"),
        );
    }
    outcome(value, esr, far)
}
