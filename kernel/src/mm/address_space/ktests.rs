//! Kernel tests of address spaces. A program's accesses are made by hand: `AT S1E0R` and `AT S1E0W`
//! say where one would go, the linear map has what is there, and the oracle is told.

mod random;

use super::*;
use crate::{check, check_eq, kernel_test, ktest::TestResult, mm::testing::must};
use core::arch::asm;

const RW: Protection = Protection::READ.union(Protection::WRITE);

/// Pages from the first that a program can have on.
fn pages(first: u64, count: u64) -> PageRange {
    PageRange::new(USER.page(first), count).expect("a part of the lower half")
}

/// Where an access of a program would go, by the tables of this CPU; `None` if it would fault.
fn translate(va: VirtAddr, access: Access) -> Option<PhysAddr> {
    let par: u64;
    let _masked = crate::arch::cpu::mask_interrupts();
    // SAFETY: an address translation instruction accesses no memory but the tables; the ISB makes
    // its result readable. Nobody else uses PAR_EL1 while interrupts are masked.
    unsafe {
        match access {
            Access::Read | Access::Execute => asm!(
                "at s1e0r, {va}", "isb", "mrs {par}, par_el1",
                va = in(reg) va.as_u64(), par = out(reg) par, options(nostack, preserves_flags),
            ),
            Access::Write => asm!(
                "at s1e0w, {va}", "isb", "mrs {par}, par_el1",
                va = in(reg) va.as_u64(), par = out(reg) par, options(nostack, preserves_flags),
            ),
        }
    }
    // PAR_EL1.F is bit 0; PA is [51:12].
    (par & 1 == 0)
        .then(|| PhysAddr::new(par & 0x0000_ffff_ffff_f000 | va.page_offset()))
        .flatten()
}

/// Makes an access of a program: where it goes, after the faults that it takes.
fn access(space: &AddressSpace, va: VirtAddr, access: Access) -> Result<VirtAddr, FaultError> {
    // A page, and a copy of it at most.
    for _ in 0..3 {
        // The attempt: what it may go by is there whether it faults or not.
        tell(va, access);
        if let Some(pa) = translate(va, access)
            && (access != Access::Execute || is_executable(space, va))
        {
            return Ok(virt(pa));
        }
        space.handle_fault(va, access)?;
        // What the return to the program would be.
        crate::arch::barrier::isb();
    }
    unreachable!("a fault that was dealt with comes again at {va}")
}

/// Of execution the instruction says nothing.
fn is_executable(space: &AddressSpace, va: VirtAddr) -> bool {
    let leaf = space.leaf(va);
    leaf.is_some_and(|leaf| !leaf.attributes().contains(Attributes::UXN))
}

/// Tells the oracle of an access.
fn tell(_va: VirtAddr, _access: Access) {
    #[cfg(feature = "oracle")]
    {
        use mmu_oracle::event::Access as Told;
        let access = match _access {
            Access::Read => Told::Read,
            Access::Write => Told::Write,
            Access::Execute => Told::Execute,
        };
        event!(Access { va: _va, access });
    }
}

fn write(space: &AddressSpace, va: VirtAddr, value: u64) -> Result<(), FaultError> {
    let at = access(space, va, Access::Write)?;
    // SAFETY: a page of the address space; nobody has a reference to it.
    unsafe { at.as_mut_ptr::<u64>().write_volatile(value) };
    Ok(())
}

fn read(space: &AddressSpace, va: VirtAddr) -> Result<u64, FaultError> {
    let at = access(space, va, Access::Read)?;
    // SAFETY: as in `write`.
    Ok(unsafe { at.as_ptr::<u64>().read_volatile() })
}

/// Runs a test that gives back every page and every address space.
fn gives_back(test: impl FnOnce() -> TestResult) -> TestResult {
    let (before, spaces) = (page_alloc::stats().free, count());
    test()?;
    check_eq!(page_alloc::stats().free, before);
    check_eq!(count(), spaces);
    Ok(())
}

kernel_test! { "address_space", pages_come_when_they_are_used, { gives_back(|| {
    let space = must!(AddressSpace::create());
    must!(space.map(pages(0, 8), RW));
    let used = space.use_here();
    check_eq!(space.leaf(USER.page(3)), None);
    check_eq!(must!(read(&space, USER.page(3))), 0);
    must!(write(&space, USER.page(3), 7));
    check_eq!(must!(read(&space, USER.page(3))), 7);
    check_eq!(read(&space, USER.page(8)), Err(FaultError::NotMapped));
    check!(space.asid() != 0);
    drop(used);
    check_eq!(translate(USER.page(3), Access::Read), None);
    Ok(())
}) } }

kernel_test! { "address_space", a_leaf_is_of_one_asid_and_nothing_of_the_kernels, { gives_back(|| {
    let space = must!(AddressSpace::create());
    must!(space.map(pages(0, 1), RW));
    must!(space.map(pages(1, 1), Protection::READ | Protection::EXECUTE));
    let used = space.use_here();
    must!(write(&space, USER.page(0), 1));
    must!(access(&space, USER.page(1), Access::Execute));
    for (page, unlike) in [(0, Attributes::UXN), (1, Attributes::AP_READ_ONLY)] {
        let leaf = must!(space.leaf(USER.page(page)).ok_or("a leaf"));
        let of_all = Attributes::NG | Attributes::PXN | Attributes::AF | Attributes::AP_EL0;
        check!(leaf.attributes().contains(of_all | unlike));
    }
    check!(write(&space, USER.page(1), 1).is_err());
    check!(access(&space, USER.page(0), Access::Execute).is_err());
    drop(used);
    Ok(())
}) } }

