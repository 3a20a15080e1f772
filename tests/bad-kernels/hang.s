// Prints all that a good kernel prints and then does not end.
        good_output
1:      wfi
        b       1b
