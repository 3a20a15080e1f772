//! What a benchmark is told: `name=value` words, each a number in a range or one of two words. Pure,
//! so that each refusal is tested on the host.

use super::super::arguments::{self, number};
use core::fmt;

/// What a case can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Its value where it is not there.
    pub default: u64,
    /// The least that it can be.
    pub from: u64,
    /// The most that it can be.
    pub to: u64,
}

/// Shortens the tables.
pub const fn parameter(name: &'static str, default: u64, from: u64, to: u64) -> Parameter {
    Parameter {
        name,
        default,
        from,
        to,
    }
}

/// What the memory is like before a case begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// As the boot left it.
    #[default]
    Fresh,
    /// Free pages and free addresses are in small pieces, in no order.
    Fragmented,
}

impl Memory {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Fresh, Self::Fragmented];

    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Fragmented => "fragmented",
        }
    }
}

/// The most parameters that a case has.
const MAX: usize = 8;

/// A value for each parameter of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Values {
    parameters: &'static [Parameter],
    values: [u64; MAX],
    /// What the memory is to be like.
    pub memory: Memory,
}

/// What is wrong with a word. Shown, it says so, and what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong<'a> {
    /// It is no `name=value`.
    Form(&'a str, &'static [Parameter]),
    /// No parameter has this name.
    Name(&'a str, &'static [Parameter]),
    /// The parameter is there twice.
    Twice(&'static str),
    /// The value is no number.
    Number(arguments::Wrong<'a>),
    /// The number is not in the range.
    Range(Parameter, u64),
    /// The word after `memory=` is none of those.
    Memory(&'a str),
}

/// The names of the parameters, with what they can be.
struct Known(&'static [Parameter]);

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for it in self.0 {
            write!(f, "{}={}..{} ", it.name, it.from, it.to)?;
        }
        f.write_str("memory=fresh|fragmented")
    }
}

impl fmt::Display for Wrong<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(word, known) => {
                write!(f, "'{word}' is no name=value; known: {}", Known(known))
            }
            Self::Name(name, known) => {
                write!(f, "unknown parameter '{name}'; known: {}", Known(known))
            }
            Self::Twice(name) => write!(f, "'{name}' is there twice"),
            Self::Number(wrong) => wrong.fmt(f),
            Self::Range(it, value) => write!(
                f,
                "{}={value} is not possible; known: {} to {}",
                it.name, it.from, it.to
            ),
            Self::Memory(word) => {
                write!(f, "unknown memory '{word}'; known: fresh fragmented")
            }
        }
    }
}

impl Values {
    /// Reads the words that follow the name of a case.
    ///
    /// # Errors
    /// The first word that is [`Wrong`].
    ///
    /// # Panics
    /// If a case has more than eight parameters, which is a slip in its table.
    pub fn parse<'a>(words: &[&'a str], known: &'static [Parameter]) -> Result<Self, Wrong<'a>> {
        let mut given = [None; MAX];
        let mut memory = None;
        for word in words {
            let (name, value) = word.split_once('=').ok_or(Wrong::Form(word, known))?;
            if name == "memory" {
                let found = Memory::ALL.into_iter().find(|it| it.name() == value);
                if memory.replace(found.ok_or(Wrong::Memory(value))?).is_some() {
                    return Err(Wrong::Twice("memory"));
                }
                continue;
            }
            let index = known.iter().position(|it| it.name == name);
            let index = index.ok_or(Wrong::Name(name, known))?;
            let (it, value) = (known[index], number(value).map_err(Wrong::Number)?);
            if !(it.from..=it.to).contains(&value) {
                return Err(Wrong::Range(it, value));
            }
            if given[index].replace(value).is_some() {
                return Err(Wrong::Twice(it.name));
            }
        }
        let mut values = [0; MAX];
        for (index, it) in known.iter().enumerate() {
            values[index] = given[index].unwrap_or(it.default);
        }
        Ok(Self {
            parameters: known,
            values,
            memory: memory.unwrap_or_default(),
        })
    }

    /// The value of a parameter.
    ///
    /// # Panics
    /// If the case has no such parameter, which is a slip in this directory.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        let index = self.parameters.iter().position(|it| it.name == name);
        self.values[index.expect("a parameter of the case")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Parameter] = &[parameter("n", 1, 1, 4096), parameter("loops", 0, 0, 99)];

    fn parse<'a>(words: &[&'a str]) -> Result<Values, Wrong<'a>> {
        Values::parse(words, KNOWN)
    }

    #[test]
    fn what_is_not_there_is_the_default() {
        let values = parse(&[]).unwrap();
        assert_eq!((values.get("n"), values.get("loops")), (1, 0));
        assert_eq!(values.memory, Memory::Fresh);
    }

    #[test]
    fn words_come_in_any_order() {
        let values = parse(&["memory=fragmented", "loops=7", "n=0x40"]).unwrap();
        assert_eq!((values.get("n"), values.get("loops")), (64, 7));
        assert_eq!(values.memory, Memory::Fragmented);
    }

    #[test]
    fn what_is_wrong_is_said_with_what_is_known() {
        let known = "known: n=1..4096 loops=0..99 memory=fresh|fragmented";
        for (word, text) in [
            ("n", format!("'n' is no name=value; {known}")),
            ("m=1", format!("unknown parameter 'm'; {known}")),
            ("=1", format!("unknown parameter ''; {known}")),
            ("n=0", "n=0 is not possible; known: 1 to 4096".to_owned()),
            (
                "n=4097",
                "n=4097 is not possible; known: 1 to 4096".to_owned(),
            ),
            (
                "memory=old",
                "unknown memory 'old'; known: fresh fragmented".to_owned(),
            ),
        ] {
            assert_eq!(parse(&[word]).unwrap_err().to_string(), text);
        }
        for bad in ["n=", "n=x", "n=-1", "n=1=1", "n=99999999999999999999"] {
            assert!(matches!(parse(&[bad]), Err(Wrong::Number(_))), "{bad}");
        }
        assert_eq!(parse(&["n=1", "n=1"]), Err(Wrong::Twice("n")));
        let memory = "memory=fresh";
        assert_eq!(parse(&[memory, memory]), Err(Wrong::Twice("memory")));
    }
}
