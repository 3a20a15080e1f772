//! Which address space a CPU uses: TTBR0_EL1 and the ASID in it.
//!
//! A task has an address space for as long as it holds an [`InUse`]; the context switch takes it
//! along. A task without one runs with a table that maps nothing: a kernel thread that followed a
//! stray pointer into the lower half would otherwise find whatever program ran before. (Linux keeps
//! the tables of the last program as `active_mm`, and has a table that maps nothing in TTBR0_EL1 as
//! well.)

use super::{AddressSpace, Slot};
use crate::{
    arch::{barrier, cpu, cpu::MAX_CPUS, image, tlbi, user_table},
    bug::{Bug, planted},
    event,
    mm::asid::{Asids, Id, Switch},
    task::{self, Task, lock::IrqLock, schedule},
};
use core::{
    marker::PhantomData,
    ptr::{self, NonNull},
    sync::atomic::{AtomicBool, AtomicPtr, Ordering::Relaxed},
};
use spin::Once;
use vmsa::{PAGE_SIZE, PhysAddr, VirtAddr, tlbi::Operation};

/// A table that maps nothing.
#[repr(C, align(4096))]
struct Empty([u64; PAGE_SIZE as usize / 8]);

static EMPTY: Empty = Empty([0; PAGE_SIZE as usize / 8]);

static ASIDS: Once<IrqLock<Asids>> = Once::new();

/// What each CPU has in TTBR0_EL1: an address space, or null for the table that maps nothing. Each
/// reads and writes its own, with interrupts masked.
static INSTALLED: [AtomicPtr<Slot>; MAX_CPUS] =
    [const { AtomicPtr::new(ptr::null_mut()) }; MAX_CPUS];

/// Whether each CPU walks tables of the lower half.
static OPEN: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];

/// Has context switches take address spaces along. Bring-up calls it, once.
pub fn init() {
    ASIDS.call_once(|| IrqLock::new(Asids::new(user_table::asid_bits())));
    schedule::set_switch_hook(on_switch);
}

/// The ASIDs, for people: how many there are, which generation it is, how often they ran out.
pub fn asids() -> (u32, u64, u64) {
    with_asids(|asids| (asids.limit(), asids.generation(), asids.rollovers()))
}

/// Gives out ASIDs below `limit` alone from now on, so that they run out soon; `None` gives out all
/// that the CPU has. For tests, and for whoever wants to see it.
///
/// # Panics
///
/// Where `limit` is not at least [`MAX_CPUS`] + 2 and at most what the CPU has.
pub fn limit_asids(limit: Option<u32>) {
    let most = 1 << user_table::asid_bits();
    let limit = limit.unwrap_or(most);
    assert!(limit <= most);
    with_asids(|asids| asids.restart(limit));
}

/// Calls `action` with the ASIDs, locked.
fn with_asids<R>(action: impl FnOnce(&mut Asids) -> R) -> R {
    action(&mut ASIDS.get().expect("bring-up calls init()").lock())
}

/// The running task sees an address space while this lives.
#[derive(Debug)]
#[must_use = "the task leaves the address space when it is dropped"]
pub struct InUse {
    space: AddressSpace,
    /// It is the running task's.
    not_send: PhantomData<*const ()>,
}

impl AddressSpace {
    /// Makes it the address space of the running task, and of whatever CPU that comes to run on.
    ///
    /// # Panics
    ///
    /// If the task has one already.
    pub fn use_here(&self) -> InUse {
        let task = task::current();
        assert!(
            task.address_space.get().is_none(),
            "task {} has an address space",
            task.name
        );
        let space = self.clone();
        // A switch between the two would install it, and then it is installed again.
        let _masked = cpu::mask_interrupts();
        task.address_space.set(Some(NonNull::from(self.0).cast()));
        install(self.0);
        // The task may access it from the next instruction on. It is also what has this CPU not use
        // any more what it walked by the old table (D24.1.2: a write to TTBR0_EL1 takes effect at the
        // next context synchronisation).
        barrier::isb();
        InUse {
            space,
            not_send: PhantomData,
        }
    }
}

impl InUse {
    /// The address space.
    #[must_use]
    pub fn space(&self) -> &AddressSpace {
        &self.space
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let _masked = cpu::mask_interrupts();
        task::current().address_space.set(None);
        leave();
        // Before the tables can be freed, as they may be in a moment: until then this CPU may begin
        // walks from the old root.
        barrier::isb();
    }
}

/// A CPU goes from one task to another. Interrupts are masked.
///
/// No barrier: `switch_to` has a DSB ISH and an ISB behind this. The ISB has the write to TTBR0_EL1
/// take effect. That the walks of this CPU see what other CPUs stored in the tables follows from the
/// lock of the scheduler, as it does for stacks.
fn on_switch(_from: &'static Task, to: &'static Task) {
    match to.address_space.get() {
        // SAFETY: `use_here` stored the address of a slot, which is a static.
        Some(slot) => install(unsafe { slot.cast::<Slot>().as_ref() }),
        None => leave(),
    }
}

/// Installs the table that maps nothing, unless it is.
#[inline]
fn leave() {
    let cpu = cpu::id() as usize;
    if INSTALLED[cpu].load(Relaxed).is_null() {
        return;
    }
    INSTALLED[cpu].store(ptr::null_mut(), Relaxed);
    with_asids(|asids| asids.leave(cpu));
    // ASID 0 is given to nobody, and the table has no entry that a TLB could hold under it. What the
    // TLB holds of the address space stays: it is of its ASID, and will do when that comes back.
    user_table::install(empty(), 0);
}

/// Installs an address space, with an ASID of this generation.
fn install(slot: &'static Slot) {
    let cpu = cpu::id() as usize;
    if !OPEN[cpu].swap(true, Relaxed) {
        user_table::open(empty());
    }
    let Switch { id, flush } = with_asids(|asids| {
        let held = Id::from_bits(slot.id.load(Relaxed));
        let switch = asids.switch(cpu, held);
        if switch.id != held {
            slot.id.store(switch.id.bits(), Relaxed);
            event!(Asid {
                space: slot.number(),
                asid: switch.id.asid(),
            });
        }
        switch
    });
    // A generation that another CPU begins from here on finds the ASID in use by this one, and
    // leaves it to the address space.
    if flush && !planted(Bug::RolloverNoFlush) {
        flush_this_cpu();
    }
    INSTALLED[cpu].store(ptr::from_ref(slot).cast_mut(), Relaxed);
    user_table::install(slot.root(), id.asid());
}

/// Does away with what the TLB of this CPU holds of older generations.
fn flush_this_cpu() {
    // No DSB before: it would be for stores, and this is for none. Whoever changed an entry has
    // flushed it by its ASID; what is meant here is right, and somebody else's.
    tlbi::issue(Operation::Vmalle1);
    // Complete before the write to TTBR0_EL1, behind which the ASID is its new owner's. For this CPU
    // alone: others flush when they go over to something.
    barrier::dsb_nsh();
    // No ISB: what this CPU may have translated ahead is of the ASID that is still installed, which
    // no other address space can be given now (`Asids::roll_over` reserves it). The ISB behind the
    // write to TTBR0_EL1 ends that.
}

/// Where the table that maps nothing is.
fn empty() -> PhysAddr {
    image::physical_address(VirtAddr::from_ptr(&raw const EMPTY)).expect("it is in the image")
}
