"""Rust's data, read by name.

What Rust does not promise, the layout of types, is asked of the debug information, field by field.
What it does promise is used: an Option of a reference is null or the reference.
"""

import re

import gdb

from .machine import read, word
from .words import U64

# No text of the kernel is longer, in bytes: a broken length must not be believed.
TEXT_LIMIT = 4096


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
    return read(start, min(length, TEXT_LIMIT)).decode("utf-8", "replace").rstrip("\0")


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
