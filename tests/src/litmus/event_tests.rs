//! Which events a litmus test becomes.

use super::judge::{Answer, Trial};
use super::machine::Told;
use mmu_oracle::event::{Barrier, SyncAccess};
use mmu_oracle::{Kind, Rule};
use proptest::prelude::*;

/// An event as a word or two. Addresses are left out; an access that deviates has a mark.
fn short(told: &Told) -> String {
    let what = match told.event.kind {
        Kind::Online => "online".to_owned(),
        Kind::Snapshot(entry) => format!("snapshot {}", u8::from(entry.value.is_valid())),
        Kind::Store { entry, old } => {
            let valid = [old, entry.value].map(|value| u8::from(value.is_valid()));
            format!("store {}{}", valid[0], valid[1])
        }
        Kind::EntryRead(_) => "entry-read".to_owned(),
        Kind::Barrier(Barrier::Isb) => "isb".to_owned(),
        Kind::Barrier(Barrier::Dsb(..)) => "dsb".to_owned(),
        Kind::Barrier(Barrier::Dmb(..)) => "dmb".to_owned(),
        Kind::Tlbi(tlbi) => format!("tlbi {:#x}", tlbi.operand),
        Kind::ExceptionEntry => "entry".to_owned(),
        Kind::ExceptionReturn { .. } => "return".to_owned(),
        Kind::Sync { access, .. } => match access {
            SyncAccess::Read { acquire } => {
                format!("read{}", if acquire { "-acquire" } else { "" })
            }
            SyncAccess::Write { release } => {
                format!("write{}", if release { "-release" } else { "" })
            }
            SyncAccess::ReadModifyWrite { .. } => "rmw".to_owned(),
            SyncAccess::Branch => "branch".to_owned(),
        },
        Kind::Access { access, .. } => format!("{access:?}"),
        Kind::FrameWritten(_) => "frame-written".to_owned(),
        Kind::FramesAllocated(_) => "frame-read".to_owned(),
        other => format!("{other:?}"),
    };
    let mark = if told.deviates.is_some() { "!" } else { "" };
    format!("{}:{what}{mark}", told.event.cpu)
}

/// A test of threads that begin with `x` and `PTE(x)` in X2 and X0, a valid entry in X1, an
/// invalid one in X3, and the flag `z` in X8.
fn test(initial: &str, program: &str, condition: &str) -> String {
    let mut text = format!("AArch64 t\n{{\n{initial}\n");
    for thread in 0..3 {
        if program.contains(&format!("P{thread}")) {
            text += &format!(
                "{thread}:X0=PTE(x); {thread}:X1=(oa:PA(x)); {thread}:X2=x; {thread}:X8=z;\n\
                 {thread}:X3=(oa:PA(x), valid:0); {thread}:X5=y;\n"
            );
        }
    }
    format!("{text}}}\n{program}\n{condition}\n")
}

/// The events of every run, each as one line.
fn runs(initial: &str, program: &str, condition: &str) -> Vec<String> {
    let trial = Trial::of(&test(initial, program, condition)).unwrap();
    let line = |told: &Vec<Told>| told.iter().map(short).collect::<Vec<_>>().join(" ");
    trial.runs().iter().map(|run| line(&run.told)).collect()
}

const INVALID: &str = "[PTE(x)]=(oa:PA(x), valid:0);";

#[test]
fn a_store_a_barrier_and_an_access() {
    let program = "P0 ;\n STR X1,[X0] ;\n DSB ISHST ;\n ISB ;\n L0: LDR W4,[X2] ;";
    assert_eq!(
        runs(INVALID, program, "exists (fault(P0:L0,x,MMU:Translation))"),
        ["0:online 0:snapshot 0 0:store 01 0:dsb 0:isb 0:Read!"]
    );
}

#[test]
fn an_access_that_the_condition_does_not_name_is_no_event() {
    let program = "P0 ;\n STR X1,[X0] ;\n LDR W4,[X2] ;\n L0: STR W4,[X2] ;";
    assert_eq!(
        runs(INVALID, program, "exists (fault(P0:L0,x))"),
        ["0:online 0:snapshot 0 0:store 01 0:Write!"]
    );
}

#[test]
fn a_load_waits_for_the_value_that_the_condition_says() {
    let program = "P0 | P1 ;\n STR X1,[X0] | LDAR W7,[X8] ;\n MOV W7,#1 | CBZ W7,LC ;\n \
                   STLR W7,[X8] | LC: ISB ;\n | L0: LDR W4,[X2] ;";
    assert_eq!(
        runs(INVALID, program, "exists (1:X7=1 /\\ fault(P1:L0,x))"),
        [
            "0:online 1:online 0:snapshot 0 0:store 01 0:write-release 1:read-acquire 1:branch 1:isb \
          1:Read!"
        ]
    );
    // The initial value is there before the store, and no later.
    let before = runs(INVALID, program, "exists (1:X7=0 /\\ fault(P1:L0,x))");
    assert!(!before.is_empty());
    for run in before {
        let at = |what| run.find(what).unwrap();
        assert!(at("1:read-acquire") < at("0:write-release"), "{run}");
        assert!(run.ends_with("1:Read!"), "{run}");
    }
}

