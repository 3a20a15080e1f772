// Early vectors, from the first instruction until the kernel installs its own, and
// the way to end with a message. They use no stack and write no memory, so that
// they work at EL1 and EL2, with the MMU off and on. Assembled after boot.s.

.section .boot.text.start, "ax", %progbits
.balign 2048
boot_vectors:
.set vector, 0
.rept 16
    .balign 128
    mov     x25, #vector
    b       boot_exception
    .set vector, vector + 1
.endr

.balign 4
.type boot_exception, %function
boot_exception:
    mrs     x0, CurrentEL
    cmp     x0, #(2 << 2)
    b.eq    1f
    mrs     x21, esr_el1
    mrs     x22, elr_el1
    mrs     x23, far_el1
    b       2f
1:  mrs     x21, esr_el2
    mrs     x22, elr_el2
    mrs     x23, far_el2
2:  adr     x1, boot_message_exception
    bl      boot_write
    mov     x24, x25
    bl      boot_write_hex
    adr     x1, boot_message_esr
    bl      boot_write
    mov     x24, x21
    bl      boot_write_hex
    adr     x1, boot_message_elr
    bl      boot_write
    mov     x24, x22
    bl      boot_write_hex
    adr     x1, boot_message_far
    bl      boot_write
    mov     x24, x23
    bl      boot_write_hex
    DIE     boot_message_newline
.size boot_exception, . - boot_exception

// Semihosting: x0 = operation, x1 = its argument, HLT #0xF000.
boot_write:                         // x1 = text that ends in a zero byte
    mov     x0, #0x04               // SYS_WRITE0
    hlt     #0xf000
    ret

boot_write_hex:                     // x24 = value; each digit is a text of its own
    mov     x26, #16
    adr     x27, boot_digits
1:  ror     x24, x24, #60
    and     x1, x24, #0xf
    add     x1, x27, x1, lsl #1
    mov     x0, #0x04
    hlt     #0xf000
    subs    x26, x26, #1
    b.ne    1b
    ret

.type boot_die, %function
boot_die:                           // x1 = text
    mov     x0, #0x04
    hlt     #0xf000
    mov     x0, #0x18               // SYS_EXIT
    adr     x1, boot_exit_block
    hlt     #0xf000
1:  wfe                             // no semihosting: there is no one to tell
    b       1b
.size boot_die, . - boot_die

// Read-only data beside the code that reads it: the identity map holds this file
// and nothing else.
.balign 8
boot_exit_block:
    .quad   0x20026                 // ADP_Stopped_ApplicationExit
    .quad   32                      // the kernel's status for failure
boot_digits:
    .irp digit, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, a, b, c, d, e, f
    .asciz "\digit"
    .endr
boot_message_el3:
    .asciz "entered at EL3; Lull needs EL1 or EL2\n"
boot_message_granule:
    .asciz "this CPU has no 4 KiB translation granule; Lull needs it\n"
boot_message_exception:
    .asciz "exception before the kernel has vectors: vector 0x"
boot_message_esr:
    .asciz " ESR 0x"
boot_message_elr:
    .asciz " ELR 0x"
boot_message_far:
    .asciz " FAR 0x"
boot_message_newline:
    .asciz "\n"
boot_text_end:

