// Prints all that a good kernel prints and exits with 0, the usual success.
        good_output
        exit    0
