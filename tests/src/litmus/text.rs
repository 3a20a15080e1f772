//! A litmus test as text: its parts, its words, and what is said where they can't be read.

use std::fmt;

/// Why a test cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// The line of the file, from 1; 0 where it is about the test as a whole.
    pub line: usize,
    /// Why, in words.
    pub why: String,
}

impl Unsupported {
    /// What is on that line can't be read, or has no counterpart.
    pub fn at(line: usize, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { line, why }
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line != 0 {
            write!(f, "line {}: ", self.line)?;
        }
        f.write_str(&self.why)
    }
}

/// The result of reading a part of a test.
pub type Read<T> = Result<T, Unsupported>;

/// A part of a test, with the line of the file that it begins on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The text.
    pub text: String,
    /// The line that it begins on.
    pub line: usize,
}

/// The parts of a test, without its name and description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The lines `Key=value`.
    pub keys: Vec<(usize, String, String)>,
    /// What is between the braces.
    pub initial: Part,
    /// The rows of the program, without the `;` that ends each.
    pub rows: Vec<Part>,
    /// `locations`, `filter`, and the condition.
    pub end: Part,
}

/// The words that begin what comes after the program.
const ENDS: [&str; 7] = [
    "exists",
    "~exists",
    "~ exists",
    "not exists",
    "forall",
    "locations",
    "filter",
];

/// The test's name: what follows the architecture on the first line. It is printed, never read.
pub fn name(text: &str) -> &str {
    let first = text.lines().next().unwrap_or_default().trim();
    first
        .split_once(char::is_whitespace)
        .map_or("", |(_, name)| name.trim())
}

impl Parts {
    /// Takes a test apart.
    ///
    /// # Errors
    /// Where one of its parts is missing, or it is not for AArch64.
    pub fn of(text: &str) -> Read<Self> {
        let text = without_comments(text)?;
        let mut rest = Rest { text: &text, at: 0 };
        let first = rest.to(text.find('\n').unwrap_or(text.len()));
        if first.text.split_whitespace().next() != Some("AArch64") {
            return Err(Unsupported::at(1, "the first line is not 'AArch64 NAME'"));
        }
        rest.skip_white();
        if rest.left().starts_with('"') {
            let length = quoted(rest.left()).ok_or_else(|| rest.error("a quote has no end"))?;
            rest.to(rest.at + length);
        }
        let open = rest
            .find('{')
            .ok_or_else(|| rest.error("there is no initial state in braces"))?;
        let keys = rest.to(open);
        let keys = keys_of(&keys)?;
        rest.to(open + 1);
        let close = closing(rest.left()).ok_or_else(|| rest.error("a brace has no end"))?;
        let initial = rest.to(rest.at + close);
        rest.to(rest.at + 1);
        let mut rows = Vec::new();
        loop {
            rest.skip_white();
            if rest.left().is_empty() {
                return Err(rest.error("there is no condition"));
            }
            if ENDS.iter().any(|end| rest.left().starts_with(end)) {
                break;
            }
            let end = rest
                .find(';')
                .ok_or_else(|| rest.error("a row of the program does not end in ';'"))?;
            rows.push(rest.to(end));
            rest.to(end + 1);
        }
        let end = rest.to(text.len());
        Ok(Self {
            keys,
            initial,
            rows,
            end,
        })
    }
}

/// What is still to be read.
struct Rest<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Rest<'t> {
    fn left(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn find(&self, what: char) -> Option<usize> {
        self.left().find(what).map(|length| self.at + length)
    }

    fn skip_white(&mut self) {
        self.at = self.text.len() - self.left().trim_start().len();
    }

    fn line(&self) -> usize {
        1 + newlines(&self.text[..self.at])
    }

    /// Takes the text up to `end`.
    fn to(&mut self, end: usize) -> Part {
        let part = Part {
            text: self.text[self.at..end].to_owned(),
            line: self.line(),
        };
        self.at = end;
        part
    }

    fn error(&self, why: &str) -> Unsupported {
        Unsupported::at(self.line(), why)
    }
}

