//! QEMU: its command line, and one boot from start to end.

use crate::failure::{Doing, Result};
use crate::options::Options;
use crate::process::{self, Ending, Group};
use crate::symbols::{Names, Symbols};
use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The emulator.
pub const QEMU: &str = "qemu-system-aarch64";

/// A machine that has not been started.
#[derive(Clone, Debug)]
pub struct Machine {
    /// What the person chose.
    pub options: Options,
    /// The image to boot.
    pub image: PathBuf,
    /// The rest of the kernel command line, after the options' own words.
    pub append: String,
    /// Further arguments of QEMU.
    pub extra: Vec<String>,
    /// What is told of the CPU behind its name, with a comma before it.
    pub cpu_properties: &'static str,
}

/// What one boot came to.
#[derive(Clone, Debug)]
pub struct Boot {
    /// How QEMU ended.
    pub ending: Ending,
    /// All that it printed.
    pub text: String,
}

impl Machine {
    /// The image under these options, with their `APPEND`.
    pub fn new(options: &Options, image: &Path) -> Self {
        Self {
            options: options.clone(),
            image: image.to_owned(),
            append: options.get("APPEND").to_owned(),
            extra: Vec::new(),
            cpu_properties: "",
        }
    }

    /// The same machine, whose virtual counter counts executed instructions: an instruction takes a
    /// nanosecond, and so does a tick. It has one CPU.
    #[must_use]
    pub fn counting_instructions(mut self) -> Self {
        self.cpu_properties = ",cntfrq=1000000000";
        self.extra.extend([
            "-icount".to_owned(),
            "shift=0,align=off,sleep=off".to_owned(),
        ]);
        self
    }

    /// The same machine with an `autorun=` of its own.
    #[must_use]
    pub fn autorun(mut self, commands: &str) -> Self {
        self.append = format!("{} autorun=\"{commands}\"", self.append)
            .trim()
            .to_owned();
        self
    }

    /// The same machine, whose kernel reads commands from the console when it is
    /// done with the rest.
    #[must_use]
    pub fn with_monitor(mut self) -> Self {
        self.append = format!("{} monitor=on", self.append).trim().to_owned();
        self
    }

    /// The same machine, stopped at reset, with QEMU's gdb stub on that port of
    /// this host alone.
    #[must_use]
    pub fn stopped_for_gdb(mut self, port: u16) -> Self {
        self.extra.extend([
            "-S".to_owned(),
            "-gdb".to_owned(),
            format!("tcp:127.0.0.1:{port}"),
        ]);
        self
    }

    /// The arguments of QEMU.
    pub fn arguments(&self) -> Vec<String> {
        let option = |name| self.options.get(name);
        let mut board = format!("virt,gic-version={}", option("GIC"));
        // EL2 and EL3 exist, and are where QEMU enters the image, only on request.
        if matches!(option("EL"), "2" | "3") {
            board += ",virtualization=on";
        }
        if option("EL") == "3" {
            board += ",secure=on";
        }
        let cpu = format!("{}{}", option("CPU"), self.cpu_properties);
        let mut command_line = self.options.kernel_words();
        if !self.append.is_empty() {
            command_line.push(self.append.clone());
        }
        let mut arguments: Vec<String> = [
            "-M",
            &board,
            "-cpu",
            &cpu,
            "-smp",
            option("SMP"),
            "-m",
            option("MEM"),
            // The default network card wants a ROM file that not every package brings.
            "-nic",
            "none",
            // A reset is an end, and not a pass: it has status 0.
            "-no-reboot",
            "-display",
            "none",
            "-monitor",
            "none",
            // One console for the UART and for semihosting, so that what is printed
            // before there is a UART comes in its place. Ctrl-A x leaves QEMU.
            "-chardev",
            "stdio,id=console,mux=on,signal=off",
            "-serial",
            "chardev:console",
            "-semihosting-config",
            "enable=on,target=native,chardev=console",
        ]
        .map(str::to_owned)
        .into();
        arguments.extend([
            "-kernel".to_owned(),
            self.image.to_string_lossy().into_owned(),
        ]);
        if !command_line.is_empty() {
            arguments.extend(["-append".to_owned(), command_line.join(" ")]);
        }
        arguments.extend(self.extra.iter().cloned());
        arguments
    }

