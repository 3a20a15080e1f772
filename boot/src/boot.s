// Reset to the first Rust instruction: from EL1 or EL2, MMU off, to EL1 with the
// MMU, the caches and vectors on and a stack in the upper half. The boot CPU
// enters at _start and builds the boot tables; the others enter at
// boot_secondary, later, and find everything built.
//
// Constants in braces come from lib.rs. Symbols named __pa_* are physical
// addresses from linker.ld: this file is linked where it runs, at its physical
// address, and `adrp` reaches nothing in the upper half.
//
// What lasts through the file: x19 = exception level at entry, x20 = what was
// in x0 at entry (the device tree's address, or 0 from QEMU's ELF loader; for
// the others the context of CPU_ON, see boot_secondary), x24 = 0 for the boot
// CPU and 1 for the others.

.set boot_image_pa, {IMAGE_PA}
.set boot_image_offset, {IMAGE_OFFSET}
.globl boot_image_pa, boot_image_offset

.macro ADR_PA register, symbol
    adrp    \register, \symbol
    add     \register, \register, :lo12:\symbol
.endm

// End with a message and status 32, through semihosting: no device address is
// known yet, and none is needed.
.macro DIE message
    adr     x1, \message
    b       boot_die
.endm

.section .boot.text.start, "ax", %progbits

//------------------------------------------------------------------------------
// _start: where QEMU and the boot protocol enter
//------------------------------------------------------------------------------
.globl _start
.type _start, %function
_start:
    mov     x24, xzr
boot_enter:
    msr     daifset, #0xf           // nothing could handle an interrupt yet
    mov     x20, x0
    mrs     x19, CurrentEL
    ubfx    x19, x19, #2, #2        // CurrentEL.EL
    cmp     x19, #2
    b.hi    boot_at_el3
    b.lo    boot_at_el1
    b       boot_at_el2

boot_at_el3:
    DIE     boot_message_el3
.size _start, . - _start

//------------------------------------------------------------------------------
// boot_secondary: where PSCI CPU_ON has another CPU enter. x0 = the context that
// the caller gave: the root of the kernel's tables, a page's address, and in its
// lowest 12 bits the CPU's number. Nothing else is needed before the MMU is on,
// so nothing is read from memory past the caches, where it might not be yet.
//------------------------------------------------------------------------------
.type boot_secondary, %function
boot_secondary:
    mov     x24, #1
    b       boot_enter
.size boot_secondary, . - boot_secondary

//------------------------------------------------------------------------------
// EL2: let EL1 have the machine, then leave. Every register set here has an
// UNKNOWN value out of reset for some field that decides what EL1 may do.
//------------------------------------------------------------------------------
.type boot_at_el2, %function
boot_at_el2:
    // A trap to EL2 later would be a bug of this block: report it, don't hang.
    adr     x0, boot_vectors
    msr     vbar_el2, x0

    mov     x0, {HCR_EL2}           // RW: EL1 is AArch64. No stage 2, no traps, no VHE
    msr     hcr_el2, x0
    isb                             // E2H decides the layout of the registers below
    mov     x0, {CPTR_EL2}          // RES1 bits only: nothing is trapped
    msr     cptr_el2, x0
    msr     hstr_el2, xzr
    msr     vttbr_el2, xzr          // VMID 0: it tags EL1's TLB entries even without stage 2

    mov     x0, {CNTHCTL_EL2}       // EL1PCTEN, EL1PCEN: counter and timer are EL1's
    msr     cnthctl_el2, x0
    msr     cntvoff_el2, xzr        // virtual count = physical count

    // EL1 reads these in place of MIDR_EL1 and MPIDR_EL1.
    mrs     x0, midr_el1
    msr     vpidr_el2, x0
    mrs     x0, mpidr_el1
    msr     vmpidr_el2, x0

    // The performance counters (all of them EL1's) and debug: no traps.
    mov     x1, xzr
    mrs     x0, id_aa64dfr0_el1
    ubfx    x0, x0, #8, #4          // PMUVer: 0 none, 15 not the architecture's
    sub     x0, x0, #1
    cmp     x0, #14
    b.hs    1f
    mrs     x1, pmcr_el0
    ubfx    x1, x1, #11, #5         // PMCR_EL0.N becomes MDCR_EL2.HPMN
