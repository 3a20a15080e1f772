//! Kernel tests of programs: every case ends as it must, and gives back what it took.

use super::{
    abi::{Call, Case},
    cases,
    copy::{from_user, range, string_from_user, to_user},
    outcome::{BadPointer, Outcome, Reason, Refusal},
    program,
};
use crate::{
    arch::{
        cache::{cache_type, ktests as cache},
        cpu,
        el0::{self, Exit},
        fixup::{probe_read_u64, probe_write_u64},
        frame::{self, ExceptionFrame},
        time,
        user_copy::{UserRange, copy_in, copy_out},
    },
    check, check_eq, kernel_test,
    ktest::{Failure, TestResult},
    mm::{
        address_space::{self, AddressSpace, Protection},
        heap,
        layout::USER,
        linear_map, page_alloc,
        testing::{Usage, logged, must, recorded, trouble},
    },
    task,
    trace::Kind,
};
use alloc::{format, string::String, vec::Vec};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use vmsa::{
    Attributes, Frame, Level, PAGE_SIZE, PageRange, PhysAddr, VirtAddr, esr::ExceptionClass,
};

const RW: Protection = Protection::READ.union(Protection::WRITE);
const RX: Protection = Protection::READ.union(Protection::EXECUTE);

/// Runs a test that leaves everything in use as it found it. The heap, and the pools of each CPU,
/// grow when they are first used, and on which CPU a program runs is up to the scheduler; what is
/// lost is lost every time. So it is run until once nothing more is in use than before.
fn gives_back(test: impl Fn() -> TestResult) -> TestResult {
    const ROUNDS: usize = 6;
    let now = || (Usage::now(), heap::stats().0, address_space::count());
    let mut before = now();
    for _ in 1..ROUNDS {
        test()?;
        let after = now();
        if after == before {
            return Ok(());
        }
        before = after;
    }
    test()?;
    check_eq!(now(), before);
    Ok(())
}

/// Runs a case: it ends as it must, and the report of one that is stopped has `words` in it.
fn case(case: Case, words: &[&str]) -> TestResult {
    gives_back(|| {
        let (report, outcome) = logged(|| cases::run(case));
        let outcome = must!(outcome);
        let as_it_must = cases::is_expected(case, outcome);
        let missing = words.iter().find(|word| !report.contains(**word));
        if !as_it_must || missing.is_some() {
            log::error!(
                "{}: {outcome}; not in the report: {missing:?}\n{report}",
                case.name()
            );
        }
        check!(as_it_must && missing.is_none());
        Ok(())
    })
}

/// A kernel test for each case: what it is called, and what the report has to say.
macro_rules! cases {
    ($($name:ident: $case:ident $words:expr;)*) => {
        $(kernel_test! { "user", $name, { case(Case::$case, &$words) } })*

        /// Every case that there is has a test.
        const fn _is_tested(case: Case) {
            match case {
                $(Case::$case => {})*
                Case::MemoryHog => {}
            }
        }
    };
}

