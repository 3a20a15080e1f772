//! Who called: the chain of frame records that `-C force-frame-pointers` keeps.
//!
//! A frame record is two words, the caller's x29 and the return address, and x29 points to the
//! newest (AAPCS64, "The Frame Pointer"). An exception pushes one too, which holds the
//! interrupted PC: the chain goes right through it. The chain is followed only inside of stacks
//! that are known, upwards, and ends at the record of zeros that boot put there.

use core::fmt;
use vmsa::VirtAddr;

/// No chain is followed further: a deep recursion is told by its first frames.
const MOST_FRAMES: usize = 32;

/// One place in a backtrace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The instruction: of the call, or the one that an exception interrupted. Not the return
    /// address, which for a call that does not return may be in another function.
    pub pc: VirtAddr,
    /// An exception interrupted it.
    pub interrupted: bool,
}

impl fmt::Display for Place {
    /// `[<ffff800040201234>]`, which the host program knows to give a name to.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[<{:016x}>]", self.pc)?;
        if self.interrupted {
            f.write_str(" <- exception")
        } else {
            Ok(())
        }
    }
}

/// A call of a function, for as long as it has not returned: where its frame record is, and where it
/// returns to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "the host has no backtraces")
)]
pub struct Frame {
    record: u64,
    caller: u64,
}

/// What the walk has to know of the machine; a value of its own so that tests can make one up.
pub trait Stacks {
    /// The frame record at `address`, if it lies wholly in a stack that may be read; and which
    /// stack, by a number of its own.
    fn record(&self, address: u64) -> Option<(u32, [u64; 2])>;

    /// Whether a return address is that of exception entry: the record above it then is one
    /// that an exception pushed.
    fn is_exception_entry(&self, return_address: u64) -> bool;
}

/// The places on the way up, newest first.
#[derive(Debug, Clone)]
pub struct Backtrace<S> {
    stacks: S,
    /// x29: where the next record is.
    record: u64,
    /// Where the last one was: stack and address.
    last: Option<(u32, u64)>,
    interrupted: bool,
    left: usize,
}

impl<S: Stacks> Backtrace<S> {
    /// Starts with the frame record at `x29`.
    pub fn new(stacks: S, x29: u64) -> Self {
        Self {
            stacks,
            record: x29,
            last: None,
            interrupted: false,
            left: MOST_FRAMES,
        }
    }

    /// Starts with the record that an exception pushed at `record`.
    pub fn from_exception(stacks: S, record: u64) -> Self {
        Self {
            interrupted: true,
            ..Self::new(stacks, record)
        }
    }

    /// Whether the walk ended because there were too many frames.
    pub fn was_cut(&self) -> bool {
        self.left == 0
    }
}

impl<S: Stacks> Iterator for Backtrace<S> {
    type Item = Place;

    fn next(&mut self) -> Option<Place> {
        loop {
            let (address, interrupted) = self.step()?;
            // The return address into exception entry tells nothing: what it saved comes next.
            // Nor does a PC that is no address at all; who jumped there is further up.
            if !self.interrupted
                && let Some(pc) = VirtAddr::new(address)
            {
                return Some(Place { pc, interrupted });
            }
        }
    }
}

impl<S: Stacks> Backtrace<S> {
    /// Goes one record up: the address in it, and whether an exception pushed it.
    fn step(&mut self) -> Option<(u64, bool)> {
        if self.left == 0 || !self.record.is_multiple_of(8) {
            return None;
        }
        let (stack, [next, address]) = self.stacks.record(self.record)?;
        // On one stack records lie ever higher; an exception may have changed the stack. So the
        // walk ends, whatever it reads.
        if let Some((last_stack, last_record)) = self.last
            && stack == last_stack
            && self.record <= last_record
        {
            return None;
        }
        if address == 0 {
            return None;
        }
        let interrupted = self.interrupted;
        self.last = Some((stack, self.record));
        self.record = next;
        self.interrupted = self.stacks.is_exception_entry(address);
        self.left -= 1;
        Some((
            if interrupted {
                address
            } else {
                address.wrapping_sub(4)
            },
            interrupted,
        ))
    }
}

