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

/// Ends QEMU with `status`, through semihosting `SYS_EXIT`. Not inlined: gdb stops here.
/// The other CPUs stop first: what is printed last is what this CPU printed.
#[inline(never)]
pub fn with_status(status: u8) -> ! {
    stop::stop_others();
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
