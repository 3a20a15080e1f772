//! Kernel tests: registered beside the code that they test, run by group from the command line,
//! reported as KTAP.
//!
//! [`kernel_test!`](crate::kernel_test!) puts a [`KernelTest`] into the section `.ktests`, of which
//! the linker makes an array: no registry to keep, and nothing unstable. A test that is expected to
//! end the machine names the text that must be printed; the host program runs it in a QEMU of its
//! own.

use core::fmt;

/// What must come of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It returns `Ok`.
    Pass,
    /// The machine ends with a report that holds this text, and status 32.
    Panic(&'static str),
}

/// A check that did not hold: where, and what.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// Source file.
    pub file: &'static str,
    /// Line in it.
    pub line: u32,
    /// The check, as it is written there.
    pub what: &'static str,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// What a test returns.
pub type TestResult = Result<(), Failure>;

/// One registered test.
#[derive(Debug)]
pub struct KernelTest {
    /// Tests of one group run in one QEMU, in the order of the image.
    pub group: &'static str,
    /// Unique in its group.
    pub name: &'static str,
    /// What must come of it.
    pub expect: Expect,
    /// The test.
    pub run: fn() -> TestResult,
}

/// Every test of the image.
#[cfg(target_os = "none")]
pub fn all() -> &'static [KernelTest] {
    unsafe extern "C" {
        static __ktests_start: u8;
        static __ktests_end: u8;
    }
    let (start, end) = (&raw const __ktests_start, &raw const __ktests_end);
    // SAFETY: linker.ld puts these symbols around the section `.ktests`, which holds whole
    // `KernelTest`s and nothing else, and which is read-only.
    unsafe {
        let start = start.cast::<KernelTest>();
        core::slice::from_raw_parts(start, end.cast::<KernelTest>().offset_from_unsigned(start))
    }
}

/// Registers a kernel test: `kernel_test! { "group", name, { checks; Ok(()) } }`, or
/// `kernel_test! { "group", name, panics "text", { .. } }`.
#[macro_export]
macro_rules! kernel_test {
    ($group:literal, $name:ident, $body:block) => {
        $crate::kernel_test! { @register $group, $name, $crate::ktest::Expect::Pass, $body }
    };
    ($group:literal, $name:ident, panics $text:literal, $body:block) => {
        $crate::kernel_test! { @register $group, $name, $crate::ktest::Expect::Panic($text), $body }
    };
    (@register $group:literal, $name:ident, $expect:expr, $body:block) => {
        #[cfg(target_os = "none")]
        const _: () = {
            fn $name() -> $crate::ktest::TestResult $body
            #[used]
            #[unsafe(link_section = ".ktests")]
            static TEST: $crate::ktest::KernelTest = $crate::ktest::KernelTest {
                group: $group,
                name: stringify!($name),
                expect: $expect,
                run: $name,
            };
        };
    };
}

/// Fails the test when a condition does not hold.
#[macro_export]
macro_rules! check {
    ($condition:expr $(,)?) => {
        if !$condition {
            return Err($crate::ktest::Failure {
                file: file!(),
                line: line!(),
                what: stringify!($condition),
            });
        }
    };
}

/// Fails the test when two values differ; both are printed.
#[macro_export]
macro_rules! check_eq {
    ($left:expr, $right:expr $(,)?) => {{
        let (left, right) = (&$left, &$right);
        if left != right {
            log::error!("left: {left:?}, right: {right:?}");
            return Err($crate::ktest::Failure {
                file: file!(),
                line: line!(),
                what: concat!(stringify!($left), " == ", stringify!($right)),
            });
        }
    }};
}

impl fmt::Display for KernelTest {
    /// A line of JSON for the host program.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{{\"test\":\"{}\",\"group\":\"{}\",\"expect\":\"",
            self.name, self.group
        )?;
        match self.expect {
            Expect::Pass => f.write_str("pass")?,
            Expect::Panic(text) => write!(f, "panic: {text}")?,
        }
        f.write_str("\"}")
    }
}
