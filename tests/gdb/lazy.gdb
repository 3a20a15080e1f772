# Shows with the project's commands what the scenes `nesting` and `hazards` show with the kernel's own:
# the state two sections deep; then, wherever the kernel prints what is owed, the same and the walk
# for the scratch address of that scene. The host program compares the two.

hbreak *lazy_mmu_mode_disable
continue
echo lull: two sections deep\n
lull-lazy
delete

hbreak kernel::mm::lazy::describe
commands
  lull-lazy
  lull-pt 0xffff_d800_0000_0000
  continue
end
hbreak kernel::arch::exit::success
continue
echo lull: end of the script\n
kill
