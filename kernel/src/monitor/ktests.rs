//! Kernel tests of the commands: each does what it says, and refuses what it can't take without
//! changing anything.

use super::{Failed, run};
use crate::{
    arch::image,
    check, check_eq, kernel_test,
    ktest::{Failure, TestResult},
    mm::{
        debug_pagealloc, kasan, layout,
        lazy::{self, Backend, Model, PageTableLock},
        linear_map, page_alloc,
        ptdump::Dump,
        vmalloc,
    },
    oracle::{Rule, expect},
};
use alloc::{format, string::String};
use vmsa::{Attributes, PAGE_SIZE, VirtAddr};

/// Runs a command that must be refused, and gives the reason. Nothing may have changed.
fn refusal(line: &str) -> Result<String, Failure> {
    let state = || {
        let shadow = kasan::populate::stats();
        (
            (lazy::model(), lazy::backend()),
            (page_alloc::stats(), vmalloc::stats(), vmalloc::unpurged()),
            (shadow.populated, shadow.depopulated),
        )
    };
    // The heap need not grow for the reason.
    drop(String::with_capacity(1 << 12));
    let before = state();
    let result = run(line);
    check_eq!((line, state() == before), (line, true));
    match result {
        Err(Failed::Refused(why)) => Ok(why),
        Err(Failed::Usage) => Ok("usage".into()),
        other => {
            log::error!("'{line}' gave {other:?}");
            Err(Failure {
                file: file!(),
                line: line!(),
                what: "the command is refused",
            })
        }
    }
}

/// Each of the lines must be refused with a reason that holds the text beside it.
fn refused(lines: &[(&str, &str)]) -> TestResult {
    for (line, text) in lines {
        let why = refusal(line)?;
        if !why.contains(text) {
            check_eq!((*line, why.as_str()), (*line, *text));
        }
    }
    Ok(())
}

/// Runs a command that must succeed.
fn done(line: &str) -> TestResult {
    check_eq!((line, run(line)), (line, Ok(())));
    Ok(())
}

/// The area that the monitor makes.
fn area(bytes: &str) -> Result<VirtAddr, Failure> {
    let before = vmalloc::stats().areas;
    done(&format!("vmalloc {bytes}"))?;
    check_eq!(vmalloc::stats().areas, before + 1);
    newest().ok_or(Failure {
        file: file!(),
        line: line!(),
        what: "the monitor's area is in vmallocinfo",
    })
}

/// The last of the monitor's areas in `vmallocinfo`.
fn newest() -> Option<VirtAddr> {
    let mut text = String::new();
    vmalloc::vmallocinfo(&mut text).ok()?;
    let line = text
        .lines()
        .rfind(|line| line.contains("monitor/change.rs"))?;
    super::arguments::address(line.split('-').next()?).ok()
}

fn attributes(va: VirtAddr) -> Option<(Attributes, bool)> {
    let (entry, _) = linear_map::kernel().leaf(va)?;
    Some((
        entry.attributes() - Attributes::CONTIGUOUS,
        entry.is_valid(),
    ))
}