#[test]
fn a_branch_is_told_of_if_it_depends_on_the_last_read() {
    let program = "P0 ;\n LDR W7,[X8] ;\n EOR W9,W7,W7 ;\n CMP W9,#0 ;\n B.EQ LC ;\n LC: ;\n \
                   LDR W10,[X8] ;\n CBNZ W7,LD ;\n LD: ;\n STR X1,[X0] ;\n L0: LDR W4,[X2] ;";
    assert_eq!(
        runs(INVALID, program, "exists (fault(P0:L0,x))"),
        ["0:online 0:snapshot 0 0:read 0:branch 0:read 0:store 01 0:Read!"]
    );
}

#[test]
fn a_lock_of_exclusives_is_a_read_a_branch_and_a_read_modify_write() {
    let program = "P0 | P1 ;\n STR X1,[X0] | LS: LDAXR W7,[X8] ;\n MOV W6,#0 | CBNZ W7,LS ;\n \
                   STLR W6,[X8] | MOV W6,#1 ;\n | STXR W9,W6,[X8] ;\n | CBNZ W9,LS ;\n \
                   | L0: LDR W4,[X2] ;";
    let initial = format!("{INVALID} [z]=1;");
    let events = "0:store 01 0:write-release 1:read-acquire 1:branch 1:rmw 1:Read!";
    for run in runs(&initial, program, "exists (1:X7=0 /\\ fault(P1:L0,x))") {
        assert!(run.ends_with(events), "{run}");
    }
    // Who is not told what was read goes round until it is there.
    let runs = runs(&initial, program, "exists (fault(P1:L0,x))");
    assert!(
        runs.iter()
            .any(|run| run.contains("1:read-acquire 1:branch 0:store")),
        "{runs:?}"
    );
}

#[test]
fn a_handler_comes_back_to_the_access_that_faulted() {
    let program = "P0 | P0.F ;\n STR X1,[X0] | ADD W9,W9,#1 ;\n L0: LDR W4,[X2] | CMP W9,#2 ;\n \
                   | B.EQ L9 ;\n | DSB ISHST ;\n | ERET ;\n | L9: NOP ;";
    assert_eq!(
        runs(INVALID, program, "exists (0:X9=2)"),
        ["0:online 0:snapshot 0 0:store 01 0:Read! 0:entry 0:dsb 0:return 0:Read! 0:entry"]
    );
    // A call goes on behind it.
    let program = "P0 | P0.F ;\n STR X1,[X0] | ADD W9,W9,#1 ;\n SVC #0 | CBNZ W10,L9 ;\n \
                   L0: LDR W4,[X2] | MOV W10,#1 ;\n | ERET ;\n | L9: NOP ;";
    assert_eq!(
        runs(INVALID, program, "exists (0:X9=2)"),
        ["0:online 0:snapshot 0 0:store 01 0:entry 0:return 0:Read! 0:entry"]
    );
}

#[test]
fn a_store_by_the_new_owner_of_a_frame_is_the_question() {
    let initial = "[x]=0; [PTE(y)]=(oa:PA(x));";
    let program = "P0 | P1 ;\n STR X3,[X0] | L0: LDR W4,[X2] ;\n MOV W6,#2 | ;\n STR W6,[X5] | ;";
    assert_eq!(
        runs(initial, program, "exists (1:X4=2)"),
        ["0:online 1:online 0:snapshot 1 0:snapshot 1 0:store 10 0:frame-written"]
    );
}

#[test]
fn the_first_owner_of_a_frame_that_another_variable_maps_is_an_owner_too() {
    let program = "P0 ;\n STR X3,[X0] ;\n MOV W6,#2 ;\n STR W6,[X5] ;\n LDR W7,[X5] ;";
    assert_eq!(
        runs("[PTE(x)]=(oa:PA(y));", program, "exists (0:X7=1)"),
        ["0:online 0:snapshot 1 0:snapshot 1 0:store 10 0:frame-written 0:frame-read"]
    );
}

