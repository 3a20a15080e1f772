//! The words that the initial state and the condition of a litmus test are made of.

use super::text::{Part, Read, Unsupported};
use std::fmt;

/// A word of the initial state or of the condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// A name.
    Name(String),
    /// A number, without a sign.
    Number(u64),
    /// One of ``( ) [ ] { } : ; , = ~ * - ! & .`` and the like.
    Sign(char),
    /// `/\`.
    And,
    /// `\/`.
    Or,
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => write!(f, "{number}"),
            Self::Sign(sign) => write!(f, "{sign}"),
            Self::And => f.write_str("/\\"),
            Self::Or => f.write_str("\\/"),
        }
    }
}

/// The words of a part, to be read one by one.
#[derive(Clone, Debug)]
pub struct Words {
    words: Vec<(usize, Word)>,
    next: usize,
    last_line: usize,
}

impl Words {
    /// Takes a part apart.
    ///
    /// # Errors
    /// At a number that is too large.
    pub fn of(part: &Part) -> Read<Self> {
        let mut words = Vec::new();
        let mut line = part.line;
        let mut left = part.text.as_str();
        while let Some(c) = left.chars().next() {
            let (word, length) = if c.is_ascii_alphabetic() || c == '_' {
                let length = run(left, |c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
                (Some(Word::Name(left[..length].to_owned())), length)
            } else if c.is_ascii_digit() {
                let length = run(left, |c| c.is_ascii_alphanumeric());
                let digits = &left[..length];
                let number = number(digits).ok_or_else(|| {
                    Unsupported::at(line, format!("'{digits}' is no number of 64 bits"))
                })?;
                (Some(Word::Number(number)), length)
            } else if left.starts_with("/\\") {
                (Some(Word::And), 2)
            } else if left.starts_with("\\/") {
                (Some(Word::Or), 2)
            } else if c.is_whitespace() {
                line += usize::from(c == '\n');
                (None, c.len_utf8())
            } else {
                (Some(Word::Sign(c)), c.len_utf8())
            };
            words.extend(word.map(|word| (line, word)));
            left = &left[length..];
        }
        Ok(Self {
            words,
            next: 0,
            last_line: line,
        })
    }

    /// The word `n` words on, without taking it.
    pub fn peek(&self, n: usize) -> Option<&Word> {
        self.words.get(self.next + n).map(|(_, word)| word)
    }

    /// Takes the next word.
    ///
    /// # Errors
    /// If there is none.
    pub fn word(&mut self) -> Read<Word> {
        let word = self.peek(0).cloned();
        let word = word.ok_or_else(|| self.error("the text ends too early"))?;
        self.next += 1;
        Ok(word)
    }

    /// Takes the next word if it is this one.
    pub fn take(&mut self, word: &Word) -> bool {
        let there = self.peek(0) == Some(word);
        self.next += usize::from(there);
        there
    }

    /// Takes the next word if it is this sign.
    pub fn sign(&mut self, sign: char) -> bool {
        self.take(&Word::Sign(sign))
    }

    /// Takes the next word if it is this name.
    pub fn is_name(&mut self, name: &str) -> bool {
        let there = matches!(self.peek(0), Some(Word::Name(word)) if word == name);
        self.next += usize::from(there);
        there
    }

    /// Takes this sign.
    ///
    /// # Errors
    /// If the next word is another.
    pub fn expect(&mut self, sign: char) -> Read<()> {
        if self.sign(sign) {
            return Ok(());
        }
        Err(self.error(&format!("'{sign}' expected")))
    }

    /// Takes a name.
    ///
    /// # Errors
    /// If the next word is none.
    pub fn name(&mut self) -> Read<String> {
        match self.peek(0).cloned() {
            Some(Word::Name(name)) => {
                self.next += 1;
                Ok(name)
            }
            _ => Err(self.error("a name expected")),
        }
    }

    /// An error at the next word.
    pub fn error(&self, why: &str) -> Unsupported {
        match self.words.get(self.next) {
            Some((line, word)) => Unsupported::at(*line, format!("at '{word}': {why}")),
            None => Unsupported::at(self.last_line, why),
        }
    }

    /// The line of the next word.
    pub fn line(&self) -> usize {
        self.words
            .get(self.next)
            .map_or(self.last_line, |(line, _)| *line)
    }
}

/// How many of the first bytes are such characters, all of them ASCII.
fn run(text: &str, is: impl Fn(char) -> bool) -> usize {
    text.find(|c| !is(c)).unwrap_or(text.len())
}

/// A number without a sign, decimal or hexadecimal.
pub fn number(digits: &str) -> Option<u64> {
    match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16).ok(),
        None if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok(),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_decimal_or_hexadecimal() {
        for (digits, value) in [("12", Some(12)), ("0x1F", Some(31)), ("12ab", None)] {
            assert_eq!(number(digits), value);
        }
        assert_eq!(number("99999999999999999999"), None);
    }
}
