//! What the tables say: `ptdump`, `pt`.

use super::{
    arguments::{address, range},
    command::{Failed, List, refuse},
    memory::whose,
};
use crate::{
    mm::{
        dump::check_wx,
        layout, linear_map,
        ptdump::{Columns, Dump, level_name},
    },
    oops::read_entry,
    print, println,
};
use vmsa::{Descriptor, Kind, PageRange, VirtAddr, walk, walk::WalkResult};

/// The parts of the address space, each by the first word of its name.
pub(super) const PARTS: [&str; layout::PARTS.len()] = {
    let mut words = [""; layout::PARTS.len()];
    let mut i = 0;
    while i < words.len() {
        words[i] = first_word(layout::PARTS[i].0);
        i += 1;
    }
    words
};

/// What stands before the first blank.
const fn first_word(name: &str) -> &str {
    let mut end = 0;
    while end < name.len() && name.as_bytes()[end] != b' ' {
        end += 1;
    }
    name.split_at(end).0
}

/// `ptdump [PART|RANGE]`.
pub(super) fn ptdump(arguments: &[&str]) -> Result<(), Failed> {
    let part = |word: &str| {
        let position = PARTS.iter().position(|part| *part == word)?;
        layout::PARTS.get(position).map(|(_, part)| *part)
    };
    let wanted = match arguments {
        [] => None,
        [word] => Some(match part(word) {
            Some(part) => part,
            None if word.starts_with(|c: char| c.is_ascii_digit()) => range(word)?,
            None => {
                return refuse!(
                    "unknown part '{word}'; known: {} START-END START+BYTES",
                    List(&PARTS)
                );
            }
        }),
        _ => return Err(Failed::Usage),
    };
    if let Some(range) = wanted
        && !layout::PARTS.iter().any(|(_, part)| part.overlaps(&range))
    {
        return refuse!(
            "{} is in no part of the kernel's address space; known: {}",
            range.start(),
            List(&PARTS)
        );
    }
    for (name, part) in layout::PARTS {
        let Some(shown) = wanted.map_or(Some(part), |wanted| both(part, wanted)) else {
            continue;
        };
        print!("{}", Dump { name, part, shown });
    }
    println!("{}", check_wx(&[layout::UPPER_HALF]));
    Ok(())
}

/// The pages that two ranges share.
fn both(a: PageRange, b: PageRange) -> Option<PageRange> {
    if !a.overlaps(&b) {
        return None;
    }
    let start = a.start().max(b.start());
    let last = a.last_byte().min(b.last_byte());
    PageRange::covering(start, last - start + 1)
}

/// `pt ADDRESS`.
pub(super) fn pt(arguments: &[&str]) -> Result<(), Failed> {
    let [argument] = arguments else {
        return Err(Failed::Usage);
    };
    let va = address(argument)?;
    let root = linear_map::kernel().root().start();
    println!("{va}: 4k pages, 48-bit VAs, TTBR1_EL1 has the root at {root}");
    let mut unreadable = false;
    let walk = walk(root, va, |entry| {
        read_entry(entry).unwrap_or_else(|| {
            unreadable = true;
            Descriptor::INVALID
        })
    });
    for step in walk.steps() {
        let entry = step.descriptor;
        let index = step.level.index(va);
        print!(
            "  {} {} [{index:3}] at {} = {entry:016x} ",
            step.level,
            level_name(step.level),
            step.entry
        );
        match entry.kind(step.level) {
            Kind::Table(table) => println!("table at {table}"),
            Kind::Block(output) => println!("block at {output}"),
            Kind::Page(output) => println!("page at {output}"),
            Kind::Reserved => println!("reserved encoding"),
            Kind::Invalid if entry.is_none() => println!("nothing"),
            Kind::Invalid => match entry.output_ignoring_valid(step.level) {
                Some(output) => println!("not valid; was for {output}"),
                None => println!("not valid"),
            },
        }
        if !entry.is_none() && !matches!(entry.kind(step.level), Kind::Table(_)) {
            println!("         {}", Columns(entry, step.level));
        }
    }
    match walk.result() {
        _ if unreadable => println!("  the table could not be read"),
        WalkResult::Mapped { output, .. } => println!("  translates to {output}"),
        WalkResult::Fault(level) => println!("  an access would take a {level} translation fault"),
    }
    queued(va);
    whose(va);
    Ok(())
}

/// Says so where the tables do not have the last word: the store is still in the task's queue.
fn queued(va: VirtAddr) {
    let deferred = &crate::task::current().deferred;
    for store in deferred.stores.iter() {
        if store.va == va.align_down(vmsa::PAGE_SIZE) {
            println!("  a store of {:016x} is queued", store.new.bits());
        }
    }
}
