# The verbs of Lull. All they do is in the host program (tests/); this file only
# names them. Variables reach it through the environment, never by substitution
# into a shell line, so that APPEND='autorun="lazy; stats"' arrives whole.
VERBS = help run test matrix bugs trace trace-check stress bench profile litmus gdb check doctor miri fuzz

export CPU SMP MEM GIC EL APPEND V GDB_PORT ORACLE DIR DURATION OPS SEEDS FORMAT CASE BASE
export MODEL BACKEND DEBUG_PAGEALLOC PAGE_POISON KASAN RODATA PTLOCK ETS2 BUG

.PHONY: $(VERBS)
.NOTPARALLEL:

$(VERBS):
	@cargo run $(if $(wildcard target/debug/lull),-q) -p lull -- $@
