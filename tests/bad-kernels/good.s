// Goes right: a whole plan, and the status for success.
        good_output
        exit    16
