//! Checked loads and stores, as a compiler that instruments for KASAN would make them.
//!
//! The shadow is asked first; a forbidden access is reported and not made. What the shadow allows
//! may still fault, which is survived and returned.

use super::{populate::read_shadow, report, shadow};
use crate::arch::{backtrace::from_here, fault::Fault, fixup};
use vmsa::VirtAddr;

/// Why an access was not made.
#[derive(Clone, Copy, Debug)]
pub enum Error {
    /// The shadow forbids it; a report has been printed.
    Kasan(report::Kind),
    /// The machine faulted.
    Fault(Fault),
}

/// Whether an access of `length` bytes at `va` may be made; if not, a report is printed.
///
/// # Errors
/// What kind of bad access it is.
#[inline(never)]
pub fn check(va: VirtAddr, length: u64, write: bool) -> Result<(), report::Kind> {
    if !super::is_on() {
        return Ok(());
    }
    match shadow::first_bad_byte(va, length, read_shadow) {
        None => Ok(()),
        Some(bad) => Err(report::print(va, length, write, bad, from_here())),
    }
}

macro_rules! checked {
    ($load:ident, $store:ident, $type:ident, $read:ident, $write:ident) => {
        /// Loads a value that the shadow allows.
        ///
        /// # Errors
        /// [`Error`]; the load was not made, or faulted.
        #[inline(never)]
        pub fn $load(va: VirtAddr) -> Result<$type, Error> {
            check(va, size_of::<$type>() as u64, false).map_err(Error::Kasan)?;
            fixup::$read(va).map_err(Error::Fault)
        }

        /// Stores a value where the shadow allows it.
        ///
        /// # Errors
        /// [`Error`]; the store was not made, or faulted.
        ///
        /// # Safety
        /// The caller has the right to change what the shadow lets it reach.
        #[inline(never)]
        pub unsafe fn $store(va: VirtAddr, value: $type) -> Result<(), Error> {
            check(va, size_of::<$type>() as u64, true).map_err(Error::Kasan)?;
            // SAFETY: the caller's promise.
            unsafe { fixup::$write(va, value) }.map_err(Error::Fault)
        }
    };
}

checked!(load_u8, store_u8, u8, probe_read_u8, probe_write_u8);
checked!(load_u64, store_u64, u64, probe_read_u64, probe_write_u64);
