"""The gdb commands that read the kernel's data: lull-pt, lull-lazy, lull-vmalloc, lull-shadow.

They read registers and memory and call nothing in the kernel, so they work wherever the machine
has stopped, in the path of a panic too. Any gdb with Python 3 will do, from gdb 10 on.

What Rust does not promise, the layout of types, is asked of the debug information, field by field
by name. What it does promise is used: an Option of a reference is null or the reference. The output
has the kernel's own words and layout, so that the two can be compared.
"""

import contextlib
import re

import gdb

U64 = (1 << 64) - 1
PAGE_SIZE = 4096
# shadow = (address >> 3) + this; from the start of the upper half on (kernel/src/mm/layout.rs).
SHADOW_OFFSET = 0xDFFF_8000_0000_0000
UPPER_HALF = 0xFFFF_0000_0000_0000
# What is behind every area, and vmalloc space without one (kernel/src/mm/kasan/shadow.rs).
VMALLOC_INVALID = 0xF8
SHADOW_ROW = 16
SHADOW_ROWS_AROUND = 2


def say(line):
    """Prints a line."""
    gdb.write(line + "\n")


def grouped(address, digits=16):
    """A virtual address as the kernel prints it: 0xffff_8000_4020_0000."""
    text = "{:0{}x}".format(address, digits)
    return "0x" + "_".join(text[at : at + 4] for at in range(0, len(text), 4))


def physical(address):
    """A physical address as the kernel prints it: 0x0000_4020_0000."""
    return grouped(address, 12)


# Registers and memory.


def register(*names):
    """The first of these registers that the target shows; gdb stubs differ in the names."""
    for name in names:
        value = gdb.parse_and_eval("$" + name)
        if value.type.code not in (gdb.TYPE_CODE_VOID, gdb.TYPE_CODE_STRUCT):
            return int(value) & U64
    raise gdb.GdbError("the target does not show the register " + names[0])


def read(address, length):
    """Bytes of memory."""
    return bytes(gdb.selected_inferior().read_memory(address, length))


def word(address):
    """The 64 bits at an address."""
    return int.from_bytes(read(address, 8), "little")


@contextlib.contextmanager
def physical_memory():
    """Inside, every address that is read is a physical one. QEMU's gdb stub alone can do that."""

    def switch(mode):
        return gdb.execute("maintenance packet Qqemu.PhyMemMode:" + mode, to_string=True)

    try:
        if '"OK"' not in switch("1"):
            raise gdb.GdbError("the target reads no physical memory; QEMU's gdb stub does")
        yield
    finally:
        # Whatever happened, an address is a virtual one again.
        switch("0")


def address_of(argument, usage):
    """The address that a person wrote: a number as the kernel prints it, or an expression."""
    text = argument.strip()
    if not text:
        raise gdb.GdbError("usage: " + usage)
    # Reports print addresses without 0x.
    if re.fullmatch(r"(0[xX])?[0-9a-fA-F_]+", text) and (text[:2] in ("0x", "0X") or len(text) == 16):
        address = int(text.replace("_", ""), 16)
    else:
        try:
            address = int(gdb.parse_and_eval(text))
        except (gdb.error, TypeError, ValueError) as error:
            raise gdb.GdbError("'{}' is no address: {}".format(text, error))
    if not -(1 << 63) <= address <= U64:
        raise gdb.GdbError("'{}' is no address: it has more than 64 bits".format(text))
    return address & U64


def canonical(address, bits):
    """Refuses an address that neither half of this many bits has; says whether it is the upper."""
    top = address >> bits
    if top not in (0, U64 >> bits):
        raise gdb.GdbError(
            "{} is not canonical: bits [63:{}] are neither all 0 nor all 1".format(grouped(address), bits)
        )
    return top != 0


# Rust's data.


def unknown(what):
    """The image does not have what its source says, or there is none."""
    return gdb.GdbError("no {}: start gdb with the kernel's image, as make gdb does".format(what))


def static(path):
    """A static of the kernel."""
    symbol = gdb.lookup_static_symbol(path) or gdb.lookup_global_symbol(path)
    if symbol is None:
        raise unknown("symbol " + path)
    return symbol.value()


def type_named(path):
    """A type of the kernel."""
    try:
        return gdb.lookup_type(path)
    except gdb.error:
        raise unknown("type " + path)


def object_at(address, type_name):
    """The object of that type at an address."""
    return gdb.Value(address).cast(type_named(type_name).pointer()).dereference()


