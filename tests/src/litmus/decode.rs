//! How an instruction is read from its text.

mod memory;

use super::instruction::{Instruction, Operand, Operation, Register, When};
use super::words::number;
use memory::memory;
use mmu_oracle::event::{Barrier, Domain, Orders, Scope};

/// Reads an instruction without its labels; none if it is not known.
pub fn instruction(text: &str) -> Option<Instruction> {
    let (mnemonic, operands) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let mnemonic = mnemonic.to_ascii_uppercase();
    let operands = split(operands)?;
    let operands: Vec<_> = operands.iter().map(String::as_str).collect();
    match (mnemonic.as_str(), &operands[..]) {
        ("NOP" | "YIELD", []) => Some(Instruction::Nop),
        ("ISB", [] | ["SY"]) => Some(Instruction::Barrier(Barrier::Isb)),
        ("DSB", [option]) => {
            let (domain, orders) = barrier(option)?;
            Some(Instruction::Barrier(Barrier::Dsb(domain, orders)))
        }
        ("DMB", [option]) => {
            let (domain, orders) = barrier(option)?;
            Some(Instruction::Barrier(Barrier::Dmb(domain, orders)))
        }
        ("SVC", [immediate]) => {
            self::immediate(immediate)?;
            Some(Instruction::Call)
        }
        ("ERET", []) => Some(Instruction::Return),
        ("TLBI", [operation, operand @ ..]) => tlbi(operation, operand),
        (branch, operands) if branch.starts_with(['B', 'C', 'T']) && !operands.is_empty() => {
            self::branch(branch, operands)
                .or_else(|| arithmetic(branch, operands))
                .or_else(|| memory(branch, operands))
        }
        (mnemonic, operands) => {
            arithmetic(mnemonic, operands).or_else(|| memory(mnemonic, operands))
        }
    }
}

/// The operands: what is between commas outside of brackets. All but names that are no register,
/// which may be labels, are in upper case.
fn split(text: &str) -> Option<Vec<String>> {
    let mut operands = Vec::new();
    let mut operand = String::new();
    let mut depth = 0;
    for c in text.chars() {
        match c {
            '[' => depth += 1,
            ']' if depth == 0 => return None,
            ']' => depth -= 1,
            _ => {}
        }
        if c == ',' && depth == 0 {
            operands.push(std::mem::take(&mut operand));
        } else {
            operand.push(c);
        }
    }
    if depth != 0 || operand.trim().is_empty() && !operands.is_empty() {
        return None;
    }
    if !operand.trim().is_empty() {
        operands.push(operand);
    }
    let upper = |operand: &String| match operand.trim() {
        word if word.starts_with(|c: char| c.is_ascii_alphabetic()) && register(word).is_none() => {
            word.to_owned()
        }
        other => other.to_ascii_uppercase(),
    };
    Some(operands.iter().map(upper).collect())
}

fn register(text: &str) -> Option<Register> {
    let wide = match text.get(..1)? {
        "X" | "x" => true,
        "W" | "w" => false,
        _ => return None,
    };
    let name = &text[1..];
    if name.eq_ignore_ascii_case("ZR") {
        return Some(Register { index: 31, wide });
    }
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let index = name.parse().ok().filter(|index| *index < 31)?;
    Some(Register { index, wide })
}

fn immediate(text: &str) -> Option<u64> {
    let text = text.strip_prefix('#').unwrap_or(text);
    match text.strip_prefix('-') {
        Some(digits) => number(digits).map(u64::wrapping_neg),
        None => number(text),
    }
}

/// `LSL #n`, as a number of bits.
fn shift(text: &str) -> Option<u32> {
    let (name, bits) = text.split_at_checked(3)?;
    if !name.eq_ignore_ascii_case("LSL") {
        return None;
    }
    let bits = immediate(bits.trim())?;
    u32::try_from(bits).ok().filter(|bits| *bits < 64)
}

fn operand(operands: &[&str]) -> Option<Operand> {
    match operands {
        [one] => match register(one) {
            Some(register) => Some(Operand::Register(register, 0)),
            None => immediate(one).map(Operand::Immediate),
        },
        [one, shifted] => match register(one) {
            Some(register) => Some(Operand::Register(register, shift(shifted)?)),
            None => Some(Operand::Immediate(immediate(one)? << shift(shifted)?)),
        },
        _ => None,
    }
}

fn barrier(option: &str) -> Option<(Domain, Orders)> {
    let option = option.to_ascii_uppercase();
    let (domain, orders) = match option.as_str() {
        "SY" => (Domain::FullSystem, ""),
        "ST" | "LD" => (Domain::FullSystem, option.as_str()),
        other => match other.split_at_checked(3)? {
            ("ISH", orders) => (Domain::InnerShareable, orders),
            ("NSH", orders) => (Domain::NonShareable, orders),
            ("OSH", orders) => (Domain::OuterShareable, orders),
            _ => return None,
        },
    };
    let orders = match orders {
        "" => Orders::All,
        "ST" => Orders::Stores,
        "LD" => Orders::Loads,
        _ => return None,
    };
    Some((domain, orders))
}