impl<S: Stacks + Clone> fmt::Display for Backtrace<S> {
    /// The places, one a line, from newest to oldest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut places = self.clone();
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

#[cfg(target_os = "none")]
pub use machine::{
    ThisCpu, callers, callers_frames, callers_of_this, frame, from_frame, from_here, of_exception,
};

#[cfg(target_os = "none")]
mod machine {
    use super::{Backtrace, Frame, Stacks};
    use crate::arch::{
        cpu::{self, PerCpu, STACK_SIZE},
        exception,
        frame::ExceptionFrame,
    };
    use core::arch::asm;
    use vmsa::{PageRange, VirtAddr};

    /// The stacks of this CPU.
    #[derive(Debug, Clone, Copy)]
    pub struct ThisCpu(&'static PerCpu);

    impl Stacks for ThisCpu {
        fn record(&self, address: u64) -> Option<(u32, [u64; 2])> {
            let start = VirtAddr::new(address)?;
            let last = start.checked_add(15)?;
            let holds = |stack: PageRange| stack.contains(start) && stack.contains(last);
            let stack = if holds(self.0.stack()) {
                0
            } else if holds(self.0.emergency_stack()) {
                1
            } else {
                return None;
            };
            // SAFETY: both words are in a stack of this CPU, which is mapped; the walk has
            // checked the alignment. The words may be anything.
            Some((stack, unsafe { start.as_ptr::<[u64; 2]>().read_volatile() }))
        }

        fn is_exception_entry(&self, return_address: u64) -> bool {
            exception::is_entry_return_address(return_address)
        }
    }

    /// From the call on of the function that this is in.
    #[inline(always)]
    pub fn from_here() -> Backtrace<ThisCpu> {
        Backtrace::new(ThisCpu(cpu::this_cpu()), frame().record)
    }

    /// The frame of the function that this is in.
    #[inline(always)]
    pub fn frame() -> Frame {
        let (record, caller);
        // SAFETY: reads a register, and the record that it points to (AAPCS64, 6.4.6).
        unsafe {
            asm!(
                "ldr {caller}, [x29, #8]",
                "mov {record}, x29",
                record = out(reg) record,
                caller = out(reg) caller,
                options(readonly, nostack, preserves_flags),
            );
        }
        Frame { record, caller }
    }

    /// The frames of those that have led to the call of the function that this is inlined into, the
    /// nearest first: that one has to be out of line.
    #[inline(always)]
    pub fn callers_frames<const N: usize>() -> [Frame; N] {
        let mut at = frame();
        [(); N].map(|()| {
            if at.record != 0 {
                // SAFETY: the record of a function that has not returned leads to the one of its
                // caller (AAPCS64, 6.4.6); the last, which boot made, is of zeros.
                unsafe {
                    asm!(
                        "ldr {record}, [{record}]",
                        "cbz {record}, 2f",
                        "ldr {caller}, [{record}, #8]",
                        "2:",
                        record = inout(reg) at.record,
                        caller = inout(reg) at.caller,
                        options(readonly, nostack, preserves_flags),
                    );
                }
            }
            at
        })
    }

    /// From the call on of the function whose frame this is; `None` if it has returned, or is not
    /// among those that have led here.
    pub fn from_frame(frame: Frame) -> Option<Backtrace<ThisCpu>> {
        let mut from_here = from_here();
        loop {
            let before = from_here.clone();
            let (address, interrupted) = from_here.step()?;
            // Another function may have its record where that one had it, but not be called from
            // the same place.
            if before.record == frame.record && !interrupted && address == frame.caller - 4 {
                return Some(before);
            }
        }
    }

    /// From the instruction that an exception interrupted on.
    pub fn of_exception(frame: &ExceptionFrame) -> Backtrace<ThisCpu> {
        Backtrace::from_exception(ThisCpu(cpu::this_cpu()), frame.record_address())
    }

    /// The places from the call on of the function that calls this one (as the compiler has left
    /// functions apart), as offsets from [`boot::IMAGE_OFFSET`]; zeros follow the last.
    /// [`caller_address`](super::caller_address) gives the address back.
    ///
    /// Every allocation of a page asks with DEBUG_PAGEALLOC on, so this is the short way, five
    /// instructions a place: it stays on one stack, takes every return address for one of the image,
    /// and gives an interrupted place as if it had been a call, one instruction early.
    #[inline(never)]
    pub fn callers<const N: usize>() -> [u32; N] {
        callers_above(frame()).map(super::pack)
    }

    /// As [`callers`], where the function that it is in takes the place of the one that calls it: for
    /// a function that is out of line itself. If the compiler has given that one no frame where this is
    /// asked, the places begin one further up. The return addresses as they are: their lower halves are
    /// what [`caller_address`](super::caller_address) takes.
    #[inline(always)]
    pub fn callers_of_this<const N: usize>() -> [u64; N] {
        let record;
        // SAFETY: reads a register.
        unsafe { asm!("mov {}, x29", out(reg) record, options(nomem, nostack, preserves_flags)) };
        fill(record)
    }

    /// Those above the function whose frame it is.
    #[inline(always)]
    fn callers_above<const N: usize>(Frame { record, .. }: Frame) -> [u64; N] {
        // The record of this function itself says where it was called from, which is no news.
        let [next, _] = read(record);
        if is_beside(next, record) {
            fill(next)
        } else {
            [0; N]
        }
    }

    /// The return addresses from the record at `record` on, which may be read.
    #[inline(always)]
    fn fill<const N: usize>(mut record: u64) -> [u64; N] {
        let mut callers = [0; N];
        for slot in &mut callers {
            let [above, address] = read(record);
            // The record of zeros, which boot made, is the last: nothing is beside it.
            *slot = address;
            if !is_beside(above, record) {
                break;
            }
            record = above;
        }
        callers
    }

    /// Whether there may be another record at `next`: on the stack on which there is one at `record`,
    /// which is mapped as a whole, and aligned so that all of it is.
    #[inline(always)]
    fn is_beside(next: u64, record: u64) -> bool {
        // Stacks are aligned to their size, frames to 16 bytes (AAPCS64, 6.4.5.1).
        const SAME: u64 = !(STACK_SIZE - 1) | 0xf;
        (next ^ record) & SAME == 0
    }

    /// Reads a frame record: the next one's address, and a return address.
    #[inline(always)]
    fn read(record: u64) -> [u64; 2] {
        let (next, address);
        // SAFETY: it is that of a function which has not returned, or `is_beside` one: both words are
        // in the stack of this CPU, which is mapped. They may be anything.
        unsafe {
            asm!(
                "ldp {next}, {address}, [{record}]",
                next = out(reg) next,
                address = out(reg) address,
                record = in(reg) record,
                options(readonly, nostack, preserves_flags),
            );
        }
        [next, address]
    }
}

/// What is subtracted from an image address to make it fit 32 bits: `boot::IMAGE_OFFSET`, in a
/// form that exists on the host too.
const PACKED_BASE: VirtAddr = VirtAddr::literal(0xffff_8000_0000_0000);

/// A return address in the image, in 32 bits; 0, which is none, stays 0.
#[cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "the host has no backtraces")
)]
#[inline]
const fn pack(return_address: u64) -> u32 {
    const { assert!(PACKED_BASE.as_u64() as u32 == 0) };
    return_address as u32
}