1:  msr     mdcr_el2, x1

    // GIC system registers, where there are any (GICv3): EL1 may use them too.
    mrs     x0, id_aa64pfr0_el1
    ubfx    x0, x0, #24, #4         // ID_AA64PFR0_EL1.GIC
    cbz     x0, 2f
    mrs     x0, S3_4_C12_C9_5       // ICC_SRE_EL2
    orr     x0, x0, #(1 << 0)       // SRE
    orr     x0, x0, #(1 << 3)       // Enable: accesses from EL1 to ICC_SRE_EL1 do not trap
    msr     S3_4_C12_C9_5, x0
    isb                             // SRE before any other GIC system register
    mrs     x0, S3_4_C12_C9_5
    tbz     x0, #0, 2f              // firmware kept them for itself
    msr     S3_4_C12_C11_0, xzr     // ICH_HCR_EL2: no virtual interface

    // The fine-grained traps, where the CPU has them: none but for registers of
    // newer extensions, whose bits trap when 0 and which nothing here uses.
2:  mrs     x0, id_aa64mmfr0_el1
    ubfx    x0, x0, #56, #4         // ID_AA64MMFR0_EL1.FGT
    cbz     x0, 3f
    msr     S3_4_C1_C1_4, xzr       // HFGRTR_EL2
    msr     S3_4_C1_C1_5, xzr       // HFGWTR_EL2
    msr     S3_4_C1_C1_6, xzr       // HFGITR_EL2
    msr     S3_4_C3_C1_4, xzr       // HDFGRTR_EL2
    msr     S3_4_C3_C1_5, xzr       // HDFGWTR_EL2

    // More of HCR_EL2, where there is more: its extensions stay off.
3:  mrs     x0, id_aa64mmfr1_el1
    ubfx    x0, x0, #40, #4         // ID_AA64MMFR1_EL1.HCX
    cbz     x0, 4f
    msr     S3_4_C1_C2_2, xzr       // HCRX_EL2

4:  mov     x0, {SPSR_EL1H_MASKED}
    msr     spsr_el2, x0
    adr     x0, boot_at_el1
    msr     elr_el2, x0
    eret                            // synchronises the context: all of the above is seen by EL1
.size boot_at_el2, . - boot_at_el2

//------------------------------------------------------------------------------
// EL1, MMU off
//------------------------------------------------------------------------------
.type boot_at_el1, %function
boot_at_el1:
    adr     x0, boot_vectors
    msr     vbar_el1, x0
    ldr     x0, ={SCTLR_OFF}        // RES1 bits known, MMU and caches off, whatever ran before
    msr     sctlr_el1, x0
    msr     cpacr_el1, xzr          // floating point traps: nothing here is compiled to use it
    msr     spsel, #1
    isb

    mrs     x21, id_aa64mmfr0_el1
    ubfx    x0, x21, #28, #4        // TGran4: 0 and 1 (52 bit) are support, 15 is none
    cmp     x0, #15
    b.ne    1f
    DIE     boot_message_granule
1:
    ADR_PA  x22, __pa_boot_tables
    add     x23, x22, #({IDENTITY_L0} * 4096) // the root for TTBR0
    cbz     x24, boot_build_tables
    and     x22, x20, #~0xfff       // the root for TTBR1: the kernel's
    b       boot_translate

boot_build_tables:
    // .bss, the boot tables within it. Still with the MMU off, so these stores
    // go to memory past the caches.
    ADR_PA  x0, __pa_bss_start
    ADR_PA  x1, __pa_bss_end
