//! How loads, stores and atomic instructions are read.

use super::super::instruction::{Address, Instruction, Operand, Register, Update};
use super::{operand, register};

/// `[X1]`, `[X1,#8]`, `[X1,X2]`, `[X1,X2,LSL #3]`, `[X1,W2,UXTW]`.
fn address(text: &str) -> Option<Address> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let parts: Vec<_> = inner.split(',').map(str::trim).collect();
    let (base, offset) = parts.split_first()?;
    let base = register(base).filter(|base| base.wide && !base.is_zero())?;
    let offset = match offset {
        [] => Operand::Immediate(0),
        [index, "UXTW"] => Operand::Register(register(index).filter(|index| !index.wide)?, 0),
        _ => match operand(offset)? {
            Operand::Register(index, _) if !index.wide => return None,
            offset => offset,
        },
    };
    Some(Address { base, offset })
}

/// The suffix of a load or store: how many bytes.
fn size(suffix: &str, register: Register) -> Option<u64> {
    match suffix {
        "B" => Some(1),
        "H" => Some(2),
        "" => Some(if register.wide { 8 } else { 4 }),
        _ => None,
    }
}

pub(super) fn memory(mnemonic: &str, operands: &[&str]) -> Option<Instruction> {
    let (last, registers) = operands.split_last()?;
    let registers: Vec<_> = registers
        .iter()
        .map(|text| register(text))
        .collect::<Option<_>>()?;
    let address = address(last)?;
    let plain_offset = address.offset == Operand::Immediate(0);
    for (name, acquire, exclusive) in [
        ("LDAPR", true, false),
        ("LDAXR", true, true),
        ("LDAR", true, false),
        ("LDXR", false, true),
        ("LDUR", false, false),
        ("LDR", false, false),
    ] {
        if let (Some(suffix), [to]) = (mnemonic.strip_prefix(name), &registers[..]) {
            let has_offset = matches!(name, "LDR" | "LDUR");
            return (has_offset || plain_offset).then_some(Instruction::Load {
                to: *to,
                address,
                size: size(suffix, *to)?,
                acquire,
                exclusive,
            });
        }
    }
    for (name, release) in [("STLXR", true), ("STXR", false)] {
        if let (Some(suffix), [status, from]) = (mnemonic.strip_prefix(name), &registers[..]) {
            return plain_offset.then_some(Instruction::Store {
                from: *from,
                address,
                size: size(suffix, *from)?,
                release,
                status: Some(*status),
            });
        }
    }
    for (name, release) in [("STLR", true), ("STUR", false), ("STR", false)] {
        if let (Some(suffix), [from]) = (mnemonic.strip_prefix(name), &registers[..]) {
            return (!release || plain_offset).then_some(Instruction::Store {
                from: *from,
                address,
                size: size(suffix, *from)?,
                release,
                status: None,
            });
        }
    }
    plain_offset
        .then(|| atomic(mnemonic, &registers, address))
        .flatten()
}

fn atomic(mnemonic: &str, registers: &[Register], address: Address) -> Option<Instruction> {
    // The ST forms are the LD forms that load into the zero register.
    let (name, registers) = match (mnemonic.strip_prefix("ST"), registers) {
        (Some(rest), [source]) => {
            let zero = Register {
                index: 31,
                wide: source.wide,
            };
            (format!("LD{rest}"), vec![*source, zero])
        }
        _ => (mnemonic.to_owned(), registers.to_vec()),
    };
    let (update, suffix) = [
        ("SWP", Update::Swap),
        ("CAS", Update::CompareAndSwap),
        ("LDADD", Update::Add),
        ("LDCLR", Update::Clear),
        ("LDEOR", Update::Eor),
        ("LDSET", Update::Set),
        ("LDSMAX", Update::SignedMax),
        ("LDSMIN", Update::SignedMin),
        ("LDUMAX", Update::Max),
        ("LDUMIN", Update::Min),
    ]
    .into_iter()
    .find_map(|(prefix, update)| Some((update, name.strip_prefix(prefix)?)))?;
    let [operand, other] = registers[..] else {
        return None;
    };
    let is_cas = update == Update::CompareAndSwap;
    let (suffix, acquire) = match suffix.strip_prefix('A') {
        Some(suffix) => (suffix, true),
        None => (suffix, false),
    };
    let (suffix, release) = match suffix.strip_prefix('L') {
        Some(suffix) => (suffix, true),
        None => (suffix, false),
    };
    let to = if is_cas { operand } else { other };
    Some(Instruction::Atomic {
        update,
        operand,
        new: other,
        to,
        address,
        size: size(suffix, operand)?,
        // A load into the zero register is no acquire, but for CAS (DDI 0487, C6.2, SWP, LDADD).
        acquire: acquire && (is_cas || !to.is_zero()),
        release,
    })
}