kernel_test! { "address_space", what_is_not_possible_is_refused, { gives_back(|| {
    let space = must!(AddressSpace::create());
    let upper = must!(PageRange::new(crate::mm::layout::SCRATCH.start(), 1).ok_or("a page"));
    let null = must!(PageRange::new(VirtAddr::literal(0), 1).ok_or("a page"));
    check_eq!(space.map(upper, RW), Err(Error::NotUser(upper)));
    check_eq!(space.map(null, RW), Err(Error::NotUser(null)));
    check_eq!(space.unmap(upper), Err(Error::NotUser(upper)));
    let both = Protection::WRITE | Protection::EXECUTE | Protection::READ;
    check_eq!(space.map(pages(0, 1), both), Err(Error::Impossible(both)));
    must!(space.map(pages(4, 4), RW));
    check_eq!(space.map(pages(7, 2), RW), Err(Error::Occupied(pages(7, 2))));
    let beyond = pages(7, 2);
    check_eq!(space.protect(beyond, Protection::READ), Err(Error::NotMapped(beyond)));
    check_eq!(space.region_of(USER.page(7)), Some((pages(4, 4), RW)));
    check_eq!(space.region_of(USER.page(8)), None);
    Ok(())
}) } }

kernel_test! { "address_space", protections_change_under_a_program, { gives_back(|| {
    let space = must!(AddressSpace::create());
    must!(space.map(pages(0, 4), RW));
    let used = space.use_here();
    must!(write(&space, USER.page(1), 5));
    must!(space.protect(pages(1, 1), Protection::READ));
    crate::arch::barrier::isb();
    check_eq!(write(&space, USER.page(1), 6), Err(FaultError::NotAllowed(Protection::READ)));
    check_eq!(must!(read(&space, USER.page(1))), 5);
    must!(space.protect(pages(1, 1), Protection::empty()));
    crate::arch::barrier::isb();
    check!(read(&space, USER.page(1)).is_err());
    must!(space.protect(pages(0, 4), RW));
    crate::arch::barrier::isb();
    check_eq!(must!(read(&space, USER.page(1))), 5);
    must!(write(&space, USER.page(1), 6));
    check_eq!(must!(read(&space, USER.page(1))), 6);
    drop(used);
    Ok(())
}) } }

kernel_test! { "address_space", a_forked_page_is_copied_when_it_is_written, { gives_back(|| {
    let parent = must!(AddressSpace::create());
    must!(parent.map(pages(0, 3), RW));
    let used = parent.use_here();
    must!(write(&parent, USER.page(0), 1));
    must!(write(&parent, USER.page(1), 2));
    let child = must!(parent.fork());
    crate::arch::barrier::isb();
    let before = faults();
    must!(write(&parent, USER.page(0), 3));
    check_eq!(faults().copied, before.copied + 1);
    drop(used);
    let used = child.use_here();
    check_eq!(must!(read(&child, USER.page(0))), 1);
    check_eq!(must!(read(&child, USER.page(1))), 2);
    // Nobody else has it any more.
    must!(write(&child, USER.page(0), 4));
    check_eq!(faults().copied, before.copied + 1);
    check_eq!(faults().reused, before.reused + 1);
    must!(write(&child, USER.page(1), 5));
    check_eq!(faults().copied, before.copied + 2);
    check_eq!(must!(read(&child, USER.page(2))), 0);
    drop(used);
    let used = parent.use_here();
    check_eq!(must!(read(&parent, USER.page(0))), 3);
    check_eq!(must!(read(&parent, USER.page(1))), 2);
    drop(used);
    Ok(())
}) } }

kernel_test! { "address_space", what_is_unmapped_or_zapped_is_gone, { gives_back(|| {
    let space = must!(AddressSpace::create());
    let far = must!(PageRange::new(VirtAddr::literal(0x7fff_0000_0000), 600).ok_or("pages"));
    must!(space.map(far, RW));
    let used = space.use_here();
    for page in far.pages_iter() {
        must!(write(&space, page, page.as_u64()));
    }
    must!(space.zap(far));
    crate::arch::barrier::isb();
    check_eq!(must!(read(&space, far.page(599))), 0);
    let before = page_alloc::stats().free;
    must!(space.unmap(far));
    crate::arch::barrier::isb();
    check_eq!(read(&space, far.page(599)), Err(FaultError::NotMapped));
    // The page, and the table of leaves, the one above it, the one above that.
    check_eq!(page_alloc::stats().free, before + 4 + 1);
    drop(used);
    Ok(())
}) } }

kernel_test! { "address_space", no_page_at_any_point_is_an_error_that_leaves_nothing, {
    for calls in 0..12 {
        gives_back(|| {
            page_alloc::fail_after(Some(calls));
            let done = (|| {
                let space = AddressSpace::create()?;
                space.map(pages(0, 2), RW)?;
                let used = space.use_here();
                let wrote = write(&space, USER.page(0), 1);
                let child = wrote.is_ok().then(|| space.fork());
                drop(used);
                if let Some(child) = child {
                    let child = child?;
                    let _used = child.use_here();
                    let _ = write(&child, USER.page(0), 1);
                }
                Ok::<_, Error>(())
            })();
            page_alloc::fail_after(None);
            check!(matches!(done, Ok(()) | Err(Error::OutOfMemory)));
            Ok(())
        })?;
    }
    Ok(())
} }
