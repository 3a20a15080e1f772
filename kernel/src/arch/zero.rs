//! Zeroing memory: a block of the cache at a time where the CPU can (DC ZVA).

/// Zeroes `bytes` bytes from `start` on. Both are multiples of [`UNIT`].
///
/// To whoever reads the memory, walkers included, these are stores like any other (DDI 0487,
/// B2.7.2 "Memory accesses and DC ZVA"): what orders stores orders them.
///
/// # Safety
/// The bytes are mapped, as Normal memory, and the caller's to write.
#[inline]
pub unsafe fn zero(start: *mut u8, bytes: usize) {
    debug_assert!(start.addr().is_multiple_of(UNIT) && bytes.is_multiple_of(UNIT));
    #[cfg(target_os = "none")]
    if let Some(block) = block() {
        // SAFETY: the caller's promise.
        return unsafe { by_blocks(start, bytes, block) };
    }
    // SAFETY: the caller's promise.
    unsafe { start.write_bytes(0, bytes) };
}

/// What is zeroed in one turn of the loop, at least: 16 blocks of the usual 64 bytes.
pub const UNIT: usize = 1024;
/// How many blocks that is; a page is four turns, two instructions a block and two a turn.
#[cfg(target_os = "none")]
const BLOCKS: usize = 16;

/// How many bytes DC ZVA zeroes, if it may be used here and goes into [`UNIT`] as often as the loop
/// wants it.
#[cfg(target_os = "none")]
#[inline]
fn block() -> Option<usize> {
    /// DCZID_EL0.DZP: the instruction is not to be used.
    const PROHIBITED: u64 = 1 << 4;
    /// DCZID_EL0.BS: how many words a block has, as a power of two.
    const SIZE: u64 = 0xf;
    let id: u64;
    // SAFETY: reads a register (DDI 0487, D24.2, DCZID_EL0). That is cheaper than to remember it.
    unsafe {
        core::arch::asm!(
            "mrs {}, dczid_el0", out(reg) id, options(nomem, nostack, preserves_flags)
        );
    }
    if id & PROHIBITED != 0 {
        return None;
    }
    let block = 4 << (id & SIZE);
    (block * BLOCKS <= UNIT).then_some(block)
}

/// Zeroes memory by DC ZVA, whose blocks have `block` bytes: so many that [`BLOCKS`] of them are a
/// divisor of [`UNIT`].
///
/// # Safety
/// As [`zero`], and DC ZVA may be used.
#[cfg(target_os = "none")]
#[inline]
unsafe fn by_blocks(start: *mut u8, bytes: usize, block: usize) {
    let mut at = start;
    let end = start.wrapping_add(bytes);
    while at < end {
        // SAFETY: every block lies in what the caller said, since UNIT is a multiple of as many as
        // are zeroed here. The writes are told to the compiler: no `nomem`.
        unsafe {
            core::arch::asm!(
                ".rept {blocks}",
                "dc zva, {at}",
                "add {at}, {at}, {block}",
                ".endr",
                at = inout(reg) at,
                block = in(reg) block,
                blocks = const BLOCKS,
                options(nostack, preserves_flags),
            );
        }
    }
}