#[test]
fn a_store_waits_for_the_load_that_it_would_take_the_value_from() {
    let program = "P0 | P1 ;\n LDR W6,[X5] | MOV W7,#1 ;\n L0: LDR W4,[X2] | STR X1,[X0] ;\n \
                   LDR W7,[X8] | STR W7,[X5] ;\n | STR W7,[X8] ;";
    let condition = "exists (0:X6=1 /\\ 0:X7=0 /\\ fault(P0:L0,x))";
    assert_eq!(
        runs(INVALID, program, condition),
        ["0:online 1:online 0:snapshot 0 1:store 01 1:write 0:read 0:Read! 0:read 1:write"]
    );
}

#[test]
fn of_two_loads_to_a_register_the_last_is_meant() {
    let program = "P0 | P1 ;\n STR X1,[X0] | LDR W7,[X8] ;\n MOV W6,#1 | LDR W7,[X8] ;\n \
                   STR W6,[X8] | L0: LDR W4,[X2] ;";
    let runs = runs(INVALID, program, "exists (1:X7=1 /\\ fault(P1:L0,x))");
    let split = "1:read 0:store 01 0:write 1:read 1:Read!";
    assert!(runs.iter().any(|run| run.ends_with(split)), "{runs:?}");
}

#[test]
fn a_tlbi_takes_the_page_number() {
    let program = "P0 ;\n STR X3,[X0] ;\n LSR X9,X2,#12 ;\n TLBI VAALE1IS,X9 ;\n L0: LDR W4,[X2] ;";
    assert_eq!(
        runs("", program, "exists (~fault(P0:L0,x,MMU:Translation))"),
        ["0:online 0:snapshot 1 0:store 10 0:tlbi 0x1000000 0:Read!"]
    );
}

/// What the oracle says of a test, without FEAT_ETS2.
fn judged(initial: &str, program: &str, condition: &str) -> Result<Answer, String> {
    let trial = Trial::of(&test(initial, program, condition)).map_err(|why| why.to_string())?;
    trial.judge(false).map_err(|why| why.to_string())
}

#[test]
fn all_that_deviates_must_be_possible() {
    // The first fault could be, the second not.
    let program = "P0 ;\n STR X1,[X0] ;\n L0: LDR W4,[X2] ;\n DSB ISHST ;\n ISB ;\n \
                   L1: LDR W4,[X2] ;";
    let first = judged(INVALID, program, "exists (fault(P0:L0,x))");
    assert_eq!(first, Ok(Answer::Complains(Rule::NotVisible)));
    let both = judged(
        INVALID,
        program,
        "exists (fault(P0:L0,x) /\\ fault(P0:L1,x))",
    );
    assert_eq!(both, Ok(Answer::Accepts));
    let either = judged(
        INVALID,
        program,
        "exists (fault(P0:L0,x) \\/ fault(P0:L1,x))",
    );
    assert_eq!(either, Ok(Answer::Complains(Rule::NotVisible)));
    let any = judged(INVALID, program, "exists (fault(P0,x))");
    assert_eq!(any, Ok(Answer::Complains(Rule::NotVisible)));
}

#[test]
fn a_value_is_read_by_an_access_that_did_not_fault() {
    // Break-before-make, then the flag: the new entry may not be visible, but the old one is gone.
    let initial = "[x]=1; [y]=2; 0:X4=(oa:PA(y)); 0:X9=TLB(x);";
    let program = "P0 | P1 ;\n STR X3,[X0] | LDAR W7,[X8] ;\n DSB ISHST | L0: LDR W4,[X2] ;\n \
                   TLBI VAALE1IS,X9 | ;\n DSB ISH | ;\n STR X4,[X0] | ;\n MOV W7,#1 | ;\n \
                   STLR W7,[X8] | ;";
    let old = judged(initial, program, "exists (1:X7=1 /\\ 1:X4=1)");
    assert_eq!(old, Ok(Answer::Accepts));
    let fault = judged(initial, program, "exists (1:X7=1 /\\ fault(P1:L0,x))");
    assert_eq!(fault, Ok(Answer::Complains(Rule::NotVisible)));
    // With a plain read of the flag the old one may have been used before.
    let program = program.replace("LDAR", "LDR");
    let old = judged(initial, &program, "exists (1:X7=1 /\\ 1:X4=1)");
    assert_eq!(old, Ok(Answer::Complains(Rule::StaleAccess)));
}

