//! A person at a terminal: lines with editing and history (`noline`), completion on top.
//!
//! The editor has no completion, and its buffer can't be looked at. So what was typed is followed
//! here, as long as it was typed at the end of the line; what completes it is given to the editor
//! as if it had been typed.

use super::{
    command::Command,
    complete::{Completion, complete},
    keys::{Event, Keys},
};
use crate::{
    arch::{exit, time, uart},
    print, println,
};
use alloc::{collections::VecDeque, string::String};
use core::str;
use embedded_io::{ErrorKind, ErrorType, Read, Write};
use noline::{builder::EditorBuilder, error::NolineError};

const PROMPT: &str = "lull> ";
/// Bytes of the longest line.
const LINE: usize = 256;
/// A terminal that has not said in so many seconds where its cursor is will not.
const PATIENCE: u64 = 2;
/// What the editor sends to be told where the cursor is (DSR 6), and, before that, to have it in
/// the last corner, so that the answer is the size.
const WHERE: &[u8] = b"\x1b[6n";
const TO_THE_CORNER: &[u8] = b"\x1b[999;999H";
/// The answers for a terminal that gives none: 24 lines of 80, the cursor behind the prompt.
const SIZE: &[u8] = b"\x1b[24;80R";
const BEHIND_PROMPT: &[u8] = b"\x1b[24;7R";
const _: () = assert!(PROMPT.len() + 1 == 7);

const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
const CTRL_U: u8 = 0x15;

/// Reads lines and has them run, until one of them, or Ctrl-D, ends the machine. They complete to
/// `commands`.
pub(super) fn interact(commands: &'static [Command], run: fn(&str)) -> ! {
    println!(
        "\nhelp lists the commands. Tab completes, Ctrl-C abandons the line, exit or Ctrl-D \
         leaves; Ctrl-A x ends QEMU at once."
    );
    let mut terminal = Terminal {
        commands,
        ..Terminal::default()
    };
    let mut buffer = [0; LINE];
    // Not the history in a slice: when that is full it can cut a character in two.
    let editor = EditorBuilder::from_slice(&mut buffer)
        .with_unbounded_history()
        .build_sync(&mut terminal);
    let Ok(mut editor) = editor else {
        unreachable!("making an editor reads and writes nothing");
    };
    loop {
        terminal.begin();
        match editor.readline(PROMPT, &mut terminal) {
            Ok(line) => run(line),
            Err(NolineError::Aborted) if terminal.last == CTRL_D => exit::success(),
            Err(NolineError::Aborted | NolineError::ParserError) => {}
            Err(NolineError::IoError(_)) => terminal.show_choice(),
        }
    }
}

/// The UART as the editor sees it.
#[derive(Default)]
struct Terminal {
    /// What a line can begin with.
    commands: &'static [Command],
    keys: Keys,
    /// What the editor reads next.
    ready: VecDeque<u8>,
    /// Keys that came before they were wanted.
    early: VecDeque<u8>,
    /// What stands in the line, if that can be told.
    typed: Option<String>,
    /// The last byte that the editor was given.
    last: u8,
    /// The cursor was sent to the corner.
    in_corner: bool,
    /// The editor waits to be told where the cursor is; the answer if the terminal has none.
    asked: Option<&'static [u8]>,
    /// The terminal has not answered: it is not waited for again.
    mute: bool,
}

impl Terminal {
    /// A new line begins.
    fn begin(&mut self) {
        self.typed = Some(String::new());
        self.asked = None;
        self.ready.clear();
    }

    /// Takes a byte from the UART, if there is one, and puts away what it completes.
    fn poll(&mut self) {
        // A byte with a line error is noise.
        let Ok(Some(byte)) = uart::read_byte() else {
            // There is no interrupt to wait for yet.
            core::hint::spin_loop();
            return;
        };
        match self.keys.advance(byte) {
            Event::Nothing => {}
            Event::Key(bytes) => self.early.extend(bytes.as_slice()),
            Event::Position(bytes) => {
                self.mute = false;
                // An answer that nobody waits for comes too late.
                if self.asked.take().is_some() {
                    self.ready.extend(bytes.as_slice());
                }
            }
        }
    }

