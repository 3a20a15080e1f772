//! To and from the memory of the running program.
//!
//! A copy that faults is ended by its fixup (`arch/user_copy.rs`); here the address space is asked
//! about the fault, as it is about one of EL0, and the copy goes on where it stopped. So
//! demand-zero pages and copies on write work for the kernel's accesses as they do for the
//! program's, and both are dealt with in an ordinary task: no handler has to allocate.

use super::outcome::{BadPointer, Refusal};
use crate::{
    arch::{
        barrier,
        user_copy::{self, Stopped, UserRange},
    },
    event,
    mm::address_space::{Access, AddressSpace},
};
use vmsa::PAGE_SIZE;

/// A pointer and a length that the program gave.
///
/// # Errors
/// [`BadPointer`]: not all of it is in the lower half.
pub fn range(address: u64, length: u64) -> Result<UserRange, BadPointer> {
    UserRange::new(address, length).ok_or(BadPointer {
        address,
        refusal: Refusal::NotInLowerHalf,
    })
}

/// Copies from the running program, whose address space is `space`.
///
/// # Errors
/// [`BadPointer`]: the program could not have read it itself. Part of `to` may be written.
pub fn from_user(space: &AddressSpace, to: &mut [u8], from: UserRange) -> Result<(), BadPointer> {
    by_pages(space, from, Access::Read, |at, part| {
        user_copy::copy_in(&mut to[at..at + part.length()], part)
    })
}

/// Copies to the running program.
///
/// # Errors
/// [`BadPointer`]: the program could not have written it itself. Part of it may be written.
pub fn to_user(space: &AddressSpace, to: UserRange, from: &[u8]) -> Result<(), BadPointer> {
    by_pages(space, to, Access::Write, |at, part| {
        user_copy::copy_out(part, &from[at..at + part.length()])
    })
}

/// Copies a string that ends in a zero byte from the running program; what `to` has no room for is
/// left out, as is the zero. Returns the string.
///
/// # Errors
/// [`BadPointer`]: the program could not have read it itself up to its end.
pub fn string_from_user<'t>(
    space: &AddressSpace,
    to: &'t mut [u8],
    address: u64,
) -> Result<&'t [u8], BadPointer> {
    let mut length = 0;
    while length < to.len() {
        // No byte of the next page is looked at before the string has been found to go on there.
        let next = address.wrapping_add(length as u64);
        let in_page = (PAGE_SIZE - next % PAGE_SIZE) as usize;
        let part = in_page.min(to.len() - length);
        let into = &mut to[length..length + part];
        from_user(space, into, range(next, part as u64)?)?;
        if let Some(end) = into.iter().position(|byte| *byte == 0) {
            return Ok(&to[..length + end]);
        }
        length += part;
    }
    Ok(to)
}

/// How often an access is tried.
const MOST_TRIES: u32 = 16;

/// Copies page by page; `copy` gets the offset of each part in the whole.
fn by_pages(
    space: &AddressSpace,
    whole: UserRange,
    access: Access,
    mut copy: impl FnMut(usize, UserRange) -> Result<(), Stopped>,
) -> Result<(), BadPointer> {
    let mut rest = whole;
    let mut tries = 0;
    while rest.length() > 0 {
        let in_page = (PAGE_SIZE - rest.start().page_offset()) as usize;
        let (part, behind) = rest
            .split_at(in_page.min(rest.length()))
            .expect("a part is no longer than the whole");
        tell(part, access);
        let done = match copy(whole.length() - rest.length(), part) {
            Ok(()) => {
                tries = 0;
                rest = behind;
                continue;
            }
            Err(Stopped { done, fault }) => {
                // A page, a copy of it, a walk that missed the store of either: more is a mistake
                // of the kernel's, which is not to hang for it.
                tries = if done == 0 { tries + 1 } else { 0 };
                assert!(tries < MOST_TRIES, "{fault:?} comes again and again");
                resolve(space, &fault, access).map_err(|refusal| BadPointer {
                    address: fault.address_bits(),
                    refusal,
                })?;
                done
            }
        };
        // EL0 would try again through ERET, fault once more if the walk has not seen the store, and
        // be none the worse. An access of the kernel's is tried again right here, and its fault
        // would be warned of as spurious, so it gets what makes an entry good (1-I2V-DSB.ISHST+ISB:
        // Forbidden, and Allowed without either, where there is no FEAT_ETS2).
        barrier::dsb_ishst();
        barrier::isb();
        (_, rest) = rest
            .split_at(done)
            .expect("no more was copied than there is");
    }
    Ok(())
}

/// Tells the oracle of an access that is about to be made.
#[inline(always)]
fn tell(part: UserRange, access: Access) {
    let _ = (part, access);
    event!(Access {
        va: part.start(),
        access: if access == self::Access::Write {
            event::Access::Write
        } else {
            event::Access::Read
        },
    });
}

/// Has the address space see to a fault, if it is one that it can see to.
///
/// # Errors
/// Why the access may not be tried again.
pub fn resolve(
    space: &AddressSpace,
    fault: &crate::arch::fault::Fault,
    access: Access,
) -> Result<(), Refusal> {
    let address = fault.address().filter(|address| !address.is_upper());
    let address = address.ok_or(Refusal::NotInLowerHalf)?;
    if !(fault.is_translation_fault() || fault.is_permission_fault()) {
        return Err(Refusal::NoTranslationFault);
    }
    Ok(space.handle_fault(address, access)?)
}
