//! `crash`: ends the machine in a way that one may want to have seen, and reports it.

use super::command::{Failed, List, refuse};
use crate::{
    arch::{cpu, fault, image},
    mm::{debug_pagealloc, layout, linear_map, page_alloc, vmalloc},
    println,
};
use core::hint::black_box;
use vmsa::{PAGE_SIZE, VirtAddr};

/// A way to crash: its name, and what does it. That returns only if it can't be done here.
type Kind = (&'static str, fn() -> Failed);

const KINDS: [Kind; 7] = [
    ("null", null),
    ("use-after-free", use_after_free),
    ("overrun", overrun),
    ("stack", stack),
    ("text", text),
    ("device", device),
    ("recursion", recursion),
];

/// The names of the kinds.
pub(super) const WORDS: [&str; KINDS.len()] = {
    let mut words = [""; KINDS.len()];
    let mut i = 0;
    while i < words.len() {
        words[i] = KINDS[i].0;
        i += 1;
    }
    words
};

/// `crash KIND`.
pub(super) fn crash(arguments: &[&str]) -> Result<(), Failed> {
    match arguments {
        [name] => match KINDS.iter().find(|(kind, _)| kind == name) {
            Some((_, crash)) => Err(crash()),
            None => refuse!("unknown crash '{name}'; known: {}", List(&WORDS)),
        },
        _ => refuse!("crash takes one KIND; known: {}", List(&WORDS)),
    }
}

/// Loads a word, without the net of `arch::fixup`.
fn load(va: VirtAddr) -> u64 {
    // SAFETY: none of this is memory that Rust knows of; the load faults, which is what it is for.
    unsafe { black_box(va).as_ptr::<u64>().read_volatile() }
}

/// Stores a byte, likewise.
fn store(va: VirtAddr, value: u8) {
    // SAFETY: as in `load`: the store faults and changes nothing.
    unsafe { black_box(va).as_mut_ptr::<u8>().write_volatile(value) }
}

/// It was to crash, and did not.
fn survived(what: &str) -> Failed {
    println!("lull: {what}");
    Failed::Told
}

fn null() -> Failed {
    load(VirtAddr::literal(8));
    survived("address 8 could be read")
}

fn use_after_free() -> Failed {
    if !debug_pagealloc::is_on() {
        return survived("a use after free is caught with DEBUG_PAGEALLOC=on");
    }
    let Ok(page) = page_alloc::allocate(0) else {
        return survived("out of memory");
    };
    if page_alloc::free(page, 0).is_err() {
        return survived("the page could not be freed");
    }
    load(linear_map::virt(page.start()));
    survived("a free page could be read")
}

fn overrun() -> Failed {
    match vmalloc::vmalloc(PAGE_SIZE) {
        Ok(start) => store(start + PAGE_SIZE, 1),
        Err(error) => return survived(&alloc::format!("{error}")),
    }
    survived("the guard page could be written")
}

fn stack() -> Failed {
    deeper(0);
    survived("the stack has no end")
}

/// Calls itself until the stack is full: each call keeps something in its frame for after the
/// call, so that it can't be made a jump.
#[inline(never)]
#[expect(unconditional_recursion, reason = "that is what it is for")]
fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 16]);
    deeper(black_box(depth) + 1) + frame[black_box(0)]
}

fn text() -> Failed {
    store(image::text().start(), 0);
    survived("the kernel's code could be written")
}

/// A word of the UART at an odd address: Device memory takes aligned accesses alone, whatever
/// SCTLR_EL1.A says (DDI 0487, B2.7.2).
fn device() -> Failed {
    // PL011's flag register (UARTFR), whose reading changes nothing.
    const FLAGS: u64 = 0x18;
    let registers = layout::DEVICES.start();
    let unaligned = move || {
        let address = black_box(registers + (FLAGS + 1)).as_ptr::<u32>();
        // SAFETY: the page of the UART is mapped from there on; the load faults, or reads flags.
        unsafe { cpu::load_unaligned(address) }
    };
    unaligned();
    println!(
        "This QEMU does not check the alignment of accesses to Device memory, as hardware does \
         (versions before 9.0 do not): once more with SCTLR_EL1.A set."
    );
    cpu::check_alignment();
    unaligned();
    survived("an unaligned access to the UART went through")
}

/// A fault whose handler faults.
fn recursion() -> Failed {
    fault::set_before(Some(|_| {
        load(VirtAddr::literal(16));
    }));
    load(VirtAddr::literal(8));
    survived("address 8 could be read")
}
