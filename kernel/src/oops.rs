//! The end, told so that the reader can find out why: what happened in words, the syndrome, the
//! walk for the address, what is known of the address, registers, the way there, and the state of
//! the current task.
//!
//! A report must not fault. Whatever it reads of memory that may be broken, it reads through
//! `arch::fixup`; and if it breaks all the same, the second report is one line.

use crate::arch::backtrace::{self, Backtrace, Stacks};
use crate::arch::cpu::{self, STACK_SIZE};
use crate::arch::fault::{self, Fault};
use crate::arch::fixup::probe_read_u64;
use crate::arch::frame::{ExceptionFrame, Kind, Origin};
use crate::arch::{exit, image, smp, uart};
use crate::mm::layout::LINEAR;
use crate::{print, println};
use aarch64_cpu::registers::{Readable, TTBR0_EL1, TTBR1_EL1};
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use spin::Once;
use vmsa::esr::ExceptionClass;
use vmsa::walk::WalkResult;
use vmsa::{Attributes, Descriptor, Kind as Entry, PAGE_SIZE, PhysAddr, VirtAddr, walk};

/// What modules above know, for reports. They may print to the writer, and must not fault but
/// through `arch::fixup`, take no lock that the reporting code can hold, and allocate nothing.
#[derive(Debug, Clone, Copy)]
pub struct Hooks {
    /// Says in whole lines what an address is: which page, who freed it, whose guard page.
    pub explain: fn(VirtAddr, &mut dyn Write) -> fmt::Result,
    /// Says in whole lines what state the current task is in.
    pub state: fn(&mut dyn Write) -> fmt::Result,
}

static HOOKS: Once<Hooks> = Once::new();

/// Installs what reports ask. The first stays.
pub fn set_hooks(hooks: Hooks) {
    HOOKS.call_once(|| hooks);
}

/// Reports that have begun.
static BEGUN: AtomicU32 = AtomicU32::new(0);

/// Begins the last report of this machine. If one has begun already, this ends it: the second
/// says `again` in one line, a third says nothing. A CPU that has something to report while another
/// one does stops in here.
fn begin(again: fmt::Arguments<'_>) {
    let running = smp::stop_others();
    let earlier = BEGUN.fetch_add(1, Relaxed);
    uart::last_words();
    if earlier == 0 && running != 0 {
        println!("{running} CPUs did not stop: they have interrupts masked");
    }
    match earlier {
        0 => {
            // No scene wants to hear of what the report itself survives.
            fault::set_before(None);
            fault::set_survived(None);
        }
        1 => {
            println!("while reporting that: {again}");
            exit::failure()
        }
        _ => exit::failure(),
    }
}

/// Reports an exception that nothing can be done about, and ends the machine.
pub fn fatal_exception(frame: &ExceptionFrame) -> ! {
    begin(format_args!("{frame}"));
    print!("{}", Oops(frame));
    exit::failure()
}

/// Reports a panic, and ends the machine.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    // Here, and not where it is printed: the way there has no place in it.
    let trace = backtrace::from_here();
    match info.location() {
        Some(location) => begin(format_args!("panic: {} at {location}", info.message())),
        None => begin(format_args!("panic: {}", info.message())),
    }
    println!("Kernel panic: {}", info.message());
    if let Some(location) = info.location() {
        println!("  at {location}");
    }
    println!("CPU {}, task {}", cpu::id(), cpu::current_task_id());
    print!("Call trace:\n{}{}", CallTrace(trace), State);
    exit::failure()
}

/// A whole report.
struct Oops<'a>(&'a ExceptionFrame);

impl fmt::Display for Oops<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frame = self.0;
        let fault = Fault::of(frame);
        match (frame.origin(), frame.kind()) {
            (Origin::Kernel, Kind::Synchronous) if frame.left_its_stack() => stack(f, frame)?,
            (Origin::Kernel, Kind::Synchronous) => match &fault {
                Some(fault) => writeln!(f, "{}", Title(fault))?,
                None => other(f, frame)?,
            },
            (origin, kind) => writeln!(f, "Unexpected exception: {kind:?} from {origin:?}")?,
        }
        match &fault {
            Some(fault) => write!(f, "{}", Details(fault))?,
            None => writeln!(f, "  ESR = {}", frame.esr())?,
        }
        write!(f, "{}", Registers(frame))?;
        writeln!(f, "Call trace:")?;
        write!(f, "{}", CallTrace(backtrace::of_exception(frame)))?;
        write!(f, "{State}")
    }
}

