//! ESR values in words: the class, the fault status, and the block of an oops.

use vmsa::Level;
use vmsa::esr::{DataAbort, Esr, ExceptionClass, FaultStatus, InstructionAbort};

/// An `ESR_EL1` of this class, with `IL` set.
fn esr(ec: u64, iss: u64) -> Esr {
    Esr::new(ec << 26 | 1 << 25 | iss)
}

#[test]
fn classes_that_a_kernel_meets() {
    let known = [
        (0x00, ExceptionClass::Unknown, "Unknown/Uncategorized"),
        (0x01, ExceptionClass::Wfx, "WFx"),
        (0x07, ExceptionClass::FpAsimd, "ASIMD"),
        (0x0d, ExceptionClass::Bti, "BTI"),
        (0x0e, ExceptionClass::IllegalState, "PSTATE.IL"),
        (0x15, ExceptionClass::SvcAarch64, "SVC (AArch64)"),
        (0x18, ExceptionClass::SystemRegister, "MSR/MRS (AArch64)"),
        (0x19, ExceptionClass::Sve, "SVE"),
        (0x1c, ExceptionClass::Fpac, "FPAC"),
        (
            0x20,
            ExceptionClass::InstructionAbortLower,
            "IABT (lower EL)",
        ),
        (
            0x21,
            ExceptionClass::InstructionAbortCurrent,
            "IABT (current EL)",
        ),
        (0x22, ExceptionClass::PcAlignment, "PC Alignment"),
        (0x24, ExceptionClass::DataAbortLower, "DABT (lower EL)"),
        (0x25, ExceptionClass::DataAbortCurrent, "DABT (current EL)"),
        (0x26, ExceptionClass::SpAlignment, "SP Alignment"),
        (0x2c, ExceptionClass::FpAarch64, "FP (AArch64)"),
        (0x2f, ExceptionClass::SError, "SError"),
        (
            0x31,
            ExceptionClass::BreakpointCurrent,
            "Breakpoint (current EL)",
        ),
        (
            0x33,
            ExceptionClass::SoftwareStepCurrent,
            "Software Step (current EL)",
        ),
        (
            0x35,
            ExceptionClass::WatchpointCurrent,
            "Watchpoint (current EL)",
        ),
        (0x3c, ExceptionClass::BrkAarch64, "BRK (AArch64)"),
        (0x3f, ExceptionClass::Other(0x3f), "UNRECOGNIZED EC"),
    ];
    for (code, class, text) in known {
        let esr = esr(code, 0);
        assert_eq!(esr.ec(), class);
        assert_eq!(esr.ec().to_string(), text);
    }
}

#[test]
fn every_class_has_its_code() {
    for code in 0..64 {
        assert_eq!(ExceptionClass::from_code(code).code(), code);
        assert_eq!(esr(u64::from(code), 0).ec_code(), code);
    }
    let other =
        (0..64).filter(|code| matches!(ExceptionClass::from_code(*code), ExceptionClass::Other(_)));
    // Those that the table of ESR_EL1.EC leaves out.
    assert!(other.eq([
        0x02, 0x0b, 0x0f, 0x10, 0x23, 0x29, 0x2a, 0x2b, 0x2e, 0x36, 0x37, 0x39, 0x3b, 0x3e, 0x3f
    ]));
}

#[test]
fn fields_of_the_register() {
    let all = Esr::from(0x00ab_cdef_ffff_ffff);
    assert_eq!(
        (all.ec_code(), all.iss(), all.iss2()),
        (0x3f, 0x1ff_ffff, 0xab_cdef)
    );
    assert!(all.il() && !Esr::new(!(1 << 25)).il());
    assert_eq!(esr(0x3c, 0x800).brk_immediate(), Some(0x800));
    assert_eq!(esr(0x15, 0x800).brk_immediate(), None);
    assert_eq!(
        format!("{:x} {0:?}", esr(0x15, 0)),
        "56000000 Esr(0x0000000056000000)"
    );
}

#[test]
fn fault_status_in_words() {
    let words = |code| FaultStatus::new(code).to_string();
    let by_level = [
        (0x04, "translation fault"),
        (0x08, "access flag fault"),
        (0x0c, "permission fault"),
        (0x14, "synchronous external abort (translation table walk)"),
        (0x1c, "synchronous parity error (translation table walk)"),
        (0x24, "granule protection fault (translation table walk)"),
    ];
    for (first, what) in by_level {
        for level in 0..4 {
            assert_eq!(words(first + level), format!("level {level} {what}"));
        }
    }
    let single = [
        (0x00, "ttbr address size fault"),
        (0x01, "level 1 address size fault"),
        (0x03, "level 3 address size fault"),
        (0x10, "synchronous external abort"),
        (0x11, "synchronous tag check fault"),
        (0x12, "unknown 18"),
        (
            0x13,
            "level -1 synchronous external abort (translation table walk)",
        ),
        (0x18, "synchronous parity or ECC error"),
        (
            0x1b,
            "level -1 synchronous parity error (translation table walk)",
        ),
        (0x21, "alignment fault"),
        (
            0x23,
            "level -1 granule protection fault (translation table walk)",
        ),
        (0x28, "granule protection fault"),
        (0x29, "level -1 address size fault"),
        (0x2b, "level -1 translation fault"),
        (0x30, "TLB conflict abort"),
        (0x31, "unsupported atomic hardware update fault"),
        (0x34, "implementation fault (lockdown abort)"),
        (0x35, "implementation fault (unsupported exclusive)"),
        (0x3f, "unknown 63"),
    ];
    for (code, text) in single {
        assert_eq!(words(code), text);
    }
    assert_eq!(
        format!("{:?}", FaultStatus::new(7)),
        "FaultStatus(0x07: level 3 translation fault)"
    );
}

