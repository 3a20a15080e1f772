//! From one task to another: the registers that a task keeps while it does not run, and the switch.

/// The registers of a task that does not run, as `switch.s` lays them out.
#[derive(Debug)]
#[repr(C)]
pub struct Context {
    /// x19 to x28.
    saved: [u64; 10],
    /// x29: its newest frame record.
    frame: u64,
    /// x30: where it goes on.
    link: u64,
    /// SP.
    sp: u64,
}

impl Context {
    /// Of a task that is running, or has no stack yet: there is nothing to go on with.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            saved: [0; 10],
            frame: 0,
            link: 0,
            sp: 0,
        }
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(target_os = "none")]
pub use machine::switch;

#[cfg(target_os = "none")]
mod machine {
    use super::Context;
    use crate::arch::cpu::PerCpu;
    use core::{arch::global_asm, mem::offset_of};
    use vmsa::VirtAddr;

    global_asm!(
        include_str!("switch.s"),
        SP = const offset_of!(Context, sp),
        STACK_BOTTOM = const offset_of!(PerCpu, stack_bottom),
    );

    const _: () = assert!(offset_of!(Context, frame) == 16 * 5);

    unsafe extern "C" {
        fn context_switch(from: *mut Context, to: *const Context, stack_bottom: u64);
        fn task_begins();
    }

    impl Context {
        /// Of a task that begins in `function(first, second)`, with the top of its stack at `top`,
        /// a multiple of 16.
        #[must_use]
        pub fn begin(
            top: VirtAddr,
            function: extern "C" fn(usize, usize) -> !,
            first: usize,
            second: usize,
        ) -> Self {
            let mut context = Self::new();
            // x19 to x21, as switch.s takes them up.
            context.saved[0] = function as usize as u64;
            context.saved[1] = first as u64;
            context.saved[2] = second as u64;
            context.link = task_begins as *const () as usize as u64;
            context.sp = top.as_u64();
            context
        }
    }

    /// Saves the registers in `from` and goes on with those in `to`. It returns when somebody
    /// switches back, maybe on another CPU.
    ///
    /// # Safety
    ///
    /// Interrupts are masked. `to` was saved by a switch or made by [`Context::begin`], and nothing
    /// else goes on with it; its stack is the one that begins at `stack_bottom`, and it is mapped
    /// for this CPU.
    pub unsafe fn switch(from: *mut Context, to: *const Context, stack_bottom: VirtAddr) {
        // SAFETY: the caller's promise.
        unsafe { context_switch(from, to, stack_bottom.as_u64()) }
    }
}
