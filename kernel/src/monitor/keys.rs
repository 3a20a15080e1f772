//! What comes from a terminal, sorted before the line editor sees it. Pure.
//!
//! The editor (`noline`) asks the terminal where its cursor is before each line, takes whatever
//! comes next for the answer, and trusts it. So the answers are told from keys here: a key that is
//! pressed early waits, an answer that is none is dropped. Keys that the editor does not know get
//! the control characters that mean the same.

/// The longest sequence that is kept: `ESC [ 999 ; 999 R`.
const LONGEST: usize = 10;

/// What a byte completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing yet.
    Nothing,
    /// A key: the bytes that say so to the editor.
    Key(Bytes),
    /// Where the cursor is, as the terminal says (CPR: `ESC [ row ; column R`).
    Position(Bytes),
}

/// A few bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Bytes {
    /// None.
    const EMPTY: Self = Self {
        bytes: [0; LONGEST],
        len: 0,
    };

    /// One.
    pub fn one(byte: u8) -> Self {
        let mut bytes = Self::EMPTY;
        bytes.push(byte);
        bytes
    }

    /// They.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Whether there was room.
    fn push(&mut self, byte: u8) -> bool {
        let Some(slot) = self.bytes.get_mut(self.len) else {
            return false;
        };
        *slot = byte;
        self.len += 1;
        true
    }
}

/// Cuts the stream of bytes into keys and answers.
#[derive(Debug)]
pub struct Keys {
    /// A sequence that has begun with ESC.
    sequence: Bytes,
    /// The sequence is longer than any that is known: its end is waited for.
    overlong: bool,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            sequence: Bytes::EMPTY,
            overlong: false,
        }
    }
}

const ESC: u8 = 0x1b;
/// `ctrl('a')` is Ctrl-A.
const fn ctrl(letter: u8) -> u8 {
    letter & 0x1f
}

impl Keys {
    /// Takes a byte.
    pub fn advance(&mut self, byte: u8) -> Event {
        if byte == ESC {
            // A new sequence, whatever became of the one before.
            self.sequence = Bytes::one(ESC);
            self.overlong = false;
            return Event::Nothing;
        }
        match self.sequence.as_slice() {
            [] => return Event::Key(Bytes::one(byte)),
            [ESC] if !matches!(byte, b'[' | b'O') => {
                // Alt and a key: not one of ours.
                self.sequence = Bytes::EMPTY;
                return Event::Nothing;
            }
            _ => self.overlong |= !self.sequence.push(byte),
        }
        // `ESC [` parameters, then a final byte (ECMA-48, 5.4); `ESC O` and one byte.
        if !matches!(byte, 0x40..=0x7e) || self.sequence.len == 2 {
            return Event::Nothing;
        }
        let sequence = core::mem::replace(&mut self.sequence, Bytes::EMPTY);
        if core::mem::take(&mut self.overlong) {
            return Event::Nothing;
        }
        meaning(sequence)
    }
}

/// What a whole sequence means.
fn meaning(sequence: Bytes) -> Event {
    let key = |byte| Event::Key(Bytes::one(byte));
    match sequence.as_slice() {
        [_, _, b'A'] => key(ctrl(b'p')),
        [_, _, b'B'] => key(ctrl(b'n')),
        [_, _, b'C'] => key(ctrl(b'f')),
        [_, _, b'D'] => key(ctrl(b'b')),
        [_, _, b'H'] | [_, b'[', b'1' | b'7', b'~'] => key(ctrl(b'a')),
        [_, _, b'F'] | [_, b'[', b'4' | b'8', b'~'] => key(ctrl(b'e')),
        // Delete, which the editor knows by this name alone: Ctrl-D on an empty line would leave.
        [_, b'[', b'3', b'~'] => Event::Key(sequence),
        [_, b'[', position @ .., b'R'] if is_position(position) => Event::Position(sequence),
        _ => Event::Nothing,
    }
}

/// `row;column`, each from 1 to 999.
fn is_position(text: &[u8]) -> bool {
    let number = |digits: &[u8]| {
        let good = matches!(digits.len(), 1..=3) && digits.iter().all(u8::is_ascii_digit);
        good && digits.iter().any(|digit| *digit != b'0')
    };
    let mut parts = text.split(|byte| *byte == b';');
    matches!((parts.next(), parts.next(), parts.next()), (Some(row), Some(column), None)
        if number(row) && number(column))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Keys as text, positions in brackets.
    fn read(input: &[u8]) -> String {
        let mut keys = Keys::default();
        let mut out = Vec::new();
        for byte in input {
            match keys.advance(*byte) {
                Event::Nothing => {}
                Event::Key(bytes) => out.extend(bytes.as_slice()),
                Event::Position(bytes) => {
                    out.push(b'<');
                    out.extend(&bytes.as_slice()[2..]);
                    out.push(b'>');
                }
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn plain_keys_pass() {
        assert_eq!(read("aé\t\r\x7f\x03".as_bytes()), "aé\t\r\x7f\x03");
    }

    #[test]
    fn arrows_home_and_end_become_control_characters() {
        assert_eq!(read(b"\x1b[A\x1b[B\x1b[C\x1b[D"), "\x10\x0e\x06\x02");
        assert_eq!(read(b"\x1bOA\x1bOH\x1bOF"), "\x10\x01\x05");
        assert_eq!(
            read(b"\x1b[H\x1b[F\x1b[1~\x1b[4~\x1b[7~\x1b[8~"),
            "\x01\x05\x01\x05\x01\x05"
        );
        assert_eq!(read(b"\x1b[3~"), "\x1b[3~");
    }

    #[test]
    fn an_answer_is_told_from_keys() {
        assert_eq!(read(b"a\x1b[24;80Rb"), "a<24;80R>b");
        assert_eq!(read(b"\x1b[999;999R"), "<999;999R>");
    }

    #[test]
    fn what_the_editor_would_choke_on_is_dropped() {
        for bad in [
            "\x1b[R",
            "\x1b[;R",
            "\x1b[5R",
            "\x1b[0;5R",
            "\x1b[5;0R",
            "\x1b[1;2;3R",
            "\x1b[99999;1R",
            "\x1b[1;99999999999999999999R",
            "\x1b[?1;2R",
            "\x1b[5S",
            "\x1bx",
            "\x1b\x1b[5~",
        ] {
            assert_eq!(read(format!("a{bad}b").as_bytes()), "ab", "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn after_any_bytes_a_line_can_be_typed(bytes: Vec<u8>) {
            let mut input = bytes;
            // Ends whatever has begun.
            input.extend(b"\x1b[A");
            input.extend(b"help\r");
            prop_assert!(read(&input).ends_with("\x10help\r"));
        }
    }
}
