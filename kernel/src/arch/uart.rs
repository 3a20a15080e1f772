//! The console: `print!`, `println!`, and where `log` messages go.
//!
//! Until the UART is mapped, and where something broke before it was, text goes through
//! semihosting instead: never lost, only slow.

use super::cpu::{self, InterruptsMasked};
use super::lock::Mutex;
use super::semihosting::DebugChannel;
use arm_pl011_uart::{
    DataBits, LineConfig, PL011Registers, Parity, StopBits, Uart, UniqueMmioPointer,
};
use core::fmt::{self, Write};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};
use log::{Level, LevelFilter, Log, Metadata, Record};
use vmsa::VirtAddr;

/// The rate of `UARTCLK` on the `virt` board in Hz (`apb-pclk` in its device tree).
const CLOCK: u32 = 24_000_000;
/// Baud. QEMU ignores it.
const BAUD: u32 = 115_200;

/// The address of the registers, or 0.
static BASE: AtomicUsize = AtomicUsize::new(0);
/// Held while one piece of text is written, so that CPUs do not mix theirs.
static LOCK: Mutex<()> = Mutex::new(());
/// The CPU that holds the lock, plus one; 0 for none.
static OWNER: AtomicU32 = AtomicU32::new(0);
/// The machine is ending: nobody waits for the lock any more.
static LAST_WORDS: AtomicBool = AtomicBool::new(false);

/// Turns the UART on and sends all text there.
///
/// # Errors
///
/// The driver's, if the line settings can't be had from the clock.
///
/// # Safety
///
/// `base` is where the registers of a PL011 are mapped, as Device memory, for good; no one else
/// uses them.
pub unsafe fn init(base: VirtAddr) -> Result<(), arm_pl011_uart::Error> {
    // SAFETY: the caller's promise.
    let mut uart = unsafe { uart_at(base.as_mut_ptr()) };
    let line = LineConfig {
        data_bits: DataBits::Bits8,
        parity: Parity::None,
        stop_bits: StopBits::One,
    };
    uart.enable(line, BAUD, CLOCK)?;
    BASE.store(base.as_mut_ptr::<u8>().addr(), Relaxed);
    Ok(())
}

/// The driver for the registers at `base`.
///
/// # Safety
///
/// PL011 registers are mapped there, and no other driver uses them at the same time.
unsafe fn uart_at(base: *mut PL011Registers) -> Uart<'static> {
    let registers = NonNull::new(base).expect("device mappings are in the upper half");
    // SAFETY: the caller's promise.
    Uart::new(unsafe { UniqueMmioPointer::new(registers) })
}

/// The console, held by this CPU; interrupts are masked meanwhile, so that no handler waits for it.
struct Console {
    _masked: InterruptsMasked,
    locked: bool,
}

impl Console {
    /// Waits for the console. If this CPU holds it already, something that was being formatted
    /// faulted and is being reported: text may mix, but nothing waits for itself.
    fn take() -> Self {
        let masked = cpu::mask_interrupts();
        let me = cpu::id() + 1;
        if LAST_WORDS.load(Relaxed) || OWNER.load(Relaxed) == me {
            return Self {
                _masked: masked,
                locked: false,
            };
        }
        core::mem::forget(LOCK.lock());
        OWNER.store(me, Relaxed);
        Self {
            _masked: masked,
            locked: true,
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if self.locked {
            OWNER.store(0, Relaxed);
            // SAFETY: `take` locked it and forgot the guard; this is the guard.
            unsafe { LOCK.force_unlock() };
        }
    }
}

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match BASE.load(Relaxed) {
            0 => DebugChannel.write_str(text),
            base => {
                // SAFETY: `init` stored the address and its caller vouched for it. Who is here
                // holds the lock, or is the only one left who writes.
                let mut uart = unsafe { uart_at(core::ptr::with_exposed_provenance_mut(base)) };
                uart.write_str(text)
            }
        }
    }
}

/// One byte from the UART, if one has arrived: never waits.
///
/// # Errors
///
/// The driver's, for a line error.
pub fn read_byte() -> Result<Option<u8>, arm_pl011_uart::Error> {
    let _console = Console::take();
    match BASE.load(Relaxed) {
        0 => Ok(None),
        base => {
            // SAFETY: as in `write_str`.
            let mut uart = unsafe { uart_at(core::ptr::with_exposed_provenance_mut(base)) };
            uart.read_word()
        }
    }
}

/// From now on text is written without waiting for anyone: the machine is about to end, and who
/// holds the console may never give it back.
pub fn last_words() {
    LAST_WORDS.store(true, Relaxed);
}

/// Writes formatted text to the console; what `print!` calls. Not inlined into each of them.
#[inline(never)]
pub fn print(text: fmt::Arguments<'_>) {
    // Neither sink has an error to give.
    let _ = Console::take().write_fmt(text);
}

/// Prints to the console.
#[macro_export]
macro_rules! print {
    ($($text:tt)*) => { $crate::arch::uart::print(format_args!($($text)*)) };
}

/// Prints to the console, and a newline.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($text:tt)*) => { $crate::arch::uart::print(format_args!("{}\n", format_args!($($text)*))) };
}

/// Something that is shown each message, and says whether it is to be printed as well.
pub type Tap = fn(Level, &fmt::Arguments<'_>) -> bool;

/// What reads messages: kernel tests, and random operation.
static TAP: Mutex<Option<Tap>> = Mutex::new(None);

/// Sets or takes away what is shown each message; gives back what was there.
pub fn set_tap(tap: Option<Tap>) -> Option<Tap> {
    let _masked = cpu::mask_interrupts();
    core::mem::replace(&mut *TAP.lock(), tap)
}

/// The target of messages that are whole reports.
pub const REPORT: &str = "report";

/// The sink of the `log` crate.
struct Messages;

impl Log for Messages {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // Copied out: what it is shown may fault while it is formatted, and log again. With
        // interrupts masked: a handler may log.
        let tap = {
            let _masked = cpu::mask_interrupts();
            *TAP.lock()
        };
        if tap.is_some_and(|tap| !tap(record.level(), record.args())) {
            return;
        }
        let prefix = match record.level() {
            // A report of many lines has a head of its own.
            _ if record.target() == REPORT => "",
            Level::Error => "error: ",
            Level::Warn => "warning: ",
            Level::Info | Level::Debug | Level::Trace => "",
        };
        println!("{prefix}{}", record.args());
    }

    fn flush(&self) {}
}

/// Sends the messages of the `log` crate to the console, from level info up.
pub fn init_log() {
    // The only error is that there is a logger already, which then is this one.
    let _ = log::set_logger(&Messages);
    log::set_max_level(LevelFilter::Info);
}
