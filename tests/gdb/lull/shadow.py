"""lull-shadow: what KASAN's shadow says around an address."""

import gdb

from .command import Command
from .machine import need_variables, read
from .rust import number, static
from .words import U64, address_of, canonical, grouped, say

# shadow = (address >> 3) + this, for addresses of the upper half (kernel/src/mm/layout.rs).
SHADOW_OFFSET = 0xDFFF_8000_0000_0000
UPPER_HALF = 0xFFFF_0000_0000_0000
# What is behind every area, and vmalloc space without one (kernel/src/mm/kasan/shadow.rs).
VMALLOC_INVALID = 0xF8
# Shadow bytes in a line, and lines before and after the one that matters (kasan/report.rs).
ROW = 16
ROWS_AROUND = 2


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
            meaning = self.meaning(byte[0], va)
            say("The shadow of {} at {} is {:02x}: {}".format(grouped(va), grouped(at), byte[0], meaning))
        middle = at & ~(ROW - 1)
        for row in range(-ROWS_AROUND, ROWS_AROUND + 1):
            start = middle + row * ROW
            # The first row of all shadow has none before it, the last none behind.
            memory = start - SHADOW_OFFSET << 3
            if not UPPER_HALF <= memory <= U64:
                continue
            # A row is aligned, so it is in one page.
            row_bytes = self.bytes_at(start, ROW)
            shown = [".."] * ROW if row_bytes is None else ["{:02x}".format(b) for b in row_bytes]
            say("{}{:016x}: {}".format(" " if row else ">", memory, " ".join(shown)))
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
            this = "one" if va & 7 < byte else "none"
            return "{} of 8 bytes may be accessed, and this is {} of them".format(byte, this)
        if byte == VMALLOC_INVALID:
            return "no access, vmalloc space without an area or behind its end"
        return "no access"
