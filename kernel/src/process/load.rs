//! A program's file, read: what is to be mapped where, and how. It executes no instruction.
//!
//! The file is checked as if anybody could have made it: whatever is not as it should be is refused
//! by name, before anything is mapped.

use crate::mm::{address_space::Protection, layout::USER};
use core::fmt;
use elf::{ElfBytes, abi, endian::LittleEndian, file::Class, segment::ProgramHeader};
use vmsa::{PAGE_SIZE, PageRange, VirtAddr};

/// The most segments that are loaded: code, constants, data, and one more.
pub const MAX_SEGMENTS: usize = 4;

/// The pages of a program's stack. The one below is never mapped by the kernel: its guard page.
pub const STACK: PageRange = match PageRange::new(VirtAddr::literal(0x7fff_fff0_0000), 16) {
    Some(range) => range,
    None => panic!("the stack is in the lower half"),
};

/// The guard page below the stack.
pub const GUARD: PageRange =
    match PageRange::new(VirtAddr::literal(0x7fff_fff0_0000 - PAGE_SIZE), 1) {
        Some(range) => range,
        None => panic!("so is its guard page"),
    };

/// A part of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'f> {
    /// The pages that it takes.
    pub pages: PageRange,
    /// Where its first byte is.
    pub start: VirtAddr,
    /// What is there when the program begins. What follows up to the end of the pages is zero.
    pub bytes: &'f [u8],
    /// What the program may do with it.
    pub protection: Protection,
}

/// A program's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File<'f> {
    segments: [Option<Segment<'f>>; MAX_SEGMENTS],
    /// Where it begins: in a segment that is executable.
    pub entry: VirtAddr,
}

/// Why a file is refused. Shown, it is the end of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It is no ELF file, or one that is cut short.
    NotElf,
    /// It is not for this machine: not 64 bits, not little-endian, not AArch64, or no executable at
    /// a fixed place.
    OtherMachine,
    /// It has more segments than [`MAX_SEGMENTS`].
    TooManySegments,
    /// The segment of that number, from 0, is not where a program can be, or longer in the file
    /// than in memory.
    Place(usize),
    /// The segment of that number would be on a page of another.
    Overlap(usize),
    /// The segment of that number is writable and executable, or not readable.
    Protection(usize),
    /// It begins where nothing can be executed.
    Entry,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => f.write_str("not a whole ELF file"),
            Self::OtherMachine => f.write_str("not an AArch64 executable for a fixed place"),
            Self::TooManySegments => write!(f, "more than {MAX_SEGMENTS} segments"),
            Self::Place(n) => write!(f, "segment {n} is not where a program can be"),
            Self::Overlap(n) => write!(f, "segment {n} is on a page of another"),
            Self::Protection(n) => {
                write!(f, "segment {n} is writable and executable, or not readable")
            }
            Self::Entry => f.write_str("it begins where nothing can be executed"),
        }
    }
}

impl<'f> File<'f> {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error`].
    pub fn read(file: &'f [u8]) -> Result<Self, Error> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| Error::NotElf)?;
        let header = &elf.ehdr;
        if header.class != Class::ELF64
            || header.e_machine != abi::EM_AARCH64
            || header.e_type != abi::ET_EXEC
        {
            return Err(Error::OtherMachine);
        }
        let mut segments: [Option<Segment<'f>>; MAX_SEGMENTS] = [None; MAX_SEGMENTS];
        let table = elf.segments().ok_or(Error::NotElf)?;
        let loads = table
            .iter()
            .filter(|segment| segment.p_type == abi::PT_LOAD);
        for (n, segment) in loads.enumerate() {
            let segment = Segment::read(file, &segment, n)?;
            let overlaps = |other: &Segment<'_>| other.pages.overlaps(&segment.pages);
            if segments.iter().flatten().any(overlaps) {
                return Err(Error::Overlap(n));
            }
            *segments.get_mut(n).ok_or(Error::TooManySegments)? = Some(segment);
        }
        let entry = VirtAddr::new(header.e_entry).ok_or(Error::Entry)?;
        let begins = |segment: &Segment<'_>| {
            segment.protection.contains(Protection::EXECUTE)
                && entry.is_aligned(4)
                && entry >= segment.start
                && entry - segment.start < segment.bytes.len() as u64
        };
        if !segments.iter().flatten().any(begins) {
            return Err(Error::Entry);
        }
        Ok(Self { segments, entry })
    }

    /// What is to be mapped.
    pub fn segments(&self) -> impl Iterator<Item = &Segment<'f>> {
        self.segments.iter().flatten()
    }
}

impl<'f> Segment<'f> {
    /// Reads what the `n`-th program header says.
    fn read(file: &'f [u8], header: &ProgramHeader, n: usize) -> Result<Self, Error> {
        let start = VirtAddr::new(header.p_vaddr).ok_or(Error::Place(n))?;
        let pages = PageRange::covering(start, header.p_memsz);
        let is_users =
            |pages: &PageRange| USER.contains(pages.start()) && USER.contains(pages.last_byte());
        let pages = pages.filter(is_users).ok_or(Error::Place(n))?;
        if header.p_filesz > header.p_memsz {
            return Err(Error::Place(n));
        }
        let offset = usize::try_from(header.p_offset).map_err(|_| Error::NotElf)?;
        let length = usize::try_from(header.p_filesz).map_err(|_| Error::NotElf)?;
        let end = offset.checked_add(length).ok_or(Error::NotElf)?;
        let bytes = file.get(offset..end).ok_or(Error::NotElf)?;
        let mut protection = Protection::empty();
        for (flag, right) in [
            (abi::PF_R, Protection::READ),
            (abi::PF_W, Protection::WRITE),
            (abi::PF_X, Protection::EXECUTE),
        ] {
            protection.set(right, header.p_flags & flag != 0);
        }
        if !protection.is_possible() || protection.is_empty() {
            return Err(Error::Protection(n));
        }
        Ok(Self {
            pages,
            start,
            bytes,
            protection,
        })
    }
}

#[cfg(test)]
mod tests;
