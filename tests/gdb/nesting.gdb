# Steps through the nested enable of the scene `nesting`: at each call, who calls
# and both counters before and after. Ends when enable_count has reached 2, which
# is when a section is open inside another. The host program judges what is printed.

hbreak *lazy_mmu_mode_enable
set $lull_enable = 0
while $lull_enable < 2
  continue
  backtrace 2
  printf "lull: before: "
  lull-counters
  finish
  printf "lull: after: "
  lull-counters
end
echo lull: end of the script\n
kill
