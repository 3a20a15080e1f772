//! The verdicts on the project's gdb commands: what they print is what the kernel prints for the
//! same thing, and what they refuse they refuse with a message.

use crate::failure::{Failure, Result};
use crate::judge;

/// What the kernel and `lull-lazy` say of a task's state, and of each thing it has put off.
const STATE: &[&str] = &[
    "Lazy MMU mode of task ",
    "flush pending: ",
    "store queued: ",
];
/// A walk: its first line, and one for each level.
const WALK: &[&str] = &["TTBR", "level "];

/// Passes if the script `lazy.gdb` has come to its end, has seen the section that is open inside
/// another, and has shown all that the kernel's records and walks show.
pub(super) fn lazy(text: &str, console: &str) -> Result {
    finished(text)?;
    let deep = part(text, "two sections deep")?;
    if !deep.starts_with("Lazy MMU mode of task boot: ")
        || !deep.contains(" enable=2 pause=0 owed=0 ")
    {
        return Err(Failure::fail(format!(
            "not two sections deep: {}",
            judge::last_line(deep)
        )));
    }
    for record in [" owed=1 ", "flush pending: ", "store queued: "] {
        if !console.contains(record) {
            return Err(Failure::fail(format!(
                "the kernel printed no '{record}' to compare with"
            )));
        }
    }
    same(text, console, STATE)?;
    same(text, console, WALK)
}

/// Passes if the script `crash.gdb` has come to its end, and what it has shown of the crash is what
/// the kernel's report has.
pub(super) fn crash(text: &str, console: &str) -> Result {
    finished(text)?;
    for (place, refused) in REFUSED {
        let part = part(text, place)?;
        for (command, why) in *refused {
            let line = format!("{REFUSAL}{command}: {why}");
            if !part.lines().any(|shown| shown == line) {
                return Err(Failure::fail(format!(
                    "{place}, gdb did not print '{line}'"
                )));
            }
        }
    }
    let scene = part(text, "in the scene")?;
    has(
        scene,
        &[
            // The area, and the one whose 20 pages were freed: guard pages included.
            " 8192 kernel/src/tour/pause.rs:",
            " 86016 unpurged vm_area",
            // With the scene's area the stacks of two tasks: the idle one, and the one that frees
            // areas for handlers.
            "3 areas in use, 1 freed and not purged (21 pages)",
            ", RW NX, normal write-back (MAIR 0), inner shareable, AF, PXN, UXN",
            // Of the code that was about to run.
            ", ro x, normal write-back (MAIR 0), inner shareable, AF, UXN",
            "  now translates to 0x0000_",
        ],
    )?;
    // The area of one page, and behind it its guard page, into which the kernel was made to jump.
    let start = scene
        .lines()
        .find(|line| line.contains(" kernel/src/tour/pause.rs:"))
        .and_then(|line| u64::from_str_radix(line.get(2..18)?, 16).ok())
        .ok_or_else(|| Failure::fail("gdb did not print where the scene's area starts"))?;
    let guard = start + 0x1000;
    let shadow = format!(
        " {:x}: {}\n>{guard:x}: {}\n",
        guard - 0x80,
        ["00"; 16].join(" "),
        ["f8"; 16].join(" ")
    );
    let crashed = part(text, "crashed")?;
    same(crashed, console, STATE)?;
    same(crashed, console, WALK)?;
    same(part(text, "without symbols")?, console, WALK)?;
    has(
        crashed,
        &[
            "  not mapped: level 3 translation fault",
            " is f8: no access, vmalloc space without an area or behind its end",
            &shadow,
            &area(console)?,
        ],
    )
}