2:  stp     xzr, xzr, [x0], #16     // aligned: memory is Device now
    cmp     x0, x1
    b.lo    2b

    // TTBR1: the image, page by page, each region with its own permissions.
    // The level 3 tables lie side by side: entry 0 maps the start of the image.
    add     x3, x22, #({IMAGE_L3} * 4096)
    ADR_PA  x0, __pa_text_start
    ADR_PA  x1, __pa_text_end
    ldr     x2, ={PAGE_TEXT}
    bl      boot_map_pages
    ADR_PA  x0, __pa_rodata_start
    ADR_PA  x1, __pa_rodata_end
    ldr     x2, ={PAGE_RODATA}
    bl      boot_map_pages
    ADR_PA  x0, __pa_data_start     // .data and .bss
    ADR_PA  x1, __pa_bss_end
    ldr     x2, ={PAGE_DATA}
    bl      boot_map_pages
    ADR_PA  x0, __pa_stack_bottom   // the stacks; the guard page stays out
    ADR_PA  x1, __pa_image_end
    ldr     x2, ={PAGE_DATA}
    bl      boot_map_pages

    mov     x4, {TABLE}             // descriptor bits of a table
    add     x0, x22, #({IMAGE_L1} * 4096)
    orr     x1, x0, x4
    str     x1, [x22, #({L0_INDEX_IMAGE} * 8)]
    add     x1, x22, #({IMAGE_L2} * 4096)
    orr     x2, x1, x4
    str     x2, [x0, #({L1_INDEX_IMAGE} * 8)]
    mov     x5, {IMAGE_L3_TABLES}
    add     x1, x1, #({L2_INDEX_IMAGE} * 8)
    orr     x2, x3, x4
3:  str     x2, [x1], #8
    add     x2, x2, #4096
    subs    x5, x5, #1
    b.ne    3b

    // TTBR1: the window on the start of RAM, in 2 MiB blocks, but for those
    // that hold the image: its text must not be writable here.
    add     x0, x22, #({WINDOW_L1} * 4096)
    orr     x1, x0, x4
    str     x1, [x22, #({L0_INDEX_WINDOW} * 8)]
    add     x1, x22, #({WINDOW_L2} * 4096)
    orr     x2, x1, x4
    str     x2, [x0, #({L1_INDEX_WINDOW} * 8)]
    ldr     x2, ={WINDOW_START}
    ldr     x5, ={WINDOW_END}
    ldr     x6, ={BLOCK_DATA}
    adrp    x7, __pa_image_start    // 2 MiB aligned
    ADR_PA  x8, __pa_image_end
4:  add     x9, x2, #0x200000
    cmp     x9, x7
    b.ls    5f                      // ends before the image
    cmp     x2, x8
    b.lo    6f                      // begins before the image's end: leave it out
5:  orr     x9, x2, x6
    str     x9, [x1]
6:  add     x1, x1, #8
    add     x2, x2, #0x200000
    cmp     x2, x5
    b.lo    4b

    // TTBR0: this file where it stands, executable and read-only.
    add     x1, x22, #({IDENTITY_L1} * 4096)
    add     x2, x22, #({IDENTITY_L2} * 4096)
    add     x3, x22, #({IDENTITY_L3} * 4096)
    orr     x5, x1, x4
    str     x5, [x23]               // the image lies below 512 GiB: entry 0
    orr     x5, x2, x4
    str     x5, [x1, #({L1_INDEX_IMAGE} * 8)]
    orr     x5, x3, x4
    str     x5, [x2, #({L2_INDEX_IMAGE} * 8)]
    ADR_PA  x0, __pa_image_start
    adr     x1, boot_text_end
    ldr     x2, ={PAGE_TEXT}
    bl      boot_map_pages

    // The caches may hold old, clean lines of what was just written past them;
    // once they are on, a walk could hit those. Invalidate by address to the
    // point of coherency. (Dirty lines are excluded by the boot protocol.)
    ADR_PA  x0, __pa_bss_start
    ADR_PA  x1, __pa_bss_end
    mrs     x2, ctr_el0
    ubfx    x2, x2, #16, #4         // CTR_EL0.DminLine: log2 of words
    mov     x3, #4
    lsl     x3, x3, x2
    dsb     sy                      // stores complete before the lines are dropped
7:  dc      ivac, x0
    add     x0, x0, x3
    cmp     x0, x1
    b.lo    7b

    // Translation: what the walks are to do, then the tables. From here on the
    // way is the same for every CPU. x21 = ID_AA64MMFR0_EL1, x22, x23 = the roots.
boot_translate:
    ldr     x0, ={MAIR}
    msr     mair_el1, x0
    ldr     x0, ={TCR}
    and     x1, x21, #0xf           // ID_AA64MMFR0_EL1.PARange
    mov     x2, {IPS_48_BITS}
    cmp     x1, x2
    csel    x1, x1, x2, lo          // IPS = min(PARange, 48 bits): more needs LPA2
    orr     x0, x0, x1, lsl #32     // TCR_EL1.IPS
    ubfx    x1, x21, #4, #4         // ASIDBits: 0 is 8 bits, 2 is 16
    cmp     x1, #2
    cset    x1, eq
    orr     x0, x0, x1, lsl #36     // TCR_EL1.AS
    msr     tcr_el1, x0
    msr     ttbr0_el1, x23
    msr     ttbr1_el1, x22

    // DSB SY: the stores and the cache maintenance are complete, and visible to
    // the walker, before anything below (Arm ARM B2.3, D8.2: a walk is not ordered
    // by program order). TLBI, IC: the TLB and the instruction cache may hold
    // anything out of reset; both are local, so NSH is enough to wait for them.
    // ISB: MAIR, TCR and TTBR take effect before SCTLR.M does, and not with it.
    dsb     sy
    tlbi    vmalle1
    ic      iallu
    dsb     nsh
    isb

    ldr     x0, ={SCTLR_ON}
    msr     sctlr_el1, x0
    isb                             // from here fetches are translated: through the identity map

    ldr     x8, =boot_upper_half
    ldr     x9, =boot_secondary_upper_half
    cmp     x24, #0
    csel    x8, x8, x9, eq
    br      x8
.size boot_at_el1, . - boot_at_el1

// x0 = first PA, x1 = end PA, x2 = descriptor bits, x3 = level 3 table(s) whose
// entry 0 maps the start of the image. Changes x0, x5 and x6.
.type boot_map_pages, %function
boot_map_pages:
    adrp    x6, __pa_image_start
1:  cmp     x0, x1
    b.hs    2f
    sub     x5, x0, x6
    lsr     x5, x5, #12
    orr     x7, x0, x2
    str     x7, [x3, x5, lsl #3]
    add     x0, x0, #4096
    b       1b
2:  ret
.size boot_map_pages, . - boot_map_pages

//------------------------------------------------------------------------------
// Replace TTBR1, from the identity map. x0 = the new root's PA; interrupts masked.
// No stack, no memory access: between the two TTBR writes the upper half is gone.
//------------------------------------------------------------------------------
.type boot_replace_ttbr1_identity, %function
boot_replace_ttbr1_identity:
    // The new tables may map the same address with another block size or type,
    // and a TLB that holds both may raise a conflict abort or mix them (Arm ARM
    // D8.16, break-before-make). So: an empty root, no entry left, the new root.
    ADR_PA  x1, __pa_boot_tables
    add     x1, x1, #({RESERVED} * 4096)
    dsb     ish                     // accesses through the old tables are done; new entries are visible
    msr     ttbr1_el1, x1
    isb                             // no walk from the old root begins after this
    tlbi    vmalle1
    dsb     nsh                     // one CPU runs: its own TLB is all there is
    isb                             // nor is anything prefetched through an old entry
    msr     ttbr1_el1, x0
    isb
    ret
.size boot_replace_ttbr1_identity, . - boot_replace_ttbr1_identity

.ltorg

//------------------------------------------------------------------------------
// The upper half
//------------------------------------------------------------------------------
.section .text.boot_upper_half, "ax", %progbits
.type boot_upper_half, %function
boot_upper_half:
    ldr     x0, =__boot_stack_top
    mov     sp, x0
    mov     x29, xzr                // the outermost frame record is {{0, 0}}: backtraces end here
    mov     x30, xzr
    mov     x0, x19
    mov     x1, x20
    b       boot_first_rust
.size boot_upper_half, . - boot_upper_half

// The same for the others: each has its stack in boot_secondary_stacks, which
// entry.rs wrote and which the caches now show.
.type boot_secondary_upper_half, %function
boot_secondary_upper_half:
    and     x0, x20, #0xfff         // its number
    adrp    x1, boot_secondary_stacks
    add     x1, x1, :lo12:boot_secondary_stacks
    ldr     x1, [x1, x0, lsl #3]
    mov     sp, x1
    mov     x29, xzr
    mov     x30, xzr
    b       boot_secondary_rust
.size boot_secondary_upper_half, . - boot_secondary_upper_half

// extern "C" fn boot_replace_ttbr1(root): from the upper half into the identity map.
.globl boot_replace_ttbr1
.type boot_replace_ttbr1, %function
boot_replace_ttbr1:
    mrs     x2, daif
    msr     daifset, #0xf           // vectors and stack are in the half that goes away
    mov     x3, x30
    ldr     x4, =boot_replace_ttbr1_identity
    blr     x4
    msr     daif, x2
    ret     x3
.size boot_replace_ttbr1, . - boot_replace_ttbr1
.ltorg

// Where CPU_ON is to send the others, as data: code in the upper half can form no
// address in the lower.
.section .rodata.boot_secondary, "a", %progbits
.balign 8
.globl boot_secondary_pa
boot_secondary_pa:
    .quad   boot_secondary

//------------------------------------------------------------------------------
// The boot tables. Never part of an allocator: the image owns them.
//------------------------------------------------------------------------------
.section .bss.boot_tables, "aw", %nobits
.balign 4096
.globl boot_tables
boot_tables:
    .skip   {TABLES} * 4096
