# `make gdb` stops before the kernel ends QEMU: after a crash, this is where to look around.
hbreak -qualified kernel::arch::exit::with_status
commands
  silent
  printf "lull: the kernel is about to end QEMU with status %d (16 is success); bt, lull-lazy and the others still work\n", $x0
end
