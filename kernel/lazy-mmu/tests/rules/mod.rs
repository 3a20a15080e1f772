//! Each model's rules as a table of plain text, and its reader.
//!
//! Written from the sources that each table names, row by row, and not from the crate: nothing of
//! it is used here but the names of its types. A row says: this call, in this context, with this
//! token, from these states, leads to that state, that arch hook, that warning.
//!
//! `n` is the count of open sections, `p` that of pauses, `on` the flag. A state is `*`, a number,
//! or an inclusive range such as `1..254`; `2..` has no end. A next state is `=`, `up`, `down`, or
//! a number. The last two columns: the token that comes back, and whether the call was ignored, so
//! that no matching call is owed. Exactly one row fits any state that can be reached: the reader
//! checks.

use lazy_mmu::{ArchCall, Model, Token, Warning};

/// v6.16-rc, arm64 commit 5fdd05efa1cd. `arch_enter`: `VM_WARN_ON(in_interrupt())`, then
/// `VM_WARN_ON(test_thread_flag(TIF_LAZY_MMU))`, set the flag. `arch_leave`: flush, clear the flag;
/// it warns of nothing. `queue_pte_barriers` looks at the flag in interrupt context too.
/// KASAN called leave and enter around its work: pause and resume.
const STRICT: &str = "
# call  context   token   | n p on | n p on | hook  warning       | token   ignored
enable  task      *       | 0 0 0  | = = 1  | enter -             | default -
enable  task      *       | 0 0 1  | = = =  | -     AlreadyActive | default -
enable  interrupt *       | 0 0 0  | = = 1  | enter InInterrupt   | default -
enable  interrupt *       | 0 0 1  | = = =  | -     InInterrupt   | default -
disable task      *       | 0 0 *  | = = 0  | leave -             | -       -
disable interrupt *       | 0 0 *  | = = 0  | leave -             | -       -
pause   task      *       | 0 0 *  | = = 0  | leave -             | default -
pause   interrupt *       | 0 0 *  | = = 0  | leave -             | default -
resume  task      *       | 0 0 0  | = = 1  | enter -             | -       -
resume  task      *       | 0 0 1  | = = =  | -     AlreadyActive | -       -
resume  interrupt *       | 0 0 0  | = = 1  | enter InInterrupt   | -       -
resume  interrupt *       | 0 0 1  | = = =  | -     InInterrupt   | -       -
active  *         *       | 0 0 0  | = = =  | no    -             | -       -
active  *         *       | 0 0 1  | = = =  | yes   -             | -       -
";

/// v6.16, commit 1ef3095b1405: "Permit lazy_mmu_mode to be nested". The warnings are gone, each of
/// the hooks returns at once in interrupt context, and the first leave clears the flag.
const TOLERANT: &str = "
# call  context   token   | n p on | n p on | hook  warning       | token   ignored
enable  task      *       | 0 0 0  | = = 1  | enter -             | default -
enable  task      *       | 0 0 1  | = = =  | -     -             | default -
enable  interrupt *       | 0 0 *  | = = =  | -     -             | default ignored
disable task      *       | 0 0 *  | = = 0  | leave -             | -       -
disable interrupt *       | 0 0 *  | = = =  | -     -             | -       ignored
pause   task      *       | 0 0 *  | = = 0  | leave -             | default -
pause   interrupt *       | 0 0 *  | = = =  | -     -             | default ignored
resume  task      *       | 0 0 0  | = = 1  | enter -             | -       -
resume  task      *       | 0 0 1  | = = =  | -     -             | -       -
resume  interrupt *       | 0 0 *  | = = =  | -     -             | -       ignored
active  task      *       | 0 0 0  | = = =  | no    -             | -       -
active  task      *       | 0 0 1  | = = =  | yes   -             | -       -
active  interrupt *       | 0 0 *  | = = =  | no    -             | -       -
";

