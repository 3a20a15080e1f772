//! The initial state of a litmus test, and the values that it and the condition speak of.

use super::text::{Part, Read, Unsupported};
use super::words::{Word, Words};

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// An integer; negative ones in two's complement.
    Number(u64),
    /// The address of a variable.
    Variable(String),
    /// The address of the entry that maps a variable.
    Entry(String),
    /// What a TLBI takes for a variable: its page number.
    Tlb(String),
    /// What an entry holds.
    Descriptor(Fields),
}

/// The fields of an entry, as `(oa:PA(x), valid:0)` gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// The variable whose frame it maps, if it is said.
    pub output: Option<String>,
    /// `valid`.
    pub valid: bool,
    /// `af`: the access flag.
    pub accessed: bool,
    /// `db`: 0 is read-only.
    pub writable: bool,
    /// `el0`: whether EL0 has access too.
    pub el0: bool,
}

/// What has a value at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A general-purpose register of a thread.
    Register {
        /// Which thread.
        thread: usize,
        /// Which register, 0 to 30.
        register: u8,
    },
    /// A variable.
    Variable(String),
    /// The entry that maps a variable.
    Entry(String),
}

/// One `location = value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The line that it is on.
    pub line: usize,
    /// What has the value.
    pub location: Location,
    /// The value.
    pub value: Value,
}

/// Reads what is between the braces.
///
/// # Errors
/// At the first word that can't be read or has no counterpart.
pub fn initial(part: &Part) -> Read<Vec<Binding>> {
    let mut words = Words::of(part)?;
    let mut bindings = Vec::new();
    loop {
        while words.sign(';') {}
        if words.peek(0).is_none() {
            return Ok(bindings);
        }
        let line = words.line();
        skip_type(&mut words)?;
        let location = location(&mut words)?;
        let value = if words.sign('=') {
            value(&mut words)?
        } else {
            Value::Number(0)
        };
        if !matches!(words.peek(0), None | Some(Word::Sign(';'))) {
            return Err(words.error("';' expected"));
        }
        bindings.push(Binding {
            line,
            location,
            value,
        });
    }
}

/// Skips the type of a location, if there is one.
fn skip_type(words: &mut Words) -> Read<()> {
    let Some(Word::Name(name)) = words.peek(0) else {
        return Ok(());
    };
    let is_thread = thread_of(name).is_some() && words.peek(1) == Some(&Word::Sign(':'));
    if is_thread || name == "PTE" {
        return Ok(());
    }
    if matches!(
        words.peek(1),
        Some(Word::Name(_) | Word::Number(_) | Word::Sign('*'))
    ) {
        words.word()?;
        while words.sign('*') {}
    }
    Ok(())
}

/// The number in `P0`.
pub fn thread_of(name: &str) -> Option<usize> {
    let digits = name.strip_prefix('P')?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// Reads a location: `0:X1`, `x`, `[x]`, `PTE(x)` or `[PTE(x)]`.
///
/// # Errors
/// If it is something else.
pub fn location(words: &mut Words) -> Read<Location> {
    if words.sign('[') {
        let inner = memory(words)?;
        words.expect(']')?;
        return Ok(inner);
    }
    let thread = match (words.peek(0), words.peek(1)) {
        (Some(Word::Number(thread)), _) => usize::try_from(*thread).ok(),
        (Some(Word::Name(name)), Some(Word::Sign(':'))) => thread_of(name),
        _ => return memory(words),
    };
    let thread = thread.ok_or_else(|| words.error("a thread expected"))?;
    words.word()?;
    words.expect(':')?;
    let line = words.line();
    let name = words.name()?;
    let register = register(&name)
        .ok_or_else(|| Unsupported::at(line, format!("unknown register '{name}'")))?;
    Ok(Location::Register { thread, register })
}

/// The number of a general-purpose register that holds something.
fn register(name: &str) -> Option<u8> {
    let digits = name.strip_prefix(['X', 'W', 'x', 'w'])?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|number| *number < 31)
}

fn memory(words: &mut Words) -> Read<Location> {
    let name = words.name()?;
    if name == "PTE" {
        return Ok(Location::Entry(in_parentheses(words)?));
    }
    if words.peek(0) == Some(&Word::Sign('[')) {
        return Err(words.error("arrays are not supported"));
    }
    Ok(Location::Variable(name))
}

fn in_parentheses(words: &mut Words) -> Read<String> {
    words.expect('(')?;
    let name = words.name()?;
    words.expect(')')?;
    Ok(name)
}