cases! {
    a_program_that_does_nothing_wrong_ends_by_itself: Normal [];
    a_wild_read_is_stopped: WildRead [
        "(wild-read, ", "stopped: read of an address at which nothing is mapped",
        "in 0000000000400000-0000000000402fff r-x",
        "DABT (lower EL), level 0 translation fault, read",
        "address 0000123456789008: nothing is mapped there",
        "TTBR0_EL1: 4k pages", "level 0 [ 36]", "x29: ",
    ];
    a_write_through_null_is_stopped: NullWrite [
        "write to an address", "address 0000000000000000: nothing is mapped there",
    ];
    a_read_of_no_address_is_stopped: NonCanonical [
        "address 0010000000000000: in neither half",
    ];
    a_write_to_code_is_stopped: WriteText [
        "write to memory that does not permit it", "level 3 permission fault, write", "EL0 r-x",
    ];
    execution_of_data_is_stopped: ExecuteData [
        "jump to memory that does not permit it",
        "IABT (lower EL), level 3 permission fault", "EL0 rw-",
    ];
    a_stack_overflow_is_stopped: StackOverflow [
        "write to an address at which nothing is mapped", "in the guard page below the stack",
    ];
    a_use_after_unmap_is_stopped: UseAfterUnmap [
        "address 0000000020001000: nothing is mapped there", "translation fault, write",
    ];
    a_system_call_that_there_is_not_is_stopped: BadCall [
        "stopped: system call 4711, which there is not", "SVC (AArch64)",
        "x2 : 0000000000000003 x1 : 0000000000000002 x0 : 0000000000000001",
    ];
    a_bad_pointer_is_stopped: BadPointer [
        "pointer 0000123456789000 given to a system call: an address at which nothing is mapped",
        "address 0000123456789000: nothing is mapped there",
    ];
    a_pointer_to_the_kernel_is_stopped: KernelPointer [
        "pointer ffff000040200000 given to a system call: an address that is not in the lower half",
        "address ffff000040200000: in the kernel's half",
    ];
    a_pointer_to_code_that_is_to_be_written_is_stopped: ReadOnlyPointer [
        "given to a system call: memory that does not permit it", "r-x",
    ];
    a_read_of_the_kernel_is_stopped: KernelRead [
        "read of an address that is not in the lower half",
        "address ffff000040200000: in the kernel's half",
    ];
    a_jump_into_the_kernel_is_stopped: KernelJump [
        "jump to an address that is not in the lower half",
        "PC ffff800040210000: in the kernel's half",
        "no instruction can be read there",
    ];
    a_privileged_instruction_is_stopped: Privileged [
        "stopped: undefined instruction", ", MRS or MSR", "Unknown/Uncategorized",
    ];
    cache_maintenance_is_stopped: CacheMaintenance [
        "stopped: instruction that EL0 is not granted",
        ", a system instruction", "MSR/MRS (AArch64)",
    ];
    an_undefined_instruction_is_stopped: Undefined ["instruction 00000007, UDF"];
    a_breakpoint_is_stopped: Breakpoint ["stopped: breakpoint 42", "BRK (AArch64)"];
    floating_point_is_stopped: FloatingPoint [
        "stopped: use of a floating point register", "instruction 9e6703e0", "ASIMD",
    ];
    a_jump_to_an_odd_address_is_stopped: MisalignedPc ["stopped: misaligned PC", "PC Alignment"];
    a_misaligned_exclusive_is_stopped: MisalignedData [
        "read of memory, misaligned or failing", "alignment fault",
    ];
    an_endless_loop_is_stopped: EndlessLoop ["stopped: its time was over"];
    a_copy_that_misbehaves_is_stopped_alone: BadChild ["(bad-child, copy of "];
    an_endless_family_is_stopped: EndlessFamily ["stopped: its time was over", "copy of "];
}

/// Whether a failure that was to come in a program's task never came.
static NEVER_CAME: AtomicBool = AtomicBool::new(false);

/// Failures of the running task's allocations, until it is dropped.
struct Failing;

impl Failing {
    fn after(allocations: u64) -> Self {
        assert!(
            page_alloc::fail_after(Some(allocations)),
            "one task at a time"
        );
        Self
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        NEVER_CAME.store(page_alloc::armed(), Relaxed);
        page_alloc::fail_after(None);
    }
}

/// Runs a case whose task has an allocation fail, after so many that succeed.
fn failing(case: Case, allocations: u64) -> Result<Outcome, Failure> {
    const LONG: u64 = 20_000;
    let started = program::start_within(case, LONG, move || Failing::after(allocations));
    Ok(must!(started).join())
}

kernel_test! { "user", a_program_that_takes_all_memory_is_stopped, { gives_back(|| {
    // As if there were no more: to use up what there really is would take too long.
    let (report, outcome) = logged(|| failing(Case::MemoryHog, 3000));
    check!(cases::is_expected(Case::MemoryHog, outcome?));
    check!(report.contains("write to memory that there is not: out of memory"));
    Ok(())
}) } }

