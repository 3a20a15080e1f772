//! What registers hold, where it came from, and what arithmetic makes of it.

use super::instruction::{Operand, Operation, Register, Update, When};
use std::collections::BTreeSet;

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A read of a synchronisation variable: which, and the how many-th of the thread's.
    Read(usize, u64),
    /// Data behind a translation that the test is about.
    Data,
}

/// A value and where it came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// The value.
    pub value: u64,
    /// What it depends on.
    pub from: BTreeSet<Source>,
}

/// The flags N, Z, C, V, and what they depend on.
#[derive(Clone, Debug, Default)]
struct Flags {
    n: bool,
    z: bool,
    c: bool,
    v: bool,
    from: BTreeSet<Source>,
}

/// The registers of a thread.
#[derive(Clone, Debug, Default)]
pub struct Registers {
    words: [Word; 31],
    flags: Flags,
}

impl Registers {
    /// What a register holds.
    pub fn get(&self, register: Register) -> Word {
        let mut word = self.words.get(usize::from(register.index)).cloned();
        let word = word.get_or_insert_default();
        if !register.wide {
            word.value &= u64::from(u32::MAX);
        }
        std::mem::take(word)
    }

    /// Writes a register.
    pub fn set(&mut self, register: Register, mut word: Word) {
        if !register.wide {
            word.value &= u64::from(u32::MAX);
        }
        if let Some(place) = self.words.get_mut(usize::from(register.index)) {
            *place = word;
        }
    }

    /// The value of an operand.
    pub fn operand(&self, operand: Operand) -> Word {
        match operand {
            Operand::Immediate(value) => Word {
                value,
                ..Word::default()
            },
            Operand::Register(register, shift) => {
                let mut word = self.get(register);
                word.value <<= shift;
                if !register.wide {
                    word.value &= u64::from(u32::MAX);
                }
                word
            }
        }
    }

    /// Does arithmetic.
    pub fn compute(
        &mut self,
        operation: Operation,
        to: Register,
        left: Register,
        right: Operand,
        flags: bool,
    ) {
        let wide = to.wide;
        let bits = if wide { 64 } else { 32 };
        let mask = u64::MAX >> (64 - bits);
        let (left, right) = (self.get(left), self.operand(right));
        let (a, b) = (left.value & mask, right.value & mask);
        let shift = u32::try_from(b % u64::from(bits)).unwrap_or(0);
        let value = match operation {
            Operation::Add => a.wrapping_add(b),
            Operation::Sub => a.wrapping_sub(b),
            Operation::And => a & b,
            Operation::Or => a | b,
            Operation::Eor => a ^ b,
            Operation::BitClear => a & !b,
            Operation::ShiftLeft => a << shift,
            Operation::ShiftRight => a >> shift,
            Operation::ShiftRightSigned => (signed(a, bits) >> shift).cast_unsigned(),
        } & mask;
        let from: BTreeSet<_> = left.from.union(&right.from).copied().collect();
        if flags {
            let sign = |value: u64| value >> (bits - 1) & 1 != 0;
            let (carry, overflow) = match operation {
                Operation::Add => (
                    u128::from(a) + u128::from(b) > u128::from(mask),
                    sign(a) == sign(b) && sign(value) != sign(a),
                ),
                Operation::Sub => (a >= b, sign(a) != sign(b) && sign(value) != sign(a)),
                _ => (false, false),
            };
            self.flags = Flags {
                n: sign(value),
                z: value == 0,
                c: carry,
                v: overflow,
                from: from.clone(),
            };
        }
        self.set(to, Word { value, from });
    }

    /// Whether a branch is taken, and what that depends on.
    pub fn taken(&self, when: When) -> (bool, BTreeSet<Source>) {
        match when {
            When::Always => (true, BTreeSet::new()),
            When::Zero(register, zero) => {
                let word = self.get(register);
                ((word.value == 0) == zero, word.from)
            }
            When::Bit(register, bit, set) => {
                let word = self.get(register);
                ((word.value >> bit & 1 != 0) == set, word.from)
            }
            When::Flags(code) => (self.flags.hold(code), self.flags.from.clone()),
        }
    }
}

impl Flags {
    /// Whether a condition holds (DDI 0487, C1.2.4).
    const fn hold(&self, code: u8) -> bool {
        let holds = match code >> 1 {
            0 => self.z,
            1 => self.c,
            2 => self.n,
            3 => self.v,
            4 => self.c && !self.z,
            5 => self.n == self.v,
            6 => self.n == self.v && !self.z,
            _ => return true,
        };
        holds == (code & 1 == 0)
    }
}