/// RFC of 30 May 2025, patch 6: the revert of 1ef3095b1405, so the warning of nesting is back; the
/// return in interrupt context stays. `arch_in_lazy_mmu_mode()` (patch 4) is false there.
const AVOID: &str = "
# call  context   token   | n p on | n p on | hook  warning       | token   ignored
enable  task      *       | 0 0 0  | = = 1  | enter -             | default -
enable  task      *       | 0 0 1  | = = =  | -     AlreadyActive | default -
enable  interrupt *       | 0 0 *  | = = =  | -     -             | default ignored
disable task      *       | 0 0 *  | = = 0  | leave -             | -       -
disable interrupt *       | 0 0 *  | = = =  | -     -             | -       ignored
pause   task      *       | 0 0 *  | = = 0  | leave -             | default -
pause   interrupt *       | 0 0 *  | = = =  | -     -             | default ignored
resume  task      *       | 0 0 0  | = = 1  | enter -             | -       -
resume  task      *       | 0 0 1  | = = =  | -     AlreadyActive | -       -
resume  interrupt *       | 0 0 *  | = = =  | -     -             | -       ignored
active  task      *       | 0 0 0  | = = =  | no    -             | -       -
active  task      *       | 0 0 1  | = = =  | yes   -             | -       -
active  interrupt *       | 0 0 *  | = = =  | no    -             | -       -
";

/// v1 and v2 of the nesting series, arm64. Enter: in interrupt context LAZY_MMU_DEFAULT and nothing
/// else; otherwise test-and-set, NESTED if it was set. Leave: nothing in interrupt context; flush;
/// clear the flag unless given NESTED. A pause leaves with DEFAULT, whatever the nesting (answer of
/// the author on v1), and its resume enters; the series has no pause with the mode off, where the
/// tokens say that there is nothing to come back to.
const TOKEN: &str = "
# call  context   token   | n p on | n p on | hook  warning       | token   ignored
enable  task      *       | 0 0 0  | = = 1  | enter -             | default -
enable  task      *       | 0 0 1  | = = =  | -     -             | nested  -
enable  interrupt *       | 0 0 *  | = = =  | -     -             | default ignored
disable task      default | 0 0 *  | = = 0  | leave -             | -       -
disable task      nested  | 0 0 *  | = = =  | flush -             | -       -
disable interrupt *       | 0 0 *  | = = =  | -     -             | -       ignored
pause   task      *       | 0 0 1  | = = 0  | leave -             | default -
pause   task      *       | 0 0 0  | = = 0  | leave -             | nested  -
pause   interrupt *       | 0 0 *  | = = =  | -     -             | default ignored
resume  task      default | 0 0 0  | = = 1  | enter -             | -       -
resume  task      default | 0 0 1  | = = =  | -     -             | -       -
resume  task      nested  | 0 0 *  | = = =  | -     -             | -       -
resume  interrupt *       | 0 0 *  | = = =  | -     -             | -       ignored
active  task      *       | 0 0 0  | = = =  | no    -             | -       -
active  task      *       | 0 0 1  | = = =  | yes   -             | -       -
active  interrupt *       | 0 0 *  | = = =  | no    -             | -       -
";

/// v4 of the nesting series, patches 7 and 12. The helpers carry on after a `VM_WARN_ON`, so a
/// misplaced call does what it does: resume outside a section leaves the mode on. Saturation is
/// ours; the hook is that of the branch Linux takes when the `u8` wraps.
const NESTING_LEVEL: &str = "
# call  context   token   | n      p on | n    p on | hook  warning              | token   ignored
enable  interrupt *       | *      0 *  | =    = =  | -     -                    | default ignored
enable  task      *       | 0      0 *  | 1    = 1  | enter -                    | default -
enable  task      *       | 1..254 0 1  | up   = =  | -     -                    | default -
enable  task      *       | 1..254 0 0  | up   = =  | -     EnableWhilePaused    | default -
enable  task      *       | 255    0 *  | =    = =  | -     EnableOverflow       | default ignored
disable interrupt *       | *      0 *  | =    = =  | -     -                    | -       ignored
disable task      *       | 0      0 *  | =    = =  | flush DisableUnderflow     | -       ignored
disable task      *       | 1      0 1  | 0    = 0  | leave -                    | -       -
disable task      *       | 1      0 0  | 0    = 0  | leave DisableWhilePaused   | -       -
disable task      *       | 2..    0 1  | down = =  | flush -                    | -       -
disable task      *       | 2..    0 0  | down = =  | flush DisableWhilePaused   | -       -
pause   interrupt *       | *      0 *  | =    = =  | -     -                    | default ignored
pause   task      *       | 0      0 *  | =    = 0  | leave PauseOutsideSection  | default -
pause   task      *       | 1..    0 1  | =    = 0  | leave -                    | default -
pause   task      *       | 1..    0 0  | =    = 0  | leave PauseWhilePaused     | default -
resume  interrupt *       | *      0 *  | =    = =  | -     -                    | -       ignored
resume  task      *       | 0      0 *  | =    = 1  | enter ResumeOutsideSection | -       -
resume  task      *       | 1..    0 0  | =    = 1  | enter -                    | -       -
resume  task      *       | 1..    0 1  | =    = 1  | enter ResumeNotPaused      | -       -
active  interrupt *       | *      0 *  | =    = =  | no    -                    | -       -
active  task      *       | *      0 0  | =    = =  | no    -                    | -       -
active  task      *       | *      0 1  | =    = =  | yes   -                    | -       -
";

