//! What memory is used for: `vmallocinfo`, `pages`, `owner`, `shadow`.

use super::{
    arguments::{address, number},
    command::{Failed, refuse, show},
};
use crate::{
    mm::{debug_pagealloc, explain::explain, kasan, linear_map, page_alloc, vmalloc},
    print, println,
};
use core::fmt;
use vmsa::{Frame, PAGE_SIZE, VirtAddr};

/// `vmallocinfo`.
pub(super) fn vmallocinfo(_: &[&str]) -> Result<(), Failed> {
    let waiting = vmalloc::unpurged().0;
    if vmalloc::stats().areas + waiting == 0 {
        println!("no areas");
    }
    show(vmalloc::vmallocinfo);
    Ok(())
}

/// `pages`: the free lists, as `/proc/buddyinfo` has them.
pub(super) fn pages(_: &[&str]) -> Result<(), Failed> {
    let stats = page_alloc::stats();
    let lists = page_alloc::free_blocks();
    print!("order      ");
    (0..lists.len()).for_each(|order| print!("{order:7}"));
    print!("\nfree blocks");
    lists.iter().for_each(|count| print!("{count:7}"));
    println!(
        "\n{} of {} pages are free, {} KiB of {}",
        stats.free,
        stats.managed,
        stats.free * PAGE_SIZE / 1024,
        stats.managed * PAGE_SIZE / 1024,
    );
    print!(
        "metadata: {} bytes a page",
        size_of::<page_alloc::PageMeta>()
    );
    if debug_pagealloc::is_on() {
        print!(
            ", and {} for DEBUG_PAGEALLOC",
            size_of::<debug_pagealloc::History>()
        );
    }
    println!();
    Ok(())
}

/// `owner PAGE|ADDRESS`.
pub(super) fn owner(arguments: &[&str]) -> Result<(), Failed> {
    let [argument] = arguments else {
        return Err(Failed::Usage);
    };
    let Some(known) = debug_pagealloc::known() else {
        return refuse!("owners of pages are kept with DEBUG_PAGEALLOC=on");
    };
    let frame = match Frame::from_number(number(argument)?) {
        Some(frame) => frame,
        // No frame has such a number: it is an address.
        None => frame_behind(address(argument)?)?,
    };
    if !known.contains(&frame.number()) {
        return refuse!(
            "page {frame} is not RAM; known: {:#x} to {:#x}",
            known.start,
            known.end - 1
        );
    }
    let state = match page_alloc::block_of(frame) {
        None => "reserved: never given to the page allocator",
        Some(page_alloc::BlockState::Free) => "free",
        Some(page_alloc::BlockState::InUse) => "allocated",
    };
    let linear = linear_map::virt(frame.start());
    println!("page {frame} at {}, {linear}: {state}", frame.start());
    show(|out| debug_pagealloc::describe(frame, out));
    Ok(())
}

/// The frame that an address leads to, valid or not.
fn frame_behind(va: VirtAddr) -> Result<Frame, Failed> {
    if let Some(frame) = linear_map::frame_of(va) {
        return Ok(frame);
    }
    let leaf = linear_map::kernel().leaf(va).and_then(|(entry, level)| {
        let output = entry.output_ignoring_valid(level)?;
        output.checked_add(va.as_u64() & (level.bytes() - 1))
    });
    match leaf {
        Some(pa) => Ok(Frame::containing(pa)),
        None => refuse!("{va} is not mapped; see 'pt {va}'"),
    }
}

/// `shadow ADDRESS`.
pub(super) fn shadow(arguments: &[&str]) -> Result<(), Failed> {
    let [argument] = arguments else {
        return Err(Failed::Usage);
    };
    let va = address(argument)?;
    if !kasan::is_on() {
        return refuse!("there is a shadow with KASAN=on");
    }
    let Some(at) = kasan::shadow::shadow_of(va) else {
        return refuse!("{va} has no shadow");
    };
    print!("{va} has its shadow byte at {at}");
    match kasan::populate::read_shadow(at) {
        Some(byte) => println!(": {byte:02x}, {}", Meaning(byte)),
        None => println!(", which is not mapped: no access"),
    }
    show(|out| kasan::report::memory_state(at, out));
    whose(va);
    Ok(())
}

/// Says what an address belongs to.
pub(super) fn whose(va: VirtAddr) {
    if let Some(area) = vmalloc::find(va) {
        let (start, bytes) = (area.mapped.start(), area.requested);
        print!("{va} is in the vmalloc area of {bytes} bytes at {start}");
        if let Some(caller) = area.caller {
            print!(", made at {caller}");
        }
        if !area.mapped.contains(va) {
            print!("; in the guard page behind it");
        }
        return println!();
    }
    match linear_map::frame_of(va) {
        // Nobody has used it after the free: only asked.
        Some(frame) if page_alloc::is_free(frame) => {
            println!("{va} is in page {frame} of the linear map, which is free");
        }
        _ => show(|out| explain(va, out)),
    }
}

/// What a shadow byte says.
struct Meaning(u8);

impl fmt::Display for Meaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("all 8 bytes may be accessed"),
            k @ 1..=7 => write!(f, "the first {k} of 8 bytes may be accessed"),
            kasan::shadow::VMALLOC_INVALID => {
                f.write_str("no access: vmalloc space without an area, or behind its bytes")
            }
            _ => f.write_str("no access"),
        }
    }
}
