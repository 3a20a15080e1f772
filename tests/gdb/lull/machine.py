"""Registers and memory of the machine, and what state it is in."""

import contextlib

import gdb

from .words import U64


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
