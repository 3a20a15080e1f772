//! Where the variables of a litmus test are: an address, a frame and an entry for each.

use super::state::{Binding, Fields, Location, Value};
use super::test::Test;
use super::text::{Read, Unsupported};
use std::collections::BTreeMap;
use vmsa::{Attributes, Descriptor, Level, PAGE_SIZE, PhysAddr, VirtAddr};

/// The first variable's address. It is below 2^44, so that shifting an address right by 12, as the
/// tests do, gives a TLBI operand without ASID and level hint.
const ADDRESSES: u64 = 0x10_0000_0000;
/// The first variable's frame.
const FRAMES: u64 = 0x4000_0000;
/// The table that holds the entries.
const TABLE: u64 = 0x8000_0000;
/// How many entries that has, and so how many variables there may be.
const MOST_VARIABLES: usize = 512;

/// What accesses to a variable are to the oracle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The test can change its entry: accesses are what is asked about.
    Changing,
    /// Its entry stays, but is an alias of one that can change, or does not let everything
    /// through.
    Mapped,
    /// Nothing happens to its translation: it is there to synchronise.
    Synchronising,
}

/// What an address leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A variable, and the byte in its page.
    Data(usize, u64),
    /// The entry that maps a variable.
    Entry(usize),
}

/// The variables of a test, each with its class and its entry at the start.
#[derive(Clone, Debug)]
pub struct Layout {
    numbers: BTreeMap<String, usize>,
    /// By variable.
    pub classes: Vec<Class>,
    /// By variable: the entry at the start.
    pub entries: Vec<Descriptor>,
    /// By variable: whether another one may map the same frame.
    pub shared: Vec<bool>,
}

impl Layout {
    /// Lays out the variables of a test.
    ///
    /// # Errors
    /// If there are too many, or an entry is given what none can hold.
    pub fn of(test: &Test) -> Read<Self> {
        let mut layout = Self {
            numbers: BTreeMap::new(),
            classes: Vec::new(),
            entries: Vec::new(),
            shared: Vec::new(),
        };
        let values = test.initial.iter().map(|binding| &binding.value);
        let facts = test.outcomes.iter().flatten();
        for value in values.clone() {
            layout.add_value(value);
        }
        for binding in &test.initial {
            layout.add_location(&binding.location);
        }
        for literal in facts {
            match &literal.fact {
                super::condition::Fact::Holds(location, value) => {
                    layout.add_location(location);
                    layout.add_value(value);
                }
                super::condition::Fact::Fault(fault) => {
                    fault.variable.iter().for_each(|name| layout.add(name));
                }
            }
        }
        let count = layout.numbers.len();
        if count > MOST_VARIABLES {
            return Err(Unsupported::at(0, "there are too many variables"));
        }
        layout.entries = (0..count)
            .map(|variable| descriptor(frame(variable), ORDINARY))
            .collect();
        for binding in &test.initial {
            layout.bind_entry(binding)?;
        }
        layout.classify(values.collect::<Vec<_>>().as_slice());
        Ok(layout)
    }

    fn add(&mut self, name: &str) {
        let next = self.numbers.len();
        self.numbers.entry(name.to_owned()).or_insert(next);
    }

    fn add_location(&mut self, location: &Location) {
        match location {
            Location::Variable(name) | Location::Entry(name) => self.add(name),
            Location::Register { .. } => {}
        }
    }

    fn add_value(&mut self, value: &Value) {
        match value {
            Value::Variable(name) | Value::Entry(name) | Value::Tlb(name) => self.add(name),
            Value::Descriptor(fields) => fields.output.iter().for_each(|name| self.add(name)),
            Value::Number(_) => {}
        }
    }

    fn bind_entry(&mut self, binding: &Binding) -> Read<()> {
        let Location::Entry(name) = &binding.location else {
            return Ok(());
        };
        let variable = self.numbers[name];
        self.entries[variable] = match &binding.value {
            Value::Descriptor(fields) => {
                let output = fields.output.as_ref().unwrap_or(name);
                descriptor(frame(self.numbers[output]), fields)
            }
            Value::Number(0) => Descriptor::INVALID,
            _ => return Err(Unsupported::at(binding.line, "no value of an entry")),
        };
        Ok(())
    }