def only_field(value):
    """What is in a wrapper (Cell, UnsafeCell, an atomic, a newtype), or None if it is none."""
    kind = value.type.strip_typedefs()
    if kind.code != gdb.TYPE_CODE_STRUCT or str(kind.name).startswith("core::option::Option<"):
        return None
    # Markers have no size.
    fields = [field for field in kind.fields() if field.type.sizeof]
    return value[fields[0]] if len(fields) == 1 else None


def peel(value):
    """What is in all the wrappers around a value."""
    inner = only_field(value)
    while inner is not None:
        value, inner = inner, only_field(inner)
    return value


def get(value, *names):
    """The field of the field, through whatever wrappers are in between."""
    for name in names:
        inner = value
        while inner is not None:
            kind = inner.type.strip_typedefs()
            if kind.code == gdb.TYPE_CODE_STRUCT and any(field.name == name for field in kind.fields()):
                break
            inner = only_field(inner)
        if inner is None:
            raise unknown("field {} in {}".format(name, value.type))
        value = inner[name]
    return value


def number(value, *names):
    """The number in a field."""
    return int(peel(get(value, *names))) & U64


def reference(value, *names):
    """The address in a field that is an Option of a reference; 0 for None."""
    return word(int(peel(get(value, *names)).address))


def some(value):
    """What is in an Option that is known to be Some."""
    return get(value, "Some", "__0")


def text(value):
    """A string slice."""
    while value.type.code == gdb.TYPE_CODE_STRUCT and only_field(value) is not None:
        value = only_field(value)
    start, length = int(get(value, "data_ptr")) & U64, int(get(value, "length"))
    return read(start, min(length, PAGE_SIZE)).decode("utf-8", "replace").rstrip("\0")


def items(deferred):
    """The items of a `task::deferred::List`."""
    array = peel(get(deferred, "items"))
    return [some(array[at]) for at in range(number(deferred, "len"))]


def room(deferred):
    """How many items a `task::deferred::List` can hold."""
    first, last = peel(get(deferred, "items")).type.range()
    return last - first + 1


def variant(type_name, discriminant):
    """The name of an enum's variant as the kernel's command line has it: two-counters."""
    for field in type_named(type_name).fields():
        if field.enumval == discriminant:
            return re.sub(r"(?<!^)(?=[A-Z])", "-", field.name.rsplit("::", 1)[-1]).lower()
    raise unknown("variant {} of {}".format(discriminant, type_name))


# The commands.


def need_machine():
    """Refuses where there are no registers to read: gdb would show what the image file holds."""
    if gdb.selected_thread() is None:
        raise gdb.GdbError("there is no machine: it has ended, or gdb is not attached to one")


def mmu_is_on():
    """SCTLR_EL1.M (DDI 0487, D24.2). QEMU calls the register by its AArch32 name."""
    return register("SCTLR_EL1", "SCTLR") & 1 != 0


def need_variables():
    """Refuses before the kernel's variables are where the image says."""
    need_machine()
    if not mmu_is_on():
        raise gdb.GdbError("the MMU is off: the kernel's variables cannot be read yet")


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


