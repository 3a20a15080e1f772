//! `make doctor`: every tool, its version, or the command that installs it.

use crate::failure::{Failure, Result};
use crate::install::{self, Tool};
use crate::miri;
use crate::tools;
use crate::workspace::{TARGET, Workspace};

/// What is known of one tool.
struct Finding {
    /// The tool.
    name: &'static str,
    /// Its version, or what is wrong.
    state: std::result::Result<String, &'static str>,
    /// How it is installed.
    cure: String,
    /// Whether `make run` and `make test` can do without it.
    optional: bool,
}

/// Prints a line a tool.
///
/// # Errors
/// If one that is needed is missing.
pub fn run(workspace: &Workspace) -> Result {
    let mut missing = Vec::new();
    for finding in findings(workspace) {
        let name = finding.name;
        match finding.state {
            Ok(version) => println!("{name:12} {version}"),
            Err(state) => {
                let optional = if finding.optional {
                    " (not needed to run or test)"
                } else {
                    ""
                };
                println!("{name:12} {state}{optional}; {}", finding.cure);
                if !finding.optional {
                    missing.push(name);
                }
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::missing(missing.join(", ")))
}

/// A finding on a command that tells its version.
fn command(name: &'static str, program: &str, cure: &str) -> Finding {
    let line = tools::first_line(program, &["--version"]);
    let state = line
        .map(|line| tools::version(&line).unwrap_or(line))
        .ok_or("missing");
    Finding {
        name,
        state,
        cure: format!("install: {cure}"),
        optional: false,
    }
}

/// A finding on what this program can install itself.
fn tool(
    name: &'static str,
    tool: Tool,
    state: std::result::Result<String, &'static str>,
) -> Finding {
    let commands: Vec<_> = install::commands(&[tool])
        .iter()
        .map(|command| command.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let cure = format!("make run installs it as root, or: {}", commands.join(" | "));
    Finding {
        name,
        state,
        cure,
        optional: false,
    }
}

/// All of them.
fn findings(workspace: &Workspace) -> Vec<Finding> {
    let package = |name: &str| {
        format!(
            "apt: sudo apt-get install -y {name} | dnf: sudo dnf install -y {name} | \
             pacman: sudo pacman -S --needed {name} | brew: brew install {name}"
        )
    };
    let target = install::target_command(&workspace.root.join("rust-toolchain.toml"));
    let target = target.map_or_else(|failure| failure.reason, |words| words.join(" "));
    let qemu = match tools::qemu() {
        Some(version) if tools::qemu_is_new_enough(&version) => Ok(version),
        Some(_) => Err("older than 7.2"),
        None => Err("missing"),
    };
    let gdb = tools::gdb().map(|(name, version)| format!("{version} ({name})"));
    let has_target = tools::has_target(&workspace.root);
    let miri = miri::toolchain();
    vec![
        command("git", "git", &package("git")),
        command("make", "make", &package("make")),
        command("rustup", "rustup", "https://rustup.rs"),
        command("rustc", "rustc", &target),
        Finding {
            name: "rust target",
            state: if has_target {
                Ok(TARGET.to_owned())
            } else {
                Err("missing")
            },
            cure: format!("install: {target}"),
            optional: false,
        },
        command(
            "linker (cc)",
            "cc",
            &package("gcc").replace("brew install gcc", "xcode-select --install"),
        ),
        tool("qemu", Tool::Qemu, qemu),
        tool("gdb", Tool::Gdb, gdb.ok_or("missing")),
        Finding {
            name: "miri",
            state: miri.ok_or("missing"),
            cure: format!("install: {}", miri::install_command().join(" ")),
            optional: true,
        },
    ]
}