/// What happened, where the syndrome is not an abort's.
fn other(f: &mut fmt::Formatter<'_>, frame: &ExceptionFrame) -> fmt::Result {
    let pc = frame.elr();
    match frame.esr().ec() {
        ExceptionClass::Unknown => writeln!(f, "Undefined instruction at {pc:016x}"),
        ExceptionClass::BrkAarch64 => writeln!(f, "Unexpected BRK at {pc:016x}"),
        ExceptionClass::PcAlignment => writeln!(f, "Misaligned PC: {:016x}", frame.far_bits()),
        ExceptionClass::SpAlignment => writeln!(f, "Misaligned SP: {:016x}", frame.sp()),
        class => writeln!(f, "Unexpected {class} exception at {pc:016x}"),
    }
}

/// What happened, where SP was not in its stack.
fn stack(f: &mut fmt::Formatter<'_>, frame: &ExceptionFrame) -> fmt::Result {
    let stack = cpu::this_cpu().stack();
    let (sp, bottom) = (frame.sp(), stack.start().as_u64());
    // The frame that entry would have pushed has to fit too.
    let room = bottom + size_of::<ExceptionFrame>() as u64;
    if sp % 16 != 0 {
        write!(f, "Misaligned SP: {sp:016x}")?;
    } else if (bottom.saturating_sub(STACK_SIZE)..room).contains(&sp) {
        write!(f, "Kernel stack overflow: SP {sp:016x}")?;
    } else {
        write!(f, "SP is not in its stack: {sp:016x}")?;
    }
    let top = stack.last_byte().as_u64();
    writeln!(f, ", stack {bottom:016x}-{top:016x}, guard page below")
}

/// What happened, in Linux's words.
struct Title<'a>(&'a Fault);

impl fmt::Display for Title<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = self.0;
        let what = if fault.is_permission_fault() {
            match (fault.is_fetch(), fault.is_write()) {
                (true, _) => "execute from non-executable memory",
                (_, true) => "write to read-only memory",
                _ => "read from unreadable memory",
            }
        } else if fault.address_bits() < PAGE_SIZE {
            "NULL pointer dereference"
        } else if fault.is_translation_fault() {
            "paging request"
        } else {
            "access"
        };
        let address = fault.address_bits();
        write!(
            f,
            "Unable to handle kernel {what} at virtual address {address:016x}"
        )
    }
}

/// The syndrome, the walk, and what is known of the address: several lines.
struct Details<'a>(&'a Fault);

impl fmt::Display for Details<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(info) = self.0.esr.mem_abort_info() {
            writeln!(f, "{info}")?;
        }
        let Some(address) = self.0.address() else {
            return writeln!(
                f,
                "The address is not canonical: neither half translates it"
            );
        };
        write!(f, "{}", TableWalk(address))?;
        match HOOKS.get() {
            Some(hooks) => (hooks.explain)(address, f),
            None => Ok(()),
        }
    }
}

/// A report of a fault that was survived: what an oops says of the fault, without the rest.
/// Scenes print it.
#[derive(Debug)]
pub struct Survived<'a>(pub &'a Fault);

impl fmt::Display for Survived<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", Title(self.0))?;
        write!(f, "{}", Details(self.0))
    }
}

/// The walk for an address, one line a level.
#[derive(Debug)]
pub struct TableWalk(pub VirtAddr);

impl fmt::Display for TableWalk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// `TTBRn_EL1.BADDR` without the ASID and CnP.
        const BADDR: u64 = 0x0000_ffff_ffff_f000;
        let (name, ttbr) = if self.0.is_upper() {
            ("TTBR1_EL1", TTBR1_EL1.get())
        } else {
            ("TTBR0_EL1", TTBR0_EL1.get())
        };
        let root = PhysAddr::new(ttbr & BADDR).unwrap_or(PhysAddr::literal(0));
        writeln!(f, "{name}: 4k pages, 48-bit VAs, root at {root}")?;
        let mut unreadable = None;
        let walk = walk(root, self.0, |entry| {
            read_entry(entry).unwrap_or_else(|| {
                unreadable = Some(entry);
                Descriptor::INVALID
            })
        });
        for step in walk.steps() {
            let (level, index) = (step.level, step.level.index(self.0));
            write!(f, "  {level} [{index:3}] at {} = ", step.entry)?;
            if unreadable == Some(step.entry) {
                writeln!(f, "not readable")?;
                continue;
            }
            let bits = step.descriptor.bits();
            write!(f, "{bits:016x} ")?;
            match step.descriptor.kind(step.level) {
                Entry::Table(table) => writeln!(f, "table at {table}")?,
                Entry::Block(output) => {
                    writeln!(f, "block at {output}, {}", Rights(step.descriptor))?;
                }
                Entry::Page(output) => {
                    writeln!(f, "page at {output}, {}", Rights(step.descriptor))?;
                }
                Entry::Reserved => writeln!(f, "reserved encoding")?,
                Entry::Invalid if step.descriptor.is_none() => writeln!(f, "nothing")?,
                Entry::Invalid => writeln!(f, "not valid, other bits set")?,
            }
        }
        if let WalkResult::Mapped { output, .. } = walk.result() {
            writeln!(f, "  now translates to {output}")?;
        }
        Ok(())
    }
}

