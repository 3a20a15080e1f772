//! A kernel that goes wrong, or right, in the way that one of the files beside it
//! says. The host program builds it, and must come to the right verdict on it.
#![no_std]
#![no_main]

core::arch::global_asm!(include_str!("macros.s"), include_str!(env!("BAD_KERNEL")), options(raw));

/// Never called: there is no Rust here to panic.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
