//! Runs a program to its end or to its time limit, and gives on its output as it
//! comes. Nothing that is started here outlives this program, whichever signal
//! ends it.

use crate::failure::{Doing, Failure, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::fmt;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A program that prints more than this is taken to print without end.
const MOST_OUTPUT: usize = 64 << 20;

/// How a program came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this status.
    Status(i32),
    /// A signal ended it.
    Signal(i32),
    /// It was still running after this time, and was ended.
    TimeLimit(Duration),
    /// It printed without end, and was ended.
    TooMuchOutput,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::TimeLimit(limit) => write!(f, "still running after {limit:?}"),
            Self::TooMuchOutput => write!(f, "more than {} MiB of output", MOST_OUTPUT >> 20),
        }
    }
}

/// The process groups that must not outlive this program.
static GROUPS: Mutex<Vec<u32>> = Mutex::new(Vec::new());
/// Set while an interrupt from the keyboard is for the program in the foreground.
static INTERRUPT_IS_THEIRS: AtomicBool = AtomicBool::new(false);

/// The list of process groups; a thread that panicked leaves it as good as it was.
fn groups() -> MutexGuard<'static, Vec<u32>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends every process that was started when a signal ends this program.
///
/// # Errors
/// If the signals cannot be caught.
pub fn catch_signals() -> Result {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).doing("catch signals")?;
    thread::spawn(move || {
        for signal in signals.forever() {
            if signal == SIGINT && INTERRUPT_IS_THEIRS.load(Ordering::Relaxed) {
                continue;
            }
            for group in groups().iter() {
                kill_group(*group);
            }
            eprintln!(
                "lull: {}",
                Failure::error(format!("ended by signal {signal}"))
            );
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Ends a process group. The standard library can end a process only, and a
/// shell's own `kill` is there where the program of that name is not.
fn kill_group(group: u32) {
    let _ = Command::new("sh")
        .args(["-c", &format!("kill -KILL -{group}")])
        .stderr(Stdio::null())
        .status();
}

/// A process group of its own, ended at the latest when this value goes.
#[derive(Debug)]
pub struct Group(Child);

impl Group {
    /// Starts a program in a process group of its own. Its standard input must
    /// not be a terminal, because a group in the background cannot read one.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        // Held from before the start, so that no signal comes between.
        let mut groups = groups();
        let child = command
            .process_group(0)
            .spawn()
            .doing(format!("start {name}"))?;
        groups.push(child.id());
        Ok(Self(child))
    }

    /// The other end of a standard error that was made a pipe; once.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.0.stderr.take()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let mut groups = groups();
        kill_group(self.0.id());
        let _ = self.0.wait();
        groups.retain(|group| *group != self.0.id());
    }
}

/// Runs a program with everything that it prints, on either stream, given to
/// `on_output` in the order in which it was printed.
///
/// # Errors
/// If it cannot be started.
pub fn run(
    mut command: Command,
    limit: Duration,
    mut on_output: impl FnMut(&[u8]),
) -> Result<Ending> {
    let (output, input) = std::io::pipe().doing("make a pipe")?;
    command
        .stdout(input.try_clone().doing("copy a pipe")?)
        .stderr(input);
    let mut group = Group::start(&mut command)?;
    // The command holds the pipe's other end; the output ends only when it is gone.
    drop(command);
    let received = forward(output);
    let end = Instant::now() + limit;
    let mut printed = 0;
    loop {
        match received.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(bytes) => {
                on_output(&bytes);
                printed += bytes.len();
                if printed > MOST_OUTPUT {
                    return Ok(Ending::TooMuchOutput);
                }
            }
            Err(RecvTimeoutError::Timeout) => return Ok(Ending::TimeLimit(limit)),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    while Instant::now() < end {
        if let Some(status) = group.0.try_wait().doing("wait for a program")? {
            return Ok(ending(status));
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(Ending::TimeLimit(limit))
}

/// Where the output of a program goes.
pub type Output<'a> = &'a mut dyn FnMut(&[u8]);

/// Runs a program in the foreground, with this program's standard input and no
/// time limit. What it prints goes to `on_output` if there is one.
///
/// # Errors
/// If it cannot be started.
pub fn run_in_foreground(mut command: Command, on_output: Option<Output<'_>>) -> Result<Ending> {
    let name = command.get_program().to_string_lossy().into_owned();
    INTERRUPT_IS_THEIRS.store(true, Ordering::Relaxed);
    let mut child;
    if let Some(on_output) = on_output {
        let (output, input) = std::io::pipe().doing("make a pipe")?;
        command.stdout(input);
        child = command.spawn().doing(format!("start {name}"))?;
        drop(command);
        for bytes in forward(output) {
            on_output(&bytes);
        }
    } else {
        child = command.spawn().doing(format!("start {name}"))?;
    }
    let status = child.wait().doing("wait for a program")?;
    INTERRUPT_IS_THEIRS.store(false, Ordering::Relaxed);
    Ok(ending(status))
}

/// Reads in a thread of its own, so that the reader can have a time limit.
fn forward(mut output: std::io::PipeReader) -> std::sync::mpsc::Receiver<Vec<u8>> {
    let (send, receive) = channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = output.read(&mut buffer) {
            if send.send(buffer[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    receive
}

/// The ending that an exit status stands for.
fn ending(status: std::process::ExitStatus) -> Ending {
    match (status.code(), status.signal()) {
        (Some(status), _) => Ending::Status(status),
        (None, Some(signal)) => Ending::Signal(signal),
        // Neither is what `wait` gives for a process that ended.
        (None, None) => Ending::Status(-1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> (Ending, String) {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        let mut text = Vec::new();
        let ending = run(command, limit, |bytes| text.extend_from_slice(bytes)).unwrap();
        (ending, String::from_utf8(text).unwrap())
    }

    /// Long enough for anything that is not meant to reach it.
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn both_streams_arrive_in_order_with_the_status() {
        let (ending, text) = shell("echo a; echo b >&2; echo c; exit 16", LONG);
        assert_eq!((ending, text.as_str()), (Ending::Status(16), "a\nb\nc\n"));
    }

    #[test]
    fn a_signal_is_not_a_status() {
        assert_eq!(shell("kill -KILL $$", LONG).0, Ending::Signal(9));
    }

    #[test]
    fn what_does_not_end_is_ended_with_its_children() {
        let limit = Duration::from_millis(200);
        let mark = std::env::temp_dir().join(format!("lull-test-{}", std::process::id()));
        let script = format!("(sleep 1; echo alive > '{}') & sleep 60", mark.display());
        assert_eq!(shell(&script, limit).0, Ending::TimeLimit(limit));
        thread::sleep(Duration::from_secs(2));
        assert!(!mark.exists(), "the child went on");
    }

    #[test]
    fn what_prints_without_end_is_ended() {
        assert_eq!(shell("exec cat /dev/zero", LONG).0, Ending::TooMuchOutput);
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let failure = run(Command::new("/nonexistent"), LONG, |_| ()).unwrap_err();
        assert!(
            failure.reason.starts_with("cannot start /nonexistent"),
            "{failure}"
        );
    }
}
