//! What the reader of litmus tests knows, and what it says where it does not.

use super::decode::instruction;
use super::instruction::Instruction;
use super::test::{Test, Thread};
use super::text::{Read, Unsupported};
use proptest::prelude::*;

fn program(rows: &str) -> Read<Vec<Thread>> {
    let text = format!("AArch64 t\n{{}}\n{rows}\nexists (true)");
    Test::read(&text).map(|test| test.threads)
}

#[test]
fn threads_handlers_and_labels_are_found() {
    let threads = program(
        " P0          | P1 | P0.F      ;\n SVC #0      |    | L9: NOP   ;\n\
         L0: L1: NOP | ISB | CBZ W1,L9 ;\n LC:  | ; ",
    )
    .unwrap();
    assert_eq!(threads.len(), 2);
    assert_eq!(threads[0].code.len(), 2 + 1 + 2 + 1);
    assert_eq!(threads[0].handler, Some(3));
    let labels: Vec<_> = threads[0].labels.iter().collect();
    let expected = [("L0", 1), ("L1", 1), ("L9", 3), ("LC", 2)];
    assert!(
        labels
            .iter()
            .map(|(name, at)| (name.as_str(), **at))
            .eq(expected)
    );
    assert_eq!(threads[1].code.len(), 2);
    assert_eq!(threads[1].handler, None);
}

#[test]
fn what_cannot_be_read_is_named_with_its_line() {
    for (rows, line, why) in [
        ("P0 ;\nRVAE1 ;", 4, "unknown instruction 'RVAE1'"),
        ("P0 | P2 ;", 3, "the threads are not P0, P1, .."),
        ("P0 | P0 ;", 3, "a thread is there twice"),
        ("P0 | P1.F ;", 3, "the threads are not P0, P1, .."),
        ("Q0 ;", 3, "unknown column 'Q0'"),
        ("P0 ;\nNOP | NOP ;", 4, "a row has too many columns"),
        ("P0 ;\nNOP ;\nB L ;", 5, "no label 'L'"),
        ("P0 ;\nL: ;\nL: ;", 5, "label 'L' is there twice"),
        ("P0 ;\nSVC #0 ;", 4, "SVC, but no handler"),
        ("P0 ;\n[X]: NOP ;", 4, "unknown label '[X]'"),
    ] {
        assert_eq!(
            program(rows).unwrap_err(),
            Unsupported::at(line, why),
            "{rows}"
        );
    }
}

#[test]
fn every_instruction_is_known_or_unknown() {
    for known in [
        "NOP",
        "ISB",
        "ISB SY",
        "DSB SY",
        "DSB ST",
        "DSB LD",
        "DSB ISH",
        "DSB OSHLD",
        "DSB NSHST",
        "DMB ISHST",
        "dmb ish",
        "SVC #0",
        "ERET",
        "MOV W1,#1",
        "MOV X1,X2",
        "MOVZ X1,#1,LSL #16",
        "MOVK X1,#0xffff,LSL #48",
        "MOVN X1,#0",
        "ADD X1,X2,#1",
        "ADD X2,X2,X9",
        "SUB W1,W2,W3",
        "SUBS W1,W1,#1",
        "EOR X9,X7,X7",
        "AND X1,X2,#0xff",
        "ORR X1,X2,X3,LSL #4",
        "LSR X9,X3,#12",
        "LSL X9,X3,X4",
        "UBFX X9,X3,#12,#44",
        "CMP W9,#2",
        "TST X1,X2",
        "CBZ W7,LC",
        "CBNZ X7,lc",
        "TBZ X7,#0,L",
        "TBNZ W7,#31,L",
        "B LC",
        "B.EQ LC",
        "BNE LC",
        "LDR W3,[X2]",
        "LDR X3,[X2,#8]",
        "LDR W3,[X2,X9]",
        "LDR W3, [X2, W9, UXTW]",
        "LDRB W3,[X2]",
        "LDRH W3,[X2]",
        "LDAR W3,[X2]",
        "LDAPR X3,[X2]",
        "LDARB W3,[X2]",
        "LDXR W3,[X2]",
        "LDAXRH W3,[X2]",
        "STR XZR,[X2]",
        "STRB W1,[X2]",
        "STLR W1,[X2]",
        "STXR W1,W2,[X3]",
        "STLXR W1,X2,[X3]",
        "SWP W1,W2,[X3]",
        "SWPA W1,W2,[X3]",
        "SWPL X1,X2,[X3]",
        "SWPALB W1,W2,[X3]",
        "CAS W1,W2,[X3]",
        "CASAL X1,X2,[X3]",
        "LDADD W1,W2,[X3]",
        "LDADDALH W1,W2,[X3]",
        "LDCLRA X1,X2,[X3]",
        "LDEOR X1,X2,[X3]",
        "LDSET X1,X2,[X3]",
        "LDSMAX W1,W2,[X3]",
        "LDUMINL W1,W2,[X3]",
        "STADD W1,[X3]",
        "STADDL W1,[X3]",
        "TLBI VMALLE1",
        "TLBI VMALLE1IS",
        "TLBI VMALLE1IS,XZR",
        "TLBI VAE1IS,X9",
        "TLBI VAE1,X9",
        "TLBI VALE1,X9",
        "TLBI VAAE1IS,X9",
        "TLBI VAALE1IS,X9",
        "TLBI ASIDE1IS,X9",
    ] {
        assert!(instruction(known).is_some(), "{known}");
    }
    for unknown in [
        "",
        "TLBI",
        "TLBI VAE1IS",
        "TLBI RVAE1IS,X9",
        "TLBI VAE1OS,X9",
        "TLBI VMALLE1OS",
        "TLBI VAE2IS,X9",
        "TLBI IPAS2E1IS,X9",
        "TLBI VAE1IS,W9",
        "DSB",
        "DSB ISHNXS",
        "DSB SYST",
        "DMB FOO",
        "ISB FOO",
        "LDR W3,[X2],#4",
        "LDR W3,[X2,#4]!",
        "LDR W3,[SP]",
        "LDR W3,[XZR]",
        "LDR W3,=x",
        "LDP X1,X2,[X3]",
        "LDRSW X3,[X2]",
        "LDAR W3,[X2,#8]",
        "LDR X3,[X2,W9]",
        "CASP X0,X1,X2,X3,[X4]",
        "MSR TTBR0_EL1,X0",
        "MRS X0,ESR_EL1",
        "AT S1E1R,X0",
        "DC CVAU,X0",
        "MOVK X1,#65536",
        "MOV X31,#1",
        "UBFX X1,X2,#60,#10",
        "TBZ X1,#64,L",
        "CBZ L",
        "B.XX L",
        "ADD X1,X2",
        "LDR W3,X2",
        "STXR W1,[X3]",
        "SWPB W1,[X3]",
        "LDR W3,[X2",
        "LDR W3,]X2[",
        "ADD X1,,X2",
        "é",
        "B.é L",
        "DSB é",
        "MOV X1,#é",
        "LSL X1,X2,é é",
    ] {
        assert_eq!(instruction(unknown), None, "{unknown}");
    }
}

