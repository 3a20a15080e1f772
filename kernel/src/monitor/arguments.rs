//! The arguments of commands as values: numbers, sizes, addresses, ranges. Pure, so that each
//! refusal is tested on the host.

use core::fmt;
use vmsa::{PAGE_SIZE, PageRange, VirtAddr};

/// What is wrong with an argument. Shown, it says so, and what would be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong<'a> {
    /// It is not written as a number is.
    Number(&'a str),
    /// It is not written as a size is.
    Size(&'a str),
    /// It is larger than 64 bits hold.
    TooLarge(&'a str),
    /// No half of the address space has it.
    NotCanonical(u64),
    /// It is in the half that TTBR0_EL1 translates, which the kernel does without.
    LowerHalf(VirtAddr),
    /// It is not the start of a page.
    Misaligned(VirtAddr),
    /// A range that ends where it starts, or before, or not in the same half.
    Range(&'a str),
}

impl fmt::Display for Wrong<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(text) => write!(
                f,
                "'{text}' is no number; known: decimal, 0x and hexadecimal digits, _ between them"
            ),
            Self::Size(text) => write!(
                f,
                "'{text}' is no size; known: a number of bytes, or one of KiB or MiB with K or M \
                 behind it"
            ),
            Self::TooLarge(text) => write!(f, "'{text}' is more than 64 bits hold"),
            Self::NotCanonical(address) => write!(
                f,
                "{address:#018x} is not canonical: bits 63 to 48 are neither all 0 nor all 1"
            ),
            Self::LowerHalf(va) => write!(
                f,
                "{va} is in the lower half, which is not translated; known: \
                 0xffff_0000_0000_0000 and up"
            ),
            Self::Misaligned(va) => {
                write!(f, "{va} is not page-aligned; its page starts at ")?;
                va.align_down(PAGE_SIZE).fmt(f)
            }
            Self::Range(text) => write!(
                f,
                "'{text}' is no range; known: START-END and START+BYTES, in whole pages, with END \
                 behind the last byte"
            ),
        }
    }
}

/// A number: decimal, or hexadecimal behind `0x`; `_` may stand between digits.
///
/// # Errors
/// [`Wrong::Number`], [`Wrong::TooLarge`].
pub fn number(text: &str) -> Result<u64, Wrong<'_>> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // A digit at both ends: neither "0x" nor "_1" is a number.
    if digits.starts_with('_') || digits.ends_with('_') || digits.is_empty() {
        return Err(Wrong::Number(text));
    }
    let mut value = 0u64;
    for digit in digits.chars().filter(|c| *c != '_') {
        let digit = digit.to_digit(radix).ok_or(Wrong::Number(text))?;
        value = value
            .checked_mul(radix.into())
            .and_then(|value| value.checked_add(digit.into()))
            .ok_or(Wrong::TooLarge(text))?;
    }
    Ok(value)
}

/// A size in bytes: a number, with `K` or `M` behind it for KiB or MiB.
///
/// # Errors
/// [`Wrong::Size`], [`Wrong::TooLarge`].
pub fn size(text: &str) -> Result<u64, Wrong<'_>> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M') => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    match number(digits) {
        Ok(value) => value.checked_mul(unit).ok_or(Wrong::TooLarge(text)),
        Err(Wrong::TooLarge(_)) => Err(Wrong::TooLarge(text)),
        Err(_) => Err(Wrong::Size(text)),
    }
}

/// An address of the kernel's half.
///
/// # Errors
/// [`Wrong::Number`], [`Wrong::TooLarge`], [`Wrong::NotCanonical`], [`Wrong::LowerHalf`].
pub fn address(text: &str) -> Result<VirtAddr, Wrong<'_>> {
    let value = number(text)?;
    let va = VirtAddr::new(value).ok_or(Wrong::NotCanonical(value))?;
    if va.is_upper() {
        Ok(va)
    } else {
        Err(Wrong::LowerHalf(va))
    }
}

/// The address of a page.
///
/// # Errors
/// As [`address`]; [`Wrong::Misaligned`].
pub fn page(text: &str) -> Result<VirtAddr, Wrong<'_>> {
    let va = address(text)?;
    if va.is_page_aligned() {
        Ok(va)
    } else {
        Err(Wrong::Misaligned(va))
    }
}