fn newlines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// How long the quoted string is that the text begins with, quotes included.
fn quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Where the brace is that closes the one before the text.
fn closing(text: &str) -> Option<usize> {
    let mut open = 1;
    for (at, c) in text.char_indices() {
        match c {
            '{' => open += 1,
            '}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(at);
        }
    }
    None
}

/// The text with its comments `(* .. *)` made blank; line breaks stay. Quoted text has none.
fn without_comments(text: &str) -> Read<String> {
    let mut blank = String::with_capacity(text.len());
    let mut at = 0;
    let mut opened = Vec::new();
    while let Some(c) = text[at..].chars().next() {
        let left = &text[at..];
        if opened.is_empty() && c == '"' {
            let length = quoted(left).unwrap_or(1);
            blank.push_str(&left[..length]);
            at += length;
        } else if left.starts_with("(*") {
            opened.push(1 + newlines(&text[..at]));
            at += 2;
        } else if !opened.is_empty() && left.starts_with("*)") {
            opened.pop();
            blank.push(' ');
            at += 2;
        } else {
            if opened.is_empty() || c == '\n' {
                blank.push(c);
            }
            at += c.len_utf8();
        }
    }
    match opened.first() {
        Some(line) => Err(Unsupported::at(*line, "a comment has no end")),
        None => Ok(blank),
    }
}

/// The lines `Key=value`.
fn keys_of(part: &Part) -> Read<Vec<(usize, String, String)>> {
    let mut keys = Vec::new();
    for (n, line) in part.text.lines().enumerate() {
        let line_number = part.line + n;
        if line.trim().is_empty() {
            continue;
        }
        let (key, value) = line.split_once('=').ok_or_else(|| {
            Unsupported::at(line_number, format!("'{}' is no 'Key=value'", line.trim()))
        })?;
        keys.push((line_number, key.trim().to_owned(), value.trim().to_owned()));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_found_and_what_is_no_part_is_not_read() {
        let parts = Parts::of(
            "AArch64 n a m e\n\"exists { \\\" } P0 ;\"\nVariant=vmsa\n(* exists (* ; *) *)\n\
             { 0:X1=x; }\n P0 | P1 ;\n NOP | ;\nlocations [0:X9;]\nexists (0:X1=1)\n",
        )
        .unwrap();
        assert_eq!(parts.keys, [(3, "Variant".to_owned(), "vmsa".to_owned())]);
        assert_eq!(parts.initial.text.trim(), "0:X1=x;");
        assert_eq!(parts.initial.line, 5);
        let rows: Vec<_> = parts.rows.iter().map(|row| row.text.trim()).collect();
        assert_eq!(rows, ["P0 | P1", "NOP |"]);
        assert_eq!(parts.rows[1].line, 7);
        assert!(parts.end.text.starts_with("locations [0:X9;]"));
        assert_eq!(parts.end.line, 8);
    }

    #[test]
    fn a_missing_part_is_named_with_its_line() {
        for (text, line, why) in [
            ("", 1, "the first line is not 'AArch64 NAME'"),
            ("X86_64 a\n{}\n", 1, "the first line is not 'AArch64 NAME'"),
            ("AArch64 a\n\"b\n", 2, "a quote has no end"),
            ("AArch64 a\n(* (* *)\n", 2, "a comment has no end"),
            ("AArch64 a\n\n", 3, "there is no initial state in braces"),
            ("AArch64 a\nword\n{}", 2, "'word' is no 'Key=value'"),
            ("AArch64 a\n{\n", 2, "a brace has no end"),
            ("AArch64 a\n{ }\nP0 ;\n", 4, "there is no condition"),
            (
                "AArch64 a\n{ }\nP0 \n",
                3,
                "a row of the program does not end in ';'",
            ),
        ] {
            assert_eq!(Parts::of(text), Err(Unsupported::at(line, why)), "{text:?}");
        }
    }
}