    /// Finds out what accesses to each variable are.
    fn classify(&mut self, values: &[&Value]) {
        let count = self.entries.len();
        let mut changing = vec![false; count];
        // The frames that a changing entry may come to map.
        let mut stored = Vec::new();
        for value in values {
            match value {
                Value::Entry(name) => changing[self.numbers[name]] = true,
                Value::Descriptor(fields) => {
                    let output = fields.output.as_ref();
                    stored.extend(output.map(|name| frame(self.numbers[name])));
                }
                _ => {}
            }
        }
        let first: Vec<_> = self.entries.iter().map(|entry| output(*entry)).collect();
        let may_map = |variable: usize, frame| {
            first[variable] == Some(frame) || changing[variable] && stored.contains(&frame)
        };
        for (variable, is_changing) in changing.iter().enumerate() {
            let others = || (0..count).filter(|other| *other != variable);
            let mut frames = first.iter().flatten().chain(&stored);
            self.shared.push(frames.any(|frame| {
                may_map(variable, *frame) && others().any(|other| may_map(other, *frame))
            }));
            let is_alias = first[variable].is_some_and(|frame| {
                others().any(|other| changing[other] && may_map(other, frame))
            });
            let is_ordinary = self.entries[variable] == descriptor(frame(variable), ORDINARY);
            self.classes.push(if *is_changing {
                Class::Changing
            } else if is_alias || !is_ordinary {
                Class::Mapped
            } else {
                Class::Synchronising
            });
        }
    }

    /// The number of a variable; every name in the test has one.
    pub fn number(&self, name: &str) -> Option<usize> {
        self.numbers.get(name).copied()
    }

    /// A value as a register holds it.
    ///
    /// # Errors
    /// If it is a valid entry that maps nothing.
    pub fn bits(&self, value: &Value, line: usize) -> Read<u64> {
        let number = |name: &String| self.numbers.get(name).copied().unwrap_or(0);
        Ok(match value {
            Value::Number(number) => *number,
            Value::Variable(name) => address(number(name)).as_u64(),
            Value::Entry(name) => entry_address(number(name)).as_u64(),
            Value::Tlb(name) => address(number(name)).as_u64() >> vmsa::PAGE_SHIFT,
            Value::Descriptor(fields) => match &fields.output {
                Some(name) => descriptor(frame(number(name)), fields).bits(),
                None if fields.valid => {
                    return Err(Unsupported::at(line, "a valid entry without oa"));
                }
                None => 0,
            },
        })
    }

    /// What an address leads to.
    pub fn place(&self, at: u64) -> Option<Place> {
        let count = self.entries.len();
        let within = |base: u64, size: u64| {
            let index = at.checked_sub(base)? / size;
            let index = usize::try_from(index).ok()?;
            (index < count).then_some((index, (at - base) % size))
        };
        if let Some((variable, byte)) = within(ADDRESSES, PAGE_SIZE) {
            return Some(Place::Data(variable, byte));
        }
        match within(TABLE, 8) {
            Some((variable, 0)) => Some(Place::Entry(variable)),
            _ => None,
        }
    }
}

/// An entry that lets everything through.
const ORDINARY: &Fields = &Fields {
    output: None,
    valid: true,
    accessed: true,
    writable: true,
    el0: true,
};

/// A page that maps that frame.
fn descriptor(frame: PhysAddr, fields: &Fields) -> Descriptor {
    let mut attributes = Attributes::KERNEL_DATA | Attributes::NG;
    attributes.set(Attributes::AF, fields.accessed);
    attributes.set(Attributes::AP_READ_ONLY, !fields.writable);
    attributes.set(Attributes::AP_EL0, fields.el0);
    Descriptor::leaf(Level::L3, frame, attributes)
        .unwrap_or(Descriptor::INVALID)
        .with_valid(fields.valid)
}

/// The frame that an entry maps, or would if it were valid.
pub fn output(entry: Descriptor) -> Option<PhysAddr> {
    entry.output_ignoring_valid(Level::L3)
}

/// The address of a variable.
pub fn address(variable: usize) -> VirtAddr {
    VirtAddr::literal(ADDRESSES + variable as u64 * PAGE_SIZE)
}

/// The frame of a variable: where it is at the start, and what `PA(x)` is.
pub fn frame(variable: usize) -> PhysAddr {
    PhysAddr::literal(FRAMES + variable as u64 * PAGE_SIZE)
}

/// Where the entry is that maps a variable.
pub fn entry_address(variable: usize) -> PhysAddr {
    PhysAddr::literal(TABLE + variable as u64 * 8)
}
