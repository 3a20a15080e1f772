//! What a program may do: each part exercises one promise, and checks it.

use crate::{
    abi::{Ended, Error},
    call::{
        CODE, CONSTANT, DATA, Result, execute, exit, fail, fork, map, peek, poke, protect, unmap,
        wait, wait_at, write, yield_now,
    },
};
use core::{arch::asm, ffi::CStr, hint::black_box};

/// Bytes of a page.
const PAGE: u64 = 4096;
/// Where the program maps memory of its own.
const MEMORY: u64 = 0x2000_0000;
/// Words at the start of a page and close to its end.
const WORDS: [u64; 3] = [0, 8, PAGE - 8];

/// Part of the file, and part of what is not in it.
static mut INITIALISED: [u64; 2] = [0x0123_4567_89ab_cdef, 0];
static mut ZERO: [u64; 1024] = [0; 1024];

/// A part: what is said if it fails, and what it does, which gives back whether all is as it should
/// be.
type Part = (&'static CStr, fn() -> Result<bool>);

const PARTS: [Part; 9] = [
    (c"its data is not as the file has it", data),
    (
        c"new memory did not read as zeros, or did not keep what was written",
        demand_zero,
    ),
    (
        c"a copy and its program share what one of them has written",
        copy_on_write,
    ),
    (c"copies of copies are not copies", copies_of_copies),
    (
        c"what was unmapped is still there, or more was unmapped",
        unmapping,
    ),
    (
        c"a change of protection did not take effect, or took too much",
        protection,
    ),
    (c"what was written is not what is executed", code),
    (
        c"a system call that can't be done was not refused",
        refusals,
    ),
    (
        c"a register changed in a system call or in an interrupt",
        registers,
    ),
];

/// Runs every part. `dirt` has a bit set if the kernel left anything in a register.
pub fn run(dirt: u64) -> ! {
    if dirt != 0 {
        fail(c"the kernel left something in a register");
    }
    for (what, part) in PARTS {
        if part() != Ok(true) {
            fail(what);
        }
    }
    write(b"all of the program's checks hold\n");
    exit(0)
}

/// Runs `action` in a copy, which ends with status 0 if that returns true; returns how it ended.
fn in_copy(action: impl FnOnce() -> Result<bool>) -> Result<Ended> {
    match fork()? {
        0 => exit(u64::from(action() != Ok(true))),
        child => wait(child),
    }
}

/// The copy has found nothing wrong.
fn fine(ended: Ended) -> bool {
    (ended.how, ended.status) == (Ended::EXITED, 0)
}

/// The copy was stopped.
fn stopped(ended: Ended) -> bool {
    ended.how == Ended::STOPPED
}

fn data() -> Result<bool> {
    let (initialised, zero) = (&raw mut INITIALISED, &raw mut ZERO);
    // SAFETY: the program has one thread, and nothing else refers to them.
    let (initialised, zero) = unsafe { (&mut *initialised, &mut *zero) };
    let right = black_box(&initialised)[0] == 0x0123_4567_89ab_cdef;
    let zeros = black_box(&zero).iter().all(|word| *word == 0);
    initialised[1] = black_box(5);
    zero[1023] = black_box(6);
    Ok(right && zeros && black_box(initialised)[1] == 5 && black_box(zero)[1023] == 6)
}

fn demand_zero() -> Result<bool> {
    const PAGES: u64 = 20;
    map(MEMORY, PAGES * PAGE, DATA)?;
    let places = || (0..PAGES).flat_map(|n| WORDS.map(|word| MEMORY + n * PAGE + word));
    // Half of them are read first, half written.
    let zeros = places()
        .filter(|place| place & PAGE != 0)
        .all(|place| peek(place) == 0);
    places().for_each(|place| poke(place, !place));
    let kept = places().all(|place| peek(place) == !place);
    // Between the words nothing was written.
    let between = (0..PAGES).all(|n| peek(MEMORY + n * PAGE + 16) == 0);
    // The kernel reads, and writes, what nobody has touched, across the end of a page.
    map(MEMORY + PAGES * PAGE, 2 * PAGE, DATA)?;
    let straddling = MEMORY + (PAGES + 1) * PAGE - 8;
    let child = fork()?;
    if child == 0 {
        exit(77);
    }
    wait_at(child, straddling)?;
    let told = peek(straddling) == Ended::EXITED && peek(straddling + 8) == 77;
    unmap(MEMORY, (PAGES + 2) * PAGE)?;
    Ok(zeros && kept && between && told)
}

fn copy_on_write() -> Result<bool> {
    const PAGES: u64 = 8;
    map(MEMORY, PAGES * PAGE, DATA)?;
    let page = |n: u64| MEMORY + n * PAGE;
    // The last is not touched before there is a copy.
    (0..PAGES - 1).for_each(|n| poke(page(n), n + 1));
    let child = fork()?;
    if child == 0 {
        // Now and then the program has the CPU first.
        yield_now();
        let inherited = (0..PAGES - 1).all(|n| peek(page(n)) == n + 1) && peek(page(7)) == 0;
        (0..PAGES).for_each(|n| poke(page(n), 100 + n));
        yield_now();
        let own = (0..PAGES).all(|n| peek(page(n)) == 100 + n);
        exit(u64::from(!(inherited && own)));
    }
    poke(page(0), 50);
    let kept = (1..PAGES - 1).all(|n| peek(page(n)) == n + 1);
    // Where the kernel writes, a copy is made as well.
    let ended = page(3) + 64;
    wait_at(child, ended)?;
    let told = peek(ended) == Ended::EXITED && peek(ended + 8) == 0;
    let still = peek(page(0)) == 50 && (1..PAGES - 1).all(|n| peek(page(n)) == n + 1);
    // Nobody else has them any more, and they can be written to without a copy.
    (0..PAGES).for_each(|n| poke(page(n), 200 + n));
    let last = (0..PAGES).all(|n| peek(page(n)) == 200 + n);
    unmap(MEMORY, PAGES * PAGE)?;
    Ok(kept && told && still && last)
}

fn copies_of_copies() -> Result<bool> {
    map(MEMORY, PAGE, DATA)?;
    poke(MEMORY, 1);
    let ended = in_copy(|| {
        poke(MEMORY, 2);
        let inner = in_copy(|| {
            let inherited = peek(MEMORY) == 2;
            poke(MEMORY, 3);
            Ok(inherited && peek(MEMORY) == 3)
        })?;
        Ok(fine(inner) && peek(MEMORY) == 2)
    })?;
    // Three at once, which all write to the same addresses.
    let mut children = [0; 3];
    for (n, child) in (0u64..).zip(&mut children) {
        *child = fork()?;
        if *child == 0 {
            for round in 0..50 {
                poke(MEMORY, n << 32 | round);
                yield_now();
                if peek(MEMORY) != n << 32 | round {
                    exit(1);
                }
            }
            exit(0);
        }
    }
    let mut all = true;
    // The last first: they end in no certain order.
    for child in children.into_iter().rev() {
        all &= fine(wait(child)?);
    }
    let own = peek(MEMORY) == 1;
    unmap(MEMORY, PAGE)?;
    Ok(fine(ended) && all && own)
}

fn unmapping() -> Result<bool> {
    map(MEMORY, 5 * PAGE, DATA)?;
    (0..5).for_each(|n| poke(MEMORY + n * PAGE, n + 1));
    unmap(MEMORY + 2 * PAGE, PAGE)?;
    let around = [0, 1, 3, 4]
        .iter()
        .all(|n| peek(MEMORY + n * PAGE) == n + 1);
    let read = in_copy(|| Ok(peek(MEMORY + 2 * PAGE) != 0))?;
    // The same addresses are new memory.
    map(MEMORY + 2 * PAGE, PAGE, DATA)?;
    let zero = peek(MEMORY + 2 * PAGE) == 0;
    unmap(MEMORY, 5 * PAGE)?;
    let all = in_copy(|| Ok(peek(MEMORY) != 0))?;
    Ok(around && stopped(read) && zero && stopped(all))
}

fn protection() -> Result<bool> {
    map(MEMORY, 3 * PAGE, DATA)?;
    (0..3).for_each(|n| poke(MEMORY + n * PAGE, n + 1));
    let middle = MEMORY + PAGE;
    protect(middle, PAGE, CONSTANT)?;
    let readable = peek(middle) == 2;
    let written = in_copy(|| {
        poke(middle, 9);
        Ok(true)
    })?;
    let executed = in_copy(|| Ok(execute(middle) != 0))?;
    poke(MEMORY, 10);
    poke(MEMORY + 2 * PAGE, 30);
    protect(middle, PAGE, DATA)?;
    poke(middle, 20);
    let values = (0..3).all(|n| peek(MEMORY + n * PAGE) == (n + 1) * 10);
    unmap(MEMORY, 3 * PAGE)?;
    Ok(readable && stopped(written) && stopped(executed) && values)
}

/// Writes a function that returns `value` to `address`.
fn write_function(address: u64, value: u16) {
    /// `MOVZ W0, #imm16`: the immediate is in bits 20 to 5 (DDI 0487, C6.2.227).
    const MOVZ_W0: u64 = 0x5280_0000;
    /// `RET`.
    const RET: u64 = 0xd65f_03c0;
    poke(address, MOVZ_W0 | u64::from(value) << 5 | RET << 32);
}

fn code() -> Result<bool> {
    map(MEMORY, 2 * PAGE, DATA)?;
    // At the end of a page and at the start of the next: every line counts.
    let places = [MEMORY + PAGE - 8, MEMORY + PAGE];
    let mut right = true;
    for round in 0..3 {
        for (value, place) in (round * 16..).zip(places) {
            write_function(place, value);
        }
        protect(MEMORY, 2 * PAGE, CODE)?;
        for (value, place) in (round * 16..).zip(places) {
            right &= execute(place) == u64::from(value);
        }
        // A copy has the code as well, and nobody can change it.
        right &= fine(in_copy(|| {
            Ok(execute(MEMORY + PAGE) == u64::from(round * 16 + 1))
        })?);
        right &= stopped(in_copy(|| {
            write_function(MEMORY + PAGE, 7);
            Ok(true)
        })?);
        protect(MEMORY, 2 * PAGE, DATA)?;
    }
    unmap(MEMORY, 2 * PAGE)?;
    Ok(right)
}

fn refusals() -> Result<bool> {
    const KERNEL: u64 = 0xffff_0000_0000_0000;
    const LOWER_HALF_END: u64 = 1 << 48;
    map(MEMORY, 2 * PAGE, DATA)?;
    let refused = [
        (map(MEMORY + 1, PAGE, DATA), Error::BadRange),
        (map(MEMORY - PAGE, PAGE + 1, DATA), Error::BadRange),
        (map(MEMORY - PAGE, 0, DATA), Error::BadRange),
        (map(MEMORY + PAGE, PAGE, DATA), Error::BadRange),
        (map(MEMORY - PAGE, 2 * PAGE, DATA), Error::BadRange),
        (map(KERNEL, PAGE, DATA), Error::BadRange),
        (map(LOWER_HALF_END - PAGE, 2 * PAGE, DATA), Error::BadRange),
        (map(1 << 52, PAGE, DATA), Error::BadRange),
        (map(PAGE, u64::MAX - PAGE + 1, DATA), Error::BadRange),
        (map(MEMORY - PAGE, PAGE, DATA | CODE), Error::Forbidden),
        (map(MEMORY - PAGE, PAGE, 8), Error::Forbidden),
        (map(MEMORY - PAGE, PAGE, 2), Error::Forbidden),
        (protect(MEMORY, PAGE, DATA | CODE), Error::Forbidden),
        (protect(MEMORY + PAGE, 2 * PAGE, CONSTANT), Error::BadRange),
        (protect(KERNEL, PAGE, DATA), Error::BadRange),
        (unmap(MEMORY + 8, PAGE), Error::BadRange),
        (unmap(KERNEL, PAGE), Error::BadRange),
        (wait(1 << 40).map(drop), Error::NoChild),
        (wait(0).map(drop), Error::NoChild),
    ];
    let all = refused
        .into_iter()
        .all(|(result, error)| result == Err(error));
    // Nothing has changed.
    poke(MEMORY, 1);
    poke(MEMORY + PAGE, 2);
    let child = fork()?;
    if child == 0 {
        exit(0x1_2345);
    }
    let status = wait(child)?.status == 0x45;
    let twice = wait(child) == Err(Error::NoChild);
    unmap(MEMORY, 2 * PAGE)?;
    Ok(all && status && twice)
}

/// Has two copies change what is in every register, and check it after each of many system calls
/// and for as long as it takes to be interrupted.
fn registers() -> Result<bool> {
    let child = fork()?;
    let seed = if child == 0 { 3 } else { 5 };
    let mut changed = 0;
    for round in 0..20 {
        changed |= all_registers(seed << 32 | round);
    }
    if child == 0 {
        exit(u64::from(changed != 0));
    }
    Ok(fine(wait(child)?) && changed == 0)
}

/// Fills the registers with numbers made of `seed`, makes a system call, spins for a while, and
/// gives back a bit set for whatever is different afterwards.
fn all_registers(seed: u64) -> u64 {
    let changed;
    // SAFETY: what is changed is given up, but for x19 and x29, which the compiler keeps for
    // itself, and which are put back. TPIDR_EL0 is not used by anything else.
    unsafe {
        asm!(
            "stp x19, x29, [sp, #-16]!",
            "msr tpidr_el0, x0",
            ".irp n, 1,2,3,4,5,6,7,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30",
            "add x\\n, x0, #(\\n * 16)",
            ".endr",
            "mov x8, {yield_call}",
            "str x0, [sp, #-16]!",
            "subs xzr, x1, x1",
            "svc #0",
            "cset x0, ne",
            // Long enough for a time slice to end now and then.
            "mov x8, #0x8000",
            "2: subs x8, x8, #1",
            "b.ne 2b",
            "ldr x8, [sp], #16",
            ".irp n, 1,2,3,4,5,6,7,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30",
            "sub x\\n, x\\n, x8",
            "sub x\\n, x\\n, #(\\n * 16)",
            "orr x0, x0, x\\n",
            ".endr",
            "mrs x1, tpidr_el0",
            "sub x1, x1, x8",
            "orr x0, x0, x1",
            "ldp x19, x29, [sp], #16",
            yield_call = const crate::abi::Call::Yield as u64,
            inout("x0") seed => changed,
            out("x1") _, out("x2") _, out("x3") _, out("x4") _, out("x5") _, out("x6") _,
            out("x7") _, out("x8") _, out("x9") _, out("x10") _, out("x11") _, out("x12") _,
            out("x13") _, out("x14") _, out("x15") _, out("x16") _, out("x17") _, out("x18") _,
            out("x20") _, out("x21") _, out("x22") _, out("x23") _, out("x24") _, out("x25") _,
            out("x26") _, out("x27") _, out("x28") _, out("x30") _,
        );
    }
    changed
}
