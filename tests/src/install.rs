//! Installs what a verb needs and is missing. That happens only as root or where
//! `sudo` asks for no password; elsewhere the exact commands are printed.

use crate::failure::{Doing, Failure, Result};
use crate::machine::QEMU;
use crate::tools;
use crate::workspace::{TARGET, Workspace};
use std::process::{Command, Stdio};

/// What can be installed from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// The emulator.
    Qemu,
    /// A gdb that knows aarch64.
    Gdb,
}

/// The ways to install packages, by the name of their program: how it is called,
/// then its packages for QEMU and for gdb.
const MANAGERS: [(&str, &str, &str, &str); 4] = [
    (
        "apt",
        "sudo apt-get install -y --no-install-recommends",
        "qemu-system-arm",
        "gdb-multiarch",
    ),
    (
        "dnf",
        "sudo dnf install -y",
        "qemu-system-aarch64-core",
        "gdb",
    ),
    (
        "pacman",
        "sudo pacman -S --needed",
        "qemu-system-aarch64",
        "aarch64-linux-gnu-gdb",
    ),
    ("brew", "brew install", "qemu", "aarch64-elf-gdb"),
];

impl Tool {
    /// What a person calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Qemu => QEMU,
            Self::Gdb => "a gdb that knows aarch64",
        }
    }

    /// Whether it is installed.
    fn is_there(self) -> bool {
        match self {
            Self::Qemu => tools::qemu().is_some(),
            Self::Gdb => tools::gdb().is_some(),
        }
    }

    /// Its package among a manager's two.
    fn package(self, manager: &(&'static str, &str, &'static str, &'static str)) -> &'static str {
        match self {
            Self::Qemu => manager.2,
            Self::Gdb => manager.3,
        }
    }
}

/// Makes sure that the kernel's target and these tools are there.
///
/// # Errors
/// If one is missing and cannot be installed from here.
pub fn ensure(workspace: &Workspace, tools: &[Tool]) -> Result {
    ensure_target(workspace)?;
    let missing: Vec<Tool> = tools
        .iter()
        .copied()
        .filter(|tool| !tool.is_there())
        .collect();
    if !missing.is_empty() {
        install(&missing)?;
    }
    if let Some(version) = tools::qemu().filter(|version| !tools::qemu_is_new_enough(version)) {
        let (major, minor) = tools::OLDEST_QEMU;
        return Err(Failure::missing(format!(
            "{QEMU} is version {version}; Lull needs {major}.{minor} or later"
        )));
    }
    Ok(())
}

/// Makes sure that the kernel's target is there. rustup installs it with the
/// pinned toolchain, unless that was there before.
fn ensure_target(workspace: &Workspace) -> Result {
    if tools::has_target(&workspace.root) {
        return Ok(());
    }
    let command = target_command(&workspace.root.join("rust-toolchain.toml"))?;
    eprintln!("lull: installing: {}", command.join(" "));
    let installed = Command::new(&command[0])
        .args(&command[1..])
        .current_dir(&workspace.root)
        .stdin(Stdio::null())
        .status();
    if installed.is_ok_and(|status| status.success()) && tools::has_target(&workspace.root) {
        return Ok(());
    }
    let command = command.join(" ");
    Err(Failure::missing(format!(
        "the Rust target {TARGET}; install it with: {command}"
    )))
}

/// The command that installs the pinned toolchain with the kernel's target.
pub fn target_command(toolchain_file: &std::path::Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(toolchain_file).doing("read rust-toolchain.toml")?;
    let channel = channel(&text).ok_or(Failure::error("rust-toolchain.toml names no channel"))?;
    let words = [
        "rustup",
        "toolchain",
        "install",
        channel,
        "--no-self-update",
    ];
    let more = [
        "--profile",
        "minimal",
        "--component",
        "rustfmt,clippy",
        "--target",
        TARGET,
    ];
    Ok(words.into_iter().chain(more).map(str::to_owned).collect())
}

/// The channel that a toolchain file names.
fn channel(text: &str) -> Option<&str> {
    text.lines().find_map(|line| {
        let value = line
            .trim()
            .strip_prefix("channel")?
            .trim_start()
            .strip_prefix('=')?;
        Some(value.trim().trim_matches('"'))
    })
}

/// Installs tools through apt, or says how it is done elsewhere.
fn install(missing: &[Tool]) -> Result {
    let apt_is_there = tools::first_line("apt-get", &["--version"]).is_some();
    if let Some(sudo) = privileged().filter(|_| apt_is_there) {
        // Without a new list the old one may still do.
        apt(sudo, &["update", "-q"]);
        let mut arguments = vec!["install", "-y", "-q", "--no-install-recommends"];
        arguments.extend(missing.iter().map(|tool| tool.package(&MANAGERS[0])));
        apt(sudo, &arguments);
    }
    let missing: Vec<Tool> = missing
        .iter()
        .copied()
        .filter(|tool| !tool.is_there())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|tool| tool.name()).collect();
    let names = names.join(" and ");
    eprintln!("lull: {names} not found; install with one of:");
    for command in commands(&missing) {
        eprintln!("lull:   {command}");
    }
    Err(Failure::missing(format!(
        "{names} not found, and cannot be installed from here"
    )))
}

/// The commands that install these tools, for every system that is known.
pub fn commands(missing: &[Tool]) -> Vec<String> {
    MANAGERS
        .iter()
        .map(|manager| {
            let packages: Vec<_> = missing.iter().map(|tool| tool.package(manager)).collect();
            format!(
                "{:7} {} {}",
                format!("{}:", manager.0),
                manager.1,
                packages.join(" ")
            )
        })
        .collect()
}

/// What must stand before a command to run it as root: nothing for root itself,
/// `sudo -n` where that asks nothing.
fn privileged() -> Option<&'static [&'static str]> {
    if is_root() {
        return Some(&[]);
    }
    succeeds("sudo", &["-n", "true"]).then_some(&["sudo", "-n"])
}

/// Whether this is root.
fn is_root() -> bool {
    tools::first_line("id", &["-u"]).as_deref() == Some("0")
}

/// Whether a command is there and succeeds.
fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs apt-get and says what went wrong, if it did; whether the tools have come is
/// asked of the tools. What apt-get prints is for a person, and is not what the
/// verb prints.
fn apt(sudo: &[&str], arguments: &[&str]) {
    let words: Vec<&str> = sudo
        .iter()
        .chain(&["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"])
        .chain(arguments)
        .copied()
        .collect();
    let shown = words.join(" ");
    eprintln!("lull: installing: {shown}");
    let output = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            eprint!("{}", String::from_utf8_lossy(&output.stdout));
            eprintln!("lull: {shown}: {}", output.status);
        }
        Err(error) => eprintln!("lull: {shown}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_name_the_packages_of_each_system() {
        let commands = commands(&[Tool::Qemu, Tool::Gdb]);
        assert_eq!(
            commands[0],
            "apt:    sudo apt-get install -y --no-install-recommends qemu-system-arm gdb-multiarch"
        );
        assert_eq!(commands[3], "brew:   brew install qemu aarch64-elf-gdb");
        assert_eq!(commands.len(), 4);
    }

    #[test]
    fn the_toolchain_is_the_pinned_one() {
        assert_eq!(
            channel("[toolchain]\nchannel = \"1.95.0\"\n"),
            Some("1.95.0")
        );
        assert_eq!(channel("[toolchain]\n"), None);
        let pinned = channel(include_str!("../../rust-toolchain.toml")).unwrap();
        assert!(
            pinned.starts_with(|c: char| c.is_ascii_digit()),
            "{pinned} is not a version"
        );
    }
}