/// Passes if the script `tasks.gdb` has come to its end, has listed two tasks that are in sections, and
/// has shown the stack of the one that did not run without leaving a trace.
pub(super) fn tasks(text: &str) -> Result {
    finished(text)?;
    let listed = part(text, "two tasks in sections")?;
    let row = |name: &str| {
        let row = listed.lines().find(|line| line.ends_with(name));
        row.ok_or_else(|| Failure::fail(format!("gdb listed no task '{name}'")))
    };
    // State, then, behind what differs from run to run, the counters and what is owed.
    for (name, state, counters) in [
        (" boot", " 0 ready ", "      2     0    1 boot"),
        (" opener", " running ", "      1     0    0 opener"),
    ] {
        let row = row(name)?;
        if !row.contains(state) || !row.ends_with(counters) {
            return Err(Failure::fail(format!("a wrong row of task{name}: {row}")));
        }
    }
    has(
        listed,
        &[
            "lull: refused: lull-tasks all: lull-tasks takes no 'all'",
            "lull: refused: lull-task: usage: lull-task ID|NAME [COMMAND]; lull-tasks lists",
            "lull: refused: lull-task 7777: unknown task '7777'; known: 0 (boot), 1 (idle/0), ",
        ],
    )?;
    has(
        part(text, "the boot task")?,
        &["lazy_state_is_the_tasks_own ()", "kernel_main ("],
    )?;
    has(
        part(text, "the other task")?,
        &["yield_now ()", "opener ()", "first_steps ("],
    )?;
    has(text, &["lull: sp differs: 1\n", "lull: back: 1 1\n"])
}

/// What the script prints before a command that was refused.
const REFUSAL: &str = "lull: refused: ";
/// What is refused where, and why.
const REFUSED: &[(&str, &[(&str, &str)])] = &[
    (
        "at reset",
        &[
            ("lull-pt", "usage: lull-pt VA"),
            (
                "lull-pt 0x1000",
                "the MMU is off: 0x0000_0000_0000_1000 is a physical address",
            ),
            (
                "lull-lazy",
                "the MMU is off: the kernel's variables cannot be read yet",
            ),
        ],
    ),
    (
        "in the scene",
        &[
            (
                "lull-pt nothing",
                "'nothing' is no address: No symbol 'nothing' in current context",
            ),
            (
                "lull-pt 0x1_ffff_ffff_ffff_ffff",
                "'0x1_ffff_ffff_ffff_ffff' is no address: it has more than 64 bits",
            ),
            (
                "lull-pt 0x1234_0000_0000_0000",
                "0x1234_0000_0000_0000 is not canonical: bits [63:48] are neither all 0 nor all 1",
            ),
            (
                "lull-pt 0x1000",
                "0x0000_0000_0000_1000 is not mapped: TCR_EL1.EPD0 = 1, TTBR0_EL1 is not used",
            ),
            ("lull-lazy now", "lull-lazy takes no 'now'"),
            ("lull-vmalloc 1", "lull-vmalloc takes no '1'"),
            ("lull-shadow", "usage: lull-shadow VA"),
            (
                "lull-shadow 0x1000",
                "0x0000_0000_0000_1000 is in the lower half, which has no shadow",
            ),
        ],
    ),
    (
        "without symbols",
        &[
            (
                "lull-lazy",
                "no type kernel::task::Task: start gdb with the kernel's image, as make gdb does",
            ),
            (
                "lull-vmalloc",
                "no symbol kernel::mm::vmalloc::state::SPACE: \
                 start gdb with the kernel's image, as make gdb does",
            ),
        ],
    ),
    (
        "without a machine",
        &[
            (
                "lull-pt 0x1000",
                "there is no machine: it has ended, or gdb is not attached to one",
            ),
            (
                "lull-lazy",
                "there is no machine: it has ended, or gdb is not attached to one",
            ),
            (
                "lull-shadow 0x1000",
                "there is no machine: it has ended, or gdb is not attached to one",
            ),
        ],
    ),
];

/// The script has come to its end, and nothing in it broke.
fn finished(text: &str) -> Result {
    let broken = [
        "Traceback",
        "Python Exception",
        "Error occurred in Python",
        "is the image of this source?",
    ];
    let line = text
        .lines()
        .find(|line| broken.iter().any(|words| line.contains(words)));
    match line {
        Some(line) => Err(Failure::fail(format!("a command broke: {line}"))),
        None if text.lines().any(|line| line == "lull: end of the script") => Ok(()),
        None => {
            // gdb says why in the line after this one, and goes on to detach.
            let why = text
                .split_once("Error in sourced command file:\n")
                .map(|(_, why)| why);
            let why = why
                .and_then(|why| why.lines().next())
                .unwrap_or_else(|| judge::last_line(text));
            Err(Failure::fail(format!("gdb stopped early: {why}")))
        }
    }
}

