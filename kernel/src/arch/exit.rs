//! The end of the machine, with a status that the host program can trust.
//!
//! 16 and 32 are used because QEMU itself ends with 0 on PSCI SYSTEM_OFF and with 1 when it
//! can't start: neither may look like a verdict of ours.

use super::stop;
use qemu_exit::QEMUExit;

/// The exit status for success.
pub const SUCCESS: u8 = 16;
/// The exit status for failure.
pub const FAILURE: u8 = 32;

/// What is done before the end, and may change the status.
#[cfg(feature = "oracle")]
static LAST: spin::Once<fn(u8) -> u8> = spin::Once::new();

/// Installs what is done before the end: it is given the status, and gives back the one that it is
/// to be. The first stays.
#[cfg(feature = "oracle")]
pub fn set_last(last: fn(u8) -> u8) {
    LAST.call_once(|| last);
}

/// Ends QEMU with `status`, through semihosting `SYS_EXIT`. Not inlined: gdb stops here.
/// The other CPUs stop first: what is printed last is what this CPU printed.
#[inline(never)]
pub fn with_status(status: u8) -> ! {
    stop::stop_others();
    #[cfg(feature = "oracle")]
    let status = LAST.get().map_or(status, |last| last(status));
    qemu_exit::AArch64::new().exit(u32::from(status))
}

/// Everything that was asked for was done, and was as expected.
pub fn success() -> ! {
    with_status(SUCCESS)
}

/// Something was not as expected; what it was has been printed.
pub fn failure() -> ! {
    with_status(FAILURE)
}