/// v7.0, commit 5ab246749569, with 9273dfaeaca8 (interrupt context). Saturation is ours, as above.
const TWO_COUNTERS: &str = "
# call  context   token   | n      p      on | n    p    on | hook  warning          | token   ignored
enable  interrupt *       | *      *      0  | =    =    =  | -     -                | default ignored
enable  task      *       | *      1..    0  | =    =    =  | -     -                | default ignored
enable  task      *       | 0      0      0  | 1    =    =  | enter -                | default -
enable  task      *       | 1..254 0      0  | up   =    =  | -     -                | default -
enable  task      *       | 255    0      0  | =    =    =  | -     EnableOverflow   | default ignored
disable interrupt *       | *      *      0  | =    =    =  | -     -                | -       ignored
disable task      *       | *      1..    0  | =    =    =  | -     -                | -       ignored
disable task      *       | 0      0      0  | =    =    =  | flush DisableUnderflow | -       ignored
disable task      *       | 1      0      0  | 0    =    =  | leave -                | -       -
disable task      *       | 2..    0      0  | down =    =  | flush -                | -       -
pause   interrupt *       | *      *      0  | =    =    =  | -     -                | default ignored
pause   task      *       | 0      0..254 0  | =    up   =  | -     -                | default -
pause   task      *       | 1..    0      0  | =    1    =  | leave -                | default -
pause   task      *       | 1..    1..254 0  | =    up   =  | -     -                | default -
pause   task      *       | *      255    0  | =    =    =  | -     PauseOverflow    | default ignored
resume  interrupt *       | *      *      0  | =    =    =  | -     -                | -       ignored
resume  task      *       | *      0      0  | =    =    =  | -     ResumeUnderflow  | -       ignored
resume  task      *       | 0      1..    0  | =    down =  | -     -                | -       -
resume  task      *       | 1..    1      0  | =    0    =  | enter -                | -       -
resume  task      *       | 1..    2..    0  | =    down =  | -     -                | -       -
active  interrupt *       | *      *      0  | =    =    =  | no    -                | -       -
active  task      *       | 0      *      0  | =    =    =  | no    -                | -       -
active  task      *       | 1..    0      0  | =    =    =  | yes   -                | -       -
active  task      *       | 1..    1..    0  | =    =    =  | no    -                | -       -
";

/// What the table is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `lazy_mmu_mode_enable`.
    Enable,
    /// `lazy_mmu_mode_disable`.
    Disable,
    /// `lazy_mmu_mode_pause`.
    Pause,
    /// `lazy_mmu_mode_resume`.
    Resume,
    /// `is_lazy_mmu_mode_active`.
    Active,
}

/// A task's state: sections, pauses, flag.
pub type State = (u8, u8, bool);

/// What a row promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The state after the call.
    pub state: State,
    /// The hook that was called.
    pub arch: Option<ArchCall>,
    /// The warning.
    pub warning: Option<Warning>,
    /// The token that comes back from enable and pause; `Default` from the others.
    pub token: Token,
    /// No matching call is owed.
    pub ignored: bool,
    /// The answer of `active`.
    pub active: bool,
}

/// One line of a table.
struct Row {
    /// The line, for messages.
    line: &'static str,
    /// The call that it is about.
    call: Call,
    /// In interrupt context? `None`: either.
    interrupt: Option<bool>,
    /// With which token? `None`: any.
    token: Option<Token>,
    /// The first and last value of each part of the state.
    from: [(u8, u8); 3],
    /// What it says.
    cells: Vec<&'static str>,
}

/// The rules of one model.
pub struct Rules(Vec<Row>);

impl Rules {
    /// The table of `model`.
    pub fn of(model: Model) -> Self {
        let text = match model {
            Model::Strict => STRICT,
            Model::Tolerant => TOLERANT,
            Model::Avoid => AVOID,
            Model::Token => TOKEN,
            Model::NestingLevel => NESTING_LEVEL,
            Model::TwoCounters => TWO_COUNTERS,
        };
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        Rules(lines.map(Row::read).collect())
    }