#[test]
fn fault_status_as_questions() {
    let codes = |ask: fn(FaultStatus) -> bool| {
        (0..64)
            .filter(|code| ask(FaultStatus::new(*code)))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        codes(FaultStatus::is_address_size_fault),
        [0, 1, 2, 3, 0x29]
    );
    assert_eq!(codes(FaultStatus::is_translation_fault), [4, 5, 6, 7, 0x2b]);
    assert_eq!(codes(FaultStatus::is_access_flag_fault), [8, 9, 10, 11]);
    assert_eq!(codes(FaultStatus::is_permission_fault), [12, 13, 14, 15]);
    assert_eq!(codes(FaultStatus::is_alignment_fault), [0x21]);
    assert_eq!(codes(FaultStatus::is_tlb_conflict), [0x30]);
    for code in 0..64 {
        // A status has a level if its words name one that a 48-bit walk has.
        let status = FaultStatus::new(code);
        let named = Level::ALL
            .into_iter()
            .find(|level| status.to_string().starts_with(&level.to_string()));
        let expected = if code == 0 { Some(Level::L0) } else { named };
        assert_eq!(status.level(), expected, "{status:?}");
        assert_eq!(status.code(), code);
    }
}

#[test]
fn aborts_and_only_aborts_have_a_fault_status() {
    for code in 0..64 {
        let esr = esr(code, 0x0f);
        let (data, instruction) = (matches!(code, 0x24 | 0x25), matches!(code, 0x20 | 0x21));
        assert_eq!(esr.data_abort().is_some(), data);
        assert_eq!(esr.instruction_abort().is_some(), instruction);
        assert_eq!(esr.mem_abort_info().is_some(), data || instruction);
        let expected = (data || instruction).then_some(FaultStatus::new(0x0f));
        assert_eq!(esr.fault_status(), expected);
    }
}

#[test]
fn fields_of_an_abort() {
    type Ask = fn(DataAbort) -> bool;
    let flags: [(u32, Ask); 6] = [
        (6, DataAbort::wnr),
        (7, DataAbort::s1ptw),
        (8, DataAbort::cm),
        (9, DataAbort::ea),
        (10, DataAbort::fnv),
        (24, DataAbort::isv),
    ];
    for (bit, ask) in flags {
        assert!(ask(DataAbort::from_iss(1 << bit)), "bit {bit}");
        assert!(!ask(DataAbort::from_iss(!(1 << bit))), "bit {bit}");
    }
    assert_eq!(DataAbort::from_iss(0b10 << 11).set(), 2);
    assert_eq!(DataAbort::from_iss(0x7f).fsc(), FaultStatus::new(0x3f));
    let instruction = InstructionAbort::from_iss(1 << 10 | 1 << 9 | 1 << 7 | 3 << 11 | 5);
    assert!(instruction.fnv() && instruction.ea() && instruction.s1ptw());
    assert_eq!((instruction.set(), instruction.fsc().code()), (3, 5));
}

#[test]
fn one_line() {
    assert_eq!(
        esr(0x25, 0x4f).to_string(),
        "0x000000009600004f: DABT (current EL), level 3 permission fault, write"
    );
    assert_eq!(
        esr(0x25, 0x06).to_string(),
        "0x0000000096000006: DABT (current EL), level 2 translation fault, read"
    );
    assert_eq!(
        esr(0x21, 0x0f).to_string(),
        "0x000000008600000f: IABT (current EL), level 3 permission fault"
    );
    assert_eq!(esr(0x2f, 0).to_string(), "0x00000000be000000: SError");
}

#[test]
fn the_block_of_an_oops() {
    let every_field = esr(
        0x24,
        1 << 24 | 0b11 << 11 | 1 << 10 | 1 << 9 | 1 << 8 | 1 << 7 | 1 << 6 | 0x10,
    );
    assert_eq!(
        every_field.mem_abort_info().unwrap().to_string(),
        "Mem abort info:\n  ESR = 0x0000000093001fd0\n  EC = 0x24: DABT (lower EL), IL = 32 bits\n  \
         SET = 3, FnV = 1\n  EA = 1, S1PTW = 1\n  FSC = 0x10: synchronous external abort\n\
         Data abort info:\n  ISV = 1, ISS = 0x01001fd0\n  CM = 1, WnR = 1"
    );
    // An instruction abort has no data abort info.
    assert_eq!(
        Esr::new(0x21 << 26 | 0x0f)
            .mem_abort_info()
            .unwrap()
            .to_string(),
        "Mem abort info:\n  ESR = 0x000000008400000f\n  EC = 0x21: IABT (current EL), IL = 16 bits\n  \
         SET = 0, FnV = 0\n  EA = 0, S1PTW = 0\n  FSC = 0x0f: level 3 permission fault"
    );
}