class PageTable(Command):
    """Walk the page tables for an address: lull-pt VA

Starts from TTBR0_EL1 or TTBR1_EL1 as TCR_EL1 says, reads physical memory, and decodes the entry of
each level. VA is an address as the kernel prints it, or an expression of
Rust: $sp, $FAR_EL1, &kernel::task::BOOT_TASK.

The lines are those of the kernel's own reports, with the attributes in full: the memory type that
MAIR_EL1 gives, shareability, and every bit that is set. The walk shows what the tables say now; a
TLB may still hold what they said before."""

    name = "lull-pt"

    def run(self, argument):
        va = address_of(argument, "lull-pt VA")
        need_machine()
        if not mmu_is_on():
            raise gdb.GdbError("the MMU is off: {} is a physical address".format(grouped(va)))
        tcr = register("TCR_EL1")
        # Bit 55 chooses the half (DDI 0487, D8.2.3): T1SZ, EPD1, TG1 or T0SZ, EPD0, TG0.
        half = va >> 55 & 1
        bits = 64 - (tcr >> (16 if half else 0) & 0x3F)
        half = int(canonical(va, bits))
        if tcr >> (23 if half else 7) & 1:
            raise gdb.GdbError("{0} is not mapped: TCR_EL1.EPD{1} = 1, TTBR{1}_EL1 is not used".format(grouped(va), half))
        if (tcr >> 30 & 3 != 2) if half else (tcr >> 14 & 3 != 0):
            raise gdb.GdbError("TCR_EL1 has a granule other than the kernel's 4 KiB")
        if tcr >> 59 & 1:
            raise gdb.GdbError("TCR_EL1.DS = 1: the kernel has no 52-bit tables")
        mair = register("MAIR_EL1")
        # The ASID is above BADDR, CnP below it.
        table = register("TTBR{}_EL1".format(half)) & 0x0000_FFFF_FFFF_F000
        say("TTBR{}_EL1: 4k pages, {}-bit VAs, root at {}".format(half, bits, physical(table)))
        with physical_memory():
            self.walk(va, bits, table, mair)

    @staticmethod
    def walk(va, bits, table, mair):
        """From the root to the leaf, a line a level."""
        offset = va & ((1 << bits) - 1)
        # Each level resolves nine bits; the first what is left of them.
        first = 4 - -(-(bits - 12) // 9)
        for level in range(first, 4):
            shift = 12 + 9 * (3 - level)
            index = offset >> shift & (0x1FF if level > first else U64)
            entry = table + 8 * index
            descriptor = word(entry)
            output = descriptor & 0x0000_FFFF_FFFF_F000
            line = "  level {} [{:3}] at {} = {:016x} ".format(level, index, physical(entry), descriptor)
            if descriptor & 1 == 0:
                say(line + ("not valid, other bits set" if descriptor else "nothing"))
            elif level < 3 and descriptor & 2:
                say(line + "table at {}{}".format(physical(output), table_limits(descriptor)))
                table = output
                continue
            elif level in (1, 2) and not descriptor & 2 or level == 3 and descriptor & 2:
                inside = (1 << shift) - 1
                output &= ~inside
                what = "page" if level == 3 else "block"
                say(line + "{} at {}, {}".format(what, physical(output), leaf_attributes(descriptor, mair)))
                say("  now translates to {}".format(physical(output | va & inside)))
                return
            else:
                say(line + "reserved encoding")
            say("  not mapped: level {} translation fault".format(level))
            return


def table_limits(entry):
    """What a table entry takes away from all below it, bits [63:59] (DDI 0487, D8.3.1)."""
    names = {63: "NSTable", 62: "APTable[1]: read-only", 61: "APTable[0]: not for EL0", 60: "UXNTable", 59: "PXNTable"}
    return "".join(", " + name for bit, name in names.items() if entry >> bit & 1)


def leaf_attributes(entry, mair):
    """The attributes of a block or page: first the rights in the kernel's words, then all of them."""
    read_only, el0 = entry >> 7 & 1, entry >> 6 & 1
    # What EL0 can write, EL1 never executes.
    executable = not entry >> 53 & 1 and not (el0 and not read_only)
    parts = [("ro" if read_only else "RW") + (" x" if executable else " NX")]
    index = entry >> 2 & 7
    types = {0x00: "device nGnRnE", 0x04: "device nGnRE", 0x08: "device nGRE", 0x0C: "device GRE",
             0xFF: "normal write-back", 0xBB: "normal write-through", 0x44: "normal non-cacheable"}
    memory = mair >> 8 * index & 0xFF
    parts.append("{} (MAIR {})".format(types.get(memory, "memory type {:#04x}".format(memory)), index))
    parts.append(["non-shareable", "reserved SH", "outer shareable", "inner shareable"][entry >> 8 & 3])
    if not entry >> 10 & 1:
        parts.append("AF clear: the next access faults")
    names = {5: "NS", 6: "EL0 too", 10: "AF", 11: "nG", 50: "GP", 51: "DBM", 52: "contiguous", 53: "PXN", 54: "UXN"}
    parts += [name for bit, name in names.items() if entry >> bit & 1]
    parts += ["software bit {}".format(bit) for bit in range(55, 59) if entry >> bit & 1]
    return ", ".join(parts)


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
        model = variant("lazy_mmu::model::Model", number(static("kernel::mm::lazy::MODEL")))
        backend = variant("kernel::mm::lazy::Backend", number(static("kernel::mm::lazy::BACKEND")))
        state, deferred = peel(get(task, "lazy_mmu_state")), get(task, "deferred")
        count, pause, active = (number(state, name) for name in ("enable_count", "pause_count", "active"))
        if model == "two-counters":
            counters = "enable={} pause={}".format(count, pause)
        elif model == "nesting-level":
            counters = "nesting_level={} active={}".format(count, active)
        else:
            counters = "active={}".format(active)
        say("Lazy MMU mode of task {}: model={} backend={} {} owed={} in_interrupt={}".format(
            text(get(task, "name")), model, backend, counters, number(deferred, "barriers"),
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
            number(static("kernel::mm::lazy::QUEUE_FULL"))))


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
        state = static("kernel::mm::vmalloc::allocate::STATE")
        if number(state, "lock"):
            say("The lock is held: what follows may be half changed.")
        busy, lazy = get(state, "data", "busy"), get(state, "data", "lazy")
        used = self.check(self.tree(reference(busy, "tree", "root")), number(busy, "count"), "areas in use")
        freed = self.check(self.chain(lazy), number(lazy, "count"), "freed areas")
        for area in used:
            info = peel(get(area, "info"))
            caller = reference(info, "caller")
            made = " " + self.place(caller) if caller else ""
            # vmallocinfo does not tell a vmalloc that may have blocks from one that may not.
            kind = variant("kernel::mm::vmalloc::area::AreaKind", number(info, "kind")).split("-")[0]
            say("{}{} pages={} {}".format(self.range(area), made, number(area, "pages") - 1, kind))
        for area in freed:
            say(self.range(area) + " unpurged vm_area")
        say("{} areas in use, {} freed and not purged ({} pages)".format(len(used), len(freed), number(lazy, "pages")))

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
        """The records of the list, in order: each leads to the next by its second child."""
        at = reference(some(get(lazy, "ends")), "__0") if number(lazy, "count") else 0
        while at:
            yield object_at(at, self.record)
            at = reference(self.child(at, 1))

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


class Shadow(Command):
    """Show the KASAN shadow around an address: lull-shadow VA

What the shadow byte of VA says of it, and the bytes around it in the layout of the kernel's
reports: a byte speaks of 8 bytes of memory, a line of 128. 00: all 8 may be accessed; 01 to 07: the
first that many; f8: none, it is vmalloc space without an area or behind its end. A shadow byte that
is not mapped is shown as two dots."""

    name = "lull-shadow"

    def run(self, argument):
        va = address_of(argument, "lull-shadow VA")
        need_variables()
        canonical(va, 48)
        if va < UPPER_HALF:
            raise gdb.GdbError("{} is in the lower half, which has no shadow".format(grouped(va)))
        at = (va >> 3) + SHADOW_OFFSET
        byte = self.bytes_at(at, 1)
        if byte is None and not number(static("kernel::mm::kasan::populate::ON")):
            raise gdb.GdbError("there is no shadow: KASAN=off")
        if byte is None:
            say("The shadow of {} at {} is not mapped".format(grouped(va), grouped(at)))
        else:
            say("The shadow of {} at {} is {:02x}: {}".format(grouped(va), grouped(at), byte[0], self.meaning(byte[0], va)))
        middle = at & ~(SHADOW_ROW - 1)
        for row in range(-SHADOW_ROWS_AROUND, SHADOW_ROWS_AROUND + 1):
            start = middle + row * SHADOW_ROW
            # The first row of all shadow has none before it, the last none behind.
            memory = start - SHADOW_OFFSET << 3
            if not UPPER_HALF <= memory <= U64:
                continue
            # A row is aligned, so it is in one page.
            row_bytes = self.bytes_at(start, SHADOW_ROW)
            shown = " ".join("{:02x}".format(b) for b in row_bytes) if row_bytes else " ".join([".."] * SHADOW_ROW)
            say("{}{:016x}: {}".format(" " if row else ">", memory, shown))
            if row == 0:
                # Behind the mark, the address and its colon, three columns a byte.
                say(" " * (1 + 16 + 1 + 3 * (at - middle) + 1) + "^")

    @staticmethod
    def bytes_at(shadow, length):
        """Shadow bytes, or None where there are none."""
        try:
            return read(shadow, length)
        except gdb.MemoryError:
            return None

    @staticmethod
    def meaning(byte, va):
        """What a shadow byte says of an address."""
        if byte == 0:
            return "all 8 bytes may be accessed"
        if byte < 8:
            return "{} of 8 bytes may be accessed, and this is {} of them".format(byte, "one" if va & 7 < byte else "none")
        if byte == VMALLOC_INVALID:
            return "no access, vmalloc space without an area or behind its end"
        return "no access"


for command in (PageTable, Lazy, Vmalloc, Shadow):
    command()