    /// Waits until the terminal has said where its cursor is, or for so long that it never will.
    fn wait_for_answer(&mut self) {
        let start = time::now();
        while let Some(instead) = self.asked {
            if self.mute || time::now() - start > PATIENCE * time::frequency() {
                self.mute = true;
                self.asked = None;
                self.ready.extend(instead);
            } else {
                self.poll();
            }
        }
    }

    /// The next key, completed if it is Tab.
    fn next_key(&mut self) -> Result<u8, ErrorKind> {
        loop {
            match self.early.pop_front() {
                Some(b'\t') => {
                    if let Some(byte) = self.tab()? {
                        return Ok(byte);
                    }
                }
                Some(byte) => return Ok(byte),
                None => self.poll(),
            }
        }
    }

    /// Completes the word that was begun: the first byte that is missing, the others ready.
    ///
    /// # Errors
    /// [`ErrorKind::Interrupted`] where there is a choice, which ends the line: it is shown then,
    /// and the line typed again.
    fn tab(&mut self) -> Result<Option<u8>, ErrorKind> {
        let (ending, end) = match self.completion() {
            Completion::Whole(ending) => (ending, " "),
            Completion::Part("") => return Err(ErrorKind::Interrupted),
            Completion::Part(ending) => (ending, ""),
            Completion::None => {
                print!("\x07");
                return Ok(None);
            }
        };
        for byte in end.bytes().rev().chain(ending.bytes().rev()) {
            self.early.push_front(byte);
        }
        Ok(self.early.pop_front())
    }

    /// What the last word of the line can be completed with.
    fn completion(&self) -> Completion {
        let typed = self.typed.as_deref();
        match typed.map(|line| choice(self.commands, line)) {
            Some((begun, known)) => complete(begun, known),
            None => Completion::None,
        }
    }

    /// Shows what the last word can become, and has the line typed again.
    fn show_choice(&mut self) {
        let Some(typed) = self.typed.take() else {
            return;
        };
        println!();
        let (begun, known) = choice(self.commands, &typed);
        for word in known.filter(|word| word.starts_with(begun)) {
            print!("{word} ");
        }
        println!();
        for byte in typed.bytes().rev() {
            self.early.push_front(byte);
        }
    }

    /// Follows what the editor makes of a key.
    fn follow(&mut self, key: u8) {
        self.last = key;
        let Some(typed) = &mut self.typed else {
            if key == CTRL_U {
                self.typed = Some(String::new());
            }
            return;
        };
        match key {
            // As long as there is room, which the editor has as well.
            b' '..=b'~' if typed.len() < LINE => typed.push(key.into()),
            0x08 | 0x7f => drop(typed.pop()),
            CTRL_U => typed.clear(),
            CTRL_C | CTRL_D | b'\r' | b'\n' => {}
            // The cursor goes elsewhere, or the line comes from elsewhere.
            _ => self.typed = None,
        }
    }
}

/// The last word of a line, and what it can be: a command, or one of its command's words.
fn choice<'a>(
    commands: &'static [Command],
    line: &'a str,
) -> (&'a str, impl Iterator<Item = &'static str>) {
    let command = line.rsplit(';').next().unwrap_or_default().trim_start();
    let mut words = command.split(' ');
    let (first, begun) = (words.next().unwrap_or_default(), words.next_back());
    let arguments = commands
        .iter()
        .filter(move |c| begun.is_some() && c.name == first);
    let known = begun
        .is_none()
        .then_some(commands)
        .into_iter()
        .flatten()
        .map(|command| command.name)
        .chain(arguments.flat_map(|command| command.words.iter().copied()));
    (begun.unwrap_or(first), known)
}

impl ErrorType for Terminal {
    type Error = ErrorKind;
}

impl Read for Terminal {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, ErrorKind> {
        let Some(slot) = into.first_mut() else {
            return Ok(0);
        };
        self.wait_for_answer();
        *slot = match self.ready.pop_front() {
            // The rest of an answer is no key.
            Some(byte) => byte,
            None => {
                let key = self.next_key()?;
                self.follow(key);
                key
            }
        };
        Ok(1)
    }
}

impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        // The editor's text is that of the keys it accepted, which are whole characters.
        print!("{}", str::from_utf8(bytes).unwrap_or("?"));
        match bytes {
            TO_THE_CORNER => self.in_corner = true,
            WHERE if core::mem::take(&mut self.in_corner) => self.asked = Some(SIZE),
            WHERE => self.asked = Some(BEHIND_PROMPT),
            _ => {}
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}
