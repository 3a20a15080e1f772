//! What the kernel itself takes: the metadata of a page, the image, the instructions of a boot.

use super::{Setting, limits::Judged, plan::Changes, table::Summary};
use crate::failure::{Doing, Failure, Result};
use object::{Object, ObjectSegment};
use serde_json::Value;
use std::path::Path;

/// The name by which `CASE` asks for it.
pub const CASE: &str = "memory";

/// The machine of the boot.
const BOOT: Changes = &[
    ("MEM", "512M"),
    ("RODATA", "on"),
    ("DEBUG_PAGEALLOC", "off"),
    ("PAGE_POISON", "on"),
    ("KASAN", "on"),
];

/// Measures, prints, and gives the lines of JSON.
///
/// # Errors
/// If the machine or the image does not say what is to be known.
pub fn print(setting: &Setting<'_>, summary: &mut Summary) -> Result<Vec<String>> {
    let machine = setting.machine("bench boot", BOOT)?.counting_instructions();
    let boot = setting.boot(&machine, "boot")?;
    let line = boot
        .text
        .lines()
        .find(|line| line.starts_with("{\"case\":\"boot\""))
        .ok_or_else(|| Failure::fail("the kernel did not say what its boot took"))?;
    let value: Value = serde_json::from_str(line).doing("read what the boot took")?;
    let number = |name: &str| {
        value[name]
            .as_f64()
            .ok_or_else(|| Failure::fail(format!("the kernel did not say '{name}': {line}")))
    };
    let rows = [
        (
            "boot to the first scene: instructions, 512 MiB, RODATA=on, DEBUG_PAGEALLOC=off",
            "insn",
            number("insn")?,
            3e6,
        ),
        ("metadata: bytes a page", "bytes", number("metadata")?, 32.0),
        (
            "the image without symbols: bytes",
            "bytes",
            stripped_size(setting.image)? as f64,
            f64::from(400 << 10),
        ),
    ];
    let mut lines = Vec::new();
    for (name, what, measured, most) in rows {
        let judged = Judged {
            what,
            measured,
            most,
        };
        let word = summary.add(&judged);
        println!("{name}: {measured:.2}, at most {most} {word}");
        lines.push(format!(
            "{{\"memory\":\"{name}\",\"{what}\":{measured},\"most\":{most}}}"
        ));
    }
    Ok(lines)
}

/// The bytes of an ELF file up to the end of what is loaded: what is left without symbols and debug
/// information, but for the section headers.
fn stripped_size(image: &Path) -> Result<u64> {
    let bytes = std::fs::read(image).doing("read the image")?;
    let file = object::File::parse(&*bytes).doing("read the image")?;
    // A segment of which nothing is in the file (stacks) ends nowhere in it.
    let ranges = file.segments().map(|segment| segment.file_range());
    let ends = ranges
        .filter(|(_, size)| *size > 0)
        .map(|(offset, size)| offset + size);
    ends.max()
        .ok_or_else(|| Failure::fail("the image has nothing that is loaded"))
}
