// The exception vectors and exception entry of the kernel.
//
// Entry must not push before it knows that SP is in its stack: after a stack
// overflow the push would fault, whose entry would push, and so on for ever.
// Linux tells an overflow from one bit of SP, its stacks being aligned to twice
// their size. Here SP is compared with the stack that this CPU is known to be
// on, which also finds an SP that is far off or misaligned. It takes two
// registers: TPIDR_EL0 and TPIDRRO_EL0, which EL1 has no use for, hold x0 and x1
// meanwhile. What they held is lost; el0.s has put EL0's TPIDR_EL0 away by then.
//
// Constants in braces come from exception.rs.

.section .text.vectors, "ax", %progbits

.balign 2048                        // VBAR_EL1[10:0] are RES0
.globl exception_vectors
.type exception_vectors, %object
exception_vectors:
.set vector, 0
.rept 16
    .balign 128
    .if vector < {FIRST_EL0_VECTOR} || vector >= {FIRST_EL0_VECTOR} + 4
    msr     tpidr_el0, x0
    msr     tpidrro_el0, x1
    mrs     x1, tpidr_el1           // this CPU's block
    ldr     x1, [x1, #{STACK_BOTTOM}]
    sub     x0, sp, #{FRAME_SIZE}   // where the frame would lie
    eor     x0, x0, x1              // bottom is aligned: the offset in the stack, if it is in it,
    and     x0, x0, #{NOT_STACK_OFFSET} // and no other bit is set, nor one of the lowest four
    mov     x1, #vector
    cbnz    x0, exception_off_stack
    mov     x0, sp
    b       exception_enter
    .else
    // From EL0: SP is where el0_enter left it, so it may be used at once; TPIDR_EL0 is EL0's.
    stp     x0, x1, [sp, #{EL0_SPARE}]
    mov     x1, #vector
    b       el0_leave
    .endif
    .set vector, vector + 1
.endr
.size exception_vectors, . - exception_vectors

// SP is not in its stack. Go on on the emergency stack, or stay there: the report
// itself may take exceptions that it survives. x1 = vector.
.balign 4
.type exception_off_stack, %function
exception_off_stack:
    mrs     x0, tpidr_el1
    str     x1, [x0, #{SCRATCH}]
    str     x2, [x0, #{SCRATCH} + 8]
    mov     x1, sp
    str     x1, [x0, #{SCRATCH} + 16]
    ldr     x2, [x0, #{EMERGENCY_BOTTOM}]
    sub     x1, x1, #{FRAME_SIZE}
    eor     x1, x1, x2
    and     x1, x1, #{NOT_EMERGENCY_OFFSET}
    cbz     x1, 1f                  // already there: on from where SP is
    add     x2, x2, #{EMERGENCY_SIZE}
    mov     sp, x2                  // its top, whatever was there
1:  ldr     x1, [x0, #{SCRATCH}]
    ldr     x2, [x0, #{SCRATCH} + 8]
    ldr     x0, [x0, #{SCRATCH} + 16]
    // fall through
.size exception_off_stack, . - exception_off_stack

// SP is good. x0 = SP when the exception was taken, x1 = vector; what they held
// is in TPIDR_EL0 and TPIDRRO_EL0.
.type exception_enter, %function
exception_enter:
    sub     sp, sp, #{FRAME_SIZE}
    stp     x2, x3, [sp, #16 * 1]
    stp     x4, x5, [sp, #16 * 2]
    stp     x6, x7, [sp, #16 * 3]
    stp     x8, x9, [sp, #16 * 4]
    stp     x10, x11, [sp, #16 * 5]
    stp     x12, x13, [sp, #16 * 6]
    stp     x14, x15, [sp, #16 * 7]
    stp     x16, x17, [sp, #16 * 8]
    stp     x18, x19, [sp, #16 * 9]
    stp     x20, x21, [sp, #16 * 10]
    stp     x22, x23, [sp, #16 * 11]
    stp     x24, x25, [sp, #16 * 12]
    stp     x26, x27, [sp, #16 * 13]
    stp     x28, x29, [sp, #16 * 14]
    stp     x30, x0, [sp, #16 * 15] // x30, SP
    mrs     x2, tpidr_el0
    mrs     x3, tpidrro_el0
    stp     x2, x3, [sp, #16 * 0]   // x0, x1
    mrs     x2, elr_el1
    mrs     x3, spsr_el1
    stp     x2, x3, [sp, #16 * 16]
    mrs     x4, esr_el1
    mrs     x5, far_el1
    stp     x4, x5, [sp, #16 * 17]
    stp     x1, xzr, [sp, #16 * 18] // vector
    stp     x29, x2, [sp, #{RECORD}] // a frame record: backtraces go on with what was interrupted
    add     x29, sp, #{RECORD}
    mov     x0, sp
    bl      exception_dispatch
.globl exception_entry_return
exception_entry_return:
    // Only an exception that found SP in its stack gets here, so SP goes back by
    // the size of the frame. DAIF has been masked throughout.
    ldp     x2, x3, [sp, #16 * 16]
    msr     elr_el1, x2
    msr     spsr_el1, x3
    ldp     x0, x1, [sp, #16 * 0]
    ldp     x2, x3, [sp, #16 * 1]
    ldp     x4, x5, [sp, #16 * 2]
    ldp     x6, x7, [sp, #16 * 3]
    ldp     x8, x9, [sp, #16 * 4]
    ldp     x10, x11, [sp, #16 * 5]
    ldp     x12, x13, [sp, #16 * 6]
    ldp     x14, x15, [sp, #16 * 7]
    ldp     x16, x17, [sp, #16 * 8]
    ldp     x18, x19, [sp, #16 * 9]
    ldp     x20, x21, [sp, #16 * 10]
    ldp     x22, x23, [sp, #16 * 11]
    ldp     x24, x25, [sp, #16 * 12]
    ldp     x26, x27, [sp, #16 * 13]
    ldp     x28, x29, [sp, #16 * 14]
    ldr     x30, [sp, #16 * 15]
    add     sp, sp, #{FRAME_SIZE}
    eret
.size exception_enter, . - exception_enter