kernel_test! { "monitor", unknown_commands_and_arguments_are_refused, {
    refused(&[
        ("nonsuch", "unknown command 'nonsuch'; known: help tour lazy model"),
        ("help me", "usage"),
        ("a b c d e f g h i", "more than 8 words"),
        ("tour nonsuch", "unknown scene 'nonsuch'; known: layout"),
        ("tour layout nesting", "usage"),
        ("test nonsuch", "unknown test 'nonsuch'"),
        ("test", "usage"),
        ("exit 256", "unknown status '256'; known: 0 to 255"),
        ("exit 1 2", "usage"),
        ("exit -1", "unknown status"),
        ("lazy 1", "usage"),
        ("stats all", "usage"),
        ("pages 1", "usage"),
        ("vmallocinfo 1", "usage"),
        ("model nonsuch", "unknown model 'nonsuch'; known: strict tolerant"),
        ("model strict token", "usage"),
        ("ptlock nonsuch", "unknown ptlock 'nonsuch'; known: none global preempt"),
        ("ptlock none global", "usage"),
        ("backend nonsuch", "unknown backend 'nonsuch'; known: eager barriers"),
        ("bench", "usage"),
        ("bench nonsuch", "unknown case 'nonsuch'; known: vmalloc_pair"),
        ("bench vmalloc_pair n", "'n' is no name=value; known: n=1..4096"),
        ("bench vmalloc_pair order=1", "unknown parameter 'order'; known: n=1..4096"),
        ("bench vmalloc_pair n=0", "n=0 is not possible; known: 1 to 4096"),
        ("bench vmalloc_pair memory=old", "unknown memory 'old'; known: fresh fragmented"),
        // These tests are for machines that tell time.
        ("bench vmalloc_pair", "does not count instructions"),
        ("crash", "known: null"),
        ("crash nonsuch", "unknown crash 'nonsuch'; known: null use-after-free"),
        ("crash null text", "known: null"),
    ])
} }

kernel_test! { "monitor", bad_numbers_and_addresses_are_refused, {
    for command in ["pt", "shadow", "vfree", "set_memory ro"] {
        let pages = if command.starts_with("set") { " 1" } else { "" };
        for (address, why) in [
            ("nonsuch", "is no number"),
            ("ffff800080000000", "is no number"),
            ("0xffff_8000_8000_0000_0", "more than 64 bits"),
            ("0x0123_0000_0000_0000", "is not canonical"),
            ("0", "is in the lower half"),
            ("0x4020_0000", "is in the lower half"),
        ] {
            refused(&[(&format!("{command} {address}{pages}"), why)])?;
        }
        refused(&[(command, "usage")])?;
    }
    refused(&[
        ("vmalloc", "usage"),
        ("vmalloc 1 2", "usage"),
        ("vmalloc much", "is no size"),
        ("vmalloc 0", "the size or the alignment makes no sense"),
        ("vmalloc 0xffff_ffff_ffff_ffff", "fewer pages than that"),
        ("vmalloc 18014398509481984K", "more than 64 bits"),
        ("vmalloc 1G", "is no size"),
        ("pt 0xffff_8000_4020_0000 1", "usage"),
        ("ptdump nonsuch", "unknown part 'nonsuch'; known: linear shadow image"),
        ("ptdump linear image", "usage"),
        ("ptdump 0xffff_8000_4020_0000", "is no range"),
        ("ptdump 0xffff_8000_4020_0001+4K", "is not page-aligned"),
        ("ptdump 0xffff_8000_4020_0000+0", "is no range"),
        ("ptdump 0xffff_ff00_0000_0000+4K", "is in no part"),
        ("ptdump 0x1000+4K", "is in the lower half"),
    ])
} }

kernel_test! { "monitor", areas_are_made_and_freed, {
    vmalloc::vm_unmap_aliases();
    let start = area("12K")?;
    check_eq!(vmalloc::find(start).map(|area| area.requested), Some(12 << 10));
    refused(&[
        (&format!("vfree {}", start + PAGE_SIZE), "is not the start of its area"),
        (&format!("vfree {}", start + 1), "is not page-aligned"),
        ("vfree 0xffff_b000_0000_0000", "is in no vmalloc area"),
        ("vfree 0xffff_0000_4030_0000", "is in no vmalloc area"),
    ])?;
    done(&format!("vfree {start}"))?;
    check!(vmalloc::find(start).is_none());
    refused(&[(&format!("vfree {start}"), "is in no vmalloc area")])
} }