#[test]
fn a_load_into_the_zero_register_is_no_acquire_but_for_cas() {
    let acquires = |text| match instruction(text) {
        Some(Instruction::Atomic { acquire, .. }) => acquire,
        other => panic!("{text}: {other:?}"),
    };
    assert!(acquires("SWPA W1,W2,[X3]") && acquires("LDADDAL X1,X2,[X3]"));
    assert!(!acquires("SWPA W1,WZR,[X3]") && !acquires("LDADDAL X1,XZR,[X3]"));
    assert!(acquires("CASA WZR,W2,[X3]") && !acquires("CASL W1,W2,[X3]"));
}

#[test]
fn what_changes_the_machine_is_refused() {
    for (key, good) in [
        ("Cycle=Rfe Fre", true),
        ("Variant=vmsa", true),
        ("TTHM=P0:HD", false),
        ("EL0=P0", false),
        ("Variant=vmsa,ets2", false),
    ] {
        let text = format!("AArch64 t\n{key}\n{{}}\nP0 ;\nexists (true)");
        assert_eq!(Test::read(&text).is_ok(), good, "{key}");
    }
}

/// A text of pieces of tests, which gets deeper into the reader than any text would.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "AArch64 ",
        "t\n",
        "\"",
        "{",
        "}",
        "(*",
        "*)",
        "[PTE(x)]=",
        "(oa:PA(x)",
        ", valid:0)",
        "0:X1=",
        "x;",
        "1",
        "-",
        " P0 ",
        "|",
        ";",
        "\n",
        "P0.F",
        "P1",
        "STR X1,[X0]",
        "TLBI ",
        "VAE1IS",
        ",X9",
        "DSB ISH",
        "L0:",
        "LDR W3,[X2]",
        "B L0",
        "CBZ X1,L0",
        "exists ",
        "~",
        "(",
        ")",
        "fault(P0:L0,x",
        ",MMU:Translation)",
        "/\\",
        "\\/",
        "forall",
        "locations [",
        "SVC #0",
        "ERET",
        "é",
        ":",
        "#",
        "0x",
        "99999999999999999999999",
        "Key=",
        "[",
        "]",
        ".",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in ".*", pieces in pieces()) {
        let _ = Test::read(&text);
        let _ = Test::read(&pieces);
        let whole = format!("AArch64 t\n{{ {text} }}\n P0 ;\n {pieces} ;\nexists {text}");
        let _ = Test::read(&whole);
        let _ = instruction(&text);
    }
}
