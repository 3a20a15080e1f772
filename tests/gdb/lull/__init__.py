"""The gdb commands that read the kernel's data: lull-pt, lull-lazy, lull-vmalloc, lull-shadow,
lull-tasks, lull-task.

They read registers and memory and call nothing in the kernel, so they work wherever the machine
has stopped, in the path of a panic too. Any gdb with Python 3 will do, from gdb 10 on. The output
has the kernel's own words and layout, so that the two can be compared.
"""

from . import lazy, page_table, shadow, tasks, vmalloc

COMMANDS = (page_table.PageTable, lazy.Lazy, vmalloc.Vmalloc, shadow.Shadow, tasks.Tasks, tasks.OfTask)
for command in COMMANDS:
    command()