/// What gdb printed at a place in the script, up to the next.
fn part<'a>(text: &'a str, place: &str) -> Result<&'a str> {
    let start = format!("lull: {place}\n");
    let Some((_, rest)) = text.split_once(&start) else {
        return Err(Failure::fail(format!("gdb never got to '{place}'")));
    };
    let next = |at: &usize| !rest[*at + 1..].starts_with(REFUSAL);
    let end = rest.match_indices("\nlull: ").map(|(at, _)| at).find(next);
    Ok(&rest[..end.unwrap_or(rest.len())])
}

/// Every one of these is there.
fn has(text: &str, expected: &[&str]) -> Result {
    match expected.iter().find(|words| !text.contains(**words)) {
        Some(words) => Err(Failure::fail(format!("gdb did not print '{words}'"))),
        None => Ok(()),
    }
}

/// Every line of the console that starts so is in gdb's text too, in the same order. gdb's may go
/// on: it says more of a leaf.
fn same(text: &str, console: &str, starts: &[&str]) -> Result {
    let wanted = |line: &&str| starts.iter().any(|start| line.starts_with(start));
    let mut shown = text.lines().map(str::trim_start).filter(wanted);
    let mut compared = 0;
    for line in console.lines().map(str::trim).filter(wanted) {
        if !shown.any(|shown| shown.starts_with(line)) {
            return Err(Failure::fail(format!(
                "the kernel printed '{line}', gdb did not"
            )));
        }
        compared += 1;
    }
    if compared == 0 {
        return Err(Failure::fail(format!(
            "the kernel printed no '{}' to compare with",
            starts[0]
        )));
    }
    Ok(())
}

