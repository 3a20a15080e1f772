# The project's gdb commands; `make gdb` loads them.
#
# Breakpoints in the kernel are hardware breakpoints (`hbreak`): a software
# breakpoint would be written to memory at an address that is not mapped yet.

set architecture aarch64
set pagination off
set confirm off
set print pretty on
# A name that is not there is an error, not a breakpoint for later.
set breakpoint pending off

# Where the lazy MMU state of the boot task lies, for scripts: lull-lazy shows all of it.
# The path is Rust's, whatever language the code at hand is in.
define lull-read-counters
  set language rust
  set $lull_enable = kernel::task::BOOT_TASK.lazy_mmu_state.value.value.enable_count
  set $lull_pause = kernel::task::BOOT_TASK.lazy_mmu_state.value.value.pause_count
  set language auto
end
document lull-read-counters
Put the current task's two lazy MMU counters into $lull_enable and $lull_pause.
end

define lull-counters
  lull-read-counters
  printf "enable_count=%d pause_count=%d\n", $lull_enable, $lull_pause
end
document lull-counters
Print enable_count and pause_count of the current task.
end

# The commands that need Python: lull-pt, lull-lazy, lull-vmalloc, lull-shadow, lull-tasks, lull-task.
# Last: a gdb without Python says so here, and has all that is above. The path is from the root of the project, where the
# host program starts gdb.
python
import sys
sys.path.insert(0, "tests/gdb")
sys.dont_write_bytecode = True
import lull
end
