# Lists the tasks where two of them are in a lazy section each, and looks at the stack of the one that
# does not run: the boot task, in the kernel test `task.lazy_state_is_the_tasks_own`, has opened two
# sections and let the other run, which has opened one and is about to do the same.

define lull-try
  python
import gdb
for line in ("lull-tasks all", "lull-task", "lull-task 7777"):
    try:
        gdb.execute(line)
    except gdb.error as error:
        print("lull: refused: {}: {}".format(line, error))
  end
end

hbreak kernel::task::schedule::yield_now if kernel::task::BOOT_TASK.lazy_mmu_state.value.value.enable_count == 2
continue
continue
echo lull: two tasks in sections\n
lull-tasks
lull-try
set $lull_pc = $pc
set $lull_sp = $sp
echo lull: the boot task\n
lull-task boot
echo lull: the other task\n
lull-task opener backtrace 3
lull-task 0 printf "lull: sp differs: %d\n", $sp != $lull_sp
printf "lull: back: %d %d\n", $pc == $lull_pc, $sp == $lull_sp
delete

hbreak kernel::arch::exit::success
continue
echo lull: end of the script\n
kill
