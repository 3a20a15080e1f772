//! `lull mm-code IMAGE [IMAGE]`: a digest of the machine code of each function of the kernel's `mm`, and
//! with a second image what differs between the two. Shows that a feature which is off costs
//! nothing. It is no verb of make.
//!
//! Where a function lies, and where what it uses lies, is not its code. So what says where is taken
//! out before the digest is made: the immediates of ADR and ADRP, and those of the ADD, load or
//! store that goes on from an ADRP's page; a branch out of the function is replaced by the name of
//! where it goes. All else counts, bit by bit. Kernel tests are left out: they hold line numbers.

use crate::failure::{Doing, Failure, Result};
use crate::symbols::without_hash;
use addr2line::demangle_auto;
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

/// Functions of that name: how many bytes and which digest each has, sorted.
type Functions = BTreeMap<String, Vec<(u64, u64)>>;

/// Prints the digests of one image, or compares those of two.
///
/// # Errors
/// If an image cannot be read, or the second differs from the first.
pub fn run(images: &[String]) -> Result {
    match images {
        [image] => {
            let functions = read(Path::new(image))?;
            for (name, all) in &functions {
                for (bytes, digest) in all {
                    println!("{digest:016x} {bytes:6} {name}");
                }
            }
            println!("{}", summary(&functions));
            Ok(())
        }
        [before, after] => {
            let (before, after) = (read(Path::new(before))?, read(Path::new(after))?);
            let differences = differences(&before, &after);
            differences.iter().for_each(|line| println!("{line}"));
            println!("{}", summary(&after));
            if differences.is_empty() {
                return Ok(());
            }
            Err(Failure::fail(format!(
                "{} functions of mm differ",
                differences.len()
            )))
        }
        _ => Err(Failure::refused("mm-code needs one image, or two")),
    }
}

fn summary(functions: &Functions) -> String {
    let digests: Vec<u8> = functions
        .values()
        .flatten()
        .flat_map(|(_, digest)| digest.to_le_bytes())
        .collect();
    let count = functions.values().map(Vec::len).sum::<usize>();
    format!("mm-code: {count} functions, digest {:016x}", fnv(&digests))
}

/// A line for each name whose functions are not the same.
fn differences(before: &Functions, after: &Functions) -> Vec<String> {
    let names = before.keys().chain(after.keys());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names.dedup();
    let none = Vec::new();
    names
        .into_iter()
        .filter_map(|name| {
            let of = |functions: &Functions| functions.get(name).unwrap_or(&none).clone();
            let bytes = |all: &[(u64, u64)]| all.iter().map(|(bytes, _)| bytes).sum::<u64>();
            let (before, after) = (of(before), of(after));
            (before != after).then(|| {
                let (was, is) = (bytes(&before), bytes(&after));
                format!("differs: {name}: {was} bytes, then {is}")
            })
        })
        .collect()
}

/// Whether a function is one of `mm`, and not of its tests.
fn is_of_mm(name: &str) -> bool {
    let test = ["ktests::", "::testing::"];
    name.contains("kernel::mm::") && !test.iter().any(|part| name.contains(part))
}

fn read(image: &Path) -> Result<Functions> {
    let doing = || format!("read {}", image.display());
    let data = std::fs::read(image).doing(doing())?;
    let file = object::File::parse(&*data).doing(doing())?;
    let mut names = BTreeMap::new();
    for symbol in file.symbols() {
        if symbol.kind() == SymbolKind::Text && symbol.size() > 0 {
            let name = symbol.name().doing(doing())?;
            let name = demangle_auto(Cow::from(name), None);
            names.insert(
                symbol.address(),
                (symbol.size(), without_hash(&name).to_owned()),
            );
        }
    }
    let mut functions = Functions::new();
    for (start, (size, name)) in names.iter().filter(|(_, (_, name))| is_of_mm(name)) {
        let section = file.sections().find(|section| {
            (section.address()..section.address() + section.size()).contains(start)
        });
        let bytes = match section {
            Some(section) => section.data_range(*start, *size).doing(doing())?,
            None => None,
        };
        let bytes = bytes.ok_or_else(|| Failure::error(format!("{name} is not in the image")))?;
        let (words, _) = bytes.as_chunks::<4>();
        let words: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let code = without_places(*start, &words, &|target| {
            names.get(&target).map(|(_, name)| name.clone())
        });
        functions
            .entry(name.clone())
            .or_default()
            .push((*size, fnv(&code)));
    }
    functions.values_mut().for_each(|all| all.sort_unstable());
    if functions.is_empty() {
        return Err(Failure::error(format!("{} has no mm", image.display())));
    }
    Ok(functions)
}