/// `START-END`, as tables of ranges print it, or `START+BYTES`: whole pages.
///
/// # Errors
/// [`Wrong::Range`]; what is wrong with its parts.
pub fn range(text: &str) -> Result<PageRange, Wrong<'_>> {
    let wrong = Wrong::Range(text);
    let (start, bytes) = if let Some((start, end)) = text.split_once('-') {
        let start = page(start)?;
        (
            start,
            page(end)?
                .as_u64()
                .checked_sub(start.as_u64())
                .ok_or(wrong)?,
        )
    } else if let Some((start, bytes)) = text.split_once('+') {
        (page(start)?, size(bytes)?)
    } else {
        return Err(wrong);
    };
    if bytes == 0 || bytes % PAGE_SIZE != 0 {
        return Err(wrong);
    }
    PageRange::new(start, bytes / PAGE_SIZE).ok_or(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VMALLOC: &str = "0xffff_8000_8000_0000";

    #[test]
    fn numbers_are_decimal_or_hexadecimal_with_gaps() {
        for (text, value) in [
            ("0", 0),
            ("4096", 4096),
            ("1_000", 1000),
            ("0x1000", 0x1000),
            ("0xFFFF_8000_4020_0000", 0xffff_8000_4020_0000),
            ("18446744073709551615", u64::MAX),
            ("0xffff_ffff_ffff_ffff", u64::MAX),
            ("007", 7),
        ] {
            assert_eq!(number(text), Ok(value), "{text}");
        }
        for text in [
            "", "0x", "_1", "1_", "0x_1", "x10", "0X10", "12z", "-1", "+1", "ffff", "1.5", "1 ",
            "é", "0xg",
        ] {
            assert_eq!(number(text), Err(Wrong::Number(text)), "{text}");
        }
        for text in ["18446744073709551616", "0x1_0000_0000_0000_0000"] {
            assert_eq!(number(text), Err(Wrong::TooLarge(text)), "{text}");
        }
    }

    #[test]
    fn sizes_take_a_unit() {
        assert_eq!(size("1"), Ok(1));
        assert_eq!(size("0x10K"), Ok(16 << 10));
        assert_eq!(size("64M"), Ok(64 << 20));
        for text in ["", "K", "1k", "1G", "1KB", "1KM", "é"] {
            assert_eq!(size(text), Err(Wrong::Size(text)), "{text}");
        }
        let text = "18014398509481984K";
        assert_eq!(size(text), Err(Wrong::TooLarge(text)), "the product");
        let text = "18446744073709551616K";
        assert_eq!(size(text), Err(Wrong::TooLarge(text)), "the number");
    }

    #[test]
    fn addresses_are_canonical_and_the_kernels() {
        assert_eq!(address(VMALLOC).unwrap().to_string(), VMALLOC);
        assert_eq!(
            address("0x1234_0000_0000_0000").unwrap_err().to_string(),
            "0x1234000000000000 is not canonical: bits 63 to 48 are neither all 0 nor all 1"
        );
        assert!(matches!(address("0"), Err(Wrong::LowerHalf(_))));
        assert!(matches!(
            address("0x0000_ffff_ffff_ffff"),
            Err(Wrong::LowerHalf(_))
        ));
        assert!(matches!(
            address("0xfffe_ffff_ffff_ffff"),
            Err(Wrong::NotCanonical(_))
        ));
        assert_eq!(
            page("0xffff_8000_8000_0fff").unwrap_err().to_string(),
            "0xffff_8000_8000_0fff is not page-aligned; its page starts at 0xffff_8000_8000_0000"
        );
    }

    #[test]
    fn ranges_are_whole_pages() {
        let two = range("0xffff_8000_8000_0000-0xffff_8000_8000_2000").unwrap();
        assert_eq!(
            (two.start().to_string().as_str(), two.pages()),
            (VMALLOC, 2)
        );
        assert_eq!(range("0xffff_8000_8000_0000+8K"), Ok(two));
        let half = "0xffff_0000_0000_0000";
        for bad in [
            half.to_owned(),
            format!("{half}-{half}"),
            format!("{VMALLOC}-{half}"),
            format!("{half}+0"),
            format!("{half}+1"),
            format!("{half}+18446744073709547520"),
        ] {
            assert_eq!(range(&bad), Err(Wrong::Range(&bad)));
        }
        assert_eq!(range("x-y"), Err(Wrong::Number("x")));
        assert!(matches!(
            range("0xffff_8000_8000_0001+4K"),
            Err(Wrong::Misaligned(_))
        ));
    }

    proptest! {
        #[test]
        fn what_is_printed_can_be_read_back(value: u64) {
            let (decimal, hex) = (value.to_string(), format!("{value:#018x}"));
            prop_assert_eq!(number(&decimal), Ok(value));
            prop_assert_eq!(number(&hex), Ok(value));
        }

        #[test]
        fn no_text_is_too_strange(text: String) {
            let _ = (number(&text), size(&text), address(&text), range(&text));
        }
    }
}