/// The place of the call whose return address [`callers`] stored as `packed`.
#[must_use]
pub fn caller_address(packed: u32) -> VirtAddr {
    PACKED_BASE + u64::from(packed) - 4
}

/// The host has no frame records.
#[cfg(not(target_os = "none"))]
pub fn frame() -> Frame {
    Frame {
        record: 0,
        caller: 0,
    }
}

/// The host has no frames that could be named.
#[cfg(not(target_os = "none"))]
pub fn callers_frames<const N: usize>() -> [Frame; N] {
    [frame(); N]
}

/// The host has no chain that could be followed.
#[cfg(not(target_os = "none"))]
pub fn callers_of_this<const N: usize>() -> [u64; N] {
    [0; N]
}

/// The host has no chain that could be followed.
#[cfg(not(target_os = "none"))]
pub fn callers<const N: usize>() -> [u32; N] {
    [0; N]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: u64 = 0xffff_8000_4020_0000;
    const ENTRY: u64 = TEXT + 0x10;

    /// Records by address, in two stacks: below 0x2000 is stack 0.
    struct Fake(&'static [(u64, [u64; 2])]);

    impl Stacks for Fake {
        fn record(&self, address: u64) -> Option<(u32, [u64; 2])> {
            let stack = u32::from(address >= 0x2000);
            self.0
                .iter()
                .find(|(at, _)| *at == address)
                .map(|(_, record)| (stack, *record))
        }

        fn is_exception_entry(&self, return_address: u64) -> bool {
            return_address == ENTRY
        }
    }

    fn places(records: &'static [(u64, [u64; 2])], x29: u64) -> Vec<(u64, bool)> {
        Backtrace::new(Fake(records), x29)
            .map(|place| (place.pc.as_u64() - TEXT, place.interrupted))
            .collect()
    }

    #[test]
    fn a_chain_is_followed_to_the_record_of_zeros() {
        let records = &[
            (0x1000, [0x1020, TEXT + 0x104]),
            (0x1020, [0x1040, TEXT + 0x204]),
            (0x1040, [0, 0]),
        ];
        assert_eq!(places(records, 0x1000), [(0x100, false), (0x200, false)]);
    }

    #[test]
    fn an_exception_shows_the_interrupted_instruction_itself() {
        // The handler on stack 1, above it the exception's record, then the interrupted chain.
        let records = &[
            (0x2000, [0x2100, ENTRY]),
            (0x2100, [0x1000, TEXT + 0x300]),
            (0x1000, [0, TEXT + 0x404]),
        ];
        assert_eq!(places(records, 0x2000), [(0x300, true), (0x400, false)]);
    }

    #[test]
    fn a_jump_to_nowhere_does_not_end_the_chain() {
        let records = &[
            (0x2000, [0x2100, ENTRY]),
            (0x2100, [0x1000, 0x1234_5678_9abc_def0]),
            (0x1000, [0, TEXT + 0x404]),
        ];
        assert_eq!(places(records, 0x2000), [(0x400, false)]);
    }

    #[test]
    fn a_chain_that_turns_back_ends() {
        let circle = &[(0x1000, [0x1020, TEXT + 8]), (0x1020, [0x1000, TEXT + 32])];
        assert_eq!(places(circle, 0x1000), [(4, false), (28, false)]);
        let itself = &[(0x1000, [0x1000, TEXT + 8])];
        assert_eq!(places(itself, 0x1000), [(4, false)]);
    }

    #[test]
    fn a_chain_that_leaves_the_stacks_or_is_misaligned_ends() {
        let records = &[(0x1000, [0x9000, TEXT + 8]), (0x1004, [0, TEXT + 8])];
        assert_eq!(places(records, 0x1000), [(4, false)]);
        assert_eq!(places(records, 0x1004), []);
        assert_eq!(places(records, 0), []);
    }

    #[test]
    fn two_stacks_that_point_at_each_other_end_too() {
        let records = &[(0x1000, [0x2000, TEXT + 8]), (0x2000, [0x1000, TEXT + 8])];
        let mut trace = Backtrace::new(Fake(records), 0x1000);
        assert_eq!(trace.by_ref().count(), MOST_FRAMES);
        assert!(trace.was_cut());
    }

    #[test]
    fn image_addresses_survive_packing() {
        let pc = VirtAddr::literal(TEXT + 0x1234);
        assert_eq!(caller_address(pack(pc.as_u64() + 4)), pc);
    }
}