/// Whether a program that was told of a failure, or whose task was, may have ended so.
fn is_of_failure(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::NoMemory | Outcome::Failed | Outcome::Exited(0) => true,
        Outcome::Stopped(Reason::Access(_, refusal)) => *refusal == Refusal::OutOfMemory,
        Outcome::Stopped(Reason::BadPointer(bad)) => bad.refusal == Refusal::OutOfMemory,
        _ => false,
    }
}

kernel_test! { "user", a_program_without_memory_is_stopped, {
    // The first allocation fails, then the second, until none is left that the program's task
    // needs.
    let mut ended = Vec::new();
    loop {
        let (report, outcome) = logged(|| failing(Case::BadChild, ended.len() as u64));
        let outcome = outcome?;
        if !is_of_failure(&outcome) {
            log::error!("{outcome}, after {} allocations\n{report}", ended.len());
        }
        check!(is_of_failure(&outcome) && ended.len() < 1000);
        ended.push(outcome);
        if NEVER_CAME.load(Relaxed) {
            break;
        }
    }
    // Loading it fails, and its fork, and pages that it touches; and at last nothing does.
    let of = |wanted: fn(&Outcome) -> bool| ended.iter().filter(|outcome| wanted(outcome)).count();
    check!(of(|outcome| *outcome == Outcome::NoMemory) > 5);
    check!(of(|outcome| matches!(outcome, Outcome::Failed | Outcome::Stopped(_))) > 5);
    check_eq!(ended.last(), Some(&Outcome::Exited(0)));
    // And each of them once more, to see that it gives everything back.
    let count = ended.len() as u64;
    gives_back(|| {
        for n in 0..count {
            let (_, outcome) = logged(|| failing(Case::BadChild, n));
            outcome?;
        }
        Ok(())
    })
} }

kernel_test! { "user", a_program_that_can_not_be_started_is_an_error, { gives_back(|| {
    let mut failed = 0;
    loop {
        let failing = Failing::after(failed);
        let started = program::start(Case::BadCall, 1000);
        drop(failing);
        if let Ok(running) = started {
            let (_, outcome) = logged(|| running.join());
            check!(cases::is_expected(Case::BadCall, outcome));
            break;
        }
        failed += 1;
    }
    // Two pages of its address space at the least, and its stack.
    check!(failed >= 3);
    Ok(())
}) } }

kernel_test! { "user", a_program_has_the_time_that_it_is_given, {
    for limit in [30, 90] {
        let start = time::now();
        let (_, outcome) = logged(|| {
            program::start(Case::EndlessLoop, limit).map(super::running::Running::join)
        });
        let took = (time::now() - start) * 1000 / time::frequency();
        check_eq!(must!(outcome), Outcome::Stopped(Reason::TimeLimit));
        check!(took >= limit);
    }
    Ok(())
} }

kernel_test! { "user", the_kernel_runs_while_programs_never_end, {
    // More of them than there are CPUs: whoever wants a CPU gets it by preemption alone.
    const LIMIT: u64 = 1500;
    let start = time::now();
    let count = cpu::count() + 1;
    let (_, result) = logged(|| {
        let running: Result<Vec<_>, _> = (0..count)
            .map(|_| program::start(Case::EndlessLoop, LIMIT))
            .collect();
        let running = must!(running);
        for _ in 0..3 {
            task::yield_now();
        }
        // None of them can have ended.
        let in_time = (time::now() - start) * 1000 / time::frequency() < LIMIT;
        for running in running {
            check_eq!(running.join(), Outcome::Stopped(Reason::TimeLimit));
        }
        check!(in_time);
        Ok(())
    });
    result
} }

/// Calls `test` with the first of two pages at the start of the lower half, behind which nothing is
/// mapped, in an address space that this task uses.
fn in_space(test: impl Fn(&AddressSpace, VirtAddr) -> TestResult) -> TestResult {
    gives_back(|| {
        let space = must!(AddressSpace::create());
        let pages =
            PageRange::new(USER.start(), 2).ok_or(trouble("two pages of the lower half"))?;
        must!(space.map(pages, RW));
        let _used = space.use_here();
        test(&space, pages.start())
    })
}

