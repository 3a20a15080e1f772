//! What programs and the kernel have agreed on: the system calls, their errors, and the cases that
//! the program knows. Both sides compile this file.
//!
//! A call is `SVC #0` with its number in x8 and its arguments in x0 to x2. Its result is in x0:
//! what the call returns, or the negative of an [`Error`]. All other registers are preserved.
//!
//! An error is what a correct program can meet. A program that asks for what no program could mean
//! (a call that does not exist, a pointer to memory that it has not got) is stopped, with a report:
//! an error code would be one that nobody looks at.

/// Defines the calls: name, number, what it does.
macro_rules! calls {
    ($($(#[$what:meta])* $name:ident = $number:literal,)*) => {
        /// The system calls, by number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u64)]
        pub enum Call {
            $($(#[$what])* $name = $number,)*
        }

        impl Call {
            /// Every call.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The call of that number, if there is one.
            pub fn from_number(number: u64) -> Option<Self> {
                Self::ALL.iter().copied().find(|call| *call as u64 == number)
            }
        }
    };
}

calls! {
    /// `exit(status)`: ends the program. The lowest 8 bits of `status` are what
    /// [`Wait`](Self::Wait) gives.
    Exit = 0,
    /// `fail(message)`: ends the program because it found something wrong; `message` is the address
    /// of a string that ends in a zero byte.
    Fail = 1,
    /// `write(address, bytes)`: prints text to the console.
    Write = 2,
    /// `yield()`: lets others run.
    Yield = 3,
    /// `map(address, bytes, protection)`: makes addresses memory, which reads as zeros; the sum of
    /// the bits of [`Protection`]. Address and size are whole pages. Errors: `BadRange` (not whole
    /// pages, not in the lower half, or something is mapped there), `Forbidden`, `OutOfMemory`.
    Map = 4,
    /// `unmap(address, bytes)`: takes what is mapped there away. Error: `BadRange`.
    Unmap = 5,
    /// `protect(address, bytes, protection)`: changes what may be done with memory. What was
    /// written there is made executable if that is asked for. Errors: `BadRange` (something is not
    /// mapped), `Forbidden`, `OutOfMemory`.
    Protect = 6,
    /// `fork()`: makes a copy of the program. Returns the copy's number, and in the copy 0. Error:
    /// `OutOfMemory`.
    Fork = 7,
    /// `wait(child, ended)`: waits for a copy to end, and writes an [`Ended`] to the address
    /// `ended`. Error: `NoChild`.
    Wait = 8,
}

/// Defines the errors: name, number, what it is.
macro_rules! errors {
    ($($(#[$what:meta])* $name:ident = $number:literal,)*) => {
        /// Why a call did not do what was asked; it has done nothing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u64)]
        pub enum Error {
            $($(#[$what])* $name = $number,)*
        }

        impl Error {
            /// What the call returns.
            pub const fn to_result(self) -> u64 {
                (self as u64).wrapping_neg()
            }

            /// The error, if what a call returned is one.
            pub fn from_result(result: u64) -> Option<Self> {
                [$(Self::$name),*].into_iter().find(|error| error.to_result() == result)
            }
        }
    };
}

errors! {
    /// There is no memory left.
    OutOfMemory = 1,
    /// The addresses are not whole pages of the lower half, or not free, or not mapped.
    BadRange = 2,
    /// Nobody gets memory that is writable and executable, or that can be written and not read; nor
    /// bits that are none of [`Protection`].
    Forbidden = 3,
    /// There is no such child, or it was waited for.
    NoChild = 4,
}

/// What may be done with memory; the bits of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Protection {
    /// It may be read.
    Read = 1,
    /// It may be written.
    Write = 2,
    /// It may be executed.
    Execute = 4,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Ended {
    /// 0: it called [`Call::Exit`]. 1: it called [`Call::Fail`]. 2: it was stopped.
    pub how: u64,
    /// The status that it gave; 0 if it gave none.
    pub status: u64,
}

impl Ended {
    /// It called [`Call::Exit`].
    pub const EXITED: u64 = 0;
    /// It called [`Call::Fail`].
    pub const FAILED: u64 = 1;
    /// It was stopped.
    pub const STOPPED: u64 = 2;
}

/// Defines the cases: name for people, what it does.
macro_rules! cases {
    ($($(#[$what:meta])* $variant:ident = $name:literal,)*) => {
        /// What the program is to do, by what it finds in x0 when it begins.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u64)]
        pub enum Case {
            $($(#[$what])* $variant,)*
        }

        impl Case {
            /// Every case.
            pub const ALL: &[Self] = &[$(Self::$variant),*];
            /// Their names, in the same order.
            pub const NAMES: &[&str] = &[$($name),*];

            /// The case of that number, if there is one.
            pub fn from_number(number: u64) -> Option<Self> {
                usize::try_from(number).ok().and_then(|n| Self::ALL.get(n).copied())
            }

            /// Its name for people.
            pub const fn name(self) -> &'static str {
                Self::NAMES[self as usize]
            }
        }
    };
}

cases! {
    /// Exercises all that there is, and checks it.
    Normal = "normal",
    /// Reads where nothing is mapped.
    WildRead = "wild-read",
    /// Writes through a null pointer.
    NullWrite = "null-write",
    /// Reads an address that is in neither half.
    NonCanonical = "non-canonical",
    /// Writes to its own code.
    WriteText = "write-text",
    /// Jumps to its data.
    ExecuteData = "execute-data",
    /// Calls itself until the stack is full.
    StackOverflow = "stack-overflow",
    /// Writes to a page that it had unmapped.
    UseAfterUnmap = "use-after-unmap",
    /// Makes a system call of a number that there is not.
    BadCall = "bad-call",
    /// Has the kernel read where nothing is mapped.
    BadPointer = "bad-pointer",
    /// Has the kernel read the kernel's own memory for it.
    KernelPointer = "kernel-pointer",
    /// Has the kernel write to the program's code.
    ReadOnlyPointer = "read-only-pointer",
    /// Reads the kernel's memory.
    KernelRead = "kernel-read",
    /// Jumps to the kernel's code.
    KernelJump = "kernel-jump",
    /// Reads TTBR0_EL1.
    Privileged = "privileged",
    /// Cleans a data cache line, which is for the kernel to do.
    CacheMaintenance = "cache-maintenance",
    /// Executes an instruction that is none.
    Undefined = "undefined",
    /// Executes a breakpoint.
    Breakpoint = "breakpoint",
    /// Uses a floating point register.
    FloatingPoint = "floating-point",
    /// Jumps to an odd address.
    MisalignedPc = "misaligned-pc",
    /// Loads exclusively from an address that is no multiple of the size.
    MisalignedData = "misaligned-data",
    /// Never ends.
    EndlessLoop = "endless-loop",
    /// Has a copy misbehave, and goes on.
    BadChild = "bad-child",
    /// Never ends, and neither do its copies.
    EndlessFamily = "endless-family",
    /// Takes memory until there is none.
    MemoryHog = "memory-hog",
}
