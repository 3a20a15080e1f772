# What the project's commands say before the kernel runs, where they refuse, and after it has crashed.
# The crash is made here, by a jump to the guard page of the vmalloc area of one page in the scene
# `pause`, which the scene makes read-only: x0 is where it starts.

# Tries what is refused everywhere, and what is refused somewhere.
define lull-try
  python
import gdb
for line in (
    "lull-pt", "lull-pt nothing", "lull-pt 0x1_ffff_ffff_ffff_ffff", "lull-pt 0x1234_0000_0000_0000",
    "lull-pt 0x1000", "lull-lazy", "lull-lazy now", "lull-vmalloc", "lull-vmalloc 1", "lull-shadow",
    "lull-shadow 0x1000", "lull-shadow 0x1234_0000_0000_0000",
):
    try:
        gdb.execute(line)
    except gdb.error as error:
        print("lull: refused: {}: {}".format(line, error))
  end
end

echo lull: at reset\n
lull-try

# Its first instruction. The path is Rust's; what is at hand is assembly.
set language rust
hbreak *kernel::mm::set_memory::set_memory_ro
set language auto
continue
set $area = $x0 as u64
echo lull: in the scene\n
lull-try
lull-pt $area
lull-pt $pc

hbreak kernel::arch::exit::failure
set $pc = $area + 0x1000
continue
echo lull: crashed\n
backtrace 2
lull-lazy
lull-vmalloc
lull-pt $FAR_EL1
lull-shadow $FAR_EL1

delete
echo lull: without symbols\n
symbol-file
lull-pt $FAR_EL1
lull-try

kill
echo lull: without a machine\n
lull-try
echo lull: end of the script\n