/// A range of a program's, as far as a test can be wrong about it.
fn user(address: VirtAddr, length: u64) -> Result<UserRange, Failure> {
    range(address.as_u64(), length).map_err(|_| trouble("a range of the lower half"))
}

kernel_test! { "user", copies_bring_pages_in_and_cross_their_ends, { in_space(|space, start| {
    let text: Vec<u8> = (0..=255).cycle().take(6000).collect();
    let short = [(0, 1), (1, 7), (4093, 3), (4090, 17), (4088, 8), (5, 0)];
    let long = [(0, 6000), (777, 6000)];
    for (offset, length) in short.into_iter().chain(long) {
        let at = user(start + offset, length as u64)?;
        must!(to_user(space, at, &text[..length]));
        let mut back = alloc::vec![0xee; length];
        must!(from_user(space, &mut back, at));
        check!(back == text[..length]);
        // By way of the kernel's own address of the page.
        if length > 0 {
            let leaf = space.leaf(start + offset).and_then(|leaf| leaf.output(Level::L3));
            let frame = leaf.ok_or(trouble("the page was brought in"))?;
            let alias = linear_map::virt(frame) + (start + offset).page_offset();
            check_eq!(must!(crate::arch::fixup::probe_read_u8(alias)), text[0]);
        }
    }
    Ok(())
}) } }

kernel_test! { "user", a_copy_ends_where_the_memory_does, { in_space(|space, start| {
    let end = start + 2 * PAGE_SIZE;
    let mut bytes = [1; 32];
    let refused = |address: VirtAddr, refusal| {
        let address = address.as_u64();
        Err(BadPointer { address, refusal })
    };
    let nothing = |address| refused(address, Refusal::NotMapped);
    must!(to_user(space, user(end - 20, 20)?, &[9; 20]));
    check_eq!(from_user(space, &mut bytes, user(end - 20, 32)?), nothing(end));
    // What there is was copied, the rest left.
    check!(bytes[..20] == [9; 20] && bytes[20..] == [1; 12]);
    check_eq!(to_user(space, user(end - 4, 32)?, &[7; 32]), nothing(end));
    check_eq!(from_user(space, &mut bytes, user(end + 8, 32)?), nothing(end + 8));
    // Read-only memory is read, and not written; a byte at a time as well as by words.
    let second = PageRange::new(start + PAGE_SIZE, 1).ok_or(trouble("the second page"))?;
    must!(space.protect(second, Protection::READ));
    // In a system call there would be an ERET before the next access: no flush of a program's
    // pages has an ISB of its own.
    crate::arch::barrier::isb();
    must!(from_user(space, &mut bytes, user(second.start(), 32)?));
    for length in [1, 32] {
        let result = to_user(space, user(second.start(), length)?, &[5; 32][..length as usize]);
        check_eq!(result, refused(second.start(), Refusal::NotPermitted));
    }
    Ok(())
}) } }

kernel_test! { "user", a_copy_is_made_with_the_rights_of_the_program, { in_space(|_, start| {
    // Nothing is brought in: the copies of arch alone.
    let mut bytes = [0; 16];
    let nothing = trouble("nothing is there yet");
    let stopped = copy_in(&mut bytes, user(start, 16)?).err().ok_or(nothing)?;
    check!(stopped.done == 0 && stopped.fault.is_translation_fault());
    check_eq!(stopped.fault.address(), Some(start));
    let stopped = copy_out(user(start + 4, 3)?, &bytes[..3]).err().ok_or(nothing)?;
    check!(stopped.done == 0 && stopped.fault.is_write());
    Ok(())
}) } }

