//! The cases of Linux's `lib/test_vmalloc.c`, with its names, sizes, counts and parameters; each
//! touches the first byte of what it made. What is drawn at random a seed decides.

use super::{
    areas::{Held, touch},
    meter::{Measured, Trouble, measure, warm_up},
    parameters::{Parameter, Values, parameter},
    report::Line,
    steady::steady,
};
use crate::{
    arch::{cpu, zero::zero},
    mm::vmalloc::{vfree, vmalloc, vmalloc_aligned, vmalloc_huge},
};
use fastrand::Rng;
use vmsa::PAGE_SIZE;

/// How often a case is done where nothing is said. Linux does it a million times; here every round is
/// like every other, or a seed decides it.
const LOOPS: Parameter = parameter("loops", 10_000, 1, 10_000_000);
const SEED: Parameter = parameter("seed", 1, 0, u64::MAX);

/// Of cases without a size.
pub(super) const PLAIN: &[Parameter] = &[LOOPS];
/// Of cases that draw.
pub(super) const DRAWN: &[Parameter] = &[LOOPS, SEED];
/// Of `fix_size`.
pub(super) const FIXED: &[Parameter] = &[
    LOOPS,
    parameter("nr_pages", 1, 1, 4096),
    parameter("use_huge", 0, 0, 1),
];
/// Of `align_shift`, which is done once.
pub(super) const ONCE: &[Parameter] = &[];

/// Prints the steady state of a case.
fn print(
    case: &'static str,
    values: &Values,
    size: Option<u64>,
    body: impl FnMut(u64) -> Result<(), Trouble>,
) -> Measured<()> {
    let measured = steady(values.get("loops"), body)?;
    Line {
        case,
        size: size.map(|pages| ("n", pages)),
        memory: values.memory,
    }
    .steady(measured);
    Ok(())
}

/// `fix_size`: `nr_pages` pages, in blocks with `use_huge`.
pub(super) fn fix_size(values: &Values) -> Measured<()> {
    let pages = values.get("nr_pages");
    let make = if values.get("use_huge") == 1 {
        vmalloc_huge
    } else {
        vmalloc
    };
    print("fix_size", values, Some(pages), |_| {
        let area = make(pages * PAGE_SIZE)?;
        touch(area, 0);
        Ok(vfree(area)?)
    })
}

/// Pages that Linux's `full_fit` fills: as many as may wait for the purge, by CPU.
fn full_fit_areas() -> u64 {
    let cpus = cpu::count() as u64;
    u64::from(u64::BITS - cpus.leading_zeros()) * ((32 << 20) / PAGE_SIZE)
}

/// `full_fit`: the free addresses are holes in which one page with its guard page just fits.
pub(super) fn full_fit(values: &Values) -> Measured<()> {
    let count = full_fit_areas();
    let (mut kept, mut holes) = (
        Held::with_room(count, vfree)?,
        Held::with_room(count, vfree)?,
    );
    for _ in 0..count {
        kept.push(vmalloc(PAGE_SIZE)?);
        holes.push(vmalloc(PAGE_SIZE)?);
    }
    drop(holes);
    print("full_fit", values, None, |_| {
        let area = vmalloc(PAGE_SIZE)?;
        touch(area, 1);
        Ok(vfree(area)?)
    })
}

/// `long_busy_list`: 100 pages and one page, while 15,000 areas are in use.
pub(super) fn long_busy_list(values: &Values) -> Measured<()> {
    const BUSY: u64 = 15_000;
    let mut busy = Held::with_room(BUSY, vfree)?;
    for _ in 0..BUSY {
        busy.push(vmalloc(PAGE_SIZE)?);
    }
    print("long_busy_list", values, None, |_| {
        let first = vmalloc(100 * PAGE_SIZE)?;
        let second = match vmalloc(PAGE_SIZE) {
            Ok(second) => second,
            Err(error) => {
                vfree(first)?;
                return Err(error.into());
            }
        };
        touch(first, 0);
        touch(second, 1);
        vfree(first)?;
        Ok(vfree(second)?)
    })
}

/// `random_size`: 1 to 100 pages.
pub(super) fn random_size(values: &Values) -> Measured<()> {
    let mut rng = Rng::with_seed(values.get("seed"));
    print("random_size", values, None, |_| {
        let area = vmalloc(rng.u64(1..=100) * PAGE_SIZE)?;
        touch(area, 1);
        Ok(vfree(area)?)
    })
}

/// Makes an area that is zeroed, frees it.
fn zeroed(pages: u64, align: u64) -> Result<(), Trouble> {
    let area = vmalloc_aligned(pages * PAGE_SIZE, align)?;
    // SAFETY: the area is new and mapped for as many bytes.
    unsafe { zero(area.as_mut_ptr(), (pages * PAGE_SIZE) as usize) };
    Ok(vfree(area)?)
}

/// `fix_align`: five zeroed pages at a multiple of 32 KiB.
pub(super) fn fix_align(values: &Values) -> Measured<()> {
    const ALIGN: u64 = 32 << 10;
    print("fix_align", values, None, |_| zeroed(5, ALIGN))
}

/// `random_size_align`: 1 to 10 zeroed pages, aligned to a power of two below 2^23, most of them with
/// the same chance.
pub(super) fn random_size_align(values: &Values) -> Measured<()> {
    let mut rng = Rng::with_seed(values.get("seed"));
    print("random_size_align", values, None, |_| {
        // One byte for both, as there.
        let drawn = rng.u64(0..256);
        zeroed(drawn % 10 + 1, 1 << (drawn % 23))
    })
}

/// `align_shift`: one page at a multiple of 2^0, 2^1, and so on, up to the first that is refused, as
/// one is bound to be. A round is the whole.
pub(super) fn align_shift(values: &Values) -> Measured<()> {
    let mut refused = None;
    let mut whole = || -> Result<(), Trouble> {
        refused = None;
        for shift in 0..u64::BITS {
            match vmalloc_aligned(PAGE_SIZE, 1 << shift) {
                Ok(area) => vfree(area)?,
                Err(_) => {
                    refused = Some(shift);
                    break;
                }
            }
        }
        Ok(())
    };
    warm_up(1, |_| whole())?;
    let cost = measure(1, |_| whole())?;
    Line {
        case: "align_shift",
        size: refused.map(|shift| ("refused", u64::from(shift))),
        memory: values.memory,
    }
    .cost(cost);
    Ok(())
}
