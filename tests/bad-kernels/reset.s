// Prints all that a good kernel prints and then resets by PSCI (SYSTEM_RESET).
        good_output
        movz    w0, #0x8400, lsl #16
        movk    w0, #0x0009
        hvc     #0
