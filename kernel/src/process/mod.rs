//! Programs: an address space, a task that runs EL0 in it, and what becomes of both.
//!
//! A floor of its own, above `mm/` and `task/`: it puts an address space and a task together, and
//! neither of the two may know of the other. `monitor/` starts programs; nothing below knows that
//! there are any. The files, from the lowest up:
//!
//! | file | what |
//! |---|---|
//! | `abi` | what programs and the kernel have agreed on; the program's own file |
//! | `load` | the ELF file, as data |
//! | `copy` | to and from a program's memory |
//! | `outcome`, `report` | how a program ended; the report of one that was stopped |
//! | `running` | the tasks of programs, and who waits for them |
//! | `program` | a program as a value: how it begins, what its exceptions lead to, its end |
//! | `system_call` | what each call does |
//! | `cases` | what each case of the program must come to |
//!
//! A task is in its program all its life: `Program::run` is a loop around `arch::el0::run`. So
//! a program is stopped by leaving the loop, and what it had goes back by being dropped; there is
//! no handler to get out of, and no list from which a program would have to be taken.

#[path = "../../user/src/abi.rs"]
pub mod abi;
pub mod cases;
mod copy;
#[cfg(feature = "ktests")]
mod ktests;
pub mod load;
pub mod outcome;
mod program;
mod report;
mod running;
mod system_call;