/// What EL1 may do through an entry; and what EL0 may, if it may anything.
struct Rights(Descriptor);

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attributes = self.0.attributes();
        f.write_str(if attributes.is_writable_el1() {
            "RW"
        } else {
            "ro"
        })?;
        f.write_str(if attributes.is_executable_el1() {
            " x"
        } else {
            " NX"
        })?;
        if !attributes.contains(Attributes::AP_EL0) {
            return Ok(());
        }
        let write = ["rw", "r-"][usize::from(attributes.contains(Attributes::AP_READ_ONLY))];
        let execute = ["x", "-"][usize::from(attributes.contains(Attributes::UXN))];
        write!(f, ", EL0 {write}{execute}")
    }
}

/// Reads a table entry by its physical address, through whichever mapping there is: the linear
/// map, or before it the image (which holds the boot tables) or the early window.
pub fn read_entry(entry: PhysAddr) -> Option<Descriptor> {
    let in_image = image::physical()
        .contains(&entry)
        .then_some(boot::IMAGE_OFFSET);
    [
        Some(LINEAR.start().as_u64()),
        in_image,
        Some(boot::WINDOW_OFFSET),
    ]
    .into_iter()
    .flatten()
    .filter_map(|offset| VirtAddr::new(offset + entry.as_u64()))
    .find_map(|address| probe_read_u64(address).ok())
    .map(Descriptor::from_bits)
}

/// The registers of what was interrupted.
#[derive(Debug)]
pub struct Registers<'a>(pub &'a ExceptionFrame);

impl fmt::Display for Registers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frame = self.0;
        writeln!(f, "CPU {}, task {}", cpu::id(), cpu::current_task_id())?;
        writeln!(f, "pstate: {}", Pstate(frame.spsr()))?;
        writeln!(f, "pc : [<{:016x}>]", frame.elr())?;
        writeln!(f, "lr : [<{:016x}>]", frame.x[30])?;
        write!(f, "sp : {:016x}", frame.sp())?;
        for (n, value) in frame.x.iter().enumerate().take(30).rev() {
            let gap = if n % 3 == 2 { "\n" } else { " " };
            write!(f, "{gap}x{n:<2}: {value:016x}")?;
        }
        writeln!(f)
    }
}

/// PSTATE as SPSR_EL1 has it: the value, the conditions and the masks by letter, upper case where
/// set.
struct Pstate(u64);

impl fmt::Display for Pstate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x} (", self.0)?;
        for (letter, bit) in [('n', 31), ('z', 30), ('c', 29), ('v', 28)] {
            flag(f, letter, self.0 >> bit & 1 != 0)?;
        }
        f.write_char(' ')?;
        for (letter, bit) in [('d', 9), ('a', 8), ('i', 7), ('f', 6)] {
            flag(f, letter, self.0 >> bit & 1 != 0)?;
        }
        let (el, sp) = (self.0 >> 2 & 0b11, if self.0 & 1 != 0 { 'h' } else { 't' });
        write!(f, " EL{el}{sp})")
    }
}

/// A letter, in upper case if `set`.
fn flag(f: &mut fmt::Formatter<'_>, letter: char, set: bool) -> fmt::Result {
    f.write_char(if set {
        letter.to_ascii_uppercase()
    } else {
        letter
    })
}

/// The places of a backtrace, one a line, from newest to oldest.
struct CallTrace<S>(Backtrace<S>);

impl<S: Stacks + Clone> fmt::Display for CallTrace<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut places = self.0.clone();
        for place in places.by_ref() {
            writeln!(f, "  {place}")?;
        }
        if places.was_cut() {
            writeln!(f, "  ...")
        } else {
            Ok(())
        }
    }
}

/// What the hook says of the current task.
struct State;

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match HOOKS.get() {
            Some(hooks) => (hooks.state)(f),
            None => Ok(()),
        }
    }
}
