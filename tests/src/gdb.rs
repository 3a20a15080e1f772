//! gdb on a machine that is stopped at reset, for a person or in batch.

use crate::failure::{Doing, Failure, Result};
use crate::judge;
use crate::machine::Machine;
use crate::process::{self, Ending};
use crate::tools;
use crate::workspace::Workspace;
use std::io::{IsTerminal, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Time for a batch session: it boots once and stops a few times.
const BATCH_LIMIT: Duration = Duration::from_secs(60);
/// What a session does where there is nobody to type: it shows that all works.
const SMOKE: &str = "smoke.gdb";

/// `make gdb`: QEMU stopped at reset, gdb attached. Without a terminal it runs to
/// `kernel_main`, shows it and ends.
///
/// # Errors
/// If QEMU or gdb cannot be started, or without a terminal if `kernel_main` was
/// not reached.
pub fn run(workspace: &Workspace, machine: &Machine) -> Result {
    if !std::io::stdin().is_terminal() {
        let text = batch(workspace, machine, SMOKE)?;
        let _ = std::io::stdout().write_all(text.as_bytes());
        return smoke_verdict(&text);
    }
    let port = port(machine)?;
    let _qemu = machine.clone().stopped_for_gdb(port).start_for_gdb(None)?;
    // The kernel's last act is to end QEMU; before that there is still something to look at.
    let stop = ["-ex", "source tests/gdb/at-exit.gdb"].map(str::to_owned);
    let mut command = gdb(workspace, machine, port, &stop)?;
    command.stdin(Stdio::inherit());
    match process::run_in_foreground(command, None)? {
        Ending::Status(0) => Ok(()),
        ending => Err(Failure::error(format!("gdb ended with {ending}"))),
    }
}

/// Runs one of the scripts in `tests/gdb` on a machine of its own and gives what
/// gdb printed.
///
/// # Errors
/// If QEMU or gdb cannot be started, or gdb does not end.
pub fn batch(workspace: &Workspace, machine: &Machine, script: &str) -> Result<String> {
    let port = port(machine)?;
    let console = console(workspace, script);
    let _qemu = machine
        .clone()
        .stopped_for_gdb(port)
        .start_for_gdb(Some(&console))?;
    let script = workspace.root.join("tests/gdb").join(script);
    let script = ["-x".to_owned(), script.to_string_lossy().into_owned()];
    let mut command = gdb(workspace, machine, port, &script)?;
    // Nobody's own settings, and the end of the script is the end.
    command.args(["-nx", "-batch"]);
    let mut text = Vec::new();
    let ending = process::run(command, BATCH_LIMIT, |bytes| text.extend_from_slice(bytes))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    match ending {
        // In batch gdb gives 1 for what it could not do; its words say what.
        Ending::Status(0 | 1) => Ok(text),
        Ending::TimeLimit(limit) => Err(Failure::timeout(format!(
            "gdb was still running after {limit:?}: {text}"
        ))),
        ending => Err(Failure::error(format!("gdb ended with {ending}: {text}"))),
    }
}

/// Where [`batch`] puts what the kernel prints.
pub fn console(workspace: &Workspace, script: &str) -> PathBuf {
    workspace.log(&format!("gdb-{script}-console"))
}

/// Passes if the smoke script has come to its end.
///
/// # Errors
/// With the last words of gdb if it has not.
pub fn smoke_verdict(text: &str) -> Result {
    let reached = text
        .lines()
        .any(|line| line.starts_with("#0") && line.contains("kernel_main"));
    if reached
        && text
            .lines()
            .any(|line| line == "lull: stopped in kernel_main")
    {
        return Ok(());
    }
    Err(Failure::fail(format!(
        "gdb did not get to kernel_main: {}",
        judge::last_line(text)
    )))
}

/// The port that was asked for, or one that is free.
fn port(machine: &Machine) -> Result<u16> {
    if let Ok(port) = machine.options.get("GDB_PORT").parse() {
        return match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => Ok(port),
            Err(why) => Err(Failure::error(format!(
                "GDB_PORT={port} can't be had: {why}"
            ))),
        };
    }
    free_port()
}

/// A TCP port of this host that nobody listens on.
///
/// # Errors
/// If there is none.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).doing("find a free TCP port")?;
    Ok(listener.local_addr().doing("find a free TCP port")?.port())
}

/// gdb with the image's symbols and the project's commands, attached; `more` goes
/// after that.
fn gdb(workspace: &Workspace, machine: &Machine, port: u16, more: &[String]) -> Result<Command> {
    let (name, _) = tools::gdb().ok_or(Failure::missing("a gdb that knows aarch64"))?;
    let mut command = Command::new(name);
    command
        .current_dir(&workspace.root)
        .stdin(Stdio::null())
        .arg("-q")
        .args(["-ex", "set confirm off"])
        .arg("-x")
        .arg(workspace.root.join("tests/gdb/lull.gdb"))
        .args(["-ex", &format!("target remote 127.0.0.1:{port}")])
        .args(more)
        .arg(&machine.image);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smoke_script_must_come_to_its_end() {
        let good = "#0  kernel::kernel_main () at kernel/src/main.rs:20\n\
                    lull: stopped in kernel_main\n";
        assert_eq!(smoke_verdict(good), Ok(()));
        for bad in [
            "",
            "lull: stopped in kernel_main\n",
            "#0  kernel::kernel_main ()\nRemote connection closed\n",
            "#0  vmsa::addr::VirtAddr::new ()\nlull: stopped in kernel_main\n",
        ] {
            assert!(smoke_verdict(bad).is_err(), "{bad}");
        }
    }
}
