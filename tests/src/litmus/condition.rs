//! The condition of a litmus test: the outcomes that it asks about, each a list of literals.

use super::state::{self, Location, Value};
use super::text::{Part, Read, Unsupported};
use super::words::{Word, Words};

/// What an outcome says of the end of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A register or variable has a value.
    Holds(Location, Value),
    /// An access faulted.
    Fault(Fault),
}

/// `fault(P0:L0,x,MMU:Translation)`, of which only the thread must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Whose access.
    pub thread: usize,
    /// The label that it is at; any access where it is not said.
    pub label: Option<String>,
    /// What it was to; anything where it is not said.
    pub variable: Option<String>,
    /// The fault; any where it is not said.
    pub kind: Option<FaultKind>,
}

/// The faults that a translation can end in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The entry is invalid.
    Translation,
    /// The entry's access flag is clear.
    AccessFlag,
    /// The entry is read-only, and the access was a store.
    Permission,
}

/// A fact, or that it is not so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Literal {
    /// The fact.
    pub fact: Fact,
    /// Whether it is so.
    pub so: bool,
}

/// What must all be so at the end of a run.
pub type Outcome = Vec<Literal>;

/// How many outcomes a condition may have.
const MOST_OUTCOMES: usize = 256;
/// How deep a condition may be nested.
const DEEPEST: usize = 64;

/// A condition as it is written.
enum Formula {
    Fact(Fact),
    Not(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
}

/// Reads what follows the program: the outcomes that the condition asks about. Those of `forall`
/// are what it rules out.
///
/// # Errors
/// At the first word that can't be read or has no counterpart.
pub fn outcomes(part: &Part) -> Read<Vec<Outcome>> {
    let mut words = Words::of(part)?;
    let mut all = Vec::new();
    loop {
        if words.is_name("locations") {
            while words.word()? != Word::Sign(']') {}
        } else if words.is_name("filter") {
            all.push(either(&mut words, 0)?);
        } else {
            break;
        }
    }
    let mut not = false;
    while words.sign('~') || words.is_name("not") {
        not = !not;
    }
    if words.is_name("exists") {
        all.push(either(&mut words, 0)?);
    } else if !not && words.is_name("forall") {
        all.push(Formula::Not(Box::new(either(&mut words, 0)?)));
    } else {
        return Err(words.error("exists, ~exists or forall expected"));
    }
    if words.peek(0).is_some() {
        return Err(words.error("the condition should be over"));
    }
    alternatives(&Formula::And(all), true)
        .ok_or_else(|| Unsupported::at(part.line, "the condition has too many outcomes"))
}

fn either(words: &mut Words, depth: usize) -> Read<Formula> {
    let mut parts = vec![both(words, depth)?];
    while words.take(&Word::Or) {
        parts.push(both(words, depth)?);
    }
    Ok(Formula::Or(parts))
}

fn both(words: &mut Words, depth: usize) -> Read<Formula> {
    let mut parts = vec![one(words, depth)?];
    while words.take(&Word::And) {
        parts.push(one(words, depth)?);
    }
    Ok(Formula::And(parts))
}

fn one(words: &mut Words, depth: usize) -> Read<Formula> {
    if depth == DEEPEST {
        return Err(words.error("nested too deep"));
    }
    if words.sign('~') || words.is_name("not") {
        return Ok(Formula::Not(Box::new(one(words, depth + 1)?)));
    }
    if words.sign('(') {
        let inner = either(words, depth + 1)?;
        words.expect(')')?;
        return Ok(inner);
    }
    if words.is_name("true") {
        return Ok(Formula::And(Vec::new()));
    }
    if words.is_name("false") {
        return Ok(Formula::Or(Vec::new()));
    }
    if words.is_name("fault") || words.is_name("Fault") {
        return Ok(Formula::Fact(Fact::Fault(fault(words)?)));
    }
    let location = state::location(words)?;
    words.expect('=')?;
    Ok(Formula::Fact(Fact::Holds(location, state::value(words)?)))
}

/// Reads what follows `fault`.
fn fault(words: &mut Words) -> Read<Fault> {
    words.expect('(')?;
    let thread = match words.word()? {
        Word::Number(thread) => usize::try_from(thread).ok(),
        Word::Name(name) => state::thread_of(&name),
        _ => None,
    };
    let thread = thread.ok_or_else(|| words.error("a thread expected before this"))?;
    let mut fault = Fault {
        thread,
        label: None,
        variable: None,
        kind: None,
    };
    if words.sign(':') {
        fault.label = Some(words.name()?);
    }
    while words.sign(',') {
        let name = words.name()?;
        let kind = match name.as_str() {
            "MMU" => {
                words.expect(':')?;
                words.name()?
            }
            _ if fault.variable.is_none() => {
                fault.variable = Some(name);
                continue;
            }
            _ => name,
        };
        fault.kind = Some(match kind.as_str() {
            "Translation" => FaultKind::Translation,
            "AccessFlag" => FaultKind::AccessFlag,
            "Permission" => FaultKind::Permission,
            _ => return Err(words.error(&format!("unknown fault '{kind}' before this"))),
        });
    }
    words.expect(')')?;
    Ok(fault)
}

/// The outcomes in which the formula is (or is not) so; none if there are too many.
fn alternatives(formula: &Formula, so: bool) -> Option<Vec<Outcome>> {
    match formula {
        Formula::Fact(fact) => Some(vec![vec![Literal {
            fact: fact.clone(),
            so,
        }]]),
        Formula::Not(inner) => alternatives(inner, !so),
        Formula::And(parts) if so => every(parts, so),
        Formula::Or(parts) if !so => every(parts, so),
        Formula::And(parts) | Formula::Or(parts) => any(parts, so),
    }
}

fn any(parts: &[Formula], so: bool) -> Option<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for part in parts {
        outcomes.extend(alternatives(part, so)?);
    }
    (outcomes.len() <= MOST_OUTCOMES).then_some(outcomes)
}