/// A value of that many bits as a signed number.
const fn signed(value: u64, bits: u32) -> i64 {
    (value << (64 - bits)).cast_signed() >> (64 - bits)
}

/// What an atomic instruction leaves in memory; none if it writes nothing.
pub fn updated(update: Update, old: u64, operand: u64, new: u64, size: u64) -> Option<u64> {
    let bits = u32::try_from(size * 8).unwrap_or(64);
    let mask = u64::MAX >> (64 - bits);
    let operand = operand & mask;
    let (a, b) = (signed(old, bits), signed(operand, bits));
    let value = match update {
        Update::Swap => operand,
        Update::CompareAndSwap if old != operand => return None,
        Update::CompareAndSwap => new,
        Update::Add => old.wrapping_add(operand),
        Update::Clear => old & !operand,
        Update::Eor => old ^ operand,
        Update::Set => old | operand,
        Update::SignedMax => a.max(b).cast_unsigned(),
        Update::SignedMin => a.min(b).cast_unsigned(),
        Update::Max => old.max(operand),
        Update::Min => old.min(operand),
    };
    Some(value & mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn x(index: u8) -> Register {
        Register { index, wide: true }
    }

    const fn w(index: u8) -> Register {
        Register { index, wide: false }
    }

    fn word(value: u64) -> Word {
        Word {
            value,
            from: [Source::Read(0, value)].into(),
        }
    }

    #[test]
    fn what_a_value_depends_on_goes_with_it() {
        let mut registers = Registers::default();
        registers.set(x(7), word(7));
        registers.set(x(8), word(8));
        let right = Operand::Register(x(8), 0);
        registers.compute(Operation::Eor, x(9), x(7), right, false);
        let nine = registers.get(x(9));
        assert_eq!(nine.value, 15);
        assert_eq!(nine.from.len(), 2);
        registers.compute(Operation::Sub, x(31), x(9), Operand::Immediate(15), true);
        assert_eq!(registers.taken(When::Flags(0)), (true, nine.from));
        assert_eq!(registers.get(x(31)), Word::default());
    }

    #[test]
    fn a_w_register_is_32_bits() {
        let mut registers = Registers::default();
        registers.set(x(1), word(u64::MAX));
        assert_eq!(registers.get(w(1)).value, u64::from(u32::MAX));
        registers.compute(Operation::Add, w(2), w(1), Operand::Immediate(1), true);
        assert_eq!(registers.get(x(2)).value, 0);
        assert!(registers.taken(When::Flags(2)).0, "carry");
        registers.compute(
            Operation::ShiftRightSigned,
            w(2),
            w(1),
            Operand::Immediate(4),
            false,
        );
        assert_eq!(registers.get(x(2)).value, u64::from(u32::MAX));
        registers.set(w(3), word(u64::MAX));
        assert_eq!(registers.get(x(3)).value, u64::from(u32::MAX));
    }

    #[test]
    fn conditions_compare() {
        for (a, b, holding) in [
            (1_u64, 1_u64, [0, 2, 5, 7, 9, 10, 13, 14]),
            (1, 2, [1, 3, 4, 7, 9, 11, 13, 14]),
            (2, 1, [1, 2, 5, 7, 8, 10, 12, 14]),
            (u64::MAX, 1, [1, 2, 4, 7, 8, 11, 13, 14]),
        ] {
            let mut registers = Registers::default();
            registers.set(x(1), word(a));
            registers.compute(Operation::Sub, x(31), x(1), Operand::Immediate(b), true);
            let found: Vec<u8> = (0..15)
                .filter(|code| registers.taken(When::Flags(*code)).0)
                .collect();
            assert_eq!(found, holding, "{a} with {b}");
        }
    }

    #[test]
    fn atomic_updates() {
        for (update, new) in [
            (Update::Swap, 2),
            (Update::Add, 1),
            (Update::Clear, 0xFFFF_FFFD),
            (Update::Eor, 0xFFFF_FFFD),
            (Update::Set, 0xFFFF_FFFF),
            (Update::SignedMax, 2),
            (Update::SignedMin, 0xFFFF_FFFF),
            (Update::Max, 0xFFFF_FFFF),
            (Update::Min, 2),
        ] {
            assert_eq!(
                updated(update, 0xFFFF_FFFF, 2, 0, 4),
                Some(new),
                "{update:?}"
            );
        }
        assert_eq!(updated(Update::CompareAndSwap, 1, 1, 5, 4), Some(5));
        assert_eq!(updated(Update::CompareAndSwap, 1, 2, 5, 4), None);
    }
}