kernel_test! { "user", strings_end_at_their_zero, { in_space(|space, start| {
    let end = start + 2 * PAGE_SIZE;
    let mut text = [0; 64];
    must!(to_user(space, user(start + PAGE_SIZE - 3, 8)?, b"abcdefg\0"));
    let across = (start + PAGE_SIZE - 3).as_u64();
    check_eq!(string_from_user(space, &mut text, across), Ok(&b"abcdefg"[..]));
    // At the very end of the memory: nothing behind it is looked at.
    must!(to_user(space, user(end - 4, 4)?, b"end\0"));
    check_eq!(string_from_user(space, &mut text, (end - 4).as_u64()), Ok(&b"end"[..]));
    // One without an end; one that is cut; an empty one.
    must!(to_user(space, user(end - 4, 4)?, b"ends"));
    let nothing = BadPointer { address: end.as_u64(), refusal: Refusal::NotMapped };
    check_eq!(string_from_user(space, &mut text, (end - 4).as_u64()), Err(nothing));
    check_eq!(string_from_user(space, &mut text[..3], (end - 4).as_u64()), Ok(&b"end"[..]));
    check_eq!(string_from_user(space, &mut text, start.as_u64()), Ok(&b""[..]));
    check!(string_from_user(space, &mut text, 0xffff_ffff_ffff_fff8).is_err());
    Ok(())
}) } }

kernel_test! { "user", the_kernel_can_not_reach_a_program_by_accident, { in_space(|space, start| {
    must!(to_user(space, user(start, 8)?, &0x1122_3344_5566_7788_u64.to_le_bytes()));
    // PSTATE.PAN, after a fault as well as before it; without FEAT_PAN there is no such protection.
    for _ in 0..2 {
        let read = probe_read_u64(start);
        // SAFETY: the page is the test's own.
        let written = unsafe { probe_write_u64(start, 0x1122_3344_5566_7788) };
        if cpu::features().pan {
            check!(read.is_err_and(|fault| fault.is_permission_fault()));
            check!(written.is_err_and(|fault| fault.is_permission_fault()));
        } else {
            check_eq!(read, Ok(0x1122_3344_5566_7788));
            check_eq!(written, Ok(()));
        }
        // EL0 runs with PSTATE.PAN clear, and an exception that left it alone would leave it so.
        let (_, outcome) = logged(|| cases::run(Case::BadCall));
        must!(outcome);
        // And on another CPU, where there is one.
        if let Some(other) = cpu::others().next() {
            must!(task::migrate_to(other));
        }
    }
    task::unpin();
    let mut bytes = [0; 8];
    must!(from_user(space, &mut bytes, user(start, 8)?));
    check_eq!(u64::from_le_bytes(bytes), 0x1122_3344_5566_7788);
    Ok(())
}) } }

kernel_test! { "user", registers_go_to_el0_and_come_back, { in_space(|space, start| {
    // MRS X1, TPIDRRO_EL0; SVC #17.
    let code = [0xd53b_d061_u32, 0xd400_0221].map(u32::to_le_bytes);
    must!(to_user(space, user(start, 8)?, code.as_flattened()));
    must!(space.protect(PageRange::new(start, 1).ok_or(trouble("the first page"))?, RX));
    let sp = start + 0x1230;
    let mut frame = ExceptionFrame::el0(start, sp);
    for (n, x) in (0u64..).zip(&mut frame.x) {
        *x = n << 32 | 0xabc;
    }
    // Not entered: nothing has changed.
    check_eq!(el0::run(&mut frame, || false), Exit::Stopped);
    check_eq!(frame.elr(), start.as_u64());
    let task = cpu::current_task_ptr();
    let exit = {
        // An exception of EL1 leaves something there, and none must come until EL0 has looked at
        // it.
        let _masked = cpu::mask_interrupts();
        // SAFETY: the kernel has no use for the register but in its vectors.
        unsafe { core::arch::asm!("msr tpidrro_el0, {}", in(reg) 0x5a5a_u64) };
        let exit = el0::run(&mut frame, || true);
        check!(cpu::interrupts_masked());
        exit
    };
    check!(exit == Exit::Exception && !cpu::interrupts_masked());
    check_eq!(cpu::current_task_ptr(), task);
    check_eq!(frame.esr().ec(), ExceptionClass::SvcAarch64);
    check_eq!(frame.esr().iss(), 17);
    check!(frame.kind() == frame::Kind::Synchronous && frame.origin() == frame::Origin::Lower64);
    check_eq!((frame.elr(), frame.sp(), frame.spsr()), ((start + 8).as_u64(), sp.as_u64(), 0));
    for (n, x) in (0u64..).zip(frame.x) {
        check_eq!(x, if n == 1 { 0 } else { n << 32 | 0xabc });
    }
    Ok(())
}) } }

