"""lull-lazy: the lazy MMU state of a task, and what it has put off."""

from .command import Command, no_arguments
from .machine import need_variables, register
from .rust import get, items, number, object_at, peel, room, static, text, variant
from .words import grouped, say


class Lazy(Command):
    """Show the lazy MMU state of the current task: lull-lazy

The line of the kernel's reports: model, backend, the counters or flags that the model keeps, whether
barriers are owed, whether the task is under an interrupt handler. Then every flush and store that
is put off. The current task is that of the selected CPU (SP_EL0), before there is one BOOT_TASK."""

    name = "lull-lazy"

    def run(self, argument):
        no_arguments(argument, self.name)
        need_variables()
        current = register("SP_EL0")
        task = object_at(current, "kernel::task::Task") if current else static("kernel::task::BOOT_TASK")
        chosen = static("kernel::mm::lazy::config::CONFIG")
        model = variant("lazy_mmu::model::Model", number(chosen, "model"))
        backend = variant("kernel::mm::lazy::config::Backend", number(chosen, "backend")).replace("per-cpu", "percpu")
        lock = variant("kernel::mm::lazy::config::PageTableLock", number(chosen, "lock"))
        state, deferred = peel(get(task, "lazy_mmu_state")), get(task, "deferred")
        count, pause, active = (number(state, name) for name in ("enable_count", "pause_count", "active"))
        if model == "two-counters":
            counters = "enable={} pause={}".format(count, pause)
        elif model == "nesting-level":
            counters = "nesting_level={} active={}".format(count, active)
        else:
            counters = "active={}".format(active)
        say("Lazy MMU mode of task {}: model={} backend={} ptlock={} {} owed={} in_interrupt={}".format(
            text(get(task, "name")), model, backend, lock, counters, number(deferred, "barriers"),
            int(number(task, "interrupt_depth") != 0)))
        flushes, stores = get(deferred, "flushes"), get(deferred, "stores")
        for flush in items(flushes):
            say("  flush pending: {} pages from {}, {} removed".format(
                number(flush, "range", "pages"), grouped(number(flush, "range", "start")),
                "tables" if number(flush, "tables") else "leaves"))
        for store in items(stores):
            say("  store queued: {} {:016x} -> {:016x}".format(
                grouped(number(store, "va")), number(store, "old"), number(store, "new")))
        say("  {} of {} flushes pending, {} of {} stores queued, the queue was full {} times".format(
            number(flushes, "len"), room(flushes), number(stores, "len"), room(stores),
            number(static("kernel::mm::lazy::full::QUEUE_FULL"))))