/// FNV-1a.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |digest, byte| {
        (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The code of a function that starts at `start`, without what says where things lie. `name_at`
/// gives the function that starts at an address.
fn without_places(start: u64, words: &[u32], name_at: &dyn Fn(u64) -> Option<String>) -> Vec<u8> {
    let inside = start..start + 4 * words.len() as u64;
    let pages = pages(words);
    let mut code = Vec::with_capacity(4 * words.len());
    for ((at, word), pages) in (start..).step_by(4).zip(words).zip(pages) {
        let from_page = pages & 1 << (word >> 5 & 0x1f) != 0;
        let masked = match Form::of(*word) {
            // immlo [30:29], immhi [23:5].
            Form::Adr => word & 0x9f00_001f,
            // imm12 [21:10].
            Form::AddImmediate | Form::LoadStoreUnsigned if from_page => word & 0xffc0_03ff,
            Form::Branch { distance, .. } => {
                let target = at.wrapping_add_signed(distance);
                if inside.contains(&target) {
                    *word
                } else {
                    code.extend_from_slice(name_at(target).unwrap_or_default().as_bytes());
                    // imm26.
                    word & 0xfc00_0000
                }
            }
            _ => *word,
        };
        code.extend_from_slice(&masked.to_le_bytes());
    }
    code
}

/// What must be known of an instruction (DDI 0487, C4.1 "A64 instruction set encoding").
enum Form {
    /// ADR, ADRP.
    Adr,
    /// ADD (immediate), 64-bit, not shifted.
    AddImmediate,
    /// A load or store with an unsigned immediate.
    LoadStoreUnsigned,
    /// B, BL.
    Branch { distance: i64, link: bool },
    /// B.cond, CBZ, CBNZ, TBZ, TBNZ.
    Conditional { distance: i64 },
    /// BLR.
    CallRegister,
    /// BR.
    JumpRegister,
    /// RET.
    Return,
    /// Anything else that writes the register in bits `[4:0]`.
    Writes,
    /// Anything else.
    Other,
}

impl Form {
    fn of(word: u32) -> Self {
        let signed = |low: u32, width: u32| {
            i64::from((word << (32 - low - width)) as i32 >> (32 - width)) * 4
        };
        if word & 0x1f00_0000 == 0x1000_0000 {
            Self::Adr
        } else if word & 0xffc0_0000 == 0x9100_0000 {
            Self::AddImmediate
        } else if word & 0x3b00_0000 == 0x3900_0000 {
            Self::LoadStoreUnsigned
        } else if word & 0x7c00_0000 == 0x1400_0000 {
            let link = word & 0x8000_0000 != 0;
            Self::Branch {
                distance: signed(0, 26),
                link,
            }
        } else if word & 0xff00_0000 == 0x5400_0000 || word & 0x7e00_0000 == 0x3400_0000 {
            Self::Conditional {
                distance: signed(5, 19),
            }
        } else if word & 0x7e00_0000 == 0x3600_0000 {
            Self::Conditional {
                distance: signed(5, 14),
            }
        } else if word & 0xffff_fc1f == 0xd63f_0000 {
            Self::CallRegister
        } else if word & 0xffff_fc1f == 0xd61f_0000 {
            Self::JumpRegister
        } else if word & 0xffff_fc1f == 0xd65f_0000 {
            Self::Return
        } else if word & 0x1c00_0000 == 0x1000_0000 || word & 0x0e00_0000 == 0x0a00_0000 {
            // Data processing.
            Self::Writes
        } else {
            Self::Other
        }
    }
}

/// For each instruction, the registers that may hold the page of an ADRP when it comes to it, a bit
/// each: along every way that leads there.
fn pages(words: &[u32]) -> Vec<u32> {
    /// x0 to x18: what a call may change.
    const CALL: u32 = 0x0007_ffff;
    let mut pages = vec![0u32; words.len()];
    let mut changed = true;
    while changed {
        changed = false;
        for (at, word) in words.iter().enumerate() {
            let (rd, rn) = (1 << (word & 0x1f), 1 << (word >> 5 & 0x1f));
            let before = pages[at];
            let mut after = before;
            let mut targets = [Some(at + 1), None];
            let to = |distance: i64| at.checked_add_signed((distance / 4) as isize);
            match Form::of(*word) {
                Form::Adr => after |= rd,
                Form::AddImmediate | Form::Writes => after &= !rd,
                // opc [23:22] of a store is 0.
                Form::LoadStoreUnsigned if word & 0x00c0_0000 != 0 && rd == rn => after &= !rd,
                Form::Branch { link: true, .. } | Form::CallRegister => after &= !CALL,
                Form::Branch { distance, .. } => targets = [to(distance), None],
                Form::Conditional { distance } => targets[1] = to(distance),
                Form::Return => targets = [None, None],
                // A jump table may lead to any place.
                Form::JumpRegister => {
                    for place in &mut pages {
                        changed |= *place | after != *place;
                        *place |= after;
                    }
                }
                Form::LoadStoreUnsigned | Form::Other => {}
            }
            for target in targets.into_iter().flatten() {
                if let Some(place) = pages.get_mut(target) {
                    changed |= *place | after != *place;
                    *place |= after;
                }
            }
        }
    }
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADRP_X8: u32 = 0x9000_0008;
    const RET: u32 = 0xd65f_03c0;

    fn code(start: u64, words: &[u32]) -> Vec<u8> {
        without_places(start, words, &|target| {
            (target % 0x100 == 0).then(|| format!("f{target:x}"))
        })
    }

    /// ADD Xd, Xn, #imm.
    fn add(rd: u32, rn: u32, imm: u32) -> u32 {
        0x9100_0000 | imm << 10 | rn << 5 | rd
    }

    /// BL to a distance in bytes.
    fn bl(distance: i32) -> u32 {
        0x9400_0000 | (distance >> 2) as u32 & 0x03ff_ffff
    }

    #[test]
    fn where_a_thing_lies_does_not_count() {
        let one = [ADRP_X8 | 5 << 5, add(8, 8, 0x123), RET];
        let other = [ADRP_X8 | 7 << 5 | 1 << 29, add(8, 8, 0x456), RET];
        assert_eq!(code(0x1000, &one), code(0x2000, &other));
        let load = |imm: u32| [ADRP_X8, 0xf940_0000 | imm << 10 | 8 << 5, RET];
        assert_eq!(code(0x1000, &load(1)), code(0x1000, &load(2)));
    }

    #[test]
    fn the_way_to_an_instruction_may_come_from_below() {
        // B +8; LDR x0, [x8, #imm]; RET; ADRP x8; B -12: as loops around locks are laid out.
        let around = |imm: u32| {
            [
                0x1400_0003,
                0xf940_0100 | imm << 10,
                RET,
                ADRP_X8,
                0x17ff_fffd,
            ]
        };
        assert_eq!(code(0, &around(1)), code(0, &around(2)));
        let without = |imm: u32| [0x1400_0003, 0xf940_0100 | imm << 10, RET, RET, 0x17ff_fffd];
        assert_ne!(code(0, &without(1)), code(0, &without(2)));
    }

    #[test]
    fn all_else_counts() {
        assert_ne!(code(0, &[add(8, 8, 1)]), code(0, &[add(8, 8, 2)]));
        // The register, and what is added once the address is whole.
        assert_ne!(code(0, &[ADRP_X8]), code(0, &[ADRP_X8 | 1]));
        let twice = |imm| [ADRP_X8, add(8, 8, 0), add(8, 8, imm)];
        assert_ne!(code(0, &twice(1)), code(0, &twice(2)));
        let field = |imm: u32| [ADRP_X8, 0xf940_0108, 0xf940_0108 | imm << 10];
        assert_ne!(code(0, &field(1)), code(0, &field(2)));
        assert_ne!(code(0, &[RET]), code(0, &[RET, RET]));
    }

    #[test]
    fn a_call_is_the_name_of_what_is_called() {
        assert_eq!(
            code(0x1004, &[bl(0x2000 - 0x1004)]),
            code(0x3000, &[bl(0x2000 - 0x3000)])
        );
        assert_ne!(code(0x1000, &[bl(0x1000)]), code(0x1000, &[bl(0x1100)]));
        // Within the function it is the distance.
        let jump = |distance: u32| [0x1400_0000 | distance, RET, RET];
        assert_ne!(code(0x1000, &jump(1)), code(0x1000, &jump(2)));
    }

    #[test]
    fn a_function_that_changed_came_or_went_is_named() {
        let functions = |all: &[(&str, u64)]| -> Functions {
            all.iter()
                .map(|(name, digest)| ((*name).to_owned(), vec![(4, *digest)]))
                .collect()
        };
        let before = functions(&[("a", 1), ("b", 1), ("c", 1)]);
        let after = functions(&[("a", 1), ("b", 2), ("d", 1)]);
        assert!(differences(&before, &before).is_empty());
        let names: Vec<_> = differences(&before, &after)
            .iter()
            .map(|line| line.split(": ").nth(1).unwrap().to_owned())
            .collect();
        assert_eq!(names, ["b", "c", "d"]);
    }

    #[test]
    fn tests_are_not_mm() {
        assert!(is_of_mm("kernel::mm::lazy::store_leaf"));
        assert!(is_of_mm(
            "<kernel::mm::tlb::Flush as core::ops::Drop>::drop"
        ));
        assert!(!is_of_mm("kernel::mm::lazy::deferred_ktests::set"));
        assert!(!is_of_mm("kernel::mm::testing::recorded"));
        assert!(!is_of_mm("kernel::tour::play"));
    }
}
