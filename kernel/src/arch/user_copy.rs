//! Copies between the kernel's memory and the lower half, as EL0 could have made them.
//!
//! They are made of unprivileged loads and stores (LDTR, STTR; DDI 0487, C3.2.6): EL1 executes them
//! with the rights of EL0. So a pointer that a program gives can't reach what the program could
//! not, whatever was checked before; and PSTATE.PAN need never be cleared. A fault ends the copy
//! through a fixup: whoever called is in an ordinary task, and may do about it what can't be done
//! in a handler.

use vmsa::VirtAddr;

#[cfg(target_os = "none")]
pub use machine::{Stopped, copy_in, copy_out};

/// Bytes of the lower half, the addresses that TTBR0_EL1 translates: a pointer and a length that a
/// program gave, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(any(test, target_os = "none")),
    allow(dead_code, reason = "the host has no programs")
)]
pub struct UserRange {
    start: VirtAddr,
    length: usize,
}

#[cfg_attr(
    not(any(test, target_os = "none")),
    allow(dead_code, reason = "the host has no programs")
)]
impl UserRange {
    /// `length` bytes from `address` on; `None` if any of them is not in the lower half.
    #[must_use]
    pub fn new(address: u64, length: u64) -> Option<Self> {
        let start = VirtAddr::new(address).filter(|start| !start.is_upper())?;
        if let Some(last) = length.checked_sub(1) {
            start.checked_add(last).filter(|last| !last.is_upper())?;
        }
        Some(Self {
            start,
            length: length as usize,
        })
    }

    /// The first address.
    #[must_use]
    pub fn start(self) -> VirtAddr {
        self.start
    }

    /// How many bytes.
    #[must_use]
    pub fn length(self) -> usize {
        self.length
    }

    /// The first `length` of them, if there are so many, and the rest.
    #[must_use]
    pub fn split_at(self, length: usize) -> Option<(Self, Self)> {
        let rest = self.length.checked_sub(length)?;
        // Behind the last byte of the lower half there is no address; nothing is left then.
        let behind = self.start.checked_add(length as u64).unwrap_or(self.start);
        Some((
            Self { length, ..self },
            Self {
                start: behind,
                length: rest,
            },
        ))
    }
}

#[cfg(target_os = "none")]
mod machine {
    use super::UserRange;
    use crate::arch::{fault::Fault, fixup::recover};
    use core::arch::asm;

    /// A fault ended a copy.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Stopped {
        /// Bytes that were copied before; maybe fewer than could have been, by up to seven.
        pub done: usize,
        /// The fault.
        pub fault: Fault,
    }

    /// What is left of a copy, and ESR_EL1 and FAR_EL1 of the fault that ended it.
    fn outcome(length: usize, left: usize, esr: u64, far: u64) -> Result<(), Stopped> {
        match recover(esr, far) {
            None => Ok(()),
            Some(fault) => Err(Stopped {
                done: length - left,
                fault,
            }),
        }
    }

    /// A copy by words, then bytes. The instruction that may fault is named twice, in each of the
    /// two loops; both go on at label 9 if it does, with the pointers and the rest as they were.
    macro_rules! copy {
        ($to:expr, $from:expr, $length:expr,
         $load:literal, $store:literal, $load_byte:literal, $store_byte:literal, $fault:literal) => {{
            let length: usize = $length;
            let (left, esr, far): (usize, u64, u64);
            // SAFETY: the kernel's side is a slice of that length; the other side is accessed with
            // the rights of EL0, and is not memory that Rust knows of. No `readonly`: hooks hear of
            // faults.
            unsafe {
                asm!(
                    "mov x1, xzr",
                    "2: cmp x4, #8",
                    "b.lo 5f",
                    concat!("3: ", $load),
                    concat!("4: ", $store),
                    "add x0, x0, #8",
                    "add x3, x3, #8",
                    "sub x4, x4, #8",
                    "b 2b",
                    "5: cbz x4, 9f",
                    concat!("6: ", $load_byte),
                    concat!("7: ", $store_byte),
                    "add x0, x0, #1",
                    "add x3, x3, #1",
                    "sub x4, x4, #1",
                    "b 5b",
                    "9:",
                    ".pushsection .ex_table, \"a\"",
                    ".balign 8",
                    $fault,
                    ".popsection",
                    inout("x0") $to => _,
                    inout("x3") $from => _,
                    inout("x4") length => left,
                    out("x1") esr,
                    out("x2") far,
                    out("x5") _,
                    options(nostack),
                );
            }
            outcome(length, left, esr, far)
        }};
    }

    /// Copies from the lower half. `to` and `from` are equally long; what was not copied stays as
    /// it was.
    ///
    /// # Errors
    /// The fault that ended it.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn copy_in(to: &mut [u8], from: UserRange) -> Result<(), Stopped> {
        assert_eq!(to.len(), from.length());
        copy!(
            to.as_mut_ptr(),
            from.start().as_u64(),
            to.len(),
            "ldtr x5, [x3]",
            "str x5, [x0]",
            "ldtrb w5, [x3]",
            "strb w5, [x0]",
            ".quad 3b, 9b, 6b, 9b"
        )
    }

    /// Copies to the lower half. `to` and `from` are equally long.
    ///
    /// # Errors
    /// The fault that ended it.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn copy_out(to: UserRange, from: &[u8]) -> Result<(), Stopped> {
        assert_eq!(to.length(), from.len());
        copy!(
            to.start().as_u64(),
            from.as_ptr(),
            from.len(),
            "ldr x5, [x3]",
            "sttr x5, [x0]",
            "ldrb w5, [x3]",
            "sttrb w5, [x0]",
            ".quad 4b, 9b, 7b, 9b"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u64 = 1 << 48;

    fn parts(address: u64, length: u64) -> Option<(u64, usize)> {
        UserRange::new(address, length).map(|range| (range.start().as_u64(), range.length()))
    }

    #[test]
    fn every_byte_is_in_the_lower_half() {
        assert_eq!(parts(0, END), Some((0, 1 << 48)));
        assert_eq!(parts(END - 1, 1), Some((END - 1, 1)));
        assert_eq!(parts(END - 1, 0), Some((END - 1, 0)));
        for (address, length) in [
            (END - 1, 2),
            (0, END + 1),
            (0x1000, u64::MAX),
            (0x1000, u64::MAX - 0xfff),
            (END, 0),
            (1 << 52, 1),
            (0xffff_0000_0000_0000, 0),
            (0xffff_ffff_ffff_fff8, 16),
        ] {
            assert_eq!(parts(address, length), None, "{address:x} {length:x}");
        }
    }

    #[test]
    fn a_range_is_split_where_it_is_asked_to() {
        let whole = UserRange::new(END - 16, 16).unwrap();
        for at in 0..16 {
            let (first, rest) = whole.split_at(at).unwrap();
            assert_eq!((first.start(), first.length()), (whole.start(), at));
            assert_eq!(rest.start().as_u64(), END - 16 + at as u64);
            assert_eq!(rest.length(), 16 - at);
        }
        // There is no address behind it.
        assert_eq!(whole.split_at(16).unwrap().1.length(), 0);
        assert_eq!(whole.split_at(17), None);
    }
}
