//! Kernel tests of restartable sequences. They show what emulation seldom does: QEMU takes an interrupt
//! in the middle of one only where it translates one instruction at a time (`-singlestep`).

use super::sequences;
use crate::{check, check_eq, kernel_test};

kernel_test! { "interrupt", a_restartable_sequence_is_restarted_from_within_and_from_nowhere_else, {
    check!(!sequences().is_empty());
    for sequence in sequences() {
        let (start, end) = (sequence.start, sequence.end);
        check_eq!(end - start, 16);
        check_eq!(sequence.restart(start - 4), None);
        check_eq!(sequence.restart(start), None);
        for inside in [start + 4, start + 8, start + 12] {
            check_eq!(sequence.restart(inside), Some(start));
        }
        check_eq!(sequence.restart(end), None);
        check_eq!(sequence.restart(end + 4), None);
    }
    Ok(())
} }

kernel_test! { "interrupt", a_restartable_sequence_stores_last_and_changes_no_input, {
    /// `MRS Xt, TPIDR_EL1`, `LDR`, `ADD #1`, `STR` of 64 bits, without the register fields.
    const FORMS: [(u32, u32); 4] = [
        (0xffff_ffe0, 0xd538_d080),
        (0xffc0_0000, 0xf940_0000),
        (0xffff_fc00, 0x9100_0400),
        (0xffc0_0000, 0xf900_0000),
    ];
    /// `ADD` of another register.
    const ADD_REGISTER: (u32, u32) = (0xffe0_fc00, 0x8b00_0000);
    let mut of_registers = 0;
    for sequence in sequences() {
        let mut words = [0u32; 4];
        for (word, n) in words.iter_mut().zip(0..) {
            let at = core::ptr::with_exposed_provenance::<u32>(sequence.start as usize + n * 4);
            // SAFETY: the kernel's code, which is mapped and readable.
            *word = unsafe { at.read() };
        }
        let of_register = words[2] & ADD_REGISTER.0 == ADD_REGISTER.1;
        for (n, (word, (mask, form))) in words.iter().zip(FORMS).enumerate() {
            check!(word & mask == form || n == 2 && of_register);
        }
        let target = |word: u32| word & 0x1f;
        let base = |word: u32| word >> 5 & 0x1f;
        let [mrs, ldr, add, str] = words;
        check!(target(mrs) != target(ldr));
        check!(base(ldr) == target(mrs) && base(str) == target(mrs));
        check!(target(add) == target(ldr) && base(add) == target(ldr));
        check!(target(str) == target(ldr));
        check_eq!(ldr >> 10 & 0xfff, str >> 10 & 0xfff);
        if of_register {
            of_registers += 1;
            let number = add >> 16 & 0x1f;
            check!(number != target(ldr) && number != target(mrs));
        }
    }
    // Both kinds are there to be looked at.
    check!(of_registers > 0 && of_registers < sequences().len());
    Ok(())
} }
