//! Files that are as they should be, and each way in which one is not.

use super::*;

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;

/// A program header: flags, offset, address, bytes in the file, bytes in memory.
type Load = (u32, u64, u64, u64, u64);

const R: u32 = abi::PF_R;
const W: u32 = abi::PF_W;
const X: u32 = abi::PF_X;

/// Code, constants, data: what the linker script makes.
const GOOD: [Load; 3] = [
    (R | X, 0x200, 0x40_0000, 0x80, 0x80),
    (R, 0x280, 0x40_1000, 0x20, 0x20),
    (R | W, 0x2a0, 0x40_2010, 0x10, 0x3000),
];

/// A file of 1 KiB that begins at `entry`; byte `n` behind the headers is `n`.
fn file(entry: u64, loads: &[Load]) -> Vec<u8> {
    let mut file: Vec<u8> = (0..1024u32).map(|n| n as u8).collect();
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0; HEADER]);
    // ELF, 64 bits, little-endian, version 1.
    put(0, &[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    put(16, &abi::ET_EXEC.to_le_bytes());
    put(18, &abi::EM_AARCH64.to_le_bytes());
    put(20, &1u32.to_le_bytes());
    put(24, &entry.to_le_bytes());
    put(32, &(HEADER as u64).to_le_bytes());
    put(52, &(HEADER as u16).to_le_bytes());
    put(54, &(PROGRAM_HEADER as u16).to_le_bytes());
    put(56, &(loads.len() as u16).to_le_bytes());
    for (n, (flags, offset, address, in_file, in_memory)) in loads.iter().enumerate() {
        let at = HEADER + n * PROGRAM_HEADER;
        put(at, &abi::PT_LOAD.to_le_bytes());
        put(at + 4, &flags.to_le_bytes());
        for (n, word) in [offset, address, address, in_file, in_memory]
            .iter()
            .enumerate()
        {
            put(at + 8 + n * 8, &word.to_le_bytes());
        }
    }
    file
}

/// Why a file of these segments, which begins in the first, is refused.
fn refused(loads: &[Load]) -> Error {
    File::read(&file(GOOD[0].2, loads)).unwrap_err()
}

/// The good segments with the `n`-th replaced.
fn with(n: usize, load: Load) -> [Load; 3] {
    let mut loads = GOOD;
    loads[n] = load;
    loads
}

#[test]
fn a_file_says_what_is_mapped_where() {
    let bytes = file(0x40_0040, &GOOD);
    let file = File::read(&bytes).unwrap();
    assert_eq!(file.entry, VirtAddr::literal(0x40_0040));
    let segments: Vec<_> = file
        .segments()
        .map(|s| {
            let pages = (s.pages.start().as_u64(), s.pages.pages());
            (pages, s.start.as_u64(), s.bytes, s.protection)
        })
        .collect();
    let read = Protection::READ;
    assert_eq!(
        segments,
        [
            (
                (0x40_0000, 1),
                0x40_0000,
                &bytes[0x200..0x280],
                read | Protection::EXECUTE
            ),
            ((0x40_1000, 1), 0x40_1000, &bytes[0x280..0x2a0], read),
            // From an address in the middle of a page, over four of them.
            (
                (0x40_2000, 4),
                0x40_2010,
                &bytes[0x2a0..0x2b0],
                read | Protection::WRITE
            ),
        ]
    );
}

#[test]
fn what_is_no_elf_file_is_refused() {
    let good = file(0x40_0000, &GOOD);
    assert_eq!(File::read(&[]), Err(Error::NotElf));
    assert_eq!(File::read(b"#!/bin/sh"), Err(Error::NotElf));
    // Cut short anywhere: in the header, in the table, in a segment.
    let end = GOOD.iter().map(|load| load.1 + load.3).max().unwrap() as usize;
    for length in 0..end {
        assert_eq!(File::read(&good[..length]), Err(Error::NotElf), "{length}");
    }
    assert!(File::read(&good[..end]).is_ok());
}

#[test]
fn what_is_for_another_machine_is_refused() {
    // x86-64; a shared object, which would have to be relocated.
    for (at, value) in [(18, 62), (16, abi::ET_DYN)] {
        let mut other = file(0x40_0000, &GOOD);
        other[at..at + 2].copy_from_slice(&u16::to_le_bytes(value));
        assert_eq!(File::read(&other), Err(Error::OtherMachine));
    }
    // Big-endian.
    let mut other = file(0x40_0000, &GOOD);
    other[5] = 2;
    assert_eq!(File::read(&other), Err(Error::NotElf));
}

#[test]
fn a_segment_is_where_a_program_can_be() {
    let user_end = USER.last_byte().as_u64() + 1;
    for (address, in_file, in_memory) in [
        // The first page; below the first that programs have; the kernel's half; neither half.
        (0, 0x10, 0x10),
        (USER.start().as_u64() - 8, 0x10, 0x10),
        (0xffff_0000_4000_0000, 0x10, 0x10),
        (1 << 52, 0x10, 0x10),
        // Beyond the end, or around it.
        (user_end - 0x1000, 0x10, 0x1001),
        (0x50_0000, 0x10, u64::MAX),
        // Nothing; more in the file than in memory.
        (0x50_0000, 0, 0),
        (0x50_0000, 0x10, 0xf),
    ] {
        let loads = with(2, (R | W, 0x200, address, in_file, in_memory));
        assert_eq!(
            refused(&loads),
            Error::Place(2),
            "{address:x} {in_memory:x}"
        );
    }
    let last = with(2, (R | W, 0x200, user_end - 0x1000, 0x10, 0x1000));
    assert!(File::read(&file(0x40_0000, &last)).is_ok());
    // Its bytes are not in the file.
    for offset in [1020, u64::MAX - 4] {
        let loads = with(1, (R, offset, 0x40_1000, 8, 8));
        assert_eq!(refused(&loads), Error::NotElf);
    }
}

#[test]
fn segments_share_no_page_and_are_not_too_many() {
    assert_eq!(
        refused(&with(2, (R | W, 0x2a0, 0x40_0ff0, 8, 8))),
        Error::Overlap(2)
    );
    assert_eq!(
        refused(&with(1, (R, 0x280, 0x3f_f000, 8, 0x1001))),
        Error::Overlap(1)
    );
    let many: Vec<Load> = (0..5)
        .map(|n| (R | X, 0x200, 0x40_0000 + n * 0x1000, 0x80, 0x80))
        .collect();
    assert!(File::read(&file(0x40_0000, &many[..MAX_SEGMENTS])).is_ok());
    assert_eq!(refused(&many), Error::TooManySegments);
}

#[test]
fn nothing_is_writable_and_executable_or_only_one_of_them() {
    for flags in [R | W | X, W | X, W, X, 0] {
        let loads = with(1, (flags, 0x280, 0x40_1000, 0x20, 0x20));
        assert_eq!(refused(&loads), Error::Protection(1), "{flags}");
    }
}

#[test]
fn it_begins_in_its_code() {
    // Constants; data; between segments; behind the code; misaligned; no address.
    for entry in [
        0x40_1000,
        0x40_2010,
        0x40_0fff,
        0x40_0080,
        0x40_0002,
        1 << 52,
        0,
    ] {
        assert_eq!(
            File::read(&file(entry, &GOOD)),
            Err(Error::Entry),
            "{entry:x}"
        );
    }
    assert!(File::read(&file(0x40_007c, &GOOD)).is_ok());
}

#[test]
fn errors_say_what_is_wrong() {
    assert_eq!(
        Error::Place(2).to_string(),
        "segment 2 is not where a program can be"
    );
    assert_eq!(Error::TooManySegments.to_string(), "more than 4 segments");
}
