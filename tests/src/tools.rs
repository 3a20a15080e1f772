//! Finds the tools that Lull is built and run with, and their versions.

use crate::machine::QEMU;
use crate::workspace::TARGET;
use std::path::Path;
use std::process::{Command, Stdio};

/// The names under which a gdb that knows aarch64 may be installed.
const GDBS: &[&str] = &[
    "gdb-multiarch",
    "gdb",
    "aarch64-elf-gdb",
    "aarch64-none-elf-gdb",
    "aarch64-linux-gnu-gdb",
];

/// The oldest QEMU that Lull is tested on: major, minor.
pub const OLDEST_QEMU: (u32, u32) = (7, 2);

/// The first line that a command prints, if it is there and says yes.
pub fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    if !output.status.success() {
        return None;
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .next()
        .map(|line| line.trim().to_owned())
}

/// The first number with a dot in a line: `GNU gdb (Debian 13.1-3) 13.1` has 13.1.
/// What stands in parentheses is the packager's.
pub fn version(line: &str) -> Option<String> {
    let mut depth = 0_u32;
    let plain: String = line
        .chars()
        .filter(|c| {
            depth += u32::from(*c == '(');
            let outside = depth == 0;
            depth -= u32::from(*c == ')' && depth > 0);
            outside
        })
        .collect();
    plain.split_whitespace().find_map(|word| {
        let end = word
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(word.len());
        let number = word[..end].trim_end_matches('.');
        (number.contains('.') && number.starts_with(|c: char| c.is_ascii_digit()))
            .then(|| number.to_owned())
    })
}

/// The version of QEMU, if it is installed.
pub fn qemu() -> Option<String> {
    version(&first_line(QEMU, &["--version"])?)
}

/// Whether that version of QEMU is not too old.
pub fn qemu_is_new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= OLDEST_QEMU,
        _ => false,
    }
}

/// The name of a gdb that knows aarch64, if one is installed, and its version.
pub fn gdb() -> Option<(&'static str, String)> {
    GDBS.iter().find_map(|name| {
        let version = version(&first_line(name, &["-nx", "--version"])?)?;
        // A gdb for the host alone has the name, but not the architecture.
        let script = ["-nx", "-batch", "-ex", "set architecture aarch64"];
        let answer = first_line(name, &script)?;
        answer
            .contains("set to \"aarch64\"")
            .then_some((*name, version))
    })
}

/// Whether the library for the kernel's target is installed.
pub fn has_target(root: &Path) -> bool {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(root)
        .stdin(Stdio::null())
        .output();
    output.is_ok_and(|output| {
        output.status.success()
            && Path::new(String::from_utf8_lossy(&output.stdout).trim())
                .read_dir()
                .is_ok_and(|mut files| files.next().is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_past_the_packagers() {
        for (line, number) in [
            (
                "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)",
                "7.2.22",
            ),
            ("GNU gdb (Debian 13.1-3) 13.1", "13.1"),
            ("GNU gdb (Fedora Linux) 16.3-1.fc42", "16.3"),
            ("git version 2.39.5", "2.39.5"),
            ("GNU Make 4.3", "4.3"),
            ("rustup 1.29.0 (28d1352db 2026-03-05)", "1.29.0"),
            ("cc (Debian 12.2.0-14) 12.2.0", "12.2.0"),
            ("cc (packaged with 1.0) 12.2.0", "12.2.0"),
        ] {
            assert_eq!(version(line).as_deref(), Some(number), "{line}");
        }
        assert_eq!(version("no number here (1.2)"), None);
    }

    #[test]
    fn qemu_is_compared_by_number() {
        for (version, good) in [
            ("7.2.22", true),
            ("7.1", false),
            ("10.0.2", true),
            ("6.2.0", false),
            ("8", false),
        ] {
            assert_eq!(qemu_is_new_enough(version), good, "{version}");
        }
    }
}
