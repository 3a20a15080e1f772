"""Addresses as a person writes them and as the kernel prints them."""

import re

import gdb

U64 = (1 << 64) - 1


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


def address_of(argument, usage):
    """The address that a person wrote: a number as the kernel prints it, or an expression."""
    text = argument.strip()
    if not text:
        raise gdb.GdbError("usage: " + usage)
    # Reports print addresses of 16 digits, without 0x.
    if re.fullmatch(r"0[xX]_*[0-9a-fA-F][0-9a-fA-F_]*|[0-9a-fA-F]{16}", text):
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