    /// The command, ready to start, with nothing to read. With `V=1` it is printed.
    pub fn command(&self) -> Command {
        let arguments = self.arguments();
        if self.options.get("V") == "1" {
            let quoted: Vec<_> = arguments.iter().map(|argument| quote(argument)).collect();
            eprintln!("{QEMU} {}", quoted.join(" "));
        }
        let mut command = Command::new(QEMU);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Boots for a person: the console goes to standard output as it comes, with
    /// names put to addresses. On a terminal the kernel can be typed to, for as
    /// long as one likes.
    ///
    /// # Errors
    /// If QEMU cannot be started.
    pub fn boot_shown(&self, limit: Duration, root: &Path) -> Result<Boot> {
        let mut text = Vec::new();
        let mut names = Names::new(Symbols::new(&self.image, root));
        let mut people = ForPeople::new(std::io::stdout().is_terminal());
        let mut show = |bytes: &[u8]| {
            let before = text.len();
            names.push(bytes, &mut text);
            let shown = people.take(&text[before..]);
            let mut out = std::io::stdout().lock();
            // A reader that has gone away is no reason to stop the machine.
            let _ = out.write_all(&shown).and_then(|()| out.flush());
        };
        let ending = if std::io::stdin().is_terminal() {
            let mut command = self.clone().with_monitor().command();
            command.stdin(Stdio::inherit());
            process::run_in_foreground(command, Some(&mut show))?
        } else {
            process::run(self.command(), limit, &mut show)?
        };
        Ok(Boot {
            ending,
            text: String::from_utf8_lossy(&text).into_owned(),
        })
    }

    /// Boots for a test: the console goes to a log.
    ///
    /// # Errors
    /// If QEMU cannot be started or the log cannot be written.
    pub fn boot_logged(&self, limit: Duration, root: &Path, log: &Path) -> Result<Boot> {
        let mut text = Vec::new();
        let mut names = Names::new(Symbols::new(&self.image, root));
        let command = self.command();
        let ending = process::run(command, limit, |bytes| names.push(bytes, &mut text))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        write_log(log, &format!("{text}\n[{QEMU}: {ending}]\n"))?;
        Ok(Boot { ending, text })
    }

    /// Starts the machine for gdb. What it prints goes to a log, or without one to
    /// standard output.
    ///
    /// # Errors
    /// If QEMU cannot be started or the log cannot be written.
    pub fn start_for_gdb(&self, log: Option<&Path>) -> Result<Group> {
        let mut command = self.command();
        if let Some(log) = log {
            write_log(log, "")?;
            let open = || fs::File::options().append(true).open(log);
            let (out, err) = (open().doing("open a log")?, open().doing("open a log")?);
            command.stdout(out).stderr(err);
        }
        Group::start(&mut command)
    }
}

/// Leaves out the lines that are for programs, which start with `{`, where a person reads.
struct ForPeople {
    /// A person reads.
    terminal: bool,
    /// The next byte is the first of a line.
    at_start: bool,
    /// The line at hand is left out.
    hidden: bool,
}

impl ForPeople {
    fn new(terminal: bool) -> Self {
        Self {
            terminal,
            at_start: true,
            hidden: false,
        }
    }

    /// What is to be shown of what came.
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if self.at_start {
                self.hidden = self.terminal && *byte == b'{';
            }
            self.at_start = *byte == b'\n';
            if !self.hidden {
                shown.push(*byte);
            }
        }
        shown
    }
}

/// Writes a log, whose directory need not be there.
///
/// # Errors
/// If it cannot be written.
pub fn write_log(log: &Path, text: &str) -> Result {
    let directory = log.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(log, text))
        .doing(format!("write {}", log.display()))
}

/// An argument as a shell takes it.
fn quote(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=,.:/+".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_programs_are_not_shown_to_people() {
        let text = b"a\n{\"x\":1}\nb {\nc";
        let mut people = ForPeople::new(true);
        let shown: Vec<u8> = text.iter().flat_map(|byte| people.take(&[*byte])).collect();
        assert_eq!(shown, b"a\nb {\nc");
        assert_eq!(ForPeople::new(false).take(text), text);
    }

    fn machine(set: &[(&str, &str)]) -> Machine {
        let get = |name: &str| {
            set.iter()
                .find(|(other, _)| *other == name)
                .map(|(_, value)| (*value).to_owned())
        };
        Machine::new(&Options::from(get).unwrap(), Path::new("image"))
    }

    /// The argument that follows the flag.
    fn after(machine: &Machine, flag: &str) -> Option<String> {
        let arguments = machine.arguments();
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1).cloned()
    }

    #[test]
    fn no_network_card_and_no_reboot_whatever_the_options() {
        for el in ["1", "2", "3"] {
            let machine = machine(&[("EL", el)]);
            assert_eq!(after(&machine, "-nic").as_deref(), Some("none"));
            assert!(machine.arguments().contains(&"-no-reboot".to_owned()));
        }
    }

    #[test]
    fn the_board_has_the_exception_level_asked_for() {
        let board = |set: &[_]| after(&machine(set), "-M").unwrap();
        assert_eq!(board(&[]), "virt,gic-version=3");
        assert_eq!(board(&[("GIC", "2")]), "virt,gic-version=2");
        assert_eq!(
            board(&[("EL", "2")]),
            "virt,gic-version=3,virtualization=on"
        );
        assert_eq!(
            board(&[("EL", "3")]),
            "virt,gic-version=3,virtualization=on,secure=on"
        );
    }

    #[test]
    fn a_machine_that_counts_instructions_has_a_tick_for_each() {
        let machine = machine(&[("CPU", "neoverse-n1")]);
        assert_eq!(after(&machine, "-cpu").as_deref(), Some("neoverse-n1"));
        assert_eq!(after(&machine, "-icount"), None);
        let counting = machine.counting_instructions();
        let cpu = "neoverse-n1,cntfrq=1000000000";
        assert_eq!(after(&counting, "-cpu").as_deref(), Some(cpu));
        let icount = "shift=0,align=off,sleep=off";
        assert_eq!(after(&counting, "-icount").as_deref(), Some(icount));
    }

    #[test]
    fn the_command_line_arrives_whole() {
        assert_eq!(after(&machine(&[]), "-append"), None);
        let quoted = machine(&[("MODEL", "strict"), ("APPEND", "autorun=\"lazy; stats\"")]);
        assert_eq!(
            after(&quoted, "-append").as_deref(),
            Some("model=strict autorun=\"lazy; stats\"")
        );
        let tour = machine(&[]).autorun("tour");
        assert_eq!(after(&tour, "-append").as_deref(), Some("autorun=\"tour\""));
        let monitor = machine(&[("APPEND", "autorun=lazy")]).with_monitor();
        assert_eq!(
            after(&monitor, "-append").as_deref(),
            Some("autorun=lazy monitor=on")
        );
    }

    #[test]
    fn what_is_printed_can_be_given_to_a_shell() {
        assert_eq!(quote("virt,gic-version=3"), "virt,gic-version=3");
        assert_eq!(quote("a=\"b c\""), "'a=\"b c\"'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }
}