kernel_test! { "monitor", areas_of_others_are_left_alone, {
    let theirs = vmalloc::vmalloc(PAGE_SIZE);
    let Ok(start) = theirs else {
        check!(theirs.is_ok());
        return Ok(());
    };
    let refused = refused(&[
        (&format!("vfree {start}"), "is not the monitor's"),
        (&format!("set_memory invalid {start} 1"), "is not the monitor's"),
    ]);
    check!(vmalloc::vfree(start).is_ok());
    refused
} }

kernel_test! { "monitor", permissions_are_changed_and_given_back, {
    let start = area("3_000")?;
    let is = |attributes, valid| Some((attributes, valid));
    let set = |kind| done(&format!("set_memory {kind} {start} 1"));
    check_eq!(attributes(start), is(Attributes::KERNEL_DATA, true));
    let why = refusal(&format!("set_memory x {start} 1"))?;
    check!(why.contains("writable and executable"));
    set("ro")?;
    check_eq!(attributes(start), is(Attributes::KERNEL_RODATA, true));
    if linear_map::is_page_granular() {
        set("x")?;
        check_eq!(attributes(start), is(Attributes::KERNEL_TEXT, true));
        let why = refusal(&format!("set_memory rw {start} 1"))?;
        check!(why.contains("writable and executable"));
        set("nx")?;
        set("invalid")?;
        check_eq!(attributes(start), is(Attributes::KERNEL_RODATA, false));
        set("valid")?;
        set("rw")?;
        check_eq!(attributes(start), is(Attributes::KERNEL_DATA, true));
        set("ro")?;
        set("x")?;
    }
    set("invalid")?;
    // The linear alias is read-only now: freeing must see to that before the page is poisoned.
    done(&format!("vfree {start}"))?;
    refused(&[
        ("set_memory", "usage"),
        ("set_memory ro", "usage"),
        (&format!("set_memory wx {start} 1"), "unknown kind 'wx'; known: ro rw x nx valid invalid"),
        (&format!("set_memory ro {start} 1"), "is in no vmalloc area"),
    ])?;
    let start = area("8K")?;
    refused(&[
        (&format!("set_memory ro {start} 0"), "are no range"),
        (&format!("set_memory ro {start} 3"), "are not within their area; known: 2 pages"),
        (&format!("set_memory ro {} 2", start + PAGE_SIZE), "are not within their area"),
        (&format!("set_memory ro {} 1", start + 8), "is not page-aligned"),
        (&format!("set_memory ro {start} 0xffff_ffff_ffff_ffff"), "are no range"),
        (&format!("set_memory ro {start} few"), "is no number"),
    ])?;
    done(&format!("vfree {start}"))
} }

kernel_test! { "monitor", model_and_backend_are_chosen, {
    let before = (lazy::model(), lazy::backend());
    let lock = lazy::page_table_lock();
    let all = || {
        for model in Model::ALL {
            done(&format!("model {}", model.name()))?;
            check_eq!(lazy::model(), model);
        }
        for backend in Backend::ALL {
            done(&format!("backend {}", backend.name()))?;
            check_eq!(lazy::backend(), backend);
        }
        for lock in PageTableLock::ALL {
            done(&format!("ptlock {lock}"))?;
            check_eq!(lazy::page_table_lock(), lock);
        }
        done("ptlock none")?;
        done("model two-counters")?;
        done("backend barriers")?;
        let section = lazy::section();
        let refusals = expect(&[Rule::SectionLeftOpen], || {
            ["model strict", "backend eager", "ptlock global"].map(refusal)
        });
        drop(section);
        for refusal in refusals {
            check!(refusal?.contains("can't be changed now"));
        }
        Ok(())
    };
    let result = all();
    check_eq!(lazy::choose(before.0, before.1), Ok(()));
    check_eq!(lazy::choose_page_table_lock(lock), Ok(()));
    result
} }

