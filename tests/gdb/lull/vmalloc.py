"""lull-vmalloc: the areas of vmalloc space."""

import gdb

from .command import Command, no_arguments
from .machine import need_variables
from .rust import get, number, object_at, peel, reference, static, text, variant
from .words import say

PAGE_SIZE = 4096


class Vmalloc(Command):
    """List the areas of vmalloc space: lull-vmalloc

One a line in the layout of vmallocinfo, lowest address first: the range with its guard page, bytes,
who made the area, pages. Then those that are freed but wait for the purge, the oldest first; while
a purge is under way those that it works on are in neither list."""

    name = "lull-vmalloc"
    record = "kernel::mm::vmalloc::area::VmapArea"

    def run(self, argument):
        no_arguments(argument, self.name)
        need_variables()
        space = static("kernel::mm::vmalloc::state::SPACE")
        used, freed, pages = [], [], 0
        for n in range(number(space, "count")):
            arena = get(space, "arenas")[n]
            state = get(arena, "ranges", "inner")
            if number(state, "lock"):
                say("The lock of arena {} is held: what follows may be half changed.".format(n))
            busy, lazy = get(state, "data", "busy"), get(arena, "lazy")
            used += self.check(self.tree(reference(busy, "tree", "root")), number(busy, "count"), "areas in use")
            freed += self.chain(lazy)
            pages += number(lazy, "pages")
        for area in used:
            caller = reference(area, "caller")
            made = " " + self.place(caller) if caller else ""
            # vmallocinfo does not tell a vmalloc that may have blocks from one that may not.
            kind = variant("kernel::mm::vmalloc::area::AreaKind", number(area, "kind")).split("-")[0]
            say("{}{} pages={} {}".format(self.range(area), made, number(area, "pages") - 1, kind))
        for area in freed:
            say(self.range(area) + " unpurged vm_area")
        say("{} areas in use, {} freed and not purged ({} pages)".format(len(used), len(freed), pages))

    def tree(self, root):
        """The records of a tree, in order."""
        above, at = [], root
        while above or at:
            while at:
                above.append(at)
                at = reference(self.child(at, 0))
                # A path is no longer than twice the logarithm of how many records there can be.
                if len(above) > 128:
                    raise gdb.GdbError("the tree of areas is broken: a path has no end")
            at = above.pop()
            yield object_at(at, self.record)
            at = reference(self.child(at, 1))

    def chain(self, lazy):
        """The records of the list, the oldest first: each leads to the one before it by its second child."""
        found, at = [], int(peel(get(lazy, "first")))
        while at:
            found.insert(0, object_at(at, self.record))
            at = reference(self.child(at, 1))
            # No more than there are records for in a gigabyte.
            if len(found) > 1 << 20:
                raise gdb.GdbError("the links of the freed areas are broken: they have no end")
        return found

    def child(self, address, side):
        """A link of the record at an address."""
        return get(object_at(address, self.record), "child")[side]

    @staticmethod
    def check(records, count, what):
        """All records, if they are as many as they should be: a broken link may lead in circles."""
        found = []
        for record in records:
            if len(found) == count:
                raise gdb.GdbError("the links of the {} are broken: there should be {}".format(what, count))
            found.append(record)
        if len(found) != count:
            raise gdb.GdbError("the links of the {} are broken: {} of {}".format(what, len(found), count))
        return found

    @staticmethod
    def range(area):
        """The addresses of an area and its bytes."""
        start, size = number(area, "first") * PAGE_SIZE, number(area, "pages") * PAGE_SIZE
        return "{:#018x}-{:#018x} {:7}".format(start, start + size, size)

    @staticmethod
    def place(address):
        """The file and line of a `core::panic::Location`."""
        location = object_at(address, "core::panic::location::Location")
        # The library has called the field of the name by several names.
        names = [field.name for field in location.type.fields() if str(field.name).startswith("file")]
        return "{}:{}".format(text(get(location, names[0])), number(location, "line"))
