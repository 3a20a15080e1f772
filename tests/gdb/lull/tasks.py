"""lull-tasks and lull-task: every task, and any gdb command as if one of them were running."""

import contextlib
import re

import gdb

from .command import Command, no_arguments
from .machine import need_variables
from .rust import get, number, object_at, peel, reference, static, text, variant
from .words import U64, say

# No more tasks are believed: a broken link may lead in circles.
TASKS_LIMIT = 100000
# As `ps` prints it (kernel/src/task/list.rs).
HEAD = "   ID STATE    CPU PIN  SWITCHES PREEMPT ENABLE PAUSE OWED NAME"
# What a switch saves, in the order of `arch::switch::Context`.
SAVED = ["x{}".format(n) for n in range(19, 29)]


def all_tasks():
    """Every task, in the order in which they came."""
    scheduler = get(static("kernel::task::schedule::SCHEDULER"), "data")
    at = reference(get(scheduler, "all", "first"))
    if not at:
        # The scheduler has not begun.
        yield static("kernel::task::BOOT_TASK")
    for _ in range(TASKS_LIMIT):
        if not at:
            return
        task = object_at(at, "kernel::task::Task")
        yield task
        at = reference(get(task, "all", "next"))
    raise gdb.GdbError("the list of tasks is broken: it has no end")


def pinned(task):
    """The only CPU that a task may run on, or None."""
    found = re.search(r"Some\((\d+)\)", get(task, "pinned").format_string())
    return int(found.group(1)) if found else None


def state(task):
    """What a task is up to, in the word of `ps`."""
    if number(task, "on_cpu"):
        return "running"
    name = variant("kernel::task::State", number(task, "state"))
    return "ready" if name == "runnable" else name


class Tasks(Command):
    """List the tasks: lull-tasks

In the columns of the monitor's command ps: number, what the task is up to, the CPU that it runs on or
ran on last, the one that it is pinned to, how often it was switched to, how many sections forbid to
preempt it, enable_count and pause_count of its lazy MMU state, whether barriers are owed, its name.
`info threads` shows the CPUs: thread N + 1 is CPU N."""

    name = "lull-tasks"

    def run(self, argument):
        no_arguments(argument, self.name)
        need_variables()
        if number(static("kernel::task::schedule::SCHEDULER"), "lock"):
            say("The scheduler is locked: what follows may be half changed.")
        say(HEAD)
        count = 0
        for task in all_tasks():
            count += 1
            pin, lazy = pinned(task), get(task, "lazy_mmu_state")
            say("{:5} {:8} {:3} {:4} {:8} {:7} {:6} {:5} {:4} {}".format(
                number(task, "id"), state(task), number(task, "cpu"), "" if pin is None else "!{}".format(pin),
                number(task, "switches"), number(task, "preempt_count") & 0xFFFFFFFF,
                number(lazy, "enable_count"), number(lazy, "pause_count"),
                number(task, "deferred", "barriers"), text(get(task, "name"))))
        say("{} tasks".format(count))


class OfTask(Command):
    """Do something as if a task were running: lull-task ID|NAME [COMMAND]

COMMAND, bt where there is none, sees the registers of the task (lull-tasks lists numbers and
names): those that were saved when it was switched from, or, while it runs, those of its CPU. So bt and
frame apply N show its stack. Afterwards the registers are what they were, and the CPU is the one that
was selected."""

    name = "lull-task"

    def run(self, argument):
        words = argument.split(None, 1)
        if not words:
            raise gdb.GdbError("usage: lull-task ID|NAME [COMMAND]; lull-tasks lists the tasks")
        need_variables()
        known = []
        for task in all_tasks():
            names = [str(number(task, "id")), text(get(task, "name"))]
            if words[0] in names:
                break
            known.append("{} ({})".format(*names))
        else:
            raise gdb.GdbError("unknown task '{}'; known: {}".format(words[0], ", ".join(known)))
        command = words[1] if len(words) > 1 else "backtrace"
        if state(task) == "exited":
            raise gdb.GdbError("task {} has ended".format(words[0]))
        with self.cpu(number(task, "cpu")) if state(task) == "running" else self.registers(task):
            gdb.execute(command)

    @staticmethod
    @contextlib.contextmanager
    def cpu(cpu):
        """Inside, a CPU is selected."""
        before = gdb.selected_thread()
        # QEMU numbers its threads from 1.
        threads = [thread for thread in gdb.selected_inferior().threads() if thread.ptid[1] == cpu + 1]
        if not threads:
            raise gdb.GdbError("the target does not show CPU {}".format(cpu))
        threads[0].switch()
        try:
            yield
        finally:
            before.switch()

    @staticmethod
    @contextlib.contextmanager
    def registers(task):
        """Inside, the selected CPU's registers are those that the task had when it was switched from."""
        context = get(task, "context")
        saved = peel(get(context, "saved"))
        there = {name: int(saved[at]) & U64 for at, name in enumerate(SAVED)}
        there.update(x29=number(context, "frame"), x30=number(context, "link"), sp=number(context, "sp"))
        # It goes on where the call of the switch returns to.
        there["pc"] = there["x30"]
        if not there["pc"]:
            raise gdb.GdbError("task {} has never run, or been switched from".format(number(task, "id")))
        frame = gdb.newest_frame()
        here = {name: int(frame.read_register(name)) & U64 for name in there}

        def write(values):
            for name, value in values.items():
                gdb.execute("set ${} = {}".format(name, value), to_string=True)

        try:
            write(there)
            yield
        finally:
            gdb.newest_frame().select()
            write(here)