fn every(parts: &[Formula], so: bool) -> Option<Vec<Outcome>> {
    let mut outcomes = vec![Outcome::new()];
    for part in parts {
        let more = alternatives(part, so)?;
        if outcomes.len() * more.len() > MOST_OUTCOMES {
            return None;
        }
        outcomes = outcomes
            .iter()
            .flat_map(|outcome| more.iter().map(|more| [&outcome[..], &more[..]].concat()))
            .collect();
    }
    Some(outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The outcomes, each literal as a short text.
    fn read(text: &str) -> Read<Vec<String>> {
        let part = Part {
            text: text.to_owned(),
            line: 1,
        };
        let short = |literal: &Literal| {
            let fact = match &literal.fact {
                Fact::Holds(Location::Register { thread, register }, Value::Number(n)) => {
                    format!("{thread}:{register}={n}")
                }
                Fact::Holds(Location::Variable(name), Value::Number(n)) => format!("{name}={n}"),
                Fact::Holds(location, value) => format!("{location:?}={value:?}"),
                Fact::Fault(fault) => format!(
                    "{}.{}.{}.{:?}",
                    fault.thread,
                    fault.label.as_deref().unwrap_or("-"),
                    fault.variable.as_deref().unwrap_or("-"),
                    fault.kind
                ),
            };
            format!("{}{fact}", if literal.so { "" } else { "~" })
        };
        let outcomes = outcomes(&part)?;
        Ok(outcomes
            .iter()
            .map(|outcome| outcome.iter().map(short).collect::<Vec<_>>().join(" "))
            .collect())
    }

    #[test]
    fn a_condition_is_its_outcomes() {
        for (text, outcomes) in [
            ("exists (0:X1=1 /\\ [x]=2)", vec!["0:1=1 x=2"]),
            ("exists 0:X1=1 \\/ x=2 /\\ y=3", vec!["0:1=1", "x=2 y=3"]),
            ("~exists (0:W1=1)", vec!["0:1=1"]),
            ("~ exists ~(0:X1=1 \\/ 1:X1=2)", vec!["~0:1=1 ~1:1=2"]),
            ("forall (0:X1=1 /\\ y=3)", vec!["~0:1=1", "~y=3"]),
            ("filter x=1 exists y=2", vec!["x=1 y=2"]),
            ("locations [0:X9;]\nexists (true)", vec![""]),
            ("exists (false)", vec![]),
            (
                "exists (fault(P1:L0,x,MMU:Permission) /\\ ~Fault(P0,y))",
                vec!["1.L0.x.Some(Permission) ~0.-.y.None"],
            ),
            ("exists fault(P0:L0)", vec!["0.L0.-.None"]),
        ] {
            assert_eq!(read(text).unwrap(), outcomes, "{text}");
        }
    }

    #[test]
    fn a_condition_that_cannot_be_read_is_refused() {
        for (text, line) in [
            ("exists (0:X1=1", 1),
            ("exists\n(0:X1=1))", 2),
            ("forall\n0:X1", 2),
            ("exists fault(P0,\nx,MMU:Alignment)", 2),
            ("~forall x=1", 1),
            ("locations [x;", 1),
            ("", 1),
        ] {
            assert_eq!(read(text).unwrap_err().line, line, "{text}");
        }
        let deep = format!("exists {}", "(".repeat(100_000));
        assert!(read(&deep).unwrap_err().why.contains("too deep"));
        let wide = format!("exists {}(x=1)", "(x=1 \\/ x=2) /\\ ".repeat(40));
        assert!(read(&wide).unwrap_err().why.contains("too many"));
    }
}