/// Reads a value.
///
/// # Errors
/// If it is none of [`Value`]'s.
pub fn value(words: &mut Words) -> Read<Value> {
    if words.sign('(') {
        return Ok(Value::Descriptor(fields(words)?));
    }
    if words.sign('-') {
        return match words.word()? {
            Word::Number(number) => Ok(Value::Number(number.wrapping_neg())),
            _ => Err(words.error("a number expected before this")),
        };
    }
    if let Some(Word::Number(number)) = words.peek(0) {
        let number = *number;
        words.word()?;
        return Ok(Value::Number(number));
    }
    words.sign('&');
    let name = words.name()?;
    if words.peek(0) != Some(&Word::Sign('(')) {
        return Ok(Value::Variable(name));
    }
    match name.as_str() {
        "PTE" => Ok(Value::Entry(in_parentheses(words)?)),
        "TLB" => Ok(Value::Tlb(in_parentheses(words)?)),
        _ => Err(words.error(&format!("'{name}(..)' has no counterpart as a value"))),
    }
}

/// Reads the fields of an entry, after the parenthesis.
fn fields(words: &mut Words) -> Read<Fields> {
    let mut fields = Fields {
        output: None,
        valid: true,
        accessed: true,
        writable: true,
        el0: true,
    };
    while !words.sign(')') {
        let key = words.name()?;
        words.expect(':')?;
        if key == "oa" {
            let name = words.name()?;
            fields.output = Some(match name.strip_prefix("phy_") {
                Some(variable) => variable.to_owned(),
                None if name == "PA" => in_parentheses(words)?,
                None => return Err(words.error("PA(..) expected before this")),
            });
        } else {
            let bit = match words.word()? {
                Word::Number(0) => false,
                Word::Number(1) => true,
                _ => return Err(words.error(&format!("{key} is neither 0 nor 1"))),
            };
            match key.as_str() {
                "valid" => fields.valid = bit,
                "af" => fields.accessed = bit,
                "db" => fields.writable = bit,
                "el0" => fields.el0 = bit,
                "dbm" if !bit => {}
                _ => return Err(words.error(&format!("{key} has no counterpart"))),
            }
        }
        if !words.sign(',') && words.peek(0) != Some(&Word::Sign(')')) {
            return Err(words.error("',' or ')' expected"));
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Read<Vec<(Location, Value)>> {
        let part = Part {
            text: text.to_owned(),
            line: 1,
        };
        let bindings = initial(&part)?;
        Ok(bindings
            .into_iter()
            .map(|b| (b.location, b.value))
            .collect())
    }

    const fn register(thread: usize, register: u8) -> Location {
        Location::Register { thread, register }
    }

    #[test]
    fn every_form_of_the_initial_state_is_read() {
        let x = || "x".to_owned();
        let descriptor = Fields {
            output: Some(x()),
            valid: false,
            accessed: false,
            writable: false,
            el0: true,
        };
        let whole = Fields {
            output: Some(x()),
            valid: true,
            accessed: true,
            writable: true,
            el0: true,
        };
        for (text, location, value) in [
            ("[x]=1", Location::Variable(x()), Value::Number(1)),
            ("x=-1;", Location::Variable(x()), Value::Number(u64::MAX)),
            ("int x=0x10;", Location::Variable(x()), Value::Number(16)),
            ("uint64_t *x", Location::Variable(x()), Value::Number(0)),
            ("0:X1=x", register(0, 1), Value::Variable(x())),
            ("P12:W30=&x", register(12, 30), Value::Variable(x())),
            ("1:X0=PTE(x)", register(1, 0), Value::Entry(x())),
            ("1:X0=TLB(x)", register(1, 0), Value::Tlb(x())),
            ("int 0:X3=5", register(0, 3), Value::Number(5)),
            (
                "[PTE(x)]=(oa:PA(x), valid:0, db:0, af:0)",
                Location::Entry(x()),
                Value::Descriptor(descriptor),
            ),
            (
                "pteval_t 0:X1=(oa:phy_x)",
                register(0, 1),
                Value::Descriptor(whole),
            ),
        ] {
            assert_eq!(read(text), Ok(vec![(location, value)]), "{text}");
        }
        assert_eq!(read(" ; [x]=1; 0:X1=x; ;").unwrap().len(), 2);
    }

    #[test]
    fn what_has_no_counterpart_is_refused_with_its_line() {
        for text in [
            "\nint x[2]={1,2}",
            "\n0:X31=1",
            "\n0:NZCV=1",
            "\n0:X1=(oa:PA(x), dbm:1)",
            "\n0:X1=(oa:PA(x), attrs:(Device))",
            "\n0:X1=(oa:PA(x), valid:2)",
            "\n0:X1=instr:\"NOP\"",
            "\n0:X1=PA(x)",
            "\n0:X1=1 2",
            "\n[x",
        ] {
            assert_eq!(read(text).unwrap_err().line, 2, "{text}");
        }
    }
}