#[test]
fn what_is_no_question_for_the_oracle_is_unsupported() {
    let program = "P0 | P1 ;\n STR X1,[X0] | LDR W7,[X8] ;\n MOV W7,#1 | LDR W6,[X5] ;\n \
                   STR W7,[X5] | ;\n STR W7,[X8] | ;\n L0: LDR W4,[X2] | ;";
    for (condition, why) in [
        ("exists (1:X7=1 /\\ 1:X6=0)", "no order of the threads"),
        ("exists (1:X7=1 /\\ 1:X6=1)", "seen at once"),
        ("exists (~fault(P0:L0,x))", "seen at once"),
        ("exists (fault(P0:L7,x))", "no label 'L7'"),
        ("exists (fault(P3:L0,x))", "there is no P3"),
        ("exists (3:X7=1)", "there is no P3"),
        ("exists (fault(P1,z))", "no order of the threads"),
        (
            "exists ([z]=2 /\\ fault(P0:L0,x))",
            "no order of the threads",
        ),
        ("exists ([x]=5)", "not about translations"),
        ("exists (false)", "no order of the threads"),
    ] {
        let answer = judged(INVALID, program, condition).unwrap_err();
        assert!(answer.contains(why), "{condition}: {answer}");
    }
    for (program, why) in [
        ("P0 ;\n STR W1,[X0] ;", "a part of an entry"),
        ("P0 ;\n ERET ;", "ERET outside"),
        ("P0 ;\n LDR W1,[X30] ;", "nothing known"),
        ("P0 ;\n L: B L ;", "no order of the threads"),
        (
            "P0 | P0.F ;\n SVC #0 | SVC #0 ;",
            "an exception in a handler",
        ),
    ] {
        let answer = judged(INVALID, program, "exists (true)").unwrap_err();
        assert!(answer.contains(why), "{program}: {answer}");
    }
}

/// A column of a program, with a handler or without.
fn column() -> impl Strategy<Value = Vec<&'static str>> {
    let instruction = prop::sample::select(vec![
        "STR X1,[X0]",
        "STR X3,[X0]",
        "STR XZR,[X0]",
        "STLR X1,[X0]",
        "SWP X1,X4,[X0]",
        "LDR X7,[X0]",
        "LDR W4,[X2]",
        "L0: LDR W4,[X2]",
        "STR W6,[X2]",
        "STR W6,[X5]",
        "LDR W4,[X5]",
        "SWPAL W6,W4,[X2]",
        "LDXR W7,[X8]",
        "STXR W9,W6,[X8]",
        "LDXR X7,[X0]",
        "STXR W9,X1,[X0]",
        "LDAR W7,[X8]",
        "STLR W6,[X8]",
        "CASA W7,W6,[X8]",
        "MOV W6,#1",
        "MOVK X6,#7,LSL #48",
        "UBFX X9,X2,#12,#44",
        "LSR X9,X2,#12",
        "ADD X2,X2,X9",
        "SUBS W9,W9,#1",
        "TLBI VAAE1IS,X9",
        "TLBI ASIDE1,X9",
        "TLBI VMALLE1",
        "DSB ISH",
        "DSB ISHST",
        "DMB SY",
        "ISB",
        "CBZ W7,LC",
        "B.NE LC",
        "LC:",
        "SVC #0",
        "ERET",
    ]);
    prop::collection::vec(instruction, 0..12)
}

proptest! {
    #[test]
    fn no_program_makes_the_machine_or_the_oracle_panic(
        columns in prop::collection::vec(column(), 1..4),
        handler in column(),
        condition in prop::sample::select(vec![
            "exists (fault(P0,x))",
            "exists (fault(P0:L0,x,MMU:Translation))",
            "exists (~fault(P0:L0,x,MMU:Permission))",
            "exists (0:X9=2)",
            "forall (0:X4=1 \\/ [x]=1)",
            "exists (0:X7=1 /\\ 0:X4=2 /\\ [PTE(x)]=0)",
        ]),
    ) {
        let mut columns = columns;
        let mut header: Vec<_> = (0..columns.len()).map(|n| format!("P{n}")).collect();
        header.push("P0.F".to_owned());
        // Each thread has both labels, once; a thread and its handler are one.
        for (n, column) in columns.iter_mut().enumerate() {
            column.retain(|cell| *cell != "LC:" && (n == 0 || *cell != "SVC #0"));
            let end = column.iter().rposition(|cell| cell.starts_with("L0:"));
            if let Some(end) = end {
                let mut at = 0;
                column.retain(|cell| {
                    at += 1;
                    at > end || !cell.starts_with("L0:")
                });
            } else {
                column.push("L0: STR W6,[X2]");
            }
            column.push("LC:");
        }
        let unlabelled = |cell: &&str| !cell.contains(':') && *cell != "SVC #0";
        columns.push(handler.into_iter().filter(unlabelled).collect());
        let mut program = header.join(" | ");
        for row in 0..columns.iter().map(Vec::len).max().unwrap_or(0) {
            let cell = |column: &Vec<&'static str>| column.get(row).copied().unwrap_or("");
            let cells: Vec<_> = columns.iter().map(cell).collect();
            program += &format!(" ;\n {}", cells.join(" | "));
        }
        let text = test("[PTE(y)]=(oa:PA(x));", &format!("{program} ;"), condition);
        if let Ok(trial) = Trial::of(&text) {
            let _ = trial.judge(false);
        }
    }
}
