"""What all commands have in common."""

import gdb


def no_arguments(argument, name):
    """Refuses arguments."""
    if argument.strip():
        raise gdb.GdbError("{} takes no '{}'".format(name, argument.strip()))


class Command(gdb.Command):
    """A command whose troubles are messages."""

    name = ""

    def __init__(self):
        super().__init__(self.name, gdb.COMMAND_DATA)

    def invoke(self, argument, _from_tty):
        """Runs the command with names read as Rust's."""
        language = gdb.parameter("language")
        gdb.execute("set language rust", to_string=True)
        try:
            self.run(argument)
        except (gdb.GdbError, KeyboardInterrupt):
            raise
        except gdb.MemoryError as error:
            raise gdb.GdbError("{}: {}: is it mapped? lull-pt tells".format(self.name, error))
        except Exception as error:  # A traceback would help nobody.
            raise gdb.GdbError("{}: {}: is the image of this source?".format(self.name, error))
        finally:
            gdb.execute("set language " + language, to_string=True)