kernel_test! { "monitor", what_only_shows_changes_nothing, {
    let start = area("1")?;
    for line in [
        "help", "lazy", "model", "backend", "ptlock", "stats", "pages", "vmallocinfo", "ptdump heap",
        "ptdump 0xffff_8000_4020_0000+64K", "pt 0xffff_8000_4020_0000", "pt 0xffff_ffff_ffff_ffff",
        "",
    ] {
        done(line)?;
    }
    done(&format!("pt {start}"))?;
    if kasan::is_on() {
        done(&format!("shadow {start}"))?;
        done("shadow 0xffff_ffff_ffff_ffff")?;
    } else {
        refused(&[("shadow 0xffff_0000_4020_0000", "KASAN=on")])?;
    }
    if debug_pagealloc::is_on() {
        done(&format!("owner {start}"))?;
        done("owner 0x40200")?;
        refused(&[
            ("owner 5", "is not RAM; known: 0x40000 to"),
            ("owner 0xffff_b000_0000_0000", "is not mapped"),
            ("owner 0x8000_0000_0000_0000", "is not canonical"),
            ("owner 0x4000_0000_0000", "is in the lower half"),
            ("owner 0xffff_5000_0000_0000", "is not RAM"),
            ("owner", "usage"),
        ])?;
    } else {
        refused(&[("owner 0x40200", "DEBUG_PAGEALLOC=on")])?;
    }
    done(&format!("vfree {start}"))
} }

kernel_test! { "monitor", ptdump_is_laid_out_as_linux_does, {
    let dump = |word: &str| {
        let part = layout::PARTS.iter().find(|(name, _)| name.starts_with(word));
        part.map_or(String::new(), |(name, part)| {
            format!("{}", Dump { name, part: *part, shown: *part })
        })
    };
    let text = image::text();
    let (start, end) = (text.start().as_u64(), text.start().as_u64() + text.bytes());
    // In the largest unit that fits.
    let (size, unit) = match text.bytes() >> 10 {
        size if size.is_multiple_of(1 << 10) => (size >> 10, 'M'),
        size => (size, 'K'),
    };
    let code = format!(
        "{start:#018x}-{end:#018x}   {size:9}{unit} PTE       ro x  SHD AF            UXN    MEM/NORMAL"
    );
    let lines = dump("image");
    check_eq!(lines.lines().next(), Some("---[ Kernel image start ]---"));
    check!(lines.lines().any(|line| line == code));
    check!(lines.ends_with("---[ Kernel image end ]---\n"));
    check!(dump("devices").contains("RW NX     AF            UXN    DEVICE/nGnRE\n"));
    // The shadow that is one page all over ends where its part does, and goes on after the gap.
    let shared = "0xffff600000000000-0xffff6c0000000000          12T PTE       ro NX SHD AF  ";
    check_eq!(dump("shadow").contains(shared), kasan::is_on());
    Ok(())
} }

kernel_test! { "monitor", commands_stop_at_the_first_failure, {
    let before = lazy::model();
    check_eq!(super::run_all("; model token; ;nonsuch; model avoid").is_err(), true);
    check_eq!(lazy::model(), Model::Token);
    check_eq!(lazy::choose(before, lazy::backend()), Ok(()));
    check_eq!(super::run_all(" ; ;"), Ok(()));
    Ok(())
} }

/// What a crash must report.
macro_rules! crashes {
    ($($name:ident: $line:literal, $text:literal;)+) => {$(
        kernel_test! { "monitor", $name, panics $text, {
            check_eq!(run($line), Ok(()));
            Ok(())
        } }
    )+};
}

crashes! {
    crash_null: "crash null", "NULL pointer dereference at virtual address 0000000000000008";
    // Also what is said where DEBUG_PAGEALLOC is off.
    crash_use_after_free: "crash use-after-free", "use after free";
    crash_overrun: "crash overrun", "is in the guard page behind";
    crash_stack: "crash stack", "Kernel stack overflow: SP ";
    crash_text: "crash text", "write to read-only memory at virtual address ffff8000";
    crash_device: "crash device", "alignment fault";
    crash_recursion: "crash recursion", "virtual address 0000000000000010";
}