/// The line of `lull-vmalloc` for the area that the kernel's report names.
fn area(console: &str) -> Result<String> {
    let named = || -> Option<String> {
        let (_, report) = console.split_once("belongs to the virtual mapping at\n")?;
        let mut lines = report.lines().map(str::trim);
        let (range, rest) = lines.next()?.strip_prefix('[')?.split_once(") of ")?;
        let (start, end) = range.split_once(", ")?;
        assert!(
            rest.ends_with(" bytes created by:"),
            "the report has a form of its own: {rest}"
        );
        // gdb has no column.
        let (place, _column) = lines.next()?.rsplit_once(':')?;
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        let size = number(end)? - number(start)?;
        // The guard page is not mapped.
        let pages = size / 4096 - 1;
        Some(format!(
            "0x{start}-0x{end} {size:7} {place} pages={pages} vmalloc\n"
        ))
    };
    named().ok_or_else(|| Failure::fail("the kernel's report names no area"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "\
    Lazy MMU mode of task boot: model=two-counters backend=tlbi enable=1 pause=0 owed=1 in_interrupt=0
      flush pending: 1 pages from 0xffff_d800_0000_0000, leaves removed
      store queued: 0xffff_d800_0000_0000 0000000000000000 -> 0060000040515703
    TTBR1_EL1: 4k pages, 48-bit VAs, root at 0x0000_4040_0000
      level 3 [  0] at 0x0000_4051_4000 = 0060000040234703 page at 0x0000_4023_4000, RW NX
";
    const LAZY: &str = "\
lull: two sections deep
Lazy MMU mode of task boot: model=two-counters backend=barriers enable=2 pause=0 owed=0 in_interrupt=0
Breakpoint 2, kernel::mm::lazy::describe (out=...) at kernel/src/mm/lazy.rs:486
Lazy MMU mode of task boot: model=two-counters backend=tlbi enable=1 pause=0 owed=1 in_interrupt=0
  flush pending: 1 pages from 0xffff_d800_0000_0000, leaves removed
  store queued: 0xffff_d800_0000_0000 0000000000000000 -> 0060000040515703
TTBR1_EL1: 4k pages, 48-bit VAs, root at 0x0000_4040_0000
  level 3 [  0] at 0x0000_4051_4000 = 0060000040234703 page at 0x0000_4023_4000, RW NX, AF
lull: end of the script
";

    #[test]
    fn what_gdb_shows_must_be_what_the_kernel_prints() {
        assert_eq!(lazy(LAZY, CONSOLE), Ok(()));
        for (from, to) in [
            ("enable=2", "enable=1"),
            ("owed=1", "owed=0"),
            ("1 pages from", "2 pages from"),
            ("-> 006", "-> 007"),
            ("[  0] at", "[  1] at"),
            ("RW NX, AF", "ro NX, AF"),
            ("lull: end of the script", "Remote connection closed"),
            ("Breakpoint 2", "Python Exception <class 'KeyError'>"),
        ] {
            assert!(lazy(&LAZY.replace(from, to), CONSOLE).is_err(), "{to}");
        }
        // Nothing to compare with is no success.
        assert!(lazy(LAZY, "").is_err());
    }

    #[test]
    fn a_part_ends_where_the_next_begins() {
        let text = "lull: a\n1\nlull: refused: x: y\n2\nlull: b\n3\n";
        assert_eq!(part(text, "a"), Ok("1\nlull: refused: x: y\n2"));
        assert_eq!(part(text, "b"), Ok("3\n"));
        assert!(part(text, "c").is_err());
    }

    #[test]
    fn the_area_of_a_report_is_found() {
        let report = "The buggy address belongs to the virtual mapping at\n \
            [ffff800080000000, ffff800080002000) of 4096 bytes created by:\n kernel/src/tour/pause.rs:34:21\n";
        assert_eq!(
            area(report).unwrap(),
            "0xffff800080000000-0xffff800080002000    8192 kernel/src/tour/pause.rs:34 pages=1 vmalloc\n"
        );
        assert!(area("no area").is_err());
    }

    #[test]
    fn both_tasks_must_be_seen_and_the_machine_left_as_it_was() {
        const GOOD: &str = "\
lull: two tasks in sections
   ID STATE    CPU PIN  SWITCHES PREEMPT ENABLE PAUSE OWED NAME
    0 ready      0 !0          1       0      2     0    1 boot
   10 running    0 !0          1       0      1     0    0 opener
lull: refused: lull-tasks all: lull-tasks takes no 'all'
lull: refused: lull-task: usage: lull-task ID|NAME [COMMAND]; lull-tasks lists the tasks
lull: refused: lull-task 7777: unknown task '7777'; known: 0 (boot), 1 (idle/0), 10 (opener)
lull: the boot task
#7  kernel::task::ktests::_::lazy_state_is_the_tasks_own () at kernel/src/task/ktests.rs:444
#20 0xffff8000402d2688 in kernel::start::kernel_main (handover=<optimized out>)
lull: the other task
#0  kernel::task::schedule::yield_now () at kernel/src/task/schedule.rs:203
#1  kernel::task::ktests::opener () at kernel/src/task/ktests.rs:421
#2  0xffff800040287e0c in kernel::task::life::first_steps (entry=1, argument=0)
lull: sp differs: 1
lull: back: 1 1
lull: end of the script
";
        assert_eq!(tasks(GOOD), Ok(()));
        for (from, to) in [
            ("    2     0    1 boot", "    1     0    1 boot"),
            ("1     0    0 opener", "1     0    1 opener"),
            ("0 ready", "0 running"),
            ("takes no", "takes"),
            ("kernel_main (", "kernel_main"),
            ("opener () at", "closer () at"),
            ("differs: 1", "differs: 0"),
            ("back: 1 1", "back: 1 0"),
            ("end of the script", "end"),
        ] {
            assert!(tasks(&GOOD.replace(from, to)).is_err(), "{from}");
        }
    }
}
