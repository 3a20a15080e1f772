// To EL0 and back, as a call: el0_enter returns when EL0 has taken an exception.
//
// The registers of EL0 are in an ExceptionFrame that the caller owns. Those that
// a function must preserve (AAPCS64, 6.1.1) are on the kernel's stack meanwhile,
// and SP_EL1 stays below them: the vectors for EL0 find it there.
//
// Constants in braces come from el0.rs.

.section .text.el0, "ax", %progbits
.balign 4

// x0: the frame. D, A, I and F are masked, so from where SP_EL0 ceases to be the
// current task's address nothing comes in between.
.globl el0_enter
.type el0_enter, %function
el0_enter:
    stp     x29, x30, [sp, #-{SAVED}]!
    mov     x29, sp                 // a frame record: backtraces of a handler go through here
    stp     x19, x20, [sp, #16 * 1]
    stp     x21, x22, [sp, #16 * 2]
    stp     x23, x24, [sp, #16 * 3]
    stp     x25, x26, [sp, #16 * 4]
    stp     x27, x28, [sp, #16 * 5]
    mrs     x1, sp_el0              // the current task
    stp     x0, x1, [sp, #{FRAME_AND_TASK}]

    ldp     x2, x3, [x0, #16 * 16]
    msr     elr_el1, x2
    msr     spsr_el1, x3
    ldr     x2, [x0, #16 * 15 + 8]
    ldr     x3, [x0, #16 * 18 + 8]
    msr     sp_el0, x2
    msr     tpidr_el0, x3
    msr     tpidrro_el0, xzr        // the vectors leave registers of the kernel's in it
    ldp     x2, x3, [x0, #16 * 1]
    ldp     x4, x5, [x0, #16 * 2]
    ldp     x6, x7, [x0, #16 * 3]
    ldp     x8, x9, [x0, #16 * 4]
    ldp     x10, x11, [x0, #16 * 5]
    ldp     x12, x13, [x0, #16 * 6]
    ldp     x14, x15, [x0, #16 * 7]
    ldp     x16, x17, [x0, #16 * 8]
    ldp     x18, x19, [x0, #16 * 9]
    ldp     x20, x21, [x0, #16 * 10]
    ldp     x22, x23, [x0, #16 * 11]
    ldp     x24, x25, [x0, #16 * 12]
    ldp     x26, x27, [x0, #16 * 13]
    ldp     x28, x29, [x0, #16 * 14]
    ldr     x30, [x0, #16 * 15]
    ldp     x0, x1, [x0, #16 * 0]
    // ERET is a context synchronisation event (SCTLR_EL1.EOS, bit 11, is set; DDI
    // 0487, D1.4.4), so there is no ISB before it. What it stands for:
    // - a write of TTBR0_EL1 by this CPU, for EL0's first fetch;
    // - the ISB of an entry made valid in a fault handler or system call: the store and
    //   its DSB ISHST are behind it (9-PF-install-DSB.ISHST+ERET: Forbidden);
    // - the ISB that ends the cache sequence of new code (cache.rs): EL0 fetches
    //   nothing that was fetched before.
    // It waits for no store, no TLBI and no IC: who issued one has had its DSB.
    eret
.size el0_enter, . - el0_enter

// EL0 has taken an exception. x0 and x1 of EL0 are in the spare words, x1 = vector.
// Taking it was a context synchronisation event, too (SCTLR_EL1.EIS).
.globl el0_leave
.type el0_leave, %function
el0_leave:
    ldr     x0, [sp, #{FRAME_AND_TASK}]
    stp     x2, x3, [x0, #16 * 1]
    stp     x4, x5, [x0, #16 * 2]
    stp     x6, x7, [x0, #16 * 3]
    stp     x8, x9, [x0, #16 * 4]
    stp     x10, x11, [x0, #16 * 5]
    stp     x12, x13, [x0, #16 * 6]
    stp     x14, x15, [x0, #16 * 7]
    stp     x16, x17, [x0, #16 * 8]
    stp     x18, x19, [x0, #16 * 9]
    stp     x20, x21, [x0, #16 * 10]
    stp     x22, x23, [x0, #16 * 11]
    stp     x24, x25, [x0, #16 * 12]
    stp     x26, x27, [x0, #16 * 13]
    stp     x28, x29, [x0, #16 * 14]
    mrs     x2, sp_el0
    stp     x30, x2, [x0, #16 * 15]
    ldp     x2, x3, [sp, #{SPARE}]
    stp     x2, x3, [x0, #16 * 0]
    mrs     x2, elr_el1
    mrs     x3, spsr_el1
    stp     x2, x3, [x0, #16 * 16]
    mrs     x2, esr_el1
    mrs     x3, far_el1
    stp     x2, x3, [x0, #16 * 17]
    mrs     x2, tpidr_el0
    stp     x1, x2, [x0, #16 * 18]
    ldr     x2, [sp, #{FRAME_AND_TASK} + 8]
    msr     sp_el0, x2              // the current task again: the one that entered
    ldp     x19, x20, [sp, #16 * 1]
    ldp     x21, x22, [sp, #16 * 2]
    ldp     x23, x24, [sp, #16 * 3]
    ldp     x25, x26, [sp, #16 * 4]
    ldp     x27, x28, [sp, #16 * 5]
    ldp     x29, x30, [sp], #{SAVED}
    ret
.size el0_leave, . - el0_leave
