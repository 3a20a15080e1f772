"""lull-pt: the walk that the MMU makes for an address."""

import gdb

from .command import Command
from .machine import mmu_is_on, need_machine, physical_memory, register, word
from .words import U64, address_of, canonical, grouped, physical, say


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
            why = "TCR_EL1.EPD{0} = 1, TTBR{0}_EL1 is not used".format(half)
            raise gdb.GdbError("{} is not mapped: {}".format(grouped(va), why))
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


# Bits [63:59] of a table entry: what it takes away from all below it (DDI 0487, D8.3.1).
TABLE_BITS = {
    63: "NSTable",
    62: "APTable[1]: read-only",
    61: "APTable[0]: not for EL0",
    60: "UXNTable",
    59: "PXNTable",
}
# Bits of a block or page that are words of their own.
LEAF_BITS = {
    5: "NS",
    6: "EL0 too",
    10: "AF",
    11: "nG",
    50: "GP",
    51: "DBM",
    52: "contiguous",
    53: "PXN",
    54: "UXN",
    **{bit: "software bit {}".format(bit) for bit in range(55, 59)},
}
# Fields of MAIR_EL1: the memory types that kernels use.
MEMORY_TYPES = {
    0x00: "device nGnRnE",
    0x04: "device nGnRE",
    0x08: "device nGRE",
    0x0C: "device GRE",
    0x44: "normal non-cacheable",
    0xBB: "normal write-through",
    0xFF: "normal write-back",
}
SHAREABILITY = ("non-shareable", "reserved SH", "outer shareable", "inner shareable")


def bits_set(entry, names):
    """The names of the bits that are set."""
    return [name for bit, name in names.items() if entry >> bit & 1]


def table_limits(entry):
    """What a table entry takes away, as the rest of a line."""
    return "".join(", " + name for name in bits_set(entry, TABLE_BITS))


def leaf_attributes(entry, mair):
    """The attributes of a block or page: the rights in the kernel's words, then all of them."""
    read_only, el0 = entry >> 7 & 1, entry >> 6 & 1
    # What EL0 can write, EL1 never executes.
    executable = not entry >> 53 & 1 and not (el0 and not read_only)
    index = entry >> 2 & 7
    memory = mair >> 8 * index & 0xFF
    memory = MEMORY_TYPES.get(memory, "memory type {:#04x}".format(memory))
    parts = [
        ("ro" if read_only else "RW") + (" x" if executable else " NX"),
        "{} (MAIR {})".format(memory, index),
        SHAREABILITY[entry >> 8 & 3],
    ]
    if not entry >> 10 & 1:
        parts.append("AF clear: the next access faults")
    return ", ".join(parts + bits_set(entry, LEAF_BITS))
