// Reports failure after all that a good kernel prints.
        good_output
        say     "kernel panic: on purpose\n"
        exit    32
