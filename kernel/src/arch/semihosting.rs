//! Text through semihosting: it needs no device address, so it works from the first
//! instruction on, and after anything has broken. Slow: each call leaves the emulator.

use core::arch::asm;
use core::fmt;

/// `SYS_WRITE0`: write a zero-terminated string to the debug channel
/// (Semihosting for AArch32 and AArch64, section 6.24).
const SYS_WRITE0: u64 = 0x04;

/// The debug channel of the host, as something to write to.
#[derive(Debug, Clone, Copy)]
pub struct DebugChannel;

impl fmt::Write for DebugChannel {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // A copy, because the call wants a zero at the end.
        const CHUNK: usize = 120;
        let mut buffer = [0u8; CHUNK + 1];
        for chunk in text.as_bytes().chunks(CHUNK) {
            buffer[..chunk.len()].copy_from_slice(chunk);
            buffer[chunk.len()] = 0;
            write_zero_terminated(&buffer);
        }
        Ok(())
    }
}

/// Writes `text` up to its first zero byte.
fn write_zero_terminated(text: &[u8]) {
    assert!(text.contains(&0), "the host reads until it finds a zero");
    // SAFETY: HLT #0xF000 is the semihosting call: QEMU is always started with semihosting on.
    // It reads the text, which ends in a zero inside of the slice, and returns a value in x0.
    unsafe {
        asm!(
            "hlt #0xf000",
            inout("x0") SYS_WRITE0 => _,
            in("x1") text.as_ptr(),
            options(nostack, preserves_flags),
        );
    }
}
