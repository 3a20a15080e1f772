//! What a TLBI names, decoded from the register that it was given.
//!
//! Layouts: DDI 0487, C5.5, `TLBI VAE1IS` and `TLBI RVAE1IS`, 4 KiB granule. This is not the
//! decoder of the crate that encodes: an oracle that shared it would share its mistakes.

use crate::event::{Scope, Tlbi};
use vmsa::Level;

/// What a TLBI names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// The first byte and the last, sign-extended; all for a scope without addresses.
    pub first: u64,
    pub last: u64,
    /// The ASID, if the operation is for one.
    pub asid: Option<u16>,
    /// Global entries too.
    pub global: bool,
    pub hint: Hint,
}

/// The level at which the entries are, if the operand says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    None,
    Level(Level),
    /// Of another granule, or reserved: nothing that this regime has need be invalidated.
    Other,
}

impl Named {
    pub fn everything(&self) -> bool {
        self.first == 0 && self.last == u64::MAX
    }

    /// Whether an entry that maps `first..=last` is among what is named.
    pub fn meets(&self, first: u64, last: u64) -> bool {
        self.first <= last && first <= self.last
    }
}

fn sign_extended(bits: u64, width: u32) -> u64 {
    ((bits << (64 - width)) as i64 >> (64 - width)) as u64
}

pub(crate) fn decode(tlbi: Tlbi) -> Named {
    let x = tlbi.operand;
    let asid = (x >> 48) as u16;
    let all = Named {
        first: 0,
        last: u64::MAX,
        asid: None,
        global: true,
        hint: Hint::None,
    };
    match tlbi.scope {
        Scope::All => all,
        Scope::Asid => Named {
            asid: Some(asid),
            global: false,
            ..all
        },
        Scope::Va | Scope::VaAllAsids => {
            // VA[55:12] in bits [43:0].
            let first = sign_extended(x << 12, 56) & !0xfff;
            // TTL, bits [47:44]: the granule above, the level below; 0b00xx is no hint.
            let hint = match (x >> 44) & 0b1111 {
                0b0000..=0b0011 => Hint::None,
                0b0101 => Hint::Level(Level::L1),
                0b0110 => Hint::Level(Level::L2),
                0b0111 => Hint::Level(Level::L3),
                _ => Hint::Other,
            };
            Named {
                first,
                last: first + 0xfff,
                asid: (tlbi.scope == Scope::Va).then_some(asid),
                hint,
                ..all
            }
        }
        Scope::Range | Scope::RangeAllAsids => {
            // BaseADDR [36:0], TTL [38:37], NUM [43:39], SCALE [45:44], TG [47:46].
            let first = sign_extended(x << 12, 49) & !0xfff;
            let number = (x >> 39) & 0b1_1111;
            let scale = (x >> 44) & 0b11;
            let pages = (number + 1) << (5 * scale + 1);
            let hint = match ((x >> 46) & 0b11, (x >> 37) & 0b11) {
                (0b01, 0) => Hint::None,
                (0b01, 1) => Hint::Level(Level::L1),
                (0b01, 2) => Hint::Level(Level::L2),
                (0b01, _) => Hint::Level(Level::L3),
                _ => Hint::Other,
            };
            Named {
                first,
                last: first.saturating_add((pages << 12) - 1),
                asid: (tlbi.scope == Scope::Range).then_some(asid),
                hint,
                ..all
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmsa::{
        VirtAddr,
        tlbi::{Operand, RangeOperand},
    };

    fn tlbi(scope: Scope, operand: u64) -> Named {
        decode(Tlbi {
            scope,
            last_level: false,
            broadcast: true,
            operand,
        })
    }

    #[test]
    fn what_was_encoded_is_read_back() {
        let va = VirtAddr::literal(0xffff_8000_8000_3000);
        let named = tlbi(Scope::Va, Operand::new(va, 7, Some(Level::L3)).bits());
        assert_eq!(
            (named.first, named.last),
            (va.as_u64(), va.as_u64() + 0xfff)
        );
        assert_eq!((named.asid, named.hint), (Some(7), Hint::Level(Level::L3)));
        let low = VirtAddr::literal(0x7000_1000);
        let named = tlbi(Scope::VaAllAsids, Operand::new(low, 7, None).bits());
        assert_eq!(
            (named.first, named.asid, named.hint),
            (low.as_u64(), None, Hint::None)
        );
        let range = RangeOperand::new(va, 3, Some(Level::L3), 1, 2).unwrap();
        let named = tlbi(Scope::Range, range.bits());
        assert_eq!(named.first, va.as_u64());
        assert_eq!(named.last - named.first + 1, range.pages() * 4096);
        assert_eq!((named.asid, named.hint), (Some(3), Hint::Level(Level::L3)));
    }

    #[test]
    fn sign_bits_that_were_not_masked_are_a_hint_for_another_granule() {
        let named = tlbi(Scope::VaAllAsids, 0xffff_8000_8000_3000 >> 12);
        assert_eq!(named.hint, Hint::Other);
    }

    #[test]
    fn an_address_that_was_not_shifted_is_another_address() {
        let named = tlbi(Scope::VaAllAsids, 0x7000_1000);
        assert_ne!(named.first, 0x7000_1000);
    }
}
