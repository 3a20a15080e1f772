# What `make gdb` does where there is no terminal: from reset to kernel_main.

hbreak *kernel_main
continue
backtrace 1
lull-counters
echo lull: stopped in kernel_main\n
kill