fn tlbi(operation: &str, operand: &[&str]) -> Option<Instruction> {
    let operation = operation.to_ascii_uppercase();
    // An nXS form does not wait for accesses with the XS attribute, which no entry here gives.
    let operation = operation.strip_suffix("NXS").unwrap_or(&operation);
    let (name, broadcast) = match operation.strip_suffix("IS") {
        Some(name) => (name, true),
        None => (operation, false),
    };
    let (scope, last_level) = match name {
        "VMALLE1" => (Scope::All, false),
        "ASIDE1" => (Scope::Asid, false),
        "VAE1" => (Scope::Va, false),
        "VALE1" => (Scope::Va, true),
        "VAAE1" => (Scope::VaAllAsids, false),
        "VAALE1" => (Scope::VaAllAsids, true),
        _ => return None,
    };
    let operand = match operand {
        [one] => register(one).filter(|register| register.wide)?,
        [] if scope == Scope::All => Register {
            index: 31,
            wide: true,
        },
        _ => return None,
    };
    Some(Instruction::Tlbi {
        scope,
        last_level,
        broadcast,
        operand,
    })
}

/// The condition codes, by their four bits (DDI 0487, C1.2.4).
const CONDITIONS: [&[&str]; 15] = [
    &["EQ"],
    &["NE"],
    &["CS", "HS"],
    &["CC", "LO"],
    &["MI"],
    &["PL"],
    &["VS"],
    &["VC"],
    &["HI"],
    &["LS"],
    &["GE"],
    &["LT"],
    &["GT"],
    &["LE"],
    &["AL"],
];

fn branch(mnemonic: &str, operands: &[&str]) -> Option<Instruction> {
    let (label, tested) = operands.split_last()?;
    let when = match (mnemonic, tested) {
        ("B", []) => When::Always,
        ("CBZ" | "CBNZ", [tested]) => When::Zero(register(tested)?, mnemonic == "CBZ"),
        ("TBZ" | "TBNZ", [tested, bit]) => {
            let bit = u32::try_from(immediate(bit)?)
                .ok()
                .filter(|bit| *bit < 64)?;
            When::Bit(register(tested)?, bit, mnemonic == "TBNZ")
        }
        (other, []) => {
            let code = other.strip_prefix('B')?;
            let code = code.strip_prefix('.').unwrap_or(code);
            let code = CONDITIONS.iter().position(|names| names.contains(&code))?;
            When::Flags(u8::try_from(code).ok()?)
        }
        _ => return None,
    };
    Some(Instruction::Branch(when, (*label).to_owned()))
}

fn arithmetic(mnemonic: &str, operands: &[&str]) -> Option<Instruction> {
    let zero = Register {
        index: 31,
        wide: register(operands.first()?)?.wide,
    };
    let (base, flags) = match mnemonic {
        "ADDS" | "SUBS" | "ANDS" => (&mnemonic[..3], true),
        "CMP" => ("SUB", true),
        "CMN" => ("ADD", true),
        "TST" => ("AND", true),
        other => (other, false),
    };
    if matches!(mnemonic, "CMP" | "CMN" | "TST") {
        let [left, right @ ..] = operands else {
            return None;
        };
        let operation = if base == "SUB" {
            Operation::Sub
        } else if base == "ADD" {
            Operation::Add
        } else {
            Operation::And
        };
        let (left, right) = (register(left)?, operand(right)?);
        return Some(Instruction::Compute(operation, zero, left, right, true));
    }
    let (to, rest) = operands.split_first()?;
    let to = register(to)?;
    match base {
        "MOV" | "MOVZ" => return Some(Instruction::Move(to, operand(rest)?)),
        "MOVN" => {
            let Operand::Immediate(value) = operand(rest)? else {
                return None;
            };
            return Some(Instruction::Move(to, Operand::Immediate(!value)));
        }
        "MOVK" => {
            let (value, shifted) = rest.split_first()?;
            let value = immediate(value).filter(|value| *value < 1 << 16)?;
            let shift = shifted.first().map_or(Some(0), |shifted| shift(shifted))?;
            return (rest.len() <= 2).then_some(Instruction::MoveKeep(to, value, shift));
        }
        "UBFX" => {
            let [from, first, width] = rest else {
                return None;
            };
            let small = |text| u32::try_from(immediate(text)?).ok();
            let (first, width) = (small(first)?, small(width)?);
            let fits = width > 0 && first.checked_add(width)? <= 64;
            return fits.then_some(Instruction::Extract(to, register(from)?, first, width));
        }
        _ => {}
    }
    let operation = match base {
        "ADD" => Operation::Add,
        "SUB" => Operation::Sub,
        "AND" => Operation::And,
        "ORR" => Operation::Or,
        "EOR" => Operation::Eor,
        "BIC" => Operation::BitClear,
        "LSL" => Operation::ShiftLeft,
        "LSR" => Operation::ShiftRight,
        "ASR" => Operation::ShiftRightSigned,
        _ => return None,
    };
    let (left, right) = rest.split_first()?;
    let (left, right) = (register(left)?, operand(right)?);
    Some(Instruction::Compute(operation, to, left, right, flags))
}
