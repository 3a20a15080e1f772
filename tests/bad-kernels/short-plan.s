// Reports success, but one test of three was not run.
        say     "KTAP version 1\n1..3\nok 1 a\nok 2 b\n"
        exit    16
