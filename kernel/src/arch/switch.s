// From one task to another.
//
// A switch is a function call that returns elsewhere: whoever calls it has saved
// what a function may change (AAPCS64, 6.1.1), so what is left is x19 to x30 and
// SP. The kernel has no floating point registers.
//
// Constants in braces come from switch.rs.

.section .text.context_switch, "ax", %progbits
.balign 4

// x0: where the registers of this task go. x1: where those of the next are.
// x2: the bottom of the next one's stack. Interrupts are masked.
.globl context_switch
.type context_switch, %function
context_switch:
    stp     x19, x20, [x0, #16 * 0]
    stp     x21, x22, [x0, #16 * 1]
    stp     x23, x24, [x0, #16 * 2]
    stp     x25, x26, [x0, #16 * 3]
    stp     x27, x28, [x0, #16 * 4]
    stp     x29, x30, [x0, #16 * 5]
    mov     x9, sp
    str     x9, [x0, #{SP}]

    ldp     x19, x20, [x1, #16 * 0]
    ldp     x21, x22, [x1, #16 * 1]
    ldp     x23, x24, [x1, #16 * 2]
    ldp     x25, x26, [x1, #16 * 3]
    ldp     x27, x28, [x1, #16 * 4]
    ldp     x29, x30, [x1, #16 * 5]
    ldr     x9, [x1, #{SP}]
    // Exception entry takes an SP outside of this stack for one that overflowed,
    // so the two change together: nothing between them can fault.
    mrs     x10, tpidr_el1
    str     x2, [x10, #{STACK_BOTTOM}]
    mov     sp, x9
    ret
.size context_switch, . - context_switch

// Where a new task comes to from its first switch. x19: the function that it
// goes on in. x20, x21: its arguments.
.globl task_begins
.type task_begins, %function
task_begins:
    stp     xzr, xzr, [sp, #-16]!   // the record that ends backtraces
    mov     x29, sp
    mov     x0, x20
    mov     x1, x21
    blr     x19
    brk     #0                      // it does not return
.size task_begins, . - task_begins