kernel_test! { "user", code_is_published_before_it_can_be_executed, { in_space(|space, start| {
    let page = PageRange::new(start, 1).ok_or(trouble("the first page"))?;
    // RET.
    must!(to_user(space, user(start, 4)?, &0xd65f_03c0_u32.to_le_bytes()));
    let (events, result) = recorded(|| space.protect(page, RX))?;
    must!(result);
    published(space, start, &events)?;
    // A page that comes when it is first fetched from holds zeros, and the instruction caches may
    // hold what was in its frame before.
    let page = PageRange::new(start + PAGE_SIZE, 1).ok_or(trouble("the second page"))?;
    must!(space.protect(page, RX));
    let access = address_space::Access::Execute;
    let (events, result) = recorded(|| space.handle_fault(page.start(), access))?;
    must!(result);
    published(space, page.start(), &events)
}) } }

/// In what was recorded, the leaf of `va` became executable for EL0 once, behind the whole sequence
/// for its frame.
fn published(space: &AddressSpace, va: VirtAddr, events: &[crate::trace::Event]) -> TestResult {
    let opens = |event: &crate::trace::Event| {
        matches!(event.kind, Kind::Store { va: at, new, .. }
            if at == va && new.is_valid() && !new.attributes().contains(Attributes::UXN))
    };
    let at = events
        .iter()
        .position(opens)
        .ok_or(trouble("the leaf became executable"))?;
    check!(!events[at + 1..].iter().any(opens));
    let frame = space.leaf(va).and_then(|leaf| leaf.output(Level::L3));
    let frame: PhysAddr = frame.ok_or(trouble("the page is mapped"))?;
    let alias = linear_map::virt(Frame::containing(frame).start());
    let before = cache::steps(&events[..at]);
    let sequence = cache::sequence(cache_type(), alias);
    check!(
        before
            .windows(sequence.len())
            .any(|steps| steps == sequence)
    );
    Ok(())
}

kernel_test! { "user", system_calls_have_the_numbers_of_the_table, {
    let numbers: Vec<u64> = Call::ALL.iter().map(|call| *call as u64).collect();
    check!(numbers.iter().copied().eq(0..numbers.len() as u64));
    for call in Call::ALL {
        check_eq!(Call::from_number(*call as u64), Some(*call));
    }
    check_eq!(Call::from_number(numbers.len() as u64), None);
    let words: String = format!("{}", Outcome::Stopped(Reason::BadCall(9)));
    check_eq!(words, "stopped: system call 9, which there is not");
    Ok(())
} }

/// The oracle is told where a task goes to EL0: a section that is open there is one that nobody
/// will close.
#[cfg(feature = "oracle")]
mod told {
    use super::*;
    use crate::{mm::lazy, oracle};

    kernel_test! { "user", no_section_is_open_at_el0, { in_space(|space, start| {
        // SVC #0.
        must!(to_user(space, user(start, 4)?, &0xd400_0001_u32.to_le_bytes()));
        must!(space.protect(PageRange::new(start, 1).ok_or(trouble("the first page"))?, RX));
        let mut frame = ExceptionFrame::el0(start, start);
        let exit = oracle::expect(&[oracle::Rule::SectionLeftOpen], || {
            let _section = lazy::section();
            el0::run(&mut frame, || true)
        });
        check_eq!(exit, Exit::Exception);
        Ok(())
    }) } }
}