    /// What the row for this call in this state says.
    ///
    /// Panics unless there is exactly one.
    pub fn look_up(&self, call: Call, interrupt: bool, token: Token, from: State) -> Outcome {
        let state = [from.0, from.1, u8::from(from.2)];
        let fits = |row: &&Row| {
            row.call == call
                && row.interrupt.is_none_or(|context| context == interrupt)
                && row.token.is_none_or(|which| which == token)
                && row
                    .from
                    .iter()
                    .zip(state)
                    .all(|(range, value)| range.0 <= value && value <= range.1)
        };
        let mut found = self.0.iter().filter(fits);
        let Some(row) = found.next() else {
            panic!("no row for {call:?} in {from:?}, interrupt {interrupt}, {token:?}");
        };
        if let Some(other) = found.next() {
            panic!("two rows for {from:?}:\n{}\n{}", row.line, other.line);
        }
        row.outcome(from)
    }
}

impl Row {
    /// Reads a line.
    fn read(line: &'static str) -> Self {
        let cells: Vec<_> = line
            .split_whitespace()
            .filter(|cell| *cell != "|")
            .collect();
        assert_eq!(cells.len(), 13, "{line}");
        let call = match cells[0] {
            "enable" => Call::Enable,
            "disable" => Call::Disable,
            "pause" => Call::Pause,
            "resume" => Call::Resume,
            "active" => Call::Active,
            other => panic!("no call {other}"),
        };
        let interrupt = (cells[1] != "*").then_some(cells[1] == "interrupt");
        let nested = cells[2] == "nested";
        let token = (cells[2] != "*").then_some(if nested {
            Token::Nested
        } else {
            Token::Default
        });
        let from = [range(cells[3]), range(cells[4]), range(cells[5])];
        Row {
            line,
            call,
            interrupt,
            token,
            from,
            cells,
        }
    }

    /// What this row says of the state `from`.
    fn outcome(&self, from: State) -> Outcome {
        let cells = &self.cells;
        let state = (
            next(cells[6], from.0),
            next(cells[7], from.1),
            next(cells[8], u8::from(from.2)) == 1,
        );
        let arch = match cells[9] {
            "enter" => Some(ArchCall::Enter),
            "leave" => Some(ArchCall::Leave),
            "flush" => Some(ArchCall::Flush),
            _ => None,
        };
        let warning = match cells[10] {
            "-" => None,
            "InInterrupt" => Some(Warning::InInterrupt),
            "AlreadyActive" => Some(Warning::AlreadyActive),
            "EnableWhilePaused" => Some(Warning::EnableWhilePaused),
            "DisableWhilePaused" => Some(Warning::DisableWhilePaused),
            "PauseOutsideSection" => Some(Warning::PauseOutsideSection),
            "PauseWhilePaused" => Some(Warning::PauseWhilePaused),
            "ResumeOutsideSection" => Some(Warning::ResumeOutsideSection),
            "ResumeNotPaused" => Some(Warning::ResumeNotPaused),
            "EnableOverflow" => Some(Warning::EnableOverflow),
            "DisableUnderflow" => Some(Warning::DisableUnderflow),
            "PauseOverflow" => Some(Warning::PauseOverflow),
            "ResumeUnderflow" => Some(Warning::ResumeUnderflow),
            other => panic!("no warning {other}"),
        };
        let token = if cells[11] == "nested" {
            Token::Nested
        } else {
            Token::Default
        };
        let ignored = cells[12] == "ignored";
        Outcome {
            state,
            arch,
            warning,
            token,
            ignored,
            active: cells[9] == "yes",
        }
    }
}

/// The first and last value that this cell describes.
fn range(cell: &str) -> (u8, u8) {
    let number = |text: &str| text.parse::<u8>().expect("a number");
    match cell.split_once("..") {
        None if cell == "*" => (0, u8::MAX),
        None => (number(cell), number(cell)),
        Some((from, "")) => (number(from), u8::MAX),
        Some((from, to)) => (number(from), number(to)),
    }
}

/// The state that this cell makes of `value`.
fn next(cell: &str, value: u8) -> u8 {
    match cell {
        "=" => value,
        "up" => value.checked_add(1).expect("the table overflows"),
        "down" => value.checked_sub(1).expect("the table underflows"),
        number => number.parse().expect("a number"),
    }
}
